"""Grids to measure on: where their voxels lie, and when two are the same points."""

from collections.abc import Sequence

import numpy as np
import pytest

from node.dicom.archived_structures import DrawnContour
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.evaluation.grids import (
    are_same_points,
    brought,
    covering,
    grid_of_affine,
    grid_of_contours,
    grid_of_frames,
    indices_of,
)
from tests.archives import segmentation
from tests.builders import Orientation, ct_series, grid, write_and_read

STACK = grid(slices=8)


def contour(points: Sequence[Sequence[float]]) -> DrawnContour:
    return DrawnContour(geometric_type="CLOSED_PLANAR", images=(), points_lps_mm=np.array(points, dtype=np.float64))


def square(z: float, left: float = 10.2) -> DrawnContour:
    return contour([(left, -20.4, z), (left + 30, -20.4, z), (left + 30, 4.6, z), (left, 4.6, z)])


def test_an_affine_is_a_grid() -> None:
    # Columns of 0.8 mm to the right, rows of 1.5 mm to the back, slices of 3 mm to the feet.
    affine = np.array([[-0.8, 0, 0, 5], [0, 1.5, 0, 6], [0, 0, -3, 7], [0, 0, 0, 1.0]])

    found = grid_of_affine(affine, (4, 5, 6))

    assert found.shape == (4, 5, 6)
    assert found.spacing_mm == pytest.approx((3, 1.5, 0.8))
    assert found.points_lps_mm(2, [3], [4])[0] == pytest.approx([5 - 3.2, 6 + 4.5, 7 - 6])


@pytest.mark.parametrize("orientation", ["axial", "feet_first", "sagittal", "oblique"])
def test_indices_are_the_way_back_from_points(orientation: Orientation) -> None:
    stack = grid(slices=8, orientation=orientation, tilt_mm=0.3)
    wanted = np.array([[0, 0, 0], [7, 23, 39], [3, 5.25, 7.5], [6, -2, 41]])

    points = np.concatenate([stack.points_lps_mm(int(place[0]), [place[1]], [place[2]]) for place in wanted])

    # Direction cosines of the builder are rounded to 6 decimals.
    assert indices_of(points, stack) == pytest.approx(wanted, abs=1e-3)


def test_the_frames_of_a_segmentation_are_a_grid_with_the_planes_between() -> None:
    images = ct_series(STACK)
    mask = np.zeros(STACK.shape, dtype=np.bool_)
    # Frames on planes 1, 2 and 6 alone.
    mask[1, 5, 6] = mask[2, 5, 7] = mask[6, 8, 9] = True

    found = grid_of_frames(write_and_read(segmentation(images, mask, "Liver")))

    assert found.shape == (6, 24, 40)
    assert found.spacing_mm == pytest.approx(STACK.spacing_mm)
    assert found.positions_lps_mm == pytest.approx(STACK.positions_lps_mm[1:7])


def test_a_segmentation_of_one_frame_is_as_thick_as_it_says() -> None:
    mask = np.zeros(STACK.shape, dtype=np.bool_)
    mask[3, 5, 6] = True

    found = grid_of_frames(write_and_read(segmentation(ct_series(STACK), mask, "Liver")))

    assert found.spacing_mm == pytest.approx(STACK.spacing_mm)
    assert found.positions_lps_mm == pytest.approx(STACK.positions_lps_mm[2:5])


def test_contours_make_a_grid_of_their_planes_and_those_between() -> None:
    found = grid_of_contours([square(12.5), square(2.5), square(5.0), square(2.5, left=-9.0)], 0.5)

    assert [plane.position_lps_mm[2] for plane in found.planes] == pytest.approx([2.5, 5.0, 7.5, 10.0, 12.5])
    assert found.pixel_spacing_mm == (0.5, 0.5)
    corner, opposite = found.points_lps_mm(0, [0, found.shape[1] - 1], [0, found.shape[2] - 1])
    # All points and 5 mm around.
    assert corner[0] <= -14.0 < corner[0] + 0.5
    assert opposite[1] - 0.5 < 9.6 + 0.5
    assert opposite[1] >= 9.6


