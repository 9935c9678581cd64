"""Where the label changes along the rows of a label map: what structures hold, told in one pass.

A structure's filling changes exactly where the label changes into or out of its values. These places are what
``scanlines.toggles`` says of contours, so the two can be held against each other without filling a single image.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.domain import scanlines
from node.domain.masks import BACKGROUND
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap

# Places in a grid: (slice · rows + row) · (columns + 1) + column, where column may be that behind the last one.
Places = NDArray[np.intp]
Labels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """Each change, in order: its place, the label before it and the label behind it, shape (n,)."""

    places: Places
    before: Labels
    behind: Labels


class Rows:
    """Reads images of one shape and type, in turn."""

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        rows, columns = shape
        size = rows * (columns + 1)
        # Background before the first row and behind each, so that the image is one line; and as much as makes whole
        # words.
        self._line = np.full(size + -size % 8 + 1, BACKGROUND, dtype=dtype)
        self._inside = self._line[1 : size + 1].reshape(rows, columns + 1)[:, :columns]

    def changes(self, image: Labels) -> Changes:
        """Give the changes of one image."""
        self._inside[:] = image
        before, behind = self._line[:-1], self._line[1:]
        places = _true(before != behind)
        return Changes(places, before[places], behind[places])


class RowChanges:
    """The changes of a label map, by slice and by label value."""

    def __init__(self, label_map: LabelMap) -> None:
        slices, rows, columns = label_map.labels.shape
        read = Rows((rows, columns), label_map.labels.dtype)
        # Of each slice, as if it were alone.
        self.on_slice = [read.changes(image) for image in label_map.labels]
        self._places_of_slices = np.arange(slices) * (rows * (columns + 1))

    def of(self, definition: StructureDefinition) -> Places:
        """Give where the filling of a structure changes, in order; empty where it has no voxel."""
        starts, ends, borders = self._runs
        known = len(borders) - 1
        values = {value for value in definition.label_values if BACKGROUND < value < known}
        runs = [slice(borders[value], borders[value + 1]) for value in sorted(values)]
        changes = [np.stack([starts[run], ends[run]], axis=1).reshape(-1) for run in runs]
        # A change from one of its values to another is there twice, and none of the structure.
        return changes[0] if len(changes) == 1 else scanlines.odd(np.concatenate([*changes, _NONE]))

    @cached_property
    def values(self) -> frozenset[int]:
        """Give the values that the label map holds besides the background."""
        counts = np.bincount(np.concatenate([one.behind for one in self.on_slice]))
        return frozenset(np.flatnonzero(counts).tolist()) - {BACKGROUND}

    @cached_property
    def _runs(self) -> tuple[Places, Places, NDArray[np.intp]]:
        """Give where runs of equal labels start, and where they end, by value; and where each value's begin in these.

        A run of a value starts where that stands behind a change, and ends where it stands before one: in the order of
        the places, the n-th end is that of the n-th start.
        """
        places = np.concatenate(
            [one.places + first for one, first in zip(self.on_slice, self._places_of_slices, strict=True)]
        )
        starts, borders = _by_value(places, np.concatenate([one.behind for one in self.on_slice]))
        ends, _ = _by_value(places, np.concatenate([one.before for one in self.on_slice]))
        return starts, ends, borders


_NONE = np.empty(0, dtype=np.intp)


def held(places: Places) -> int:
    """Count the pixels between the changes; they are in order, and even in number in each row."""
    return int((places[1::2] - places[::2]).sum())


def _by_value(places: Places, values: Labels) -> tuple[Places, NDArray[np.intp]]:
    """Sort places by their values, background left out; and give where each value's begin, and where the last end."""
    some = np.flatnonzero(values != BACKGROUND)
    values = values[some]
    order = np.argsort(values, kind="stable")
    borders = np.searchsorted(values[order], np.arange(int(values.max(initial=0)) + 2))
    return places[some[order]], borders


def _true(few: NDArray[np.bool_]) -> Places:
    """Give where few of many are true; their number is a multiple of 8. Words first: thrice as fast as flatnonzero."""
    all_words = few.view(np.uint64)
    words = np.flatnonzero(all_words != 0)
    bytes_of_words = np.flatnonzero(all_words[words].view(np.bool_))
    return np.asarray(words[bytes_of_words >> 3] * 8 + (bytes_of_words & 7), dtype=np.intp)
