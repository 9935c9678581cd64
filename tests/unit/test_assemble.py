"""Assembling: every change of the inbox becomes a verdict in the ledger, and a whole series becomes jobs once."""

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from node.domain.instance import ReceivedInstance
from node.domain.jobs import Priority, SeriesState
from node.domain.routing import Route
from node.stages.assemble import Assembler
from tests.assembling import ROUTE, SERIES, World


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
    body, other, late_body, late_other = world.jobs.values()
    assert (body["superseded_by"], other["superseded_by"]) == (late_body["job"], late_other["job"])
    assert late_body["superseded_by"] is late_other["superseded_by"] is None


def test_what_is_sent_again_supersedes_nothing() -> None:
    world = World()
    assembler = world.assembler()
    assembler.tick(104.0)

    world.endings.append("released")
    assembler.tick(200.0)

    assert len(world.jobs) == 2
    assert [job["superseded_by"] for job in world.jobs.values()] == [None, None]


def test_a_person_who_asks_gets_the_verdict_at_once() -> None:
    world = World()
    world.endings = ["open"]
    assembler = world.assembler()
    assembler.tick(104.0)
    assert world.rows[SERIES]["state"] == SeriesState.RECEIVING

    world.rows[SERIES]["asked"] = "verdict"
    assembler.tick(104.5)

    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE
    assert world.rows[SERIES]["asked"] == ""
    assert "a person asked for the verdict at once" in world.rows[SERIES]["evidence"]


def test_images_of_a_stat_route_make_jobs_that_go_first() -> None:
    world = World()

    world.assembler([replace(ROUTE, priority="stat")]).tick(104.0)

    assert {job["priority"] for job in world.jobs.values()} == {Priority.STAT}
    assert set(world.priorities.values()) == {Priority.STAT}


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


def corrected(one: ReceivedInstance | str, **changes: str) -> ReceivedInstance:
    """Give an instance as it is sent again, with another header."""
    assert isinstance(one, ReceivedInstance)
    return replace(one, received_at=300.0, file_name=f"again-{one.file_name}", **changes)  # type: ignore[arg-type]


def test_a_series_sent_again_with_a_corrected_patient_gets_a_result_of_that_patient() -> None:
    world = World()
    assembler = world.assembler()
    assembler.tick(104.0)
    jobs = set(world.jobs)

    for one in list(world.files.values()):
        world.add(corrected(one, patient_digest="the right patient"))
    world.endings.append("released")
    assembler.tick(310.0)

    assert len(set(world.jobs) - jobs) == 2
    assert set(world.manifests[0]["files"].values()) == {name for name in world.files if name.startswith("again-")}
    said = "5 instances were sent again with the same pixels and another header: the version received last counts"
    assert world.events == [("instances with several contents", SERIES, said)]
    assert said in world.rows[SERIES]["evidence"]


def test_another_image_under_the_same_uid_is_contoured_with_neither_and_reported() -> None:
    world = World()
    assembler = world.assembler()
    assembler.tick(104.0)
    jobs = dict(world.jobs)
    one = next(iter(world.files.values()))

    world.add(corrected(one, pixel_digest="other"))
    world.endings.append("released")
    assembler.tick(400.0)

    assert isinstance(one, ReceivedInstance)
    reason = f"SOP Instance UID {one.sop_instance_uid} stands for different images"
    assert (world.rows[SERIES]["state"], world.rows[SERIES]["reason"]) == (SeriesState.DECLINED, reason)
    assert world.events == [("instances with several contents", SERIES, reason)]
    assert world.jobs == jobs


def test_one_late_slice_of_a_series_that_was_removed_waits_and_is_not_contoured_alone() -> None:
    world = World(count=6)
    removed = [one.sop_instance_uid for one in world.files.values() if isinstance(one, ReceivedInstance)]
    whole = dict(world.files)
    world.rows[SERIES] = {"stamp": "6", "state": SeriesState.COMPLETE, "removed_at": 90_000.0}
    world.removed = (90_000.0, removed)
    name = next(iter(whole))
    world.files = {name: whole[name]}
    assembler = world.assembler()

    assembler.tick(104.0)
    waiting = world.rows[SERIES]["state"]
    assembler.tick(400.0)
    row = dict(world.rows[SERIES])
    world.files = whole
    assembler.tick(500.0)

    assert waiting == SeriesState.RECEIVING
    assert row["state"] == SeriesState.DECLINED
    assert row["reason"].startswith("5 of the images that were here before were removed on 1970-01-0")
    assert row["removed_at"] == 90_000.0
    assert (world.rows[SERIES]["state"], world.rows[SERIES]["removed_at"]) == (SeriesState.COMPLETE, None)


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


def grown(world: World, assembler: Assembler, *, last_at: float) -> None:
    """Let the last slice of a series come while the assembler looks every second, by a clock that is right."""
    world.endings = ["aborted"]  # waited for a minute
    late = dict(list(world.files.items())[-1:])
    for name in late:
        del world.files[name]
    assembler.tick(101.0, 1.0)
    for one in late.values():
        assert isinstance(one, ReceivedInstance)
        world.add(replace(one, received_at=last_at))


def test_a_clock_that_is_put_forward_ends_no_series_that_is_being_sent() -> None:
    world = World()
    assembler = world.assembler()
    grown(world, assembler, last_at=101.5)

    assembler.tick(102.0 + 3600, 2.0)
    at_once = world.rows[SERIES]["state"]
    assembler.tick(160.0 + 3600, 60.0)
    before = world.rows[SERIES]["state"]
    assembler.tick(162.0 + 3600, 62.0)

    assert (at_once, before) == (SeriesState.RECEIVING, SeriesState.RECEIVING)
    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE


@pytest.mark.parametrize("last_at", [101.5, 101.5 - 3600])
def test_a_clock_that_is_put_back_holds_up_no_series(last_at: float) -> None:
    world = World()
    assembler = world.assembler()
    grown(world, assembler, last_at=last_at)

    assembler.tick(102.0 - 3600, 2.0)
    before = world.rows[SERIES]["state"], world.rows[SERIES]["look_again_at"]
    assembler.tick(162.0 - 3600, 62.0)

    assert before[0] == SeriesState.RECEIVING
    assert before[1] < 102.0 - 3600 + 61.0
    assert world.rows[SERIES]["state"] == SeriesState.COMPLETE


def test_a_series_that_lies_in_the_future_at_the_start_is_waited_for_no_longer_than_any_other() -> None:
    world = World()
    world.endings = ["aborted"]
    assembler = world.assembler()

    assembler.tick(100.0 - 3600, 1.0)
    before = world.rows[SERIES]["state"]
    assembler.tick(161.0 - 3600, 62.0)

    assert (before, world.rows[SERIES]["state"]) == (SeriesState.RECEIVING, SeriesState.COMPLETE)
