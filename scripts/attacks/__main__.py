"""Attack the receiver with everything a hostile network has, while an honest sender goes on.

Starts `delineate serve --role receiver` in a folder of its own, with short timeouts, and lets each behaviour act on it.
After each: does the receiver live and answer, did the honest sender succeed throughout, and are memory, threads, file
descriptors and unfinished files back where they were? Then mutated conversations, messages and data sets. Exit status
1 if one of them did harm.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.attacks import connections, lengths, messages
from scripts.attacks.mutations import fuzz
from scripts.attacks.scene import FULL, QUICK, Outcome, Scene
from scripts.attacks.siege import Siege, Verdict
from scripts.attacks.target import NotStartedError, Target

BEHAVIOURS: Sequence[Callable[[Scene], Outcome]] = (
    *connections.BEHAVIOURS,
    *lengths.BEHAVIOURS,
    *messages.BEHAVIOURS,
)
NAMES = [one.__name__ for one in BEHAVIOURS]


def main() -> int:
    """Run the attacks."""
    chosen = _arguments()
    behaviours = {one.__name__: one for one in BEHAVIOURS if not chosen.only or one.__name__ in chosen.only}
    if chosen.mutations:
        mutated = partial(fuzz, count=chosen.mutations, seed=chosen.seed)
        behaviours[f"{chosen.mutations:,} mutations, seed {chosen.seed}"] = mutated
    console = Console(stderr=True)
    verdicts = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="delineate-attack-") as folder, Target(Path(folder)) as target:
        scene = Scene(target=target, scale=QUICK if chosen.quick else FULL)
        with Siege(scene) as siege, console.status("") as spinner:
            for name, behaviour in behaviours.items():
                spinner.update(name)
                verdicts.append(siege.suffer(name, behaviour))
            verdicts.append(siege.aftermath())
        if chosen.keep_log:
            chosen.keep_log.write_text(target.log, encoding="utf-8")
    _show(verdicts, time.monotonic() - started)
    if chosen.json is not None:
        rows = [asdict(verdict) | {"survived": verdict.survived} for verdict in verdicts]
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if all(verdict.survived for verdict in verdicts) else 1


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(
        prog="scripts/attack",
        description=__doc__,
        epilog="Behaviours: " + ", ".join(NAMES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("--mutations", type=int, default=2000, help="how many; the full run: 100000 (default: 2000)")
    arguments.add_argument("--seed", type=int, default=1, help="of the mutations (default: 1)")
    arguments.add_argument("--only", nargs="+", choices=NAMES, metavar="BEHAVIOUR", help="only these behaviours")
    arguments.add_argument("--quick", action="store_true", help="smaller crowds and less that is endless")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    arguments.add_argument("--keep-log", type=Path, metavar="FILE", help="keep the receiver's log here")
    return arguments.parse_args()


def _show(verdicts: Sequence[Verdict], took_s: float) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title=f"{len(verdicts)} attacks in {took_s:.0f} s; memory, threads, descriptors: after it (highest)")
    table.add_column("behaviour", no_wrap=True)
    headings = ("connections", "answered", "refused", "held", "MiB", "threads", "descriptors", "log lines", "honest s")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for one in verdicts:
        table.add_row(
            escape(one.behaviour),
            *(f"{number:,}" for number in (one.connections, one.answered, one.refused, one.held)),
            f"{one.memory_mib:.0f} ({one.peak_memory_mib:.0f})",
            f"{one.threads} ({one.peak_threads})",
            f"{one.descriptors} ({one.peak_descriptors})",
            f"{one.log_lines:,}",
            f"{one.slowest_honest_s:.2f}",
            "[green]survived[/]" if one.survived else "[bold red]harm[/]",
        )
    console.print(table)
    for one in verdicts:
        if one.harm:
            console.print(f"[bold red]{escape(one.behaviour)}:[/] {escape('; '.join(one.harm))}", soft_wrap=True)


if __name__ == "__main__":
    # Unwind, so that no receiver stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(main())
    except NotStartedError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
