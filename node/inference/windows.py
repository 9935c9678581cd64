"""Where a sliding window looks, and how much each place in it counts. As nnU-Net v2 does it."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.inference.resampling import Three

# The centre's weight. Scores are sums over weights, so it decides nothing but what underflows at the corners.
_PEAK = 10.0


def patch_starts(size: int, patch: int, step: float) -> tuple[int, ...]:
    """Give the starts of patches along an axis: evenly spread, at most ``step`` of a patch apart.

    Parameters
    ----------
    size
        Voxels along the axis; at least ``patch``.
    """
    count = math.ceil((size - patch) / (patch * step)) + 1
    if count == 1:
        return (0,)
    apart = (size - patch) / (count - 1)
    return tuple(int(np.round(apart * number)) for number in range(count))


def padding(shape: Three, patch: Three) -> tuple[tuple[int, int], ...]:
    """Give voxels to add before and after each axis so that a patch fits; of an odd number the larger part after."""
    missing = [max(0, least - size) for size, least in zip(shape, patch, strict=True)]
    return tuple((each // 2, each - each // 2) for each in missing)


def gaussian(patch: Three, sigma: float) -> NDArray[np.float32]:
    """Give the weight of each voxel of a patch; ``sigma`` is a fraction of the patch's sides.

    Rounded to float16 and held as float32: nnU-Net's map has no more digits, and scores that are blended by other
    weights are other scores. What underflows there gets the least weight above 0.
    """
    sides = [_bell(size, sigma) for size in patch]
    weights = sides[0][:, None, None] * sides[1][:, None] * sides[2]
    weights /= weights.max() / _PEAK
    rounded = weights.astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded.astype(np.float32)


def segments(starts: Sequence[int], patch: int) -> tuple[tuple[int, int], ...]:
    """Cut an axis at every start and end of a patch: each piece lies in a patch whole or not at all."""
    cuts = sorted({*starts, *(start + patch for start in starts)})
    return tuple(pairwise(cuts))


def mirrorings(axes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Give every combination of axes to mirror, the empty one first."""
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))


def _bell(size: int, sigma: float) -> NDArray[np.float64]:
    peak = np.zeros(size)
    peak[size // 2] = 1
    return np.asarray(ndimage.gaussian_filter(peak, size * sigma, mode="constant", cval=0.0))
