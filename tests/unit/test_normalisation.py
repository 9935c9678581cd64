"""Each channel gets the scale that its network was trained with."""

import numpy as np
import pytest

from node.inference.network_tables import Channel
from node.inference.normalisation import filled_nonzero_mask, nonzero_box, scale_of


def test_the_box_holds_what_is_not_zero_in_some_channel() -> None:
    first, second = np.zeros((2, 6, 7, 8), dtype=np.float32)
    first[2, 3, 5] = -1
    second[4, 3, 1] = 7

    assert nonzero_box([first, second]) == (slice(2, 5), slice(3, 4), slice(1, 6))


def test_an_image_of_zeros_is_kept_whole() -> None:
    assert nonzero_box([np.zeros((2, 3, 4), dtype=np.float32)]) == (slice(0, 2), slice(0, 3), slice(0, 4))


def test_what_is_enclosed_in_three_dimensions_counts_and_what_is_open_does_not() -> None:
    image = np.ones((5, 5, 5), dtype=np.float32)
    image[2, 2, 2] = 0
    image[0, 3, 3] = 0

    mask = filled_nonzero_mask([image])

    assert mask[2, 2, 2]
    assert not mask[0, 3, 3]
    assert mask.sum() == 124


def test_a_fixed_scale_is_that_of_the_manifest() -> None:
    channel = Channel(name="CT", normalisation="fixed", clip=(-600.0, 900.0), mean=99.5, standard_deviation=371.2)

    scale = scale_of(np.ones((2, 2, 2), dtype=np.float32), channel, None)

    assert (scale.limits, scale.mean, scale.deviation, scale.mask) == ((-600.0, 900.0), 99.5, 371.2, None)


def test_a_z_score_is_that_of_the_image() -> None:
    # Mean 3, squares of deviations 4 + 0 + 4 over 3.
    values = np.array([1.0, 3.0, 5.0], dtype=np.float32).reshape(3, 1, 1)

    scale = scale_of(values, Channel(name="T1", normalisation="z_score"), None)

    assert scale.mean == pytest.approx(3.0)
    assert scale.deviation == pytest.approx((8 / 3) ** 0.5)


def test_a_masked_z_score_is_that_of_the_mask() -> None:
    values = np.array([0.0, 2.0, 6.0], dtype=np.float32).reshape(3, 1, 1)
    mask = values != 0

    scale = scale_of(values, Channel(name="T1", normalisation="z_score", masked=True), mask)

    assert (scale.mean, scale.deviation) == (4.0, 2.0)
    assert scale.mask is mask


def test_an_image_of_zeros_has_no_mask_and_divides_by_no_zero() -> None:
    zeros = np.zeros((2, 3, 4), dtype=np.float32)
    channel = Channel(name="MR", normalisation="z_score", masked=True)

    scale = scale_of(zeros, channel, filled_nonzero_mask([zeros]))

    assert (scale.mean, scale.deviation) == (0.0, 1e-8)


def test_a_range_becomes_0_to_1_and_a_flat_image_divides_by_no_zero() -> None:
    channel = Channel(name="US", normalisation="range_0_1")

    scale = scale_of(np.array([-5.0, 15.0], dtype=np.float32).reshape(2, 1, 1), channel, None)
    flat = scale_of(np.full((2, 2, 2), 7, dtype=np.float32), channel, None)

    assert (scale.mean, scale.deviation) == (-5.0, 20.0)
    assert flat.deviation > 0
