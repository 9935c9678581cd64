"""The drawn volume reaches nnU-Net and the engine in the same place of the patient."""

import numpy as np
import pytest

from node.convert.drawn import Drawn, as_series, draw, from_series
from node.inference.network_tables import Channel, Window, WindowedInput

CT = Channel(name="CT", normalisation="fixed", clip=(-600.0, 900.0), mean=50.0, standard_deviation=200.0)


def network(axis_order: tuple[int, int, int] = (0, 1, 2)) -> WindowedInput:
    return WindowedInput(
        orientation="LPS",
        axis_order=axis_order,
        spacing_mm=(3.0, 1.0, 1.5),
        channels=(CT,),
        window=Window(patch=(16, 40, 24)),
    )


def test_a_voxel_lies_where_the_letters_of_the_orientation_say() -> None:
    images = np.zeros((1, 3, 4, 5), dtype=np.float32)
    images[0, 0, 1, 4] = 7
    drawing = Drawn(images=images, spacing_mm=(5.0, 2.0, 1.0))

    (volume,) = as_series(drawing, "LAI")

    # Column index to the left, row index to the front, slice index to the feet: slice 0 is the highest of 3, row 1 of
    # 4 is the third from the front.
    assert volume.voxels[2, 2, 4] == 7
    assert volume.grid.spacing_mm == pytest.approx((5.0, 2.0, 1.0))


def test_axes_that_are_permuted_take_their_spacing_with_them() -> None:
    images = np.zeros((1, 3, 4, 5), dtype=np.float32)
    images[0, 2, 1, 0] = 7
    drawing = Drawn(images=images, spacing_mm=(5.0, 2.0, 1.0))

    # A sagittal stack: columns to the back, rows to the feet, slices to the left.
    (volume,) = as_series(drawing, "PIL")

    assert volume.voxels.shape == (4, 5, 3)
    assert volume.voxels[2, 0, 2] == 7
    assert volume.grid.spacing_mm == pytest.approx((2.0, 1.0, 5.0))
    np.testing.assert_array_equal(from_series(volume.voxels, "PIL"), images[0])


def test_it_is_as_large_as_two_patches_along_one_axis_of_the_network_and_fits_one_along_the_others() -> None:
    drawing = draw(network(axis_order=(1, 0, 2)))

    # Network axes are image axes 1, 0, 2: 16 patches of 3 mm are drawn at 3.36 mm (14 voxels), 0.9 of 40 at 0.88 mm
    # (41), 1.25 of 24 at 1.59 mm (28).
    assert drawing.images.shape == (1, 41, 14, 28)
    assert drawing.spacing_mm == pytest.approx((0.88, 3.36, 1.59))


def test_values_go_beyond_both_limits_of_clipping() -> None:
    values = draw(network()).images

    assert values.min() < -600
    assert np.array_equal(values, np.rint(values))
