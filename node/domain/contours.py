"""From a label map to contours, losing no voxel.

The way of one structure:

1. *Trace* each connected component of each slice. The mask is blurred, but every pixel is held on its own side of the
   iso-line, so vertices slide along the pixel grid into a smooth line and none crosses a pixel centre.
2. *Thin out* each ring by Douglas-Peucker, with the largest tolerance that leaves every pixel on its side, also when
   the ring is a little off. Points are rounded as they will be written before this is judged.
3. *Merge* holes into their outline by keyholes (PS3.3 C.8.8.6.3).
4. *Check* that the finished contours hold the voxels of the structure, all of them and no other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import contourpy
import cv2
import numpy as np
from numpy.typing import NDArray

from node.domain import keyholes, scanlines
from node.domain.errors import VerificationError
from node.domain.grid import Grid
from node.domain.masks import BACKGROUND, CroppedMask, Mask, Masks
from node.domain.scanlines import Points, rasterise
from node.domain.structures import Contour, Drawing, Omitted, Structure, StructureDefinition, StructureSet
from node.domain.volume import LabelMap, Probabilities

__all__ = ["build_structures", "rasterise"]

# Douglas-Peucker tolerances in mm, tried in this order. Above 0.3 mm almost no ring keeps all its pixels.
TOLERANCES_MM = (0.3, 0.2, 0.15, 0.1, 0.05, 0.0)

# Contours hold the same pixels when moved by this along both axes, so a reader's rounding changes nothing. Less where
# pixels are small: no line can keep further away from pixel centres than pixels are apart.
GUARD_MM = 0.02
GUARD_PIXELS = 0.04

# A contour's area may differ from that of its pixels by this fraction before a finer tracing is tried. Blurring
# shrinks convex shapes by about 1/radius² (in pixels), so organs pass and nerves do not.
AREA_TOLERANCE = 0.02


AS_THE_GRID_ASKS = Drawing()


class Tracing(NamedTuple):
    """A way to trace a component.

    Each pixel's value is kept at least ``margin`` from 0.5 on its own side, and the iso-level may be moved by
    ``leeway`` < ``margin`` until the area is that of the pixels.
    """

    blur_pixels: float
    margin: float
    leeway: float


# From smooth to faithful; the first whose area agrees is used, else the last.
TRACINGS = (Tracing(1.0, 0.1, 0.0), Tracing(1.0, 0.2, 0.1), Tracing(0.0, 0.5, 0.3))


@dataclass(frozen=True, slots=True)
class Outline:
    """One ring and the holes in it, each (n, 2) of (row, column) in pixels of the grid."""

    slice_index: int
    rings: tuple[Points, ...]


def build_structures(
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    drawing: Drawing = AS_THE_GRID_ASKS,
    probabilities: Probabilities | None = None,
) -> StructureSet:
    """Draw the contours of each defined structure.

    Contours hold exactly the structure's voxels under the rule of ``scanlines``. Their coordinates are rounded:
    0.01 mm (0.001 mm where the planes are oblique or pixels smaller than 0.5 mm), 0.001 mm across an axial plane.

    Raises
    ------
    VerificationError
        A structure cannot be drawn without loss.
    """
    masks = Masks(label_map)
    structures: list[Structure] = []
    omitted: list[Omitted] = []
    for definition in definitions:
        voxels = masks.of(definition)
        if voxels is None:
            omitted.append(Omitted(name=definition.name, reason="The model found no voxel of it in this series."))
        else:
            structures.append(_structure(definition, voxels, label_map.grid))
    return StructureSet(structures=tuple(structures), omitted=tuple(omitted))


def _structure(definition: StructureDefinition, voxels: CroppedMask, grid: Grid) -> Structure:
    precision = Precision(grid)
    outlines = list(_traced(voxels))
    contours = _merged(outlines, _thinned(outlines, precision), precision)
    _check(definition.name, contours, voxels, precision)
    return Structure(
        definition=definition,
        contours=contours,
        volume_cm3=float(np.count_nonzero(voxels.mask)) * grid.voxel_volume_mm3 / 1000,
    )


class Precision:
    """How finely contours of a grid are written, and how far they keep away from pixel centres."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        small = min(grid.pixel_spacing_mm) < 0.5
        oblique = sorted(np.abs(grid.normal))[1] > 1e-6
        decimals = np.full(3, 3 if small or oblique else 2)
        # The coordinate across the plane costs nothing, and planning systems match it with the image's.
        decimals[np.abs(grid.normal) > 1e-6] = 3
        self._scale = 10.0**decimals
        guard_mm = min(GUARD_MM, GUARD_PIXELS * min(grid.pixel_spacing_mm))
        self.guard_pixels = guard_mm / np.array(grid.pixel_spacing_mm)

    def rounded_mm(self, slice_index: int, points: Points) -> Points:
        """Give patient coordinates as they will be written, shape (n, 3)."""
        exact = self.grid.points_lps_mm(slice_index, points[:, 0], points[:, 1])
        # Adding zero turns -0.0 into 0.0.
        return np.asarray(np.rint(exact * self._scale) / self._scale + 0.0, dtype=np.float64)

    def rounded(self, slice_index: int, points: Points) -> Points:
        """Give (row, column) of the points as they will be written, neighbours that fell together made one."""
        back = scanlines.pixels(self.grid.planes[slice_index], self.rounded_mm(slice_index, points))
        moved = np.abs(back - np.roll(back, 1, axis=0)).max(axis=1) > 1e-6
        return np.asarray(back[moved], dtype=np.float64)


