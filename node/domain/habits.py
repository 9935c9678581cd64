"""What a sender does: learned from how the instances of its past series arrived.

A lesson is what one series taught of one calling AE title; habits are what its latest lessons come to.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from node.domain.associations import AssociationFact
from node.domain.instance import ReceivedInstance

# Nobody is waited for longer, so a longer gap teaches nothing: it was another sending.
LONGEST_WAIT_S = 600.0
# Habits fade: older series of a sender are forgotten.
LESSONS_REMEMBERED = 50
# From an instance's file to the note of its association; both are synced to disk between.
_NOTED_WITHIN_S = 5.0
# Files' times go in ticks of some milliseconds, behind the clock that notes associations: a gap as short as that
# cannot be told to lie between two of them, and is no pause.
_SAME_MOMENT_S = 0.05
# Fewer instances show no gaps worth the name.
LEAST_INSTANCES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """How one series came from one calling AE title."""

    calling_ae_title: str
    series_instance_uid: str
    learned_at: float
    instances: int
    associations: int
    # The biggest gap between two instances while one association was open all the time.
    within_s: float
    # The biggest gap that no single association spans; 0 where there is none.
    between_s: float
    # Acquisitions that state how many images they have; with several, none of them states the series' number.
    counted_acquisitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What is known of one calling AE title from its latest series."""

    calling_ae_title: str
    # Series that it was learned from, `LESSONS_REMEMBERED` at most.
    series: int
    within_s: float
    between_s: float
    # Whether a series came over several associations.
    several_associations: bool
    # Whether a series had several acquisitions, each with a number of images of its own.
    several_counts: bool
    first_at: float
    last_at: float


def lessons_of(
    series_instance_uid: str,
    instances: Iterable[ReceivedInstance],
    associations: Iterable[AssociationFact],
    learned_at: float,
) -> tuple[Lesson, ...]:
    """Learn from a whole series, for each calling AE title that sent to it over associations.

    Gaps are told apart by the associations' times: a gap that one of them spans lies within it. A gap after an abort
    is none (aborts are waited for anyway), nor is one longer than `LONGEST_WAIT_S`.
    """
    arrived: dict[str, list[ReceivedInstance]] = {}
    for instance in instances:
        arrived.setdefault(instance.attributes.get("CallingAETitle", ""), []).append(instance)
    by_title: dict[str, list[AssociationFact]] = {}
    for association in associations:
        by_title.setdefault(association.calling_ae_title, []).append(association)
    return tuple(
        _lesson(title, series_instance_uid, arrived[title], own, learned_at)
        for title, own in sorted(by_title.items())
        if len(arrived.get(title, ())) >= LEAST_INSTANCES
    )


def habits_of(lessons: Sequence[Lesson]) -> Habits:
    """Sum up the lessons of one calling AE title; the latest `LESSONS_REMEMBERED` count."""
    latest = sorted(lessons, key=lambda one: (one.learned_at, one.series_instance_uid))[-LESSONS_REMEMBERED:]
    return Habits(
        calling_ae_title=latest[0].calling_ae_title,
        series=len(latest),
        within_s=max(one.within_s for one in latest),
        between_s=max(one.between_s for one in latest),
        several_associations=any(one.associations > 1 for one in latest),
        several_counts=any(one.counted_acquisitions > 1 for one in latest),
        first_at=latest[0].learned_at,
        last_at=latest[-1].learned_at,
    )


def _lesson(
    title: str,
    series_instance_uid: str,
    instances: Sequence[ReceivedInstance],
    associations: Sequence[AssociationFact],
    learned_at: float,
) -> Lesson:
    times = sorted(one.received_at for one in instances)
    spans = [_span(one, times) for one in associations]
    broken_at = [one.ended_at for one in associations if one.is_broken and one.ended_at is not None]
    within_s = between_s = 0.0
    for before, after in pairwise(times):
        gap_s = after - before
        if gap_s > LONGEST_WAIT_S or any(before <= at <= after for at in broken_at):
            continue
        if gap_s <= _SAME_MOMENT_S or any(opened_at <= before and after <= ended_at for opened_at, ended_at in spans):
            within_s = max(within_s, gap_s)
        else:
            between_s = max(between_s, gap_s)
    counted = {one.acquisition_number for one in instances if one.images_in_acquisition is not None}
    return Lesson(
        calling_ae_title=title,
        series_instance_uid=series_instance_uid,
        learned_at=learned_at,
        instances=len(instances),
        # One that sent only what was here already brought no file.
        associations=sum(any(opened_at <= at <= ended_at for at in times) for opened_at, ended_at in spans),
        within_s=within_s,
        between_s=between_s,
        counted_acquisitions=len(counted),
    )


def _span(association: AssociationFact, times: Sequence[float]) -> tuple[float, float]:
    # It is noted a little after its first instance became a file: mostly that is the latest file at that time.
    before = bisect_right(times, association.opened_at)
    first_at = times[before - 1] if before else association.opened_at
    opened_at = first_at if association.opened_at - first_at <= _NOTED_WITHIN_S else association.opened_at
    return opened_at, inf if association.ended_at is None else association.ended_at
