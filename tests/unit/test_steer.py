"""What a person asks of jobs and deliveries: each a step along the table of states, enqueued in one transaction."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from node.adapters.database import open_database
from node.adapters.engine import Tasks, prepare
from node.adapters.ledger import Ledger
from node.domain.delivery import notice_key
from node.domain.errors import InputError
from node.domain.jobs import DeliveryState, JobState, Priority, SeriesState, short_id
from node.queueing import QUEUES, DurableQueue, contour_task, deliver_task
from node.stages.steer import RefusedError, Steering
from tests.assembling import ROUTE
from tests.unit.test_ledger import FACTS, JOB, MANIFEST, SERIES, enqueue_nothing

KEY: str = JOB["job"]
OUTPUT = {"sop_instance_uid": "9.9", "kind": "rtstruct", "form": "generic", "path": "x.dcm", "sha256": "0" * 64}


class World:
    """A ledger with one job, and the engine without a worker."""

    def __init__(self, path: Path) -> None:
        self.database = open_database(path)
        self.ledger = Ledger(self.database, now=lambda: 1000.0)
        self.tasks = Tasks(self.database)
        self.ledger.accept_series(SERIES, FACTS, [MANIFEST], [JOB], enqueue_nothing, {})
        self.steering = Steering(
            ledger=self.ledger,
            queue=DurableQueue(self.tasks),
            routes=[replace(ROUTE, destinations=("tps", "archive"))],
            now=lambda: 2000.0,
        )

    def move(self, *states: JobState) -> None:
        for state in states:
            self.ledger.move_job(KEY, state)

    def finish(self, state: DeliveryState) -> None:
        """Let the job be contoured and its delivery to the planning system be in a state; that to a folder is done."""
        self.move(JobState.CONTOURING)
        self.ledger.finish_job(KEY, {}, [OUTPUT], {"tps": [("9.9",)], "folder": [("9.9",)]}, enqueue_nothing)
        self.ledger.move_delivery(KEY, "folder", DeliveryState.DELIVERED, {}, None)
        if state != DeliveryState.QUEUED:
            self.ledger.move_delivery(KEY, "tps", state, {"reason": "no answer", "next_attempt_at": 5000.0}, None)

    def job(self, key: str = KEY) -> dict[str, Any]:
        row = self.ledger.job(key)
        assert row is not None
        return row

    def delivery(self, destination: str = "tps") -> dict[str, Any]:
        row = self.ledger.delivery(KEY, destination)
        assert row is not None
        return row

    def status_of(self, key: str) -> str | None:
        """Give what the engine knows of a task."""
        return self.tasks.status_of([key]).get(key)

    def priority_of(self, key: str) -> int:
        with self.database.begin() as connection:
            query = sa.text("SELECT priority FROM workflow_status WHERE workflow_uuid = :key")
            return int(connection.execute(query, {"key": key}).scalar_one())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database with the engine's tables; making them takes a second."""
    path = tmp_path_factory.mktemp("engine") / "node.sqlite"
    database = open_database(path)
    prepare(database, QUEUES)
    database.dispose()
    return path


@pytest.fixture
def world(tmp_path: Path, prepared: Path) -> Iterator[World]:
    made = World(Path(shutil.copy(prepared, tmp_path)))
    yield made
    made.tasks.close()
    made.database.dispose()


ENDED = (JobState.FAILED, JobState.DECLINED, JobState.QUARANTINED, JobState.CANCELLED, JobState.WAITING)


@pytest.mark.parametrize("state", ENDED)
def test_what_ended_without_objects_is_taken_up_again_as_if_it_were_new(world: World, state: JobState) -> None:
    world.move(JobState.CONTOURING)
    world.ledger.move_job(KEY, state, reason="no memory", setbacks=[{"attempt": 1, "reason": "x", "at": 1.0}], tries=4)

    (done,) = world.steering.retry(world.job())

    job = world.job()
    assert (done.job, done.did) == (KEY, "tried again")
    assert (job["state"], job["attempt"], job["reason"]) == (JobState.QUEUED, 2, "")
    assert (job["setbacks"], job["tries"]) == ([], 0)
    assert world.status_of(contour_task(KEY, 2).key) == "ENQUEUED"


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.CONTOURING])
def test_what_is_under_way_needs_no_retry(world: World, state: JobState) -> None:
    if state != JobState.QUEUED:
        world.move(state)

    with pytest.raises(RefusedError, match=f"is {state}"):
        world.steering.retry(world.job())


