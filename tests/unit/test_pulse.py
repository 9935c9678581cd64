"""The pulse: silence is seen by looking at it, and what was written last outlives the process."""

import os
import time
from pathlib import Path

import pytest

from node.adapters.pulse import Beat, Ending, Pulse, PulseWatch, read_ending


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "contourer.pulse"


def test_silence_is_the_time_since_the_last_change_that_was_seen(path: Path) -> None:
    pulse, watch = Pulse(path), PulseWatch(path)
    pulse.beat("predict 1 of 64")

    assert watch.silent_s(100.0) == 0.0
    assert watch.silent_s(107.0) == 7.0
    time.sleep(0.02)  # longer than the file system's clock ticks
    pulse.beat("predict 1 of 64")
    assert watch.silent_s(110.0) == 0.0
    assert watch.silent_s(111.0) == 1.0


def test_time_in_which_the_supervisor_stood_still_itself_is_nobody_s_silence(path: Path) -> None:
    pulse, watch = Pulse(path), PulseWatch(path)
    pulse.beat("predict 1 of 64")
    watch.silent_s(100.0)
    watch.silent_s(105.0)

    # A container that was frozen for an hour with all its processes.
    assert watch.silent_s(3705.0) == 0.0
    assert watch.silent_s(3706.0) == 1.0


def test_who_rests_may_be_silent(path: Path) -> None:
    pulse, watch = Pulse(path), PulseWatch(path)
    pulse.beat("predict 1 of 64")
    pulse.rest()

    assert watch.silent_s(0.0) == watch.silent_s(10_000.0) == 0.0


def test_a_process_that_has_no_pulse_yet_is_not_silent(path: Path) -> None:
    watch = PulseWatch(path)

    assert watch.silent_s(0.0) == watch.silent_s(10_000.0) == 0.0


def test_a_clock_that_is_put_back_makes_nobody_silent(path: Path) -> None:
    pulse, watch = Pulse(path), PulseWatch(path)
    pulse.beat("predict 1 of 64")
    watch.silent_s(0.0)
    os.utime(path, (1.0, 1.0))

    assert watch.silent_s(5.0) == 0.0


def test_the_ending_names_the_job_its_try_and_the_last_step(path: Path) -> None:
    pulse, watch = Pulse(path), PulseWatch(path)
    pulse.beat("a step with a long name that leaves nothing of it behind the next one", "1.2.3/f/m/1", 1)
    pulse.beat("predict 3 of 64", "1.2.3/f/m/1", 2)

    assert watch.note_ending("The process ended (signal 11, SIGSEGV)") == Beat(
        doing="predict 3 of 64", job="1.2.3/f/m/1", attempt=2
    )
    assert read_ending(path) == Ending(
        job="1.2.3/f/m/1", attempt=2, reason="The process ended (signal 11, SIGSEGV) while at: predict 3 of 64."
    )


def test_an_ending_outlives_the_start_of_the_next_process(path: Path) -> None:
    first, watch = Pulse(path), PulseWatch(path)
    first.beat("store", "1.2.3/f/m/1", 1)
    watch.note_ending("The process ended (exit status 7)")

    watch.forget()
    Pulse(path).beat("open the model m")

    assert watch.note_ending("The process ended (exit status 1)") == Beat(doing="open the model m")
    kept = read_ending(path)
    assert kept is not None
    assert kept.reason == "The process ended (exit status 7) while at: store."


@pytest.mark.parametrize("told", [False, True])
def test_a_process_at_rest_or_told_to_end_leaves_no_ending(path: Path, told: bool) -> None:
    pulse, watch = Pulse(path), PulseWatch(path)
    pulse.beat("store", "1.2.3/f/m/1", 1)
    if told:
        pulse.stop()
        pulse.beat("store", "1.2.3/f/m/1", 1)  # a thread that is at it still
    else:
        pulse.rest()

    assert watch.note_ending("The process ended (exit status 0)") is None
    assert read_ending(path) is None
