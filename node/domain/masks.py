"""The voxels of structures, each within its bounding box: structures are small, label maps are not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from node.domain.structures import StructureDefinition
from node.domain.volume import Box, LabelMap

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

BACKGROUND = 0


@dataclass(frozen=True, slots=True)
class CroppedMask:
    """The voxels of a structure within its bounding box, ``[slice, row, column]``."""

    box: Box
    mask: Mask

    @property
    def origin(self) -> tuple[int, int, int]:
        """Give the index in the grid of the mask's first voxel."""
        return self.box[0].start, self.box[1].start, self.box[2].start


@dataclass(frozen=True, slots=True)
class Extents:
    """The rows and columns that label values span on slices; one entry each, shape (n,). Ends are one past the last."""

    value: Indices
    slice_index: Indices
    top: Indices
    bottom: Indices
    left: Indices
    right: Indices

    def of(self, values: Sequence[int]) -> Self:
        """Give the entries of some values."""
        wanted = np.isin(self.value, values)
        return type(self)(*(getattr(self, name)[wanted] for name in self.__slots__))


class Masks:
    """The masks of a label map's structures."""

    def __init__(self, label_map: LabelMap) -> None:
        self._labels = label_map.labels
        self._extents = _extents(label_map.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Give (slices, rows, columns) of the label map."""
        slices, rows, columns = self._labels.shape
        return slices, rows, columns

    def of(self, definition: StructureDefinition) -> CroppedMask | None:
        """Give the voxels of a structure; None where it has none. Background never belongs to one."""
        box = self.box(definition)
        if box is None:
            return None
        mask = np.empty(self._labels[box].shape, dtype=np.bool_)
        # Slice by slice, for a table's indices are widened to 64 bit on the way.
        for image, labels in zip(mask, self._labels[box], strict=True):
            image[:] = members(labels, definition.label_values)
        return CroppedMask(box, mask)

    def box(self, definition: StructureDefinition) -> Box | None:
        """Give the bounding box of a structure; None where it has no voxel."""
        found = self._extents.of(_foreground(definition.label_values))
        if not len(found.value):
            return None
        return (
            slice(int(found.slice_index.min()), int(found.slice_index.max()) + 1),
            slice(int(found.top.min()), int(found.bottom.max())),
            slice(int(found.left.min()), int(found.right.max())),
        )

    def on_slices(self, definition: StructureDefinition) -> Iterator[CroppedMask]:
        """Give the pixels of a structure slice by slice, each within the rows and columns that it spans there."""
        found = self._extents.of(_foreground(definition.label_values))
        order = np.argsort(found.slice_index, kind="stable")
        indices, first = np.unique(found.slice_index[order], return_index=True)
        if not len(indices):
            return
        tops, lefts = (np.minimum.reduceat(one[order], first).tolist() for one in (found.top, found.left))
        bottoms, rights = (np.maximum.reduceat(one[order], first).tolist() for one in (found.bottom, found.right))
        for index, top, bottom, left, right in zip(indices.tolist(), tops, bottoms, lefts, rights, strict=True):
            box = slice(index, index + 1), slice(top, bottom), slice(left, right)
            yield CroppedMask(box, members(self._labels[box], definition.label_values))


def _foreground(values: Sequence[int]) -> list[int]:
    return [value for value in values if value > BACKGROUND]


def _extents(labels: NDArray[Any]) -> Extents:
    """Read a label map once, run by run: several times faster than ``ndimage.find_objects``."""
    found = [_extents_on(image, index) for index, image in enumerate(labels)]
    return Extents(*np.concatenate(found, axis=1))


def _extents_on(image: NDArray[Any], slice_index: int) -> Indices:
    """Give the entries of one slice, shape (6, n)."""
    pixels = image.ravel()
    start = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    stop = np.append(start[1:], pixels.size)
    value = pixels[start]
    order = np.argsort(value, kind="stable")
    order = order[np.count_nonzero(value == BACKGROUND) :]
    value, start, stop = value[order], start[order], stop[order]
    if not len(value):
        return np.empty((6, 0), dtype=np.intp)
    top, left = np.divmod(start, image.shape[1])
    bottom, right = np.divmod(stop - 1, image.shape[1])
    # A run may reach from the end of a row to the beginning of the next.
    wrapped = top != bottom
    left, right = np.where(wrapped, 0, left), np.where(wrapped, image.shape[1] - 1, right)
    first = np.flatnonzero(np.append(True, value[1:] != value[:-1]))
    lows = [np.minimum.reduceat(one, first) for one in (top, left)]
    highs = [np.maximum.reduceat(one, first) + 1 for one in (bottom, right)]
    return np.stack([value[first], np.full(len(first), slice_index), lows[0], highs[0], lows[1], highs[1]])


def members(labels: NDArray[Any], values: Sequence[int]) -> Mask:
    """Tell which pixels of unsigned labels have one of the values; background never has.

    A comparison or a table is several times faster than ``np.isin``.
    """
    largest = np.iinfo(labels.dtype).max
    wanted = [value for value in values if BACKGROUND < value <= largest]
    if len(wanted) == 1:
        return np.asarray(labels == wanted[0], dtype=np.bool_)
    table = np.zeros(largest + 1, dtype=np.bool_)
    table[wanted] = True
    return np.asarray(np.take(table, labels), dtype=np.bool_)


def union(boxes: Sequence[Box]) -> Box:
    """Give the smallest box that holds all boxes."""
    slices, rows, columns = (
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )
    return slices, rows, columns
