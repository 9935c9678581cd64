"""What the node knows, for people and for scripts."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from node.adapters.ledger import Ledger
from node.config import Config
from node.disk_status import disk_lines, disk_status
from node.domain.delivery import is_under_way, told_of
from node.domain.errors import SetupError
from node.domain.habits import Habits, Lesson, habits_of
from node.domain.jobs import (
    DELIVERY_STATES,
    DELIVERY_TRANSITIONS,
    JOB_STATES,
    JOB_TRANSITIONS,
    SERIES_STATES,
    SERIES_TRANSITIONS,
    DeliveryState,
    StateMeaning,
    short_id,
)
from node.domain.patience import after_release_s, is_known, while_open_s
from node.domain.series import CompletionPolicy
from node.opening import Node

Row = Mapping[str, Any]


def read_status(config: Config) -> dict[str, Any]:
    """Read series, jobs, deliveries and events from the ledger, the latest first, and the disk, as JSON values.

    Raises
    ------
    SetupError
        No node has ever run with this data folder.
    """
    ledger = open_ledger(config)
    return {**status_of(ledger), "disk": disk_status(config, ledger, time.time())}


def open_ledger(config: Config) -> Ledger:
    """Open the ledger of a node that runs or has run; raises as `open_node`."""
    return open_node(config).ledger


def open_node(config: Config) -> Node:
    """Open what a node that runs or has run keeps.

    Raises
    ------
    SetupError
        No node has ever run with this data folder.
    """
    node = Node(config=config)
    if not node.is_shared and not node.database_path.exists():
        raise SetupError(
            f"There is no node's database in {node.data_dir}.",
            "Start the node (delineate serve), or name its configuration with --config.",
        )
    return node


def read_senders(config: Config) -> list[dict[str, Any]]:
    """Give what was learned of every sender, and the waits that follow from it and ``[completion]``, as JSON values.

    Raises
    ------
    SetupError
        No node has ever run with this data folder.
    """
    lessons: dict[str, list[Lesson]] = {}
    for lesson in open_ledger(config).all_lessons():
        lessons.setdefault(lesson.calling_ae_title, []).append(lesson)
    policy = config.completion.policy()
    return [_sender(habits_of(learned), policy) for learned in lessons.values()]


def _sender(habits: Habits, policy: CompletionPolicy) -> dict[str, Any]:
    known = is_known(habits, policy)
    trusted = known or policy.new_senders == "settle"
    return {
        **asdict(habits),
        "known": known,
        # None: the quiet period.
        "after_release_s": after_release_s(habits, policy) if trusted else None,
        "while_open_s": while_open_s(habits, policy) if trusted else None,
        "quiet_period_s": policy.quiet_period_s,
    }


def print_senders(senders: Sequence[Row], console: Console) -> None:
    """Print what every sender does and how long it is waited for; one fact per line, never folded."""
    if not senders:
        console.print("No series was seen whole yet.")
    for row in senders:
        _print(console, *_sender_lines(row))


def _sender_lines(row: Row) -> Iterator[str]:
    seen = f"{row['series']} series seen whole, the last at {_clock(row['last_at'])}"
    yield f"{row['calling_ae_title']}: {seen}"
    several = "over several associations" if row["several_associations"] else "each in one association"
    yield f"  sends {several}; longest gap within one {row['within_s']:.1f} s, between two {row['between_s']:.1f} s"
    if row["after_release_s"] is None:
        yield f"  not known yet: waited for {row['quiet_period_s']:g} s of silence"
        return
    waits = f"{row['after_release_s']:.1f} s after a release, {row['while_open_s']:.1f} s while an association is open"
    yield f"  waited for: {waits}; {row['quiet_period_s']:g} s or more where something speaks against it"


def status_of(ledger: Ledger) -> dict[str, Any]:
    """Give what an open ledger knows, as JSON values; the latest first."""
    outputs = ledger.all_outputs()
    return {
        "series": [_without(row, "stamp") for row in ledger.all_series()],
        "jobs": [{**row, "outputs": outputs.get(row["job"], [])} for row in ledger.all_jobs()],
        "deliveries": ledger.all_deliveries(),
        "events": ledger.events(),
        "workers": ledger.workers(),
    }


def _without(row: Row, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def print_status(status: Mapping[str, Any], console: Console) -> None:
    """Print every series with its jobs and their deliveries, the events, the disk; one fact per line, never folded."""
    if not status["series"] and not status["events"]:
        console.print("Nothing was received yet.")
    for worker in status["workers"]:
        _print(console, _worker_line(worker))
    jobs, deliveries = _by(status["jobs"], "series_uid"), _by(status["deliveries"], "job")
    told: dict[str, list[Row]] = {}
    for delivery in status["deliveries"]:
        if (of := told_of(delivery["job"])) is not None:
            told.setdefault(of, []).append(delivery)
    for series in status["series"]:
        _print(console, *_series_lines(series))
        own = jobs.get(series["series_uid"], [])
        several = len({job["fingerprint"] for job in own}) > 1
        for job in own:
            _print(console, *_job_lines(job, f", volume {job['fingerprint'][:8]}" if several else ""))
            for delivery in deliveries.get(job["job"], []):
                _print(console, *_delivery_lines(delivery, job["outputs"]))
            for report in told.get(job["job"], []):
                _print(console, "    no contours; reported", *_delivery_lines(report, _report_of(report)))
        for report in told.get(series["series_uid"], []):
            _print(console, "    not contoured; reported", *_delivery_lines(report, _report_of(report)))
    for event in status["events"]:
        _print(console, f"{_clock(event['at'])} {event['kind']}, {event['subject']}: {event['text']}")
    if "disk" in status:
        _print(console, *disk_lines(status["disk"]))


def print_states(console: Console) -> None:
    """Print what every state means, what to do, and what may follow."""
    for title, states, transitions in _STATES:
        table = _table(title, "state", "means", "what to do", "may become")
        for state, words in states.items():
            following = ", ".join(one for one in states if one != state and one in transitions[state])
            table.add_row(str(state), words.meaning, words.what_to_do, following)
        console.print(table)


_STATES: tuple[tuple[str, Mapping[Any, StateMeaning], Mapping[Any, frozenset[Any]]], ...] = (
    ("Series", SERIES_STATES, SERIES_TRANSITIONS),
    ("Jobs", JOB_STATES, JOB_TRANSITIONS),
    ("Deliveries", DELIVERY_STATES, DELIVERY_TRANSITIONS),
)


def _by(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[key], []).append(row)
    return grouped


def _print(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False, emoji=False)


def _worker_line(row: Row) -> str:
    if not row["pid"]:
        return f"process {row['name']}: ended in order"
    return f"process {row['name']}: {row['doing'] or 'at work'}, seen {max(0.0, row['seen_s']):.0f} s ago"


def _series_lines(row: Row) -> Iterator[str]:
    yield f"series {row['series_uid']}"
    sender = ", ".join(row["calling_ae_titles"]) or "unknown sender"
    images = f"{row['modality']}, {row['instances']} instance{'s' * (row['instances'] != 1)}"
    yield f"  {row['state']}: {images} from {sender}, the last at {_clock(row['last_instance_at'])}"
    for reason in filter(None, [row["reason"], *row["evidence"]]):
        yield f"    {reason}"
    if row["removed_at"] is not None:
        yield f"    images were removed at {_clock(row['removed_at'])}"
    if row["look_again_at"] is not None:
        yield f"    looked at again at {_clock(row['look_again_at'])} at the latest"
    if row["left_out"]:
        yield f"    left out: {len(row['left_out'])}, the first because {row['left_out'][0]['reason']}"


def _job_lines(row: Row, volume: str) -> Iterator[str]:
    report = row["report"]
    run = f"run {row['run_number']}{volume}, job {short_id(row['job'])}"
    yield f"  {row['model']}, {run}: {row['state']}{_progress(row)}"
    if row["superseded_by"]:
        yield f"    superseded by job {short_id(row['superseded_by'])}"
    if row["reason"]:
        yield f"    {row['reason']}"
    for one in row["setbacks"]:
        yield f"    try {one['attempt']} at {_clock(one['at'])}: {one['reason']}"
    for one in report.get("structures", []):
        yield f"    {one['name']:<16}{one['volume_cm3']:>10.1f} cm³"
    for one in report.get("omitted", []):
        yield f"    no {one['name']}: {one['reason']}"
    for one in report.get("renamed", []):
        yield f"    {one['structure']} is called {one['name']} for {one['profile']}: {one['reason']}"
    for note in report.get("notes", []):
        yield f"    note: {note}"
    if report:
        seconds = sum(value for name, value in row["timings"].items() if name != "queued")
        yield f"    {seconds:.1f} s, version {report['model_version']}, {report['computed_by']}"


def _progress(row: Row) -> str:
    """Say what a worker is at, and since when; a clock that was put back shows no time that is yet to come."""
    if not row["progress"]:
        return ""
    return f": {row['progress']}, {max(0.0, time.time() - row['progress_at']):.0f} s ago"


def _delivery_lines(row: Row, outputs: Iterable[Row]) -> Iterator[str]:
    # Of a structure set's form the profile; the encoding of the segmentation beside it is said there.
    kinds = {one["sop_instance_uid"]: f"{one['kind'].upper()} ({one['form'].split(', ')[0]})" for one in outputs}
    # To ask for a proof is no try to send.
    has_tried = row["attempt"] > 1 and row["next_attempt_at"] is None and not row["confirmation"]
    tries = f" after {row['attempt']} tries" if has_tried else ""
    is_waiting = row["next_attempt_at"] is not None and row["state"] != DeliveryState.DELIVERED
    again = f", try {row['attempt']} at {_clock(row['next_attempt_at'])}" if is_waiting else ""
    via = f" via {row['via']}" if row["via"] else ""
    said = [row["reason"], *(_answer(one, kinds) for one in row["receipts"])]
    yield f"    to {row['destination']}{via}: {row['state']}{tries}{again}; {'; '.join(filter(None, said))}".rstrip(
        "; "
    )
    if row["confirmation"]:
        yield f"      {_proof(row)}"
    if row["alarmed_at"] is not None and is_under_way(row):
        yield f"      overdue since {_clock(row['alarmed_at'])}"


def _report_of(delivery: Row) -> list[Row]:
    return [{"sop_instance_uid": uid, "kind": "sr", "form": "Basic Text"} for uid in delivery["offers"][0]]


def _proof(row: Row) -> str:
    by = {"commitment": "Storage Commitment", "find": "C-FIND"}[row["confirmation"]["by"]]
    if row["confirmed_at"] is not None:
        return f"confirmed by {by} at {_clock(row['confirmed_at'])}"
    if row["next_attempt_at"] is None:
        return f"not confirmed by {by}"
    return f"not confirmed by {by} yet, asked again at {_clock(row['next_attempt_at'])} at the latest"


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
