"""A matrix for each axis gives what the training framework's own functions give."""

import numpy as np
import pytest
from scipy import ndimage

from node.inference.resampling import (
    between_slices,
    corner_aligned,
    first_and_last,
    nearest_corner_aligned,
    nnunet_resampling,
    resampled_shape,
    separated_axis,
    spline,
)


def test_a_linear_spline_keeps_the_outer_faces() -> None:
    # Centres of 4 samples on an axis of 2: -0.25, 0.25, 0.75, 1.25; beyond the outermost the outermost holds.
    expected = np.array([[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])

    np.testing.assert_allclose(spline(2, 4, order=1), expected, atol=1e-7)


def test_the_nearest_slice_is_taken_and_of_two_the_further() -> None:
    # Centres of 3 on an axis of 6: 0.5, 2.5, 4.5.
    np.testing.assert_array_equal(between_slices(6, 3, order=0).argmax(axis=1), [1, 3, 5])
    np.testing.assert_array_equal(between_slices(2, 4, order=0).argmax(axis=1), [0, 0, 1, 1])


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("new_shape", [(9, 21, 30), (14, 15, 8), (5, 40, 17)])
def test_matrices_of_three_axes_give_the_zoom_of_the_image(order: int, new_shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).normal(size=(11, 17, 23))
    factors = [new / old for new, old in zip(new_shape, image.shape, strict=True)]
    along = [spline(old, new, order) for old, new in zip(image.shape, new_shape, strict=True)]

    resized = np.einsum("zyx,az,by,cx->abc", image, *along)

    expected = ndimage.zoom(image, factors, order=order, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resized, expected, atol=3e-6)


def test_weights_that_fall_off_for_ever_end_before_they_cost_time() -> None:
    weights = spline(200, 150, order=3)

    assert np.abs(weights[weights != 0]).min() >= 1e-9
    assert (weights == 0).mean() > 0.7


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), None),
        # 3 is not more than 3.
        ((3.0, 1.0, 1.0), (2.0, 2.0, 2.0), None),
        ((3.1, 1.0, 1.0), (2.0, 2.0, 2.0), 0),
        ((1.0, 1.2, 4.0), (2.0, 2.0, 2.0), 2),
        ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), 1),
        # The present spacing is looked at first.
        ((1.0, 1.0, 4.0), (5.0, 1.0, 1.0), 2),
        # Two coarse axes are no slices.
        ((0.8, 3.0, 3.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_thick_slices_are_found_where_nnunet_finds_them(
    spacing: tuple[float, float, float], target: tuple[float, float, float], axis: int | None
) -> None:
    assert separated_axis(spacing, target, "auto") == axis


def test_slices_are_resampled_one_by_one_always_or_never_where_that_is_said() -> None:
    assert separated_axis((9.0, 1.0, 1.0), (1.0, 1.0, 1.0), "never") is None
    assert separated_axis((1.0, 1.2, 1.1), (9.0, 1.0, 1.0), "always") == 1


def test_only_axes_that_change_have_a_matrix_and_only_a_cubic_spline_is_clipped() -> None:
    cubic = nnunet_resampling((10, 20, 30), (10, 15, 40), separate_axis=2, order=3, order_between=0)
    linear = nnunet_resampling((10, 20, 30), (10, 20, 30), separate_axis=None, order=1, order_between=0)

    assert [None if each is None else each.shape for each in cubic.along] == [None, (15, 20), (40, 30)]
    assert cubic.along[2] is not None
    assert set(np.unique(cubic.along[2])) == {0.0, 1.0}
    assert (cubic.clipped, cubic.changes) == (True, True)
    assert (linear.clipped, linear.changes) == (False, False)


def test_halves_are_rounded_to_the_even_number() -> None:
    # 5 · 1.5 / 3 = 2.5; 7 · 1.5 / 3 = 3.5; 9 · 2 / 3 = 6.
    assert resampled_shape((5, 7, 9), (1.5, 1.5, 2.0), (3.0, 3.0, 3.0)) == (2, 4, 6)


def test_what_is_thinner_than_half_a_voxel_is_one() -> None:
    # 1.6 mm of slices, 30 mm of rows and 2.9 mm of columns.
    assert resampled_shape((2, 30, 2), (0.8, 1.0, 1.45), (6.0, 6.0, 6.0)) == (1, 5, 1)


def test_the_support_of_each_row_is_found() -> None:
    first, last = first_and_last(np.array([[0, 0.5, 0.5, 0], [1, 0, 0, 0]], dtype=np.float32))

    assert (first.tolist(), last.tolist()) == ([1, 0], [2, 0])


def test_aligned_corners_keep_the_outermost_centres() -> None:
    image = np.array([[[0.0, 10.0, 20.0]]], dtype=np.float32)

    # 5 samples over 2 gaps: every half.
    assert corner_aligned(image, (1, 1, 5), order=1).ravel().tolist() == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert nearest_corner_aligned(3, 4).tolist() == [0, 1, 1, 2]
