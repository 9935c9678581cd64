"""What the node knows, for people and for scripts."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from node.adapters.ledger import Ledger
from node.config import Config
from node.domain.errors import SetupError
from node.domain.jobs import DELIVERY_STATES, JOB_STATES, SERIES_STATES
from node.service import Node

Row = Mapping[str, Any]


def read_status(config: Config) -> dict[str, Any]:
    """Read series, jobs, deliveries and events from the ledger, as JSON values; the latest first.

    Raises
    ------
    SetupError
        No node has ever run with this data folder.
    """
    node = Node(config=config)
    if not (node.data_dir / "delineate.sqlite").exists():
        raise SetupError(
            f"There is no node's database in {node.data_dir}.",
            "Start the node (delineate serve), or name its configuration with --config.",
        )
    return status_of(node.ledger)


def status_of(ledger: Ledger) -> dict[str, Any]:
    """Give what an open ledger knows, as JSON values; the latest first."""
    return {
        "series": [_without(row, "stamp") for row in ledger.all_series()],
        "jobs": [{**row, "outputs": ledger.outputs(row["job"])} for row in ledger.all_jobs()],
        "deliveries": ledger.all_deliveries(),
        "events": ledger.events(),
    }


def _without(row: Row, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def print_status(status: Mapping[str, list[Row]], console: Console) -> None:
    """Print every series with its jobs and their deliveries, then the events; one fact per line, never folded."""
    if not status["series"] and not status["events"]:
        console.print("Nothing was received yet.")
    jobs, deliveries = _by(status["jobs"], "series_uid"), _by(status["deliveries"], "job")
    for series in status["series"]:
        _print(console, *_series_lines(series))
        for job in jobs.get(series["series_uid"], []):
            _print(console, *_job_lines(job))
            for delivery in deliveries.get(job["job"], []):
                _print(console, _delivery_line(delivery, job["outputs"]))
    for event in status["events"]:
        _print(console, f"{_clock(event['at'])} {event['kind']}, {event['subject']}: {event['text']}")


def print_states(console: Console) -> None:
    """Print what every state means and what to do."""
    for title, states in (("Series", SERIES_STATES), ("Jobs", JOB_STATES), ("Deliveries", DELIVERY_STATES)):
        table = _table(title, "state", "means", "what to do")
        for state, words in states.items():
            table.add_row(str(state), words.meaning, words.what_to_do)
        console.print(table)


def _by(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[key], []).append(row)
    return grouped


def _print(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False, emoji=False)


def _series_lines(row: Row) -> Iterator[str]:
    yield f"series {row['series_uid']}"
    sender = ", ".join(row["calling_ae_titles"]) or "unknown sender"
    images = f"{row['modality']}, {row['instances']} instance{'s' * (row['instances'] != 1)}"
    yield f"  {row['state']}: {images} from {sender}, the last at {_clock(row['last_instance_at'])}"
    for reason in filter(None, [row["reason"], *row["evidence"]]):
        yield f"    {reason}"
    if row["look_again_at"] is not None:
        yield f"    looked at again at {_clock(row['look_again_at'])} at the latest"
    if row["left_out"]:
        yield f"    left out: {len(row['left_out'])}, the first because {row['left_out'][0]['reason']}"


def _job_lines(row: Row) -> Iterator[str]:
    report = row["report"]
    yield f"  {row['model']}, run {row['run_number']}: {row['state']}"
    for said in filter(None, [row["reason"], row["progress"]]):
        yield f"    {said}"
    for one in report.get("structures", []):
        yield f"    {one['name']:<16}{one['volume_cm3']:>10.1f} cm³"
    for one in report.get("omitted", []):
        yield f"    no {one['name']}: {one['reason']}"
    for note in report.get("notes", []):
        yield f"    note: {note}"
    if report:
        seconds = sum(value for name, value in row["timings"].items() if name != "queued")
        yield f"    {seconds:.1f} s, version {report['model_version']}, {report['computed_by']}"


def _delivery_line(row: Row, outputs: Iterable[Row]) -> str:
    kinds = {output["sop_instance_uid"]: output["kind"].upper() for output in outputs}
    tries = f" after {row['attempt']} tries" if row["attempt"] > 1 and row["next_attempt_at"] is None else ""
    again = f", try {row['attempt']} at {_clock(row['next_attempt_at'])}" if row["next_attempt_at"] is not None else ""
    said = [row["reason"], *(_answer(one, kinds) for one in row["receipts"])]
    return f"    to {row['destination']}: {row['state']}{tries}{again}; {'; '.join(filter(None, said))}".rstrip("; ")


def _answer(receipt: Row, kinds: Mapping[str, str]) -> str:
    kind = kinds.get(receipt["sop_instance_uid"], receipt["sop_instance_uid"])
    answer = f"{kind} {receipt['outcome']} (0x{receipt['status']:04X})"
    return ", ".join(filter(None, [answer, receipt.get("error_comment")]))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _clock(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
