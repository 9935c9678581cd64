"""How long is waited: a table of evidence, habits and contradictions, and properties that hold for all of them."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.associations import PASSED_ON_AFTER, AssociationFact, Ending
from node.domain.evidence import ArchiveAnswer, CompletionPolicy, SeriesFacts
from node.domain.habits import LONGEST_WAIT_S, Habits
from node.domain.instance import ReceivedInstance
from node.domain.series import Complete, Growing, Stalled, Verdict, assess
from tests.series import LAST, facts, localizer, multi_frame, stack, without

WAIT = CompletionPolicy()
SETTLE = CompletionPolicy(new_senders="settle")


def habits(**changes: Any) -> Habits:
    usual = Habits(
        calling_ae_title="CT1",
        series=10,
        within_s=1.0,
        between_s=0.0,
        several_associations=False,
        several_counts=False,
        first_at=0.0,
        last_at=1.0,
    )
    return replace(usual, **changes)


def known(told: SeriesFacts, **changes: Any) -> SeriesFacts:
    return replace(told, habits={"CT1": habits(**changes)})


def waits(told: SeriesFacts, policy: CompletionPolicy = WAIT) -> float:
    """Give the silence after which the verdict comes."""
    verdict = assess(told, LAST, policy)
    return round(verdict.look_again_at - LAST, 6) if isinstance(verdict, Growing) else 0.0


def words(verdict: Verdict) -> str:
    match verdict:
        case Growing():
            return verdict.waiting_for
        case Stalled():
            return verdict.reason
        case Complete():
            return "; ".join(verdict.evidence)


# Senders


@pytest.mark.parametrize("endings", [["released"], ["open"], ["released", "released"]])
def test_a_sender_that_is_not_known_gets_the_quiet_period(endings: list[Ending]) -> None:
    told = facts(stack(), *endings)

    assert waits(told) == 60.0
    assert "CT1 is not known yet (0 of 3 series)" in words(assess(told, LAST, WAIT))
    assert waits(known(told, series=2)) == 60.0
    assert "CT1 is not known yet (2 of 3 series)" in words(assess(known(told, series=2), LAST, WAIT))


@pytest.mark.parametrize(
    ("endings", "learned", "expected"),
    [
        (["released"], {}, 3.0),
        (["released"], {"within_s": 40.0}, 3.0),
        (["released"], {"between_s": 20.0, "several_associations": True}, 50.0),
        (["released"], {"between_s": 0.5, "several_associations": True}, 3.0),
        (["released", "released"], {"between_s": 4.0, "several_associations": True}, 10.0),
        # Never seen with several: as with a sender that is not known.
        (["released", "released"], {}, 5.0),
        (["open"], {}, 15.0),
        (["open"], {"within_s": 40.0}, 100.0),
        (["open"], {"within_s": 2.0, "between_s": 20.0, "several_associations": True}, 50.0),
        (["released", "open"], {"within_s": 20.0}, 50.0),
        # Against an abort nothing learned helps, and what was learned may ask for more.
        (["aborted"], {}, 60.0),
        (["aborted"], {"within_s": 40.0}, 100.0),
        (["lost", "released"], {"between_s": 30.0}, 75.0),
        # Nobody is waited for longer.
        (["open"], {"within_s": 500.0}, LONGEST_WAIT_S),
    ],
)
def test_a_known_sender_is_waited_for_as_long_as_it_pauses(
    endings: list[Ending], learned: dict[str, Any], expected: float
) -> None:
    assert waits(known(facts(stack(), *endings), **learned)) == expected


def test_what_is_known_of_the_sender_is_evidence() -> None:
    told = facts(stack(), "released")
    one = known(told, within_s=4.2)
    several = known(told, within_s=4.2, between_s=0.5, several_associations=True)

    assert "CT1 is known from 10 series, with gaps of up to 4.2 s within an association" in evidence_of(one)
    assert (
        "CT1 is known from 10 series, with gaps of up to 4.2 s within an association and 0.5 s between two"
    ) in evidence_of(several)


def evidence_of(told: SeriesFacts) -> tuple[str, ...]:
    verdict = assess(told, LAST + 60.0, WAIT)
    assert isinstance(verdict, Complete)
    return verdict.evidence


def test_of_several_senders_the_one_that_is_not_known_decides() -> None:
    told = known(facts(stack(), "released"))
    stranger = replace(told.associations[0], association_id="9", calling_ae_title="CT2")

    assert waits(replace(told, associations=(*told.associations, stranger))) == 60.0


def test_an_open_association_that_passed_on_counts_as_released() -> None:
    told = known(facts(stack(), "open"))
    (still_open,) = told.associations

    def elsewhere(count: int) -> SeriesFacts:
        return replace(told, associations=(replace(still_open, sent_elsewhere=count),))

    assert waits(elsewhere(PASSED_ON_AFTER - 1)) == 15.0
    assert waits(elsewhere(PASSED_ON_AFTER)) == 3.0
    # It interleaves series in blocks: more of this one may come.
    assert waits(known(elsewhere(PASSED_ON_AFTER), within_s=10.0)) == 25.0


def test_without_an_association_habits_say_nothing() -> None:
    assert waits(known(facts(stack()))) == 60.0


# Against


def numbered(instances: Sequence[ReceivedInstance], *lacking: int) -> list[ReceivedInstance]:
    numbers = [number for number in range(1, 100) if number not in lacking]
    return [replace(one, instance_number=number) for one, number in zip(instances, numbers, strict=False)]


def test_a_hole_in_the_instance_numbers_waits_for_the_quiet_period_and_is_said() -> None:
    told = known(facts(numbered(stack(), 4), "released"))

    assert waits(known(facts(numbered(stack()), "released"))) == 3.0
    assert waits(told) == 60.0
    assert "instance number 4 is not there" in words(assess(told, LAST, WAIT))
    assert "instance number 4 is not there" in words(assess(told, LAST + 60.0, WAIT))
    assert isinstance(assess(told, LAST + 60.0, WAIT), Complete)


def test_irregular_planes_of_a_sender_that_pauses_long_are_waited_for_as_long() -> None:
    told = known(facts(without(stack(), 4), "released"), within_s=40.0)

    assert waits(told) == 100.0
    assert isinstance(assess(told, LAST + 100.0, WAIT), Stalled)


def test_volumes_of_different_length_wait_for_the_quiet_period() -> None:
    first = [replace(one, plane_keys=({"EchoNumbers": "1"},)) for one in stack(6)]
    second = [replace(one, plane_keys=({"EchoNumbers": "2"},)) for one in stack(6, name="b")]

    assert waits(known(facts([*first, *second], "released"))) == 3.0
    assert waits(known(facts([*first, *second[:4]], "released"))) == 60.0


# Counts


def stating(count: int, images: int = 30, **changes: Any) -> list[ReceivedInstance]:
    return [replace(one, images_in_acquisition=count, **changes) for one in stack(images)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (facts(stating(30), "released"), 0.1),
        (facts(stating(30), "released", "released"), 0.1),
        (facts(stating(30), "open"), 60.0),
        (facts(stating(30), "aborted"), 60.0),
        (facts(stating(31), "released"), 60.0),
        (facts(stating(29), "released"), 60.0),
        (known(facts(stating(31), "released")), 60.0),
        (known(facts(stating(29), "released")), 3.0),
        # One rotation of several?
        (facts(stating(8, images=8), "released"), 60.0),
        (known(facts(stating(8, images=8), "released")), 0.1),
        (known(facts(stating(30), "released"), several_counts=True), 3.0),
        (facts(without(tuple(stating(30)), 7), "released"), 60.0),
        # The second acquisition says nothing of its number.
        (facts([*stating(30), *stating(0, 40)[30:]], "released"), 60.0),
        # Of the series, so nothing can follow it.
        (facts([replace(one, series_related_instances=8) for one in stack(8)], "released"), 0.1),
        (facts([replace(one, series_related_instances=8) for one in stack(8)], "open"), 0.1),
        (facts([replace(one, series_related_instances=8) for one in stack(8)], "aborted"), 60.0),
        (facts([replace(one, series_related_instances=9) for one in stack(8)], "open"), 60.0),
    ],
)
def test_a_number_that_the_images_state_decides_where_it_can_be_trusted(told: SeriesFacts, expected: float) -> None:
    assert waits(told) == expected


def test_a_number_that_is_too_large_is_said_and_believed_only_for_the_quiet_period() -> None:
    verdict = assess(facts(stating(40), "released"), LAST + 60.0, WAIT)

    assert isinstance(verdict, Complete)
    assert "30 of 40 images, says Images in Acquisition" in verdict.evidence


def archive(count: int | None, *, had: int = 4, asked_at: float = LAST) -> dict[str, Any]:
    answer = ArchiveAnswer(archive="PACS", count=count, reason="it is silent", asked_at=asked_at, had=had)
    return {"asks_archive": True, "archive": answer}


@pytest.mark.parametrize("endings", [[], ["open"], ["aborted"], ["released"]])
def test_an_archive_whose_number_is_reached_completes_at_once(endings: list[Ending]) -> None:
    told = replace(facts(stack(), *endings), **archive(10))

    verdict = assess(told, LAST + 0.1, WAIT)

    assert waits(told) == 0.1
    assert isinstance(verdict, Complete)
    assert "10 of 10 instances, says the archive PACS" in verdict.evidence


@pytest.mark.parametrize(
    "told",
    [
        replace(facts(stack(), "aborted"), **archive(10)),
        facts([multi_frame("1", 5)], "aborted"),
        facts(stack(), "aborted"),
        facts(without(stack(), 4), "aborted"),
        replace(facts(stack(), "aborted"), **archive(60, asked_at=LAST + 60.0)),
    ],
)
@pytest.mark.parametrize("later_s", [0.2, 100.0])
def test_every_verdict_says_that_an_association_was_aborted(told: SeriesFacts, later_s: float) -> None:
    assert words(assess(told, LAST + later_s, WAIT)).count("an association was aborted") == 1


def test_an_archive_that_has_more_is_asked_again_and_then_the_series_stalls() -> None:
    told = known(replace(facts(stack(), "released"), **archive(60)))
    asked_again = replace(told, **archive(60, had=10, asked_at=LAST + 60.0))

    before = assess(told, LAST + 61.0, WAIT)
    after = assess(asked_again, LAST + 61.0, WAIT)

    assert isinstance(before, Growing)
    assert "10 of 60 instances, says the archive PACS" in before.waiting_for
    assert after == Stalled(reason="10 of 60 instances, says the archive PACS")


def test_an_archive_that_does_not_answer_is_only_not_known() -> None:
    told = known(replace(facts(stack(), "released"), **archive(None)))

    verdict = assess(told, LAST + 3.0, WAIT)

    assert isinstance(verdict, Complete)
    assert "the archive PACS could not say how many instances there are: it is silent" in verdict.evidence


def test_irregular_planes_are_not_completed_by_an_archive() -> None:
    told = replace(facts(without(stack(11), 4), "released"), **archive(10))

    assert waits(told) == 60.0


def test_an_archive_is_given_time_for_its_first_answer() -> None:
    told = known(replace(facts(stack(), "released"), asks_archive=True))

    assert waits(told) == 30.0
    assert "an archive's answer" in words(assess(told, LAST, WAIT))


# Multi-frame


@pytest.mark.parametrize("endings", [[], ["open"], ["aborted"]])
def test_a_multi_frame_object_is_whole_as_soon_as_it_is_stored(endings: list[Ending]) -> None:
    verdict = assess(facts([multi_frame("1", 5), localizer()], *endings), LAST, WAIT)

    assert isinstance(verdict, Complete)
    assert "multi-frame, whole by itself" in verdict.evidence


def test_a_multi_frame_series_of_which_an_object_was_refused_waits_for_it() -> None:
    told = replace(facts([multi_frame("1", 5)], "released"), refused={"1.2.2": "0xC000"})

    assert waits(told) == 60.0
    assert isinstance(assess(told, LAST + 60.0, WAIT), Stalled)


# Properties

ENDINGS: tuple[Ending, ...] = ("open", "released", "aborted", "lost")


@st.composite
def any_association(draw: st.DrawFn) -> AssociationFact:
    ending = draw(st.sampled_from(ENDINGS))
    return AssociationFact(
        association_id=str(draw(st.integers(0, 10**9))),
        calling_ae_title=draw(st.sampled_from(["CT1", "CT2"])),
        ending=ending,
        opened_at=draw(st.floats(700.0, LAST)),
        ended_at=None if ending == "open" else draw(st.floats(850.0, LAST + 5.0)),
        sent_elsewhere=draw(st.sampled_from([0, 3, 40])),
    )


@st.composite
def any_habits(draw: st.DrawFn) -> dict[str, Habits]:
    return {
        title: habits(
            calling_ae_title=title,
            series=draw(st.integers(1, 5)),
            within_s=draw(st.floats(0.0, 400.0)),
            between_s=draw(st.floats(0.0, 400.0)),
            several_associations=draw(st.booleans()),
            several_counts=draw(st.booleans()),
        )
        for title in draw(st.sets(st.sampled_from(["CT1", "CT2"])))
    }


@st.composite
def any_facts(draw: st.DrawFn) -> SeriesFacts:
    instances: list[ReceivedInstance] = list(stack(draw(st.integers(1, 8))))
    if draw(st.booleans()):
        instances = numbered(instances, *draw(st.lists(st.integers(1, 9), max_size=2)))
    instances += draw(st.lists(st.sampled_from([localizer(), multi_frame("63", 4)]), max_size=1))
    stated = draw(st.sampled_from([None, 4, 8]))
    times = draw(st.lists(st.floats(900.0, LAST), min_size=len(instances), max_size=len(instances)))
    told = facts(
        [replace(one, received_at=at, images_in_acquisition=stated) for one, at in zip(instances, times, strict=True)]
    )
    answer = draw(
        st.none()
        | st.builds(
            ArchiveAnswer,
            archive=st.just("PACS"),
            count=st.none() | st.integers(0, 9),
            asked_at=st.floats(900.0, 1100.0),
            had=st.integers(1, 8),
        )
    )
    return replace(
        told,
        associations=tuple(draw(st.lists(any_association(), max_size=3))),
        habits=draw(any_habits()),
        asks_archive=answer is not None or draw(st.booleans()),
        archive=answer,
        refused=draw(st.sampled_from([{}, {"1.2.3": "0xA700"}, {"9.9": "0xC000"}])),
    )


POLICIES = st.sampled_from([WAIT, SETTLE, CompletionPolicy(quiet_period_s=10.0), CompletionPolicy(settle_s=20.0)])


@given(told=any_facts(), policy=POLICIES, now=st.floats(800.0, 1800.0), order=st.randoms(use_true_random=False))
def test_neither_order_of_arrival_nor_of_associations_changes_the_verdict(
    told: SeriesFacts, policy: CompletionPolicy, now: float, order: random.Random
) -> None:
    instances, associations = list(told.instances), list(told.associations)
    order.shuffle(instances)
    order.shuffle(associations)

    shuffled = replace(told, instances=tuple(instances), associations=tuple(associations))

    assert assess(shuffled, now, policy) == assess(told, now, policy)


@given(told=any_facts(), policy=POLICIES, nows=st.lists(st.floats(800.0, 1800.0), min_size=2, max_size=5))
def test_as_time_passes_no_verdict_turns_back_into_growing(
    told: SeriesFacts, policy: CompletionPolicy, nows: list[float]
) -> None:
    kinds = [type(assess(told, now, policy)) for now in sorted(nows)]

    settled = [kind for kind in kinds if kind is not Growing]
    assert kinds == [Growing] * (len(kinds) - len(settled)) + settled
    assert len(set(settled)) <= 1


@given(told=any_facts(), policy=POLICIES, now=st.floats(800.0, 1800.0))
def test_the_next_look_decides(told: SeriesFacts, policy: CompletionPolicy, now: float) -> None:
    verdict = assess(told, now, policy)

    if isinstance(verdict, Growing):
        assert verdict.look_again_at > now
        assert not isinstance(assess(told, verdict.look_again_at, policy), Growing)


@given(
    told=any_facts(),
    policy=POLICIES,
    which=st.integers(0, 2),
    ending=st.sampled_from(["aborted", "lost"]),
)
def test_an_abort_alone_never_shortens_a_wait(
    told: SeriesFacts, policy: CompletionPolicy, which: int, ending: Literal["aborted", "lost"]
) -> None:
    associations = list(told.associations)
    if which >= len(associations):
        return
    associations[which] = replace(
        associations[which], ending=ending, ended_at=associations[which].ended_at or told.last_instance_at
    )

    assert waits_at_least(replace(told, associations=tuple(associations)), told, policy)


def waits_at_least(one: SeriesFacts, other: SeriesFacts, policy: CompletionPolicy) -> bool:
    verdict, compared = assess(one, 0.0, policy), assess(other, 0.0, policy)
    if not isinstance(compared, Growing):
        return True
    return isinstance(verdict, Growing) and verdict.look_again_at >= compared.look_again_at


@given(told=any_facts(), policy=POLICIES)
def test_nobody_is_waited_for_longer_than_ten_minutes(told: SeriesFacts, policy: CompletionPolicy) -> None:
    assert not isinstance(assess(told, told.last_instance_at + LONGEST_WAIT_S, policy), Growing)
