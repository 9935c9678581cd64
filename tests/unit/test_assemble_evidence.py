"""Assembling with what is known beside the files: habits of senders, archives, other series, several volumes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from node.domain.evidence import ArchiveAnswer
from node.domain.instance import ReceivedInstance
from node.domain.jobs import SeriesState
from node.domain.series import CompletionPolicy
from tests.assembling import ROUTE, SERIES, World, instance
from tests.builders import grid


def test_a_new_sender_waits_and_is_known_after_three_whole_series() -> None:
    world = World()
    assembler = world.assembler(policy=CompletionPolicy())
    assembler.tick(104.0)
    assert "CT1 is not known yet (0 of 3 series)" in world.rows[SERIES]["reason"]

    assembler.tick(160.0)
    (lesson,) = world.lessons
    world.lessons = [replace(lesson, series_instance_uid=f"1.2.{number}") for number in range(3)]
    another = World()
    another.lessons = world.lessons
    another.assembler(policy=CompletionPolicy()).tick(103.0)

    assert (lesson.calling_ae_title, lesson.instances, lesson.associations) == ("CT1", 5, 1)
    assert another.rows[SERIES]["state"] == SeriesState.COMPLETE


def test_the_gap_before_a_late_slice_is_a_lesson() -> None:
    world = World(count=6)
    name, late = world.files.popitem()
    assert isinstance(late, ReceivedInstance)
    assembler = world.assembler()
    assembler.tick(104.0)
    before = world.lessons[0].between_s

    world.files[name] = replace(late, received_at=145.0)
    world.endings.append("released")
    assembler.tick(300.0)

    assert (before, world.lessons[0].between_s) == (0.0, 45.0)


def test_the_route_that_takes_the_first_instance_says_how_long_to_wait() -> None:
    world = World()
    world.policies = {"planning-ct": CompletionPolicy(quiet_period_s=20.0)}

    world.assembler().tick(104.0)

    assert world.rows[SERIES]["look_again_at"] == 120.0


def test_what_is_waited_for_is_no_evidence_of_an_earlier_verdict() -> None:
    world = World(count=6)
    name, late = world.files.popitem()
    assembler = world.assembler()
    assembler.tick(104.0)
    assert world.rows[SERIES]["evidence"]

    world.endings = ["open"]
    assert isinstance(late, ReceivedInstance)
    world.files[name] = replace(late, received_at=110.0)
    assembler.tick(111.0)

    assert world.rows[SERIES]["state"] == SeriesState.RECEIVING
    assert world.rows[SERIES]["evidence"] == []


def test_an_archive_is_asked_at_once_and_its_answer_completes_the_series() -> None:
    world = World()
    world.has_archive = True
    world.endings = ["open"]
    assembler = world.assembler()
    assembler.tick(100.2)
    assert world.asked == [(["CT1"], "1.2", SERIES, 5)]
    assert world.rows[SERIES]["state"] == SeriesState.RECEIVING

    world.archive_answer = ArchiveAnswer(archive="PACS", count=5, asked_at=100.2, had=3)
    assembler.tick(100.5)

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE
    assert "5 of 5 instances, says the archive PACS" in world.rows[SERIES]["evidence"]


def test_an_archive_that_has_more_is_asked_again_after_the_quiet_period_and_then_the_series_is_declined() -> None:
    world = World()
    world.has_archive = True
    world.archive_answer = ArchiveAnswer(archive="PACS", count=9, asked_at=100.2, had=3)
    assembler = world.assembler()
    assembler.tick(104.0)
    assert (world.asked, world.rows[SERIES]["look_again_at"]) == ([], 160.0)

    assembler.tick(160.0)
    assert len(world.asked) == 1
    world.archive_answer = ArchiveAnswer(archive="PACS", count=9, asked_at=160.0, had=5)
    assembler.tick(160.5)

    assert world.rows[SERIES]["state"] == SeriesState.DECLINED
    assert world.rows[SERIES]["reason"] == "5 of 9 instances, says the archive PACS"


def of_phase(phase: str) -> list[ReceivedInstance]:
    return [
        instance(plane, 100.0, plane_keys=({"TemporalPositionIdentifier": phase},))
        for plane in grid(slices=5, series=phase).planes
    ]


def test_every_volume_of_a_series_becomes_jobs_of_its_own_and_a_further_one_only_its_own() -> None:
    world = World(count=0)
    for phase in "12":
        for one in of_phase(phase):
            world.add(one)
    assembler = world.assembler()
    assembler.tick(104.0)
    first = dict(world.jobs)

    for one in of_phase("3"):
        world.add(replace(one, received_at=200.0))
    world.endings.append("released")
    assembler.tick(300.0)

    assert len(first) == 4
    assert len({job["fingerprint"] for job in first.values()}) == 2
    assert len(world.jobs) == 6
    assert first.items() <= world.jobs.items()
    assert {one["fingerprint"] for one in world.manifests} == {job["fingerprint"] for job in world.jobs.values()}


def test_a_volume_that_no_route_takes_is_said_and_the_others_are_contoured() -> None:
    world = World(count=0)
    for phase, kernel in (("1", "SOFT"), ("2", "BONE")):
        for one in of_phase(phase):
            world.add(replace(one, attributes={"Modality": "CT", "ConvolutionKernel": kernel}))
    soft = replace(ROUTE, when={"ConvolutionKernel": ("SOFT",)})

    world.assembler([soft]).tick(104.0)

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE
    assert len(world.manifests) == 1
    assert any("volume 2 of 2 is not contoured: No route takes" in said for said in world.rows[SERIES]["evidence"])


def test_an_open_association_that_sends_another_series_since_is_done_with_this_one() -> None:
    world = Interleaved()
    world.endings = ["open"]
    assembler = world.assembler()
    assembler.tick(104.0)
    assert world.rows[SERIES]["state"] == SeriesState.RECEIVING

    world.others = [instance(plane, 104.0, series_instance_uid=OTHER) for plane in grid(slices=30, series="o").planes]
    assembler.tick(104.5)
    assembler.tick(104.75)

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE
    assert world.rows[OTHER]["state"] == SeriesState.RECEIVING
    assert (
        "every association that sent to it was released, or sends other series since" in world.rows[SERIES]["evidence"]
    )


OTHER = "1.2.1"


class Interleaved(World):
    """Two series in one association: the one of the world, and another that comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[ReceivedInstance] = []

    def series_uids(self) -> Sequence[str]:
        return [OTHER, SERIES] if self.others else [SERIES]

    def stamp(self, series_uid: str) -> str:
        return f"{series_uid} {len(self.others if series_uid == OTHER else self.files)}"

    def file_names(self, series_uid: str) -> Sequence[str]:
        return [one.file_name for one in self.others] if series_uid == OTHER else list(self.files)

    def read(self, path: Path) -> ReceivedInstance:
        return next((one for one in self.others if one.file_name == path.name), None) or super().read(path)
