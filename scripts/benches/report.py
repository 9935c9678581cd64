"""What the benches have in common: a table for people, JSON for scripts, and an exit status that tells."""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: ours, a peer's where there is one, and the bound that we promise where there is one.

    The bound is on the ratio ours / peer where there is a peer, else on our figure itself.
    """

    name: str
    ours: float
    unit: str
    peer: float | None = None
    peer_name: str | None = None
    bound: float | None = None
    better: Literal["lower", "higher"] = "lower"

    @property
    def ratio(self) -> float | None:
        """Give ours / peer."""
        return self.ours / self.peer if self.peer else None

    @property
    def holds(self) -> bool:
        """Tell whether the bound is kept; true where none is promised."""
        if self.bound is None:
            return True
        measured = self.ours if self.ratio is None else self.ratio
        return measured <= self.bound if self.better == "lower" else measured >= self.bound

    def as_json(self) -> dict[str, Any]:
        """Give exactly the published keys."""
        keys = ("name", "ours", "peer", "peer_name", "unit", "ratio", "bound", "holds")
        return {key: getattr(self, key) for key in keys}


def median(values: Sequence[float]) -> float:
    """Give the median."""
    return float(statistics.median(values))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Give a parser that knows ``--json``."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    return arguments


def publish(title: str, rows: Sequence[Row], json_file: Path | None) -> int:
    """Print the rows, write them as JSON where asked for, and give the exit status: 1 if one falls short."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{title}\n{machine()}", title_justify="left")
    table.add_column("what")
    for heading in ("ours", "peer", "ratio", "bound"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.holds for row in rows) else 1


def _cells(row: Row) -> list[str]:
    sign = "≤" if row.better == "lower" else "≥"
    bound_unit = row.unit if row.peer is None else "×"
    verdict = "" if row.bound is None else "[green]holds[/]" if row.holds else "[bold red]falls short[/]"
    return [
        row.name,
        f"{_figure(row.ours)} {row.unit}",
        "" if row.peer is None else f"{_figure(row.peer)} {row.unit} ({row.peer_name})",
        "" if row.ratio is None else f"{row.ratio:.3f}",
        "" if row.bound is None else f"{sign} {row.bound:g} {bound_unit}",
        verdict,
    ]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def machine() -> str:
    """Say what this machine is: processor, cores that we may use, memory, system, Python."""
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory_gib():.0f} GiB, {_system()}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.platform()
