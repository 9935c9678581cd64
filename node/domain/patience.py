"""How long to wait for more instances of a series, and why just so long.

Evidence shortens the wait, contradictions lengthen it, habits do both. Silence after the last instance, by evidence:

| evidence | seconds |
|---|---|
| every image is a multi-frame object, or a concatenation that is all there | 0 |
| an archive that was asked has no more; or the images state as many as are here | 0.1 |
| a sender that is not known (``new_senders = "wait"``) | the quiet period |
| one association, released, of a sender known to use but one | ``settle_s`` |
| several associations | ``settle_s`` (5 where that is no habit), or 2.5 times the longest gap between associations |
| an association open | 15, or 2.5 times the longest gap |
| open, but passed on to other series | ``settle_s``, or 2.5 times the longest gap within an association |
| irregular planes, a hole in Instance Numbers, fewer than stated, an abort | quiet period, or the longest above |
| no association | the quiet period |

Where several hold, the longest; nobody is waited for longer than 10 minutes. A sender is known after
``known_after_series`` series. Gaps are those known and those seen; of a sender that is not known 3 times the longest
pause seen. What is seen of this series alone never lengthens the wait beyond the quiet period.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from node.domain.associations import AssociationFact
from node.domain.counts import (
    ARCHIVE_ANSWERS_WITHIN_S,
    archive_agrees,
    archive_has_more,
    archive_words,
    ask_archive_at,
    is_every_image_counted,
    stated_in,
    why_number_lacks,
)
from node.domain.evidence import CompletionPolicy, SeriesFacts
from node.domain.habits import LONGEST_WAIT_S, Habits
from node.domain.instance import ReceivedInstance
from node.domain.stack import Obstacle
from node.domain.volumes import Volumes, are_whole_by_themselves

# A sender may pause so many times as long as it ever did.
HABIT_FACTOR = 2.5
# Not known how it pauses: so many times as long as it did so far.
PAUSE_FACTOR = 3.0
# At least, where the next association may be on its way, and where one is open.
SEVERAL_S = 5.0
OPEN_S = 15.0
# A scanner that steps through the body makes an acquisition of every rotation, with fewer images than this.
WHOLE_ACQUISITION = 25
# All are here: only files of the same moment may be on their way.
AT_ONCE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The silence after the last instance that ends the wait."""

    seconds: float
    # What keeps the verdict from coming earlier, where anything does.
    because: tuple[str, ...] = ()
    # What speaks for the series being whole.
    evidence: tuple[str, ...] = ()


def wait_of(facts: SeriesFacts, policy: CompletionPolicy, shape: Volumes | Obstacle) -> Wait:
    """Say how long to wait after the last instance, from the evidence there is.

    Parameters
    ----------
    shape
        What the planes form so far.
    """
    if are_whole_by_themselves(facts.instances) and not facts.lacking:
        return Wait(seconds=0.0, evidence=("multi-frame, whole by itself",))
    against = _contradictions(facts, shape)
    if isinstance(shape, Volumes) and archive_agrees(facts, policy):
        return Wait(seconds=min(AT_ONCE_S, policy.quiet_period_s), evidence=(archive_words(facts),))
    wait = _counted(facts, policy) if not against else None
    return _held_for_archive(wait or _patient(facts, policy, against), facts, policy)


def longest_habit_s(habits: Habits, policy: CompletionPolicy) -> float:
    """Give the longest wait that the habits of a known sender ask for."""
    longest = max(habits.within_s, habits.between_s)
    return min(LONGEST_WAIT_S, max(policy.settle_s, HABIT_FACTOR * longest))


def after_release_s(habits: Habits, policy: CompletionPolicy) -> float:
    """Give the wait after the release of the only association of a known sender."""
    return min(LONGEST_WAIT_S, max(policy.settle_s, HABIT_FACTOR * habits.between_s))


def while_open_s(habits: Habits, policy: CompletionPolicy) -> float:
    """Give the silence of an open association of a known sender that counts as its end."""
    return min(LONGEST_WAIT_S, max(OPEN_S, longest_habit_s(habits, policy)))


def is_known(habits: Habits | None, policy: CompletionPolicy) -> bool:
    """Tell whether enough series of a sender were seen whole."""
    return habits is not None and habits.series >= policy.known_after_series


# Against an early verdict


def _contradictions(facts: SeriesFacts, shape: Volumes | Obstacle) -> tuple[str, ...]:
    """Name what says that the series is not whole."""
    found = [archive_words(facts) if archive_has_more(facts) else "", broken_words(facts.associations)]
    if isinstance(shape, Obstacle):
        return tuple(filter(None, [shape.reason, *found]))
    found += [str(one) for one in stated_in(facts.instances) if one.here < one.stated]
    found.append(why_number_lacks(facts.instances))
    found.append("" if shape.is_even else "its volumes are not alike in their number of planes")
    return tuple(filter(None, found))


def broken_words(associations: Iterable[AssociationFact]) -> str:
    """Say that an association did not end in order; empty where all did."""
    endings = sorted({one.ending for one in associations if one.is_broken})
    return f"an association was {' or '.join(endings)}" if endings else ""


# The wait


