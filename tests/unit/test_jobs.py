"""States: everybody has words, and no state is a trap."""

from enum import StrEnum
from typing import Any

import pytest

from node.domain.jobs import (
    DELIVERY_STATES,
    DELIVERY_TRANSITIONS,
    JOB_STATES,
    JOB_TRANSITIONS,
    SERIES_STATES,
    SERIES_TRANSITIONS,
    UNFINISHED_DELIVERIES,
    UNFINISHED_JOBS,
    DeliveryState,
    JobState,
    SeriesState,
    retry_delay_s,
    short_id,
)

TABLES = [
    (SeriesState, SERIES_STATES, SERIES_TRANSITIONS, SeriesState.RECEIVING),
    (JobState, JOB_STATES, JOB_TRANSITIONS, JobState.QUEUED),
    (DeliveryState, DELIVERY_STATES, DELIVERY_TRANSITIONS, DeliveryState.QUEUED),
]


@pytest.mark.parametrize(("states", "words", "transitions", "first"), TABLES)
def test_every_state_is_explained_and_can_be_reached(
    states: type[StrEnum], words: dict[Any, Any], transitions: dict[Any, frozenset[Any]], first: StrEnum
) -> None:
    reached = {first}
    while more := {state for known in reached for state in transitions[known]} - reached:
        reached |= more

    assert set(words) == set(transitions) == set(states)
    assert reached == set(states)
    assert all(word.meaning and word.what_to_do for word in words.values())


@pytest.mark.parametrize(
    ("transitions", "unfinished"),
    [(JOB_TRANSITIONS, UNFINISHED_JOBS), (DELIVERY_TRANSITIONS, UNFINISHED_DELIVERIES)],
)
def test_what_is_unfinished_can_end_and_what_has_ended_goes_on_only_from_the_queue(
    transitions: dict[Any, frozenset[Any]], unfinished: frozenset[Any]
) -> None:
    for state, following in transitions.items():
        if state in unfinished:
            assert following - unfinished
        else:
            # What was delivered may turn out not to be kept, and stays delivered while that is asked.
            assert following <= {"queued", *(("delivered", "waiting") if state == "delivered" else ())}


def test_a_job_is_called_by_eight_digits_that_never_change() -> None:
    # sha256 of the key, computed with sha256sum.
    assert short_id("1.2.3/ffff/m/1") == "3f947854"


def test_retries_double_up_to_the_longest() -> None:
    delays = [retry_delay_s(attempt, first_s=5, longest_s=3600) for attempt in (1, 2, 3, 10, 11, 5000)]

    assert delays == [5, 10, 20, 2560, 3600, 3600]
