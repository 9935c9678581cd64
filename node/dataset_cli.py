"""``delineate dataset``: the command line of training sets."""

import re
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from node.domain.errors import SetupError

app = typer.Typer(
    name="dataset",
    help="Make training sets of an archive of images and structure sets.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ArchiveArgument = Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Folder of DICOM files, however arranged.")]
_NamesOption = Annotated[
    Path | None,
    typer.Option("--names", metavar="FILE", help='How the clinic spells organs: Parotid_L = ["parotis li*"].'),
]


@app.command()
def build(  # noqa: PLR0913, PLR0917 - one argument for each option: typer's way
    archive: _ArchiveArgument,
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Folder of the training set; not there yet, or empty.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the training set; its cases are called NAME_001 ...")] = "set",
    organ: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An organ, by its name in TG-263. Repeatable; at one voxel the later wins."),
    ] = None,
    names: _NamesOption = None,
    modality: Annotated[Literal["CT", "MR"], typer.Option(help="Of the images.")] = "CT",
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the patients that validate.")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share that training never sees.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Of the split and of the cases' order.")] = 1,
    min_patients: Annotated[
        int, typer.Option(min=1, metavar="N", help="Refuse where an organ is contoured in fewer patients.")
    ] = 1,
    structure_set: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Only structure sets of this label (*, ?). Default: the newest sound one."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write here, outside OUT, whose each case is: CSV, for your eyes alone."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report only; pixels are not read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON for scripts.")] = False,
) -> None:
    """Make a training set (nnU-Net's raw format) of CT or MR series with RT Structure Sets or Segmentations.

    References are checked, sides never confused, patients never in two splits; what cannot be told for sure is left
    out with the reason. Nobody's name, number or date is in OUT; an organ that is not contoured is no background.

    Examples:

      delineate dataset build /archive --organ Parotid_L --organ Brainstem --dry-run

      delineate dataset build /archive /out --name neck --organ Parotid_L --organ Brainstem --names names.toml
    """
    from node.dataset.built import Order  # noqa: PLC0415 - spares the other commands the time of importing it
    from node.dataset.names import Names  # noqa: PLC0415
    from node.dataset_commands import build_command  # noqa: PLC0415

    _leave_nothing_when_told_to_stop()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
        raise SetupError(f"--name {name!r} is no name.", "Take letters, digits, '_' and '-', at most 32.")
    if not organ:
        raise SetupError("No organ is asked for.", "Example: --organ Parotid_L --organ Brainstem")
    if validation + test >= 1:
        raise SetupError("--validation and --test leave no patient to train with.", "Let them add up to less than 1.")
    if out is None and not dry_run:
        raise SetupError("OUT is missing.", "Name the folder of the training set, or ask for a --dry-run.")
    order = Order(
        name=name,
        names=Names(organs=tuple(organ)),
        modality=modality,
        validation=validation,
        test=test,
        seed=seed,
        min_patients=min_patients,
        structure_set=structure_set,
    )
    console = None if as_json else Console(emoji=False)
    raise typer.Exit(build_command(archive, None if dry_run else out, order, names, key, console))


@app.command("names")
def list_names(archive: _ArchiveArgument, names: _NamesOption = None) -> None:
    """Print how regions are called in an archive, as a table for --names to start from.

    It names regions as they are written: look whether a patient's name is in one before it is passed on.

    Example: delineate dataset names /archive > names.toml
    """
    from node.dataset_commands import names_command  # noqa: PLC0415 - see build

    raise typer.Exit(names_command(archive, names))


def _leave_nothing_when_told_to_stop() -> None:
    """Make SIGTERM unwind, as Ctrl-C does: what is made in part must not stay."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
