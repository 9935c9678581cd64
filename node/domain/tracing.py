"""From masks to rings: closed lines that pass between the pixels of a structure and all others.

Words:

*gate*
    The way between the centres of two neighbouring pixels of which one is inside. A line that passes through all gates
    of a mask, and through no other way between neighbours, holds exactly the mask's pixels.
*cell*
    The square between the centres of four neighbouring pixels. Gates are its sides, so lines lead from gate to gate
    through cells. A cell is passed once, or twice where two pixels inside touch by a corner only.
*ring*
    The gates that one line passes, in order, the inside to its right when rows run downwards.

Which gates a ring passes depends on the mask alone; where it passes them on a *field* that says how far inside a pixel
is: the blurred mask, or a model's probability. Where the field falls from above a level to below it, there is the line;
but it never comes near a pixel's centre.

Pieces of many slices are traced at once, one below the other on a *sheet*.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph, csr_array

from node.domain.masks import Indices, Mask
from node.domain.scanlines import Points

Field = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)

# Lines keep this far from pixel centres, in pixels. So a line from gate to gate stays well beside the centres it
# passes: by more than a twentieth of a pixel along both axes.
CLEARANCE = 0.15

BLUR_PIXELS = 1.3
BLUR_TAPS = 9
# So much below each other, pieces on a sheet are blurred as if alone.
GAP = BLUR_TAPS // 2 + 1

# An outline's area may differ from that of its pixels by this fraction before its level is changed. Blurring shrinks
# convex shapes by about the square of blur / radius.
AREA_TOLERANCE = 0.003
# Halvings of the range of levels: the line is then right to a hundredth of the way between two pixels.
HALVINGS = 8

# Headings of a line through a gate: where it leads to. Inside is to the right.
SOUTH, WEST, NORTH, EAST = range(4)
# For each heading the pixels of the cell ahead, and the gates that leave it to the right, straight on and to the left,
# as (rows, columns) from the gate's first pixel and whether the gate lies between rows.
RIGHT_AHEAD = ((1, 0), (0, -1), (-1, 1), (1, 1))
LEFT_AHEAD = ((1, 1), (1, -1), (-1, 0), (0, 1))
EXITS = (
    ((0, 0, True), (1, 0, False), (0, 1, True)),
    ((0, -1, False), (0, -1, True), (1, -1, False)),
    ((-1, 1, True), (-1, 0, False), (-1, 0, True)),
    ((1, 0, False), (0, 1, True), (0, 0, False)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What is inside on a part of a slice, everything beyond it being outside."""

    # Number of the structure, index of the slice, first row and column of the part.
    structure: int
    slice_index: int
    row: int
    column: int
    inside: Mask
    # How far inside each pixel is, 0 to 1, with a border of one pixel: shape of ``inside`` + 2; None to blur the mask.
    field: Field | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rings:
    """Rings one after the other, each gate once. Pixels are counted in the grid; shapes (gates,) or (rings,)."""

    # Index of each ring's first gate, and of the end: shape (rings + 1,).
    bounds: Indices
    # Number of the piece that a ring belongs to.
    piece: Indices
    # Number of the ring that is the outline of each ring, itself where it is no hole. Outlines come before their holes.
    outline: Indices
    # The first pixel of a gate, whether the second is below it or else to the right, and whether the first is inside.
    row: Indices
    column: Indices
    between_rows: Mask
    first_inside: Mask
    # Where the line passes, 0 at the first pixel's centre and 1 at the second's.
    share: NDArray[np.float64]

    @property
    def is_hole(self) -> Mask:
        """Tell which rings are holes, shape (rings,)."""
        return np.asarray(self.outline != np.arange(len(self.outline)), dtype=np.bool_)

    def per_gate(self, values: NDArray[Value]) -> NDArray[Value]:
        """Repeat a value for each ring, once for each of its gates."""
        return _per_gate(values, self.bounds)

    @property
    def pixels(self) -> Indices:
        """Give how many pixels each ring holds, negative for holes, shape (rings,)."""
        # Columns where rows are left, less those where they are entered.
        signs = np.where(self.first_inside, 1, -1) * ~self.between_rows
        return np.asarray(np.add.reduceat(signs * (self.column + 1), self.bounds[:-1]), dtype=np.intp)

    @property
    def points(self) -> Points:
        """Give (row, column) of each passage, shape (gates, 2), in pixels."""
        along_rows = np.where(self.between_rows, self.share, 0.0)
        return np.stack([self.row + along_rows, self.column + (self.share - along_rows)], axis=1)


def trace(pieces: Sequence[Piece]) -> Rings:
    """Trace pieces; rings in the order of their pieces, from the top of each."""
    sheet = Sheet(pieces)
    pixel, heading = sheet.gates()
    order, bounds = _cycles(sheet.successors(pixel, heading))
    pixel, heading = pixel[order], heading[order]
    rings = sheet.rings(pixel, heading, bounds, _outlines(heading, bounds, order))
    inner, outer = sheet.fields(pixel, heading)
    # A model that tells how sure it is tells the area better than the pixels do.
    sure = pieces[0].field is not None
    levels = np.full(len(rings.piece), 0.5) if sure else _levels(rings, inner, outer)
    return replace(rings, share=_shares(rings.first_inside, inner, outer, _per_gate(levels, bounds)))