@pytest.mark.parametrize(
    "state", [DeliveryState.WAITING, DeliveryState.REFUSED, DeliveryState.GIVEN_UP, DeliveryState.CANCELLED]
)
def test_what_was_not_delivered_is_sent_again_and_nothing_else(world: World, state: DeliveryState) -> None:
    world.finish(state)

    (done,) = world.steering.retry(world.job())

    delivery = world.delivery()
    assert done.destination == "tps"
    assert (delivery["state"], delivery["attempt"], delivery["reason"]) == (DeliveryState.QUEUED, 2, "")
    # The age counts anew: else a delivery that was given up would be given up at its next failure.
    assert (delivery["created_at"], delivery["next_attempt_at"]) == (2000.0, None)
    assert world.status_of(deliver_task(KEY, "tps", 2).key) == "ENQUEUED"
    assert world.delivery("folder")["state"] == DeliveryState.DELIVERED


def test_a_job_that_is_delivered_says_what_else_there_is(world: World) -> None:
    world.finish(DeliveryState.DELIVERED)

    with pytest.raises(RefusedError, match="nothing of it is left") as refused:
        world.steering.retry(world.job())

    assert "delineate resend" in refused.value.remedy
    assert "delineate rerun" in refused.value.remedy


def test_delivered_objects_are_sent_again_when_asked_to_one_destination(world: World) -> None:
    world.finish(DeliveryState.DELIVERED)

    world.steering.resend(world.job(), "folder")

    assert world.delivery("folder")["state"] == DeliveryState.QUEUED
    assert world.status_of(deliver_task(KEY, "folder", 2).key) == "ENQUEUED"
    assert world.delivery("tps")["state"] == DeliveryState.DELIVERED


def test_an_unknown_destination_names_those_there_are(world: World) -> None:
    world.finish(DeliveryState.WAITING)

    with pytest.raises(RefusedError, match="no destination 'pacs'; it has"):
        world.steering.resend(world.job(), "pacs")


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.CONTOURING, JobState.WAITING])
def test_a_job_is_cancelled_wherever_it_is_and_can_be_taken_up_again(world: World, state: JobState) -> None:
    if state != JobState.QUEUED:
        world.move(JobState.CONTOURING)
        world.move(state)

    world.steering.cancel(world.job())
    assert world.job()["state"] == JobState.CANCELLED
    assert not world.ledger.is_contoured(KEY, 1)

    world.steering.retry(world.job())
    assert (world.job()["state"], world.job()["attempt"]) == (JobState.QUEUED, 2)


def test_of_a_contoured_job_what_is_not_delivered_is_cancelled(world: World) -> None:
    world.finish(DeliveryState.WAITING)

    world.steering.cancel(world.job())

    assert world.delivery()["state"] == DeliveryState.CANCELLED
    assert world.delivery("folder")["state"] == DeliveryState.DELIVERED
    with pytest.raises(RefusedError, match="nothing to cancel"):
        world.steering.cancel(world.job())


def test_a_queued_job_goes_first(world: World) -> None:
    world.steering.run_now(world.job())

    task = contour_task(KEY, 2).key
    assert (world.job()["state"], world.job()["priority"]) == (JobState.QUEUED, Priority.STAT)
    assert (world.status_of(task), world.priority_of(task)) == ("ENQUEUED", Priority.STAT)


def test_what_waits_goes_at_once(world: World) -> None:
    world.finish(DeliveryState.WAITING)

    world.steering.run_now(world.job())

    assert world.status_of(deliver_task(KEY, "tps", 2).key) == "ENQUEUED"
    with pytest.raises(RefusedError, match="nothing of it waits"):
        world.steering.run_now(world.job())


def test_another_run_has_a_number_of_its_own_and_goes_where_the_route_sends_now(world: World) -> None:
    world.finish(DeliveryState.DELIVERED)

    (done,) = world.steering.rerun(world.job())
    (again,) = world.steering.rerun(world.job(done.job))

    second, third = world.job(done.job), world.job(again.job)
    assert (second["run_number"], third["run_number"]) == (2, 3)
    assert second["job"] == KEY.removesuffix("1") + "2"
    assert (second["state"], third["state"]) == (JobState.SUPERSEDED, JobState.QUEUED)
    assert third["destinations"] == ["tps", "archive"]
    assert (world.job()["state"], world.job()["superseded_by"]) == (JobState.CONTOURED, second["job"])
    assert second["superseded_by"] == third["job"]
    assert world.status_of(contour_task(third["job"], 1).key) == "ENQUEUED"


