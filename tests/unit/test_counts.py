"""Stated numbers of instances: what the images say, what their own numbers show, what an archive answers."""

from dataclasses import replace

import pytest

from node.domain.counts import (
    archive_agrees,
    archive_has_more,
    archive_words,
    ask_archive_at,
    is_every_image_counted,
    stated_in,
    why_number_lacks,
)
from node.domain.evidence import ArchiveAnswer, CompletionPolicy, SeriesFacts
from tests.series import LAST, Instances, facts, stack

POLICY = CompletionPolicy()


def numbered(*numbers: int | None) -> Instances:
    return tuple(replace(one, instance_number=number) for one, number in zip(stack(12), numbers, strict=False))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((1, 2, 3, 4), ""),
        ((0, 1, 2), ""),
        ((-1, 0, 1), ""),
        ((3, 1, 2), ""),
        ((1, 1, 1), ""),
        ((None, None), ""),
        ((None, 1, 2), ""),
        ((1, 2, 4), "instance number 3 is not there"),
        ((1, 2, 6), "instance number 3 is not there, nor are 2 more"),
        ((5, 6, 7), "instance number 1 is not there, nor are 3 more"),
        ((0, 2), "instance number 1 is not there"),
    ],
)
def test_a_hole_in_the_instance_numbers_is_named(numbers: tuple[int | None, ...], expected: str) -> None:
    assert why_number_lacks(numbered(*numbers)) == expected


def test_images_in_acquisition_are_compared_for_each_acquisition() -> None:
    images = tuple(
        replace(one, images_in_acquisition=count, plane_keys=({"AcquisitionNumber": acquisition},))
        for one, acquisition, count in zip(stack(5), "11122", (3, 3, 3, 4, 4), strict=True)
    )

    assert [str(one) for one in stated_in(images)] == [
        "3 of 3 images, says Images in Acquisition of acquisition 1",
        "2 of 4 images, says Images in Acquisition of acquisition 2",
    ]


def test_the_same_instance_twice_counts_once() -> None:
    images = tuple(replace(one, images_in_acquisition=3) for one in stack(3))

    (stated,) = stated_in((*images, replace(images[0], file_name="again.dcm")))

    assert (stated.here, stated.stated) == (3, 3)


def test_a_number_of_the_series_counts_the_whole_series() -> None:
    images = tuple(replace(one, series_related_instances=7) for one in stack(3))

    assert [str(one) for one in stated_in(images)] == [
        "3 of 7 images, says Number of Series Related Instances in the images"
    ]


def test_an_acquisition_that_does_not_state_its_number_leaves_the_series_uncounted() -> None:
    counted = tuple(replace(one, images_in_acquisition=3) for one in stack(3))

    assert is_every_image_counted(counted)
    assert not is_every_image_counted((*counted, *stack(2, name="b")))


def test_images_that_state_nothing_are_compared_with_nothing() -> None:
    assert stated_in(stack(3)) == ()


# The archive


def asked(count: int | None, *, had: int, asked_at: float, here: int = 10) -> SeriesFacts:
    answer = ArchiveAnswer(archive="PACS", count=count, reason="" if count else "no answer", asked_at=asked_at, had=had)
    return replace(facts(stack(here)), asks_archive=True, archive=answer)


def test_an_archive_that_knew_of_more_is_believed_when_they_are_here() -> None:
    assert archive_agrees(asked(10, had=4, asked_at=LAST - 5.0), POLICY)


def test_an_archive_that_had_no_more_than_was_here_is_believed_only_after_a_silence() -> None:
    assert not archive_agrees(asked(10, had=10, asked_at=LAST + 1.0), POLICY)
    assert archive_agrees(asked(10, had=10, asked_at=LAST + 3.0), POLICY)


@pytest.mark.parametrize("count", [None, 0, 9, 11])
def test_an_archive_that_says_another_number_does_not_agree(count: int | None) -> None:
    assert not archive_agrees(asked(count, had=4, asked_at=LAST + 100.0), POLICY)


def test_an_archive_that_has_more_says_so() -> None:
    told = asked(60, had=10, asked_at=LAST)

    assert archive_has_more(told)
    assert archive_words(told) == "10 of 60 instances, says the archive PACS"


def test_an_archive_without_an_answer_is_said_with_the_reason() -> None:
    told = asked(None, had=10, asked_at=LAST)

    assert archive_words(told) == "the archive PACS could not say how many instances there are: no answer"
    assert archive_words(facts(stack())) == ""


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (facts(stack()), None),
        (replace(facts(stack()), asks_archive=True), LAST),
        (replace(facts([]), asks_archive=True), None),
        # It knew of more, and they are here.
        (asked(10, had=4, asked_at=LAST - 5.0), None),
        # It had no more: after a silence.
        (asked(10, had=10, asked_at=LAST), LAST + 3.0),
        (asked(4, had=4, asked_at=LAST - 5.0), LAST + 3.0),
        (asked(4, had=4, asked_at=LAST + 3.0), None),
        # It has more, or gave no answer: after the quiet period, and no more then.
        (asked(60, had=10, asked_at=LAST), LAST + 60.0),
        (asked(None, had=10, asked_at=LAST), LAST + 60.0),
        (asked(60, had=10, asked_at=LAST + 60.0), None),
    ],
)
def test_an_archive_is_asked_when_its_answer_may_have_changed(told: SeriesFacts, expected: float | None) -> None:
    assert ask_archive_at(told, POLICY) == expected
