"""How far two masks on one grid agree. Every figure is of the surfaces, by area, never of a count of voxels on them.

With R the reference and T the result, ∂R and ∂T their surfaces (`node.evaluation.surfaces`), d(p, S) the distance of a
point from the nearest point of a surface, |·| volume, area or length, and τ a tolerance:

==========================  ======================================================================================
Dice                        2 |R ∩ T| / (|R| + |T|)  (Dice 1945)
surface Dice                (|{p ∈ ∂R: d(p, ∂T) ≤ τ}| + |{p ∈ ∂T: d(p, ∂R) ≤ τ}|) / (|∂R| + |∂T|)  (Nikolov 2021)
95 % Hausdorff distance     the larger of two: the distance within which 95 % of the area of ∂R lies from ∂T, and of ∂T
                            from ∂R
mean surface distance       (∫ d(p, ∂T) over ∂R + ∫ d(p, ∂R) over ∂T) / (|∂R| + |∂T|): symmetric, by area
added path length           on each slice the length of the reference's outline further than τ from the result's
                            (Vaassen 2020, in mm and with a tolerance instead of pixels); all of it where the slice has
                            no result. Its share is of all outlines of the reference
volume difference           |T| - |R|, and in % of |R|
==========================  ======================================================================================

What is not defined is None, with the reason; nothing is ever NaN or infinite.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.volume import Box
from node.evaluation.distances import distances_mm, within
from node.evaluation.surfaces import outlines_of, surface_of

Mask = NDArray[np.bool_]

# Between what nearly all observers agree on and what planning CT of 2 to 3 mm slices can tell.
TOLERANCE_MM = 2.0
HAUSDORFF_SHARE = 0.95

# Coordinates in DICOM are rounded: what is as far as the tolerance is within.
_ROUNDING_MM = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What two masks have in common; None where that is not defined."""

    dice: float | None
    surface_dice: float | None
    hd95_mm: float | None
    mean_surface_distance_mm: float | None
    added_path_mm: float | None
    added_path_share: float | None
    reference_cm3: float
    result_cm3: float
    volume_difference_cm3: float
    volume_difference_percent: float | None
    tolerance_mm: float
    # Why some are None; empty where none is.
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give JSON values."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def compare(reference: Mask, result: Mask, grid: Grid, tolerance_mm: float = TOLERANCE_MM) -> Measures:
    """Measure two masks, ``[slice, row, column]``, on one grid.

    Where one is empty, Dice and surface Dice are 0, no distance is defined, and the whole path is to be added; where
    both are, nothing but volumes is.

    Raises
    ------
    InputError
        The grid has a single plane, of which no volume can be told.
    """
    for mask in (reference, result):
        if mask.shape != grid.shape:
            raise ValueError(f"a mask of {mask.shape} does not fit the grid {grid.shape}")
    if len(grid.planes) < 2:
        raise InputError("The grid has one plane: volumes and surfaces need at least two.", "Give the whole series.")
    box = _box(reference, result)
    volumes_cm3 = np.array([0.0, 0.0])
    if box is not None:
        volumes_cm3 = np.array([_volume_cm3(each[box], grid, box) for each in (reference, result)])
    known: dict[str, Any] = {
        "reference_cm3": float(volumes_cm3[0]),
        "result_cm3": float(volumes_cm3[1]),
        "volume_difference_cm3": float(volumes_cm3[1] - volumes_cm3[0]),
        "volume_difference_percent": float(100 * (volumes_cm3[1] / volumes_cm3[0] - 1)) if volumes_cm3[0] else None,
        "tolerance_mm": tolerance_mm,
    }
    if box is None:
        return _of_nothing(known, "both are empty", score=None)
    # Surfaces need the places of a second plane.
    small = _stretched(box, grid)
    here = grid.within(*small)
    if not volumes_cm3.all():
        which = "the result" if volumes_cm3[0] else "the reference"
        path_mm = float(outlines_of(reference[small], here).sizes.sum()) if volumes_cm3[0] else 0.0
        return _of_nothing(known, f"{which} is empty: no distance is defined", score=0.0, path_mm=path_mm)
    return _of_both(reference[small], result[small], here, known)


def dice(reference: Mask, result: Mask) -> float | None:
    """Give twice the voxels in common by the sum of both; None where both are empty.

    By count, as everybody does: where planes are irregular, each voxel weighs the same all the same.
    """
    total = int(np.count_nonzero(reference)) + int(np.count_nonzero(result))
    return 2 * int(np.count_nonzero(reference & result)) / total if total else None


def _of_both(reference: Mask, result: Mask, grid: Grid, known: dict[str, Any]) -> Measures:
    tolerance_mm = known["tolerance_mm"] + _ROUNDING_MM
    of_reference, of_result = surface_of(reference, grid), surface_of(result, grid)
    there, back = distances_mm(of_reference.centres_mm, of_result), distances_mm(of_result.centres_mm, of_reference)
    distances, areas = np.concatenate([there, back]), np.concatenate([of_reference.sizes, of_result.sizes])
    outlines = outlines_of(reference, grid)
    lengths = outlines.sizes
    added_mm = float(lengths[distances_mm(outlines.centres_mm, outlines_of(result, grid)) > tolerance_mm].sum())
    return Measures(
        dice=dice(reference, result),
        surface_dice=float(areas[distances <= tolerance_mm].sum() / areas.sum()),
        hd95_mm=max(within(there, of_reference.sizes, HAUSDORFF_SHARE), within(back, of_result.sizes, HAUSDORFF_SHARE)),
        mean_surface_distance_mm=float(np.average(distances, weights=areas)),
        added_path_mm=added_mm,
        added_path_share=added_mm / float(lengths.sum()),
        **known,
    )


def _of_nothing(known: dict[str, Any], reason: str, *, score: float | None, path_mm: float = 0.0) -> Measures:
    return Measures(
        dice=score,
        surface_dice=score,
        hd95_mm=None,
        mean_surface_distance_mm=None,
        added_path_mm=path_mm if score is not None else None,
        added_path_share=1.0 if path_mm else None,
        reason=reason,
        **known,
    )


def _box(*masks: Mask) -> Box | None:
    """Give the smallest box that holds the voxels of all masks; None where there is none."""
    sides = []
    for axis in range(3):
        others = tuple(each for each in range(3) if each != axis)
        present = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        if not len(present):
            return None
        sides.append(slice(int(present[0]), int(present[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _stretched(box: Box, grid: Grid) -> Box:
    """Add the planes beside a box: where a surface ends between planes, it is their distance that counts."""
    slices = slice(max(box[0].start - 1, 0), min(box[0].stop + 1, len(grid.planes)))
    return slices, box[1], box[2]


def _volume_cm3(mask: Mask, grid: Grid, box: Box) -> float:
    """Give the volume of voxels that each reach halfway to the neighbouring planes."""
    distances = grid.distances_mm
    gaps = np.abs(np.diff(distances))
    thicknesses_mm = (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2
    area_mm2 = float(np.prod(grid.pixel_spacing_mm))
    return float(np.count_nonzero(mask, axis=(1, 2)) @ thicknesses_mm[box[0]]) * area_mm2 / 1000
