"""What the node knows, for people and for scripts."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

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
    ledger = node.ledger
    return {
        "series": [_without(row, "stamp") for row in ledger.all_series()],
        "jobs": [{**row, "outputs": ledger.outputs(row["job"])} for row in ledger.all_jobs()],
        "deliveries": ledger.all_deliveries(),
        "events": ledger.events(),
    }


def _without(row: Row, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def print_status(status: Mapping[str, list[Row]], console: Console) -> None:
    """Print tables for people."""
    if not status["series"] and not status["events"]:
        console.print("Nothing was received yet.")
    if status["series"]:
        console.print(_series_table(status["series"]))
    if status["jobs"]:
        console.print(_job_table(status["jobs"]))
    if status["deliveries"]:
        console.print(_delivery_table(status["deliveries"]))
    if status["events"]:
        console.print(_event_table(status["events"]))


def print_states(console: Console) -> None:
    """Print what every state means and what to do."""
    for title, states in (("Series", SERIES_STATES), ("Jobs", JOB_STATES), ("Deliveries", DELIVERY_STATES)):
        table = _table(title, "state", "means", "what to do")
        for state, words in states.items():
            table.add_row(str(state), words.meaning, words.what_to_do)
        console.print(table)


def _series_table(rows: Iterable[Row]) -> RenderableType:
    table = _table("Series", "series", "from", "instances", "last instance", "state", "why")
    for row in rows:
        why = [row["reason"] or "; ".join(row["evidence"])]
        if row["left_out"]:
            why.append(f"left out {len(row['left_out'])}: {row['left_out'][0]['reason']}")
        table.add_row(
            row["series_uid"],
            ", ".join(row["calling_ae_titles"]),
            f"{row['modality']} {row['instances']}",
            _clock(row["last_instance_at"]),
            str(row["state"]),
            "; ".join(why),
        )
    return table


def _job_table(rows: Iterable[Row]) -> RenderableType:
    table = _table("Jobs", "series", "model", "run", "state", "what")
    for row in rows:
        report = row["report"]
        structures = [f"{one['name']} {one['volume_cm3']:.1f} cm³" for one in report.get("structures", [])]
        omitted = [f"no {one['name']}: {one['reason']}" for one in report.get("omitted", [])]
        seconds = sum(value for name, value in row["timings"].items() if name != "queued")
        took = [f"{seconds:.1f} s, {report['computed_by']}"] if report else []
        what = [row["reason"] or row["progress"], *structures, *omitted, *took]
        table.add_row(
            row["series_uid"], row["model"], str(row["run_number"]), str(row["state"]), "; ".join(filter(None, what))
        )
    return table


def _delivery_table(rows: Iterable[Row]) -> RenderableType:
    table = _table("Deliveries", "series", "destination", "state", "tries", "next try", "why")
    for row in rows:
        series_uid = row["job"].split("/")[0]
        table.add_row(
            series_uid,
            row["destination"],
            str(row["state"]),
            str(row["attempt"]),
            _clock(row["next_attempt_at"]),
            "; ".join(filter(None, [row["reason"], *_answers(row["receipts"])])),
        )
    return table


def _answers(receipts: Iterable[Row]) -> list[str]:
    return [
        " ".join(filter(None, [one["outcome"], f"0x{one['status']:04X}", one.get("error_comment")])) for one in receipts
    ]


def _event_table(rows: Iterable[Row]) -> RenderableType:
    table = _table("Events", "at", "what", "who", "why")
    for row in rows:
        table.add_row(_clock(row["at"]), row["kind"], row["subject"], row["text"])
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _clock(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
