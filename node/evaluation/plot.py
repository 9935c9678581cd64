"""A picture of an evaluation: every patient a dot, the quartiles of each organ a box."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from node.dataset.nifti import NEEDS_EXTRA
from node.domain.errors import SetupError
from node.evaluation.report import Report, by_patient

_PANELS = (
    ("dice", "Dice", (0.0, 1.0)),
    ("surface_dice", "surface Dice", (0.0, 1.0)),
    ("hd95_mm", "95 % Hausdorff distance, mm", None),
    ("mean_surface_distance_mm", "mean surface distance, mm", None),
)
_BOX, _DOT = "#9ecae1", "#08519c"
_ENDINGS = (".png", ".pdf", ".svg")
# Dots of one organ are spread over this part of its row, always alike.
_SPREAD = 0.5


def draw(report: Report, path: Path) -> None:
    """Draw the picture; the ending of the path says of which kind (.png, .pdf, .svg).

    Raises
    ------
    SetupError
        As `refuse_plot`.
    """
    refuse_plot(path)
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra

    organs = [each.organ for each in report.organs]
    figure = Figure(figsize=(11, 2.0 + 2 * (0.9 + 0.36 * max(len(organs), 2))), layout="constrained")
    axes = figure.subplots(2, 2, sharey=True)
    for axis, (name, title, limits) in zip(axes.flat, _PANELS, strict=True):
        for row, organ in enumerate(organs):
            _organ(axis, row, list(by_patient(report.cases, organ, name).values()))
        axis.set_title(title, fontsize=11, loc="left")
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        if limits is not None:
            axis.set_xlim(limits[0] - 0.02, limits[1] + 0.02)
        elif axis.get_xlim()[1] > 0:
            axis.set_xlim(left=-0.02 * axis.get_xlim()[1])
    labels = [f"{each.organ}  ({_counted(each.patients, each.missing)})" for each in report.organs]
    axes[0, 0].set_yticks(range(len(organs)), labels)
    axes[0, 0].set_ylim(len(organs) - 0.4, -0.6)
    _add_legend(figure, report)
    figure.savefig(path, dpi=150)


def refuse_plot(path: Path) -> None:
    """Say before the work that a picture cannot be drawn.

    Raises
    ------
    SetupError
        The extra ``train`` is not installed, the ending is none that can be drawn, or there is no such folder.
    """
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - of the extra
    except ImportError as error:
        raise SetupError("Drawing needs matplotlib, which is not installed.", NEEDS_EXTRA) from error
    if path.suffix.lower() not in _ENDINGS:
        raise SetupError(f"--plot {path.name} is no picture.", f"Let it end in {', '.join(_ENDINGS)}.")
    if not path.absolute().parent.is_dir():
        raise SetupError(f"The folder of --plot {path} does not exist.", "Make it, or name another.")


def _organ(axis: Any, row: int, values: Sequence[float]) -> None:
    """Draw the dots of an organ, and a box with the median where there are enough of them for one."""
    if len(values) >= 4:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        axis.barh(row, high - low, left=low, height=0.62, color=_BOX, zorder=2)
        axis.plot([median, median], [row - 0.31, row + 0.31], color=_DOT, linewidth=2, zorder=4)
    ordered = sorted(values)
    # The golden ratio spreads neighbours evenly, and nothing is drawn by chance.
    offsets = [((number * 0.618034) % 1 - 0.5) * _SPREAD if len(values) > 1 else 0.0 for number in range(len(ordered))]

    places = [row + offset for offset in offsets]
    axis.scatter(ordered, places, s=14, color=_DOT, alpha=0.75, linewidths=0, zorder=3)


def _counted(patients: int, missing: int) -> str:
    lacking = f", {missing} missing" if missing else ""
    return f"n={patients}{lacking}"


def _add_legend(figure: Any, report: Report) -> None:
    tolerances = sorted({each.tolerance_mm for each in report.organs})
    tolerance = f"{tolerances[0]:g} mm" if len(tolerances) == 1 else "as the table says"
    figure.suptitle(
        f"Agreement with the reference, {report.patients} patients; dots: patients, boxes: quartiles and median;"
        f" tolerance {tolerance}",
        fontsize=10,
        x=0.01,
        ha="left",
        color="0.3",
    )
