"""Windows lie where nnU-Net lays them, and count as much."""

import numpy as np
import pytest
from scipy import ndimage

from node.inference.windows import gaussian, mirrorings, padding, patch_starts, segments


@pytest.mark.parametrize(
    ("size", "patch", "step", "starts"),
    [
        # (110 - 64) / 32 = 1.4, so three patches, 23 apart.
        (110, 64, 0.5, (0, 23, 46)),
        (64, 64, 0.5, (0,)),
        (65, 64, 0.5, (0, 1)),
        (266, 128, 0.5, (0, 46, 92, 138)),
        (266, 128, 0.8, (0, 69, 138)),
        # 5 / 2 = 2.5 is rounded to the even 2.
        (15, 10, 0.4, (0, 2, 5)),
    ],
)
def test_patches_are_spread_evenly(size: int, patch: int, step: float, starts: tuple[int, ...]) -> None:
    assert patch_starts(size, patch, step) == starts


def test_what_is_smaller_than_a_patch_is_centred_in_it() -> None:
    assert padding((7, 10, 12), (12, 10, 8)) == ((2, 3), (0, 0), (0, 0))


def test_weights_are_a_gaussian_with_eleven_bits_and_none_is_zero() -> None:
    weights = gaussian((16, 40, 25), sigma=0.125)

    peak = np.zeros((16, 40, 25))
    peak[8, 20, 12] = 1
    bell = ndimage.gaussian_filter(peak, [2.0, 5.0, 3.125], mode="constant", cval=0)
    expected = (10 * bell / bell.max()).astype(np.float16)
    least = expected[expected > 0].min()
    np.testing.assert_array_equal(weights, np.where(expected == 0, least, expected).astype(np.float32))
    assert weights[8, 20, 12] == 10.0
    assert weights.min() > 0


def test_every_patch_covers_a_segment_whole_or_not_at_all() -> None:
    cut = segments((0, 46, 92, 138), 128)

    assert cut == ((0, 46), (46, 92), (92, 128), (128, 138), (138, 174), (174, 220), (220, 266))


def test_every_combination_of_axes_is_mirrored() -> None:
    assert mirrorings((0, 2)) == ((), (0,), (2,), (0, 2))
    assert len(mirrorings((0, 1, 2))) == 8
    assert mirrorings(()) == ((),)
