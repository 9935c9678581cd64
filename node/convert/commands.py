"""``delineate model import``: arguments in, words out. The converter itself is loaded when it is asked for."""

import datetime
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from node.convert.refusals import NEEDS_EXTRA, ImportOptions, refused

if TYPE_CHECKING:
    from node.convert.package_folder import Imported
    from node.inference.predictor import Progress as ProgressFunction

_Result = TypeVar("_Result")

import_app = typer.Typer(
    help="Make a model package of a network of another project, once, offline.", no_args_is_help=True
)

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the trained network is.")]
IntoOption = Annotated[Path, typer.Option("--into", metavar="DIR", help="Where the package's folder is made.")]
NameOption = Annotated[str | None, typer.Option(help="Of the package. Default: of the data set's name.")]
TitleOption = Annotated[str | None, typer.Option(help="What results call the model.")]
OriginatorOption = Annotated[str | None, typer.Option(help="Who trained it.")]
LicenceOption = Annotated[str | None, typer.Option(help="Under which its weights may be used.")]
UseOption = Annotated[str | None, typer.Option("--intended-use", help="What it is for.")]
ModalityOption = Annotated[str | None, typer.Option(help="DICOM Modality. Default: CT, where the channel is.")]
FoldsOption = Annotated[str, typer.Option(metavar="0,1,..", help="Which folds, or `all`. Default: every one there.")]
CheckpointOption = Annotated[str, typer.Option(metavar="FILE", help="Which of each fold's checkpoints.")]
TrainerOption = Annotated[
    str | None, typer.Option("--as-trainer", metavar="NAME", help="Build the network as this trainer of nnU-Net does.")
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-checkpoint", help="Load a checkpoint that holds code: it runs with your rights. Off."),
]

# No emoji: a folder's name may hold ":cd:".
out = Console(emoji=False)


@import_app.command("nnunet")
def import_nnunet_command(  # noqa: PLR0913, PLR0917 - one argument for each option: typer's way
    folder: FolderArgument,
    into: IntoOption,
    name: NameOption = None,
    title: TitleOption = None,
    originator: OriginatorOption = None,
    licence: LicenceOption = None,
    intended_use: UseOption = None,
    modality: ModalityOption = None,
    orientation: Annotated[
        str | None,
        typer.Option(metavar="LPS|..|native", help="Where column, row and slice index of training images grew."),
    ] = None,
    example: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="A training image, from which the orientation is read.")
    ] = None,
    folds: FoldsOption = "",
    checkpoint: CheckpointOption = "checkpoint_final.pth",
    step: Annotated[float, typer.Option(min=0.1, max=1.0, help="Patches are this part of their side apart.")] = 0.5,
    mirroring: Annotated[bool, typer.Option(help="Look at every patch mirrored too, if training did.")] = True,
    postprocessing: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What nnU-Net does after the network. Default: as the folder has it."),
    ] = None,
    without_postprocessing: Annotated[bool, typer.Option(help="Leave it out.")] = False,
    as_trainer: TrainerOption = None,
    trust_checkpoint: TrustOption = False,
) -> None:
    """Make a package of a results folder of nnU-Net v2 (plans.json, dataset.json, fold_*)."""
    _refuse_without_extra()
    from node.convert.nnunet import import_nnunet  # noqa: PLC0415
    from node.convert.orientation import chosen_orientation  # noqa: PLC0415

    options = ImportOptions(
        made_on=today(),
        name=checked_name(name),
        title=title,
        originator=originator,
        licence=licence,
        intended_use=intended_use,
        modality=modality,
        orientation=chosen_orientation(orientation, example),
        folds=_folds(folds),
        checkpoint=checkpoint,
        step=step,
        mirroring=mirroring,
        postprocessing=postprocessing,
        with_postprocessing=not without_postprocessing,
        as_trainer=as_trainer,
        trust_checkpoint=trust_checkpoint,
    )
    _print([_shown(lambda progress: import_nnunet(folder, into, options, progress))])


@import_app.command("totalsegmentator")
def import_totalsegmentator_command(
    folder: FolderArgument,
    into: IntoOption,
    name: NameOption = None,
    licence: LicenceOption = None,
    intended_use: UseOption = None,
    modality: ModalityOption = None,
    checkpoint: CheckpointOption = "checkpoint_final.pth",
    as_trainer: TrainerOption = None,
    trust_checkpoint: TrustOption = False,
) -> None:
    """Make a package of each task of TotalSegmentator whose weights are there (Dataset291_..., Dataset297_...)."""
    _refuse_without_extra()
    from node.convert.totalsegmentator import import_totalsegmentator  # noqa: PLC0415

    options = ImportOptions(
        made_on=today(),
        name=checked_name(name),
        originator="TotalSegmentator",
        licence=licence,
        intended_use=intended_use,
        modality=modality,
        checkpoint=checkpoint,
        as_trainer=as_trainer,
        trust_checkpoint=trust_checkpoint,
    )
    _print(_shown(lambda progress: import_totalsegmentator(folder, into, options, progress)))


def _refuse_without_extra() -> None:
    try:
        import nnunetv2  # noqa: F401, PLC0415
        import onnx  # noqa: F401, PLC0415
        import torch  # noqa: F401, PLC0415
    except ImportError as error:
        raise refused(f"The importer needs {error.name}, which is not installed", NEEDS_EXTRA) from error


def today() -> str:
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


def checked_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise refused(f"{name!r} is no name of a package", "Take lower-case letters, digits, '.', '_' and '-'.")
    return name


def _folds(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (each.strip() for each in text.split(","))))


def _shown(work: Callable[["ProgressFunction"], _Result]) -> _Result:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("read", total=1)

        def progress(doing: str, done: int, of: int) -> None:
            bar.update(task, description=doing, completed=done, total=of)

        return work(progress)


def _print(packages: "Iterable[Imported]") -> None:
    for each in packages:
        _say(f"[green]imported[/] {escape(str(each.folder))}")
        found = each.comparison
        _say(
            f"  against nnU-Net: {found.differ + found.ties_that_differ} of {found.voxels} voxels differ"
            f" ({found.differ_f16} from its sums in float16)"
        )
        for structure in each.structures:
            if structure.definition is None:
                _say(f"  {structure.name:<16} {escape(structure.label)}")
            else:
                hint = f"; spelt most alike: {structure.hint}" if structure.hint else ""
                _say(f"  [yellow]{structure.name:<16}[/] {escape(structure.label)}: say in model.toml what it is{hint}")
        for remark in each.remarks:
            _say(f"  [yellow]left to do:[/] {escape(remark)}")


def _say(text: str) -> None:
    out.print(text, soft_wrap=True, highlight=False)
