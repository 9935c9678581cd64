"""Measures of agreement on shapes whose answer is known without a computer."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.evaluation.distances import distances_mm, within
from node.evaluation.metrics import Measures, compare, dice
from node.evaluation.surfaces import outlines_of, surface_of
from tests.builders import grid

Mask = NDArray[np.bool_]

# Planning CT: slices of 3 mm, pixels of 0.9 mm. Nothing lies in the middle of anything.
STACK = grid(slices=30, rows=90, columns=80, spacing_mm=(3.0, 0.9, 0.9))
CENTRE_MM = (43.1, 40.4, 36.2)


def away_mm(stack: Grid = STACK, centre_mm: Sequence[float] = CENTRE_MM) -> tuple[NDArray[Any], ...]:
    """Give how far each voxel is from a centre along the stack's own axes: slices, rows, columns."""
    z, y, x = (
        np.arange(size, dtype=np.float64) * spacing - middle
        for size, spacing, middle in zip(stack.shape, stack.spacing_mm, centre_mm, strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def ball(radius_mm: float, stack: Grid = STACK) -> Mask:
    z, y, x = away_mm(stack)
    return np.asarray(z**2 + y**2 + x**2 <= radius_mm**2)


def box(slices: slice, rows: slice, columns: slice, stack: Grid = STACK) -> Mask:
    mask = np.zeros(stack.shape, dtype=np.bool_)
    mask[slices, rows, columns] = True
    return mask


def tilted_box(halves_mm: Sequence[float], shift_mm: float) -> Mask:
    """Give a box turned by 29° and by 20°, moved along its own last axis."""
    one, other = np.radians(29), np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(one), -np.sin(one)], [0, np.sin(one), np.cos(one)]])
    turn = turn @ np.array([[np.cos(other), -np.sin(other), 0], [np.sin(other), np.cos(other), 0], [0, 0, 1]])
    places = np.stack(np.broadcast_arrays(*away_mm()), axis=-1) @ turn - np.array([0, 0, shift_mm])
    return np.asarray((np.abs(places) <= halves_mm).all(axis=-1))


def distance_of_moved_box(sides_mm: Sequence[float], shift_mm: float) -> float:
    """Give the mean surface distance of a box moved along its first side by less than half of any.

    Of sides a, b across the shift s: the face that left is s away from the other's, all over it. The face that went in
    is s away, but near its border the other's sides are nearer: the area further than t is (a - 2t)(b - 2t), integrated
    from 0 to s: s·ab - s²(a + b) + 4s³/3. Of the four sides a strip of s sticks out, on average s/2 away: s²(a + b).
    """
    length, a, b = sides_mm
    return (2 * shift_mm * a * b + 4 * shift_mm**3 / 3) / (2 * (length * a + length * b + a * b))


BOX = box(slice(8, 18), slice(10, 40), slice(12, 42))
BOX_MM = (30.0, 27.0, 27.0)


@pytest.mark.parametrize(("axis", "voxels", "shift_mm"), [(0, 2, 6.0), (1, 4, 3.6), (2, 3, 2.7)])
def test_a_box_that_moved_is_as_far_away_as_it_moved(axis: int, voxels: int, shift_mm: float) -> None:
    found = compare(BOX, np.roll(BOX, voxels, axis), STACK)

    sides = [BOX_MM[axis], *(BOX_MM[each] for each in range(3) if each != axis)]
    assert found.hd95_mm == pytest.approx(shift_mm, abs=1e-6)
    assert found.mean_surface_distance_mm == pytest.approx(distance_of_moved_box(sides, shift_mm), rel=0.02)
    assert found.dice == pytest.approx(1 - shift_mm / BOX_MM[axis])
    assert found.volume_difference_cm3 == pytest.approx(0)
    assert found.reference_cm3 == pytest.approx(30 * 27 * 27 / 1000)