def test_tilted_planes_make_a_tilted_grid() -> None:
    tilt = np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    contours = [contour(square(z).points_lps_mm @ turn.T) for z in (0.0, 3.0, 6.0)]

    found = grid_of_contours(contours, 1.0)

    assert found.normal == pytest.approx([0, -np.sin(tilt), np.cos(tilt)], abs=1e-6)
    assert found.slice_spacing_mm == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("contours", "reason"),
    [
        ([square(0.0)], "one plane"),
        ([square(0.0), square(2.0), square(5.0)], "no regular distances"),
        ([contour([(0, 0, 0), (30, 0, 0), (30, 30, 0), (0, 30, 2)]), square(9.0)], "off parallel planes"),
        ([contour([(0, 0, 0)])], "nothing is drawn"),
    ],
)
def test_contours_that_make_no_grid_are_refused(contours: list[DrawnContour], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        grid_of_contours(contours, 1.0)


def test_a_grid_grows_on_every_side_and_keeps_its_points() -> None:
    low = STACK.points_lps_mm(0, [-3], [-2])[0] - 5 * STACK.normal
    high = STACK.points_lps_mm(7, [24], [40.4])[0] + 4.4 * STACK.normal

    found = covering(STACK, np.array([low, high]))

    # 5 mm are two planes of 3 mm, 4.4 one more.
    assert found.shape == (8 + 2 + 1, 24 + 3 + 1, 40 + 2 + 1)
    assert found.points_lps_mm(2, [3], [2])[0] == pytest.approx(STACK.points_lps_mm(0, [0], [0])[0])
    assert are_same_points(STACK, found)
    assert covering(STACK, STACK.points_lps_mm(3, [0, 23], [0, 39])) is STACK


def test_what_is_far_away_is_of_other_images() -> None:
    with pytest.raises(InputError, match="far from each other"):
        covering(STACK, np.array([[900.0, 900.0, 900.0]]))


def flipped() -> Grid:
    """Give the points of the stack from the other end, columns and slices the other way."""
    down, across = STACK.steps_mm[0]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = -across, down, STACK.positions_lps_mm[0] - STACK.positions_lps_mm[1]
    affine[:3, 3] = STACK.points_lps_mm(7, [0], [39])[0]
    return grid_of_affine(affine, STACK.shape)


def test_grids_of_the_same_points_are_told_whatever_way_they_run() -> None:
    moved = grid(slices=8, origin_lps_mm=(-31.5 + 2 * 0.8, -22.25, 105.0 + 3.0))

    assert are_same_points(flipped(), STACK)
    assert are_same_points(moved, STACK)
    assert not are_same_points(grid(slices=8, origin_lps_mm=(-31.1, -22.25, 105.0)), STACK)
    # Every plane of it is one of the stack, and every second pixel.
    assert not are_same_points(grid(slices=4, spacing_mm=(6.0, 1.5, 0.8)), STACK)
    assert not are_same_points(grid(slices=8, spacing_mm=(3.0, 3.0, 0.8)), STACK)
    assert not are_same_points(grid(slices=15, spacing_mm=(1.5, 1.5, 0.8)), STACK)
    assert not are_same_points(grid(slices=8, orientation="oblique"), STACK)


def test_masks_are_brought_to_the_same_points_without_loss() -> None:
    mask = np.random.default_rng(1).random(STACK.shape) > 0.7
    wide = covering(STACK, np.array([STACK.points_lps_mm(0, [-2], [-3])[0]]))

    there = brought(mask, STACK, wide)

    assert np.array_equal(there[:, 2:, 3:], mask)
    assert not there[:, :2].any()
    assert np.array_equal(brought(there, wide, STACK), mask)
    assert np.array_equal(brought(mask[::-1, :, ::-1], flipped(), STACK), mask)
    assert brought(mask, STACK, STACK) is mask


def test_other_points_take_the_nearest_voxel() -> None:
    mask = np.zeros(STACK.shape, dtype=np.bool_)
    mask[2, 10, 20] = True
    fine = grid(slices=15, rows=24, columns=120, spacing_mm=(1.4, 1.5, 0.25))

    there = brought(mask, STACK, fine)

    # The voxel reaches from 4.5 to 7.5 mm across slices, and from 15.6 to 16.4 across columns.
    assert {tuple(place) for place in np.argwhere(there).tolist()} == {
        (each, 10, column) for each in (4, 5) for column in (63, 64, 65)
    }
