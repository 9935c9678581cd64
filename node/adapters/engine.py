"""The durable queue: DBOS Transact on the node's own database.

A task is a named function of small JSON arguments with a deterministic key; it runs at least once, also after a
``kill -9``, and is enqueued within the transaction that made it necessary. Tasks must be idempotent.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

from node.domain.errors import StorageError

# Pinned: by default the engine hashes the workflows' source, and after any change of it the jobs in flight would sit
# untouched, without a word. Raise it only together with a workflow of a new name that finishes the old ones.
WORKFLOW_VERSION = "workflows-1"

# How often a worker looks for new work; each look is one small read.
_POLL_S = 0.2

# An explicit number always: the engine's default (0) goes before every explicit one.
ROUTINE_PRIORITY = 10

# Between two tries at a task for which the ledger cannot be used.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
# Between two looks for tasks that nobody is at; one that is seen by two of them is one.
_TEND_EVERY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue: how many of its tasks a process runs at a time; partitioned: per partition key."""

    name: str
    at_a_time: int
    partitioned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to do: the key makes it unique for ever."""

    queue: str
    key: str
    arguments: tuple[Any, ...]
    partition: str | None = None
    delay_s: float = 0.0
    # The smaller number goes first.
    priority: int = ROUTINE_PRIORITY


class Tasks:
    """Enqueues tasks; runs none. Cheap enough for every process."""

    def __init__(self, database: sa.Engine) -> None:
        self._client = DBOSClient(
            system_database_engine=database, serializer=DBOSPortableJSONSerializer(), application_name="delineate"
        )

    def enqueue(self, connection: sa.Connection, task: Task) -> None:
        """Enqueue a task in the caller's transaction; a key that exists already is left alone."""
        self._client.enqueue_in_transaction(connection, _options(task), *task.arguments)

    def enqueue_now(self, task: Task) -> None:
        """Enqueue a task in a transaction of its own."""
        self._client.enqueue(_options(task), *task.arguments)

    def status_of(self, keys: Sequence[str]) -> dict[str, str]:
        """Give the engine's own status of tasks, by key; unknown ones are missing."""
        if not keys:
            return {}
        found = self._client.list_workflows(workflow_ids=list(keys), load_input=False, load_output=False)
        return {workflow.workflow_id: workflow.status for workflow in found}

    def hand_on(self, executor_id: str) -> int:
        """Enqueue again every task that a worker was at which is dead for certain; gives their number.

        The engine does so by itself only where a worker of the same name starts again.
        """
        found = self._client.list_workflows(
            status="PENDING", executor_id=executor_id, load_input=False, load_output=False
        )
        for workflow in found:
            self._client.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)
        return len(found)

    def close(self) -> None:
        """Let go of the database."""
        self._client.destroy()


def _options(task: Task) -> Any:
    options: dict[str, Any] = {
        "workflow_name": task.queue,
        "queue_name": task.queue,
        "workflow_id": task.key,
        "app_version": WORKFLOW_VERSION,
        "priority": task.priority,
    }
    if task.partition is not None:
        options["queue_partition_key"] = task.partition
    if task.delay_s > 0:
        options["delay_seconds"] = task.delay_s
    return options


def prepare(database: sa.Engine, queues: Sequence[Queue]) -> None:
    """Make the engine's tables and queues, before any process that only enqueues."""
    # It ends with this interval's end; a second of it would be most of a start.
    _start_engine(database, "prepare", log_level="ERROR", listen_every_s=0.05)
    DBOS.listen_queues([])
    DBOS.launch()
    for queue in queues:
        limit = {"partition_worker_concurrency" if queue.partitioned else "worker_concurrency": queue.at_a_time}
        DBOS.register_queue(queue.name, polling_interval_sec=_POLL_S, **limit)
    DBOS.destroy()


class Worker:
    """Runs the tasks of its queues in this process until closed.

    Parameters
    ----------
    executor_id
        Fixed name of this worker: after a crash the same name finds its unfinished tasks. Two live processes must
        never share one.
    serves
        Names of the queues that this process serves; ``prepare`` made them.
    functions
        Queue name -> function that its tasks call.
    maximum_starts
        A task that was started so often without an end is put aside; None: never.
    """

    def __init__(
        self,
        database: sa.Engine,
        *,
        executor_id: str,
        serves: Sequence[str],
        functions: Mapping[str, Callable[..., None]],
        maximum_starts: int | None,
    ) -> None:
        self._executor_id = executor_id
        self._closing = threading.Event()
        # Keys of the tasks that this process is at.
        self._running: set[str] = set()
        _start_engine(database, executor_id, log_level="WARNING", listen_every_s=1.0)
        for name, function in functions.items():
            DBOS.workflow(name=name, max_recovery_attempts=maximum_starts)(self._as_workflow(name, function))
        DBOS.listen_queues(list(serves))
        DBOS.launch()
        threading.Thread(target=self._tend, daemon=True).start()

    def close(self) -> None:
        """Stop taking tasks; a running one is finished by the next start."""
        self._closing.set()
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def _as_workflow(self, name: str, function: Callable[..., None]) -> Callable[..., None]:
        def patient(*arguments: Any) -> None:
            """Do the task; while the ledger cannot be used, nothing can be, and an end could not be written down."""
            pause_s = _FIRST_PAUSE_S
            while True:
                try:
                    return function(*arguments)
                except StorageError:
                    if self._closing.wait(pause_s):
                        raise
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

        def workflow(*arguments: Any) -> None:
            key = str(DBOS.workflow_id)
            self._running.add(key)
            try:
                DBOS.run_step({"name": name}, patient, *arguments)
            finally:
                self._running.discard(key)

        return workflow

    def _tend(self) -> None:
        """Begin anew what the engine thinks that we are at, and we are not.

        Where the disk is full when a task begins or ends, the engine cannot write that down, and leaves it as running;
        nobody would do it before the next start.
        """
        suspects: set[str] = set()
        while not self._closing.wait(_TEND_EVERY_S):
            try:
                suspects = self._begin_anew(suspects)
            except Exception:  # the database still cannot be used; another look will find it
                suspects = set()

    def _begin_anew(self, suspects: set[str]) -> set[str]:
        """Begin those of the suspects anew that still are ones; gives the new suspects."""
        pending = DBOS.list_workflows(
            status="PENDING", executor_id=self._executor_id, load_input=False, load_output=False
        )
        left = {one.workflow_id: one.queue_name for one in pending if one.workflow_id not in self._running}
        for key in suspects & left.keys():
            DBOS.resume_workflow(key, queue_name=left.pop(key))
        return set(left)


def _start_engine(database: sa.Engine, executor_id: str, *, log_level: str, listen_every_s: float) -> None:
    logging.getLogger("dbos").setLevel(log_level)
    DBOS(
        config={
            "name": "delineate",
            "system_database_engine": database,
            "application_version": WORKFLOW_VERSION,
            "executor_id": executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": log_level,
            "enable_otlp": False,
            "notification_listener_polling_interval_sec": listen_every_s,
        }
    )
