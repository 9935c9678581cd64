"""``delineate evaluate``: the command line."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from node.domain.errors import SetupError

app = typer.Typer()


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - one argument for each option: typer's way
    reference: Annotated[
        Path,
        typer.Argument(metavar="REF", help="RT Structure Set, Segmentation, NIfTI of labels, or a folder of them."),
    ],
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="The same, of what is to be judged.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The images that DICOM references were drawn on.")
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='How organs are spelt beside TG-263: Parotid_L = ["parotis li*"].'),
    ] = None,
    labels: Annotated[
        str, typer.Option(metavar="NAME=VALUE,..", help="Of NIfTI without a dataset.json: Heart=1,Lung_L=2")
    ] = "",
    organ: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this organ. Repeatable.")] = None,
    tolerance_mm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MM", help="Of surface Dice and added path; of one organ with its name. Default: 2"
        ),
    ] = None,
    spacing_mm: Annotated[
        float, typer.Option(min=0.1, max=10, help="Pixels for contours of which nobody has voxels.")
    ] = 1.0,
    resample: Annotated[
        bool, typer.Option("--resample", help="Take the nearest voxel where grids differ, instead of refusing.")
    ] = False,
    split: Annotated[
        Literal["train", "validation", "test"] | None, typer.Option(help="Of a training set: only these cases.")
    ] = None,
    per_patient: Annotated[bool, typer.Option("--per-patient", help="Show every case as well.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw every organ: .png, .pdf or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure how far results agree with a reference, organ by organ and over patients with 95 % intervals.

    Dice; surface Dice; 95 % Hausdorff and mean surface distance; added path length; volume difference. Files are
    matched by the images that they name (NIfTI by their names), organs by TG-263 or --names. An organ that the result
    lacks counts with Dice 0; one that the reference lacks is listed and counts for nothing.

    Exit status 1 if nothing could be compared.

    Examples:

      delineate evaluate clinic.dcm results/rtstruct-body-bones-1.2.3.dcm --images ct_folder

      delineate evaluate trainingset predictions --split test --per-patient --plot agreement.png

      delineate evaluate ref.nii.gz mine.nii.gz --labels Cord=1,Lens_L=2 --tolerance-mm 2 --tolerance-mm Lens_L=1
    """
    # Spares the other commands the time of importing these.
    from node.evaluate_commands import Asked, evaluate_command  # noqa: PLC0415
    from node.evaluation.pairs import USUAL, Tolerances  # noqa: PLC0415

    given = [_tolerance(each) for each in tolerance_mm or ()]
    usual = [value for name, value in given if not name]
    asked = Asked(
        reference=reference,
        result=result,
        images=images,
        names=names,
        labels=_labels(labels),
        organs=tuple(organ or ()),
        tolerances=Tolerances(
            usual_mm=usual[-1] if usual else USUAL.usual_mm, of_organs_mm={name: value for name, value in given if name}
        ),
        spacing_mm=spacing_mm,
        resample=resample,
        split=split,
        per_patient=per_patient,
        plot=plot,
    )
    raise typer.Exit(evaluate_command(asked, None if as_json else Console(emoji=False)))


def _tolerance(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    if not re.fullmatch(r"\d+(\.\d+)?", number):
        raise SetupError(
            f"--tolerance-mm {text!r} is no length.", "Examples: --tolerance-mm 2, --tolerance-mm Lens_L=1"
        )
    return name, float(number)


def _labels(text: str) -> dict[str, tuple[int, ...]]:
    labels: dict[str, tuple[int, ...]] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"(.+)=([1-9]\d*)", each)
        if found is None or found[1] in labels:
            raise SetupError(f"--labels has {each!r}, which is no NAME=VALUE of its own.", "Example: Heart=1,Lung_L=2")
        labels[found[1]] = (int(found[2]),)
    return labels
