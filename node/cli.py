"""The command line: arguments in, exit status out. Faults are one sentence and what to do, never a traceback.

Exit status: 0 done; 1 could not be done, the reason is printed; 2 wrong arguments, configuration or installation.
"""

import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from node import DISCLAIMER, __version__, dataset_cli, evaluate_cli, job_cli, model_cli
from node.config import MOST_THREADS, Config, load
from node.domain.errors import NodeError, SetupError
from node.inference.devices import DeviceName
from node.resources import shipped
from node.training.commands import train_command

app = typer.Typer(
    name="delineate",
    help=f"""A DICOM node that contours by itself: a CT comes in by C-STORE, RT Structure Set and Segmentation go out.

Try it:         delineate demo

Without a net:  delineate contour CT_FOLDER RESULTS

As a node:      delineate check --config node.toml; delineate serve --config node.toml

{DISCLAIMER}
""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(model_cli.app)
app.add_typer(job_cli.app)
app.command("train")(train_command)
app.add_typer(dataset_cli.app)
app.add_typer(evaluate_cli.app)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The node's configuration. Default: the one that comes with it."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DeviceOption = Annotated[
    DeviceName, typer.Option(help="Where the network runs; cuda and openvino refuse to run without.")
]

# No emoji: a folder's name may hold ":cd:".
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)


def main() -> None:
    """Run the command line."""
    _never_fail_on_a_character()
    with _faults_as_sentences():
        app()


def _never_fail_on_a_character() -> None:
    # A terminal may be unable to show "cm³", or a file name that is no text in any encoding.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextmanager
def _faults_as_sentences() -> Iterator[None]:
    try:
        yield
    except NodeError as error:
        err.print(f"[bold red]Error:[/] {escape(error.reason)}", soft_wrap=True, highlight=False)
        err.print(f"[bold]What to do:[/] {escape(error.remedy)}", soft_wrap=True, highlight=False)
        sys.exit(2 if isinstance(error, SetupError) else 1)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"[bold red]Error:[/] {escape(where)}{error.strerror}.", soft_wrap=True, highlight=False)
        err.print("[bold]What to do:[/] free disk space, or mend what the system says, and try again.", soft_wrap=True)
        sys.exit(1)
    except Exception as error:  # a fault of ours: nobody should have to read a traceback, somebody may want to send it
        with tempfile.NamedTemporaryFile("w", prefix="delineate-fault-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        kind = type(error).__name__
        remedy = f"report it with {file.name}; look first whether it quotes patient data."
        err.print(f"[bold red]Internal error[/] ({kind}): a fault of Delineate, not of yours.", soft_wrap=True)
        err.print(f"[bold]What to do:[/] {escape(remedy)}", soft_wrap=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        out.print(f"delineate {__version__}", highlight=False)
        raise typer.Exit


def _leave_nothing_when_told_to_stop() -> None:
    """Make SIGTERM unwind, as Ctrl-C does: an archive may be unpacked in a temporary folder, with patients in it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _config(path: Path | None) -> tuple[Config, Path]:
    path = path or shipped("conf") / "node.toml"
    return load(path), path.absolute()


@app.command()
def demo(
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep configuration, log, images and results here.")
    ] = None,
    picture: Annotated[Path, typer.Option(metavar="FILE", help="Where to draw the contours.")] = Path("contours.png"),
) -> None:
    """See the node at work: it sends itself a synthetic CT by C-STORE and shows what comes out.

    Starts a node and a destination on free ports of this machine, sends, waits, tells what happened, draws a picture,
    and stops both again. Needs no configuration, no GPU and no PACS.

    Example: delineate demo --keep /tmp/demo
    """
    from node.demo.show import show  # noqa: PLC0415 - spares the other commands the time of importing it

    raise typer.Exit(show(out, picture=picture, keep=keep))


