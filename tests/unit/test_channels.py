"""Images of one place: which belong together, and whether their voxels lie at one place, in millimetres by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from node.domain.channels import Coming, Image, Lacking, Together, Unfit, gather, said_of, why_not_one_grid
from node.domain.grid import Grid
from node.domain.routing import Route, RouteChannel
from node.domain.series import SeriesManifest
from tests.builders import grid

BRAIN = Route(
    name="brain",
    when={"Modality": ("MR",)},
    unless={},
    models=("brain",),
    outputs=("rtstruct",),
    destinations=("tps",),
    channels=tuple(
        RouteChannel(name=name, when={"SeriesDescription": (f"*{name}*",)}, unless={}) for name in ("T1", "T2", "FLAIR")
    ),
)
STACK = grid()


def image(channel: str, uid: str, stack: Grid = STACK, frame: str = "1.9", fingerprint: str = "") -> Image:
    manifest = SeriesManifest(
        series_instance_uid=uid,
        study_instance_uid="1.2",
        frame_of_reference_uid=frame,
        modality="MR",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        grid=stack,
        files={},
        left_out=(),
        fingerprint=fingerprint or f"{uid} whole",
    )
    return Image(channel=channel, manifest=manifest)


def coming(channel: str, uid: str, frame: str | None = "1.9") -> Coming:
    return Coming(channel=channel, series_instance_uid=uid, frame_of_reference_uid=frame)


T1, T2, FLAIR = image("T1", "1.1"), image("T2", "1.2"), image("FLAIR", "1.3")


def verdict(images: Sequence[Image], growing: Sequence[Coming] = ()) -> Together | Lacking | Unfit:
    (gathering,) = gather(BRAIN, images, growing)
    return gathering.verdict


def test_one_image_for_each_channel_is_taken_in_the_order_of_the_channels_whatever_came_first() -> None:
    for order in permutations((T1, T2, FLAIR)):
        assert verdict(order) == Together(images=(T1, T2, FLAIR))


def test_a_missing_image_is_waited_for_by_its_name() -> None:
    found = verdict([FLAIR])

    assert isinstance(found, Lacking)
    assert found.words == "T1 and T2"


def test_a_series_that_is_not_whole_yet_is_waited_for_also_where_another_fits() -> None:
    found = verdict([T1, T2, FLAIR], [coming("T1", "1.4")])

    assert isinstance(found, Lacking)
    assert found.words == "T1 (series 1.4 is not whole yet)"


def test_a_series_in_another_frame_of_reference_is_nobody_to_wait_for() -> None:
    assert verdict([T1, T2, FLAIR], [coming("T1", "1.4", frame="1.8")]) == Together(images=(T1, T2, FLAIR))


def test_a_series_whose_frame_of_reference_is_not_known_yet_is_waited_for() -> None:
    assert isinstance(verdict([T1, T2, FLAIR], [coming("T1", "1.4", frame=None)]), Lacking)


def test_two_images_for_one_channel_are_never_chosen_between() -> None:
    for order in permutations((T1, image("T1", "1.4"), T2, FLAIR)):
        assert verdict(order) == Unfit(
            reason="2 images of one place fit T1: series 1.1 and series 1.4. The rules must tell them apart ('unless')."
        )


def test_two_volumes_of_one_series_are_told_apart_by_their_fingerprints() -> None:
    first, second = image("T1", "1.1", fingerprint="a" * 64), image("T1", "1.1", fingerprint="b" * 64)

    found = verdict([first, second])

    assert isinstance(found, Unfit)
    assert "series 1.1, volume aaaaaaaa and series 1.1, volume bbbbbbbb" in found.reason


def test_two_volumes_of_one_series_may_be_two_channels() -> None:
    t1, t2 = image("T1", "1.1", fingerprint="a" * 64), image("T2", "1.1", fingerprint="b" * 64)

    assert verdict([t2, t1, FLAIR]) == Together(images=(t1, t2, FLAIR))
    assert said_of(t1, (t1, t2)) == "series 1.1, volume aaaaaaaa"


def test_images_in_another_frame_of_reference_are_another_place_and_are_named_where_they_would_fit() -> None:
    moved = image("T2", "1.2", frame="1.8")

    here, there = gather(BRAIN, [T1, moved, FLAIR], ())

    assert isinstance(here.verdict, Lacking)
    assert here.images == (T1, FLAIR)
    assert here.verdict.words == "T2 (series 1.2 would fit, but lies in another Frame of Reference)"
    assert isinstance(there.verdict, Lacking)
    assert there.verdict.words == (
        "T1 (series 1.1 would fit, but lies in another Frame of Reference) and "
        "FLAIR (series 1.3 would fit, but lies in another Frame of Reference)"
    )


def test_another_grid_is_refused_with_both_series_and_the_figures() -> None:
    thin = image("T2", "1.2", grid(spacing_mm=(2.5, 1.5, 0.8)))

    assert verdict([T1, thin, FLAIR]) == Unfit(
        # The sixth plane lies at 5 · 2.5 instead of 5 · 3 mm.
        reason="T2 (series 1.2) does not lie on the grid of T1 (series 1.1): voxels lie up to 2.50 mm apart, spacing "
        "2.5 × 1.5 × 0.8 instead of 3 × 1.5 × 0.8 mm. Images are not resampled: send one that does, and let the rules "
        "leave this one out ('unless')."
    )


def test_equal_grids_of_other_instances_are_one_grid() -> None:
    assert why_not_one_grid(STACK, grid(series="another")) == ""


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_is_one_grid_up_to_a_hundredth_of_a_millimetre(axis: int) -> None:
    def shifted(by_mm: float) -> Grid:
        origin = [-31.5, -22.25, 105.0]
        origin[axis] += by_mm
        return grid(origin_lps_mm=(origin[0], origin[1], origin[2]))

    assert why_not_one_grid(STACK, shifted(0.009)) == ""
    assert why_not_one_grid(STACK, shifted(0.02)) == "voxels lie up to 0.02 mm apart, the first by 0.02 mm"
    assert why_not_one_grid(STACK, shifted(-7)) == "voxels lie up to 7.00 mm apart, the first by 7.00 mm"


def test_a_spacing_counts_by_what_it_moves_at_the_far_end() -> None:
    # 39 columns further along, 0.0002 mm each are 0.0078 mm, 0.001 mm each are 0.039 mm.
    assert why_not_one_grid(STACK, grid(spacing_mm=(3.0, 1.5, 0.8002))) == ""
    assert why_not_one_grid(STACK, grid(spacing_mm=(3.0, 1.5, 0.801))) == (
        "voxels lie up to 0.04 mm apart, spacing 3 × 1.5 × 0.801 instead of 3 × 1.5 × 0.8 mm"
    )


def test_other_directions_are_named_by_their_angle() -> None:
    # Turned by one degree about z: the far corner, at 39 · 0.8 = 31.2 and 23 · 1.5 = 34.5 mm, moves by
    # √(31.2² + 34.5²) · 2 sin 0.5° = 46.516 · 0.017453 = 0.8119 mm.
    cosine, sine = math.cos(math.radians(1)), math.sin(math.radians(1))
    turned = grid(orientation=(cosine, sine, 0.0, -sine, cosine, 0.0))

    assert why_not_one_grid(STACK, turned) == "voxels lie up to 0.81 mm apart, directions 1.00 degrees apart"


def test_swapped_rows_and_columns_are_another_grid_though_the_corner_and_the_shape_are_one() -> None:
    square = grid(rows=24, columns=24, spacing_mm=(3.0, 0.8, 0.8))
    # Rows run where columns ran; the third axis turns round with them, as it does for a left-handed pair.
    planes = [replace(plane, orientation=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0)) for plane in square.planes]

    assert "directions" in why_not_one_grid(square, Grid(planes=tuple(planes)))


def test_another_number_of_slices_is_named() -> None:
    assert why_not_one_grid(STACK, grid(slices=5)) == "5 × 24 × 40 instead of 6 × 24 × 40 slices × rows × columns"


def test_a_tilted_stack_is_not_that_of_an_upright_one() -> None:
    # The last of six planes stands 5 · 0.5 mm further down the rows.
    assert why_not_one_grid(STACK, grid(tilt_mm=0.5)) == "voxels lie up to 2.50 mm apart"
