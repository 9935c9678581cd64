"""From the series' grid to the network's and back.

The network's axes are those of the series, permuted and flipped: the nearest axis is taken for each, so that no voxel
value is invented by a rotation. An oblique series is given to the network as if it were straight, and the shear of a
gantry tilt is ignored. Labels come back to the very voxels that they were computed for, so neither moves a contour.

Voxels are boxes, and the outer faces of both grids coincide: the centre of voxel ``i`` of ``n`` lies at the fraction
``(i + 0.5) / n`` of the axis.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.volume import Volume
from node.inference.network_tables import InputSpecification

Shape = tuple[int, int, int]
Labels = NDArray[np.uint8] | NDArray[np.uint16]
# Of one slice.
Plane = NDArray[np.float32]

# LPS: x grows to the patient's left, y to the back, z to the head.
_DIRECTIONS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """The way from the series' array to the network's and back; network axes are (slice, row, column)."""

    # Network axis i is axis axes[i] of the series.
    axes: Shape
    # Whether network axis i runs against the series' axis.
    flipped: tuple[bool, bool, bool]
    # Shape of the series' array.
    source_shape: Shape
    # Shape of the network's array before padding, and with it.
    shape: Shape
    padded_shape: Shape


def passage(grid: Grid, wanted: InputSpecification) -> Passage:
    """Plan the way between a series' grid and a network's.

    Raises
    ------
    InputError
        The grid is a single plane.
    """
    if grid.shape[0] < 2:
        raise InputError("A single plane is no volume.")
    axes, flipped = nearest_axes(grid.axis_directions(), wanted.orientation)
    lengths = [grid.shape[axis] for axis in axes]
    spacings = [grid.spacing_mm[axis] for axis in axes]
    shape = [
        length if target is None else max(1, round(length * spacing / target))
        for length, spacing, target in zip(lengths, spacings, wanted.spacing_mm, strict=True)
    ]
    padded = [-(-length // multiple) * multiple for length, multiple in zip(shape, wanted.multiple_of, strict=True)]
    return Passage(
        axes=axes,
        flipped=flipped,
        source_shape=grid.shape,
        shape=_three(shape),
        padded_shape=_three(padded),
    )


def nearest_axes(directions: NDArray[np.float64], orientation: str) -> tuple[Shape, tuple[bool, bool, bool]]:
    """Give for each network axis the nearest axis of the series, and whether it runs against it.

    Parameters
    ----------
    directions
        As `node.domain.grid.Grid.axis_directions` gives them.
    """
    # Orientation names column, row, slice; arrays are slice, row, column.
    wanted = np.array([_DIRECTIONS[letter] for letter in reversed(orientation)])
    cosines = wanted @ directions.T
    axes = max(permutations(range(3)), key=lambda order: sum(abs(cosines[i, order[i]]) for i in range(3)))
    flipped = tuple(bool(cosines[i, axes[i]] < 0) for i in range(3))
    return _three(axes), (flipped[0], flipped[1], flipped[2])


def oriented_axes(grid: Grid, orientation: str) -> Shape:
    """Give the series' axis that is slice, row and column of the oriented volume; "native" leaves them."""
    return (0, 1, 2) if orientation == "native" else nearest_axes(grid.axis_directions(), orientation)[0]


def network_input(volume: Volume, wanted: InputSpecification, way: Passage) -> NDArray[np.float32]:
    """Orient, clip, resample, normalise and pad a volume.

    Clipping comes first, else the values of metal would spread into their neighbours.

    Returns
    -------
    Shape ``way.padded_shape``, float32, C-contiguous.
    """
    turned = volume.voxels.transpose(way.axes)[_flips(way.flipped)]
    values = np.full(way.padded_shape, wanted.outside_value, dtype=np.float32)
    along = [_averaging(length, target) for length, target in zip(turned.shape, way.shape, strict=True)]
    _, rows, columns = way.shape
    for index in range(way.shape[0]):
        plane = _mix(turned, along[0], index, wanted.clip)
        values[index, :rows, :columns] = _resampled_transposed(plane, along[1], along[2]).T
    if (wanted.mean, wanted.standard_deviation) != (0.0, 1.0):
        values -= np.float32(wanted.mean)
        values /= np.float32(wanted.standard_deviation)
    return values


