"""An evaluation in words and tables for a terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.evaluation.intervals import LEVEL, RESAMPLES
from node.evaluation.metrics import Measures
from node.evaluation.report import OrganSummary, Report


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    # Of `Measures`.
    name: str
    # How it is written, and its interval.
    form: str
    interval: str


_COLUMNS = (
    _Column("Dice", "dice", ".3f", ".2f"),
    _Column("surface\nDice", "surface_dice", ".3f", ".2f"),
    _Column("HD95\nmm", "hd95_mm", ".1f", ".1f"),
    _Column("mean\ndist. mm", "mean_surface_distance_mm", ".2f", ".2f"),
    _Column("added\npath mm", "added_path_mm", ".0f", ".0f"),
    _Column("volume\n± cm³", "volume_difference_cm3", "+.1f", "+.1f"),
    _Column("volume\n± %", "volume_difference_percent", "+.0f", "+.0f"),
)
_NOTHING = "–"
_WIDTH = 120
# Intervals of seven measures go on one line each.
_WIDE = 105
# So many reasons of one kind are listed.
_MOST_LISTED = 12
_MOST_CASES = 4


def show(report: Report, console: Console, *, per_patient: bool) -> None:
    """Print the tables, then what a reader must know."""
    if not console.is_terminal:
        # In a file nothing need be cut off.
        console.width = _WIDTH
    if per_patient:
        console.print(_per_patient(report))
    if report.organs:
        console.print(_per_organ(report, "…" if console.width >= _WIDE else "…\n"))
    for line in _remarks(report):
        console.print(line, soft_wrap=True, highlight=False)


def _per_organ(report: Report, to: str) -> Table:
    title = f"{report.patients} patient{'s' if report.patients != 1 else ''}"
    if report.patients > 1:
        title += f": mean, its {LEVEL:.0%} interval (bootstrap over patients, {RESAMPLES} resamples), and the median"
    table = _table(title, "organ")
    table.add_column("n", justify="right")
    _add_measures(table)
    for organ in report.organs:
        table.add_row(_organ_cell(organ, report), str(organ.patients), *_cells(organ, to))
        if report.patients > 1:
            table.add_section()
    if len(report.organs) > 1:
        table.add_section()
        means = [_mean_cell(report, column, to) for column in _COLUMNS]
        table.add_row("mean of organs", "", *means)
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _add_measures(table: Table) -> None:
    for column in _COLUMNS:
        table.add_column(column.heading, justify="right", overflow="fold")


def _organ_cell(organ: OrganSummary, report: Report) -> str:
    lines = [escape(organ.organ)]
    lines += [f"[red]{organ.missing} missing[/]"] if organ.missing else []
    lines += [f"[yellow]{organ.extra} extra[/]"] if organ.extra else []
    if len({each.tolerance_mm for each in report.organs}) > 1:
        lines.append(f"[dim]{organ.tolerance_mm:g} mm[/]")
    return "\n".join(lines)


def _cells(organ: OrganSummary, to: str) -> Iterator[str]:
    for column in _COLUMNS:
        found = organ.measures[column.name]
        if found is None:
            yield _NOTHING
            continue
        # Where a result lacks the organ, distances are of fewer patients.
        fewer = f"\n[dim]n = {found.patients}[/]" if found.patients < organ.patients else ""
        median = f"\n[dim]{found.median:{column.form}}[/]" if found.patients > 1 else ""
        yield f"{found.mean:{column.form}}" + _interval(found.mean_interval, column, to) + median + fewer


def _mean_cell(report: Report, column: _Column, to: str) -> str:
    if column.name not in report.over_organs:
        return _NOTHING
    mean, interval = report.over_organs[column.name]
    return f"{mean:{column.form}}" + _interval(interval, column, to)


def _interval(interval: tuple[float, float] | None, column: _Column, to: str) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f"\n[dim]{low:{column.interval}}{to}{high:{column.interval}}[/]"


def _per_patient(report: Report) -> Table:
    table = _table("Case by case", "case", "patient", "organ")
    _add_measures(table)
    for case in report.cases:
        names = escape(case.case), case.patient
        for found in case.organs:
            if found.measures is not None:
                verdict = "" if found.verdict == "compared" else f" [red]{found.verdict}[/]"
                table.add_row(*names, escape(found.organ) + verdict, *_figures(found.measures))
                names = "", ""
        table.add_section()
    return table


def _figures(measures: Measures) -> Iterator[str]:
    for column in _COLUMNS:
        value = getattr(measures, column.name)
        yield _NOTHING if value is None else f"{value:{column.form}}"


def _remarks(report: Report) -> Iterator[str]:
    yield from _tolerance(report)
    for case in report.cases:
        for warning in case.warnings:
            yield f"[bold yellow]warning:[/] {escape(f'{case.case}: {warning}')}"
    yield from _verdicts(report)
    for one in report.unmatched[:_MOST_LISTED]:
        yield f"[yellow]not compared:[/] {escape(f'{one.what} {one.name}: {one.reason}')}"
    yield from _further(len(report.unmatched), "not compared")
    notes = dict.fromkeys(note for case in report.cases for note in case.notes)
    for note in list(notes)[:_MOST_LISTED]:
        yield f"[dim]{escape(note)}[/]"
    yield from _further(len(notes), "notes")


def _verdicts(report: Report) -> Iterator[str]:
    """Tell what was not simply compared, alike cases of an organ together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for case in report.cases:
        for found in case.organs:
            if found.reason:
                alike.setdefault((found.verdict, found.organ, found.reason), []).append(case.case)
    for verdict, label in (("missing", "missing"), ("extra", "extra"), ("left out", "left out"), ("compared", "note")):
        of_it = [(organ, reason, cases) for (kind, organ, reason), cases in alike.items() if kind == verdict]
        for organ, reason, cases in of_it[:_MOST_LISTED]:
            some = ", ".join(cases[:_MOST_CASES]) + (
                f" and {len(cases) - _MOST_CASES} more" * (len(cases) > _MOST_CASES)
            )
            yield f"[yellow]{label}:[/] {escape(f'{organ}: {reason} ({some})')}"
        yield from _further(len(of_it), label)


def _tolerance(report: Report) -> Iterator[str]:
    tolerances = sorted({each.tolerance_mm for each in report.organs})
    if len(tolerances) == 1:
        yield f"[dim]tolerance of surface Dice and added path: {tolerances[0]:g} mm[/]"


def _further(count: int, what: str) -> Iterator[str]:
    if count > _MOST_LISTED:
        yield f"[dim]and {count - _MOST_LISTED} more {what}: see --json[/]"
