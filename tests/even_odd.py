"""What polygons hold and whether they cross, counted by the definition: slow, and nothing shared with the node."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Plane

Points = NDArray[np.float64]


def in_pixels(plane: Plane, points_lps_mm: Points) -> Points:
    """Solve the equation of PS3.3 C.7.6.2.1.1 for (row, column) by least squares."""
    between_rows, between_columns = plane.pixel_spacing_mm
    steps = np.array(
        [np.array(plane.orientation[3:]) * between_rows, np.array(plane.orientation[:3]) * between_columns]
    )
    solved, *_ = np.linalg.lstsq(steps.T, (points_lps_mm - np.array(plane.position_lps_mm)).T, rcond=None)
    return np.asarray(solved.T, dtype=np.float64)


def filled(polygons: Sequence[Points], rows: int, columns: int) -> NDArray[np.bool_]:
    """Count for each pixel how many edges cross its row at or before it: inside where the number is odd."""
    row, column = np.arange(rows)[:, np.newaxis, np.newaxis], np.arange(columns)[:, np.newaxis]
    crossings = np.zeros((rows, columns), dtype=np.int64)
    for points in polygons:
        row_a, column_a = points.T
        row_b, column_b = np.roll(points, -1, axis=0).T
        crossed = (row_a <= row) != (row_b <= row)
        rise = np.where(row_a == row_b, 1.0, row_b - row_a)
        at = column_a + (row - row_a) / rise * (column_b - column_a)
        crossings += (crossed & (at <= column)).sum(axis=-1)
    return np.asarray(crossings % 2 == 1, dtype=np.bool_)


def meeting_edges(polygons: Sequence[Points], decimals: int) -> int:
    """Count pairs of edges that meet but at an end that they share as neighbours; exact, in whole units."""
    ends = [
        np.stack([whole, np.roll(whole, -1, axis=0)], axis=1)
        for whole in (np.rint(points * 10**decimals).astype(np.int64) for points in polygons)
    ]
    edges = np.concatenate(ends)
    number = np.arange(len(edges))
    following = np.concatenate(
        [np.roll(part, -1) for part in np.split(number, np.cumsum([len(one) for one in ends])[:-1])]
    )
    a, b = edges[:, 0], edges[:, 1]
    # side[i, j]: on which side of edge i the beginning (or the end) of edge j lies.
    begins, finishes = _side(a, b, a), _side(a, b, b)
    straddles = begins * finishes <= 0
    low, high = edges.min(axis=1), edges.max(axis=1)
    near = ((low[:, np.newaxis] <= high) & (low <= high[:, np.newaxis])).all(axis=-1)
    meets = straddles & straddles.T & near
    meets[number, number] = meets[number, following] = meets[following, number] = False
    return int(meets.sum()) // 2


def _side(a: NDArray[np.int64], b: NDArray[np.int64], point: NDArray[np.int64]) -> NDArray[np.int64]:
    along, away = (b - a)[:, np.newaxis], point - a[:, np.newaxis]
    return np.asarray(np.sign(along[..., 0] * away[..., 1] - along[..., 1] * away[..., 0]), dtype=np.int64)


def area(polygon: Points) -> float:
    """Give the area of one polygon by the shoelace formula."""
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def perimeter(polygon: Points) -> float:
    """Give the length of a closed polygon."""
    return float(np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1).sum())