def _traced(voxels: CroppedMask) -> Iterator[Outline]:
    """Give the outlines of all components of all slices."""
    first_slice, first_row, first_column = voxels.origin
    for index in np.flatnonzero(voxels.mask.any(axis=(1, 2))).tolist():
        image = voxels.mask[index].view(np.uint8)
        # Components that touch by a corner are one: no line passes between them on the way of the other.
        _, components, stats, _ = cv2.connectedComponentsWithStats(image, connectivity=8)
        for number, (left, top, width, height, area) in enumerate(stats.tolist()):
            if number == BACKGROUND:
                continue
            component = components[top : top + height, left : left + width] == number
            offset = np.array([first_row + top, first_column + left], dtype=np.float64)
            for rings in _trace_component(component, area):
                yield Outline(first_slice + index, tuple(ring + offset for ring in rings))


def _trace_component(component: Mask, area: int) -> list[list[Points]]:
    for tracing in TRACINGS:
        outlines = _trace(component, tracing, area)
        if abs(_area(outlines) - area) <= AREA_TOLERANCE * area:
            return outlines
    return outlines


def _trace(component: Mask, tracing: Tracing, area: int) -> list[list[Points]]:
    """Trace at level 0.5, or at the level within the leeway that gives the area."""
    lines = _isolines(_held_field(component, tracing))
    outlines = _rings_at(lines, 0.5)
    if not tracing.leeway:
        return outlines
    # Area falls as the level rises; six halvings fix the level to 1 % of its range.
    low, high = 0.5 - tracing.leeway, 0.5 + tracing.leeway
    for _ in range(6):
        level = (low + high) / 2
        outlines = _rings_at(lines, level)
        low, high = (level, high) if _area(outlines) > area else (low, level)
    return outlines


def _held_field(component: Mask, tracing: Tracing) -> NDArray[np.float64]:
    """Give the blurred mask with a border of one pixel, each pixel held on its side of 0.5."""
    sharp = np.pad(component, 1).astype(np.float32)
    blurred = sharp
    if tracing.blur_pixels:
        blurred = cv2.GaussianBlur(sharp, (0, 0), tracing.blur_pixels, borderType=cv2.BORDER_CONSTANT)
    held = np.where(sharp > 0, np.maximum(blurred, 0.5 + tracing.margin), np.minimum(blurred, 0.5 - tracing.margin))
    return np.asarray(held, dtype=np.float64)


def _isolines(field: NDArray[np.float64]) -> contourpy.SerialContourGenerator:
    # ``contourpy.contour_generator`` would build masked arrays, at thrice the price of tracing a small component.
    columns, rows = np.meshgrid(
        np.arange(field.shape[1], dtype=np.float64), np.arange(field.shape[0], dtype=np.float64)
    )
    return contourpy.SerialContourGenerator(
        columns,
        rows,
        field,
        np.zeros(field.shape, dtype=np.bool_),
        corner_mask=False,
        line_type=contourpy.LineType.Separate,
        fill_type=contourpy.FillType.OuterOffset,
        quad_as_tri=False,
        z_interp=contourpy.ZInterp.Linear,
    )


def _rings_at(lines: contourpy.ContourGenerator, level: float) -> list[list[Points]]:
    """Give the outlines at a level, outer ring first, as (row, column) without the border."""
    filled = lines.filled(level, 2.0)
    polygons, offsets = cast("tuple[list[Points], list[NDArray[np.uint32]]]", filled)
    return [
        [points[first : last - 1, ::-1] - 1.0 for first, last in pairwise(bounds.tolist())]
        for points, bounds in zip(polygons, offsets, strict=True)
    ]


def _area(outlines: Sequence[Sequence[Points]]) -> float:
    """Give the area in pixels; holes run the other way round and count negative."""
    return sum(abs(sum(_signed_area(ring) for ring in rings)) for rings in outlines)