class Sheet:
    """Pieces below each other, with a border of pixels outside around each."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        heights = np.array([len(piece.inside) for piece in pieces])
        self.tops = np.cumsum(heights + GAP) - heights - GAP + 1
        self.width = max(piece.inside.shape[1] for piece in pieces) + 2
        shape = (int(self.tops[-1] + heights[-1] + GAP), self.width)
        inside = np.zeros(shape, dtype=np.uint8)
        for top, piece in zip(self.tops.tolist(), pieces, strict=True):
            rows, columns = piece.inside.shape
            inside[top : top + rows, 1 : 1 + columns] = piece.inside
        self.inside = inside.ravel().view(np.bool_)
        self.field = self._blurred(inside) if pieces[0].field is None else self._laid_out(shape)

    def gates(self) -> tuple[Indices, Indices]:
        """Give the first pixels of all gates and their headings; gates between columns first, in reading order."""
        inside, width = self.inside, self.width
        between_columns = np.flatnonzero(inside[1:] != inside[:-1])
        between_rows = np.flatnonzero(inside[width:] != inside[:-width])
        sideways = np.where(inside[between_columns], SOUTH, NORTH)
        return (
            np.concatenate([between_columns, between_rows]),
            np.concatenate([sideways, np.where(inside[between_rows], WEST, EAST)]),
        )

    def successors(self, pixel: Indices, heading: Indices) -> Indices:
        """Give the place of the gate that follows each."""
        size = self.inside.size
        right = self.inside[pixel + self._steps(RIGHT_AHEAD)[heading]]
        left = self.inside[pixel + self._steps(LEFT_AHEAD)[heading]]
        # Pixels inside that touch by a corner are joined: fewer contours, and no field has a say in it.
        turn = np.where(left, 2, right)
        exits = np.array([[self._step(*one[:2]) + size * one[2] for one in side] for side in EXITS])
        # Gates between rows have the second half of the table.
        place = np.empty(2 * size, dtype=np.int32)
        place[pixel + size * (heading & 1)] = np.arange(len(pixel), dtype=np.int32)
        return np.asarray(place[pixel + exits.ravel()[heading * 3 + turn]], dtype=np.intp)

    def rings(self, pixel: Indices, heading: Indices, bounds: Indices, outline: Indices) -> Rings:
        """Give the rings of ordered gates, the line midway."""
        row, column = np.divmod(pixel, self.width)
        piece = np.searchsorted(self.tops, row[bounds[:-1]], side="right") - 1
        rows = np.array([one.row for one in self.pieces]) - self.tops
        columns = np.array([one.column for one in self.pieces]) - 1
        return Rings(
            bounds=bounds,
            piece=piece,
            outline=outline,
            row=row + _per_gate(rows[piece], bounds),
            column=column + _per_gate(columns[piece], bounds),
            between_rows=(heading & 1).astype(np.bool_),
            first_inside=(heading == SOUTH) | (heading == WEST),
            share=np.full(len(pixel), 0.5),
        )

    def fields(self, pixel: Indices, heading: Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the field at the pixel inside and at that outside of each gate."""
        first, second = self.field[pixel], self.field[pixel + np.array([1, self.width])[heading & 1]]
        first_inside = (heading == SOUTH) | (heading == WEST)
        inner, outer = np.where(first_inside, first, second), np.where(first_inside, second, first)
        return inner.astype(np.float64), outer.astype(np.float64)

    def _step(self, rows: int, columns: int) -> int:
        return int(rows * self.width + columns)

    def _steps(self, offsets: Sequence[tuple[int, int]]) -> Indices:
        return np.array([self._step(*offset) for offset in offsets], dtype=np.intp)

    def _blurred(self, inside: NDArray[np.uint8]) -> Field:
        taps = (BLUR_TAPS, BLUR_TAPS)
        blurred = cv2.GaussianBlur(inside.astype(np.float32), taps, BLUR_PIXELS, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(blurred, dtype=np.float32).ravel()

    def _laid_out(self, shape: tuple[int, int]) -> Field:
        field = np.zeros(shape, dtype=np.float32)
        for top, piece in zip(self.tops.tolist(), self.pieces, strict=True):
            assert piece.field is not None
            rows, columns = piece.field.shape
            field[top - 1 : top - 1 + rows, :columns] = piece.field
        return field.ravel()


def _cycles(successors: Indices) -> tuple[Indices, Indices]:
    """Give the places cycle by cycle in order, each cycle from its lowest place, and where cycles begin and end."""
    size = len(successors)
    ones, ends = np.ones(size, dtype=np.int8), np.arange(size + 1)
    count, cycle = csgraph.connected_components(csr_array((ones, successors, ends)), connection="weak")
    lowest = np.empty(count, dtype=np.intp)
    # Of several assignments to one place the last holds.
    lowest[cycle[::-1]] = np.arange(size)[::-1]
    lowest.sort()
    # Depth first from one place that leads to all cycles: walked around one by one, in C.
    leading = csr_array((np.ones(size + count), np.append(successors, lowest), np.append(ends, size + count)))
    leading.resize(size + 1, size + 1)
    order = csgraph.depth_first_order(leading, size, return_predecessors=False)[1:].astype(np.intp)
    bounds = np.append(np.flatnonzero(np.isin(order, lowest, kind="table")), size)
    return order, bounds


def _outlines(heading: Indices, bounds: Indices, order: Indices) -> Indices:
    """Give the ring that is the outline of each.

    Rings begin with their topmost gate between columns, the leftmost of these. There an outline is entered from the
    left, and a hole too, from a run of pixels inside. Where this run begins is a gate of the same outline, or of a hole
    in it that begins earlier.
    """
    first = order[bounds[:-1]]
    ring_at = np.empty(len(order), dtype=np.intp)
    ring_at[order] = _per_gate(np.arange(len(first)), bounds)
    is_hole = heading[bounds[:-1]] == SOUTH
    outline = np.where(is_hole, ring_at[first - 1], np.arange(len(first)))
    while not np.array_equal(further := outline[outline], outline):
        outline = further
    return outline


def _levels(rings: Rings, inner: NDArray[np.float64], outer: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each ring's level, such that an outline without its holes has the area of its pixels."""
    wanted = np.bincount(rings.outline, weights=rings.pixels, minlength=len(rings.piece))
    levels = np.full(len(rings.piece), 0.5)
    got = _areas(rings, inner, outer, levels)
    off = np.abs(got - wanted) > AREA_TOLERANCE * wanted
    if not off.any():
        return levels
    some, chosen = _selected(rings, off[rings.outline])
    inner, outer = inner[chosen], outer[chosen]
    wanted = wanted[off]
    is_outline = ~some.is_hole
    number = (np.cumsum(is_outline) - 1)[some.outline]
    low = np.minimum.reduceat(outer, some.bounds[:-1])[is_outline]
    high = np.maximum.reduceat(inner, some.bounds[:-1])[is_outline]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_large = _areas(some, inner, outer, middle[number])[is_outline] > wanted
        low, high = np.where(too_large, middle, low), np.where(too_large, high, middle)
    levels[off[rings.outline]] = ((low + high) / 2)[number]
    return levels


def _selected(rings: Rings, wanted: Mask) -> tuple[Rings, Indices]:
    """Give some of the rings, whole outlines, and the places of their gates."""
    chosen = np.flatnonzero(_per_gate(wanted, rings.bounds))
    lengths = np.diff(rings.bounds)[wanted]
    return Rings(
        bounds=np.concatenate([[0], np.cumsum(lengths)]),
        piece=rings.piece[wanted],
        outline=(np.cumsum(wanted) - 1)[rings.outline[wanted]],
        row=rings.row[chosen],
        column=rings.column[chosen],
        between_rows=rings.between_rows[chosen],
        first_inside=rings.first_inside[chosen],
        share=rings.share[chosen],
    ), chosen


def _shares(
    first_inside: Mask, inner: NDArray[np.float64], outer: NDArray[np.float64], level: NDArray[np.float64]
) -> NDArray[np.float64]:
    # A field that does not fall from inside to outside contradicts the mask; the mask is right.
    inwards = (level - outer) / np.maximum(inner - outer, 1e-6)
    share = np.where(first_inside, 1.0 - inwards, inwards)
    return np.clip(share, CLEARANCE, 1.0 - CLEARANCE)


def _areas(
    rings: Rings, inner: NDArray[np.float64], outer: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the area of each outline without its holes, in pixels; 0 for holes."""
    share = _shares(rings.first_inside, inner, outer, _per_gate(levels, rings.bounds))
    areas = signed_areas(replace(rings, share=share).points, rings.bounds)
    return np.asarray(np.bincount(rings.outline, weights=areas, minlength=len(areas)), dtype=np.float64)


def signed_areas(points: Points, bounds: Indices) -> NDArray[np.float64]:
    """Give the area of each ring, negative where it runs as holes do."""
    following = points[next_in_ring(bounds)]
    twice = points[:, 1] * following[:, 0] - points[:, 0] * following[:, 1]
    return np.asarray(np.add.reduceat(twice, bounds[:-1]) / 2, dtype=np.float64)


def next_in_ring(bounds: Indices) -> Indices:
    """Give the place of the point that follows each."""
    following = np.arange(1, bounds[-1] + 1)
    following[bounds[1:] - 1] = bounds[:-1]
    return following


def _per_gate(values: NDArray[Value], bounds: Indices) -> NDArray[Value]:
    return np.repeat(values, np.diff(bounds))
