"""Completeness: a table of what senders do, and properties that hold for all of them."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.instance import ReceivedInstance
from node.domain.series import (
    Complete,
    CompletionPolicy,
    Ending,
    Growing,
    LeftOut,
    SeriesFacts,
    Stalled,
    Verdict,
    assess,
    manifest_from_json,
    manifest_to_json,
)
from tests.builders import Orientation, grid
from tests.series import (
    LAST,
    Instances,
    capture,
    ended,
    facts,
    image,
    localizer,
    multi_frame,
    stack,
    without,
)

# The rules for what is seen; what is known of senders has tests of its own.
POLICY = CompletionPolicy(new_senders="settle")
AT_ONCE = CompletionPolicy(quiet_period_s=0)
TRUSTED = "CT1 is not known yet, but trusted"


def judged(instances: Sequence[ReceivedInstance]) -> Verdict:
    return assess(facts(instances), LAST, AT_ONCE)


def completed(instances: Sequence[ReceivedInstance]) -> Complete:
    verdict = judged(instances)
    assert isinstance(verdict, Complete), verdict
    return verdict


def stalled(instances: Sequence[ReceivedInstance]) -> str:
    verdict = judged(instances)
    assert isinstance(verdict, Stalled), verdict
    return verdict.reason


# When


@pytest.mark.parametrize(
    ("endings", "silence_s", "expected"),
    [
        (["released"], 2.9, Growing),
        (["released"], 3.0, Complete),
        (["released", "released"], 4.9, Growing),
        (["released", "released"], 5.0, Complete),
        (["open"], 14.9, Growing),
        (["open"], 15.0, Complete),
        (["released", "open"], 3.0, Growing),
        (["aborted"], 3.0, Growing),
        (["aborted"], 60.0, Complete),
        (["lost"], 59.0, Growing),
        (["lost", "released"], 3.0, Growing),
        (["lost", "released"], 60.0, Complete),
        ([], 59.9, Growing),
        ([], 60.0, Complete),
    ],
)
def test_a_regular_series_completes_on_release_or_on_silence(
    endings: list[Ending], silence_s: float, expected: type[Verdict]
) -> None:
    assert isinstance(assess(facts(stack(), *endings), LAST + silence_s, POLICY), expected)


@pytest.mark.parametrize("endings", [["released"], ["open"], ["aborted"], []])
def test_an_irregular_series_grows_until_the_quiet_period_and_stalls_then(endings: list[Ending]) -> None:
    with_hole = facts(without(stack(), 4), *endings)

    assert isinstance(assess(with_hole, LAST + 59.9, POLICY), Growing)
    assert isinstance(assess(with_hole, LAST + 60.0, POLICY), Stalled)


def test_after_pauses_between_associations_the_next_pause_is_waited_for() -> None:
    instances = tuple(replace(one, received_at=LAST - 5.0 * index) for index, one in enumerate(stack(4)))

    one_each = facts(instances, "released", "released", "released", "released")

    assert assess(one_each, LAST + 3.0, POLICY) == Growing(look_again_at=LAST + 15.0, waiting_for="15 s of silence")
    assert isinstance(assess(one_each, LAST + 15.0, POLICY), Complete)


def test_long_pauses_never_wait_beyond_the_quiet_period() -> None:
    instances = tuple(replace(one, received_at=LAST - 40.0 * index) for index, one in enumerate(stack(4)))

    assert isinstance(assess(facts(instances, "released", "released"), LAST + 60.0, POLICY), Complete)


def test_within_one_association_pauses_do_not_matter_once_it_is_released() -> None:
    instances = tuple(replace(one, received_at=LAST - 25.0 * index) for index, one in enumerate(stack(4)))

    assert isinstance(assess(facts(instances, "released"), LAST + 3.0, POLICY), Complete)


def test_a_quiet_period_of_zero_is_immediate_even_if_the_clock_was_set_back() -> None:
    assert isinstance(assess(facts(stack()), LAST - 3600.0, AT_ONCE), Complete)


@pytest.mark.parametrize(
    ("instances", "endings", "expected"),
    [
        (stack(), ["open"], "15 s of silence, for 1 association is still open"),
        (stack(), ["open", "open", "released"], "15 s of silence, for 2 associations are still open"),
        (stack(), ["aborted"], "60 s of silence, for an association was aborted"),
        (stack(), ["released"], "3 s of silence"),
        (stack(2), ["released"], "60 s of silence, for only 2 image planes; a volume needs 3"),
    ],
)
def test_growing_says_what_it_waits_for(instances: Instances, endings: list[Ending], expected: str) -> None:
    verdict = assess(facts(instances, *endings), LAST, POLICY)

    assert isinstance(verdict, Growing)
    assert verdict.waiting_for == expected


@pytest.mark.parametrize(
    ("endings", "expected"),
    [
        (["released"], ("every association that sent to it was released", TRUSTED, "no instance for 61.2 s")),
        (["open"], (TRUSTED, "1 association is still open", "no instance for 61.2 s")),
        (["aborted", "released"], ("an association was aborted", "no instance for 61.2 s")),
        (["aborted", "lost"], ("an association was aborted or lost", "no instance for 61.2 s")),
        ([], ("no instance for 61.2 s",)),
    ],
)
def test_complete_says_on_what_evidence(endings: list[Ending], expected: tuple[str, ...]) -> None:
    verdict = assess(facts(stack(), *endings), LAST + 61.2, POLICY)

    assert isinstance(verdict, Complete)
    assert verdict.evidence == ("10 planes, 2.000 mm apart, regular", *expected)


def test_no_instance_is_no_series() -> None:
    assert assess(facts([], "open"), LAST, POLICY) == Stalled(reason="no instance was received")


# What


def test_the_manifest_orders_along_the_normal_and_names_every_file() -> None:
    instances = stack(5)

    manifest = completed(instances).manifests[0]

    assert [one.position_lps_mm[2] for one in manifest.grid.planes] == [100.0, 102.0, 104.0, 106.0, 108.0]
    assert manifest.files == {one.sop_instance_uid: one.file_name for one in instances}
    assert manifest.left_out == ()
    assert manifest.attributes == {"Modality": "CT", "SliceThickness": "2"}
    assert (manifest.series_instance_uid, manifest.study_instance_uid) == ("1.2.3", "1.2.4")
    assert (manifest.frame_of_reference_uid, manifest.modality) == ("1.2.5", "CT")


def test_the_fingerprint_is_the_digest_of_the_sorted_instances() -> None:
    manifest = completed(stack(3)).manifests[0]

    # sha256 of "1.2.0:pixels of 0\n1.2.1:pixels of 1\n1.2.2:pixels of 2"
    assert manifest.fingerprint == "d8cc1750c9e06d364c4ff06c533cc455832b6129ac9a5afb99bd63a0aad57b87"


def test_another_pixel_gives_another_fingerprint() -> None:
    instances = stack(3)
    changed = (replace(instances[0], pixel_digest="other"), *instances[1:])

    assert completed(instances).manifests[0].fingerprint != completed(changed).manifests[0].fingerprint


@pytest.mark.parametrize("orientation", ["axial", "feet_first", "sagittal", "oblique"])
@pytest.mark.parametrize("tilt_mm", [0.0, 0.8])
def test_every_orientation_and_a_constant_tilt_are_regular(orientation: Orientation, tilt_mm: float) -> None:
    planes = grid(slices=6, orientation=orientation, tilt_mm=tilt_mm).planes
    instances = tuple(
        replace(image(str(index), (0.0, 0.0, 0.0)), planes=(replace(one, sop_instance_uid=f"1.2.{index}"),))
        for index, one in enumerate(planes)
    )

    evidence = completed(instances[::-1]).evidence[0]

    tilted = ", each shifted by 0.800 mm (gantry tilt)" if tilt_mm else ""
    assert evidence == f"6 planes, 3.000 mm apart, regular{tilted}"


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (localizer(), LeftOut(sop_instance_uid="1.2.999", reason="localizer")),
        (capture(), LeftOut(sop_instance_uid="1.2.998", reason="Secondary Capture")),
        (
            image("77", (0.0, 0.0, 0.0), orientation="sagittal"),
            LeftOut(sop_instance_uid="1.2.77", reason="another orientation than the volume"),
        ),
        (
            image("77", (-31.5, -22.25, 120.0), rows=25),
            LeftOut(sop_instance_uid="1.2.77", reason="another size (25 rows × 40 columns) than the volume"),
        ),
        (
            image("77", (-31.5, -22.25, 120.0), spacing=(1.5, 1.5)),
            LeftOut(sop_instance_uid="1.2.77", reason="another pixel spacing (1.5 \\ 1.5 mm) than the volume"),
        ),
        (
            image("77", (-31.5, -22.25, 120.0), sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1"),
            LeftOut(sop_instance_uid="1.2.77", reason="another kind of image than the volume"),
        ),
        # The same image once more under a new UID: the lower UID stays.
        (
            replace(stack()[3], sop_instance_uid="1.2.999", planes=image("999", (-31.5, -22.25, 106.0)).planes),
            LeftOut(sop_instance_uid="1.2.999", reason=f"repeats instance {stack()[3].sop_instance_uid}"),
        ),
    ],
)
def test_what_is_no_part_of_the_volume_is_left_out_with_its_reason(added: ReceivedInstance, expected: LeftOut) -> None:
    manifest = completed((added, *stack())).manifests[0]

    assert manifest.grid.shape[0] == 10
    assert manifest.left_out == (expected,)
    assert added.sop_instance_uid not in manifest.files


def test_the_same_instance_sent_twice_counts_once() -> None:
    instances = stack()
    again = replace(instances[2], file_name="again.dcm")

    manifest = completed((*instances, again)).manifests[0]

    assert manifest.grid.shape[0] == 10
    assert manifest.fingerprint == completed(instances).manifests[0].fingerprint


OTHER = image("50", (-31.5, -22.25, 104.0))


@pytest.mark.parametrize(
    ("instances", "reason"),
    [
        (
            without(stack(gap_mm=0.8), 4),
            "slice missing: gap of 1.600 mm between z=102.400 and z=104.000, others 0.800 mm",
        ),
        (
            without(stack(12), 3, 4, 8),
            "slices missing at 2 places: the first is a gap of 6.000 mm between z=104.000 and z=110.000, "
            "others 2.000 mm",
        ),
        (
            (*stack(6), *stack(6, name="b", gap_mm=3.0)[5:]),
            "variable slice spacing: gaps of 2.000 to 5.000 mm, mostly 2.000 mm",
        ),
        (
            (*stack(6), image("b", (-31.5, -22.25, 111.0))),
            "variable slice spacing: gaps of 1.000 to 2.000 mm, mostly 2.000 mm",
        ),
        (
            (*stack(6)[:5], image("b", (-28.5, -22.25, 110.0))),
            "sideways jump of 3.000 mm between z=108.000 and z=110.000",
        ),
        ((*stack(), image("b", (-20.0, -22.25, 104.0))), "2 planes side by side at z=104.000, 11.500 mm apart"),
        ((*stack(), OTHER), "2 different images at z=104.000"),
        ((*stack(), *stack(name="9")), "2 different images at z=100.000, and so at 9 more places"),
        (stack(2), "only 2 image planes; a volume needs 3"),
        (stack(1), "only 1 image plane; a volume needs 3"),
        ([localizer()], "only localizer images (1)"),
        ([localizer("1"), localizer("2")], "only localizer images (2)"),
        ([capture()], "no image plane in 1 instance: 1 × Secondary Capture"),
        (
            [capture("1"), capture("2"), localizer()],
            "no image plane in 3 instances: 2 × Secondary Capture; 1 × localizer",
        ),
        ((replace(stack()[0], patient_digest="other"), *stack()[1:]), "instances of 2 patients in one series"),
        ((replace(capture(), patient_digest="other"), *stack()), "instances of 2 patients in one series"),
        ((replace(stack()[0], study_instance_uid="1.9"), *stack()[1:]), "instances of 2 studies in one series"),
        (
            (replace(stack()[0], frame_of_reference_uid="1.9"), *stack()[1:]),
            "instances of 2 Frames of Reference in one series",
        ),
        (
            (replace(stack()[0], frame_of_reference_uid=None), *stack()[1:]),
            "Frame of Reference UID is missing in 1 of 10 images",
        ),
        (
            (*stack(), replace(image("0", (-31.5, -22.25, 120.0)), pixel_digest="other")),
            "SOP Instance UID 1.2.0 stands for different images",
        ),
        (
            stack(orientation=(1.0, 0.0, 0.0, 0.0, 0.9, 0.0)),
            "Image Orientation (Patient) (1.0, 0.0, 0.0, 0.0, 0.9, 0.0) is not two orthogonal unit vectors.",
        ),
        (
            [replace(stack(1)[0], planes=(*multi_frame("0", 5).planes, *localizer("0").planes))],
            "the frames of instance 1.2.0 form more than one stack: another orientation",
        ),
    ],
)
def test_what_is_no_volume_stalls_with_its_reason(instances: Sequence[ReceivedInstance], reason: str) -> None:
    assert stalled(instances) == reason


def test_an_oblique_gap_is_named_along_the_normal() -> None:
    planes = grid(slices=6, orientation="sagittal", origin_lps_mm=(10.0, 0.0, 0.0)).planes
    instances = tuple(
        replace(image(str(index), (0.0, 0.0, 0.0)), planes=(replace(one, sop_instance_uid=f"1.2.{index}"),))
        for index, one in enumerate(planes)
        if index != 2
    )

    assert stalled(instances) == (
        "slice missing: gap of 6.000 mm between -7.000 mm along the normal and -1.000 mm along the normal, "
        "others 3.000 mm"
    )


def test_three_spacings_in_a_tilted_head_are_variable_spacing() -> None:
    # The figures of a real GE HiSpeed head: 13 gaps of 4.002 mm, one of 1.081 mm, 13 of 6.999 mm.
    heights = [0.0]
    for gap_mm in [4.002] * 13 + [1.081] + [6.999] * 13:
        heights.append(heights[-1] + gap_mm)
    instances = [image(str(index), (0.0, 0.334 * z, z)) for index, z in enumerate(heights)]

    assert stalled(instances) == "variable slice spacing: gaps of 1.081 to 6.999 mm, mostly 4.002 mm"


def test_one_multi_frame_instance_is_a_volume() -> None:
    manifest = completed([multi_frame("1", 5)]).manifests[0]

    assert [one.frame_number for one in manifest.grid.planes] == [1, 2, 3, 4, 5]
    assert list(manifest.files) == ["1.2.1"]


@pytest.mark.parametrize("jitter_mm", [0.0, 0.009, -0.009])
def test_positions_rounded_to_hundredths_are_regular(jitter_mm: float) -> None:
    # 0.3 mm apart, so 5 % would be 0.015 mm: less than what two rounded positions may differ by.
    instances = stack(5, gap_mm=0.3)
    moved = image("9", (-31.5, -22.25, 101.5 + jitter_mm))

    assert completed((*instances, moved)).manifests[0].grid.shape[0] == 6


def test_a_fifth_of_the_usual_gap_off_is_irregular() -> None:
    assert stalled((*stack(5), image("9", (-31.5, -22.25, 110.4)))).startswith("variable slice spacing")


# Round trip


def test_a_manifest_survives_json_to_the_last_bit() -> None:
    instances = (*stack(5, gap_mm=0.1 + 0.2), localizer(), replace(multi_frame("m", 4), planes=(), not_an_image="x"))
    manifest = completed(instances).manifests[0]

    again = manifest_from_json(json.loads(json.dumps(manifest_to_json(manifest))))

    assert again == manifest
    assert again.grid.planes[1].position_lps_mm[2].hex() == manifest.grid.planes[1].position_lps_mm[2].hex()


def test_a_multi_frame_manifest_survives_json() -> None:
    manifest = completed([multi_frame("1", 4)]).manifests[0]

    assert manifest_from_json(json.loads(json.dumps(manifest_to_json(manifest)))) == manifest


# Properties


def changed(draw: st.DrawFn) -> Instances:
    """Take a stack and do to it what senders do."""
    instances = list(stack(draw(st.integers(1, 9))))
    extras: list[Callable[[], ReceivedInstance]] = [
        localizer,
        capture,
        lambda: OTHER,
        lambda: image("60", (-31.5, -22.25, 102.0), pixel_digest=instances[-1].pixel_digest),
        lambda: replace(instances[0], file_name="again.dcm"),
        lambda: image("61", (0.0, 0.0, 0.0), orientation="sagittal"),
        lambda: image("62", (5.0, 0.0, 103.0)),
        lambda: multi_frame("63", 4),
        lambda: replace(image("64", (-31.5, -22.25, 98.0)), frame_of_reference_uid=None),
    ]
    instances += [extra() for extra in draw(st.lists(st.sampled_from(extras), max_size=3, unique=True))]
    if draw(st.booleans()):
        instances.pop(draw(st.integers(0, len(instances) - 1)))
    times = draw(st.lists(st.floats(900.0, LAST), min_size=len(instances), max_size=len(instances)))
    return tuple(replace(one, received_at=time) for one, time in zip(instances, times, strict=True))


@st.composite
def any_facts(draw: st.DrawFn) -> SeriesFacts:
    all_endings: tuple[Ending, ...] = ("open", "released", "aborted", "lost")
    return facts(changed(draw), *draw(st.lists(st.sampled_from(all_endings), max_size=3)))


@given(given_facts=any_facts(), now=st.floats(800.0, 1200.0), order=st.randoms(use_true_random=False))
def test_arrival_order_never_changes_the_verdict(given_facts: SeriesFacts, now: float, order: random.Random) -> None:
    shuffled = list(given_facts.instances)
    order.shuffle(shuffled)

    assert assess(replace(given_facts, instances=tuple(shuffled)), now, POLICY) == assess(given_facts, now, POLICY)


@given(given_facts=any_facts(), nows=st.lists(st.floats(800.0, 1200.0), min_size=2, max_size=6))
def test_silence_never_turns_a_verdict_back_into_growing(given_facts: SeriesFacts, nows: list[float]) -> None:
    kinds = [type(assess(given_facts, now, POLICY)) for now in sorted(nows)]

    settled = [kind for kind in kinds if kind is not Growing]
    assert kinds == [Growing] * (len(kinds) - len(settled)) + settled
    assert len(set(settled)) <= 1


@given(given_facts=any_facts(), now=st.floats(800.0, 1200.0))
def test_the_next_look_decides(given_facts: SeriesFacts, now: float) -> None:
    verdict = assess(given_facts, now, POLICY)

    if isinstance(verdict, Growing):
        assert verdict.look_again_at > now
        assert not isinstance(assess(given_facts, verdict.look_again_at, POLICY), Growing)


@given(given_facts=any_facts())
def test_every_instance_is_in_the_volume_or_left_out(given_facts: SeriesFacts) -> None:
    verdict = assess(given_facts, LAST, AT_ONCE)

    if isinstance(verdict, Complete):
        taken = {uid for manifest in verdict.manifests for uid in manifest.files}
        left_out = {one.sop_instance_uid for one in verdict.left_out}
        assert not taken & left_out
        assert taken | left_out == {one.sop_instance_uid for one in given_facts.instances}


def test_what_is_sent_again_after_it_was_judged_waits_no_longer_than_the_first_time() -> None:
    early, late = stack()[:2], stack()[2:]
    again = tuple(replace(one, received_at=LAST - 75.0) for one in early) + late
    old, new = ended("released", LAST - 74.0), ended("released", LAST + 0.5)

    verdict = assess(
        SeriesFacts(series_instance_uid="1.2.3", instances=again, associations=(old, new)), LAST + 3, POLICY
    )

    assert isinstance(verdict, Complete)


def test_an_association_aborted_before_the_last_verdict_no_longer_counts() -> None:
    old, new = ended("aborted", LAST - 105.0), ended("released", LAST + 0.5)
    told = SeriesFacts(series_instance_uid="1.2.3", instances=stack(), associations=(old, new))
    just_now = replace(told, associations=(ended("aborted", LAST - 5.0), new))

    assert isinstance(assess(told, LAST + 3, POLICY), Complete)
    assert isinstance(assess(just_now, LAST + 3, POLICY), Growing)


def test_a_stalled_series_says_that_an_association_was_aborted() -> None:
    verdict = assess(facts(stack(2), "aborted"), LAST + 61, POLICY)

    assert isinstance(verdict, Stalled)
    assert verdict.reason == "only 2 image planes; a volume needs 3; an association was aborted"
