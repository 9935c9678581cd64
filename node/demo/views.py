"""Three planes through a grid, turned as a reader expects them: head up, front up, the patient's left on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from node.domain.grid import Grid

Pixels = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

# Patient axes x, y, z: the letters at their low and high ends (PS3.3 C.7.6.1.1.1), and the name of the plane across.
LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
PLANES = ("Sagittal", "Coronal", "Axial")
# Masks are blurred by this before their edge is traced on reformatted planes: takes the steps off, keeps the place.
EDGE_BLUR_PIXELS = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One direction of a view: which array axis runs along it, and whether it runs backwards."""

    axis: int
    flipped: bool
    pixels: int
    spacing_mm: float
    # Letters at its start (left or top) and its end.
    letters: tuple[str, str]

    def mm(self, index: Pixels) -> Pixels:
        """Give the distance in mm from the view's edge to (fractional) pixel centres along the array axis."""
        forwards = (self.pixels - 1 - index) if self.flipped else index
        return np.asarray((forwards + 0.5) * self.spacing_mm, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The plane at ``index`` of one array axis."""

    name: str
    axis: int
    index: int
    across: Side
    down: Side

    def plane(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """Cut an array ``[slice, row, column]`` and turn the cut for display, ``[down, across]``."""
        cut: NDArray[Scalar] = np.take(array, self.index, axis=self.axis)
        if self.down.axis > self.across.axis:
            cut = cut.T
        return cut[:: -1 if self.down.flipped else 1, :: -1 if self.across.flipped else 1]

    def mm(self, slices_rows_columns: Pixels) -> Pixels:
        """Give (across, down) in mm from the view's upper left corner of points in array indices, shape (n, 3)."""
        return np.stack(
            [
                self.across.mm(slices_rows_columns[:, self.across.axis]),
                self.down.mm(slices_rows_columns[:, self.down.axis]),
            ],
            axis=1,
        )


def three_views(grid: Grid, indices: Sequence[int]) -> tuple[View, View, View]:
    """Give the axial, coronal and sagittal view through a voxel.

    Array axes count as the patient axis they are closest to, so planes of an oblique or tilted stack are shown as if
    they stood straight.

    Parameters
    ----------
    indices
        (slice, row, column) of the voxel.
    """
    directions = grid.axis_directions()
    closeness = np.abs(directions)
    patient_axes = max(permutations(range(3)), key=lambda axes: closeness[range(3), axes].sum())
    views = {}
    for axis, patient_axis in enumerate(patient_axes):
        others = sorted((other for other in range(3) if other != axis), key=lambda other: patient_axes[other])
        views[patient_axis] = View(
            name=PLANES[patient_axis],
            axis=axis,
            index=indices[axis],
            across=_side(grid, others[0], patient_axes[others[0]], wanted=1.0),
            # Image rows run downwards: to the back, but from head to feet.
            down=_side(grid, others[1], patient_axes[others[1]], wanted=-1.0 if patient_axes[others[1]] == 2 else 1.0),
        )
    return views[2], views[1], views[0]


def _side(grid: Grid, axis: int, patient_axis: int, wanted: float) -> Side:
    low, high = LETTERS[patient_axis]
    return Side(
        axis=axis,
        flipped=bool(grid.axis_directions()[axis, patient_axis] * wanted < 0),
        pixels=grid.shape[axis],
        spacing_mm=grid.spacing_mm[axis],
        letters=(high, low) if wanted < 0 else (low, high),
    )


def edges_mm(view: View, mask: NDArray[np.bool_]) -> list[Pixels]:
    """Trace the edge of a mask ``[slice, row, column]`` where a view cuts it; lines of (across, down) in mm."""
    blurred = gaussian_filter(np.pad(view.plane(mask).astype(np.float64), 2), EDGE_BLUR_PIXELS)
    lines = contourpy.contour_generator(z=blurred, line_type=contourpy.LineType.Separate).lines(0.5)
    spacing = np.array([view.across.spacing_mm, view.down.spacing_mm])
    return [(np.asarray(line, dtype=np.float64) - 2 + 0.5) * spacing for line in lines]


def outlines(ring: Pixels) -> list[Pixels]:
    """Give the visible edges of a closed ring, shape (n, d), as polylines: without its keyholes' channels.

    A hole is joined to its outline by a channel that is walked there and back (PS3.3 C.8.8.6.3): edges that are also
    walked backwards are no edge of the structure.
    """
    start, end = ring, np.roll(ring, -1, axis=0)
    walked = {(tuple(one), tuple(two)) for one, two in zip(start.tolist(), end.tolist(), strict=True)}
    hidden = [(tuple(two), tuple(one)) in walked for one, two in zip(start.tolist(), end.tolist(), strict=True)]
    if not any(hidden):
        return [np.vstack([ring, ring[:1]])]
    # Begin behind a channel, so that no line is cut at the ring's first point.
    first = hidden.index(True) + 1
    order = [(first + step) % len(ring) for step in range(len(ring))]
    lines: list[list[Pixels]] = [[]]
    for index in order:
        if hidden[index]:
            lines.append([])
        else:
            lines[-1].extend([start[index], end[index]] if not lines[-1] else [end[index]])
    return [np.array(line) for line in lines if line]
