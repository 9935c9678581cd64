"""What may be removed from the disk, and why what stays stays. Pure: facts, the time now and the policy decide.

Nothing goes before its proof: every job that reads an image has come to an end, every result has been taken by every
destination, and was confirmed where that was asked for. After that

| what | goes after | counted from |
|---|---|---|
| images of contoured series | ``images_days`` | the last delivery, or the last sending of the series |
| images of declined series | ``declined_days`` | the last sending, or the last verdict |
| images of failed and quarantined jobs | ``failed_days`` | the end of the job |
| results | ``results_days`` | the last delivery |

0 days: never. While the disk is low, all of these but the last images go an hour after their proof, the oldest first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from node.domain.jobs import UNFINISHED_JOBS, DeliveryState, JobState, SeriesState

DAY_S = 86_400.0
# Also while the disk is low: what was just sent may be sent again, or grow.
EARLIEST_S = 3600.0

# Of a cancelled delivery a person has decided.
_SETTLED = frozenset({DeliveryState.DELIVERED, DeliveryState.CANCELLED})
_LOOKED_INTO = frozenset({JobState.FAILED, JobState.QUARANTINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """For how many days what is kept, from ``[retention]``; 0: for ever."""

    images_days: float
    declined_days: float
    failed_days: float
    results_days: float
    rejected_days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFact:
    """How far one delivery has come."""

    destination: str
    state: DeliveryState
    # Of its last change.
    at: float
    # A confirmation was asked for and has not come.
    is_unconfirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFact:
    """How far one job has come."""

    job: str
    state: JobState
    at: float
    deliveries: tuple[DeliveryFact, ...] = ()

    @property
    def is_unfinished(self) -> bool:
        """Tell whether the node itself has work left with it."""
        return self.state in UNFINISHED_JOBS


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFact:
    """The images of one series."""

    series_uid: str
    state: SeriesState
    # When its last image came.
    sent_at: float
    # When anything of it was last sent or judged.
    at: float
    # An association that sends to it is open still.
    is_being_sent: bool
    # Every job that reads its images, those of several series too.
    jobs: tuple[JobFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedFiles:
    """What was removed of a series."""

    at: float
    # In its folder in the inbox: <SOP Instance UID>.<digest>.dcm.
    file_names: frozenset[str]
    # Somebody sends to the series again, or a job is to read it.
    is_wanted: bool

    @property
    def sop_instance_uids(self) -> frozenset[str]:
        """Give the instances that the files held."""
        return frozenset(name.removesuffix(".dcm").rpartition(".")[0] for name in self.file_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goes:
    """It may be removed now."""

    # Since when nobody needs it: the oldest goes first.
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stays:
    """It stays, and why."""

    reason: str
    # When it goes, if nothing changes; None: not by itself.
    until: float | None = None


Judgement = Goes | Stays


def judge_images(series: SeriesFact, now: float, policy: RetentionPolicy, *, is_low: bool) -> Judgement:
    """Judge whether the images of a series may go.

    Parameters
    ----------
    now
        Seconds since the epoch.
    is_low
        The disk is low: what has its proof goes early.
    """
    if series.state == SeriesState.RECEIVING or series.is_being_sent:
        return Stays(reason="it is being sent")
    unproven = _why_unproven(series.jobs)
    if unproven:
        return Stays(reason=unproven)
    since = max([series.at, *map(_ended_at, series.jobs)])
    if any(job.state in _LOOKED_INTO for job in series.jobs):
        return _after(since, now, policy.failed_days, "retention.failed_days", is_low=False)
    if any(job.state == JobState.CONTOURED for job in series.jobs):
        return _after(since, now, policy.images_days, "retention.images_days", is_low=is_low)
    return _after(since, now, policy.declined_days, "retention.declined_days", is_low=is_low)


def judge_results(job: JobFact, now: float, policy: RetentionPolicy, *, is_low: bool) -> Judgement:
    """Judge whether the stored results of a contoured job may go; as `judge_images`."""
    unproven = _why_unproven([job])
    if unproven:
        return Stays(reason=unproven)
    return _after(_ended_at(job), now, policy.results_days, "retention.results_days", is_low=is_low)


def judge_rejected(at: float, now: float, policy: RetentionPolicy, *, is_low: bool) -> Judgement:
    """Judge whether a refused data set, kept since ``at`` for a person to look at, may go; as `judge_images`."""
    return _after(at, now, policy.rejected_days, "retention.rejected_days", is_low=is_low)


def _why_unproven(jobs: Iterable[JobFact]) -> str:
    for job in jobs:
        if job.is_unfinished:
            return f"its job is {job.state}"
        for delivery in job.deliveries:
            if delivery.state not in _SETTLED:
                return f"the delivery to {delivery.destination} is {delivery.state}"
            if delivery.is_unconfirmed:
                return f"{delivery.destination} has not confirmed that it keeps the results"
    return ""


def _ended_at(job: JobFact) -> float:
    return max([job.at, *(delivery.at for delivery in job.deliveries)])


def _after(since: float, now: float, days: float, key: str, *, is_low: bool) -> Judgement:
    until = since + days * DAY_S if days else None
    if (until is not None and now >= until) or (is_low and now >= since + EARLIEST_S):
        return Goes(since=since)
    return Stays(reason=key if days else f"{key} is 0: for ever", until=until)


# The disk ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermarks:
    """When the disk is low, and until when it stays so, in free bytes."""

    below: float
    until: float

    def is_low(self, free: float, *, was_low: bool) -> bool:
        """Tell whether the disk is low; once it was, until it has more free than where it began."""
        return free < (self.until if was_low else self.below)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSample:
    """What the disk held at one moment, in bytes."""

    at: float
    free: int
    images: int
    results: int
    rejected: int

    @property
    def used(self) -> int:
        """Give what the node itself holds."""
        return self.images + self.results + self.rejected


# What is shorter says more of the hour than of the week.
_SHORTEST_SPAN_S = 3600.0

Growth = Literal["unknown", "does not grow"] | float


def days_left(samples: Iterable[DiskSample], minimum_free: float) -> Growth:
    """Say in how many days the free disk falls below the minimum, at the rate at which the node's share has grown.

    Parameters
    ----------
    samples
        Of the past week, in any order.
    minimum_free
        In bytes.
    """
    ordered = sorted(samples, key=lambda one: one.at)
    if not ordered or ordered[-1].at - ordered[0].at < _SHORTEST_SPAN_S:
        return "unknown"
    first, last = ordered[0], ordered[-1]
    grown_a_day = (last.used - first.used) / (last.at - first.at) * DAY_S
    if grown_a_day <= 0:
        return "does not grow"
    return max(0.0, (last.free - minimum_free) / grown_a_day)
