"""Probabilities as a FRACTIONAL Segmentation stores them, in agreement with the label map.

A model's probabilities and the label map that post-processing left of them disagree. What is stored obeys these rules,
so that cutting at half gives the label map again:

- within REACH voxels of the structure's bounding box the probability is stored, beyond it 0;
- a voxel of the structure is at least 128 of 255, also where another structure's probability came close;
- any other voxel is at most 127;
- what post-processing removed is 0 together with its halo: voxels of half or more that are farther than NEAR voxels
  from the structure (along each axis, diagonals included), and what lies within NEAR voxels of such a voxel but not of
  the structure. A plateau of 127 would look like a part of the structure that the model was unsure of.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError
from node.domain.masks import CroppedMask, Mask
from node.domain.volume import Probabilities

# PS3.3 C.8.20.2: the stored value that means certainty.
MAXIMUM_FRACTIONAL_VALUE = 255
# The least stored value above half.
INSIDE = 128

# Wide enough for the tail of any edge that a network draws, narrow enough to leave other organs' noise out.
REACH = 10
# Post-processing that fills a hole or smooths an edge moves it by a voxel or two.
NEAR = 3

Pixels = NDArray[np.uint8]


def fractions(
    structure: CroppedMask, label_values: tuple[int, ...], probabilities: Probabilities, shape: tuple[int, int, int]
) -> Iterator[tuple[int, Pixels]]:
    """Yield plane index and stored values, ``[row, column]``, of each plane that has any, in the order of the grid.

    Parameters
    ----------
    structure
        Its voxels in the label map.
    shape
        Of the grid: (slices, rows, columns).

    Raises
    ------
    InputError
        A probability is no number.
    """
    planes = _Planes(structure, label_values, probabilities, shape)
    for index in planes.indices:
        stored = planes.stored(index)
        if stored.any():
            pixels = np.zeros(shape[1:], dtype=np.uint8)
            pixels[planes.sides] = stored
            yield index, pixels


class _Planes:
    """A structure's planes within reach, each read from the model once as long as they are asked for in order."""

    def __init__(
        self,
        structure: CroppedMask,
        label_values: tuple[int, ...],
        probabilities: Probabilities,
        shape: tuple[int, int, int],
    ) -> None:
        self._structure, self._label_values, self._probabilities = structure, label_values, probabilities
        slices, rows, columns = (_widened(side, size) for side, size in zip(structure.box, shape, strict=True))
        self.indices = range(slices.start, slices.stop)
        self.sides = rows, columns
        # As many planes as one of them asks for.
        keep = lru_cache(maxsize=2 * NEAR + 1)
        self._inside, self._given = keep(self._read_inside), keep(self._read_given)
        self._near, self._removed = keep(self._find_near), keep(self._find_removed)

    def stored(self, index: int) -> Pixels:
        inside, given = self._inside(index), self._given(index)
        stored = np.where(inside, np.maximum(given, INSIDE), np.minimum(given, INSIDE - 1))
        stored[self._around(self._removed, index) & ~self._near(index)] = 0
        return np.asarray(stored, dtype=np.uint8)

    def _read_inside(self, index: int) -> Mask:
        """Give the structure itself, by the label map."""
        inside = np.zeros([side.stop - side.start for side in self.sides], dtype=np.bool_)
        first, top, left = self._structure.origin
        mask = self._structure.mask
        if first <= index < first + len(mask):
            row, column = top - self.sides[0].start, left - self.sides[1].start
            inside[row : row + mask.shape[1], column : column + mask.shape[2]] = mask[index - first]
        return inside

    def _read_given(self, index: int) -> Pixels:
        """Give what the model says, as stored values."""
        box = self._probabilities.of(self._label_values, (slice(index, index + 1), *self.sides))
        if box is None:  # of these label values the model says nothing: the label map alone speaks
            return self._inside(index) * np.uint8(MAXIMUM_FRACTIONAL_VALUE)
        (given,) = box
        if not np.isfinite(given).all():
            raise InputError("The model gives a probability that is no number.", "Look for another model package.")
        # A sum of a softmax may be a little more than 1.
        return np.asarray(np.rint(np.clip(given, 0, 1) * np.float32(MAXIMUM_FRACTIONAL_VALUE)), dtype=np.uint8)

    def _find_near(self, index: int) -> Mask:
        return self._around(self._inside, index)

    def _find_removed(self, index: int) -> Mask:
        return (self._given(index) >= INSIDE) & ~self._near(index)

    def _around(self, planes: Callable[[int], Mask], index: int) -> Mask:
        """Give the pixels that are at most NEAR voxels away, along each axis, from one that is true."""
        neighbours = range(max(index - NEAR, self.indices.start), min(index + NEAR + 1, self.indices.stop))
        flat = np.logical_or.reduce([planes(neighbour) for neighbour in neighbours])
        kernel = np.ones((2 * NEAR + 1, 2 * NEAR + 1), dtype=np.uint8)
        return np.asarray(cv2.dilate(flat.view(np.uint8), kernel)).view(np.bool_)


def _widened(side: slice, size: int) -> slice:
    return slice(max(side.start - REACH, 0), min(side.stop + REACH, size))
