"""What a series teaches of its sender, and what the latest lessons come to."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from node.domain.associations import AssociationFact, Ending
from node.domain.habits import LESSONS_REMEMBERED, LONGEST_WAIT_S, Habits, Lesson, habits_of, lessons_of
from node.domain.instance import ReceivedInstance
from tests.series import stack


def arrived(*times: float, title: str = "CT1") -> list[ReceivedInstance]:
    attributes = {"CallingAETitle": title}
    return [replace(one, received_at=at, attributes=attributes) for one, at in zip(stack(20), times, strict=False)]


def association(
    name: str, opened_at: float, ended_at: float | None, ending: Ending = "released", title: str = "CT1"
) -> AssociationFact:
    return AssociationFact(
        association_id=name, calling_ae_title=title, ending=ending, opened_at=opened_at, ended_at=ended_at
    )


def lesson_of(instances: Sequence[ReceivedInstance], *associations: AssociationFact) -> Lesson:
    (lesson,) = lessons_of("1.2.3", instances, associations, 500.0)
    return lesson


def test_a_gap_within_one_association_is_no_gap_between() -> None:
    lesson = lesson_of(arrived(100.0, 100.5, 125.5, 126.0), association("a", 100.01, 127.0))

    assert (lesson.within_s, lesson.between_s, lesson.associations) == (25.0, 0.0, 1)
    assert (lesson.calling_ae_title, lesson.instances, lesson.learned_at) == ("CT1", 4, 500.0)


def test_files_of_one_tick_before_their_association_was_noted_are_no_gap_between() -> None:
    # The clock of files lags: the second file was written after the note, and says 4 ms before it.
    lesson = lesson_of(arrived(100.0, 100.004, 100.5), association("a", 100.005, 101.0))

    assert lesson.between_s == 0.0


def test_a_gap_that_no_association_spans_is_between() -> None:
    lesson = lesson_of(
        arrived(100.0, 101.0, 121.0, 122.5), association("a", 100.01, 101.2), association("b", 121.02, 123.0)
    )

    assert (lesson.within_s, lesson.between_s, lesson.associations) == (1.5, 20.0, 2)


def test_parallel_associations_leave_no_gap_between() -> None:
    lesson = lesson_of(arrived(100.0, 103.0, 106.0), association("a", 100.0, 107.0), association("b", 103.0, 107.0))

    assert (lesson.within_s, lesson.between_s) == (3.0, 0.0)


@pytest.mark.parametrize("ending", ["aborted", "lost"])
def test_a_gap_after_an_abort_teaches_nothing(ending: Ending) -> None:
    lesson = lesson_of(
        arrived(100.0, 101.0, 131.0, 132.0), association("a", 100.0, 101.5, ending), association("b", 131.0, 133.0)
    )

    assert (lesson.within_s, lesson.between_s) == (1.0, 0.0)


def test_a_gap_longer_than_anybody_is_waited_for_teaches_nothing() -> None:
    late = 101.0 + LONGEST_WAIT_S + 1.0

    lesson = lesson_of(arrived(100.0, 101.0, late), association("a", 100.0, 101.5), association("b", late, late + 1.0))

    assert lesson.between_s == 0.0


def test_an_association_that_is_still_open_spans_what_follows() -> None:
    assert lesson_of(arrived(100.0, 101.0, 111.0), association("a", 100.0, None, "open")).within_s == 10.0


def test_an_association_that_sent_nothing_new_is_no_habit() -> None:
    lesson = lesson_of(
        arrived(100.0, 101.0, 102.0), association("a", 100.01, 102.5), association("again", 900.0, 905.0)
    )

    assert (lesson.associations, lesson.within_s, lesson.between_s) == (1, 1.0, 0.0)


def test_what_is_sent_again_before_what_is_new_does_not_hide_the_gap_between() -> None:
    # The second begins with what was here already, so its first file comes later than it was noted.
    lesson = lesson_of(
        arrived(100.0, 101.0, 141.0, 142.0), association("a", 100.01, 101.5), association("b", 138.0, 143.0)
    )

    assert (lesson.associations, lesson.within_s, lesson.between_s) == (2, 1.0, 40.0)


def test_each_sender_is_learned_from_for_itself_and_from_its_own_images() -> None:
    instances = [*arrived(100.0, 101.0, 102.0), *arrived(100.0, 107.0, 110.0, title="PACS")]
    told = [association("a", 100.0, 103.0), association("b", 100.0, 111.0, title="PACS")]

    lessons = {one.calling_ae_title: one for one in lessons_of("1.2.3", instances, told, 0.0)}

    assert lessons["CT1"].within_s == 1.0
    assert lessons["PACS"].within_s == 7.0


def test_two_images_or_images_without_an_association_teach_nothing() -> None:
    assert lessons_of("1.2.3", arrived(100.0, 101.0), [association("a", 100.0, 102.0)], 0.0) == ()
    assert lessons_of("1.2.3", arrived(100.0, 101.0, 102.0), [], 0.0) == ()


def test_several_counted_acquisitions_are_remembered() -> None:
    counted = [
        replace(one, images_in_acquisition=2, plane_keys=({"AcquisitionNumber": str(index // 2)},))
        for index, one in enumerate(arrived(100.0, 101.0, 102.0, 103.0))
    ]

    assert lesson_of(counted, association("a", 100.0, 104.0)).counted_acquisitions == 2


def lesson(number: int, within_s: float = 1.0, between_s: float = 0.0, associations: int = 1) -> Lesson:
    return Lesson(
        calling_ae_title="CT1",
        series_instance_uid=f"1.2.{number}",
        learned_at=float(number),
        instances=10,
        associations=associations,
        within_s=within_s,
        between_s=between_s,
        counted_acquisitions=1,
    )


def test_habits_are_the_longest_gaps_of_all_lessons() -> None:
    habits = habits_of([lesson(1, within_s=4.0), lesson(2, between_s=20.0, associations=3), lesson(3)])

    assert habits == Habits(
        calling_ae_title="CT1",
        series=3,
        within_s=4.0,
        between_s=20.0,
        several_associations=True,
        several_counts=False,
        first_at=1.0,
        last_at=3.0,
    )


def test_a_habit_fades_after_enough_series_without_it() -> None:
    once = lesson(0, within_s=300.0)
    since = [lesson(number) for number in range(1, LESSONS_REMEMBERED + 1)]

    assert habits_of([*since[:-1], once]).within_s == 300.0
    assert habits_of([*since, once]).within_s == 1.0
