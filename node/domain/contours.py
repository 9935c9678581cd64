"""From a label map to contours, losing no voxel.

The way of all structures, many slices at a time:

1. *Trace* where a line between the pixels of a structure and all others passes (``tracing``).
2. *Thin out* the line, as far as it keeps its pixels, also when it is a little off (``thinning``).
3. *Round* its points as they will be written.
4. *Merge* holes into their outline by keyholes, or leave them contours that exclude (PS3.3 C.8.8.6.3).
5. *Check* that the finished contours hold the voxels of the structure, all of them and no other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from node.domain import keyholes, scanlines, thinning
from node.domain.errors import VerificationError
from node.domain.grid import Grid
from node.domain.masks import Indices, Masks
from node.domain.pieces import sheets
from node.domain.scanlines import Points, rasterise
from node.domain.structures import Contour, Drawing, Omitted, Structure, StructureDefinition, StructureSet
from node.domain.tracing import Piece, Rings, next_in_ring, trace
from node.domain.volume import LabelMap, Probabilities

__all__ = ["build_structures", "rasterise"]

# No point of the traced line is further than this from the thinned one. Less would bring no line that a mask draws
# nearer to the truth, but it does those of a model that tells how sure it is.
TOLERANCE_MM = 0.25
SURE_TOLERANCE_MM = 0.1
# Nor further than this share of a disk's radius: chords cut its area by up to 4/3 of it.
TOLERANCE_OF_SIZE = 0.03

# Contours hold the same pixels when moved by this along both axes, so a reader's rounding changes nothing. Less where
# pixels are small: no line can keep further away from pixel centres than pixels are apart.
GUARD_MM = 0.02
GUARD_PIXELS = 0.04

DIAGONALS = ((1, 1), (1, -1), (-1, 1), (-1, -1))

AS_THE_GRID_ASKS = Drawing()


def build_structures(
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    drawing: Drawing = AS_THE_GRID_ASKS,
    probabilities: Probabilities | None = None,
) -> StructureSet:
    """Draw the contours of each defined structure.

    Contours hold exactly the structure's voxels under the rule of ``scanlines``. Their coordinates are rounded:
    0.01 mm (0.001 mm where the planes are oblique or pixels smaller than 0.5 mm) or as the drawing says, and 0.001 mm
    across an axial plane.

    Parameters
    ----------
    probabilities
        Where the model tells: the line is drawn where it is as sure as not, as far as the label map agrees.

    Raises
    ------
    VerificationError
        A structure cannot be drawn without loss.
    """
    masks = Masks(label_map)
    precision = Precision(label_map.grid, drawing.decimals)
    drafts = [Draft() for _ in definitions]
    for pieces in sheets(masks, definitions, probabilities):
        rings = trace(pieces)
        tolerance_mm = TOLERANCE_MM if pieces[0].field is None else SURE_TOLERANCE_MM
        thinned = _thinned(rings, precision, drawing, tolerance_mm)
        rounded = _written(thinned, pieces, precision)
        _check_lengths(rounded, pieces, drawing, definitions)
        finished = rounded
        if drawing.holes == "keyhole" and rings.is_hole.any():
            finished = _written(_merged(rounded.lines, rings), pieces, precision)
        _check(finished, rings, pieces, precision, definitions)
        _hand_out(finished, rings, pieces, drafts)
    drawn = list(zip(definitions, drafts, strict=True))
    return StructureSet(
        structures=tuple(_structure(one, draft, label_map.grid, drawing) for one, draft in drawn if draft.voxels),
        omitted=tuple(
            Omitted(name=one.name, reason="The model found no voxel of it in this series.")
            for one, draft in drawn
            if not draft.voxels
        ),
    )


@dataclass(slots=True)
class Draft:
    """A structure as far as it is drawn."""

    contours: list[Contour] = field(default_factory=list)
    voxels: int = 0
    has_hole: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """Closed lines, one after the other."""

    # (row, column) in pixels of the grid, shape (n, 2); the first point of a line not repeated.
    points: Points
    # Index of each line's first point, and of the end: shape (lines + 1,).
    bounds: Indices
    # Number of the piece that a line belongs to, shape (lines,).
    piece: Indices

    def __iter__(self) -> Iterator[Points]:
        bounds = self.bounds.tolist()
        return (self.points[first:last] for first, last in pairwise(bounds))

    def on(self, pieces: Indices) -> "Lines":
        """Give the lines of some pieces."""
        wanted = np.isin(self.piece, pieces)
        lengths = np.diff(self.bounds)
        bounds = np.concatenate([[0], np.cumsum(lengths[wanted])])
        return Lines(self.points[np.repeat(wanted, lengths)], bounds, self.piece[wanted])

    def per_point(self, values: Indices) -> Indices:
        """Repeat a value for each piece, once for each point of its lines."""
        return np.repeat(values[self.piece], np.diff(self.bounds))


def _joined(lines: Sequence[Points], piece: Indices) -> Lines:
    bounds = np.cumsum([0, *(len(line) for line in lines)])
    return Lines(np.concatenate(lines), bounds, piece)


class Precision:
    """How finely contours of a grid are written, and how far they keep away from pixel centres."""

    def __init__(self, grid: Grid, decimals: int | None = None) -> None:
        self.grid = grid
        self.decimals = decimals
        small = min(grid.pixel_spacing_mm) < 0.5
        across = np.abs(grid.normal) > 1e-6
        oblique = np.count_nonzero(across) > 1
        in_plane = (3 if small or oblique else 2) if decimals is None else decimals
        # The coordinate across the plane costs nothing, and planning systems match it with the image's.
        places = np.where(across, in_plane if oblique else max(in_plane, 3), in_plane)
        self._scale = 10.0**places
        # Least squares, as in ``scanlines.pixels``: (slices, 3, 2).
        self._back = np.linalg.pinv(grid.steps_mm)
        guard_mm = min(GUARD_MM, GUARD_PIXELS * min(grid.pixel_spacing_mm))
        self.guard_pixels = guard_mm / np.array(grid.pixel_spacing_mm)
        # Rounding moves a point by no more than this.
        self.rounding_pixels = np.abs(self._back[0]).T @ (0.5 / self._scale)

    def written_mm(self, slice_index: Indices, points: Points) -> Points:
        """Give the patient coordinates of points, each on its slice, as they will be written, shape (n, 3)."""
        exact = self.grid.points_lps_mm(slice_index, points[:, 0], points[:, 1])
        # Adding zero turns -0.0 into 0.0.
        return np.asarray(np.rint(exact * self._scale) / self._scale + 0.0, dtype=np.float64)

    def pixels(self, slice_index: Indices, points_lps_mm: Points) -> Points:
        """Give (row, column) of points, each on its slice, shape (n, 2)."""
        away = points_lps_mm - self.grid.positions_lps_mm[slice_index]
        return np.asarray(np.einsum("ni,nij->nj", away, self._back[slice_index]), dtype=np.float64)


def _thinned(rings: Rings, precision: Precision, drawing: Drawing, tolerance_mm: float) -> Lines:
    """Give a line for each ring, with few points but enough for the drawing."""
    spacing_mm = precision.grid.pixel_spacing_mm
    # A keyhole splits an edge, and the place is rounded again.
    guard = precision.guard_pixels + 2 * precision.rounding_pixels
    tolerances_mm = np.minimum(tolerance_mm, TOLERANCE_OF_SIZE * _sizes_mm(rings, spacing_mm))
    keep = thinning.kept(rings, thinning.Limits(spacing_mm, tolerances_mm, guard))
    keep |= rings.per_gate(np.add.reduceat(keep, rings.bounds[:-1], dtype=np.intp) < drawing.minimum_points)
    bounds = np.concatenate([[0], np.cumsum(keep)[rings.bounds[1:] - 1]])
    lines = Lines(rings.points[keep], bounds, rings.piece)
    if np.diff(bounds).min() >= drawing.minimum_points:
        return lines
    return _joined([_lengthened(line, drawing.minimum_points) for line in lines], lines.piece)


def _sizes_mm(rings: Rings, spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Give the radius of disks, and about the width of bands."""
    # A disk has 8 gates for each pixel of its radius.
    sizes = 8 / np.pi * np.abs(rings.pixels) / np.diff(rings.bounds) * np.sqrt(np.prod(spacing_mm))
    return np.asarray(sizes, dtype=np.float64)