def test_the_surface_of_a_box_is_exact_and_that_of_a_ball_nearly() -> None:
    areas = {radius: surface_of(ball(radius), STACK).sizes.sum() for radius in (8.0, 20.0)}

    assert surface_of(BOX, STACK).sizes.sum() == pytest.approx(2 * (27 * 27 + 2 * 27 * 30))
    # The voxels' faces alone would give half as much again.
    assert areas[20.0] == pytest.approx(4 * np.pi * 20**2, rel=0.02)
    assert areas[8.0] == pytest.approx(4 * np.pi * 8**2, rel=0.03)


def test_surface_dice_of_a_box_that_moved() -> None:
    tolerance_mm, shift_mm = 1.8, 2.7

    found = compare(BOX, np.roll(BOX, 3, axis=2), STACK, tolerance_mm)

    # Too far: the face that left, the one that went in but for its border, and what sticks out of the sides.
    a, b, area = 30.0, 27.0, 2 * (27 * 27 + 2 * 27 * 30)
    far = a * b + (a - 2 * tolerance_mm) * (b - 2 * tolerance_mm) + 2 * (a + b) * (shift_mm - tolerance_mm)
    assert found.surface_dice == pytest.approx(1 - far / area, abs=0.01)


@pytest.mark.parametrize(("radius_mm", "further_mm"), [(20.0, 5.0), (20.0, 2.0), (8.0, 2.0)])
def test_a_ball_around_a_ball_is_as_far_away_as_their_radii_differ(radius_mm: float, further_mm: float) -> None:
    found = compare(ball(radius_mm), ball(radius_mm + further_mm), STACK)

    assert found.mean_surface_distance_mm == pytest.approx(further_mm, rel=0.03)
    # A mask of slices of 3 mm can be off by 1.6 mm, half of a voxel's diagonal; here by a quarter of a slice.
    assert found.hd95_mm == pytest.approx(further_mm, abs=0.75)
    ratio = ((radius_mm + further_mm) / radius_mm) ** 3
    assert found.reference_cm3 == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.02)
    assert found.volume_difference_percent == pytest.approx(100 * (ratio - 1), rel=0.03)
    assert found.dice == pytest.approx(2 / (1 + ratio), rel=0.01)


# Circles of the balls are 5 mm apart or more, towards the poles more than 6.6: where that of the inner ball is smaller
# than 13.745 mm, which is 14.53 mm above its centre. 16.5 % of the area under its quarter circle lie beyond.
@pytest.mark.parametrize(("tolerance_mm", "within_it", "added"), [(3.4, 0.0, 1.0), (6.6, 1.0, 0.165)])
def test_surface_dice_of_balls_is_none_or_all_on_either_side_of_their_distance(
    tolerance_mm: float, within_it: float, added: float
) -> None:
    found = compare(ball(20.0), ball(25.0), STACK, tolerance_mm)

    assert found.surface_dice == pytest.approx(within_it, abs=0.02)
    assert found.added_path_share == pytest.approx(added, abs=0.03)


@pytest.mark.parametrize("shift_mm", [2.0, 5.0])
def test_a_tilted_box_that_moved_is_as_far_away_as_it_moved(shift_mm: float) -> None:
    halves_mm = (18.0, 15.0, 20.0)

    found = compare(tilted_box(halves_mm, 0), tilted_box(halves_mm, shift_mm), STACK)

    expected = distance_of_moved_box((40.0, 36.0, 30.0), shift_mm)
    assert found.mean_surface_distance_mm == pytest.approx(expected, rel=0.03)
    assert found.hd95_mm == pytest.approx(shift_mm, abs=0.3)
    assert surface_of(tilted_box(halves_mm, 0), STACK).sizes.sum() == pytest.approx(7440, rel=0.03)


def test_a_slab_of_one_slice_that_moved_by_one() -> None:
    slab = box(slice(10, 11), slice(10, 80), slice(10, 70))

    found = compare(slab, np.roll(slab, 1, axis=0), STACK)

    # The lower face of one is the upper of the other; the other two faces are 3 mm away from the nearest.
    assert found.dice == 0
    assert found.hd95_mm == pytest.approx(3.0)
    assert found.mean_surface_distance_mm == pytest.approx(1.5, rel=0.05)


