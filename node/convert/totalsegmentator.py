"""From weights of TotalSegmentator to model packages, one for each task.

Its way: turn to RAS, resample with the outermost centres kept, cut the fraction off, segment at that spacing, give the
nearest label back. A task of several networks (organs, vertebrae, ...) merges their labels at the network's spacing,
later ones over earlier ones. Merging after the way back is the same: both take one voxel at a time.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.convert.nnunet import described, read_source
from node.convert.package_folder import Imported, make_package
from node.convert.refusals import UNSUPPORTED, ImportOptions, refused
from node.convert.results_folder import PLANS, TrainedNetwork, model_folder
from node.convert.sources import Ingredients, Source
from node.inference.predictor import Progress

# Tasks of several networks, by numbers of their data sets in the order of merging.
_TASKS = {
    "total": (291, 292, 293, 294, 295),
    "total_v3": (831, 832, 833, 834, 835),
    "total_mr": (850, 851),
    "headneck_muscles": (778, 779),
}
# Tasks of the whole body take fewer patches; every other task takes 0.5.
_WHOLE_BODY = {*range(291, 296), 297, 298, *range(831, 838), *range(850, 854)}
_WHOLE_BODY_STEP = 0.8
# Its linear spline since 2.16; cubic before.
_ORDER = 1

_PART = re.compile(r"part\d+(?:_[A-Za-z]+)?")


@dataclass(frozen=True, slots=True)
class _Task:
    """What becomes one package."""

    # Empty for a task of one network, which is called as its data set is.
    name: str
    folders: tuple[Path, ...]
    # Numbers of data sets that are not there.
    missing: tuple[int, ...] = ()


def import_totalsegmentator(
    folder: Path, into: Path, options: ImportOptions, progress: Progress
) -> tuple[Imported, ...]:
    """Make a package of each task whose data sets are in a folder of weights, or of the one data set that it is.

    ``options.name`` begins the names of several. Mirroring, folds and step are TotalSegmentator's.

    Raises
    ------
    SetupError
        As `node.convert.nnunet.import_nnunet`; packages of earlier tasks stay.
    """
    tasks = tuple(_tasks(tuple(_datasets(folder))))
    if not tasks:
        raise refused(
            f"{folder} holds no weights of TotalSegmentator",
            "Name the folder with Dataset297_..., or one such folder; TotalSegmentator keeps it at "
            "~/.totalsegmentator/nnunet/results.",
        )
    return tuple(_imported(each, len(tasks) > 1, into, options, progress) for each in tasks)


def _datasets(folder: Path) -> Iterator[Path]:
    if folder.name.startswith("Dataset") or (folder / PLANS).is_file():
        yield folder
    else:
        yield from sorted(each for each in folder.glob("Dataset*") if each.is_dir())


def _tasks(folders: Sequence[Path]) -> Iterator[_Task]:
    """Give the tasks of several networks first; a data set that is named alone stays alone."""
    numbers = {each: _number(model_folder(each).parent.name) for each in folders}
    taken: list[Path] = []
    for name, wanted in _TASKS.items():
        there = [each for number in wanted for each in folders if numbers[each] == number]
        if there and len(folders) > 1:
            missing = set(wanted) - {numbers[each] for each in there}
            yield _Task(name, tuple(there), tuple(sorted(missing)))
            taken += there
    yield from (_Task("", (each,)) for each in folders if each not in taken)


def _imported(task: _Task, several: bool, into: Path, options: ImportOptions, progress: Progress) -> Imported:
    folders = [model_folder(each) for each in task.folders]
    sources = [_source(each, options, progress) for each in folders]
    datasets = [each.parent.name for each in folders]
    if task.name:
        sources = [replace(each, part=_part_name(name)) for each, name in zip(sources, datasets, strict=True)]
    if len({each.trained.input.spacing_mm for each in sources}) > 1:
        raise refused(f"The parts of {task.name} differ in their spacing", UNSUPPORTED)
    trained = sources[0].trained
    name = f"totalsegmentator-{task.name}" if task.name else f"{trained.dataset_name}-{trained.configuration}"
    ingredients = Ingredients(
        name=name,
        title=f"TotalSegmentator {task.name}" if task.name else f"{trained.dataset_name} {trained.configuration}",
        described=f"weights of TotalSegmentator: {'; '.join(map(described, sources))}",
        parts=tuple(sources),
        remarks=tuple(_remarks(task)),
    )
    own_name = f"{options.name}-{task.name or _number(datasets[0])}" if options.name and several else options.name
    return make_package(ingredients, into, replace(options, name=own_name), progress)


def _source(folder: Path, options: ImportOptions, progress: Progress) -> Source:
    own = replace(
        options,
        orientation="RAS",
        folds=options.folds or ("0",),
        step=_WHOLE_BODY_STEP if _number(folder.parent.name) in _WHOLE_BODY else options.step,
        mirroring=False,
    )
    source = read_source(folder, own, progress)
    return replace(source, trained=_at_model_spacing(source.trained))


def _remarks(task: _Task) -> Iterator[str]:
    if task.missing:
        missing = ", ".join(map(str, task.missing))
        yield f"Of the task {task.name} the data sets {missing} are not there: their structures are missing."


def _number(dataset: str) -> int:
    return int("".join(filter(str.isdecimal, dataset.split("_", maxsplit=1)[0])) or 0)


def _part_name(dataset: str) -> str:
    """Take what tells a part from the others: "part1_organs" of Dataset291_TotalSegmentator_part1_organs_1559subj."""
    found = _PART.search(dataset)
    return found[0].lower() if found else f"part-{_number(dataset)}"


def _at_model_spacing(trained: TrainedNetwork) -> TrainedNetwork:
    """Labels are made at the model's spacing, so scores are never brought back, and no probabilities made of them."""
    if trained.output.region_values:
        raise refused(f"{trained.dataset_name} has regions, which no task of TotalSegmentator has", UNSUPPORTED)
    return replace(
        trained,
        input=replace(trained.input, resample="totalsegmentator", order=_ORDER),
        output=replace(trained.output, activation="none"),
    )
