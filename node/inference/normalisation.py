"""What comes before resampling: the box around what is not zero, and each channel's scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.volume import Box
from node.inference.network_tables import Channel

_LEAST_DEVIATION = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """How the values of one channel are normalised: clipped to the limits, less ``mean``, over ``deviation``."""

    # None clips nothing.
    limits: tuple[float, float] | None
    mean: float
    deviation: float
    # Where it is False the value is 0 in every channel, and stays 0; None: nowhere.
    mask: NDArray[np.bool_] | None


def nonzero_box(channels: Sequence[NDArray[np.float32]]) -> Box:
    """Give the box around voxels that are not zero in some channel; all of the image where there are none.

    nnU-Net fills holes before it takes the box; they lie inside it, so they cannot move it.
    """
    found = [np.logical_or.reduce([_any_but(channel, axis) for channel in channels]) for axis in range(3)]
    if not found[0].any():
        return tuple(slice(0, size) for size in channels[0].shape)  # type: ignore[return-value]
    places = [np.flatnonzero(each) for each in found]
    first, second, third = (slice(int(each[0]), int(each[-1]) + 1) for each in places)
    return first, second, third


def filled_nonzero_mask(channels: Sequence[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Tell for each voxel whether it is not zero in some channel or enclosed by such, in three dimensions."""
    found = channels[0] != 0
    for channel in channels[1:]:
        found |= channel != 0
    return np.asarray(ndimage.binary_fill_holes(found), dtype=bool)


def scale_of(values: NDArray[np.float32], channel: Channel, mask: NDArray[np.bool_] | None) -> Scale:
    """Find out how a cropped channel is normalised.

    Parameters
    ----------
    mask
        What counts for a channel that is ``masked``; not looked at for others.
    """
    match channel.normalisation:
        case "fixed":
            return Scale(channel.clip, channel.mean, channel.standard_deviation, None)
        case "z_score":
            inside = mask if channel.masked else None
            mean, deviation = _mean_and_deviation(values, inside)
            return Scale(None, mean, max(deviation, _LEAST_DEVIATION), inside)
        case "range_0_1":
            least = float(values.min())
            return Scale(None, least, max(float(values.max()) - least, _LEAST_DEVIATION), None)


def _any_but(channel: NDArray[np.float32], axis: int) -> NDArray[np.bool_]:
    """Tell for each index of an axis whether anything there is not zero."""
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(channel.any(axis=others), dtype=bool)


def _mean_and_deviation(values: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> tuple[float, float]:
    """Slice by slice, so that the float64 copy stays small; 0 and 0 of an image whose mask is empty."""
    count = values.size if mask is None else max(1, int(np.count_nonzero(mask)))
    slices = [values[index] if mask is None else values[index][mask[index]] for index in range(len(values))]
    mean = sum(float(each.sum(dtype=np.float64)) for each in slices) / count
    squares = sum(float(np.square(each.astype(np.float64) - mean).sum()) for each in slices)
    return mean, float(np.sqrt(squares / count))