@app.command()
def contour(  # noqa: PLR0913, PLR0917 - one for each option
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT... OUTPUT", help="Folders, files or zips of DICOM; last, the folder for the results."
        ),
    ],
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Model package; may be given more than once.")
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEYWORD=PATTERN",
            help="For a model that takes several images of one place: what tells the series of each (!= excludes).",
        ),
    ] = None,
    outputs: Annotated[Literal["both", "rtstruct", "seg"], typer.Option("--outputs", help="What to write.")] = "both",
    profile: Annotated[
        str, typer.Option(help="What the receiver takes: a file in conf/profiles, or the path of one of your own.")
    ] = "generic",
    segmentation: Annotated[
        Literal["binary", "labelmap", "fractional"], typer.Option(help="How the Segmentation holds its segments.")
    ] = "binary",
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=0, max=MOST_THREADS, help="CPU threads; 0: all.")] = 0,
    model_dir: Annotated[
        list[Path] | None, typer.Option("--model-dir", metavar="FOLDER", help="A further folder with model packages.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Contour files without a network: DICOM in, RT Structure Set and Segmentation out.

    Every series found is judged as the node judges it; what is no complete, regular volume is declined with the
    reason. Exit status 1 if no series could be contoured.

    Examples:

      delineate contour ct_folder results

      delineate contour study.zip results --model body-bones --outputs rtstruct --profile eclipse

      delineate contour mr results -m brain --channel 'T1:SeriesDescription=*t1*' --channel 'T2:SeriesDescription=*t2*'
    """
    from node.adapters.profile_store import load_profile  # noqa: PLC0415 - see demo
    from node.commands import channels_of, contour_command  # noqa: PLC0415 - see demo
    from node.domain.forms import Form  # noqa: PLC0415 - see demo

    _leave_nothing_when_told_to_stop()
    if len(inputs) < 2:
        raise SetupError("INPUT and OUTPUT are both needed.", "Example: delineate contour ct_folder results")
    status = contour_command(
        inputs[:-1],
        inputs[-1],
        models=list(dict.fromkeys(model or ["body-bones"])),
        channels=channels_of(channel or []),
        outputs=("rtstruct", "seg") if outputs == "both" else (outputs,),
        form=Form(profile=load_profile(profile), segmentation=segmentation),
        device=device,
        threads=threads,
        model_dirs=model_dir or [],
        console=None if as_json else out,
    )
    raise typer.Exit(status)


@app.command()
def serve(
    config: ConfigOption = None,
    role: Annotated[
        Literal["receiver", "contourer", "dispatcher", "collector"] | None,
        typer.Option(help="Be only one of the node's processes. Without it: all of them, supervised."),
    ] = None,
    number: Annotated[
        int, typer.Option(min=1, help="With --role receiver: which one, where receiver.processes is more than 1.")
    ] = 1,
    roles: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="Run these of the node's processes, supervised; the rest runs on other machines. Repeatable.",
        ),
    ] = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the node until it is told to stop (Ctrl-C or SIGTERM).

    It may be killed at any moment: what was acknowledged is on disk, and the next start goes on with it.

    Examples:

      delineate serve --config conf/node.toml

      delineate serve --config conf/node.toml --roles contourer
    """
    from node import service  # noqa: PLC0415 - see demo
    from node.log import set_up_logging  # noqa: PLC0415 - see demo

    settings, path = _config(config)
    set_up_logging(settings.node.log_format, role or "supervisor")
    if role is not None:
        service.run_role(settings, role, number=number, supervised=supervised)
        return
    known = [one for one in service.ROLES if one in (roles or service.ROLES)]
    if strange := set(roles or ()) - set(known):
        raise typer.BadParameter(f"{strange.pop()!r} is none of {', '.join(service.ROLES)}", param_hint="--roles")
    raise typer.Exit(service.serve(settings, path, roles=known, supervised=supervised))


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Try configuration, folders, models, device and every destination (C-ECHO), and say what to do about failures.

    Exit status 1 if anything failed, 2 if the configuration is wrong.

    Example: delineate check --config conf/node.toml
    """
    from node.commands import check_command  # noqa: PLC0415 - see demo

    settings, path = _config(config)
    raise typer.Exit(check_command(settings, path, None if as_json else out))


@app.command()
def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    states: Annotated[bool, typer.Option("--states", help="Explain every state and end.")] = False,
    senders: Annotated[
        bool,
        typer.Option("--senders", help="Show instead what was learned of each sender, and how long it is waited for."),
    ] = False,
) -> None:
    """Show series, jobs and deliveries, each in its state with the reason. Works while the node runs or is stopped.

    Examples:

      delineate status --config conf/node.toml

      delineate status --config conf/node.toml --senders
    """
    from node.status import (  # noqa: PLC0415 - see demo
        print_senders,
        print_states,
        print_status,
        read_senders,
        read_status,
    )

    if states:
        print_states(out)
        return
    if senders:
        learned = read_senders(_config(config)[0])
        if as_json:
            print(json.dumps(learned, indent=2))
        else:
            print_senders(learned, out)
        return
    known = read_status(_config(config)[0])
    if as_json:
        print(json.dumps(known, indent=2, default=str))
    else:
        print_status(known, out)


@app.command()
def route(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files, folders or zips.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which route would take these series, and why the others would not.

    Exit status 1 if a series finds no route.

    Example: delineate route --config conf/node.toml ct_folder
    """
    from node.commands import route_command  # noqa: PLC0415 - see demo

    _leave_nothing_when_told_to_stop()
    raise typer.Exit(route_command(inputs, _config(config)[0], None if as_json else out))
