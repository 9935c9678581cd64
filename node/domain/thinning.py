"""Rings with as few points as keep their pixels.

Douglas-Peucker, all rings at once: a straight line replaces a part of a ring if it passes all gates of that part in
their direction, no nearer to a pixel's centre than the guard, and no vertex lies further from it than the tolerance;
else the part is split at the vertex furthest from the line.

A line that leaves all pixels inside to its right and all pixels outside to its left, gate by gate, goes through the
very cells of the part that it replaces. So the pixels are kept by construction, and no two lines of a mask cross.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.domain.masks import Indices, Mask
from node.domain.tracing import Rings

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a line may be from the points that it replaces."""

    # Pixel spacing: (between rows, between columns).
    spacing_mm: tuple[float, float]
    # For each ring.
    tolerance_mm: Numbers
    # (along rows, along columns): a line may be moved by so much in both directions and passes the same gates.
    guard_pixels: Numbers


def kept(rings: Rings, limits: Limits) -> Mask:
    """Tell which points of rings are kept, shape (gates,)."""
    closed = _closed(rings)
    keep = np.zeros(len(closed.row), dtype=np.bool_)
    keep[closed.first] = keep[closed.last] = True
    # A ring has no chord to begin with: split at the point furthest from the first.
    split = _furthest_from_first(closed, limits.spacing_mm)
    first, last = np.concatenate([closed.first, split]), np.concatenate([split, closed.last])
    while len(split):
        keep[split] = True
        longer = last - first > 1
        first, last = first[longer], last[longer]
        which, split = _splits(closed, first, last, limits)
        first, last = np.concatenate([first[which], split]), np.concatenate([split, last[which]])
    _drop(keep, closed, limits)
    return np.delete(keep, closed.last)


def _drop(keep: Mask, closed: "Closed", limits: Limits) -> None:
    """Drop points that splitting has left to no purpose, first every other, then those between: about one in twelve."""
    ends = np.zeros(len(keep), dtype=np.bool_)
    ends[closed.first] = ends[closed.last] = True
    for parity in (0, 1):
        at = np.flatnonzero(keep)
        middle = np.flatnonzero(~ends[at])
        middle = middle[middle % 2 == parity]
        needed, _ = _splits(closed, at[middle - 1], at[middle + 1], limits)
        keep[np.delete(at[middle], needed)] = False


@dataclass(frozen=True, slots=True)
class Closed:
    """Rings, each with its first gate again at its end; columns of numbers, shape (gates + rings,)."""

    # Places of the first and last gate of each ring, shape (rings,).
    first: Indices
    last: Indices
    # Number of the ring.
    ring: Indices
    # Where the line passes.
    row: Numbers
    column: Numbers
    # Centres of the pixels inside and outside.
    inner_row: Numbers
    inner_column: Numbers
    outer_row: Numbers
    outer_column: Numbers


def _closed(rings: Rings) -> Closed:
    number = np.arange(len(rings.piece))
    again = np.insert(np.arange(rings.bounds[-1]), rings.bounds[1:], rings.bounds[:-1])
    down = rings.between_rows[again].astype(np.float64)
    right = 1.0 - down
    first_inside, share = rings.first_inside[again], rings.share[again]
    row, column = rings.row[again].astype(np.float64), rings.column[again].astype(np.float64)
    inner, outer = np.where(first_inside, 0.0, 1.0), np.where(first_inside, 1.0, 0.0)
    return Closed(
        first=rings.bounds[:-1] + number,
        last=rings.bounds[1:] + number,
        ring=np.repeat(number, np.diff(rings.bounds) + 1),
        row=row + down * share,
        column=column + right * share,
        inner_row=row + down * inner,
        inner_column=column + right * inner,
        outer_row=row + down * outer,
        outer_column=column + right * outer,
    )


def _furthest_from_first(closed: Closed, spacing_mm: tuple[float, float]) -> Indices:
    rows = (closed.row - closed.row[closed.first][closed.ring]) * spacing_mm[0]
    columns = (closed.column - closed.column[closed.first][closed.ring]) * spacing_mm[1]
    away = rows**2 + columns**2
    return _first_of(away == np.maximum.reduceat(away, closed.first)[closed.ring], closed.first)


def _splits(closed: Closed, first: Indices, last: Indices, limits: Limits) -> tuple[Indices, Indices]:
    """Give the numbers of those parts that no line may replace, and the place where to split each.

    Parts go from one gate to another with at least one between.
    """
    if not len(first):
        return first, first
    chords = Chords(closed, first, last)
    away = np.abs(chords.beside(closed.row, closed.column))
    furthest = np.maximum.reduceat(away, chords.starts)
    wanted = furthest > limits.tolerance_mm[closed.ring[first]] * chords.per_mm(limits.spacing_mm)
    # Most long parts are split for being bent, whatever gates a line would miss.
    straight = np.flatnonzero(~wanted)
    if len(straight):
        wanted[straight] = _misses(closed, Chords(closed, first[straight], last[straight]), limits.guard_pixels)
    which = np.flatnonzero(wanted)
    return which, chords.between[_first_of(away == furthest[chords.part], chords.starts[which])]


def _misses(closed: Closed, chords: "Chords", guard_pixels: Numbers) -> Mask:
    """Tell which chords do not pass all gates."""
    needed = chords.moved_by(guard_pixels)[chords.part]
    missed = chords.beside(closed.inner_row, closed.inner_column) < needed
    missed |= chords.beside(closed.outer_row, closed.outer_column) > -needed
    return np.asarray(np.logical_or.reduceat(missed, chords.starts), dtype=np.bool_)


class Chords:
    """Lines from a gate to a later one of the same ring, and the gates between."""

    def __init__(self, closed: Closed, first: Indices, last: Indices) -> None:
        lengths = last - first - 1
        # Where the gates of each part begin among those between, and which part each belongs to.
        self.starts = np.cumsum(lengths) - lengths
        self.part = np.repeat(np.arange(len(first)), lengths)
        self.between = np.arange(len(self.part)) + (first + 1 - self.starts)[self.part]
        self._down = closed.row[last] - closed.row[first]
        self._right = closed.column[last] - closed.column[first]
        self._offset = self._right * closed.row[first] - self._down * closed.column[first]

    def beside(self, row: Numbers, column: Numbers) -> Numbers:
        """Tell how far to the right of its line a point of each gate is, in pixels times the line's length."""
        along, across = self._right[self.part], self._down[self.part]
        return np.asarray(along * row[self.between] - across * column[self.between] - self._offset[self.part])

    def moved_by(self, pixels: Numbers) -> Numbers:
        """Tell how far lines go sideways when moved by (rows, columns), in pixels times the line's length."""
        return np.asarray(pixels[0] * np.abs(self._right) + pixels[1] * np.abs(self._down))

    def per_mm(self, spacing_mm: tuple[float, float]) -> Numbers:
        """Give what is 1 mm, in pixels times the line's length."""
        length_mm = np.hypot(self._down * spacing_mm[0], self._right * spacing_mm[1])
        return np.asarray(length_mm / np.prod(spacing_mm))


def _first_of(those: Mask, starts: Indices) -> Indices:
    """Give the place of the first of those at or after each start."""
    places = np.flatnonzero(those)
    return places[np.searchsorted(places, starts)]
