"""Resampling as one matrix for each axis, equal to what the training framework does.

nnU-Net resamples by functions of SciPy that are linear in the image and work on each axis alone. So each is a product
with one matrix for each axis, whose columns are what the very function makes of unit vectors. A product runs where the
network runs, in float32, and on a block of the image as on the whole.

Indices name voxel centres, and the outer faces of both grids coincide: sample ``i`` of ``n`` lies at the fraction
``(i + 0.5) / n`` of the axis. Beyond the outermost centres the outermost sample holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.inference.network_tables import Separation

Operator = NDArray[np.float32]
Three = tuple[int, int, int]
Extent = tuple[float, float, float]

# Voxels of which the longest side is more than this times the shortest have slices that are resampled one by one.
ANISOTROPY_THRESHOLD = 3.0

# The cubic spline's weights fall off for ever; below this they change nothing in float32 and, as denormal numbers,
# make the product several times slower.
_LEAST_WEIGHT = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """How an image of three axes is resampled; None for an axis along which nothing changes."""

    along: tuple[Operator | None, Operator | None, Operator | None]
    # The axis across the slices where slices are resampled one by one; None where the image is resampled as a whole.
    separate_axis: int | None
    # Whether what is resampled is held within the values of what it is made of: the image or, one by one, the slice.
    # A cubic spline overshoots.
    clipped: bool

    @property
    def changes(self) -> bool:
        """Tell whether anything changes at all."""
        return any(operator is not None for operator in self.along)


def resampled_shape(shape: Three, spacing_mm: Extent, target_mm: Extent) -> Three:
    """Give the shape of an image at another spacing; halves are rounded to the even number, as Python rounds.

    What is thinner than half a voxel there is one: nnU-Net has none then, and fails.
    """
    first, second, third = (
        max(1, round(float(np.float64(old) / new * size)))
        for size, old, new in zip(shape, spacing_mm, target_mm, strict=True)
    )
    return first, second, third


def nnunet_resampling(
    shape: Three, new_shape: Three, separate_axis: int | None, order: int, order_between: int
) -> Resampling:
    """Resample as nnU-Net v2's default: a spline of ``order``; slices one by one, then ``order_between`` across them.

    Parameters
    ----------
    separate_axis
        As `separated_axis` gives it.
    """
    along: list[Operator | None] = []
    for axis, (size, new_size) in enumerate(zip(shape, new_shape, strict=True)):
        if size == new_size:
            along.append(None)
        elif axis == separate_axis:
            along.append(between_slices(size, new_size, order_between))
        else:
            along.append(spline(size, new_size, order))
    # Weights of an order up to 1 are none below 0, so nothing overshoots.
    return Resampling(along=(along[0], along[1], along[2]), separate_axis=separate_axis, clipped=order > 1)


def separated_axis(spacing_mm: Extent, target_mm: Extent, separation: Separation) -> int | None:
    """Find the axis across slices that are to be resampled one by one; None where the image is resampled as a whole.

    ``auto`` looks for thick slices at the present spacing first, then at the target. Two or three axes that are equally
    coarse have no slices.
    """
    match separation:
        case "never":
            return None
        case "always":
            return _coarsest(spacing_mm)
        case "auto":
            for each in (spacing_mm, target_mm):
                if max(each) / min(each) > ANISOTROPY_THRESHOLD:
                    return _coarsest(each)
            return None


def spline(size: int, new_size: int, order: int) -> Operator:
    """Give the matrix, shape (new_size, size), of a spline interpolation: `scipy.ndimage.zoom`, ``grid_mode``."""
    zoom = new_size / size

    def resized(unit: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.zoom(unit, zoom, order=order, mode="nearest", grid_mode=True))

    return _matrix(resized, size, new_size)


def between_slices(size: int, new_size: int, order: int) -> Operator:
    """Give the matrix, shape (new_size, size), that nnU-Net uses across slices: `scipy.ndimage.map_coordinates`.

    Of order 0 it takes the nearest slice; halfway between two, the further one.
    """
    places = size / new_size * (np.arange(new_size) + 0.5) - 0.5

    def resized(unit: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.map_coordinates(unit, places[None], order=order, mode="nearest"))

    return _matrix(resized, size, new_size)


def first_and_last(operator: Operator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give for each row of a matrix the first and the last column that counts."""
    counts = operator != 0
    return counts.argmax(axis=1), operator.shape[1] - 1 - counts[:, ::-1].argmax(axis=1)


def corner_aligned(image: NDArray[np.float32], new_shape: Sequence[int], order: int) -> NDArray[np.float64]:
    """Resample as TotalSegmentator does: the centres of the outermost voxels stay where they are.

    Not as matrices: TotalSegmentator cuts the fraction off afterwards, so the last bit of a float64 decides, and only
    the very function gives the very bit.
    """
    zoom = [new / old for new, old in zip(new_shape, image.shape, strict=True)]
    return np.asarray(ndimage.zoom(image, zoom, output=np.float64, order=order, mode="nearest"))


def nearest_corner_aligned(size: int, new_size: int) -> NDArray[np.intp]:
    """Give for each of ``new_size`` voxels the nearest of ``size``, the outermost centres kept."""
    nearest = ndimage.zoom(np.arange(size, dtype=np.float64), new_size / size, order=0, mode="nearest")
    return np.asarray(nearest, dtype=np.intp)


def _coarsest(spacing_mm: Extent) -> int | None:
    coarsest = [axis for axis in range(3) if spacing_mm[axis] == max(spacing_mm)]
    return coarsest[0] if len(coarsest) == 1 else None


def _matrix(resized: Callable[[NDArray[np.float64]], NDArray[np.float64]], size: int, new_size: int) -> Operator:
    operator = np.empty((new_size, size), dtype=np.float64)
    for column, unit in enumerate(np.eye(size)):
        operator[:, column] = resized(unit)
    operator[np.abs(operator) < _LEAST_WEIGHT] = 0.0
    return operator.astype(np.float32)
