"""Which voxels an interpolation cannot decide from their corners alone, and what it gives there.

Linear interpolation gives a voxel a mean of the scores at the corners of its cell: of two neighbours along each axis.
Where one class is the highest at all corners it is the highest between them; where a score is above 0 at all corners
it is so between them. So only cells whose corners disagree need scores, and of these only some classes'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.inference.predictor import Operators
from node.inference.resampling import Operator, first_and_last

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """What the voxels along an axis are made of."""

    # The first of a voxel's neighbours, or the only one.
    index: NDArray[np.intp]
    # Of it and of the one that follows; None where no voxel lies between two.
    weights: tuple[Scores, Scores] | None


def taps_of(operator: Operator | None, size: int) -> Taps:
    """Read from a matrix, shape (voxels, ``size``), which neighbours it weighs.

    Raises
    ------
    ValueError
        A voxel is made of others than two neighbours.
    """
    if operator is None:
        return Taps(np.arange(size), None)
    first, last = first_and_last(operator)
    if (first == last).all() and (operator[np.arange(len(first)), first] == 1).all():
        return Taps(first, None)
    if (last - first > 1).any():
        raise ValueError("this interpolation is not between neighbours")
    index = np.minimum(first, size - 2)
    voxels = np.arange(len(index))
    return Taps(index, (operator[voxels, index], operator[voxels, index + 1]))


class Cells:
    """The cells of a box of scores, and the voxels that lie in them."""

    def __init__(self, operators: Operators, shape: Sequence[int]) -> None:
        """Take the way from a box of that shape to the voxels."""
        self._taps = [taps_of(operator, size) for operator, size in zip(operators, shape, strict=True)]
        self._shape = tuple(shape)

    def pooled(self, values: NDArray[Any], choose: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Choose one of the values, ``[…, z, y, x]``, at the corners of each cell."""
        for axis, taps in zip((-1, -2, -3), reversed(self._taps), strict=True):
            if taps.weights is not None:
                before, behind = [slice(None)] * values.ndim, [slice(None)] * values.ndim
                before[axis], behind[axis] = slice(None, -1), slice(1, None)
                values = choose(values[tuple(before)], values[tuple(behind)])
        return values

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Give each voxel what its cell has."""
        for axis in (2, 1, 0):
            values = values.take(self._taps[axis].index, axis=axis)
        return values

    def leading(
        self, scores: Scores, present: NDArray[np.intp], open_cells: NDArray[np.bool_], within: float
    ) -> NDArray[np.intp]:
        """Give the classes that can come within a distance of the highest score in some of the cells, and maybe others.

        What is interpolated lies between its corners, so a class cannot where its greatest score at the corners is
        below the least of another. To ask of each cell which cannot costs more than to interpolate a class in vain.

        Parameters
        ----------
        present
            Classes that lead at some corner.
        """
        least = self.pooled(scores[present], np.minimum).max(axis=0)[open_cells].min() - np.float32(within)
        return np.flatnonzero(scores.max(axis=(1, 2, 3)) >= least)

    def rivals(
        self, scores: Scores, present: NDArray[np.intp], voxels: NDArray[np.intp], within: float
    ) -> tuple[NDArray[np.intp], Scores]:
        """Interpolate at some voxels the classes that can come within a distance of the highest score.

        Parameters
        ----------
        present
            Classes of which one is the highest, or nearly so: none that is nowhere near them is interpolated.

        Returns
        -------
        Their numbers in order, and ``[class, voxel]``.
        """
        found = self.between(scores[present], voxels)
        least = found.max(axis=0).min() - np.float32(within)
        classes = np.union1d(present, np.flatnonzero(scores.max(axis=(1, 2, 3)) >= least))
        if len(classes) == len(present):
            return present, found
        every = np.empty((len(classes), len(voxels)), dtype=np.float32)
        known = np.isin(classes, present)
        every[known], every[~known] = found, self.between(scores[classes[~known]], voxels)
        return classes, every

    def between(self, scores: Scores, voxels: NDArray[np.intp]) -> Scores:
        """Interpolate scores ``[class, z, y, x]`` at some voxels, given by place among all: ``[class, voxel]``."""
        places = np.unravel_index(voxels, [len(taps.index) for taps in self._taps])
        strides = (self._shape[1] * self._shape[2], self._shape[2], 1)
        base = np.zeros(len(voxels), dtype=np.intp)
        ways: list[list[tuple[int, Scores | None]]] = []
        for taps, place, stride in zip(self._taps, places, strides, strict=True):
            base += taps.index[place] * stride
            weights = taps.weights
            ways.append([(0, None)] if weights is None else [(0, weights[0][place]), (stride, weights[1][place])])
        flat = scores.reshape(len(scores), -1)
        found = np.zeros((len(scores), len(voxels)), dtype=np.float32)
        for corner in product(*ways):
            there = flat.take(base + sum(offset for offset, _ in corner), axis=1)
            for _, weight in corner:
                if weight is not None:
                    there *= weight
            found += there
        return found