def _lengthened(line: Points, minimum: int) -> Points:
    """Split the longest edges in the middle until a line has so many points."""
    while len(line) < minimum:
        following = np.roll(line, -1, axis=0)
        longest = int(np.argmax(np.linalg.norm(following - line, axis=1)))
        line = np.insert(line, longest + 1, (line[longest] + following[longest]) / 2, axis=0)
    return line


@dataclass(frozen=True, slots=True)
class Finished:
    """Lines as contours: as they will be written, and the pixels that this stands for."""

    lines: Lines
    points_lps_mm: Points


def _written(lines: Lines, pieces: Sequence[Piece], precision: Precision) -> Finished:
    """Round points, neighbours that fall together made one."""
    on_slice = lines.per_point(np.array([piece.slice_index for piece in pieces], dtype=np.intp))
    points_lps_mm = precision.written_mm(on_slice, lines.points)
    apart = (points_lps_mm[next_in_ring(lines.bounds)] != points_lps_mm).any(axis=1)
    points_lps_mm, on_slice = points_lps_mm[apart], on_slice[apart]
    bounds = np.concatenate([[0], np.cumsum(apart)[lines.bounds[1:] - 1]])
    return Finished(Lines(precision.pixels(on_slice, points_lps_mm), bounds, lines.piece), points_lps_mm)


