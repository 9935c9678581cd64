"""An outbox on the real engine, with a clock that is set forward at will; for tests and for `scripts/bench outbox`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.adapters.database import open_database
from node.adapters.engine import Tasks, Worker, prepare
from node.adapters.ledger import Ledger
from node.domain.jobs import DeliveryState
from node.queueing import DELIVER, QUEUES, DurableQueue
from node.stages.deliver import Deliverer, RetryPolicy
from node.stages.delivery_ports import Carrier
from node.stages.outbox import OutboxWatch, WatchPolicy
from node.stages.ports import all_of


@dataclass
class Clock:
    """The time of day, and what was added to it."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        """Give seconds since the epoch."""
        return time.time() + self.ahead_s


@dataclass
class Outbox:
    """Everything that delivers: ledger, engine, worker, and the watch, which looks only when it is told to."""

    database: sa.Engine
    clock: Clock
    ledger: Ledger
    queue: DurableQueue
    watch: OutboxWatch

    def add(self, jobs: Mapping[str, str], destinations: Sequence[str]) -> None:
        """Put the object of each job, by its SOP Instance UID, into the outbox, for each destination."""
        for job, uid in jobs.items():
            output = {"sop_instance_uid": uid, "kind": "rtstruct", "form": "generic", "sha256": ""}
            enqueues = [self.queue.deliver(job, destination) for destination in destinations]
            offers = {destination: [[output["sop_instance_uid"]]] for destination in destinations}
            self.ledger.add_notice(job, [{**output, "path": f"{job}.dcm"}], offers, all_of(enqueues))

    def pass_s(self, seconds: float) -> None:
        """Set the clock forward, and with it the times at which the engine lets its delayed tasks go.

        The engine's own clock is the system's: what it delays is delayed by as much less.
        """
        self.clock.ahead_s += seconds
        with self.database.begin() as connection:
            connection.execute(
                sa.text(
                    "UPDATE workflow_status SET delay_until_epoch_ms = delay_until_epoch_ms - :ms "
                    "WHERE status = 'DELAYED'"
                ),
                {"ms": int(seconds * 1000)},
            )

    def engine_counts(self) -> dict[str, int]:
        """Give the number of the engine's tasks by their status."""
        with self.database.begin() as connection:
            rows = connection.execute(sa.text("SELECT status, count(*) FROM workflow_status GROUP BY status"))
            return {str(status): int(count) for status, count in rows}

    def count(self, state: DeliveryState, destination: str = "") -> int:
        """Count the deliveries in a state."""
        rows = self.ledger.all_deliveries()
        return sum(row["state"] == state and destination in ("", row["destination"]) for row in rows)

    def wait_until(self, holds: Callable[[], Any], within_s: float = 120.0) -> None:
        """Wait for a condition, or fail."""
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, f"{self.engine_counts()}, {self.ledger.all_deliveries()[:2]}"
            time.sleep(0.05)

    def wait_until_nothing_is_due(self, within_s: float = 120.0) -> None:
        """Wait until every try that was due has been made."""

        def is_later() -> bool:
            rows = self.ledger.unfinished_deliveries()
            return all(row["next_attempt_at"] is not None and row["next_attempt_at"] > self.clock() for row in rows)

        self.wait_until(is_later, within_s)


@contextmanager
def outbox(folder: Path, carrier: Carrier, retries: RetryPolicy, watching: WatchPolicy) -> Iterator[Outbox]:
    """Run an outbox with its data in a folder."""
    database = open_database(folder / "node.sqlite")
    prepare(database, QUEUES)
    clock = Clock()
    ledger = Ledger(database, now=clock)
    queue = DurableQueue(Tasks(database))
    common: dict[str, Any] = {"queue": queue, "carrier": carrier, "now": clock, "log": lambda *_, **__: None}
    deliverer = Deliverer(ledger=ledger, policy=retries, results=folder, **common)
    watch = OutboxWatch(ledger=ledger, policy=watching, start=lambda run: run(), **common)
    worker = Worker(
        database, executor_id="outbox", serves=[DELIVER], functions={DELIVER: deliverer}, maximum_starts=None
    )
    try:
        yield Outbox(database=database, clock=clock, ledger=ledger, queue=queue, watch=watch)
    finally:
        worker.close()
        queue.tasks.close()
        database.dispose()
