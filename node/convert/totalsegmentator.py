"""From weights of TotalSegmentator to model packages, one for each part.

Its way: turn to RAS, resample with the outermost centres kept, cut the fraction off, segment at that spacing, give the
nearest label back. Of several parts (organs, vertebrae, ...) it merges the labels, later parts over earlier ones; a
package has one network, so each part becomes a package, whose structures may overlap those of another where
TotalSegmentator would have cut them.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from node.convert.nnunet import read_source
from node.convert.package_folder import Imported, make_package
from node.convert.refusals import UNSUPPORTED, ImportOptions, refused
from node.convert.results_folder import PLANS, TrainedNetwork, model_folder
from node.inference.predictor import Progress

# Tasks of the whole body take fewer patches, by number of the data set; every other task takes 0.5.
_WHOLE_BODY = {*range(291, 296), 297, 298, *range(831, 838), *range(850, 854)}
_WHOLE_BODY_STEP = 0.8
# Its linear spline since 2.16; cubic before.
_ORDER = 1


def import_totalsegmentator(
    folder: Path, into: Path, options: ImportOptions, progress: Progress
) -> tuple[Imported, ...]:
    """Make a package of each data set in a folder of weights, or of the one that the folder is.

    ``options.name`` begins the names of several. Mirroring, folds and step are TotalSegmentator's.

    Raises
    ------
    SetupError
        As `node.convert.nnunet.import_nnunet`; packages of earlier parts stay.
    """
    datasets = tuple(_datasets(folder))
    if not datasets:
        raise refused(
            f"{folder} holds no weights of TotalSegmentator",
            "Name the folder with Dataset297_..., or one such folder; TotalSegmentator keeps it at "
            "~/.totalsegmentator/nnunet/results.",
        )
    return tuple(_imported(each, len(datasets) > 1, into, options, progress) for each in datasets)


def _datasets(folder: Path) -> Iterator[Path]:
    if folder.name.startswith("Dataset") or (folder / PLANS).is_file():
        yield folder
    else:
        yield from sorted(each for each in folder.glob("Dataset*") if each.is_dir())


def _imported(folder: Path, several: bool, into: Path, options: ImportOptions, progress: Progress) -> Imported:
    found = model_folder(folder)
    dataset = found.parent.name
    number = int("".join(filter(str.isdecimal, dataset.split("_")[0])) or 0)
    own = replace(
        options,
        name=f"{options.name}-{number}" if options.name and several else options.name,
        orientation="RAS",
        folds=options.folds or ("0",),
        step=_WHOLE_BODY_STEP if number in _WHOLE_BODY else options.step,
        mirroring=False,
    )
    source = read_source(found, own, progress)
    trained = _at_model_spacing(source.trained)
    described = source.described.replace("results folder of nnU-Net v2", "weights of TotalSegmentator")
    return make_package(replace(source, trained=trained, described=described), into, own, progress)


def _at_model_spacing(trained: TrainedNetwork) -> TrainedNetwork:
    """Labels are made at the model's spacing, so scores are never brought back, and no probabilities made of them."""
    if trained.output.region_values:
        raise refused(f"{trained.dataset_name} has regions, which no task of TotalSegmentator has", UNSUPPORTED)
    return replace(
        trained,
        input=replace(trained.input, resample="totalsegmentator", order=_ORDER),
        output=replace(trained.output, activation="none"),
    )
