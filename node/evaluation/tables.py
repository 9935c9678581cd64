"""An evaluation in words and tables for a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.evaluation.intervals import LEVEL, RESAMPLES
from node.evaluation.metrics import Measures
from node.evaluation.report import OrganSummary, Report

# Heading, name in `Measures`, how it is written.
_COLUMNS = (
    ("Dice", "dice", ".3f"),
    ("surface Dice", "surface_dice", ".3f"),
    ("HD95 mm", "hd95_mm", ".1f"),
    ("mean dist. mm", "mean_surface_distance_mm", ".2f"),
    ("added path mm", "added_path_mm", ".0f"),
    ("of path", "added_path_share", ".0%"),
    ("ΔV cm³", "volume_difference_cm3", "+.1f"),
    ("ΔV %", "volume_difference_percent", "+.0f"),
)
_NOTHING = "–"
# So many reasons of one kind are listed.
_MOST_LISTED = 12


def show(report: Report, console: Console, *, per_patient: bool) -> None:
    """Print the tables, then what a reader must know."""
    if per_patient:
        console.print(_per_patient(report))
    if report.organs:
        console.print(_per_organ(report))
    for line in _remarks(report):
        console.print(line, soft_wrap=True, highlight=False)


def _per_organ(report: Report) -> Table:
    patients = f"{report.patients} patient{'s' if report.patients != 1 else ''}"
    title = f"Mean (median) over {patients}"
    if report.patients > 1:
        title += f"; below it the {LEVEL:.0%} interval of the mean, by bootstrap over patients ({RESAMPLES} resamples)"
    table = Table(title=title, title_justify="left", show_lines=report.patients > 1)
    table.add_column("organ")
    table.add_column("n", justify="right")
    for heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right")
    for organ in report.organs:
        table.add_row(_organ_cell(organ, report), _count_cell(organ), *_cells(organ))
    if len(report.organs) > 1:
        table.add_section()
        means = [_mean_cell(report, name, form) for _, name, form in _COLUMNS]
        table.add_row("mean of organs", "", *means)
    return table


def _organ_cell(organ: OrganSummary, report: Report) -> str:
    tolerances = {each.tolerance_mm for each in report.organs}
    own = f"\n[dim]tolerance {organ.tolerance_mm:g} mm[/]" if len(tolerances) > 1 else ""
    return escape(organ.organ) + own


def _count_cell(organ: OrganSummary) -> str:
    lines = [str(organ.patients)]
    lines += [f"[red]{organ.missing} missing[/]"] if organ.missing else []
    lines += [f"[yellow]{organ.extra} extra[/]"] if organ.extra else []
    return "\n".join(lines)


def _cells(organ: OrganSummary) -> Iterator[str]:
    for _, name, form in _COLUMNS:
        found = organ.measures[name]
        if found is None:
            yield _NOTHING
            continue
        median = f" ({found.median:{form}})" if found.patients > 1 else ""
        # Where a result lacks the organ, distances are of fewer patients.
        fewer = f" n={found.patients}" if found.patients < organ.patients else ""
        yield f"{found.mean:{form}}{median}{fewer}" + _interval(found.mean_interval, form)


def _mean_cell(report: Report, name: str, form: str) -> str:
    if name not in report.over_organs:
        return _NOTHING
    mean, interval = report.over_organs[name]
    return f"{mean:{form}}" + _interval(interval, form)


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f"\n[dim]{low:{form}} … {high:{form}}[/]"


def _per_patient(report: Report) -> Table:
    table = Table(title="Case by case", title_justify="left")
    table.add_column("case")
    table.add_column("patient")
    table.add_column("organ")
    for heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right")
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
    for _, name, form in _COLUMNS:
        value = getattr(measures, name)
        yield _NOTHING if value is None else f"{value:{form}}"


def _remarks(report: Report) -> Iterator[str]:
    yield from _tolerance(report)
    for case in report.cases:
        for warning in case.warnings:
            yield f"[bold yellow]warning:[/] {escape(f'{case.case}: {warning}')}"
    listed = [
        (found.verdict, case.case, found)
        for case in report.cases
        for found in case.organs
        if found.verdict != "compared" or found.reason
    ]
    for verdict in ("missing", "extra", "left out", "compared"):
        of_it = [(case, found) for kind, case, found in listed if kind == verdict]
        label = "note" if verdict == "compared" else verdict
        for name, found in of_it[:_MOST_LISTED]:
            yield f"[yellow]{label}:[/] {escape(f'{name}: {found.organ}: {found.reason}')}"
        yield from _further(len(of_it), verdict)
    for one in report.unmatched[:_MOST_LISTED]:
        yield f"[yellow]not compared:[/] {escape(f'{one.what} {one.name}: {one.reason}')}"
    yield from _further(len(report.unmatched), "not compared")
    notes = dict.fromkeys(note for case in report.cases for note in case.notes)
    for note in list(notes)[:_MOST_LISTED]:
        yield f"[dim]{escape(note)}[/]"
    yield from _further(len(notes), "notes")


def _tolerance(report: Report) -> Iterator[str]:
    tolerances = sorted({each.tolerance_mm for each in report.organs})
    if len(tolerances) == 1:
        yield f"[dim]tolerance of surface Dice and added path: {tolerances[0]:g} mm[/]"


def _further(count: int, what: str) -> Iterator[str]:
    if count > _MOST_LISTED:
        yield f"[dim]and {count - _MOST_LISTED} more {what}: see --json[/]"
