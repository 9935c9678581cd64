"""What the leader does with the work of a process that is dead."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from node.adapters.engine import Tasks, prepare
from node.adapters.guard import Member
from node.adapters.ledger import Ledger
from node.adapters.tables import is_postgresql
from node.domain.jobs import JobState
from node.machines import Handover
from node.queueing import CONTOUR, QUEUES, DurableQueue, contour_task
from node.stages.setbacks import MOST_SETBACKS
from tests.unit.test_ledger import FACTS, JOB, SERIES

KEY: str = JOB["job"]
WORKER = "contourer@b"


class World:
    """A ledger and an engine, a worker with a job, and a leader that is told who is dead."""

    def __init__(self, database: sa.Engine) -> None:
        prepare(database, QUEUES)
        self.database = database
        self.tasks = Tasks(database)
        self.queue = DurableQueue(self.tasks)
        self.leader, self.worker = Ledger(database), Ledger(database, worker=WORKER)
        self.dead_pids: list[int] = []
        self.cleaned: list[str] = []
        self.handover = Handover(
            peers=self,  # type: ignore[arg-type]
            ledger=self.leader,
            tasks=self.tasks,
            queue=self.queue,
            remove_unfinished=self.cleaned.append,
            now=lambda: 1000.0,
        )
        self.leader.accept_series(SERIES, FACTS, [], [JOB], self.queue.contour(KEY))
        self.worker.begin_job(KEY, 1)
        self._take(contour_task(KEY, 1).key)

    def _take(self, task: str) -> None:
        """Let the engine have given a task to the worker."""
        schema = "dbos." if is_postgresql(self.database) else ""
        taken = f"UPDATE {schema}workflow_status SET status = 'PENDING', executor_id = :by WHERE workflow_uuid = :task"
        with self.database.begin() as connection:
            assert connection.execute(sa.text(taken), {"by": WORKER, "task": task}).rowcount == 1

    # the peers
    def end_frozen(self) -> list[str]:
        return []

    @contextmanager
    def dead(self) -> Iterator[list[Member]]:
        yield [Member(name=WORKER, machine="b", role="contourer", pid=pid) for pid in self.dead_pids]

    def statuses(self) -> dict[int, str]:
        """Give the engine's status of the job's first tasks, by their attempt."""
        keys = {contour_task(KEY, attempt).key: attempt for attempt in (1, 2)}
        return {keys[key]: status for key, status in self.tasks.status_of(list(keys)).items()}


@pytest.fixture
def world(open_node_database: Callable[[], sa.Engine]) -> Iterator[World]:
    made = World(open_node_database())
    yield made
    made.tasks.close()


def test_the_job_of_a_worker_that_died_is_set_back_and_its_task_goes_to_another(world: World) -> None:
    world.worker.note_progress(KEY, "predict 3 of 64")
    world.dead_pids = [12]

    world.handover.look()

    job = world.leader.job(KEY)
    assert job is not None
    said = f"Its worker {WORKER} was lost while at: predict 3 of 64."
    assert (job["state"], job["attempt"], job["reason"]) == (JobState.WAITING, 2, said)
    assert job["setbacks"] == [{"attempt": 1, "reason": said, "at": 1000.0}]
    assert world.statuses() == {1: "ENQUEUED", 2: "DELAYED"}
    assert world.cleaned == [WORKER]


def test_a_job_that_took_worker_after_worker_with_it_fails_with_the_reason(world: World) -> None:
    before = [{"attempt": number, "reason": "lost", "at": 1.0} for number in range(1, MOST_SETBACKS)]
    world.leader.move_job(KEY, JobState.CONTOURING, setbacks=before)
    world.dead_pids = [12]

    world.handover.look()

    job = world.leader.job(KEY)
    assert job is not None
    assert job["state"] == JobState.FAILED
    assert f"Given up after {MOST_SETBACKS} such tries" in job["reason"]


def test_the_job_of_a_worker_that_ended_in_order_goes_to_another_without_a_setback(world: World) -> None:
    world.dead_pids = [0]

    world.handover.look()

    job = world.leader.job(KEY)
    assert job is not None
    assert (job["state"], job["attempt"], job["setbacks"]) == (JobState.CONTOURING, 1, [])
    assert world.statuses() == {1: "ENQUEUED"}
    with world.database.connect() as connection:
        schema = "dbos." if is_postgresql(world.database) else ""
        queues = connection.execute(sa.text(f"SELECT queue_name FROM {schema}workflow_status")).scalars().all()
    assert list(queues) == [CONTOUR]


def test_the_associations_of_a_receiver_that_died_are_lost(world: World) -> None:
    world.leader.association_contributes(f"{WORKER}/1", "CT1", SERIES, 1.0)
    world.leader.association_contributes("receiver@a/1", "CT2", SERIES, 1.0)
    world.dead_pids = [12]

    world.handover.look()

    endings = {one.calling_ae_title: one.ending for one in world.leader.associations_of(SERIES)}
    assert endings == {"CT1": "lost", "CT2": "open"}
