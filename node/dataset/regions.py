"""From the contours of a region to its voxels on the grid of its images, or the reason why not: nothing is guessed.

A voxel is inside where its centre is, by the rule of ``node.domain.scanlines``. On one plane an outline within another
is a hole, as planning systems write it; outlines that cross are refused. CLOSEDPLANAR_XOR is what PS3.3 C.8.8.6.3 says.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from node.dicom.archived_structures import DrawnContour, Region
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.scanlines import rasterise
from node.domain.structures import Contour

Mask = NDArray[np.bool_]

# A contour is on a plane where no point is further from it than this, nor than this part of the gap between planes.
OFF_PLANE_MM = 0.5
OFF_PLANE_SHARE = 0.25
# Two outlines of which so little is common, or so little of the inner one outside, only touch.
TOUCHING_SHARE = 0.05
TOUCHING_PIXELS = 2
# Of the planes between the first and the last of a region, so many may be without it; nothing is interpolated.
GAPS_SHARE = 0.25

_CLOSED, _EXCLUDING = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
_TYPES = (_CLOSED, _EXCLUDING, "POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The voxels of a region and what was odd about it."""

    # Shape of the grid, ``[slice, row, column]``.
    mask: Mask
    remarks: tuple[str, ...] = ()


def draw(region: Region, grid: Grid, frame_of_reference_uid: str) -> Drawn:
    """Give the voxels inside the contours of an ROI.

    Raises
    ------
    InputError
        The ROI is in another Frame of Reference, a contour is no closed polygon, is on no plane of the grid or on
        another than the image it names, or outlines cross.
    """
    if region.frame_of_reference_uid not in ("", frame_of_reference_uid):
        raise InputError("it is in another Frame of Reference than the images")
    types = Counter(contour.geometric_type for contour in region.contours)
    if len(types) != 1 or not types.keys() <= {_CLOSED, _EXCLUDING}:
        listed = ", ".join(sorted(_shown(each) for each in types))
        raise InputError(f"it holds contours of the type {listed}, of which no area can be told")
    # Fewer points enclose nothing: planning systems leave such crumbs behind.
    polygons = [contour for contour in region.contours if len(contour.points_lps_mm) >= 3]
    contours = [_on_plane(contour, grid) for contour in polygons]
    crumbs = len(region.contours) - len(polygons)
    remarks = [f"{crumbs} contours of fewer than 3 points enclose nothing"] if crumbs else []
    if types.keys() == {_CLOSED}:
        contours, repeated = _without_crossings(contours, grid)
        remarks += [f"{repeated} outlines are there twice and count once"] if repeated else []
    return Drawn(mask=rasterise(contours, grid), remarks=tuple(remarks))


def gaps(mask: Mask) -> tuple[int, int]:
    """Count the planes between a region's first and last that are without it, and all from first to last.

    Raises
    ------
    InputError
        There are so many that the region must be drawn on some planes only, or there is no voxel.
    """
    present = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(present):
        raise InputError("its contours hold the centre of no voxel")
    span = int(present[-1] - present[0]) + 1
    missing = span - len(present)
    if missing > GAPS_SHARE * max(span - 2, 0):
        raise InputError(f"it is drawn on {len(present)} of the {span} planes from its first to its last")
    return missing, span


def _shown(geometric_type: str) -> str:
    # Anything may stand in a header, also what must not stand in a report.
    return geometric_type if geometric_type in _TYPES else "unknown"


def _on_plane(contour: DrawnContour, grid: Grid) -> Contour:
    """Find the plane that a contour lies on, and check it against the image that the contour names."""
    distances = contour.points_lps_mm @ grid.normal
    index = int(np.argmin(np.abs(grid.distances_mm - np.median(distances))))
    off_mm = float(np.abs(distances - grid.distances_mm[index]).max())
    if off_mm > min(OFF_PLANE_MM, OFF_PLANE_SHARE * grid.slice_spacing_mm):
        raise InputError(f"a contour lies {off_mm:.2f} mm off the nearest image")
    plane = grid.planes[index]
    named = [uid for uid, frame in contour.images if frame in (None, plane.frame_number)]
    if contour.images and plane.sop_instance_uid not in named:
        raise InputError("a contour lies on another image than it names")
    return Contour(slice_index=index, points_lps_mm=contour.points_lps_mm)


def _without_crossings(contours: Iterable[Contour], grid: Grid) -> tuple[list[Contour], int]:
    """Give each outline once, and how many were repeated; refuse those of which nobody knows what they mean."""
    on_plane: dict[int, list[Contour]] = {}
    for contour in contours:
        on_plane.setdefault(contour.slice_index, []).append(contour)
    kept: list[Contour] = []
    for index, several in on_plane.items():
        kept += several if len(several) == 1 else _nested(several, grid, index)
    return kept, sum(map(len, on_plane.values())) - len(kept)


def _nested(contours: Sequence[Contour], grid: Grid, index: int) -> list[Contour]:
    plane = Grid(planes=(grid.planes[index],))
    single = [Contour(slice_index=0, points_lps_mm=each.points_lps_mm) for each in contours]
    # Only what they hold of the plane, one byte for each pixel.
    masks = [rasterise([each], plane)[0] for each in single]
    repeated = set()
    for one, other in combinations(range(len(contours)), 2):
        common = int(np.count_nonzero(masks[one] & masks[other]))
        sizes = [int(np.count_nonzero(masks[each])) for each in (one, other)]
        smaller = min(sizes)
        if not common:
            continue
        if common == sizes[0] == sizes[1]:
            repeated.add(other)
        elif not _is_little(common, smaller) and not _is_little(smaller - common, smaller):
            raise InputError("two of its outlines cross on one image: which area is meant cannot be told")
    return [each for number, each in enumerate(contours) if number not in repeated]


def _is_little(part: int, of: int) -> bool:
    return part <= max(TOUCHING_PIXELS, TOUCHING_SHARE * of) and part < of
