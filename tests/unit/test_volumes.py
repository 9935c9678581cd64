"""Several volumes in one series: what splits it, what does not, and what is declined with its reason."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.instance import Concatenation, ReceivedInstance
from node.domain.series import Complete, CompletionPolicy, SeriesFacts, Verdict, assess
from node.domain.stack import Obstacle
from node.domain.volumes import (
    MOST_VOLUMES,
    SPLITTING_KEYS,
    FoundVolume,
    Volumes,
    are_whole_by_themselves,
    find_volumes,
)
from tests.series import Instances, image, localizer, multi_frame, stack, without

find = partial(find_volumes, minimum_slices=3, spacing_tolerance=0.05)


def keyed(instances: Sequence[ReceivedInstance], **keys: str) -> Instances:
    return tuple(replace(one, plane_keys=(keys,) * len(one.planes)) for one in instances)


def phases(count: int, slices: int = 5, keyword: str = "TemporalPositionIdentifier") -> Instances:
    """Build the same planes several times, told apart by one key."""
    each = (keyed(stack(slices, name=f"{number}0"), **{keyword: str(number)}) for number in range(1, count + 1))
    return tuple(itertools.chain.from_iterable(each))


def found(instances: Sequence[ReceivedInstance]) -> Volumes:
    volumes = find(instances)
    assert isinstance(volumes, Volumes), volumes
    return volumes


def told(volumes: Volumes) -> list[tuple[str, int]]:
    return [(one.told_by, len(one.stack.planes)) for one in volumes.found]


@pytest.mark.parametrize("keyword", SPLITTING_KEYS)
def test_every_key_tells_volumes_at_the_same_place_apart(keyword: str) -> None:
    volumes = found(phases(3, keyword=keyword))

    name = SPLITTING_KEYS[keyword]
    assert told(volumes) == [(f"{name} 1", 5), (f"{name} 2", 5), (f"{name} 3", 5)]
    assert volumes.is_even


def test_values_are_ordered_as_numbers() -> None:
    volumes = found(phases(11))

    assert [one.told_by.split()[-1] for one in volumes.found] == [str(number) for number in range(1, 12)]


def test_a_stack_that_is_regular_as_a_whole_is_never_broken() -> None:
    halves = stack(10)
    numbered = (*keyed(halves[:5], AcquisitionNumber="1"), *keyed(halves[5:], AcquisitionNumber="2"))

    assert told(found(numbered)) == [("", 10)]


def test_interleaved_acquisitions_of_one_regular_stack_stay_one_volume() -> None:
    whole = stack(10)
    numbered = (*keyed(whole[::2], AcquisitionNumber="1"), *keyed(whole[1::2], AcquisitionNumber="2"))

    assert told(found(numbered)) == [("", 10)]


def test_slabs_beside_each_other_are_not_split_by_their_acquisition() -> None:
    lower, upper = stack(6), stack(8, name="b", gap_mm=5.0)[3:]
    slabs = (*keyed(lower, AcquisitionNumber="1"), *keyed(upper, AcquisitionNumber="2"))

    volumes = find(slabs)

    assert isinstance(volumes, Obstacle)
    assert volumes.reason == "variable slice spacing: gaps of 2.000 to 5.000 mm, mostly 2.000 mm"


def test_different_images_at_one_place_that_nothing_tells_apart_are_no_volume() -> None:
    assert find((*stack(), *stack(name="9"))) == Obstacle(
        reason="2 different images at z=100.000, and so at 9 more places"
    )


def test_two_keys_together_tell_volumes_apart() -> None:
    all_of_them = tuple(
        itertools.chain.from_iterable(
            keyed(stack(4, name=f"{echo}{phase}0"), EchoNumbers=echo, TemporalPositionIdentifier=phase)
            for echo in "12"
            for phase in "12"
        )
    )

    assert told(found(all_of_them)) == [
        ("Temporal Position Identifier 1, Echo Numbers 1", 4),
        ("Temporal Position Identifier 1, Echo Numbers 2", 4),
        ("Temporal Position Identifier 2, Echo Numbers 1", 4),
        ("Temporal Position Identifier 2, Echo Numbers 2", 4),
    ]


def test_stacks_of_two_orientations_are_two_volumes() -> None:
    sagittal = tuple(
        image(f"5{index}", (-31.5 + 2.0 * index, -22.25, 100.0), orientation="sagittal") for index in range(4)
    )

    assert told(found((*stack(5), *sagittal))) == [
        ("5 axial planes of 24 rows × 40 columns at 1.5 \\ 0.8 mm", 5),
        ("4 sagittal planes of 24 rows × 40 columns at 1.5 \\ 0.8 mm", 4),
    ]


@pytest.mark.parametrize(
    ("change", "told_by"),
    [
        ({"rows": 30}, "5 axial planes of 30 rows × 40 columns at 1.5 \\ 0.8 mm"),
        ({"spacing": (1.5, 1.5)}, "5 axial planes of 24 rows × 40 columns at 1.5 \\ 1.5 mm"),
        ({"frame_of_reference_uid": "1.2.9"}, "Frame of Reference 1.2.9"),
    ],
)
def test_stacks_of_two_geometries_or_frames_of_reference_are_two_volumes(change: dict[str, Any], told_by: str) -> None:
    volumes = found((*stack(5), *stack(5, name="b", **change)))

    assert len(volumes.found) == 2
    assert told_by in {one.told_by for one in volumes.found}


def test_a_phase_that_lacks_a_slice_is_declined_and_the_others_stand() -> None:
    three = phases(3, slices=6)
    lacking = without(three, 8)

    volumes = found(lacking)

    assert told(volumes) == [("Temporal Position Identifier 1", 6), ("Temporal Position Identifier 3", 6)]
    (declined,) = volumes.declined
    assert declined.told_by == "Temporal Position Identifier 2"
    assert declined.reason.startswith("slice missing: gap of 4.000 mm")
    assert not volumes.is_even


def test_a_key_that_leaves_one_volume_splits_nothing() -> None:
    stray = keyed([image("90", (-31.5, -22.25, 104.0))], TemporalPositionIdentifier="2")

    assert find((*keyed(stack(), TemporalPositionIdentifier="1"), *stray)) == Obstacle(
        reason="2 different images at z=104.000"
    )


def test_scouts_inside_are_left_out_of_every_volume() -> None:
    volumes = found((*phases(2), localizer()))

    assert [one.reason for one in volumes.no_images] == ["localizer"]
    assert len(volumes.found) == 2


def test_a_film_is_declined() -> None:
    assert find(phases(MOST_VOLUMES + 1, slices=3)) == Obstacle(
        reason=f"{MOST_VOLUMES + 1} volumes in one series; at most {MOST_VOLUMES} are contoured"
    )


def test_patients_are_never_split_into_volumes() -> None:
    other = tuple(replace(one, patient_digest="other") for one in phases(2)[5:])

    assert find((*phases(2)[:5], *other)) == Obstacle(reason="instances of 2 patients in one series")


# Multi-frame


def test_each_multi_frame_object_is_a_volume() -> None:
    volumes = found([multi_frame("2", 5, first_z=110.0), multi_frame("1", 5)])

    assert told(volumes) == [("instance 1.2.1", 5), ("instance 1.2.2", 5)]


def test_the_frames_of_one_object_are_told_apart_too() -> None:
    magnitude, phase = multi_frame("1", 4), multi_frame("1", 4)
    both = replace(
        magnitude,
        planes=(*magnitude.planes, *(replace(one, frame_number=(one.frame_number or 0) + 4) for one in phase.planes)),
        plane_keys=({"ImageType": "M"},) * 4 + ({"ImageType": "P"},) * 4,
    )

    volumes = found([both])

    assert told(volumes) == [("Image Type M", 4), ("Image Type P", 4)]
    frames = [[plane.frame_number for plane in one.stack.planes] for one in volumes.found]
    assert frames == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_volumes_that_share_an_object_have_fingerprints_of_their_own() -> None:
    one = multi_frame("1", 3)
    six = (*one.planes, *(replace(plane, frame_number=(plane.frame_number or 0) + 3) for plane in one.planes))
    both = replace(one, planes=six, plane_keys=({"ImageType": "M"},) * 3 + ({"ImageType": "P"},) * 3)

    verdict = assess(
        SeriesFacts(series_instance_uid="1.2.3", instances=(both,), associations=()), 0.0, CompletionPolicy()
    )

    assert len({manifest.fingerprint for manifest in verdict.manifests}) == 2  # type: ignore[union-attr]


def part(number: int, total: int | None, first_z: float) -> ReceivedInstance:
    return replace(
        multi_frame(str(number), 4, first_z=first_z),
        concatenation=Concatenation(uid="1.2.77", number=number, total=total),
    )


def test_the_parts_of_a_concatenation_are_one_volume() -> None:
    volumes = found([part(2, 2, 108.0), part(1, 2, 100.0)])

    assert told(volumes) == [("", 8)]
    assert are_whole_by_themselves([part(2, 2, 108.0), part(1, 2, 100.0)])


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([part(1, 3, 100.0), part(3, 3, 116.0)], "part 2 of 3 of a concatenation is missing"),
        ([part(1, 2, 100.0)], "part 2 of 2 of a concatenation is missing"),
        ([part(2, None, 100.0)], "part 1 of 2 of a concatenation is missing"),
    ],
)
def test_a_concatenation_that_lacks_a_part_is_no_volume(parts: list[ReceivedInstance], reason: str) -> None:
    assert find(parts) == Obstacle(reason=reason)
    assert not are_whole_by_themselves(parts)


def test_a_concatenation_of_unknown_length_is_not_whole_by_itself() -> None:
    assert not are_whole_by_themselves([part(1, None, 100.0)])
    assert told(found([part(1, None, 100.0)])) == [("", 4)]


# Properties


@st.composite
def any_series(draw: st.DrawFn) -> Instances:
    keyword = draw(st.sampled_from(sorted(SPLITTING_KEYS)))
    instances = list(phases(draw(st.integers(1, 4)), slices=draw(st.integers(1, 6)), keyword=keyword))
    for _ in range(draw(st.integers(0, 2))):
        instances.pop(draw(st.integers(0, len(instances) - 1)))
        if not instances:
            break
    extras = [localizer(), multi_frame("63", 4), multi_frame("64", 4), *stack(3, name="7", orientation="coronal")]
    return (*instances, *draw(st.lists(st.sampled_from(extras), unique_by=lambda one: one.sop_instance_uid)))


@given(instances=any_series(), order=st.randoms(use_true_random=False))
def test_the_order_never_changes_the_volumes(instances: Instances, order: random.Random) -> None:
    shuffled = list(instances)
    order.shuffle(shuffled)

    assert find(shuffled) == find(instances)


@given(instances=any_series())
def test_no_image_is_in_two_volumes_and_none_is_lost(instances: Instances) -> None:
    volumes = find(instances)

    if isinstance(volumes, Volumes):
        taken = [plane.sop_instance_uid for one in volumes.found for plane in single_planes(one)]
        assert len(taken) == len(set(taken))
        named = {
            uid for one in volumes.found for uid in (instance.sop_instance_uid for instance in one.stack.instances)
        }
        named |= {uid for one in volumes.declined for uid in one.sop_instance_uids}
        named |= {left.sop_instance_uid for one in volumes.found for left in one.stack.left_out}
        named |= {left.sop_instance_uid for left in volumes.no_images}
        assert named == {one.sop_instance_uid for one in instances}


def single_planes(volume: FoundVolume) -> list[Any]:
    return [plane for plane in volume.stack.planes if plane.frame_number is None]


def test_a_volume_whose_planes_are_skewed_is_declined_and_the_others_stand() -> None:
    skewed = stack(5, name="b", orientation=(1.0, 0.0, 0.0, 0.0, 0.9, 0.0))

    verdict = judged((*stack(5), *skewed))

    assert isinstance(verdict, Complete)
    assert len(verdict.manifests) == 1
    assert any(said.startswith("no volume, 5 axial planes") for said in verdict.evidence)
    assert {one.sop_instance_uid for one in verdict.left_out} == {one.sop_instance_uid for one in skewed}


def judged(instances: Sequence[ReceivedInstance]) -> Verdict:
    told = SeriesFacts(series_instance_uid="1.2.3", instances=tuple(instances), associations=())
    return assess(told, 0.0, CompletionPolicy(quiet_period_s=0.0))
