"""From a results folder of nnU-Net v2 to a model package."""

from dataclasses import replace
from pathlib import Path

from node.convert.checkpoints import Checkpoint, read_checkpoint
from node.convert.package_folder import Imported, make_package
from node.convert.postprocessing import find_postprocessing, other_postprocessing, read_postprocessing
from node.convert.refusals import ImportOptions, refused
from node.convert.results_folder import TrainedNetwork, fold_names, model_folder, read_trained
from node.convert.sources import Ingredients, Source
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
    folder = model_folder(folder)
    source = read_source(folder, options, progress)
    folds = [each.fold for each in source.checkpoints]
    post = find_postprocessing(folder, folds, options)
    others = other_postprocessing(folder, folds) if post is None and options.with_postprocessing else ()
    ingredients = Ingredients(
        name=f"{source.trained.dataset_name}-{source.trained.configuration}",
        title=f"{source.trained.dataset_name} {source.trained.configuration}",
        described=f"results folder of nnU-Net v2: {described(source)}",
        parts=(source,),
        postprocessing=None if post is None else read_postprocessing(post),
        remarks=tuple(
            f"{other} tells what nnU-Net does after the network, of other folds than these: --postprocessing takes it."
            for other in others
        ),
    )
    return make_package(ingredients, into, options, progress)


def read_source(folder: Path, options: ImportOptions, progress: Progress) -> Source:
    """Read checkpoints, plans and data set of a folder that holds plans.json.

    Raises
    ------
    SetupError
        As `import_nnunet`.
    """
    checkpoints = _checkpoints(folder, options, progress)
    trained = read_trained(folder, checkpoints[0].configuration, options)
    return Source(trained=_mirrored(trained, checkpoints[0], options), checkpoints=checkpoints)


def described(source: Source) -> str:
    """Say in words where a network comes from."""
    trained, folds = source.trained, ", ".join(each.fold for each in source.checkpoints)
    trainer = source.checkpoints[0].trainer
    return f"{trained.dataset_name}, {trained.configuration}, trainer {trainer}, folds {folds}"


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
