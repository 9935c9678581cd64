"""Holes as keyholes: one closed line around an outline and the holes in it.

PS3.3 C.8.8.6.3: "an arbitrarily narrow channel is used to connect the outer contour to the inner contour". Ours has no
width, so under the even-odd rule it holds nothing. Every program that was tried reads a keyhole; CLOSEDPLANAR_XOR is
lost by most, and plain nested contours are filled by some.
"""

from collections.abc import Sequence

import numpy as np

from node.domain.scanlines import Points


def merge(outer: Points, holes: Sequence[Points]) -> Points:
    """Join holes to their outline.

    From each hole, that with the leftmost point first, a channel runs along a row to the left, to the line joined so
    far. So whatever lies to its left is joined already, and the channel crosses no other hole.

    Parameters
    ----------
    outer, holes
        Shape (n, 2), (row, column) in pixels; the first point not repeated.
    """
    joined = outer
    for hole in sorted(holes, key=lambda ring: float(ring[:, 1].min())):
        joined = _joined(joined, hole)
    return joined


def _joined(line: Points, hole: Points) -> Points:
    leaving, edge_of_hole = _start(hole)
    arriving, edge_of_line = _first_to_the_left(line, leaving)
    channel = np.stack([arriving, leaving])
    around = [channel, hole[edge_of_hole + 1 :], hole[: edge_of_hole + 1], channel[::-1]]
    return np.concatenate([line[: edge_of_line + 1], *around, line[edge_of_line + 1 :]])


def _start(hole: Points) -> tuple[Points, int]:
    """Give a point beside the hole's leftmost and the index of the edge it lies on.

    Beside it, because the leftmost point mostly lies on a row of pixel centres, and a channel should not.
    """
    leftmost = int(np.argmin(hole[:, 1]))
    before, after = (leftmost - 1) % len(hole), (leftmost + 1) % len(hole)
    rise_before, rise_after = np.abs(hole[[before, after], 0] - hole[leftmost, 0])
    if rise_after >= rise_before:
        return (hole[leftmost] + hole[after]) / 2, leftmost
    return (hole[before] + hole[leftmost]) / 2, before


def _first_to_the_left(line: Points, point: Points) -> tuple[Points, int]:
    """Give where the line is met first, going left along the point's row, and the index of the edge."""
    row, column = point
    below = line[:, 0] <= row
    crossing = np.flatnonzero(below != np.append(below[1:], below[0]))
    upper, lower = line[crossing], line[(crossing + 1) % len(line)]
    fraction = (row - upper[:, 0]) / (lower[:, 0] - upper[:, 0])
    at = upper[:, 1] + fraction * (lower[:, 1] - upper[:, 1])
    best = int(np.argmax(np.where(at < column, at, -np.inf)))
    return np.array([row, at[best]]), int(crossing[best])
