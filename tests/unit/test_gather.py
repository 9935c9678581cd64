"""Gathering: whole series of one place become one job, once, whatever the order and wherever the process is killed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from node.domain.grid import Grid
from node.domain.instance import ReceivedInstance
from node.domain.jobs import SeriesState
from node.domain.routing import Route
from node.domain.series import AssociationFact
from node.stages.assemble import Assembler
from tests.assembling import World, instance
from tests.builders import grid
from tests.unit.test_channels import BRAIN

T1, T2, FLAIR, AGAIN = "1.1", "1.2", "1.3", "1.4"
BRAIN_OF_TWO = replace(BRAIN, channels=BRAIN.channels[:2])


class Study(World):
    """Series in folders of their own; each is whole as soon as it is looked at, unless it is open."""

    def __init__(self) -> None:
        super().__init__(count=0)
        self.open: set[str] = set()
        # Every transfer, by its series.
        self.sent: list[str] = []
        self.corrected: dict[str, str] = {}
        # What a write of gathered series raises.
        self.fails: Exception | None = None

    def receive(self, uid: str, description: str, stack: Grid | None = None, **changes: Any) -> None:
        """Let a series come, or more of it."""
        for plane in (stack or grid(series=uid)).planes:
            attributes = {"Modality": "MR", "SeriesDescription": description}
            self.add(
                instance(
                    plane, 100.0, **{"series_instance_uid": uid, "modality": "MR", "attributes": attributes, **changes}
                )
            )
        self.sent.append(uid)

    def assembling(self, *routes: Route) -> Assembler:
        return self.assembler(routes or (BRAIN_OF_TWO,))

    def state(self, uid: str) -> str:
        return str(self.rows[uid]["state"])

    def reason(self, uid: str) -> str:
        return str(self.rows[uid]["reason"])

    def taken(self) -> list[list[tuple[str, str]]]:
        """Give the channels and series of every job."""
        return [[(one["channel"], one["series_uid"]) for one in job["channels"]] for job in self.jobs.values()]

    def _of(self, series_uid: str) -> list[str]:
        found = self.files.items()
        return [
            name for name, one in found if isinstance(one, ReceivedInstance) and one.series_instance_uid == series_uid
        ]

    def series_uids(self) -> Sequence[str]:
        return list(dict.fromkeys(self.sent))

    def stamp(self, series_uid: str) -> str:
        return f"{len(self._of(series_uid))}{self.corrected.get(series_uid, '')}"

    def file_names(self, series_uid: str) -> Sequence[str]:
        return self._of(series_uid)

    def path(self, series_uid: str, file_name: str) -> Path:
        return Path(file_name)

    def associations_of(self, series_uid: str) -> tuple[AssociationFact, ...]:
        is_open = series_uid in self.open
        fact = AssociationFact(
            association_id=series_uid,
            calling_ae_title="MR1",
            ending="open" if is_open else "released",
            opened_at=99.0,
            ended_at=None if is_open else 100.5,
        )
        return (fact,)

    def latest_association(self) -> int:
        return len(self.sent)

    def series_sent_since(self, association: int) -> Sequence[str]:
        return self.sent[association:]

    def settle_together(self, facts: Any, jobs: Any, enqueue: Any, superseded: Any) -> None:
        if self.fails is not None:
            raise self.fails
        super().settle_together(facts, json.loads(json.dumps(jobs)), enqueue, superseded)


@pytest.mark.parametrize("order", list(permutations([(T1, "t1"), (T2, "t2")])))
def test_two_series_become_one_job_of_the_first_channel_whichever_came_first(order: Sequence[tuple[str, str]]) -> None:
    world = Study()
    assembler = world.assembling()

    world.receive(*order[0])
    assembler.tick(104.0)
    assert world.jobs == {}
    assert world.state(order[0][0]) == SeriesState.WAITING
    assert world.reason(order[0][0]) == f"waits for {order[1][1].upper()} of route 'brain'"
    world.receive(*order[1])
    assembler.tick(105.0)

    assert world.taken() == [[("T1", T1), ("T2", T2)]]
    (job,) = world.jobs.values()
    assert (job["series_uid"], job["fingerprint"]) == (T1, world.rows[T1]["fingerprint"])
    assert world.enqueued == [job["job"]]
    assert {world.state(T1), world.state(T2)} == {SeriesState.COMPLETE}
    assert world.reason(T1) == f"T1 of route 'brain', together with T2 (series {T2})"
    assert world.reason(T2) == f"T2 of route 'brain', together with T1 (series {T1})"


def test_series_that_come_together_become_one_job_for_each_model() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2")

    world.assembling(replace(BRAIN_OF_TWO, models=("brain", "tumour"))).tick(104.0)

    assert [job["model"] for job in world.jobs.values()] == ["brain", "tumour"]
    assert world.taken() == [[("T1", T1), ("T2", T2)]] * 2


def test_series_of_another_study_are_no_company() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2", study_instance_uid="1.7")

    world.assembling().tick(104.0)

    assert world.jobs == {}
    assert world.reason(T1) == "waits for T2 of route 'brain'"
    assert world.reason(T2) == "waits for T1 of route 'brain'"


def test_series_of_another_frame_of_reference_are_no_company_and_are_named() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2", frame_of_reference_uid="1.8")

    world.assembling().tick(104.0)

    assert world.jobs == {}
    assert world.reason(T1) == (
        f"waits for T2 (series {T2} would fit, but lies in another Frame of Reference) of route 'brain'"
    )


def test_a_series_on_another_grid_declines_both_with_the_figures() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2", grid(series=T2, spacing_mm=(3.0, 1.5, 0.9)))

    world.assembling().tick(104.0)

    assert world.jobs == {}
    for uid in (T1, T2):
        assert world.state(uid) == SeriesState.DECLINED
        # 39 columns further along, by 0.1 mm each.
        assert "voxels lie up to 3.90 mm apart, spacing 3 × 1.5 × 0.9 instead of 3 × 1.5 × 0.8 mm" in world.reason(uid)


def test_a_series_resampled_onto_the_grid_is_taken_once_a_rule_leaves_the_other_out_as_its_reason_says() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2", grid(series=T2, spacing_mm=(3.0, 1.5, 0.9)))
    world.assembling().tick(104.0)
    assert "send one that does, and let the rules leave this one out ('unless')" in world.reason(T2)
    first, second = BRAIN_OF_TWO.channels
    mended = replace(BRAIN_OF_TWO, channels=(first, replace(second, unless={"SeriesDescription": ("t2",)})))

    assembler = world.assembling(mended)
    world.receive(AGAIN, "t2 resampled")
    assembler.tick(200.0)

    assert world.taken() == [[("T1", T1), ("T2", AGAIN)]]


@pytest.mark.parametrize("order", list(permutations([(T1, "t1"), (AGAIN, "t1 again"), (T2, "t2")])))
def test_two_series_for_one_channel_are_declined_where_all_come_before_a_decision(
    order: Sequence[tuple[str, str]],
) -> None:
    world = Study()
    for one in order:
        world.receive(*one)

    world.assembling().tick(104.0)

    assert world.jobs == {}
    assert {world.state(uid) for uid in (T1, T2, AGAIN)} == {SeriesState.DECLINED}
    assert world.reason(T2) == (
        "Route 'brain': 2 images of one place fit T1: series 1.1 and series 1.4. The rules must tell them apart "
        "('unless')."
    )


def test_while_a_series_that_fits_is_not_whole_nothing_is_decided() -> None:
    world = Study()
    world.open = {AGAIN}
    for one in ((T1, "t1"), (AGAIN, "t1 again"), (T2, "t2")):
        world.receive(*one)
    assembler = world.assembling()

    assembler.tick(104.0)
    assert world.jobs == {}
    assert world.reason(T2) == f"waits for T1 (series {AGAIN} is not whole yet) of route 'brain'"

    world.open.clear()
    assembler.tick(105.0)
    assert world.jobs == {}
    assert world.state(T1) == SeriesState.DECLINED


def test_a_series_that_turns_out_to_be_no_volume_holds_up_nobody() -> None:
    world = Study()
    world.open = {AGAIN}
    for one in ((T1, "t1"), (T2, "t2")):
        world.receive(*one)
    world.receive(AGAIN, "t1 again", grid(series=AGAIN, slices=2))
    assembler = world.assembling()
    assembler.tick(104.0)
    assert world.jobs == {}

    world.open.clear()
    assembler.tick(300.0)

    assert world.state(AGAIN) == SeriesState.DECLINED
    assert world.taken() == [[("T1", T1), ("T2", T2)]]


def test_a_growing_series_whose_folder_somebody_removes_holds_up_nobody() -> None:
    world = Study()
    world.open = {AGAIN}
    for one in ((T1, "t1"), (AGAIN, "t1 again"), (T2, "t2")):
        world.receive(*one)
    assembler = world.assembling()
    assembler.tick(104.0)
    assert world.jobs == {}

    world.sent.remove(AGAIN)
    assembler.tick(105.0)

    assert world.taken() == [[("T1", T1), ("T2", T2)]]


def test_a_second_series_for_a_channel_after_the_job_is_declined_and_the_job_stays() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2")
    assembler = world.assembling()
    assembler.tick(104.0)
    jobs = dict(world.jobs)

    world.receive(AGAIN, "t1 again")
    assembler.tick(105.0)

    assert world.jobs == jobs
    assert world.state(AGAIN) == SeriesState.DECLINED
    assert world.state(T1) == world.state(T2) == SeriesState.COMPLETE


def test_the_same_again_makes_no_second_job() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2")
    assembler = world.assembling()
    assembler.tick(104.0)
    jobs = dict(world.jobs)

    world.sent += [T2, T1]
    assembler.tick(105.0)

    assert world.jobs == jobs
    assert world.state(T1) == world.state(T2) == SeriesState.COMPLETE


def test_after_two_for_one_channel_the_same_again_in_another_order_makes_no_job_either() -> None:
    world = Study()
    for one in ((T1, "t1"), (AGAIN, "t1 again"), (T2, "t2")):
        world.receive(*one)
    assembler = world.assembling()
    assembler.tick(104.0)

    for uid in (T1, T2, AGAIN):
        world.sent.append(uid)
        assembler.tick(105.0)

    assert world.jobs == {}


def test_a_late_slice_of_one_channel_never_mixes_with_the_shorter_stack_of_the_other() -> None:
    world = Study()
    whole = grid(series=T2)
    world.receive(T1, "t1")
    world.receive(T2, "t2", Grid(planes=whole.planes[:-1]))
    assembler = world.assembling()
    assembler.tick(104.0)
    assert world.jobs == {}
    assert "5 × 24 × 40 instead of 6 × 24 × 40" in world.reason(T1)

    world.receive(T2, "t2", Grid(planes=whole.planes[-1:]))
    assembler.tick(200.0)

    (job,) = world.jobs.values()
    assert [len(world.bodies[one["series_uid"], one["fingerprint"]]["files"]) for one in job["channels"]] == [6, 6]
    assert world.state(T1) == world.state(T2) == SeriesState.COMPLETE


def test_a_later_pair_is_a_job_of_its_own_and_each_keeps_what_it_was_made_of() -> None:
    world = Study()
    stacks = {uid: grid(series=uid) for uid in (T1, T2)}
    for uid, name in ((T1, "t1"), (T2, "t2")):
        world.receive(uid, name, Grid(planes=stacks[uid].planes[:-1]))
    assembler = world.assembling()
    assembler.tick(104.0)

    world.receive(T1, "t1", Grid(planes=stacks[T1].planes[-1:]))
    assembler.tick(200.0)
    assert len(world.jobs) == 1
    assert world.state(T1) == SeriesState.DECLINED
    world.receive(T2, "t2", Grid(planes=stacks[T2].planes[-1:]))
    assembler.tick(300.0)

    sizes = [
        [len(world.bodies[one["series_uid"], one["fingerprint"]]["files"]) for one in job["channels"]]
        for job in world.jobs.values()
    ]
    assert sizes == [[5, 5], [6, 6]]
    first, late = world.jobs.values()
    assert (first["superseded_by"], late["superseded_by"]) == (late["job"], None)


def test_another_second_image_makes_another_job_of_the_same_first_image() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2")
    assembler = world.assembling()
    assembler.tick(104.0)

    for name in world.file_names(T2):
        found = world.files.pop(name)
        assert isinstance(found, ReceivedInstance)
        world.add(replace(found, pixel_digest="corrected", file_name=f"new-{name}", received_at=180.0))
    world.corrected[T2] = " corrected"
    world.assembling().tick(200.0)

    assert len(world.jobs) == 2
    assert len({job["fingerprint"] for job in world.jobs.values()}) == 1
    assert len({job["channels"][1]["fingerprint"] for job in world.jobs.values()}) == 2
    first, late = world.jobs.values()
    assert (first["superseded_by"], late["superseded_by"]) == (late["job"], None)


def test_a_process_killed_between_a_whole_series_and_its_job_makes_the_job_at_the_next_start() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2")
    world.fails = RuntimeError("killed")
    world.assembling().tick(104.0)
    assert world.jobs == {}
    assert {world.state(T1), world.state(T2)} == {SeriesState.WAITING}

    world.fails = None
    read = len(world.reads)
    restarted = world.assembling()
    restarted.tick(200.0)
    restarted.tick(201.0)

    assert world.taken() == [[("T1", T1), ("T2", T2)]]
    assert world.enqueued == list(world.jobs)
    assert len(world.reads) == read


def test_a_fault_is_tried_again_by_the_same_process_and_holds_up_no_other_study() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.receive(T2, "t2")
    world.fails = RuntimeError("disk")
    assembler = world.assembling()
    assembler.tick(104.0)

    world.fails = None
    world.receive("2.1", "t1", study_instance_uid="2")
    world.receive("2.2", "t2", study_instance_uid="2")
    assembler.tick(105.0)
    assert world.taken() == [[("T1", "2.1"), ("T2", "2.2")]]
    assembler.tick(140.0)

    assert [("T1", T1), ("T2", T2)] in world.taken()


def test_a_restart_still_waits_and_goes_on_when_the_other_comes() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.assembling().tick(104.0)

    restarted = world.assembling()
    restarted.tick(200.0)
    assert world.reason(T1) == "waits for T2 of route 'brain'"
    world.receive(T2, "t2")
    restarted.tick(300.0)

    assert world.taken() == [[("T1", T1), ("T2", T2)]]


def test_a_series_that_waits_for_a_channel_that_the_routes_no_longer_have_is_declined() -> None:
    world = Study()
    world.receive(T1, "t1")
    world.assembling().tick(104.0)

    world.assembler([]).tick(200.0)

    assert world.state(T1) == SeriesState.DECLINED
    assert world.reason(T1).startswith("The routes were changed")


def test_rules_that_tell_two_apart_take_the_right_one_once_it_is_sent_again() -> None:
    world = Study()
    for one in ((T1, "t1"), (AGAIN, "t1 again"), (T2, "t2")):
        world.receive(*one)
    world.assembling().tick(104.0)
    first, second = BRAIN_OF_TWO.channels
    mended = replace(BRAIN_OF_TWO, channels=(replace(first, unless={"SeriesDescription": ("*again*",)}), second))

    restarted = world.assembling(mended)
    restarted.tick(200.0)
    world.sent.append(T1)
    restarted.tick(300.0)

    assert world.taken() == [[("T1", T1), ("T2", T2)]]
    assert world.state(AGAIN) == SeriesState.DECLINED


def test_a_route_of_one_image_goes_on_beside_one_of_several() -> None:
    world = Study()
    ct = replace(BRAIN, name="ct", when={"Modality": ("CT",)}, channels=(), models=("body-bones",))
    world.receive(T1, "t1")
    world.receive("1.5", "planning", modality="CT", attributes={"Modality": "CT"})

    world.assembling(BRAIN_OF_TWO, ct).tick(104.0)

    (job,) = world.jobs.values()
    assert (job["model"], job["series_uid"]) == ("body-bones", "1.5")
    assert job["channels"] == []
    assert world.state(T1) == SeriesState.WAITING
