"""``delineate jobs`` and what a person can ask of them: the command line."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from node.config import Config, load
from node.resources import shipped

app = typer.Typer()

_JobArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB", help="As `delineate jobs` calls it, its beginning, or a Series Instance UID."),
]
_ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The node's configuration. Default: the one that comes with it."
    ),
]
_DestinationOption = Annotated[str, typer.Option(metavar="NAME", help="Only what goes to this destination.")]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
def jobs(
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="Only these; as the other commands take them.")
    ] = None,
    config: _ConfigOption = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only what waits, runs, or ended without a delivered result.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the latest first.")] = 100,
    as_json: _JsonOption = False,
) -> None:
    """List jobs, each with its state, its reason, its deliveries, and what can be done about it.

    Example: delineate jobs --unfinished --config conf/node.toml
    """
    from node.job_commands import jobs_command  # noqa: PLC0415 - spares the other commands the time of importing it

    jobs_command(_config(config), wanted or [], unfinished=unfinished, limit=limit, console=_console(as_json))


@app.command()
def retry(
    job: _JobArgument, config: _ConfigOption = None, destination: _DestinationOption = "", as_json: _JsonOption = False
) -> None:
    """Take up again what failed, was declined, quarantined, cancelled or waits; of a contoured job, its deliveries.

    The objects of a job stay the same instances, however often it is tried.

    Examples:

      delineate retry 3fa9c21b

      delineate retry 3fa9c21b --destination tps
    """
    from node.job_commands import steer_command  # noqa: PLC0415 - see jobs

    steer_command(_config(config), job, lambda steering, row: steering.retry(row, destination), _console(as_json))


@app.command()
def resend(
    job: _JobArgument, config: _ConfigOption = None, destination: _DestinationOption = "", as_json: _JsonOption = False
) -> None:
    """Send the objects of a job again, the same instances, also where they were delivered.

    Example: delineate resend 3fa9c21b --destination tps
    """
    from node.job_commands import steer_command  # noqa: PLC0415 - see jobs

    steer_command(_config(config), job, lambda steering, row: steering.resend(row, destination), _console(as_json))


@app.command()
def cancel(job: _JobArgument, config: _ConfigOption = None, as_json: _JsonOption = False) -> None:
    """End a job; one that is being contoured ends at its next step. Of a contoured job, end what is not delivered.

    `delineate retry` takes it up again.

    Example: delineate cancel 3fa9c21b
    """
    from node.job_commands import steer_command  # noqa: PLC0415 - see jobs

    steer_command(_config(config), job, lambda steering, row: steering.cancel(row), _console(as_json))


@app.command("run-now")
def run_now(job: _JobArgument, config: _ConfigOption = None, as_json: _JsonOption = False) -> None:
    """Let a job go before all others, or what waits of it be tried at once; let a growing series be judged as it is.

    Examples:

      delineate run-now 3fa9c21b

      delineate run-now 1.2.840.113619.2.55.3.1
    """
    from node.job_commands import run_now_command  # noqa: PLC0415 - see jobs

    run_now_command(_config(config), job, _console(as_json))


@app.command()
def rerun(
    job: _JobArgument,
    config: _ConfigOption = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Another model than the job's.")] = "",
    as_json: _JsonOption = False,
) -> None:
    """Contour the images of a job anew: a run with a number and objects of its own, which supersedes the job.

    It goes where the job's route sends results now.

    Example: delineate rerun 3fa9c21b
    """
    from node.job_commands import steer_command  # noqa: PLC0415 - see jobs

    steer_command(_config(config), job, lambda steering, row: steering.rerun(row, model), _console(as_json))


def _config(path: Path | None) -> Config:
    return load(path or shipped("conf") / "node.toml")


def _console(as_json: bool) -> Console | None:
    return None if as_json else Console(emoji=False)