def _counted(facts: SeriesFacts, policy: CompletionPolicy) -> Wait | None:
    """Give the wait where the images themselves state how many there are, and all are here.

    What they state of an acquisition says nothing as long as the sender is at it, nor where an image does not state it;
    nor where the sender is known for several in a series, or not known and the acquisition is as small as one rotation.
    """
    stated = stated_in(facts.instances)
    if not stated or any(one.here != one.stated for one in stated):
        return None
    at_once = Wait(seconds=min(AT_ONCE_S, policy.quiet_period_s), evidence=tuple(map(str, stated)))
    if not all(one.of_acquisition for one in stated):
        return at_once
    done = bool(facts.associations) and all(one.is_done for one in facts.associations)
    known = _known(facts, policy)
    small = not known and any(one.stated < WHOLE_ACQUISITION for one in stated)
    several = any(one.several_counts for one in known)
    if not done or small or several or not is_every_image_counted(facts.instances):
        return None
    return at_once


def _patient(facts: SeriesFacts, policy: CompletionPolicy, against: tuple[str, ...]) -> Wait:
    known = _known(facts, policy)
    seconds = _habitual_s(facts, known, policy, at_worst=bool(against))
    strangers = sorted({one.calling_ae_title for one in facts.associations} - {one.calling_ae_title for one in known})
    if not facts.associations:
        return Wait(seconds=policy.quiet_period_s, because=against)
    pending = sum(one.is_pending for one in facts.associations)
    because = against or tuple(_why_strange(title, facts, policy) for title in strangers)
    if against or (strangers and policy.new_senders == "wait"):
        return Wait(seconds=max(policy.quiet_period_s, seconds), because=because, evidence=_done_words(facts))
    is_open = f"{pending} association{'s are' if pending != 1 else ' is'} still open"
    senders = (*map(_known_words, known), *(f"{title} is not known yet, but trusted" for title in strangers))
    return Wait(seconds=seconds, because=(is_open,) if pending else (), evidence=(*_done_words(facts), *senders))


def _known_words(habits: Habits) -> str:
    gaps = f"gaps of up to {habits.within_s:.1f} s within an association"
    between = f" and {habits.between_s:.1f} s between two" if habits.several_associations else ""
    return f"{habits.calling_ae_title} is known from {habits.series} series, with {gaps}{between}"


def _done_words(facts: SeriesFacts) -> tuple[str, ...]:
    if not all(one.is_done for one in facts.associations):
        return ()
    passed_on = [one for one in facts.associations if one.ending == "open"]
    if passed_on:
        return ("every association that sent to it was released, or sends other series since",)
    return ("every association that sent to it was released",)


def _known(facts: SeriesFacts, policy: CompletionPolicy) -> list[Habits]:
    titles = sorted({one.calling_ae_title for one in facts.associations})
    return [habits for title in titles if (habits := facts.habits.get(title)) and is_known(habits, policy)]


def _habitual_s(facts: SeriesFacts, known: list[Habits], policy: CompletionPolicy, *, at_worst: bool) -> float:
    """Give the longest wait that what is seen and what is known ask for.

    ``at_worst``: as if an association were open and several had sent, so that a contradiction never shortens a wait.
    """
    is_open = at_worst or any(one.is_pending for one in facts.associations)
    passed_on = at_worst or any(one.ending == "open" for one in facts.associations)
    several = at_worst or len(facts.associations) > 1
    all_known = {one.calling_ae_title for one in known} >= {one.calling_ae_title for one in facts.associations}
    is_habit = all_known and all(one.several_associations for one in known)
    pause_s = _longest_pause_s(facts.instances, policy.quiet_period_s) if is_open or several else 0.0
    floors = (
        policy.settle_s,
        OPEN_S if is_open else 0.0,
        SEVERAL_S if several and not is_habit else 0.0,
        (HABIT_FACTOR if all_known else PAUSE_FACTOR) * pause_s,
    )
    habitual = [0.0]
    for habits in known:
        habitual.append(after_release_s(habits, policy))
        habitual.append(while_open_s(habits, policy) if is_open else 0.0)
        habitual.append(HABIT_FACTOR * habits.within_s if passed_on else 0.0)
    return max(min(policy.quiet_period_s, max(floors)), min(LONGEST_WAIT_S, max(habitual)))


def _longest_pause_s(instances: Iterable[ReceivedInstance], quiet_period_s: float) -> float:
    """Give the longest pause between two arrivals that was no end: after a quiet period the series was judged."""
    times = sorted(instance.received_at for instance in instances)
    pauses = (after - before for before, after in pairwise(times))
    return max((pause for pause in pauses if pause < quiet_period_s), default=0.0)


def _why_strange(title: str, facts: SeriesFacts, policy: CompletionPolicy) -> str:
    habits = facts.habits.get(title)
    seen = habits.series if habits else 0
    return f"{title} is not known yet ({seen} of {policy.known_after_series} series)"


def _held_for_archive(wait: Wait, facts: SeriesFacts, policy: CompletionPolicy) -> Wait:
    """Give the archive time to answer, where its answer would decide."""
    ask_at = ask_archive_at(facts, policy)
    if ask_at is None or (facts.archive is not None and facts.archive.count is None):
        return wait
    until_s = ask_at + ARCHIVE_ANSWERS_WITHIN_S - facts.last_instance_at
    if until_s <= wait.seconds:
        return wait
    return Wait(seconds=until_s, because=(*wait.because, "an archive's answer"), evidence=wait.evidence)
