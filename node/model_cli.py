"""``delineate model``: the command line of model packages."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from node.config import MOST_THREADS, load
from node.convert.commands import import_app
from node.inference.devices import DeviceName

app = typer.Typer(
    name="model",
    help="Look at model packages and verify them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(import_app, name="import")

_NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model package.")]
_ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Look also where this node has its models.")
]
_FolderOption = Annotated[
    list[Path] | None, typer.Option("--model-dir", metavar="FOLDER", help="A further folder with model packages.")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command("list")
def list_packages(config: _ConfigOption = None, model_dir: _FolderOption = None, as_json: _JsonOption = False) -> None:
    """List the model packages, and whether each can be loaded.

    Exit status 1 if one cannot.

    Example: delineate model list --model-dir models
    """
    from node.model_commands import list_command  # noqa: PLC0415 - spares the other commands the time of importing it

    raise typer.Exit(list_command(_folders(config, model_dir), _console(as_json)))


@app.command()
def show(
    name: _NameArgument, config: _ConfigOption = None, model_dir: _FolderOption = None, as_json: _JsonOption = False
) -> None:
    """Show what a model package says of itself: use, limits, origin, input, structures, files.

    Example: delineate model show body-bones
    """
    from node.model_commands import show_command  # noqa: PLC0415 - see list_packages

    raise typer.Exit(show_command(name, _folders(config, model_dir), _console(as_json)))


@app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A model package, or the folder of one.")],
    config: _ConfigOption = None,
    model_dir: _FolderOption = None,
    device: Annotated[DeviceName, typer.Option(help="Where the golden test runs; its labels are of the CPU.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, max=MOST_THREADS, help="CPU threads; 0: all.")] = 0,
    as_json: _JsonOption = False,
) -> None:
    """Verify a model package: its files, what must not be in it, its network, and its golden test.

    Exit status 1 if anything failed.

    Examples:

      delineate model verify body-bones

      delineate model verify ./downloads/liver-ct
    """
    from node.model_commands import verify_command  # noqa: PLC0415 - see list_packages

    raise typer.Exit(verify_command(name, _folders(config, model_dir), device, threads, _console(as_json)))


@app.command()
def measure(
    name: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A model package, or the folder of one.")],
    config: _ConfigOption = None,
    model_dir: _FolderOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Measure how a network computes in float16, and by OpenVINO where that is installed; its package states it then.

    The import does it, too. Do it again on the node's machine if OpenVINO, or AMX, is only there. A package without
    copies in float16 gets them.

    Example: delineate model measure ./models/liver-ct
    """
    from node.model_commands import measure_command  # noqa: PLC0415 - see list_packages

    raise typer.Exit(measure_command(name, _folders(config, model_dir), _console(as_json)))


def _folders(config: Path | None, further: list[Path] | None) -> list[Path]:
    of_node = load(config).node.model_dirs if config is not None else ()
    return [*(further or []), *of_node]


def _console(as_json: bool) -> Console | None:
    return None if as_json else Console(emoji=False)
