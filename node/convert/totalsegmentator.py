"""From weights of TotalSegmentator to model packages, one for each task.

Its way: cut the region out, turn to RAS, resample with the outermost centres kept, cut the fraction off, segment at
that spacing, give the nearest label back. A task of several networks (organs, vertebrae, ...) merges their labels at
the network's spacing, later ones over earlier ones. Merging after the way back is the same: both take one voxel at a
time.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from node.convert.nnunet import described, read_source
from node.convert.package_folder import Imported, make_package
from node.convert.refusals import UNSUPPORTED, ImportOptions, refused
from node.convert.results_folder import PLANS, TrainedNetwork
from node.convert.sources import Ingredients, Region, Source
from node.convert.tasks import (
    MARGIN_MM,
    Task,
    is_resampled,
    number_of,
    part_of,
    step_of,
    takes_all_folds,
    tasks_in,
)
from node.inference.predictor import Progress

# Its linear spline since 2.16; cubic before.
_ORDER = 1


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
    tasks = tasks_in(tuple(_datasets(folder)))
    if not tasks:
        raise refused(
            f"{folder} holds no weights of TotalSegmentator",
            "Name the folder with Dataset297_..., or one such folder; TotalSegmentator keeps it at "
            "~/.totalsegmentator/nnunet/results.",
        )
    return tuple(_imported(each, len(tasks) > 1, into, options, progress) for each in tasks)


def _datasets(folder: Path) -> Iterator[Path]:
    if folder.name.startswith("Dataset") or (folder / PLANS).is_file():
        yield folder.absolute()
    else:
        yield from sorted(each for each in folder.absolute().glob("Dataset*") if each.is_dir())


def _imported(task: Task, several: bool, into: Path, options: ImportOptions, progress: Progress) -> Imported:
    sources = [_source(each, options, progress) for each in task.folders]
    if task.name:
        sources = [replace(each, part=part_of(found)) for each, found in zip(sources, task.folders, strict=True)]
    if len({each.trained.input.spacing_mm for each in sources}) > 1:
        raise refused(f"The parts of {task.name} differ in their spacing", UNSUPPORTED)
    region = _region(task, options, progress)
    networks = sources if region is None else [region.source, *sources]
    trained = sources[0].trained
    ingredients = Ingredients(
        name=f"totalsegmentator-{task.name}" if task.name else f"{trained.dataset_name}-{trained.configuration}",
        title=f"TotalSegmentator {task.name}" if task.name else f"{trained.dataset_name} {trained.configuration}",
        described=f"weights of TotalSegmentator: {'; '.join(map(described, networks))}",
        parts=tuple(sources),
        region=region,
        remarks=task.remarks,
    )
    name = f"{options.name}-{task.name or number_of(task.folders[0])}" if options.name and several else options.name
    return make_package(ingredients, into, replace(options, name=name), progress)


def _region(task: Task, options: ImportOptions, progress: Progress) -> Region | None:
    if task.region is None:
        return None
    folder, around = task.region
    source = replace(_source(folder, options, progress), part="region")
    return Region(source=source, around=around, margin_mm=(MARGIN_MM, MARGIN_MM, MARGIN_MM))


def _source(folder: Path, options: ImportOptions, progress: Progress) -> Source:
    own = replace(
        options,
        orientation="RAS",
        folds=options.folds or (() if takes_all_folds(folder) else ("0",)),
        step=step_of(folder),
        mirroring=False,
    )
    source = read_source(folder, own, progress)
    return replace(source, trained=_at_model_spacing(source.trained)) if is_resampled(folder) else source


def _at_model_spacing(trained: TrainedNetwork) -> TrainedNetwork:
    """Labels are made at the model's spacing, so scores are never brought back, and no probabilities made of them."""
    if trained.output.region_values:
        raise refused(f"{trained.dataset_name} has regions, which no task of TotalSegmentator has", UNSUPPORTED)
    return replace(
        trained,
        input=replace(trained.input, resample="totalsegmentator", order=_ORDER),
        output=replace(trained.output, activation="none"),
    )
