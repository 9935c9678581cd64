"""Who hears that no contours were made: of which jobs and series, once, and never about the wrong patient."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from node.adapters.database import open_database
from node.adapters.ledger import Ledger
from node.dicom.headers import received_instance
from node.domain.instance import ReceivedInstance
from node.domain.jobs import JobState, SeriesState
from node.domain.routing import Route
from node.domain.series import manifest_to_json
from node.stages.new_jobs import job_of
from node.stages.notify import Notifier
from tests.builders import JANE, ct_series, grid, manifest_of

ROUTE = Route(
    name="ct",
    when={"Modality": ("CT",)},
    unless={},
    models=("body-bones",),
    outputs=("rtstruct",),
    destinations=("tps", "sender"),
    negative_results=True,
)


class World:
    """A ledger, stored images, and what was written and enqueued."""

    def __init__(self, folder: Path, route: Route = ROUTE) -> None:
        self.images = ct_series(grid(slices=4))
        self.ledger = Ledger(open_database(folder / "node.sqlite"))
        self.written: dict[str, bytes] = {}
        self.enqueued: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.route = route

    def notifier(self) -> Notifier:
        return Notifier(
            ledger=self.ledger,
            queue=self,
            results=self,
            files=self,
            routes=[self.route],
            device=("DELINEATE", "1.0"),
            now=lambda: 1_000.0 + max(row["updated_at"] for row in self.ledger.all_series()),
            log=lambda event, **_: self.said.append(event),
        )

    def end_job(self, state: JobState) -> str:
        """Let a job of the series end so; gives its key."""
        manifest = manifest_of(self.images)
        manifest = replace(manifest, attributes={"CallingAETitle": "CT1"})
        job = job_of(manifest, self.route, "body-bones")
        known = self.known(state=SeriesState.COMPLETE)
        self.ledger.accept_series(self.uid, known, [manifest_to_json(manifest)], [job], lambda _: None)
        self.ledger.move_job(job["job"], JobState.CONTOURING)
        self.ledger.move_job(job["job"], state, reason="The planes lie at irregular places.")
        return str(job["job"])

    def decline_series(self, reason: str = "2 of 4 instances are missing.") -> None:
        self.ledger.note_series(self.uid, self.known(state=SeriesState.DECLINED, reason=reason))

    def known(self, **facts: Any) -> dict[str, Any]:
        return {
            "stamp": "4",
            "instances": 4,
            "modality": "CT",
            "calling_ae_titles": ["CT1"],
            "complete_at": 1.0,
            "evidence": [],
            **facts,
        }

    @property
    def uid(self) -> str:
        return str(self.images[0].SeriesInstanceUID)

    # What the stage needs of the world.

    def names(self, series_uid: str) -> Sequence[str]:
        return [str(number) for number in range(len(self.images))]

    def instance(self, series_uid: str, name: str) -> ReceivedInstance:
        image = self.images[int(name)]
        read = received_instance(image, pixel_digest="", received_at=0.0, file_name=name)
        return replace(read, attributes={**read.attributes, "CallingAETitle": "CT1"})

    def headers(self, series_uid: str, names: Sequence[str]) -> Sequence[Dataset]:
        return self.images

    def write(self, job: str, name: str, written: bytes) -> dict[str, str]:
        self.written[job] = written
        return {"path": f"results/{name}", "sha256": ""}

    def require_room(self) -> None:
        pass

    def remove(self, path: str) -> None:
        raise AssertionError("a report is never taken back")

    def deliver(self, job: str, destination: str, **_: Any) -> Callable[[Any], None]:
        return lambda _connection: self.enqueued.append((job, destination))

    def contour(self, *_: Any, **__: Any) -> Callable[[Any], None]:
        raise AssertionError("a report contours nothing")


@pytest.mark.parametrize("state", [JobState.DECLINED, JobState.QUARANTINED, JobState.FAILED])
def test_a_job_that_ended_without_contours_is_reported_to_its_destinations(tmp_path: Path, state: JobState) -> None:
    world = World(tmp_path)
    job = world.end_job(state)

    world.notifier().tick()

    ((key, written),) = world.written.items()
    assert key.startswith(f"{job}/notice-")
    assert [destination for _, destination in world.enqueued] == ["tps", "sender/CT1"]
    report = dcmread(io.BytesIO(written))
    assert "The planes lie at irregular places." in [item.get("TextValue") for item in report.ContentSequence]
    assert [row["kind"] for row in world.ledger.outputs(key)] == ["sr"]


def test_nothing_is_reported_twice_also_not_by_the_next_process(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.end_job(JobState.FAILED)

    notifier = world.notifier()
    notifier.tick()
    notifier.tick()
    world.notifier().tick()

    assert len(world.enqueued) == 2


def test_a_series_that_the_route_would_take_and_that_was_declined_is_reported(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.decline_series()

    world.notifier().tick()

    (key,) = world.written
    assert key.startswith(f"{world.uid}/notice-")
    assert [destination for _, destination in world.enqueued] == ["tps", "sender/CT1"]


def test_a_series_that_is_declined_for_another_reason_later_is_reported_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    notifier = world.notifier()

    for reason in ("2 of 4 instances are missing.", "1 of 4 instances is missing."):
        world.decline_series(reason)
        notifier.tick()

    assert len(world.written) == 2


def test_a_series_that_no_route_takes_is_nobodys_business(tmp_path: Path) -> None:
    world = World(tmp_path, replace(ROUTE, when={"Modality": ("MR",)}))
    world.decline_series()

    world.notifier().tick()

    assert world.enqueued == []


@pytest.mark.parametrize("state", [JobState.CONTOURED, JobState.CANCELLED])
def test_what_has_contours_or_was_ended_by_a_person_is_not_reported(tmp_path: Path, state: JobState) -> None:
    world = World(tmp_path)
    world.end_job(state)

    world.notifier().tick()

    assert world.enqueued == []


def test_where_the_route_does_not_ask_for_it_nothing_is_reported(tmp_path: Path) -> None:
    world = World(tmp_path, replace(ROUTE, negative_results=False))
    world.end_job(JobState.FAILED)

    world.notifier().tick()

    assert world.enqueued == []


def test_where_the_images_are_of_two_patients_nobody_is_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.images[1:2] = ct_series(grid(slices=4), identity=replace(JANE, patient_id="P-0002"))[1:2]
    world.decline_series()

    world.notifier().tick()

    assert world.enqueued == []
    assert world.said == ["negative result not reported"]