def test_single_voxels_are_as_far_away_as_they_are_apart() -> None:
    one, other = (box(slice(5, 6), slice(7, 8), slice(column, column + 1)) for column in (20, 30))

    found = compare(one, other, STACK)

    assert found.dice == 0
    # Each shrank to a fifth of a voxel, 9 mm from the other, less or more its own width.
    assert found.mean_surface_distance_mm == pytest.approx(9.0, abs=0.2)
    assert found.hd95_mm == pytest.approx(9.0, abs=0.2)
    assert found.reference_cm3 == pytest.approx(3 * 0.9 * 0.9 / 1000)


def test_what_is_equal_agrees_in_everything() -> None:
    found = compare(ball(8.0), ball(8.0), STACK, 0.0)

    assert (found.dice, found.surface_dice, found.added_path_mm, found.added_path_share) == (1, 1, 0, 0)
    assert found.hd95_mm == pytest.approx(0, abs=1e-3)
    assert found.mean_surface_distance_mm == pytest.approx(0, abs=1e-3)
    assert found.reason == ""


def test_only_the_added_path_and_the_difference_have_a_direction() -> None:
    there, back = (asdict(compare(*pair, STACK)) for pair in ((ball(8.0), ball(12.0)), (ball(12.0), ball(8.0))))

    for name in ("dice", "surface_dice", "hd95_mm", "mean_surface_distance_mm"):
        assert there[name] == pytest.approx(back[name])
    assert there["volume_difference_cm3"] == pytest.approx(-back["volume_difference_cm3"])
    assert there["added_path_mm"] < back["added_path_mm"]


def test_the_added_path_of_squares_is_that_drawn_by_hand() -> None:
    # Squares of 27 mm on 10 slices; on 6 of them the result lies 9 mm aside, on 3 it is the same, on 1 there is none.
    result = BOX.copy()
    result[9:15] = np.roll(BOX[9:15], 10, axis=2)
    result[17] = False

    found = compare(BOX, result, STACK, tolerance_mm=0.9)

    # Aside: the left side, 27 mm; the right side but for 0.9 mm at either end, 25.2; of top and bottom 9 - 0.9 each.
    assert found.added_path_mm == pytest.approx(6 * (27 + 25.2 + 2 * 8.1) + 108)
    assert found.added_path_share == pytest.approx((6 * 68.4 + 108) / 1080)


@pytest.mark.parametrize("radius_mm", [4.0, 20.0])
def test_outlines_of_a_disk_are_as_long_as_its_circle(radius_mm: float) -> None:
    _, y, x = away_mm()
    disk = np.broadcast_to(y**2 + x**2 <= radius_mm**2, STACK.shape)

    # The pixels' sides alone would give 4/π as much.
    assert outlines_of(disk, STACK).sizes.sum() == pytest.approx(30 * 2 * np.pi * radius_mm, rel=0.03)


def test_a_hole_has_a_surface_too() -> None:
    hollow = BOX & ~box(slice(11, 15), slice(20, 30), slice(22, 32))

    found = compare(BOX, hollow, STACK)

    outer, inner = 2 * (27 * 27 + 2 * 27 * 30), 2 * (9 * 9 + 2 * 9 * 12)
    assert surface_of(hollow, STACK).sizes.sum() == pytest.approx(outer + inner)
    assert found.surface_dice == pytest.approx(2 * outer / (2 * outer + inner))
    assert found.volume_difference_cm3 == pytest.approx(-12 * 9 * 9 / 1000)


def test_a_tilted_gantry_and_irregular_slices_change_no_ball() -> None:
    straight = grid(slices=60, rows=80, columns=70, spacing_mm=(1.5, 0.9, 0.9))
    leaning = grid(slices=60, rows=80, columns=70, spacing_mm=(1.5, 0.9, 0.9), tilt_mm=0.4)
    # Where two thirds of the slices are there: 1.5 and 3 mm apart in turn.
    irregular = Grid(planes=tuple(each for number, each in enumerate(straight.planes) if number % 3))
    for stack in (leaning, irregular):
        rows, columns = (each.ravel() for each in np.indices(stack.shape[1:]))
        points = np.stack([stack.points_lps_mm(index, rows, columns) for index in range(len(stack.planes))])
        away = np.linalg.norm(points - points.reshape(-1, 3).mean(axis=0), axis=2).reshape(stack.shape)

        found = compare(away <= 18, away <= 22, stack)

        assert found.mean_surface_distance_mm == pytest.approx(4.0, rel=0.03)
        assert found.reference_cm3 == pytest.approx(4 / 3 * np.pi * 18**3 / 1000, rel=0.02)


