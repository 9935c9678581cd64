"""Assembling: every change of the inbox becomes a verdict in the ledger, and a whole series becomes jobs once."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from node.domain.errors import InputError
from node.domain.evidence import ArchiveAnswer
from node.domain.grid import Plane
from node.domain.habits import Lesson
from node.domain.instance import ReceivedInstance
from node.domain.jobs import SeriesState
from node.domain.routing import Route
from node.domain.series import AssociationFact, CompletionPolicy
from node.stages.assemble import Assembler
from tests.builders import grid

SERIES = "1.2.3"
ROUTE = Route(
    name="planning-ct",
    when={"Modality": ("CT",)},
    unless={},
    models=("body-bones", "other"),
    outputs=("rtstruct",),
    destinations=("tps",),
)


def instance(plane: Plane, received_at: float, **changes: Any) -> ReceivedInstance:
    values: dict[str, Any] = {
        "sop_instance_uid": plane.sop_instance_uid,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "series_instance_uid": SERIES,
        "study_instance_uid": "1.2",
        "frame_of_reference_uid": "1.2.9",
        "patient_digest": "p",
        "pixel_digest": plane.sop_instance_uid,
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "planes": (plane,),
        "not_an_image": None,
        "instance_number": 1,
        "attributes": {"Modality": "CT"},
        "received_at": received_at,
        "file_name": f"{plane.sop_instance_uid}.dcm",
    }
    return ReceivedInstance(**{**values, **changes})


class World:
    """An inbox, a ledger and a queue in memory."""

    def __init__(self, count: int = 5) -> None:
        self.files: dict[str, ReceivedInstance | str] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, Any] = {}
        self.enqueued: list[str] = []
        self.reads: list[str] = []
        self.endings = ["released"]
        self.refused: dict[str, str] = {}
        self.policies: dict[str, CompletionPolicy] = {}
        self.lessons: list[Lesson] = []
        self.manifests: Sequence[dict[str, Any]] = []
        for plane in grid(slices=count).planes:
            self.add(instance(plane, 100.0))

    def add(self, one: ReceivedInstance) -> None:
        self.files[one.file_name] = one

    def assembler(self, routes: Sequence[Route] = (ROUTE,)) -> Assembler:
        return Assembler(
            inbox=self,
            ledger=self,
            queue=self,
            routes=routes,
            policy=CompletionPolicy(new_senders="settle"),
            policies=self.policies,
            archives=self,
            read_instance=self.read,
            log=lambda *_, **__: None,
        )

    # the inbox
    def series_uids(self) -> Sequence[str]:
        return [SERIES]

    def stamp(self, series_uid: str) -> str:
        return str(len(self.files))

    def file_names(self, series_uid: str) -> Sequence[str]:
        return list(self.files)

    def path(self, series_uid: str, file_name: str) -> Path:
        return Path(file_name)

    def read(self, path: Path) -> ReceivedInstance:
        self.reads.append(path.name)
        found = self.files[path.name]
        if isinstance(found, str):
            raise InputError(found)
        return found

    # the ledger
    def series(self, series_uid: str) -> dict[str, Any] | None:
        return self.rows.get(series_uid)

    def associations_of(self, series_uid: str) -> tuple[AssociationFact, ...]:
        return tuple(
            AssociationFact(
                association_id=str(number),
                calling_ae_title="CT1",
                ending=ending,  # type: ignore[arg-type]
                opened_at=99.0,
                ended_at=None if ending == "open" else 100.5,
            )
            for number, ending in enumerate(self.endings)
        )

    def refused_of(self, series_uid: str) -> dict[str, str]:
        return self.refused

    def latest_association(self) -> int:
        return len(self.endings)

    def series_sent_since(self, association: int) -> Sequence[str]:
        return [SERIES] if len(self.endings) > association else []

    def other_series_of(self, association_id: str, series_uid: str) -> Sequence[str]:
        return []

    def lessons_of(self, calling_ae_title: str) -> Sequence[Lesson]:
        return self.lessons

    def learn(self, lessons: Sequence[Lesson]) -> None:
        self.lessons = list(lessons)

    # the archives
    def knows(self, calling_ae_titles: Sequence[str]) -> bool:
        return False

    def ask(self, calling_ae_titles: Sequence[str], study_uid: str, series_uid: str, had: int) -> None:
        raise AssertionError("there is no archive")

    def answer(self, series_uid: str) -> ArchiveAnswer | None:
        return None

    def note_series(self, series_uid: str, facts: Any) -> None:
        self.rows[series_uid] = {**self.rows.get(series_uid, {}), **facts}

    def accept_series(self, series_uid: str, facts: Any, manifests: Any, jobs: Any, enqueue: Any) -> None:
        self.note_series(series_uid, facts)
        self.manifests = manifests
        for job in jobs:
            self.jobs.setdefault(job["job"], job)
        enqueue(self.enqueued)

    # the queue
    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0) -> Callable[[Any], None]:
        return lambda transaction: transaction.append(job)

    def deliver(self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0) -> Callable[[Any], None]:
        raise AssertionError("assembling delivers nothing")


def test_a_whole_series_becomes_one_job_per_model() -> None:
    world = World()
    assembler = world.assembler()

    assembler.tick(104.0)

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE
    assert world.rows[SERIES]["route"] == "planning-ct"
    assert world.rows[SERIES]["complete_at"] == 104.0
    assert [job["model"] for job in world.jobs.values()] == ["body-bones", "other"]
    assert world.enqueued == list(world.jobs)


def test_a_growing_series_says_what_it_waits_for_and_is_looked_at_in_time() -> None:
    world = World()
    world.endings = ["open"]
    assembler = world.assembler()

    assembler.tick(104.0)
    assert world.rows[SERIES]["state"] == SeriesState.RECEIVING
    assert world.rows[SERIES]["reason"]

    world.endings = ["released"]
    assembler.tick(105.0)
    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE


def test_silence_is_noticed_when_the_time_has_come() -> None:
    world = World()
    world.endings = ["open"]
    assembler = world.assembler()
    assembler.tick(104.0)

    assembler.tick(world.rows[SERIES]["look_again_at"])

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE


def test_files_are_read_once_while_a_series_grows() -> None:
    world = World()
    world.endings = ["open"]
    assembler = world.assembler()

    for now in (100.1, 101.0, 102.0, 103.0):
        assembler.tick(now)

    assert sorted(world.reads) == sorted(world.files)


def test_a_judged_series_is_left_alone_also_after_a_restart() -> None:
    world = World()
    world.assembler().tick(104.0)
    read = len(world.reads)

    restarted = world.assembler()
    restarted.tick(200.0)
    restarted.tick(300.0)

    assert len(world.reads) == read


def test_a_late_slice_makes_a_new_manifest_and_new_jobs() -> None:
    world = World(count=6)
    late = world.files.popitem()[1]
    assert isinstance(late, ReceivedInstance)
    assembler = world.assembler()
    assembler.tick(104.0)

    world.add(late)
    assembler.tick(200.0)

    fingerprints = {job["fingerprint"] for job in world.jobs.values()}
    assert len(fingerprints) == 2
    assert len(world.jobs) == 4


def test_no_route_declines_with_every_reason() -> None:
    world = World()
    only_mr = Route(name="mr", when={"Modality": ("MR",)}, unless={}, models=("m",), outputs=(), destinations=())

    world.assembler([only_mr]).tick(104.0)

    assert world.rows[SERIES]["state"] == SeriesState.DECLINED
    assert "mr" in world.rows[SERIES]["reason"]
    assert "Modality" in world.rows[SERIES]["reason"]
    assert world.jobs == {}


def test_a_declined_series_is_judged_anew_when_it_is_sent_again_after_a_route_was_added() -> None:
    world = World()
    world.assembler([]).tick(104.0)
    assert world.rows[SERIES]["state"] == SeriesState.DECLINED
    mended = world.assembler()
    mended.tick(200.0)
    assert world.jobs == {}

    world.endings.append("released")
    mended.tick(300.0)

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE
    assert len(world.jobs) == 2


def test_a_series_of_which_an_instance_was_refused_is_not_contoured_in_part() -> None:
    world = World(count=6)
    name, late = world.files.popitem()
    assert isinstance(late, ReceivedInstance)
    world.refused = {late.sop_instance_uid: "0xC000: Pixel Data is too short"}
    assembler = world.assembler()

    assembler.tick(104.0)
    assert world.rows[SERIES]["state"] == SeriesState.RECEIVING
    assembler.tick(161.0)
    assert world.rows[SERIES]["state"] == SeriesState.DECLINED
    assert "1 instance was refused and did not come again: 0xC000" in world.rows[SERIES]["reason"]

    world.files[name] = late
    assembler.tick(200.0)
    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE


def test_a_series_sent_again_whole_makes_no_second_job() -> None:
    world = World()
    assembler = world.assembler()
    assembler.tick(104.0)
    jobs = dict(world.jobs)

    world.endings.append("released")
    assembler.tick(300.0)

    assert world.jobs == jobs


def test_a_missing_slice_is_declined_after_the_quiet_period_with_the_gap() -> None:
    world = World(count=6)
    del world.files[sorted(world.files, key=lambda name: world.files[name].planes[0].distance_mm)[2]]  # type: ignore[union-attr]
    assembler = world.assembler()

    assembler.tick(104.0)
    assert world.rows[SERIES]["state"] == SeriesState.RECEIVING

    assembler.tick(161.0)
    assert world.rows[SERIES]["state"] == SeriesState.DECLINED
    assert "missing" in world.rows[SERIES]["reason"]


@pytest.mark.parametrize("number_of_good_files", [0, 5])
def test_a_file_that_cannot_be_read_declines_the_series_with_its_reason(number_of_good_files: int) -> None:
    world = World(count=5)
    if not number_of_good_files:
        world.files.clear()
    world.files["bad.dcm"] = "its header ends inside an element"

    assembler = world.assembler()
    assembler.tick(104.0)
    assembler.tick(200.0)

    assert world.rows[SERIES]["state"] == SeriesState.DECLINED
    assert "its header ends inside an element" in world.rows[SERIES]["reason"]


def test_a_series_that_cannot_be_judged_says_so_and_holds_up_no_other() -> None:
    world = TwoSeries()
    assembler = world.assembler()

    assembler.tick(104.0)

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE
    assert world.rows[BROKEN]["state"] == SeriesState.RECEIVING
    assert "Input/output error" in world.rows[BROKEN]["reason"]


def test_a_series_that_could_not_be_judged_is_judged_once_it_can_be() -> None:
    world = TwoSeries()
    assembler = world.assembler()
    assembler.tick(104.0)

    world.fault = None
    assembler.tick(105.0)
    assert world.rows[BROKEN]["state"] == SeriesState.RECEIVING
    assembler.tick(world.rows[BROKEN]["look_again_at"])

    assert world.rows[BROKEN]["state"] == SeriesState.COMPLETE


BROKEN = "1.2.2"


class TwoSeries(World):
    """Two alike, but the files of the one that is looked at first cannot be read."""

    fault: Exception | None = OSError(errno.EIO, "Input/output error")

    def series_uids(self) -> Sequence[str]:
        return [BROKEN, SERIES]

    def path(self, series_uid: str, file_name: str) -> Path:
        return Path(series_uid) / file_name

    def read(self, path: Path) -> ReceivedInstance:
        if path.parts[0] == BROKEN and self.fault is not None:
            raise self.fault
        return super().read(path)
