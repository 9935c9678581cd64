"""What the engine lost or gave up is enqueued again, or failed with the reason; nothing else is touched."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from node.adapters.engine import Tasks, prepare
from node.adapters.ledger import Ledger
from node.adapters.tables import is_postgresql
from node.config import load
from node.domain.jobs import DeliveryState, JobState
from node.queueing import QUEUES, contour_task, deliver_task, reconcile, try_what_waits_for_a_former_clock
from tests.unit.test_ledger import FACTS, JOB, SERIES, enqueue_nothing

KEY: str = JOB["job"]
CONFIG = load(Path("conf/node.toml"))


class Engine:
    """A node's ledger and engine without a worker."""

    def __init__(self, database: sa.Engine) -> None:
        self.database = database
        prepare(self.database, QUEUES)
        self.ledger = Ledger(self.database)
        self.tasks = Tasks(self.database)
        self.ledger.accept_series(SERIES, FACTS, [{"fingerprint": FACTS["fingerprint"]}], [JOB], enqueue_nothing)

    def reconcile(self) -> None:
        """Do what the dispatcher does every few seconds."""
        reconcile(self.ledger, self.tasks, config=CONFIG)

    def set_status(self, key: str, status: str) -> None:
        """Let the engine have given a task up."""
        schema = "dbos." if is_postgresql(self.database) else ""
        change = f"UPDATE {schema}workflow_status SET status = :status WHERE workflow_uuid = :key"
        with self.database.begin() as connection:
            changed = connection.execute(sa.text(change), {"status": status, "key": key})
            assert changed.rowcount == 1

    def job(self) -> dict[str, Any]:
        """Give the job's row."""
        row = self.ledger.job(KEY)
        assert row is not None
        return row

    def finish(self) -> None:
        """Bring the job to its delivery, which the engine does not know."""
        self.ledger.move_job(KEY, JobState.CONTOURING)
        self.ledger.finish_job(KEY, {}, [], {"tps": [[]]}, enqueue_nothing)


@pytest.fixture
def engine(open_node_database: Callable[[], sa.Engine]) -> Iterator[Engine]:
    made = Engine(open_node_database())
    yield made
    made.tasks.close()


def test_a_job_that_the_engine_does_not_know_is_enqueued_once(engine: Engine) -> None:
    engine.reconcile()
    engine.reconcile()

    task = contour_task(KEY, 1).key
    assert engine.tasks.status_of([task]) == {task: "ENQUEUED"}
    assert engine.job()["state"] == JobState.QUEUED


@pytest.mark.parametrize("status", ["ERROR", "CANCELLED"])
def test_a_job_whose_task_failed_is_tried_anew_later(engine: Engine, status: str) -> None:
    engine.reconcile()
    engine.set_status(contour_task(KEY, 1).key, status)

    engine.reconcile()
    engine.reconcile()

    job = engine.job()
    assert (job["state"], job["attempt"], job["reason"]) == (JobState.WAITING, 2, "internal error")
    following = [contour_task(KEY, attempt).key for attempt in (2, 3)]
    assert engine.tasks.status_of(following) == {following[0]: "DELAYED"}


def test_a_job_whose_task_ended_without_it_is_tried_anew(engine: Engine) -> None:
    engine.reconcile()
    engine.ledger.move_job(KEY, JobState.CONTOURING)
    engine.set_status(contour_task(KEY, 1).key, "SUCCESS")

    engine.reconcile()

    assert (engine.job()["state"], engine.job()["attempt"]) == (JobState.WAITING, 2)


def test_a_job_whose_task_ended_well_is_left_alone(engine: Engine) -> None:
    engine.reconcile()
    unfinished = engine.ledger.unfinished_jobs()
    engine.finish()
    engine.set_status(contour_task(KEY, 1).key, "SUCCESS")
    engine.ledger.unfinished_jobs = lambda: unfinished  # type: ignore[method-assign]

    engine.reconcile()

    assert engine.job()["state"] == JobState.CONTOURED


def test_a_job_whose_task_fails_again_and_again_fails_with_the_number(engine: Engine) -> None:
    for attempt in range(1, 7):
        engine.reconcile()
        engine.set_status(contour_task(KEY, attempt).key, "ERROR")
        engine.reconcile()

    assert engine.job()["state"] == JobState.FAILED
    assert "6 times" in engine.job()["reason"]


def test_a_job_that_brought_its_process_down_too_often_fails_with_the_reason(engine: Engine) -> None:
    engine.reconcile()
    engine.set_status(contour_task(KEY, 1).key, "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

    engine.reconcile()

    assert engine.job()["state"] == JobState.FAILED
    assert "process ended" in engine.job()["reason"]


@pytest.mark.parametrize("status", ["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"])
def test_a_delivery_is_never_given_up_for_a_fault_of_ours(engine: Engine, status: str) -> None:
    engine.finish()
    for attempt in range(1, 9):
        engine.reconcile()
        engine.set_status(deliver_task(KEY, "tps", attempt).key, status)
        engine.reconcile()

    delivery = engine.ledger.delivery(KEY, "tps")
    assert delivery is not None
    assert (delivery["state"], delivery["attempt"]) == (DeliveryState.WAITING, 9)
    assert delivery["next_attempt_at"] is not None


def test_a_job_and_its_task_are_there_together_or_not_at_all(engine: Engine) -> None:
    other = {**JOB, "job": "1.2.3/ffff/m/2", "run_number": 2}
    task = contour_task(other["job"], 1)

    def enqueue_and_fail(connection: sa.Connection) -> None:
        engine.tasks.enqueue(connection, task)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        engine.ledger.accept_series(SERIES, FACTS, [], [other], enqueue_and_fail)
    assert (engine.ledger.job(other["job"]), engine.tasks.status_of([task.key])) == (None, {})

    engine.ledger.accept_series(SERIES, FACTS, [], [other], lambda connection: engine.tasks.enqueue(connection, task))
    assert engine.ledger.job(other["job"]) is not None
    assert engine.tasks.status_of([task.key]) == {task.key: "ENQUEUED"}


@pytest.mark.parametrize(("put_back_s", "state"), [(3600.0, JobState.QUEUED), (0.0, JobState.WAITING)])
def test_a_job_that_waits_is_tried_at_once_when_the_clock_was_put_back(
    engine: Engine, put_back_s: float, state: JobState
) -> None:
    engine.reconcile()
    engine.ledger.move_job(KEY, JobState.CONTOURING)
    engine.ledger.postpone_job(KEY, {"attempt": 2, "reason": "The disk is low."}, enqueue_nothing)

    for _ in range(2):
        try_what_waits_for_a_former_clock(engine.ledger, engine.tasks, time.time() - put_back_s)

    assert (engine.job()["state"], engine.job()["reason"]) == (state, "The disk is low.")
    task = contour_task(KEY, 3).key
    assert engine.tasks.status_of([task]) == ({task: "ENQUEUED"} if put_back_s else {})


@pytest.mark.parametrize("put_back_s", [3600.0, 0.0])
def test_a_delivery_that_waits_is_tried_at_once_when_the_clock_was_put_back(engine: Engine, put_back_s: float) -> None:
    engine.finish()
    engine.ledger.move_delivery(KEY, "tps", DeliveryState.WAITING, {"attempt": 2, "reason": "down"}, None)

    for _ in range(2):
        try_what_waits_for_a_former_clock(engine.ledger, engine.tasks, time.time() - put_back_s)

    task = deliver_task(KEY, "tps", 3).key
    assert engine.tasks.status_of([task]) == ({task: "ENQUEUED"} if put_back_s else {})