def test_what_is_cut_by_the_end_of_the_scan_ends_there() -> None:
    cut = box(slice(0, 10), slice(10, 40), slice(12, 42))

    assert surface_of(cut, STACK).sizes.sum() == pytest.approx(2 * (27 * 27 + 2 * 27 * 30))
    assert compare(cut, np.roll(cut, 3, axis=2), STACK).hd95_mm == pytest.approx(2.7)


def test_empty_masks_have_values_that_say_so() -> None:
    nothing = np.zeros(STACK.shape, dtype=np.bool_)

    missing, extra = compare(BOX, nothing, STACK), compare(nothing, BOX, STACK)
    neither = compare(nothing, nothing, STACK)

    assert (missing.dice, missing.surface_dice, missing.hd95_mm, missing.volume_difference_percent) == (
        0,
        0,
        None,
        -100,
    )
    assert missing.added_path_mm == pytest.approx(1080)
    assert missing.added_path_share == 1
    assert missing.reason == "the result is empty: no distance is defined"
    assert (extra.dice, extra.surface_dice, extra.mean_surface_distance_mm) == (0, 0, None)
    assert extra.volume_difference_cm3 == pytest.approx(21.87)
    assert extra.volume_difference_percent is None
    assert (extra.added_path_mm, extra.added_path_share) == (0, None)
    assert (neither.dice, neither.surface_dice, neither.added_path_mm, neither.reference_cm3) == (None, None, None, 0)
    assert neither.reason == "both are empty"
    for found in (missing, extra, neither):
        json.dumps(found.as_json(), allow_nan=False)


def test_a_box_at_the_edge_of_the_image_is_measured_like_any_other() -> None:
    corner = box(slice(20, 30), slice(60, 90), slice(50, 80))

    found = compare(corner, np.roll(corner, -3, axis=2), STACK)

    assert found.hd95_mm == pytest.approx(2.7)
    assert found.dice == pytest.approx(0.9)


def test_a_single_plane_is_refused() -> None:
    flat = grid(slices=1)

    with pytest.raises(InputError, match="one plane"):
        compare(np.ones(flat.shape, np.bool_), np.ones(flat.shape, np.bool_), flat)


def test_a_percentile_is_of_the_area_not_of_the_pieces() -> None:
    # One piece of 94 mm² and six of 1 mm²: 95 % of the area lie within the second.
    distances, areas = np.array([5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0]), np.array([1.0, 94, 1, 1, 1, 1, 1])

    assert within(distances, areas, 0.95) == 1.0
    assert within(distances, areas, 0.94) == 0.0
    assert within(distances, areas, 1.0) == 6.0


def test_distances_to_a_flat_surface_are_exact_wherever_the_point_is() -> None:
    surface = surface_of(BOX, STACK)
    middle = np.average(surface.centres_mm, axis=0, weights=surface.sizes)
    half = np.array([13.5, 13.5, 15.0])
    random = np.random.default_rng(5)
    points = random.uniform(-30, 30, (500, 3))

    found = distances_mm(points + middle, surface)

    beyond = np.abs(points) - half
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    assert found == pytest.approx(np.where(beyond.max(axis=1) > 0, outside, -beyond.max(axis=1)), abs=1e-6)


def test_dice_of_nothing_is_not_defined() -> None:
    assert dice(np.zeros((2, 2), np.bool_), np.zeros((2, 2), np.bool_)) is None
    assert dice(np.array([True, True, False]), np.array([True, False, False])) == pytest.approx(2 / 3)


def test_measures_are_plain_numbers() -> None:
    found = compare(BOX, np.roll(BOX, 1, axis=1), STACK)

    assert isinstance(found, Measures)
    assert {type(value) for value in found.as_json().values()} <= {float, str}