def labels_on_source(scores: NDArray[np.float32], way: Passage, step: Callable[[int, int], None]) -> Labels:
    """Bring scores back to the series' grid and take the class with the highest at each voxel.

    Scores are interpolated, never labels: the border of a structure then lies between voxels of the network, where
    the scores cross. A coarser series takes them at the centres of its voxels. The lower label wins a tie. Works slice
    by slice, so memory does not grow with the classes.

    Parameters
    ----------
    scores
        Shape ``(classes, *way.padded_shape)``.
    step
        Called with (slices done, slices in all).

    Returns
    -------
    Shape ``way.source_shape``; uint8 up to 256 classes, uint16 above.
    """
    labels = background(way.source_shape, len(scores) - 1)
    for index, planes in enumerate(scores_on_source(scores, way)):
        labels[index] = label_of_highest(planes)[0].T
        step(index + 1, way.source_shape[0])
    return labels


def scores_on_source(scores: NDArray[np.float32], way: Passage) -> Iterator[Iterator[Plane]]:
    """Bring scores back to the series' grid, interpolated linearly: for each slice, one plane for each class.

    Planes are transposed, ``[column, row]``, C-contiguous.
    """
    unpadded = scores[(slice(None), *(slice(0, length) for length in way.shape))]
    turned = unpadded[(slice(None), *_flips(way.flipped))].transpose(
        0, *(1 + way.axes.index(axis) for axis in range(3))
    )
    along = [_interpolation(length, target) for length, target in zip(turned.shape[1:], way.source_shape, strict=True)]
    for index in range(way.source_shape[0]):
        yield (_resampled_transposed(_mix(each, along[0], index), along[1], along[2]) for each in turned)


def background(shape: Sequence[int], highest: int) -> Labels:
    """Make room for labels: 8 bits where ``highest`` is below 256, else 16."""
    return np.zeros(shape, dtype=np.uint8) if highest < 256 else np.zeros(shape, dtype=np.uint16)


def label_of_highest(planes: Iterable[Plane]) -> tuple[NDArray[np.uint16], Plane]:
    """Give the label of the highest score at each place, the lower of a tie, and that score."""
    remaining = iter(planes)
    highest = next(remaining)
    labels = np.zeros(highest.shape, dtype=np.uint16)
    for label, plane in enumerate(remaining, start=1):
        np.copyto(labels, label, where=plane > highest)
        highest = np.maximum(highest, plane)
    return labels, highest


def _three(values: Sequence[int]) -> Shape:
    first, second, third = values
    return first, second, third


def _flips(flipped: tuple[bool, bool, bool]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if each else 1) for each in flipped)


def _averaging(length: int, target: int) -> sparse.csr_array:
    """Interpolate ``length`` samples linearly; towards fewer, widen the kernel so that no sample goes unseen."""
    return _tents(length, target, half_width=max(1.0, length / target))


def _interpolation(length: int, target: int) -> sparse.csr_array:
    """Interpolate ``length`` samples linearly at the very centres of the target."""
    return _tents(length, target, half_width=1.0)


def _tents(length: int, target: int, half_width: float) -> sparse.csr_array:
    """Give the weight of each sample for each target, shape (target, length), float32.

    Beyond the outermost centres the outermost sample holds.
    """
    centres = (np.arange(target) + 0.5) * (length / target) - 0.5
    distances = np.abs(np.arange(length)[None, :] - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distances / half_width)
    # Rounding leaves taps near 1e-16, which would cost a pass over a whole plane each.
    weights[weights < 1e-6] = 0.0
    return sparse.csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def _mix(
    planes: NDArray[np.float32], along: sparse.csr_array, index: int, clip: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Give plane ``index`` of the target: the weighted sum of planes along the first axis."""
    taps = range(along.indptr[index], along.indptr[index + 1])
    mixed = np.zeros(planes.shape[1:], dtype=np.float32)
    for tap in taps:
        plane = planes[along.indices[tap]]
        mixed += along.data[tap] * (np.clip(plane, *clip) if clip else plane)
    return mixed


def _resampled_transposed(
    plane: NDArray[np.float32], along_rows: sparse.csr_array, along_columns: sparse.csr_array
) -> NDArray[np.float32]:
    """Resample a plane; gives ``[column, row]``, for which a sparse product needs one copy less."""
    taller = plane if along_rows.shape[0] == along_rows.shape[1] else along_rows @ plane
    turned = np.ascontiguousarray(taller.T)
    return turned if along_columns.shape[0] == along_columns.shape[1] else along_columns @ turned