def test_a_run_with_another_model_supersedes_nothing(world: World) -> None:
    (done,) = world.steering.rerun(world.job(), "other")

    assert done.job == "1.2.3/ffff/other/1"
    assert world.job()["superseded_by"] is None
    assert world.job()["state"] == JobState.QUEUED


def test_without_images_there_is_no_other_run(world: World) -> None:
    world.ledger.note_series(SERIES, {**FACTS, "removed_at": 900.0})

    with pytest.raises(InputError, match="images were removed"):
        world.steering.rerun(world.job())


@pytest.mark.parametrize("wanted", [KEY, "1.2.3/ff", SERIES, short_id(KEY), short_id(KEY)[:3]])
def test_a_job_is_found_by_what_a_person_has_at_hand(world: World, wanted: str) -> None:
    assert [row["job"] for row in world.steering.find(wanted)] == [KEY]


@pytest.mark.parametrize("wanted", ["", "1.2.4", "zz"])
def test_what_is_not_there_is_not_found(world: World, wanted: str) -> None:
    with pytest.raises(RefusedError, match="no job"):
        world.steering.find(wanted)


def test_a_beginning_that_fits_several_is_refused_with_their_names(world: World) -> None:
    (other,) = world.steering.rerun(world.job())

    with pytest.raises(RefusedError, match="fits 2 jobs") as refused:
        world.steering.find("1.2.3/")

    assert short_id(KEY) in refused.value.reason
    assert short_id(other.job) in refused.value.reason


def test_a_step_that_the_node_takes_meanwhile_is_not_undone(world: World) -> None:
    seen = world.job()
    world.move(JobState.CONTOURING)
    world.ledger.postpone_job(KEY, {"attempt": 2}, enqueue_nothing)

    with pytest.raises(RefusedError, match="just now"):
        world.steering.cancel(seen)

    assert world.job()["state"] == JobState.WAITING


def test_a_growing_series_is_asked_for_until_it_is_judged(world: World) -> None:
    world.ledger.note_series("1.5", {**FACTS, "state": SeriesState.RECEIVING})

    world.steering.run_series_now("1.5")
    assert set(world.ledger.series_asked_for()) == {"1.5"}
    world.ledger.note_series("1.5", {**FACTS, "state": SeriesState.DECLINED, "asked": ""})

    assert set(world.ledger.series_asked_for()) == set()
    for series_uid in ("1.5", SERIES, "1.6"):
        with pytest.raises(RefusedError, match="is being received"):
            world.steering.run_series_now(series_uid)


def test_the_report_that_there_are_no_contours_is_sent_again(world: World) -> None:
    report = notice_key(KEY, "0123abcd")
    world.move(JobState.CONTOURING)
    world.ledger.move_job(KEY, JobState.DECLINED, reason="no volume")
    with pytest.raises(RefusedError, match="no objects to send"):
        world.steering.resend(world.job())
    world.ledger.add_notice(report, [{**OUTPUT, "kind": "sr"}], {"tps": [("9.9",)]}, enqueue_nothing)
    world.ledger.move_delivery(report, "tps", DeliveryState.REFUSED, {}, None)

    (done,) = world.steering.resend(world.job())

    assert (done.job, done.destination) == (report, "tps")
    assert world.status_of(deliver_task(report, "tps", 2).key) == "ENQUEUED"
    assert world.job()["state"] == JobState.DECLINED


def test_what_needs_images_that_were_removed_is_refused_with_the_day(world: World) -> None:
    world.move(JobState.CONTOURING, JobState.FAILED)
    world.ledger.note_series(SERIES, {**FACTS, "removed_at": 86_400.0 * 400})

    for ask in (world.steering.retry, world.steering.rerun):
        with pytest.raises(InputError, match=r"its images were removed on 1971-02-0\d"):
            ask(world.job())
    assert world.job()["state"] == JobState.FAILED


def test_results_that_were_removed_are_not_sent_again(world: World) -> None:
    world.finish(DeliveryState.DELIVERED)
    (job,) = world.ledger.jobs_with_results(after=None, limit=9)
    assert world.ledger.mark_results_removed(job)

    with pytest.raises(RefusedError, match="were removed"):
        world.steering.resend(world.job())

    assert world.delivery()["state"] == DeliveryState.DELIVERED
