"""The ledger: a fact and its work in one transaction, and no state changes but along its table."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from node.adapters.database import open_database
from node.adapters.ledger import Ledger
from node.domain.errors import ResourceError, SetupError
from node.domain.habits import LESSONS_REMEMBERED, Lesson
from node.domain.jobs import DeliveryState, JobState, SeriesState, TransitionError

SERIES = "1.2.3"
FACTS: dict[str, Any] = {
    "state": SeriesState.COMPLETE,
    "evidence": ["regular"],
    "left_out": [],
    "modality": "CT",
    "calling_ae_titles": ["CT1"],
    "instances": 5,
    "stamp": "5",
    "fingerprint": "f" * 64,
    "route": "planning-ct",
}
MANIFEST = {"fingerprint": "f" * 64}
JOB: dict[str, Any] = {
    "job": "1.2.3/ffff/m/1",
    "series_uid": SERIES,
    "fingerprint": "f" * 64,
    "route": "planning-ct",
    "model": "m",
    "outputs": ["rtstruct"],
    "destinations": ["tps"],
    "run_number": 1,
}


@pytest.fixture
def ledger(open_node_database: Callable[[], sa.Engine]) -> Ledger:
    return Ledger(open_node_database(), now=lambda: 1000.0)


def enqueue_nothing(_connection: sa.Connection) -> None:
    pass


def fail(_connection: sa.Connection) -> None:
    raise RuntimeError


def test_associations_end_once_and_open_ones_are_lost_at_the_next_start(ledger: Ledger) -> None:
    ledger.association_contributes("receiver/a", "CT1", SERIES, 1.0)
    ledger.association_contributes("receiver/a", "CT1", SERIES, 2.0)
    ledger.association_contributes("receiver/b", "CT2", SERIES, 3.0)
    ledger.association_contributes("receiver-2/c", "CT3", SERIES, 3.0)
    ledger.association_ended("receiver/a", "released", 4.0)

    lost = ledger.associations_lost("receiver")
    ledger.association_ended("receiver/b", "released", 5.0)

    endings = {one.association_id: (one.calling_ae_title, one.ending) for one in ledger.associations_of(SERIES)}
    assert lost == 1
    assert endings == {
        "receiver/a": ("CT1", "released"),
        "receiver/b": ("CT2", "lost"),
        "receiver-2/c": ("CT3", "open"),
    }


def test_an_accepted_series_and_its_jobs_are_all_there_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError):
        ledger.accept_series(SERIES, FACTS, [{**MANIFEST, "planes": []}], [JOB], fail)

    assert ledger.all_series() == []
    assert ledger.all_jobs() == []

    ledger.accept_series(SERIES, FACTS, [{**MANIFEST, "planes": []}], [JOB], enqueue_nothing)

    assert ledger.manifest(SERIES, "f" * 64) == {**MANIFEST, "planes": []}
    assert [job["state"] for job in ledger.all_jobs()] == [JobState.QUEUED]


def test_the_same_series_again_makes_no_second_job_and_changes_no_manifest(ledger: Ledger) -> None:
    ledger.accept_series(SERIES, FACTS, [{**MANIFEST, "planes": [1]}], [JOB], enqueue_nothing)
    ledger.move_job(JOB["job"], JobState.CONTOURING)

    ledger.accept_series(SERIES, FACTS, [{**MANIFEST, "planes": [2]}], [JOB], enqueue_nothing)

    assert ledger.manifest(SERIES, "f" * 64) == {**MANIFEST, "planes": [1]}
    assert [job["state"] for job in ledger.all_jobs()] == [JobState.CONTOURING]


def test_a_finished_job_cannot_begin_again(ledger: Ledger) -> None:
    ledger.accept_series(SERIES, FACTS, [MANIFEST], [JOB], enqueue_nothing)
    ledger.move_job(JOB["job"], JobState.CONTOURING)
    output = {"sop_instance_uid": "9.9", "kind": "rtstruct", "form": "generic", "path": "x.dcm", "sha256": "0" * 64}
    ledger.finish_job(JOB["job"], {}, [output], {"tps": [("9.9",)]}, enqueue_nothing)

    with pytest.raises(ValueError, match="cannot become contouring"):
        ledger.move_job(JOB["job"], JobState.CONTOURING)

    assert [row["state"] for row in ledger.all_deliveries()] == [DeliveryState.QUEUED]
    assert [row["offers"] for row in ledger.all_deliveries()] == [[["9.9"]]]
    assert ledger.outputs(JOB["job"]) == [{"job": JOB["job"], **output, "removed_at": None}]


def test_outputs_without_their_deliveries_are_never_committed(ledger: Ledger) -> None:
    ledger.accept_series(SERIES, FACTS, [MANIFEST], [JOB], enqueue_nothing)
    ledger.move_job(JOB["job"], JobState.CONTOURING)

    with pytest.raises(RuntimeError):
        ledger.finish_job(JOB["job"], {}, [], {"tps": []}, fail)

    assert [job["state"] for job in ledger.all_jobs()] == [JobState.CONTOURING]
    assert ledger.all_deliveries() == []
    assert [job["job"] for job in ledger.unfinished_jobs()] == [JOB["job"]]


def test_the_same_event_is_kept_once(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.note_event("instance refused", "CT1", "0xC000: no")
    ledger.note_event("instance refused", "CT2", "0xC000: no")

    assert len(ledger.events()) == 2


def test_a_database_that_is_locked_for_too_long_is_a_lack_that_passes(tmp_path: Path) -> None:
    database, other = open_database(tmp_path / "node.sqlite"), open_database(tmp_path / "node.sqlite")
    ledger = Ledger(database)
    ledger.note_series(SERIES, FACTS)
    with database.connect() as connection:  # the pool's only one, so the ledger's too
        connection.exec_driver_sql("PRAGMA busy_timeout=50")

    with other.connect() as holder:
        holder.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(ResourceError, match="locked"):
            ledger.note_series(SERIES, {**FACTS, "reason": "changed"})

    row = ledger.series(SERIES)
    assert row is not None
    assert row["reason"] == ""
    database.dispose()
    other.dispose()


def test_the_latest_reason_of_a_refusal_is_kept_by_series(ledger: Ledger) -> None:
    ledger.instance_refused(SERIES, "1.2.3.1", "0xA700: disk low")
    ledger.instance_refused(SERIES, "1.2.3.1", "0xC000: cut off")
    ledger.instance_refused("1.2.4", "1.2.4.1", "0xA700: disk low")

    assert ledger.refused_of(SERIES) == {"1.2.3.1": "0xC000: cut off"}


def lesson(number: int, title: str = "CT1", **changes: Any) -> Lesson:
    usual = Lesson(
        calling_ae_title=title,
        series_instance_uid=f"1.2.{number}",
        learned_at=float(number),
        instances=10,
        associations=1,
        within_s=1.0,
        between_s=0.0,
        counted_acquisitions=0,
    )
    return replace(usual, **changes)


def test_a_series_that_is_judged_again_teaches_anew_instead_of_twice(ledger: Ledger) -> None:
    ledger.learn([lesson(1), lesson(1, title="PACS")])
    ledger.learn([lesson(1, between_s=45.0)])

    assert ledger.lessons_of("CT1") == (lesson(1, between_s=45.0),)
    assert ledger.all_lessons() == (lesson(1, between_s=45.0), lesson(1, title="PACS"))


def test_the_oldest_lessons_of_a_sender_are_forgotten(ledger: Ledger) -> None:
    ledger.learn([lesson(0, title="PACS")])
    for number in range(LESSONS_REMEMBERED + 3):
        ledger.learn([lesson(number)])

    learned = [one.learned_at for one in ledger.lessons_of("CT1")]
    assert learned == [float(number) for number in range(3, LESSONS_REMEMBERED + 3)]
    assert len(ledger.lessons_of("PACS")) == 1


def test_every_volume_of_a_series_keeps_its_manifest(ledger: Ledger) -> None:
    other = {**MANIFEST, "fingerprint": "e" * 64}

    ledger.accept_series(SERIES, FACTS, [MANIFEST, other], [JOB], enqueue_nothing)

    assert ledger.manifest(SERIES, "e" * 64) == other
    assert ledger.manifest(SERIES, "f" * 64) == MANIFEST


def test_the_other_series_of_an_association_are_named(ledger: Ledger) -> None:
    for association, series in (("a", SERIES), ("a", "1.2.4"), ("b", "1.2.5")):
        ledger.association_contributes(association, "CT1", series, 1.0)

    assert ledger.other_series_of("a", SERIES) == ("1.2.4",)


def test_a_database_of_another_version_is_refused_with_what_to_do_and_left_as_it_is(tmp_path: Path) -> None:
    database = open_database(tmp_path / "node.sqlite")
    former = "CREATE TABLE output (job TEXT, kind TEXT, sop_instance_uid TEXT, path TEXT, sha256 TEXT)"
    with database.begin() as connection:
        connection.execute(sa.text(former))

    with pytest.raises(SetupError, match="another version of Delineate: its table 'output'") as raised:
        Ledger(database)

    assert "move node.data_dir away" in raised.value.remedy
    assert sa.inspect(database).get_table_names() == ["output"]
    database.dispose()


def waiting(study_uid: str = "1.2") -> dict[str, Any]:
    return {**FACTS, "study_uid": study_uid, "state": SeriesState.WAITING, "gathered": ["f"]}


def test_series_taken_together_and_their_job_are_all_there_or_not_at_all(ledger: Ledger) -> None:
    for series_uid in (SERIES, "1.2.4"):
        ledger.note_series(series_uid, waiting())
    complete = {uid: {"state": SeriesState.COMPLETE, "reason": "together"} for uid in (SERIES, "1.2.4")}
    channels = [{"channel": "T1", "series_uid": SERIES, "fingerprint": "f" * 64}]

    with pytest.raises(RuntimeError):
        ledger.settle_together(complete, [{**JOB, "channels": channels}], fail)
    assert {row["state"] for row in ledger.series_of_study("1.2")} == {SeriesState.WAITING}
    assert ledger.all_jobs() == []
    assert ledger.studies_that_wait() == ("1.2",)

    ledger.settle_together(complete, [{**JOB, "channels": channels}], enqueue_nothing)
    assert {row["state"] for row in ledger.series_of_study("1.2")} == {SeriesState.COMPLETE}
    assert [job["channels"] for job in ledger.all_jobs()] == [channels]
    assert ledger.studies_that_wait() == ()


def test_what_is_settled_of_a_series_leaves_the_rest_of_its_row(ledger: Ledger) -> None:
    ledger.note_series(SERIES, waiting())

    ledger.settle_together({SERIES: {"state": SeriesState.DECLINED, "reason": "two fit T1"}}, [], enqueue_nothing)

    row = ledger.series(SERIES)
    assert row is not None
    assert (row["reason"], row["gathered"], row["instances"], row["stamp"]) == ("two fit T1", ["f"], 5, "5")


def test_the_series_of_other_studies_are_others(ledger: Ledger) -> None:
    ledger.note_series(SERIES, waiting())
    ledger.note_series("2.3", waiting("2"))
    ledger.note_series("3.3", FACTS)

    assert [row["series_uid"] for row in ledger.series_of_study("1.2")] == [SERIES]
    assert sorted(ledger.studies_that_wait()) == ["1.2", "2"]


def test_a_job_of_one_image_has_no_channels(ledger: Ledger) -> None:
    ledger.accept_series(SERIES, FACTS, [MANIFEST], [JOB], enqueue_nothing)

    assert [job["channels"] for job in ledger.all_jobs()] == [[]]


@pytest.fixture
def two_workers(open_node_database: Callable[[], sa.Engine]) -> tuple[Ledger, Ledger]:
    """Give the ledgers of two workers, and a job that the first was at when the second took it over."""
    first, second = (
        Ledger(open_node_database(), now=lambda: 1000.0, worker=name) for name in ("contourer@a", "contourer@b")
    )
    first.accept_series(SERIES, FACTS, [MANIFEST], [JOB], enqueue_nothing)
    first.begin_job(JOB["job"], 1)
    assert first.is_contoured(JOB["job"], 1)
    second.begin_job(JOB["job"], 1)
    return first, second


LATE: dict[str, Callable[[Ledger], None]] = {
    "finish": lambda late: late.finish_job(JOB["job"], {}, [], {"tps": []}, enqueue_nothing),
    "fail": lambda late: late.move_job(JOB["job"], JobState.FAILED, reason="late"),
    "wait": lambda late: late.postpone_job(JOB["job"], {"attempt": 2}, enqueue_nothing),
}


@pytest.mark.parametrize("change", LATE.values(), ids=LATE)
def test_a_worker_whose_job_was_taken_over_changes_nothing_of_it(
    two_workers: tuple[Ledger, Ledger], change: Callable[[Ledger], None]
) -> None:
    late, present = two_workers

    with pytest.raises(TransitionError):
        change(late)
    late.note_progress(JOB["job"], "late")

    job = present.job(JOB["job"])
    assert job is not None
    assert (job["state"], job["worker"], job["attempt"], job["progress"]) == ("contouring", "contourer@b", 1, "")
    assert present.all_deliveries() == []
    assert (late.is_contoured(JOB["job"], 1), present.is_contoured(JOB["job"], 1)) == (False, True)


@pytest.mark.parametrize("change", LATE.values(), ids=LATE)
def test_a_worker_whose_job_is_at_another_attempt_changes_nothing_of_it(
    ledger: Ledger, change: Callable[[Ledger], None]
) -> None:
    ledger.accept_series(SERIES, FACTS, [MANIFEST], [JOB], enqueue_nothing)
    late = Ledger(ledger._database, worker="contourer@a")
    late.begin_job(JOB["job"], 1)
    ledger.postpone_job(JOB["job"], {"attempt": 2}, enqueue_nothing)

    with pytest.raises(TransitionError):
        change(late)

    job = ledger.job(JOB["job"])
    assert job is not None
    assert (job["state"], job["attempt"]) == ("waiting", 2)


def test_the_worker_that_has_a_job_finishes_it(two_workers: tuple[Ledger, Ledger]) -> None:
    _, present = two_workers

    assert [row["job"] for row in present.jobs_in_hands_of("contourer@b")] == [JOB["job"]]
    present.finish_job(JOB["job"], {}, [], {"tps": []}, enqueue_nothing)

    assert [row["state"] for row in present.all_deliveries()] == [DeliveryState.QUEUED]
    assert present.jobs_in_hands_of("contourer@b") == []


def test_an_attempt_that_is_over_is_not_begun(ledger: Ledger) -> None:
    ledger.accept_series(SERIES, FACTS, [MANIFEST], [{**JOB, "attempt": 3}], enqueue_nothing)

    with pytest.raises(TransitionError):
        ledger.begin_job(JOB["job"], 2)


def test_a_character_that_a_database_cannot_hold_loses_no_row(ledger: Ledger) -> None:
    ledger.note_series(SERIES, {**FACTS, "reason": "what \0 a peer said", "evidence": ["in \0 JSON"]})
    ledger.note_event("instance refused", "CT\0", "what \0 a peer said")

    row = ledger.series(SERIES)
    assert row is not None
    assert (row["reason"], row["evidence"]) == ("what � a peer said", ["in \0 JSON"])
    assert [one["text"] for one in ledger.events()] == ["what � a peer said"]
