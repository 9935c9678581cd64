"""Kill processes of a node at random moments while senders send and destinations flap, and tell what was lost.

Runs `delineate serve` in a folder of its own. Senders (DCMTK's storescu, a Storage SCU of our own, and one that drops
folders into the hot folder) send series of different sizes, some again, some with late slices, some aborted half-way;
what was not acknowledged with 0x0000 they send again until it is. The results go to a Storage SCP that goes down,
refuses and hangs, and to a folder that is gone now and then. When the blows are over the node is given time to finish;
then every promise is compared with what is there. Exit status 1 if one was broken: the folder is kept then.

On PostgreSQL the server is one of its own on loopback, two machines share it and one data folder, and the server is
restarted at once now and then.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.storms.machine import NotStartedError
from scripts.storms.storm import Force, Site, Storm
from scripts.storms.verdict import Verdict
from tests import postgres


def main() -> int:
    """Let a storm rage."""
    chosen = _arguments()
    if shutil.which("storescu") is None:
        sys.stderr.write("DCMTK's storescu is not there: apt-get install dcmtk\n")
        return 2
    if chosen.engine == "sqlite" and chosen.machines == 2:
        sys.stderr.write("An SQLite file belongs to one machine; several need --engine postgresql.\n")
        return 2
    if chosen.engine == "postgresql" and postgres.programs() is None:
        sys.stderr.write("There is no PostgreSQL server: apt-get install postgresql\n")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="delineate-storm-"))
    force = Force(kills=chosen.kills, seed=chosen.seed, pause_s=chosen.pause, senders=chosen.senders)
    started = time.monotonic()

    def tell(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {line}\n")

    with _site(chosen.engine, chosen.machines) as site:
        verdict = Storm(folder, force, site, tell).rage()
    named = f"--seed {chosen.seed} --kills {chosen.kills} --engine {chosen.engine} --machines {len(site.machines)}"
    _show(verdict, named)
    if chosen.json is not None:
        said = {"storm": named, "figures": verdict.figures, "faults": verdict.faults}
        chosen.json.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    if verdict.faults:
        sys.stderr.write(f"Kept: {folder}; the same storm again: {named}\n")
        return 1
    shutil.rmtree(folder)
    return 0


@contextmanager
def _site(engine: str, machines: int | None) -> Iterator[Site]:
    """Give what the storm rages over, with a PostgreSQL server of its own where that is wanted."""
    programs = postgres.programs()
    if engine == "sqlite" or programs is None:
        yield Site()
        return
    with postgres.running_server(programs) as server:

        def restart() -> None:
            server.stop()
            server.start()

        names = ("a", "b")[: machines or 2]
        yield Site(machines=names, database=server.new_database(), restart_database=restart)


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(
        prog="scripts/storm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--kills", type=int, default=40, help="how many blows (default: 40)")
    arguments.add_argument("--seed", type=int, default=1, help="of everything that is random (default: 1)")
    arguments.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite", help="(default: sqlite)")
    arguments.add_argument(
        "--machines", type=int, choices=(1, 2), help="on one database and folder (default: as many as the engine takes)"
    )
    arguments.add_argument("--pause", type=float, default=4.0, help="seconds between blows, on average (default: 4)")
    arguments.add_argument("--senders", type=int, default=4, help="that call, beside the one that drops (default: 4)")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write figures and faults as JSON")
    return arguments.parse_args()


def _show(verdict: Verdict, storm: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title=f"A storm, {storm}", title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, figure in verdict.figures.items():
        table.add_row(escape(name), f"{figure:,}" if isinstance(figure, int) else escape(str(figure)))
    console.print(table)
    for fault in verdict.faults:
        console.print(f"[bold red]broken:[/] {escape(fault)}", soft_wrap=True)
    if not verdict.faults:
        console.print("[green]Nothing lost, nothing twice.[/]")


if __name__ == "__main__":
    # Unwind, so that no node stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(main())
    except NotStartedError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
