"""What an inference needs is known before it begins."""

from dataclasses import replace

import pytest

from node.domain.errors import ResourceError
from node.inference.network_tables import Output, Window
from node.inference.plan import Plan, bytes_needed, plan_windows, refuse_too_large
from node.inference.predictor import Room
from tests.windowed import windowed_input

WHOLE_BODY = replace(windowed_input((128, 128, 128)), spacing_mm=(1.5, 1.5, 1.5))
ROOM = Room(host=8_000_000_000, device=None, network=1_000_000_000, label_values=2_000_000)


def planned(slices: int, classes: int = 25) -> Plan:
    return plan_windows((slices, 512, 512), (1.0, 0.78, 0.78), WHOLE_BODY, Output(classes=classes))


def test_a_plan_says_where_patches_lie() -> None:
    plan = planned(300)

    assert plan.model_shape == plan.padded_shape == (200, 266, 266)
    assert plan.starts == ((0, 36, 72), (0, 46, 92, 138), (0, 46, 92, 138))
    assert plan.patches == 48
    assert plan.segments[0] == ((0, 36), (36, 72), (72, 128), (128, 164), (164, 200))
    assert [None if each is None else each.shape for each in plan.back.along] == [(300, 200), (512, 266), (512, 266)]


def test_what_is_smaller_than_a_patch_is_padded_to_it() -> None:
    plan = plan_windows((5, 30, 40), (3.0, 1.5, 0.8), windowed_input((8, 16, 41)), Output(classes=2))

    assert plan.model_shape == (5, 30, 40)
    assert plan.padding == ((1, 2), (0, 0), (0, 1))
    assert plan.padded_shape == (8, 30, 41)
    assert not plan.to_model.changes


def test_totalsegmentator_resamples_before_the_plan() -> None:
    wanted = replace(WHOLE_BODY, resample="totalsegmentator")

    assert plan_windows((200, 250, 260), (1.5, 1.5, 1.5), wanted, Output(classes=2)).model_shape == (200, 250, 260)


def test_the_same_memory_is_taken_whatever_the_slices() -> None:
    few, many = (bytes_needed(planned(slices), 1, ROOM) for slices in (300, 900))
    sums = 4 * 25 * 128 * 266 * 266

    assert sums == 905_676_800
    assert many == few > sums


def test_thick_slices_across_the_networks_first_axis_wait_for_a_row_of_patches() -> None:
    wanted = replace(windowed_input((8, 30, 24)), spacing_mm=(0.9, 1.0, 5.0))
    plan = plan_windows((40, 30, 24), (1.0, 1.0, 5.0), wanted, Output(classes=2))

    assert plan.to_model.separate_axis == 2
    # 24 planes, of which 8 of 30 voxels wait; the row, 8 of 30 by 24; the sums of 2 classes for it, and for 18 slices.
    waiting, row, sums, slab = 24 * 8 * 30, 8 * 30 * 24, 2 * 8 * 30 * 24, 2 * 18 * 30 * 24
    # 16 planes of 40 by 30 at a time.
    assert bytes_needed(plan, 1, ROOM) - ROOM.network == 4 * (waiting + row + sums + slab + 6 * 16 * 40 * 30)


def test_memory_grows_with_the_classes_and_with_mirroring() -> None:
    mirrored = replace(WHOLE_BODY, window=Window(patch=(128, 128, 128), mirror_axes=(0,)))
    plan = plan_windows((300, 512, 512), (1.0, 0.78, 0.78), mirrored, Output(classes=25))

    assert bytes_needed(plan, 1, ROOM) == bytes_needed(planned(300), 1, ROOM) + 4 * 25 * 128**3
    assert bytes_needed(planned(300, classes=118), 1, ROOM) > 4 * 118 * 128 * 266 * 266


def test_what_the_memory_holds_is_let_through() -> None:
    refuse_too_large(planned(300), 1, ROOM)


@pytest.mark.parametrize(("device", "whose"), [(None, "this machine"), (1_500_000_000, "the accelerator")])
def test_what_is_too_large_is_refused_with_figures(device: int | None, whose: str) -> None:
    room = replace(ROOM, host=1_500_000_000, device=device)

    with pytest.raises(ResourceError) as refused:
        refuse_too_large(planned(300), 1, room)

    needed = bytes_needed(planned(300), 1, room) / 1e9
    assert refused.value.reason == (
        f"{needed:.1f} GB of memory are needed for 25 classes on 200 × 266 × 266 voxels, and {whose} has 1.5 GB free."
    )
