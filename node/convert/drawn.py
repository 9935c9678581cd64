"""A small volume to try a package with: drawn, of no patient."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.volume import Volume
from node.inference.golden import axial_grid
from node.inference.network_tables import Channel, WindowedInput
from node.inference.resampling import Extent, Three
from node.inference.transforms import nearest_axes

# Of the patch along the network's axes: two patches along the last, one along the others, one of them padded.
_OF_PATCH = (1.0, 0.9, 1.25)
# Of the network's spacing: finer along one axis, coarser along two, so that each way of resampling is gone.
_OF_SPACING = (1.12, 0.88, 1.06)
_SEED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A volume, as nnU-Net would have read it: axes of the training images' arrays."""

    # ``[channel, *]``, whole numbers.
    images: NDArray[np.float32]
    spacing_mm: Extent


def draw(wanted: WindowedInput) -> Drawn:
    """Draw a body of coarse and fine texture, no two axes alike, with nothing around it."""
    net_shape, net_spacing = [], []
    for patch, spacing, size, scale in zip(wanted.window.patch, wanted.spacing_mm, _OF_PATCH, _OF_SPACING, strict=True):
        scale_here = 1.0 if wanted.resample == "totalsegmentator" else scale
        net_spacing.append(round(spacing * scale_here, 4))
        net_shape.append(max(2, round(patch * size * spacing / net_spacing[-1])))
    # Network axis i is axis axis_order[i] of the image.
    at = np.argsort(wanted.axis_order)
    shape = tuple(net_shape[index] for index in at)
    channels = [_channel(channel, shape, _SEED + number) for number, channel in enumerate(wanted.channels)]
    return Drawn(images=np.stack(channels), spacing_mm=cast(Extent, tuple(net_spacing[i] for i in at)))


def as_series(drawing: Drawn, orientation: str) -> list[Volume]:
    """Give the volume as an axial series, head first and supine, of which the network's axes are made again."""
    images = [in_series(image, orientation) for image in drawing.images]
    grid = axial_grid(cast(Three, images[0].shape), spacing_in_series(drawing, orientation))
    return [Volume(voxels=image, grid=grid) for image in images]


def spacing_in_series(drawing: Drawn, orientation: str) -> Extent:
    """Give the spacing between slices, rows and columns of that series."""
    axes, _ = _way(orientation)
    spacing = dict(zip(axes, drawing.spacing_mm, strict=True))
    return spacing[0], spacing[1], spacing[2]


def in_series(array: NDArray[Any], orientation: str) -> NDArray[Any]:
    """Take an array from the axes of the training images to those of that series."""
    axes, flips = _way(orientation)
    return np.ascontiguousarray(array[flips].transpose(np.argsort(axes)))


def from_series(array: NDArray[Any], orientation: str) -> NDArray[Any]:
    """Take an array back."""
    axes, flips = _way(orientation)
    return np.ascontiguousarray(array.transpose(axes)[flips])


def _channel(channel: Channel, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    coarse, fine = (ndimage.gaussian_filter(random.standard_normal(shape), sigma) for sigma in (5.0, 1.2))
    ramp = sum(
        weight * np.linspace(-1, 1, size).reshape([-1 if axis == own else 1 for axis in range(3)])
        for own, (size, weight) in enumerate(zip(shape, (0.8, -0.5, 0.3), strict=True))
    )
    texture = 0.9 * coarse / coarse.std() + 0.4 * fine / fine.std() + ramp
    if channel.clip is None:
        values, outside = 300 + 100 * texture, 0.0
    else:
        # Beyond the limits here and there, so that clipping is tried too.
        values, outside = channel.mean + channel.standard_deviation * texture, channel.clip[0] - 10
    values = np.clip(np.rint(values), 1 if channel.clip is None else -1024, 32000)
    return np.where(_body(shape), values, round(outside)).astype(np.float32)


def _body(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A box with margins that differ on all six sides."""
    inside = np.zeros(shape, dtype=bool)
    first, second, third = (max(1, size // 16) for size in shape)
    inside[first : -2 * first, 2 * second : -second, third : -3 * third] = True
    return inside


def _way(orientation: str) -> tuple[Three, tuple[slice, ...]]:
    """Axis i of the training images is axis axes[i] of the series, and may run against it."""
    if orientation == "native":
        return (0, 1, 2), (slice(None),) * 3
    axes, flipped = nearest_axes(axial_grid((2, 2, 2), (1.0, 1.0, 1.0)).axis_directions(), orientation)
    return axes, tuple(slice(None, None, -1 if each else 1) for each in flipped)
