"""Steer: what a person asks of jobs and deliveries, each a step along the table of states and one transaction."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from node.domain.errors import InputError, NodeError
from node.domain.jobs import (
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    UNFINISHED_DELIVERIES,
    UNFINISHED_JOBS,
    DeliveryState,
    JobState,
    Priority,
    TransitionError,
    short_id,
)
from node.domain.routing import Route
from node.stages.new_jobs import run_again
from node.stages.ports import Queue, Row, SteeringLedger

# What a person can take up again; from CONTOURED only another run leads on.
_JOBS_TO_RETRY = frozenset(
    {JobState.WAITING, *(state for state, following in JOB_TRANSITIONS.items() if following == {JobState.QUEUED})}
)
_DELIVERIES_TO_RETRY = frozenset(DeliveryState) - {DeliveryState.QUEUED, DeliveryState.DELIVERED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """One thing that was done."""

    job: str
    did: str
    destination: str = ""


class RefusedError(NodeError):
    """What was asked cannot be done to a job in its state."""

    remedy_by_default = "`delineate jobs` shows where every job stands."


class Steering:
    """Does what a person asks.

    Parameters
    ----------
    routes
        Of the configuration as it is now: a new run takes outputs and destinations from there.
    now
        Seconds since the epoch.
    """

    def __init__(
        self, *, ledger: SteeringLedger, queue: Queue, routes: Sequence[Route], now: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._routes = {route.name: route for route in routes}
        self._now = now

    def find(self, wanted: str) -> list[Row]:
        """Give the jobs that a person means by a short id, a key, the beginning of either, or a Series Instance UID.

        Raises
        ------
        RefusedError
            There is none, or a beginning fits several.
        """
        jobs = self._ledger.all_jobs()
        of_series = [one for one in jobs if wanted in (one["series_uid"], one["job"])]
        if of_series:
            return of_series
        found = [one for one in jobs if one["job"].startswith(wanted) or short_id(one["job"]).startswith(wanted)]
        if not wanted or not found:
            raise RefusedError(f"There is no job {wanted!r}, and no series with jobs of that UID.")
        if len(found) > 1:
            several = ", ".join(short_id(one["job"]) for one in found[:5])
            raise RefusedError(f"{wanted!r} fits {len(found)} jobs: {several}.", "Give more of it.")
        return found

    def retry(self, row: Row, destination: str = "") -> list[Steered]:
        """Take a job up again that ended without objects; of one that has them, what was not delivered."""
        if row["state"] in _JOBS_TO_RETRY and not destination:
            self._refuse_without_images(row)
            return [self._requeue(row, Priority(row["priority"]), "tried again")]
        self._refuse_without_objects(row)
        found = self._deliveries(row, _DELIVERIES_TO_RETRY, destination)
        if not found:
            remedy = "`delineate resend` sends its objects again, `delineate rerun` contours anew."
            raise RefusedError(f"Job {short_id(row['job'])} is contoured and nothing of it is left to deliver.", remedy)
        return [self._send(one, "sent again") for one in found]

    def resend(self, row: Row, destination: str = "") -> list[Steered]:
        """Send a job's objects, or the report that there are none, again, also where they were delivered."""
        self._refuse_without_objects(row)
        return [self._send(one, "sent again") for one in self._deliveries(row, frozenset(DeliveryState), destination)]

    def cancel(self, row: Row) -> list[Steered]:
        """End a job, or what is left of its deliveries; one that is being contoured ends at its next step."""
        if row["state"] in UNFINISHED_JOBS:
            facts = {"attempt": row["attempt"], "reason": "cancelled by a person"}
            self._move(row, JobState.CANCELLED, facts)
            return [Steered(job=row["job"], did="cancelled")]
        found = self._deliveries(row, UNFINISHED_DELIVERIES, "")
        if not found:
            raise RefusedError(f"Job {short_id(row['job'])} is {row['state']}: there is nothing to cancel.")
        for one in found:
            facts = {"reason": "cancelled by a person", "next_attempt_at": None}
            self._move_delivery(one, DeliveryState.CANCELLED, facts, None)
        return [Steered(job=row["job"], did="cancelled", destination=one["destination"]) for one in found]

    def run_now(self, row: Row) -> list[Steered]:
        """Let a job go before all others, and what waits of it or of its deliveries at once."""
        if row["state"] in (JobState.QUEUED, JobState.WAITING):
            return [self._requeue(row, Priority.STAT, "goes first")]
        found = self._deliveries(row, frozenset({DeliveryState.WAITING}), "")
        if not found:
            raise RefusedError(f"Job {short_id(row['job'])} is {row['state']}: nothing of it waits.")
        return [self._send(one, "sent at once") for one in found]

    def run_series_now(self, series_uid: str) -> None:
        """Let a series be judged at once, with the images that are here.

        Raises
        ------
        RefusedError
            It is not being received.
        """
        if not self._ledger.ask_for_verdict(series_uid):
            raise RefusedError(f"No series {series_uid} is being received.")

    def rerun(self, row: Row, model: str = "") -> list[Steered]:
        """Contour the images of a job anew, as a run of its own with objects of its own; it supersedes the job."""
        self._refuse_without_images(row)
        former = [one for one in self._ledger.all_jobs() if one["series_uid"] == row["series_uid"]]
        new = run_again(row, former, self._routes.get(row["route"]), model or row["model"])
        superseded = {row["job"]: new["job"]} if new["model"] == row["model"] else {}
        self._ledger.add_jobs([new], superseded, self._queue.contour(new["job"], priority=new["priority"]))
        return [Steered(job=new["job"], did=f"run {new['run_number']} of {new['model']} queued")]

    # -----------------------------------------------------------------------------------------------------------------

    def _requeue(self, row: Row, priority: Priority, did: str) -> Steered:
        facts = {
            "attempt": row["attempt"] + 1,
            "priority": int(priority),
            "reason": "",
            "tries": 0,
            "setbacks": [],
        }
        enqueue = self._queue.contour(row["job"], attempt=row["attempt"] + 1, priority=int(priority))
        self._move(row, JobState.QUEUED, facts, enqueue)
        return Steered(job=row["job"], did=did)

    def _send(self, row: Row, did: str) -> Steered:
        job, destination, attempt = row["job"], row["destination"], row["attempt"] + 1
        # The age, by which a delivery is given up, counts from now.
        facts = {"attempt": attempt, "reason": "", "next_attempt_at": None, "created_at": self._now()}
        enqueue = self._queue.deliver(job, destination, attempt=attempt)
        self._move_delivery(row, DeliveryState.QUEUED, facts, enqueue)
        return Steered(job=job, did=did, destination=destination)

    def _deliveries(self, row: Row, states: Iterable[DeliveryState], destination: str) -> list[Row]:
        own = self._sent(row)
        if destination and destination not in {one["destination"] for one in own}:
            there = ", ".join(one["destination"] for one in own)
            raise RefusedError(f"Job {short_id(row['job'])} has no destination {destination!r}; it has {there}.")
        return [one for one in own if one["state"] in states and destination in ("", one["destination"])]

    def _sent(self, row: Row) -> Sequence[Row]:
        """Give the deliveries of a job's objects, or of the report that there are none."""
        contoured = row["state"] == JobState.CONTOURED
        return self._ledger.deliveries_of(row["job"]) if contoured else self._ledger.reports_of(row["job"])

    def _refuse_without_objects(self, row: Row) -> None:
        if not self._sent(row):
            raise RefusedError(f"Job {short_id(row['job'])} is {row['state']}: it has no objects to send.")
        if any(one["removed_at"] is not None for one in self._ledger.outputs(row["job"])):
            remedy = "`delineate rerun` contours anew where its images are there still; else send them again."
            raise RefusedError(
                f"The results of job {short_id(row['job'])} were removed (retention.results_days).", remedy
            )

    def _refuse_without_images(self, row: Row) -> None:
        series = self._ledger.series(row["series_uid"])
        if series is not None and series["removed_at"] is not None:
            on = time.strftime("%Y-%m-%d", time.localtime(series["removed_at"]))
            raise InputError(f"Job {short_id(row['job'])}: its images were removed on {on}.", "Send them again.")

    def _move(self, row: Row, state: JobState, facts: Mapping[str, Any], enqueue: Any = None) -> None:
        with _one_at_a_time(row):
            self._ledger.move_job(row["job"], state, enqueue=enqueue, at_attempt=row["attempt"], **facts)

    def _move_delivery(self, row: Row, state: DeliveryState, facts: Mapping[str, Any], enqueue: Any) -> None:
        assert state in DELIVERY_TRANSITIONS[DeliveryState(row["state"])]
        with _one_at_a_time(row):
            self._ledger.move_delivery(row["job"], row["destination"], state, facts, enqueue, at_attempt=row["attempt"])


@contextmanager
def _one_at_a_time(row: Row) -> Iterator[None]:
    """Say that the node itself took the next step just now."""
    try:
        yield
    except TransitionError as error:
        raise RefusedError(
            f"Job {short_id(row['job'])} took its next step just now.", "Look where it stands, and ask again."
        ) from error
