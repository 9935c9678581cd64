"""What ``delineate jobs`` and its kin print and do."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console

from node.config import Config
from node.domain.jobs import (
    DELIVERY_STATES,
    JOB_STATES,
    UNFINISHED_DELIVERIES,
    UNFINISHED_JOBS,
    DeliveryState,
    JobState,
    Priority,
    short_id,
)
from node.opening import Node
from node.stages.ports import Row
from node.stages.steer import RefusedError, Steered, Steering
from node.status import open_node

_SETTLED = frozenset({JobState.SUPERSEDED, JobState.CANCELLED})


def jobs_command(
    config: Config, wanted: Sequence[str], *, unfinished: bool, limit: int, console: Console | None
) -> None:
    """Print jobs with their deliveries, the latest first."""
    node = open_node(config)
    jobs: Sequence[Row]
    if wanted:
        with steering(node) as steers:
            jobs = _found(steers, wanted)
    else:
        jobs = node.ledger.all_jobs()
    deliveries: dict[str, list[Row]] = {}
    for delivery in sorted(node.ledger.all_deliveries(), key=lambda one: str(one["destination"])):
        deliveries.setdefault(delivery["job"], []).append(delivery)
    rows = [_told(row, deliveries.get(row["job"], [])) for row in jobs]
    rows = [row for row in rows if not unfinished or _needs_a_look(row)][:limit]
    if console is None:
        print(json.dumps(rows, indent=2, default=str))
        return
    if not rows:
        console.print("No job is unfinished." if unfinished else "There is no job yet.")
    for row in rows:
        for line in _lines(row):
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def steer_command(
    config: Config, wanted: Sequence[str], act: Callable[[Steering, Row], list[Steered]], console: Console | None
) -> None:
    """Do one thing to each job that is named."""
    with steering(open_node(config)) as steers:
        done = [one for row in _found(steers, wanted) for one in act(steers, row)]
    _print_done(done, console)


def run_now_command(config: Config, wanted: Sequence[str], console: Console | None) -> None:
    """Let jobs, deliveries or growing series go at once."""
    with steering(open_node(config)) as steers:
        done = [one for each in wanted for one in _run_now(steers, each)]
    _print_done(done, console)


def _run_now(steers: Steering, wanted: str) -> list[Steered]:
    try:
        rows = steers.find(wanted)
    except RefusedError:
        if set(wanted) - set("0123456789."):
            raise
        steers.run_series_now(wanted)
        return [Steered(job="", did=f"series {wanted} is judged at once")]
    return [one for row in rows for one in steers.run_now(row)]


@contextmanager
def steering(node: Node) -> Iterator[Steering]:
    """Give what does a person's wishes, on the node's own ledger and queue, whether it runs or not."""
    routes = [route.route() for route in node.config.routes]
    try:
        yield Steering(ledger=node.ledger, queue=node.queue, routes=routes, now=time.time)
    finally:
        node.queue.tasks.close()


def _found(steers: Steering, wanted: Iterable[str]) -> list[Row]:
    return list({row["job"]: row for each in wanted for row in steers.find(each)}.values())


def _print_done(done: Sequence[Steered], console: Console | None) -> None:
    if console is None:
        print(json.dumps([asdict(one) for one in done], indent=2))
        return
    for one in done:
        to = f" to {one.destination}" if one.destination else ""
        subject = f"{short_id(one.job)}: " if one.job else ""
        console.print(f"{subject}{one.did}{to}", soft_wrap=True, highlight=False, markup=False)


# Words ---------------------------------------------------------------------------------------------------------------


def _told(row: Row, deliveries: Sequence[Row]) -> dict[str, Any]:
    meaning = JOB_STATES[JobState(row["state"])]
    shown = ("job", "series_uid", "model", "run_number", "route", "state", "reason", "progress", "attempt", "setbacks")
    return {
        "id": short_id(row["job"]),
        **{name: row[name] for name in shown},
        "priority": Priority(row["priority"]).name,
        "superseded_by": row["superseded_by"] and short_id(row["superseded_by"]),
        "since": row["updated_at"],
        "what_to_do": meaning.what_to_do,
        "deliveries": [
            {name: one[name] for name in ("destination", "state", "reason", "attempt", "next_attempt_at")}
            for one in deliveries
        ],
    }


def _needs_a_look(row: dict[str, Any]) -> bool:
    if row["state"] in UNFINISHED_JOBS:
        return True
    if row["state"] == JobState.CONTOURED:
        return any(one["state"] != DeliveryState.DELIVERED for one in row["deliveries"])
    return row["state"] not in _SETTLED and not row["superseded_by"]


def _lines(row: dict[str, Any]) -> Iterator[str]:
    stat = " STAT" if row["priority"] == "STAT" else ""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["since"]))
    yield f"{row['id']}  {row['state']}{stat}  {row['model']}, run {row['run_number']}, since {since}"
    yield f"          series {row['series_uid']}"
    for said in filter(None, (row["progress"], row["reason"])):
        yield f"          {said}"
    if row["superseded_by"]:
        yield f"          superseded by {row['superseded_by']}"
    if row["state"] not in (JobState.QUEUED, JobState.CONTOURING, JobState.CONTOURED):
        yield f"          what to do: {row['what_to_do']}"
    for one in row["deliveries"]:
        yield f"          to {one['destination']}: {one['state']}{_again(one)}"
        if one["state"] not in (*UNFINISHED_DELIVERIES, DeliveryState.DELIVERED):
            yield f"            what to do: {DELIVERY_STATES[DeliveryState(one['state'])].what_to_do}"


def _again(delivery: dict[str, Any]) -> str:
    at = delivery["next_attempt_at"]
    again = f", try {delivery['attempt']} at {time.strftime('%H:%M:%S', time.localtime(at))}" if at else ""
    return again + (f"; {delivery['reason']}" if delivery["reason"] else "")
