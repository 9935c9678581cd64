"""Retention: nothing goes before its proof; after it, what nobody needs goes in time, early where the disk is low."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.jobs import DeliveryState, JobState, SeriesState
from node.domain.retention import (
    DAY_S,
    EARLIEST_S,
    DeliveryFact,
    DiskSample,
    Goes,
    JobFact,
    RetentionPolicy,
    SeriesFact,
    Stays,
    Watermarks,
    days_left,
    judge_images,
    judge_rejected,
    judge_results,
)

POLICY = RetentionPolicy(images_days=7, declined_days=14, failed_days=0, results_days=30, rejected_days=60)
DELIVERED_AT = 1_000_000.0
DELIVERED = DeliveryFact(destination="tps", state=DeliveryState.DELIVERED, at=DELIVERED_AT)
CONTOURED = JobFact(job="j", state=JobState.CONTOURED, at=DELIVERED_AT - 60, deliveries=(DELIVERED,))
SERIES = SeriesFact(
    series_uid="1.2.3",
    state=SeriesState.COMPLETE,
    sent_at=0.0,
    at=DELIVERED_AT - 120,
    is_being_sent=False,
    jobs=(CONTOURED,),
)
LONG_AFTER = DELIVERED_AT + 1000 * DAY_S


def test_images_go_so_many_days_after_the_last_delivery() -> None:
    assert judge_images(SERIES, DELIVERED_AT + 7 * DAY_S, POLICY, is_low=False) == Goes(since=DELIVERED_AT)
    assert judge_images(SERIES, DELIVERED_AT + 7 * DAY_S - 1, POLICY, is_low=False) == Stays(
        reason="retention.images_days", until=DELIVERED_AT + 7 * DAY_S
    )


def test_what_is_sent_again_is_kept_anew() -> None:
    again = replace(SERIES, at=DELIVERED_AT + 6 * DAY_S)

    assert isinstance(judge_images(again, DELIVERED_AT + 8 * DAY_S, POLICY, is_low=False), Stays)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.CONTOURING, JobState.WAITING])
@pytest.mark.parametrize("is_low", [False, True])
def test_no_image_goes_before_its_job_has_ended(state: JobState, is_low: bool) -> None:
    series = replace(SERIES, jobs=(CONTOURED, replace(CONTOURED, state=state, deliveries=())))

    assert judge_images(series, LONG_AFTER, POLICY, is_low=is_low) == Stays(reason=f"its job is {state}")


@pytest.mark.parametrize("state", [one for one in DeliveryState if one not in ("delivered", "cancelled")])
@pytest.mark.parametrize("is_low", [False, True])
def test_nothing_that_was_not_delivered_is_ever_removed(state: DeliveryState, is_low: bool) -> None:
    job = replace(CONTOURED, deliveries=(DELIVERED, replace(DELIVERED, destination="pacs", state=state)))
    stays = Stays(reason=f"the delivery to pacs is {state}")

    assert judge_images(replace(SERIES, jobs=(job,)), LONG_AFTER, POLICY, is_low=is_low) == stays
    assert judge_results(job, LONG_AFTER, POLICY, is_low=is_low) == stays


def test_what_a_person_cancelled_is_waited_for_no_longer() -> None:
    job = replace(CONTOURED, deliveries=(DELIVERED, replace(DELIVERED, state=DeliveryState.CANCELLED)))

    assert isinstance(judge_results(job, DELIVERED_AT + 30 * DAY_S, POLICY, is_low=False), Goes)


def test_what_is_not_confirmed_stays_where_a_confirmation_was_asked_for() -> None:
    job = replace(CONTOURED, deliveries=(replace(DELIVERED, is_unconfirmed=True),))
    stays = Stays(reason="tps has not confirmed that it keeps the results")

    assert judge_images(replace(SERIES, jobs=(job,)), LONG_AFTER, POLICY, is_low=True) == stays
    assert judge_results(job, LONG_AFTER, POLICY, is_low=True) == stays


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.QUARANTINED])
def test_images_of_a_job_that_somebody_must_look_into_stay_for_ever_or_as_long_as_is_said(state: JobState) -> None:
    series = replace(SERIES, jobs=(replace(CONTOURED, state=state, deliveries=()),))

    said = judge_images(series, LONG_AFTER, POLICY, is_low=True)
    longer = replace(POLICY, failed_days=90)

    assert said == Stays(reason="retention.failed_days is 0: for ever")
    assert isinstance(judge_images(series, DELIVERED_AT + 89 * DAY_S, longer, is_low=True), Stays)
    assert isinstance(judge_images(series, DELIVERED_AT + 90 * DAY_S, longer, is_low=False), Goes)


@pytest.mark.parametrize("state", [SeriesState.DECLINED, SeriesState.WAITING])
def test_what_is_not_contoured_goes_in_its_own_time(state: SeriesState) -> None:
    series = replace(SERIES, state=state, jobs=())

    assert judge_images(series, series.at + 14 * DAY_S, POLICY, is_low=False) == Goes(since=series.at)
    assert isinstance(judge_images(series, series.at + 13 * DAY_S, POLICY, is_low=False), Stays)


@pytest.mark.parametrize("series", [replace(SERIES, is_being_sent=True), replace(SERIES, state=SeriesState.RECEIVING)])
def test_what_is_being_sent_stays(series: SeriesFact) -> None:
    assert judge_images(series, LONG_AFTER, POLICY, is_low=True) == Stays(reason="it is being sent")


def test_results_and_refused_data_sets_have_times_of_their_own() -> None:
    assert judge_results(CONTOURED, DELIVERED_AT + 30 * DAY_S, POLICY, is_low=False) == Goes(since=DELIVERED_AT)
    assert isinstance(judge_results(CONTOURED, DELIVERED_AT + 29 * DAY_S, POLICY, is_low=False), Stays)
    assert judge_rejected(5.0, 5.0 + 60 * DAY_S, POLICY, is_low=False) == Goes(since=5.0)


def test_while_the_disk_is_low_an_hour_after_the_proof_is_enough() -> None:
    assert judge_images(SERIES, DELIVERED_AT + EARLIEST_S, POLICY, is_low=True) == Goes(since=DELIVERED_AT)
    assert isinstance(judge_images(SERIES, DELIVERED_AT + EARLIEST_S - 1, POLICY, is_low=True), Stays)
    assert isinstance(judge_results(CONTOURED, DELIVERED_AT + EARLIEST_S, POLICY, is_low=True), Goes)


def test_no_days_are_for_ever_unless_the_disk_is_low() -> None:
    never = replace(POLICY, images_days=0, results_days=0)

    assert judge_images(SERIES, LONG_AFTER, never, is_low=False) == Stays(reason="retention.images_days is 0: for ever")
    assert isinstance(judge_results(CONTOURED, LONG_AFTER, never, is_low=False), Stays)
    assert isinstance(judge_images(SERIES, LONG_AFTER, never, is_low=True), Goes)


@given(back_s=st.floats(0, 100 * DAY_S))
def test_a_clock_that_is_put_back_removes_nothing(back_s: float) -> None:
    assert isinstance(judge_images(SERIES, DELIVERED_AT - back_s, POLICY, is_low=True), Stays)
    assert isinstance(judge_results(CONTOURED, DELIVERED_AT - back_s, POLICY, is_low=True), Stays)


def test_a_low_disk_stays_low_until_more_is_free_than_where_it_began() -> None:
    marks = Watermarks(below=4e9, until=6e9)

    assert [marks.is_low(free, was_low=False) for free in (3.9e9, 4.1e9)] == [True, False]
    assert [marks.is_low(free, was_low=True) for free in (5.9e9, 6.1e9)] == [True, False]


def sample(day: float, used: int, free: int = 100) -> DiskSample:
    return DiskSample(at=day * DAY_S, free=free, images=used, results=0, rejected=0)


def test_the_forecast_is_what_is_free_above_the_minimum_by_what_a_day_brings() -> None:
    assert days_left([sample(7, 80), sample(0, 10), sample(3, 60)], minimum_free=20) == pytest.approx(8.0)


def test_there_is_no_forecast_from_less_than_an_hour_nor_where_nothing_grows() -> None:
    assert days_left([], minimum_free=20) == "unknown"
    assert days_left([sample(0, 10), sample(0.01, 20)], minimum_free=20) == "unknown"
    assert days_left([sample(0, 10), sample(1, 10)], minimum_free=20) == "does not grow"
    assert days_left([sample(0, 10), sample(1, 20, free=10)], minimum_free=20) == 0.0
