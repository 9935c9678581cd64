"""The durable queue's tasks and their keys, and the reconciler, who gives the engine what it does not know."""

import time
from functools import partial
from typing import Any

from node.adapters.engine import Queue, Task, Tasks
from node.adapters.ledger import Ledger
from node.config import Config
from node.domain.jobs import UNFINISHED_JOBS, DeliveryState, JobState, Priority, retry_delay_s
from node.stages.ports import Enqueue
from node.stages.setbacks import RESOURCE_ATTEMPTS

CONTOUR, DELIVER = "contour", "deliver"
# One job at a time per contouring process; several destinations at a time, but one try per destination.
QUEUES = (Queue(name=CONTOUR, at_a_time=1), Queue(name=DELIVER, at_a_time=1, partitioned=True))

# A task that was started so often without an end is put aside, whatever ended it: the node that was stopped, or a death
# that no supervisor saw. What it saw counts as a setback of the job.
MAXIMUM_STARTS = 10

# Those of several machines, at most; what lies farther in the future was written by a clock since put back.
_CLOCKS_DIFFER_BY_S = 60.0


class DurableQueue:
    """The stages' queue on the engine; keys are deterministic, so that nothing is enqueued twice."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks

    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0, priority: int = Priority.ROUTINE) -> Enqueue:
        """Enqueue the contouring of a job; the smaller priority goes first."""
        return partial(_enqueue, self.tasks, contour_task(job, attempt, delay_s, priority))

    def deliver(
        self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0, via: str | None = None
    ) -> Enqueue:
        """Enqueue one try of a delivery, at another destination where ``via`` names one."""
        return partial(_enqueue, self.tasks, deliver_task(job, destination, attempt, delay_s, via))


def _enqueue(tasks: Tasks, task: Task, connection: Any) -> None:
    tasks.enqueue(connection, task)


def contour_task(job: str, attempt: int, delay_s: float = 0.0, priority: int = Priority.ROUTINE) -> Task:
    """Give the task of one attempt at a job."""
    key = f"{CONTOUR}/{job}/{attempt}"
    return Task(queue=CONTOUR, key=key, arguments=(job, attempt), delay_s=delay_s, priority=int(priority))


def deliver_task(job: str, destination: str, attempt: int, delay_s: float = 0.0, via: str | None = None) -> Task:
    """Give the task of one try of a delivery."""
    return Task(
        queue=DELIVER,
        key=f"{DELIVER}/{job}/{destination}/{attempt}",
        arguments=(job, destination, attempt),
        # Of who is called: whoever does not answer holds up nobody else.
        partition=via or destination,
        delay_s=delay_s,
    )


def reconcile(ledger: Ledger, tasks: Tasks, *, config: Config) -> None:
    """Give the engine every piece of unfinished work that it does not know or has given up.

    Our tables say what is to be done; the engine only does it. Work it lost is enqueued again under the same key; a
    task that it put aside is tried anew (deliveries, and jobs up to a number) or failed with the reason.
    """
    jobs = {contour_task(row["job"], row["attempt"]).key: row for row in ledger.unfinished_jobs()}
    known = tasks.status_of(list(jobs))
    for key, row in jobs.items():
        match known.get(key):
            case None:
                tasks.enqueue_now(contour_task(row["job"], row["attempt"], priority=row["priority"]))
            case "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
                reason = f"Its process ended more than {MAXIMUM_STARTS} times while it was contoured; see the log."
                ledger.move_job(row["job"], JobState.FAILED, reason=reason)
            case "ERROR" | "CANCELLED":
                _again(ledger, tasks, row)
            case "SUCCESS" if _is_at(ledger, row):
                # Its worker was cut off and gave the try up; nobody else has begun another.
                _again(ledger, tasks, row)
            case _:
                pass
    deliveries = {
        deliver_task(row["job"], row["destination"], row["attempt"]).key: row for row in ledger.unfinished_deliveries()
    }
    known = tasks.status_of(list(deliveries))
    for key, row in deliveries.items():
        job, destination, attempt = row["job"], row["destination"], row["attempt"]
        if key not in known:
            tasks.enqueue_now(deliver_task(job, destination, attempt, via=row["via"]))
        elif known[key] in ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
            delay_s = retry_delay_s(
                attempt, first_s=config.delivery.first_retry_s, longest_s=config.delivery.longest_retry_s
            )
            facts = {"attempt": attempt + 1, "next_attempt_at": time.time() + delay_s, "reason": "internal error"}
            enqueue = partial(_enqueue, tasks, deliver_task(job, destination, attempt + 1, delay_s, row["via"]))
            # What was delivered stays so: its proof is asked for again.
            is_sent = row["state"] == DeliveryState.DELIVERED
            state = DeliveryState.DELIVERED if is_sent else DeliveryState.WAITING
            ledger.move_delivery(job, destination, state, facts, enqueue)


def _is_at(ledger: Ledger, row: dict[str, Any]) -> bool:
    """Tell whether a job is unfinished and at that attempt still: a task that ended well moved it first."""
    now = ledger.job(row["job"])
    return now is not None and now["state"] in UNFINISHED_JOBS and now["attempt"] == row["attempt"]


def try_what_waits_for_a_former_clock(ledger: Ledger, tasks: Tasks, now: float) -> None:
    """Try at once what was postponed by a clock that has been put back since: it would wait that much longer.

    Parameters
    ----------
    now
        Seconds since the epoch.
    """
    for row in ledger.unfinished_jobs():
        if row["state"] == JobState.WAITING and row["updated_at"] > now + _CLOCKS_DIFFER_BY_S:
            job, attempt = row["job"], row["attempt"]
            enqueue = partial(_enqueue, tasks, contour_task(job, attempt + 1, 0.0, row["priority"]))
            ledger.move_job(job, JobState.QUEUED, enqueue=enqueue, at_attempt=attempt, attempt=attempt + 1)
    for row in ledger.unfinished_deliveries():
        if row["state"] == DeliveryState.WAITING and row["updated_at"] > now + _CLOCKS_DIFFER_BY_S:
            job, destination, attempt = row["job"], row["destination"], row["attempt"]
            enqueue = partial(_enqueue, tasks, deliver_task(job, destination, attempt + 1))
            facts = {"attempt": attempt + 1, "next_attempt_at": None}
            ledger.move_delivery(job, destination, DeliveryState.QUEUED, facts, enqueue, at_attempt=attempt)


def _again(ledger: Ledger, tasks: Tasks, row: dict[str, Any]) -> None:
    job, attempt, tries = row["job"], row["attempt"], row["tries"] + 1
    if tries >= RESOURCE_ATTEMPTS:
        ledger.move_job(job, JobState.FAILED, tries=tries, reason=f"Internal error, {tries} times; see the log.")
        return
    ledger.move_job(job, JobState.CONTOURING)  # its task may have ended before it said so
    delay_s = retry_delay_s(tries, first_s=10, longest_s=600)
    enqueue = partial(_enqueue, tasks, contour_task(job, attempt + 1, delay_s, row["priority"]))
    ledger.postpone_job(job, {"attempt": attempt + 1, "tries": tries, "reason": "internal error"}, enqueue)
