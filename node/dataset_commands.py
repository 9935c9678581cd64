"""What ``delineate dataset`` does and prints."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from node.commands import print_json
from node.dataset.archive import survey
from node.dataset.build import build, refuse_full, refuse_too_few
from node.dataset.built import Built, Order
from node.dataset.names import NO_TABLE, Names, NameTable, read_table, refuse_unknown
from node.dataset.report import NAMELESS, REPORT_TEXT, key, report, starting_table
from node.domain.errors import SetupError
from node.inference.structure_table import parse_structures
from node.log import silence
from node.resources import shipped

_MOST_REASONS = 12


def build_command(
    archive: Path,
    out: Path | None,
    order: Order,
    names_file: Path | None,
    key_file: Path | None,
    console: Console | None,
) -> int:
    """Build a training set; gives the exit status.

    Parameters
    ----------
    out
        None: only report.
    order
        Its names hold the organs only; the table comes from ``names_file``.
    """
    silence()
    known = known_names()
    table = table_of(names_file)
    refuse_unknown(order.names.organs, table, known)
    order = replace(order, names=replace(order.names, table=table), known_names=known)
    if key_file is not None:
        _refuse_key(key_file, out)
    if out is not None:
        refuse_full(out)
    with _shown() as progress:
        built = build(archive, out, order, progress)
    if key_file is not None:
        _write_key(key_file, key(built))
    account = report(built)
    if console is None:
        print_json(account)
    else:
        _print(account, out, console)
    if out is None:
        refuse_too_few(built)
    return 0


def names_command(archive: Path, names_file: Path | None) -> int:
    """Print a table of names to start from; gives the exit status."""
    silence()
    known = known_names()
    order = Order(name="names", names=Names(organs=tuple(sorted(known)), table=table_of(names_file)))
    with _shown() as progress:
        found = survey(archive, lambda done, of: progress("read headers", done, of))
    print(starting_table(Built(order=order, archive=found, cases=(), left_out=())), end="")
    return 0


def known_names() -> frozenset[str]:
    """Give the names of conf/structures.toml."""
    return frozenset(parse_structures((shipped("conf") / "structures.toml").read_text(encoding="utf-8")))


def table_of(path: Path | None) -> NameTable:
    """Read the clinic's table of names; without one, TG-263 alone counts.

    Raises
    ------
    SetupError
        It cannot be read, or is no such table.
    """
    if path is None:
        return NO_TABLE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {type(error).__name__}.", "Name a TOML file in UTF-8.") from error
    return read_table(text, path.name)


def _refuse_key(path: Path, out: Path | None) -> None:
    if out is not None and path.resolve().is_relative_to(out.resolve()):
        raise SetupError(
            f"--key {path} lies in the training set.", "Name a file elsewhere: it says whose the cases are."
        )
    if not path.absolute().parent.is_dir():
        raise SetupError(f"The folder of --key {path} does not exist.", "Make it, readable for you alone.")
    if path.exists():
        raise SetupError(f"{path} is there already.", "Name a new file for --key.")


def _write_key(path: Path, text: str) -> None:
    # Nobody else may read it, at no moment.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("read", total=1)
        yield lambda doing, done, of: bar.update(task, description=doing, completed=done, total=of)


def _print(account: Mapping[str, Any], out: Path | None, console: Console) -> None:
    def say(text: str) -> None:
        console.print(escape(text), soft_wrap=True, highlight=False)

    archive, splits = account["archive"], account["splits"]
    say(f"{archive['files']} files: {archive['patients']} patients, {archive['series']} series")
    if nameless := archive["studies_without_patient_id"]:
        say(f"  {nameless} {NAMELESS}")
    for name, one in splits.items():
        say(f"  {name:<10} {one['patients']} patients, {one['cases']} cases")
    for organ in account["organs"]:
        volumes = organ["volume_cm3"]
        told = f"{volumes['min']:.1f} to {volumes['max']:.1f} cm³, median {volumes['median']:.1f}" if volumes else ""
        say(f"  {organ['name']:<16} in {organ['patients']} patients  {told}")
        for odd in organ["outliers"]:
            say(f"    look at {odd['case']}: {odd['volume_cm3']:.1f} cm³")
    reasons: dict[str, int] = {}
    for one in account["left_out"]:
        what = f"{one['organ']} of a case" if one["what"] == "organ" else one["what"]
        reasons[f"{what}: {one['reason']}"] = reasons.get(f"{what}: {one['reason']}", 0) + 1
    ordered = sorted(reasons.items(), key=lambda pair: -pair[1])
    for reason, count in ordered[:_MOST_REASONS]:
        say(f"  left out, {count} × {reason}")
    if len(ordered) > _MOST_REASONS:
        say(f"  and {len(ordered) - _MOST_REASONS} more reasons")
    if unmapped := account["names"]["unmapped"]:
        say(f"  {len(unmapped)} names of regions are no organ of these: `delineate dataset names` lists them")
    say("Nothing was written." if out is None else f"{out}: read {REPORT_TEXT} in it")
