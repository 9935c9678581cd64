"""Holes as keyholes: one closed line around an outline and the holes in it.

PS3.3 C.8.8.6.3: "an arbitrarily narrow channel is used to connect the outer contour to the inner contour". Ours has no
width, so under the even-odd rule it holds nothing. Every program that was tried reads a keyhole; CLOSEDPLANAR_XOR is
lost by most, and plain nested contours are filled by some.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from node.domain.masks import Indices
from node.domain.scanlines import Points

# A channel leaves a hole so far from the row of its leftmost point, in pixels. On that row there are mostly centres of
# pixels, where a channel should not lie; a pixel further on, another hole may lie between.
BESIDE_PIXELS = 0.25


def merge(outlines: Sequence[tuple[Points, Sequence[Points]]]) -> list[Points]:
    """Join holes to their outlines, each outline with the holes in it.

    From each hole, that with the leftmost point first, a channel runs along a row to the left, to the lines joined so
    far. So whatever lies to its left is joined already, and the channel crosses no other hole.

    Parameters
    ----------
    outlines
        Of shape (n, 2), and so their holes: (row, column) in pixels; the first point not repeated.
    """
    groups = [[outer, *map(_from_where_the_channel_leaves, _from_the_left(holes))] for outer, holes in outlines]
    rings = [ring for group in groups for ring in group]
    sizes = [len(group) for group in groups]
    outline = np.repeat(np.arange(len(groups)), sizes)
    edges = _Edges(rings, outline)
    outers = np.cumsum(sizes) - sizes
    joined: list[list[_Channel]] = [[] for _ in rings]
    for number in np.setdiff1d(np.arange(len(rings)), outers).tolist():
        channel = edges.channel_from(rings[number][0], number)
        joined[channel.to].append(channel)
    return [_walked(outer, rings, joined) for outer in outers.tolist()]


@dataclass(frozen=True, slots=True, order=True)
class _Channel:
    """The way from a hole to the line on its left; on one line, in the order in which it meets them."""

    # The line, its edge, and how far along this the channel arrives.
    to: int
    edge: int
    along: float
    # Number of the hole.
    hole: int
    column: float


def _from_the_left(holes: Sequence[Points]) -> list[Points]:
    return sorted(holes, key=lambda ring: float(ring[:, 1].min()))


def _from_where_the_channel_leaves(hole: Points) -> Points:
    """Give the hole with a further point first: that beside its leftmost point."""
    leftmost = int(np.argmin(hole[:, 1]))
    before, after = (leftmost - 1) % len(hole), (leftmost + 1) % len(hole)
    rise_before, rise_after = np.abs(hole[[before, after], 0] - hole[leftmost, 0])
    if rise_after >= rise_before:
        return np.concatenate([[_beside(hole[leftmost], hole[after])], hole[leftmost + 1 :], hole[: leftmost + 1]])
    return np.concatenate([[_beside(hole[leftmost], hole[before])], hole[leftmost:], hole[:leftmost]])


def _beside(leftmost: Points, neighbour: Points) -> Points:
    """Give a point of the edge to the neighbour, at most in its middle."""
    rise = abs(float(neighbour[0] - leftmost[0]))
    share = min(0.5, BESIDE_PIXELS / rise) if rise else 0.5
    return np.asarray(leftmost + share * (neighbour - leftmost), dtype=np.float64)


class _Edges:
    """The edges of rings by the rows that they pass: of thousands of holes each looks at its own row only."""

    def __init__(self, rings: Sequence[Points], outline: Indices) -> None:
        lengths = np.array([len(ring) for ring in rings])
        ends = np.cumsum(lengths)
        self._first = ends - lengths
        self._ring = np.repeat(np.arange(len(rings)), lengths)
        self._start = np.concatenate(rings)
        following = np.arange(1, len(self._start) + 1)
        following[ends - 1] = self._first
        self._end = self._start[following]
        rows = np.floor([self._start[:, 0], self._end[:, 0]]).astype(np.intp)
        # Each outline has rows of its own, as if one lay below the other.
        self._lower = outline * int(np.ptp(rows) + 1) - rows.min()
        self._edge, self._row = self._by_row(rows + self._lower[self._ring])

    def _by_row(self, ends: Indices) -> tuple[Indices, Indices]:
        """Give the edges row by row, and the row of each entry."""
        first, last = ends.min(axis=0), ends.max(axis=0)
        rows = last - first + 1
        edge = np.repeat(np.arange(len(rows)), rows)
        row = np.arange(len(edge)) + (first - np.cumsum(rows) + rows)[edge]
        order = np.argsort(row, kind="stable")
        return edge[order], row[order]

    def channel_from(self, point: Points, hole: int) -> _Channel:
        """Find where a line of a lower number is met first, going left along the point's row."""
        row, column = point.tolist()
        on_row = int(np.floor(row)) + int(self._lower[hole])
        first, last = np.searchsorted(self._row, [on_row, on_row + 1]).tolist()
        edges = self._edge[first:last]
        edges = edges[self._ring[edges] < hole]
        upper, lower = self._start[edges], self._end[edges]
        crossing = np.flatnonzero((upper[:, 0] <= row) != (lower[:, 0] <= row))
        edges, upper, lower = edges[crossing], upper[crossing], lower[crossing]
        fraction = (row - upper[:, 0]) / (lower[:, 0] - upper[:, 0])
        at = upper[:, 1] + fraction * (lower[:, 1] - upper[:, 1])
        best = int(np.argmax(np.where(at < column, at, -np.inf)))
        ring = int(self._ring[edges[best]])
        edge = int(edges[best] - self._first[ring])
        return _Channel(to=ring, edge=edge, along=float(fraction[best]), hole=hole, column=float(at[best]))


def _walked(outer: int, rings: Sequence[Points], joined: Sequence[Sequence[_Channel]]) -> Points:
    """Give one line: along the outline, at each channel into it, around what is there, and back."""
    walked: list[Points] = []
    # What is still to be walked, the next last: points, or the number of a ring. Holes hang on each other by
    # thousands, too deep for a function that calls itself.
    left: list[Points | int] = [outer]
    while left:
        following = left.pop()
        if isinstance(following, int):
            left.extend(reversed(_parts(following, rings, joined[following])))
        else:
            walked.append(following)
    return np.concatenate(walked)


def _parts(number: int, rings: Sequence[Points], channels: Sequence[_Channel]) -> list[Points | int]:
    """Part a ring where channels arrive, with the holes that they come from between."""
    ring, done = rings[number], 0
    parts: list[Points | int] = []
    for channel in sorted(channels):
        leaving = rings[channel.hole][0]
        arriving = np.array([leaving[0], channel.column])
        parts += [ring[done : channel.edge + 1], arriving[np.newaxis], channel.hole, np.stack([leaving, arriving])]
        done = channel.edge + 1
    return [*parts, ring[done:]]
