"""``delineate train``: arguments in, words out. What trains is loaded when it is asked for."""

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from node.convert.commands import checked_name, today
from node.convert.refusals import ImportOptions
from node.domain.errors import SetupError
from node.training.recipe import read_recipe

if TYPE_CHECKING:
    import torch

    from node.training.progress import Look

NEEDS_EXTRA = (
    'Install the extra: pip install "delineate[train]" (with --extra-index-url https://download.pytorch.org/whl/cpu '
    "for a torch without CUDA). The node itself does not need it."
)
# As a shell has it for Ctrl-C: the work is not done.
INTERRUPTED = 130

out = Console(emoji=False)


def train_command(  # noqa: PLR0913, PLR0917 - one argument for each option: typer's way
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder that `delineate dataset build` made.")],
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where the training is kept, and goes on another time.")
    ],
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML with what is to be otherwise than by default.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU where there is one; it says which.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU. Default: all cores.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the package. Default: the training set's.")] = None,
    title: Annotated[str | None, typer.Option(help="What results call the model.")] = None,
    originator: Annotated[str | None, typer.Option(help="Who trained it.")] = None,
    licence: Annotated[str | None, typer.Option(help="Under which its weights may be used.")] = None,
    intended_use: Annotated[str | None, typer.Option("--intended-use", help="What it is for.")] = None,
    limits: Annotated[str, typer.Option(help="What it cannot do, in words for its user.")] = "",
    modality: Annotated[
        str | None, typer.Option(help="DICOM Modality. Default: CT or MR, where the channel is.")
    ] = None,
) -> None:
    """Train a 3-D U-Net on a training set, and make a model package of it.

    Stops by itself once the validation cases no longer gain. Ctrl-C keeps what was learned: the same command goes on
    from there. OUT/curve.png shows how it goes.

    Example: delineate train /data/neck /data/neck-training --name neck --originator "Our clinic"
    """
    _refuse_without_extra()
    from node.training.run import Task, train  # noqa: PLC0415

    chosen = _device(device, threads)
    told = _Told()
    task = Task(
        dataset=dataset,
        folder=folder,
        recipe=read_recipe(recipe),
        device=chosen,
        options=ImportOptions(
            made_on=today(),
            name=checked_name(name),
            title=title,
            originator=originator,
            licence=licence,
            intended_use=intended_use,
            modality=modality,
        ),
        limits=limits,
    )
    with _Stopped() as stopped, told:
        imported = train(task, told, stopped)
    if imported is None:
        where = f"at step {told.step}" if told.step else "before a step was done"
        _say(f"[yellow]stopped[/] {where}; the same command goes on from there")
        raise typer.Exit(INTERRUPTED)
    _say(f"[green]trained[/] {escape(str(imported.folder))}")
    for remark in imported.remarks:
        _say(f"  [yellow]left to do:[/] {escape(remark)}")
    _say("  measure it on cases that training has not seen (`delineate evaluate`), and approve it before clinical use")


class _Stopped:
    """Turns the first Ctrl-C or SIGTERM into a wish, which is asked for after every step; the second is itself."""

    def __init__(self) -> None:
        self._wished = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._wished

    def __enter__(self) -> "_Stopped":
        self._before = {number: signal.signal(number, self._wish) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _wish(self, number: int, _frame: FrameType | None) -> None:
        self._wished = True
        signal.signal(number, self._before[number])


class _Told:
    """A bar on a terminal; a line for each look at the validation cases everywhere."""

    def __init__(self) -> None:
        terminal = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)
        self._task = self._bar.add_task("reading", total=None)
        self._loss: float | None = None
        self.step = 0

    def __enter__(self) -> "_Told":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def told(self, doing: str, done: int, of: int) -> None:
        self._bar.update(self._task, description=doing, completed=done, total=of)

    def stepped(self, step: int, loss: float) -> None:
        self.step = step
        self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        self._bar.update(self._task, description=f"step {step}, loss {self._loss:.3f}", completed=step, total=None)

    def looked(self, look: "Look") -> None:
        each = ", ".join(f"{organ} {dice:.3f}" for organ, dice in look.dice.items() if dice is not None)
        _say(f"step {look.step}: loss {look.loss:.3f}, validation Dice {look.mean_dice:.3f} ({each})")


def _refuse_without_extra() -> None:
    try:
        import matplotlib  # noqa: F401, PLC0415
        import nibabel  # noqa: F401, PLC0415
        import nnunetv2  # noqa: F401, PLC0415
        import torch  # noqa: F401, PLC0415
    except ImportError as error:
        raise SetupError(f"Training needs {error.name}, which is not installed.", NEEDS_EXTRA) from error


def _device(wanted: str, threads: int | None) -> "torch.device":
    import torch  # noqa: PLC0415

    if threads is not None:
        torch.set_num_threads(threads)
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise SetupError("There is no GPU that torch can use.", "Leave out --device, or install torch with CUDA.")
    device = torch.device("cuda" if wanted != "cpu" and there else "cpu")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    _say(f"training on {where}")
    return device


def _say(text: str) -> None:
    out.print(text, soft_wrap=True, highlight=False)
