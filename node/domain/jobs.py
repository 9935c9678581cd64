"""The states of series, jobs and deliveries, and the only ways between them.

Two rules: a state that a person can see says in one sentence what it means and what to do; and nothing changes a
state but along a row of these tables. ``delineate status --states`` prints them.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class SeriesState(StrEnum):
    """Where a received series stands."""

    RECEIVING = "receiving"
    WAITING = "waiting"
    COMPLETE = "complete"
    DECLINED = "declined"


class JobState(StrEnum):
    """Where the contouring of one series by one model stands."""

    QUEUED = "queued"
    CONTOURING = "contouring"
    WAITING = "waiting"
    CONTOURED = "contoured"
    DECLINED = "declined"
    QUARANTINED = "quarantined"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """Where the delivery of one job's results to one destination stands."""

    QUEUED = "queued"
    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"
    GIVEN_UP = "given up"
    CANCELLED = "cancelled"


class Priority(IntEnum):
    """Which job goes first: the smaller number."""

    STAT = 1
    ROUTINE = 10


@dataclass(frozen=True, slots=True)
class StateMeaning:
    """What a state means and what a person does about it."""

    meaning: str
    what_to_do: str


SERIES_STATES: dict[SeriesState, StateMeaning] = {
    SeriesState.RECEIVING: StateMeaning("instances may still come", "nothing; the time of the next look is shown"),
    SeriesState.WAITING: StateMeaning(
        "whole; the model takes further images of the same place", "send the images that the reason names"
    ),
    SeriesState.COMPLETE: StateMeaning("whole, and taken by a route", "nothing; see its jobs"),
    SeriesState.DECLINED: StateMeaning(
        "not contoured, for the reason shown", "mend the cause, send it again: it is judged anew"
    ),
}

JOB_STATES: dict[JobState, StateMeaning] = {
    JobState.QUEUED: StateMeaning("waits for a worker", "nothing; `delineate run-now` lets it go first"),
    JobState.CONTOURING: StateMeaning("a worker is at it", "nothing; `delineate cancel` ends it"),
    JobState.WAITING: StateMeaning(
        "something is amiss here; it is tried again by itself",
        "mend what the reason names; `delineate run-now` tries it at once",
    ),
    JobState.CONTOURED: StateMeaning("the objects are made and stored", "nothing; see its deliveries"),
    JobState.DECLINED: StateMeaning("the images cannot be contoured", "send better images"),
    JobState.QUARANTINED: StateMeaning("a written object failed its check; kept, not sent", "report it, with the log"),
    JobState.FAILED: StateMeaning(
        "could not be done; the images are kept in the inbox",
        "mend what the reason names, then `delineate retry`; else report it, with the log",
    ),
    JobState.CANCELLED: StateMeaning("somebody ended it", "nothing; `delineate retry` takes it up again"),
    JobState.SUPERSEDED: StateMeaning(
        "not done: another job took its place, for more images came or a new run was asked for", "see that job"
    ),
}

DELIVERY_STATES: dict[DeliveryState, StateMeaning] = {
    DeliveryState.QUEUED: StateMeaning("will be sent at once", "nothing"),
    DeliveryState.WAITING: StateMeaning(
        "the destination did not take it; it is tried again",
        "check the destination; `delineate run-now` tries it at once",
    ),
    DeliveryState.DELIVERED: StateMeaning("the destination answered success for every object", "nothing"),
    DeliveryState.REFUSED: StateMeaning(
        "the destination refused an object for good", "mend it, then `delineate retry` the job"
    ),
    DeliveryState.GIVEN_UP: StateMeaning(
        "not taken for longer than give_up_after_days", "mend it, then `delineate retry` the job"
    ),
    DeliveryState.CANCELLED: StateMeaning("somebody ended it", "nothing; `delineate retry` takes it up again"),
}

# From -> to. A series begins RECEIVING; jobs and deliveries begin QUEUED.
SERIES_TRANSITIONS: dict[SeriesState, frozenset[SeriesState]] = {
    # A late slice makes a complete or declined series grow again.
    state: frozenset(SeriesState)
    for state in SeriesState
}

# With work left for the node itself; from the others only a person leads back.
UNFINISHED_JOBS = frozenset({JobState.QUEUED, JobState.CONTOURING, JobState.WAITING})
UNFINISHED_DELIVERIES = frozenset({DeliveryState.QUEUED, DeliveryState.WAITING})

# By a person's word only.
_TAKEN_BACK = frozenset({JobState.CANCELLED, JobState.SUPERSEDED})
_RETRIED = frozenset({JobState.QUEUED})

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.CONTOURING, JobState.FAILED}) | _TAKEN_BACK | _RETRIED,
    JobState.CONTOURING: frozenset(JobState) - {JobState.QUEUED},  # CONTOURING again: after a crash
    JobState.WAITING: frozenset({JobState.CONTOURING, JobState.FAILED}) | _TAKEN_BACK | _RETRIED,
    JobState.CONTOURED: frozenset(),
    JobState.DECLINED: _RETRIED,
    JobState.QUARANTINED: _RETRIED,
    JobState.FAILED: _RETRIED,
    JobState.CANCELLED: _RETRIED,
    JobState.SUPERSEDED: frozenset(),
}

DELIVERY_TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    # QUEUED again: a person asks for a try at once, or for another sending.
    DeliveryState.QUEUED: frozenset(DeliveryState),
    DeliveryState.WAITING: frozenset(DeliveryState),  # WAITING again: one more try failed
    # DELIVERED again: asked for, or there, is the proof that it is kept. WAITING: the destination said that it is not.
    DeliveryState.DELIVERED: frozenset({DeliveryState.QUEUED, DeliveryState.DELIVERED, DeliveryState.WAITING}),
    DeliveryState.REFUSED: frozenset({DeliveryState.QUEUED}),
    DeliveryState.GIVEN_UP: frozenset({DeliveryState.QUEUED}),
    DeliveryState.CANCELLED: frozenset({DeliveryState.QUEUED}),
}


def retry_delay_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """Give the wait after failed attempt number ``attempt`` (counted from 1): doubling, bounded."""
    return float(min(first_s * 2.0 ** min(attempt - 1, 60), longest_s))


class TransitionError(ValueError):
    """A job or delivery is not where it was thought to be: somebody else moved it."""


def short_id(job: str) -> str:
    """Give the 8 hexadecimal digits by which a person calls a job."""
    return hashlib.sha256(job.encode()).hexdigest()[:8]
