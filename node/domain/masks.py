"""The voxels of structures, each within its bounding box: structures are small, label maps are not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.structures import StructureDefinition
from node.domain.volume import Box, LabelMap

Mask = NDArray[np.bool_]

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


class Masks:
    """The masks of a label map's structures."""

    def __init__(self, label_map: LabelMap) -> None:
        self._labels = label_map.labels
        self._boxes: Sequence[Box | None] = ndimage.find_objects(label_map.labels)

    def of(self, definition: StructureDefinition) -> CroppedMask | None:
        """Give the voxels of a structure; None where it has none. Background never belongs to one."""
        values = [value for value in definition.label_values if BACKGROUND < value <= len(self._boxes)]
        found = [box for value in values if (box := self._boxes[value - 1]) is not None]
        if not found:
            return None
        along_slices, along_rows, along_columns = zip(*found, strict=True)
        box = _union(along_slices), _union(along_rows), _union(along_columns)
        mask = np.empty(self._labels[box].shape, dtype=np.bool_)
        # Slice by slice, for a table's indices are widened to 64 bit on the way.
        for image, labels in zip(mask, self._labels[box], strict=True):
            image[:] = members(labels, values)
        return CroppedMask(box, mask)


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


def _union(sides: Sequence[slice]) -> slice:
    return slice(min(side.start for side in sides), max(side.stop for side in sides))
