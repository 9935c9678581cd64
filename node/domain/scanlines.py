"""Which pixels a polygon holds: half-open, pixel-centre, even-odd.

The rule, for pixel indices where integers are pixel centres: an edge crosses row ``r`` if its upper end is <= r and its
lower end is > r; a crossing at column ``x`` toggles every pixel with column >= x. A pixel is inside where it was
toggled an odd number of times, by all polygons of the plane together: nested polygons are holes.

So a polygon is fully told by its *toggles*, the few (row, column) places where the filling changes. Comparing toggles
compares the filled areas at the price of the outlines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Grid, Plane
from node.domain.structures import Contour

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Toggles:
    """Crossings of many closed polygons with the rows of pixels; one entry each, shape (n,)."""

    # Index of the polygon.
    polygon: NDArray[np.intp]
    row: NDArray[np.intp]
    # First column at or after the crossing.
    column: NDArray[np.intp]


def toggles(polygons: Sequence[Points]) -> Toggles:
    """Give where closed polygons cross the rows of pixels.

    Parameters
    ----------
    polygons
        Each of shape (n, 2), (row, column) in pixels, 0 at the centre of the first pixel; the first point not repeated.
    """
    lengths = np.array([len(points) for points in polygons], dtype=np.intp)
    return crossings(np.concatenate([np.empty((0, 2)), *polygons]), lengths)


def crossings(start: Points, lengths: NDArray[np.intp]) -> Toggles:
    """Give where closed polygons, one after the other and of so many points each, cross the rows of pixels."""
    end = start[_next_in_polygon(lengths)]
    first_row, last_row = np.ceil(start[:, 0]).astype(np.intp), np.ceil(end[:, 0]).astype(np.intp)
    crossing = np.flatnonzero(first_row != last_row)
    start, end, first_row, last_row = start[crossing], end[crossing], first_row[crossing], last_row[crossing]
    # Each edge is taken from its upper end, whichever way it is walked, so that the two sides of a keyhole's channel
    # give the very same number and cancel.
    downwards = first_row < last_row
    upper, lower = np.where(downwards[:, np.newaxis], start, end), np.where(downwards[:, np.newaxis], end, start)
    rows_crossed = np.abs(last_row - first_row)
    edge = np.repeat(np.arange(len(crossing)), rows_crossed)
    row = np.arange(len(edge)) + (np.minimum(first_row, last_row) - np.cumsum(rows_crossed) + rows_crossed)[edge]
    slope = (lower[:, 1] - upper[:, 1]) / (lower[:, 0] - upper[:, 0])
    column = np.ceil(upper[edge, 1] + (row - upper[edge, 0]) * slope[edge]).astype(np.intp)
    return Toggles(np.repeat(np.arange(len(lengths)), lengths)[crossing[edge]], row, column)


def rasterise(contours: Sequence[Contour], grid: Grid) -> NDArray[np.bool_]:
    """Give the pixels inside the contours; contours on one plane exclude where they overlap (even-odd).

    The way back from patient coordinates is each plane's own position, orientation and spacing.

    Returns
    -------
    Shape of the grid, ``[slice, row, column]``.
    """
    inside = np.zeros(grid.shape, dtype=np.bool_)
    on_slice: dict[int, list[Points]] = {}
    for contour in contours:
        points = pixels(grid.planes[contour.slice_index], contour.points_lps_mm)
        on_slice.setdefault(contour.slice_index, []).append(points)
    for slice_index, polygons in on_slice.items():
        _fill(inside[slice_index], toggles(polygons))
    return inside


def pixels(plane: Plane, points_lps_mm: Points) -> Points:
    """Give the (row, column) of points projected on the plane; inverts PS3.3 C.7.6.2.1.1.

    Least squares, for direction cosines that were rounded are not quite orthogonal: dot products alone would be off
    by a pixel across a large image.

    Returns
    -------
    Shape (n, 2), in pixels, 0 at the centre of the first pixel.
    """
    steps = np.array(
        [
            np.multiply(plane.orientation[3:], plane.pixel_spacing_mm[0]),
            np.multiply(plane.orientation[:3], plane.pixel_spacing_mm[1]),
        ]
    )
    away = np.asarray(points_lps_mm, dtype=np.float64) - np.asarray(plane.position_lps_mm)
    return np.asarray(np.linalg.solve(steps @ steps.T, steps @ away.T).T, dtype=np.float64)


def mask_toggles(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], ...]:
    """Give the indices where a filling from left to right changes, last axis one longer than the mask's."""
    bordered = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(1, 1)])
    return np.nonzero(bordered[..., 1:] != bordered[..., :-1])


def odd(keys: NDArray[np.intp]) -> NDArray[np.intp]:
    """Give the values that occur an odd number of times, sorted."""
    ordered = np.sort(keys)
    first = np.flatnonzero(np.diff(ordered, prepend=-1 - np.abs(ordered[:1])))
    counts = np.diff(first, append=len(ordered))
    return np.asarray(ordered[first[counts % 2 == 1]], dtype=np.intp)


def _next_in_polygon(lengths: NDArray[np.intp]) -> NDArray[np.intp]:
    following = np.arange(1, lengths.sum() + 1)
    ends = np.cumsum(lengths)
    some = lengths > 0
    following[ends[some] - 1] = (ends - lengths)[some]
    return following


def _fill(image: NDArray[np.bool_], crossed: Toggles) -> None:
    rows, columns = image.shape
    seen = (crossed.row >= 0) & (crossed.row < rows)
    if not seen.any():
        return
    row, column = crossed.row[seen], np.clip(crossed.column[seen], 0, columns)
    top, bottom = int(row.min()), int(row.max()) + 1
    count = np.bincount((row - top) * (columns + 1) + column, minlength=(bottom - top) * (columns + 1))
    changes = (count % 2).astype(np.bool_).reshape(bottom - top, columns + 1)
    image[top:bottom] = np.logical_xor.accumulate(changes, axis=1)[:, :columns]
