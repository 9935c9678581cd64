"""What ``delineate status`` prints of a job: what is being done, since when, and what went wrong before."""

import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from node.adapters.database import open_database
from node.adapters.ledger import Ledger
from node.domain.jobs import JobState
from node.status import print_status, status_of
from tests.unit.test_ledger import FACTS, JOB, MANIFEST, SERIES, enqueue_nothing

KEY: str = JOB["job"]
NOW = 1_700_000_000.0
SEGV = "The process ended (signal 11, SIGSEGV) while at: predict 3 of 64 (inference)."


class Told:
    """A ledger with one job, and what is printed of it."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.database = open_database(folder / "node.sqlite")
        self.ledger = Ledger(self.database, now=lambda: self.now)
        self.ledger.accept_series(SERIES, FACTS, [MANIFEST], [JOB], enqueue_nothing)
        self.ledger.move_job(KEY, JobState.CONTOURING)

    def lines(self) -> list[str]:
        """Print the status; gives the job's lines."""
        console = Console(file=StringIO(), width=40)
        print_status(status_of(self.ledger), console)
        written: str = console.file.getvalue()  # type: ignore[attr-defined]
        lines = written.splitlines()
        return lines[next(number for number, line in enumerate(lines) if line.startswith("  m, run 1")) :]

    def job(self) -> dict[str, Any]:
        """Give the job as JSON holds it."""
        (job,) = status_of(self.ledger)["jobs"]
        return dict(job)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told(tmp_path)
    monkeypatch.setattr(time, "time", lambda: made.now)
    return made


def test_what_is_done_is_shown_with_its_age(told: Told) -> None:
    told.ledger.note_progress(KEY, "predict 37 of 64 (inference)")
    told.now += 12.4

    assert told.lines() == ["  m, run 1, job 3f947854: contouring: predict 37 of 64 (inference), 12 s ago"]
    assert (told.job()["progress"], told.job()["progress_at"]) == ("predict 37 of 64 (inference)", NOW)


def test_a_clock_that_was_put_back_shows_nothing_that_is_yet_to_come(told: Told) -> None:
    told.ledger.note_progress(KEY, "store")
    told.now -= 3600.0

    assert told.lines() == ["  m, run 1, job 3f947854: contouring: store, 0 s ago"]


def test_progress_that_comes_late_says_nothing_of_a_job_that_is_in_no_hands(told: Told) -> None:
    told.ledger.note_progress(KEY, "store")
    told.ledger.postpone_job(KEY, {"reason": "no memory", "attempt": 2}, enqueue_nothing)

    told.ledger.note_progress(KEY, "store")

    assert told.lines() == ["  m, run 1, job 3f947854: waiting", "    no memory"]
    assert told.job()["progress_at"] is None


def test_every_setback_is_shown_also_of_a_job_that_came_to_its_end(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    setbacks = [{"attempt": 1, "reason": SEGV, "at": NOW}]
    told.ledger.postpone_job(KEY, {"reason": SEGV, "attempt": 2, "setbacks": setbacks}, enqueue_nothing)
    told.ledger.move_job(KEY, JobState.CONTOURING)
    told.ledger.finish_job(KEY, {"reason": ""}, [], {}, enqueue_nothing)

    assert told.lines() == ["  m, run 1, job 3f947854: contoured", f"    try 1 at 2023-11-14 22:13:20: {SEGV}"]
    assert told.job()["setbacks"] == setbacks