def _merged(lines: Lines, rings: Rings) -> Lines:
    """Give one line per outline, its holes merged in."""
    each = list(lines)
    holes: dict[int, list[Points]] = {}
    for number in np.flatnonzero(rings.is_hole).tolist():
        holes.setdefault(int(rings.outline[number]), []).append(each[number])
    merged = keyholes.merge([(each[number], of_it) for number, of_it in holes.items()])
    for number, line in zip(holes, merged, strict=True):
        each[number] = line
    outlines = np.flatnonzero(~rings.is_hole)
    return _joined([each[number] for number in outlines.tolist()], lines.piece[outlines])


def _check_lengths(
    rounded: Finished, pieces: Sequence[Piece], drawing: Drawing, definitions: Sequence[StructureDefinition]
) -> None:
    """Raise VerificationError if points fell together until a line has fewer than the drawing's minimum."""
    short = np.flatnonzero(np.diff(rounded.lines.bounds) < drawing.minimum_points)
    if len(short):
        name = definitions[pieces[rounded.lines.piece[short[0]]].structure].name
        raise VerificationError(
            f"A contour of {name} has fewer than {drawing.minimum_points} points left when rounded to "
            f"{drawing.decimals} decimals of a mm."
        )


class Places:
    """Numbers for the pixels of pieces, each piece as large as a slice and one pixel around."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        # Rows are left one pixel after the last inside.
        self._rows, self._columns = shape[1] + 2, shape[2] + 3

    def of(self, piece: Indices, row: Indices, column: Indices) -> Indices:
        """Number pixels; those further outside count as just outside."""
        row, column = np.clip(row + 1, 0, self._rows - 1), np.clip(column + 1, 0, self._columns - 1)
        return np.asarray((piece * self._rows + row) * self._columns + column, dtype=np.intp)

    def piece_at(self, place: int) -> int:
        """Give the number of the piece that a pixel belongs to."""
        return place // (self._rows * self._columns)


@dataclass(frozen=True, slots=True)
class Held:
    """Which pixels lines hold, as the places where rows are entered and left."""

    places: Places
    guard_pixels: Points

    def by(self, lines: Lines, signs: tuple[int, int] = (0, 0)) -> Indices:
        """Give the places, sorted, when lines are moved by the guard with these signs."""
        crossed = scanlines.crossings(lines.points + self.guard_pixels * signs, np.diff(lines.bounds))
        return scanlines.odd(self.places.of(lines.piece[crossed.polygon], crossed.row, crossed.column))


def _check(
    finished: Finished,
    rings: Rings,
    pieces: Sequence[Piece],
    precision: Precision,
    definitions: Sequence[StructureDefinition],
) -> None:
    """Raise VerificationError unless the contours hold their pieces' pixels, also when moved by the guard.

    Moved are only lines that may have come nearer to pixel centres since they were thinned out: keyholes, and all where
    a drawing asks for coarser rounding.
    """
    places = Places(precision.grid.shape)
    held = Held(places, precision.guard_pixels)
    across = ~rings.between_rows
    wanted = places.of(rings.per_gate(rings.piece)[across], rings.row[across], rings.column[across] + 1)
    differing = [_difference(held.by(finished.lines), np.sort(wanted))]
    doubtful = finished.lines
    if precision.decimals is None:
        doubtful = doubtful.on(rings.piece[rings.is_hole])
    unmoved = held.by(doubtful)
    differing += [_difference(held.by(doubtful, signs), unmoved) for signs in DIAGONALS]
    lost = np.concatenate(differing)
    if len(lost):
        name = definitions[pieces[places.piece_at(int(lost[0]))].structure].name
        rounded = "" if precision.decimals is None else f", rounded to {precision.decimals} decimals of a mm,"
        raise VerificationError(f"The contours of {name}{rounded} do not hold exactly its voxels.")


def _difference(held: Indices, wanted: Indices) -> Indices:
    # The two are almost always equal, and a comparison is many times faster.
    return held[:0] if np.array_equal(held, wanted) else np.setxor1d(held, wanted)


def _hand_out(finished: Finished, rings: Rings, pieces: Sequence[Piece], drafts: Sequence[Draft]) -> None:
    """Give the contours to their structures."""
    bounds = finished.lines.bounds.tolist()
    for number, (first, last) in zip(finished.lines.piece.tolist(), pairwise(bounds), strict=True):
        piece = pieces[number]
        contour = Contour(slice_index=piece.slice_index, points_lps_mm=finished.points_lps_mm[first:last])
        drafts[piece.structure].contours.append(contour)
    for piece in pieces:
        drafts[piece.structure].voxels += int(np.count_nonzero(piece.inside))
    for number in rings.piece[rings.is_hole].tolist():
        drafts[pieces[number].structure].has_hole = True


def _structure(definition: StructureDefinition, draft: Draft, grid: Grid, drawing: Drawing) -> Structure:
    return Structure(
        definition=definition,
        contours=tuple(draft.contours),
        geometric_type="CLOSEDPLANAR_XOR" if draft.has_hole and drawing.holes == "xor" else "CLOSED_PLANAR",
        volume_cm3=draft.voxels * grid.voxel_volume_mm3 / 1000,
    )
