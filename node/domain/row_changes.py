"""Where the label changes along the rows of a label map: what structures hold, told in one pass.

A structure's filling changes exactly where the label changes into or out of its values. These places are what
``scanlines.toggles`` says of contours, so the two can be held against each other without filling a single image.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.domain import scanlines
from node.domain.masks import BACKGROUND
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap

# Places in a grid: (slice · rows + row) · (columns + 1) + column, where column may be that behind the last one.
Places = NDArray[np.intp]


class RowChanges:
    """The changes of a label map, by label value."""

    def __init__(self, label_map: LabelMap) -> None:
        places, values = _changes(label_map)
        order = np.argsort(values, kind="stable")
        self._places = places[order]
        self._borders = np.searchsorted(values[order], np.arange(int(values.max(initial=0)) + 2))

    def of(self, definition: StructureDefinition) -> Places:
        """Give where the filling of a structure changes, in order; empty where it has no voxel."""
        known = len(self._borders) - 1
        values = {value for value in definition.label_values if BACKGROUND < value < known}
        changes = [self._places[self._borders[value] : self._borders[value + 1]] for value in sorted(values)]
        # A change from one of its values to another is there twice, and none of the structure.
        return (
            scanlines.odd(np.concatenate(changes)) if len(changes) > 1 else np.sort(np.concatenate([*changes, _NONE]))
        )


_NONE = np.empty(0, dtype=np.intp)


def held(places: Places) -> int:
    """Count the pixels between the changes; they are in order, and even in number in each row."""
    return int((places[1::2] - places[::2]).sum())


def _changes(label_map: LabelMap) -> tuple[Places, NDArray[Any]]:
    """Give each change twice: with the label before it, and with the label behind it."""
    labels = label_map.labels
    _, rows, columns = labels.shape
    size = rows * (columns + 1)
    # Background before the first row and behind each, so that the image is one line; and as much as makes whole words.
    line = np.full(size + -size % 8 + 1, BACKGROUND, dtype=labels.dtype)
    inside = line[1 : size + 1].reshape(rows, columns + 1)[:, :columns]
    places: list[Places] = [_NONE]
    before, behind = [line[:0].copy()], [line[:0].copy()]
    for index, image in enumerate(labels):
        inside[:] = image
        changed = _true(line[1:] != line[:-1])
        places.append(changed + index * size)
        before.append(line[changed])
        behind.append(line[changed + 1])
    return np.concatenate(places + places), np.concatenate(before + behind)


def _true(few: NDArray[np.bool_]) -> Places:
    """Give where few of many are true; their number is a multiple of 8. Words first: thrice as fast as flatnonzero."""
    words = np.flatnonzero(few.view(np.uint64) != 0)
    bytes_of_words = np.flatnonzero(few.reshape(-1, 8)[words])
    return np.asarray(words[bytes_of_words >> 3] * 8 + (bytes_of_words & 7), dtype=np.intp)
