"""Corners that agree decide what lies between them; what they leave open is interpolated exactly."""

import numpy as np
import pytest

from node.inference.corners import Cells, taps_of
from node.inference.resampling import between_slices, spline


def test_a_voxel_between_two_neighbours_is_made_of_both_by_its_distance() -> None:
    # 3 samples are 6: centres lie at -0.25, 0.25, 0.75, 1.25, 1.75 and 2.25; beyond the outermost it holds.
    taps = taps_of(spline(3, 6, 1), 3)

    assert taps.weights is not None
    np.testing.assert_array_equal(taps.index, [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(taps.weights[0], [1, 0.75, 0.25, 0.75, 0.25, 0], atol=1e-6)
    np.testing.assert_allclose(taps.weights[1], [0, 0.25, 0.75, 0.25, 0.75, 1], atol=1e-6)


def test_the_nearest_slice_is_alone() -> None:
    taps = taps_of(between_slices(3, 6, 0), 3)

    assert taps.weights is None
    np.testing.assert_array_equal(taps.index, [0, 0, 1, 1, 2, 2])


def test_one_sample_is_alone() -> None:
    taps = taps_of(np.ones((4, 1), dtype=np.float32), 1)

    assert taps.weights is None
    np.testing.assert_array_equal(taps.index, [0, 0, 0, 0])


def test_a_spline_that_reaches_further_is_refused() -> None:
    with pytest.raises(ValueError, match="not between neighbours"):
        taps_of(spline(8, 16, 3), 8)


def test_a_cell_has_what_its_corners_choose_and_its_voxels_have_the_same() -> None:
    cells = Cells((None, spline(2, 4, 1), spline(3, 6, 1)), (1, 2, 3))
    values = np.array([[[1, 5, 2], [4, 3, 9]]])

    least = cells.pooled(values, np.minimum)

    np.testing.assert_array_equal(least, [[[1, 2]]])
    np.testing.assert_array_equal(cells.pooled(values, np.maximum), [[[5, 9]]])
    np.testing.assert_array_equal(cells.spread(least), [[[1, 1, 1, 2, 2, 2]] * 4])


def test_a_class_that_is_second_at_both_corners_may_win_between_them() -> None:
    # Halfway: 5, 5, 6 and 0.
    scores = np.array([[10, 0], [0, 10], [6, 6], [0, 0]], dtype=np.float32).reshape(4, 1, 1, 2)
    halfway = Cells((None, None, np.array([[0.5, 0.5]], dtype=np.float32)), (1, 1, 2))
    there, present = np.array([0]), np.array([0, 1])

    classes, between = halfway.rivals(scores, present, there, 0.0)

    np.testing.assert_array_equal(classes, [0, 1, 2])
    np.testing.assert_array_equal(between, [[5], [5], [6]])
    # Of the last the greatest, 0, is 5 below what is there; within 5.5 it counts.
    np.testing.assert_array_equal(halfway.rivals(scores, present, there, 5.5)[0], [0, 1, 2, 3])


def test_a_class_that_is_everywhere_below_the_least_of_one_that_leads_is_not_looked_at() -> None:
    # Between the corners the second can be the highest; the last, -1 at most, is below the 0 of the first and the 1 of
    # the second at their worst corners.
    scores = np.array([[10, 0], [1, 10], [6, 6], [-1, -9]], dtype=np.float32).reshape(4, 1, 1, 2)
    halfway = Cells((None, None, np.array([[0.5, 0.5]], dtype=np.float32)), (1, 1, 2))
    present, cell = np.array([0, 1]), np.array([[[True]]])

    np.testing.assert_array_equal(halfway.leading(scores, present, cell, 0.0), [0, 1, 2])
    np.testing.assert_array_equal(halfway.leading(scores, present, cell, 1.9), [0, 1, 2])
    np.testing.assert_array_equal(halfway.leading(scores, present, cell, 2.0), [0, 1, 2, 3])


def test_only_open_cells_count_for_how_low_a_class_may_be() -> None:
    scores = np.array([[3, 3, 0], [0, 0, 2]], dtype=np.float32).reshape(2, 1, 1, 3)
    cells = Cells((None, None, spline(3, 6, 1)), (1, 1, 3))
    present = np.array([0, 1])

    np.testing.assert_array_equal(cells.leading(scores, present, np.array([[[True, False]]]), 0.0), [0])
    np.testing.assert_array_equal(cells.leading(scores, present, np.array([[[False, True]]]), 0.0), [0, 1])


@pytest.mark.parametrize("missing", [None, 0, 1, 2])
def test_what_is_interpolated_at_some_voxels_is_the_product_with_the_matrices(missing: int | None) -> None:
    random = np.random.default_rng(1)
    sizes = [(5, 7), (6, 11), (8, 5)]
    along = [None if axis == missing else spline(*each, 1) for axis, each in enumerate(sizes)]
    scores = random.normal(size=(3, 5, 6, 8)).astype(np.float32)
    products = [np.eye(size) if each is None else each for (size, _), each in zip(sizes, along, strict=True)]
    whole = np.einsum("cijk,zi,yj,xk->czyx", scores, *products).reshape(3, -1)
    voxels = np.flatnonzero(random.random(whole.shape[1]) < 0.3)

    found = Cells((along[0], along[1], along[2]), (5, 6, 8)).between(scores, voxels)

    np.testing.assert_allclose(found, whole[:, voxels], atol=1e-5)
