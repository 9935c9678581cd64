"""The durable queue: DBOS Transact on the node's own database.

A task is a named function of small JSON arguments with a deterministic key; it runs at least once, also after a
``kill -9``, and is enqueued within the transaction that made it necessary. Tasks must be idempotent.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

# Pinned: by default the engine hashes the workflows' source, and after any change of it the jobs in flight would sit
# untouched, without a word. Raise it only together with a workflow of a new name that finishes the old ones.
WORKFLOW_VERSION = "workflows-1"

# How often a worker looks for new work; each look is one small read.
_POLL_S = 0.2

# An explicit number always: the engine's default (0) goes before every explicit one.
ROUTINE_PRIORITY = 10


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
    _start_engine(database, "prepare", log_level="ERROR")
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
        _start_engine(database, executor_id, log_level="WARNING")
        for name, function in functions.items():
            DBOS.workflow(name=name, max_recovery_attempts=maximum_starts)(_as_workflow(name, function))
        DBOS.listen_queues(list(serves))
        DBOS.launch()

    def close(self) -> None:
        """Stop taking tasks; a running one is finished by the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=0)


def _as_workflow(name: str, function: Callable[..., None]) -> Callable[..., None]:
    def workflow(*arguments: Any) -> None:
        DBOS.run_step({"name": name}, function, *arguments)

    return workflow


def _start_engine(database: sa.Engine, executor_id: str, *, log_level: str) -> None:
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
            "notification_listener_polling_interval_sec": 1.0,
        }
    )