def _signed_area(ring: Points) -> float:
    row, column = ring[:, 0], ring[:, 1]
    twice = np.dot(column[:-1], row[1:]) - np.dot(row[:-1], column[1:]) + column[-1] * row[0] - row[-1] * column[0]
    return float(twice / 2)


def _thinned(outlines: Sequence[Outline], precision: Precision) -> list[Points]:
    """Give every ring of every outline, in order, with as few points as keep its pixels; rounded."""
    rings = [ring for outline in outlines for ring in outline.rings]
    slices = [outline.slice_index for outline in outlines for _ in outline.rings]
    thinned = list(rings)
    wanted = list(range(len(rings)))
    for tolerance in TOLERANCES_MM:
        tried = [precision.rounded(slices[which], _decimated(rings[which], tolerance, precision)) for which in wanted]
        failed = _changed([rings[which] for which in wanted], tried, precision.guard_pixels)
        for place, which in enumerate(wanted):
            thinned[which] = tried[place]
        wanted = [wanted[place] for place in failed]
        if not wanted:
            break
    return thinned


def _decimated(ring: Points, tolerance_mm: float, precision: Precision) -> Points:
    if not tolerance_mm:
        return ring
    spacing = np.array(precision.grid.pixel_spacing_mm)
    corner = ring.min(axis=0)
    # Relative to a corner, 32 bit hold a ten-thousandth of a millimetre.
    flat = ((ring - corner) * spacing).astype(np.float32)
    kept = cv2.approxPolyDP(flat, tolerance_mm, closed=True)[:, 0, :]
    return np.asarray(kept / spacing + corner, dtype=np.float64)


def _changed(rings: Sequence[Points], tried: Sequence[Points], guard_pixels: Points) -> list[int]:
    """Give the places of those tried rings that hold other pixels than the ring itself, at any shift by the guard."""
    changed = {place for place, points in enumerate(tried) if len(points) < 3}
    # Each ring in the frame of its own first pixel, in a cell of the same size.
    corners = [np.floor(ring.min(axis=0)) - 2 for ring in rings]
    size = np.ceil(np.max([np.ptp(ring, axis=0) for ring in rings], axis=0)).astype(np.intp) + 6
    wanted = _keys([ring - corner for ring, corner in zip(rings, corners, strict=True)], size)
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        shift = np.multiply(signs, guard_pixels)
        moved = [points - corner + shift for points, corner in zip(tried, corners, strict=True)]
        differing = np.setxor1d(_keys(moved, size), wanted, assume_unique=True)
        changed.update(np.unique(differing // size.prod()).tolist())
    return sorted(changed)


def _keys(polygons: Sequence[Points], size: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number each polygon's effective toggles in its own cell of (rows, columns)."""
    crossed = scanlines.toggles(polygons)
    row, column = np.clip(crossed.row, 0, size[0] - 1), np.clip(crossed.column, 0, size[1] - 1)
    return scanlines.odd((crossed.polygon * size[0] + row) * size[1] + column)


def _merged(outlines: Sequence[Outline], rings: Sequence[Points], precision: Precision) -> tuple[Contour, ...]:
    """Give one contour per outline, its holes merged in."""
    contours = []
    used = 0
    for outline in outlines:
        outer, *holes = rings[used : used + len(outline.rings)]
        used += len(outline.rings)
        points = precision.rounded(outline.slice_index, keyholes.merge(outer, holes)) if holes else outer
        points_lps_mm = precision.rounded_mm(outline.slice_index, points)
        contours.append(Contour(slice_index=outline.slice_index, points_lps_mm=points_lps_mm))
    return tuple(contours)


def _check(name: str, contours: Sequence[Contour], voxels: CroppedMask, precision: Precision) -> None:
    """Raise VerificationError unless the contours hold the mask's voxels; also when moved by half the guard.

    Half, because a keyhole splits an edge and rounding then bends it.
    """
    first_slice, *corner = voxels.origin
    planes = precision.grid.planes
    polygons = [scanlines.pixels(planes[one.slice_index], one.points_lps_mm) - corner for one in contours]
    slices = np.array([one.slice_index - first_slice for one in contours], dtype=np.intp)
    rows, columns = voxels.mask.shape[1] + 2, voxels.mask.shape[2] + 2

    def numbered(index: NDArray[np.intp], row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.intp]:
        place = (index * rows + np.clip(row, -1, rows - 2) + 1) * columns + np.clip(column, -1, columns - 2) + 1
        return scanlines.odd(place)

    wanted = numbered(*scanlines.mask_toggles(voxels.mask))
    for share in (0.0, 0.5, -0.5):
        crossed = scanlines.toggles([points + share * precision.guard_pixels for points in polygons])
        if not np.array_equal(numbered(slices[crossed.polygon], crossed.row, crossed.column), wanted):
            raise VerificationError(f"The contours of {name} do not hold exactly its voxels.")
