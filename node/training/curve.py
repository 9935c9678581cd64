"""The loss curve as a picture."""

from collections.abc import Sequence
from pathlib import Path

from node.training.progress import Look


def draw_curve(looks: Sequence[Look], path: Path) -> None:
    """Draw the loss, and the Dice of the validation cases for each organ and in the mean, over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - of the extra; takes a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [look.step for look in looks]
    left.plot(steps, [look.loss for look in looks], color="tab:blue")
    left.set(xlabel="step", ylabel="training loss", title="Loss (masked cross-entropy + Dice)")
    for organ in looks[-1].dice:
        found = [(look.step, look.dice[organ]) for look in looks if look.dice.get(organ) is not None]
        right.plot(*zip(*found, strict=True), label=organ, linewidth=1) if found else None
    right.plot(steps, [look.mean_dice for look in looks], label="mean", color="black", linewidth=2)
    right.set(xlabel="step", ylabel="Dice", ylim=(0, 1), title="Validation cases")
    right.legend(fontsize="small", loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
