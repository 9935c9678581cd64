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
    DeliveryState,
    JobState,
    SeriesState,
    retry_delay_s,
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


@pytest.mark.parametrize("transitions", [JOB_TRANSITIONS, DELIVERY_TRANSITIONS])
def test_from_every_state_an_end_can_be_reached(transitions: dict[Any, frozenset[Any]]) -> None:
    ends = {state for state, following in transitions.items() if not following}

    for state, following in transitions.items():
        assert state in ends or following & ends


def test_retries_double_up_to_the_longest() -> None:
    delays = [retry_delay_s(attempt, first_s=5, longest_s=3600) for attempt in (1, 2, 3, 10, 11, 5000)]

    assert delays == [5, 10, 20, 2560, 3600, 3600]
