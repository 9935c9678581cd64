"""From a results folder of nnU-Net v2 to a model package."""

from dataclasses import replace
from pathlib import Path

from node.convert.checkpoints import Checkpoint, read_checkpoint
from node.convert.package_folder import Imported, Source, make_package
from node.convert.refusals import ImportOptions, refused
from node.convert.results_folder import TrainedNetwork, fold_names, model_folder, read_trained
from node.inference.predictor import Progress


def import_nnunet(folder: Path, into: Path, options: ImportOptions, progress: Progress) -> Imported:
    """Make a package of a trained configuration.

    Parameters
    ----------
    folder
        ``<trainer>__<plans>__<configuration>`` as nnU-Net leaves it, or the folder of the data set with one of these.
    into
        Where the package's folder is made.

    Raises
    ------
    SetupError
        The folder is none of nnU-Net's results, something of it is not supported, or labels of a drawn volume differ
        from nnU-Net's. Nothing is left behind.
    """
    return make_package(read_source(folder, options, progress), into, options, progress)


def read_source(folder: Path, options: ImportOptions, progress: Progress) -> Source:
    """Read checkpoints, plans and data set.

    Raises
    ------
    SetupError
        As `import_nnunet`.
    """
    folder = model_folder(folder)
    checkpoints = _checkpoints(folder, options, progress)
    trained = read_trained(folder, checkpoints[0].configuration, options)
    return Source(
        trained=_mirrored(trained, checkpoints[0], options),
        checkpoints=checkpoints,
        described=_described(trained, checkpoints),
    )


def _checkpoints(folder: Path, options: ImportOptions, progress: Progress) -> tuple[Checkpoint, ...]:
    names = fold_names(folder, options.folds, options.checkpoint)
    read = []
    for done, name in enumerate(names):
        progress("read", done, len(names))
        path = folder / f"fold_{name}" / options.checkpoint
        read.append(read_checkpoint(path, name, trust=options.trust_checkpoint))
    for key in ("trainer", "configuration", "mirroring_axes"):
        if len({getattr(each, key) for each in read}) > 1:
            raise refused(f"Folds {', '.join(names)} differ in their {key}", "Import folds of one training.")
    return tuple(read)


def _mirrored(trained: TrainedNetwork, checkpoint: Checkpoint, options: ImportOptions) -> TrainedNetwork:
    axes = checkpoint.mirroring_axes if options.mirroring else ()
    window = replace(trained.input.window, mirror_axes=axes)
    return replace(trained, input=replace(trained.input, window=window))


def _described(trained: TrainedNetwork, checkpoints: tuple[Checkpoint, ...]) -> str:
    folds = ", ".join(each.fold for each in checkpoints)
    return (
        f"results folder of nnU-Net v2: {trained.dataset_name}, {trained.configuration}, trainer "
        f"{checkpoints[0].trainer}, folds {folds}"
    )
