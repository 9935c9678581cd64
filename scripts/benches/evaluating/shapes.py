"""Pairs of shapes whose distances are known without a computer, as masks of planning CT: slices of 3 mm, 0.9 mm pixels.

Nothing lies in the middle of a voxel, or of anything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SPACING_MM = (3.0, 0.9, 0.9)
SIZE = (30, 90, 80)
CENTRE_MM = (43.1, 40.4, 36.2)
TOLERANCE_MM = 1.8


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """A reference, a result, and what is true of them; measures by their names in `node.evaluation.metrics`."""

    name: str
    reference: Mask
    result: Mask
    truth: Mapping[str, float]

    def save(self, folder: Path) -> None:
        """Write the masks for programs that run elsewhere."""
        np.savez(folder / f"{self.name}.npz", reference=self.reference, result=self.result)


def every() -> list[Shapes]:
    """Make all pairs."""
    return [
        _moved_box("box moved 2.7 mm along rows", axis=2, voxels=3),
        _moved_box("box moved 6 mm across slices", axis=0, voxels=2),
        _tilted_box(4.0),
        *(_balls(radius, further) for radius, further in ((20.0, 5.0), (20.0, 2.0), (8.0, 2.0))),
    ]


def moved(sides_mm: Sequence[float], shift_mm: float) -> dict[str, float]:
    """Tell of a box with sides (along the shift, across, across) that moved by less than half of any.

    The face that left is s away; of the one that went in, the area further than t from the other's surface is
    (a - 2t)(b - 2t) for t up to s; the strips that stick out of the four sides are s/2 away on average.
    """
    length, a, b = sides_mm
    area = 2 * (length * a + length * b + a * b)
    t = TOLERANCE_MM
    far = a * b + (a - 2 * t) * (b - 2 * t) + 2 * (a + b) * (shift_mm - t)
    return {
        "hd95_mm": shift_mm,
        "mean_surface_distance_mm": (2 * shift_mm * a * b + 4 * shift_mm**3 / 3) / area,
        "surface_dice": 1 - far / area,
    }


def _moved_box(name: str, *, axis: int, voxels: int) -> Shapes:
    reference = np.zeros(SIZE, dtype=np.bool_)
    reference[8:18, 10:40, 12:42] = True
    sides = [count * spacing for count, spacing in zip((10, 30, 30), SPACING_MM, strict=True)]
    shift_mm = voxels * SPACING_MM[axis]
    along = [sides[axis], *(side for other, side in enumerate(sides) if other != axis)]
    return Shapes(name=name, reference=reference, result=np.roll(reference, voxels, axis), truth=moved(along, shift_mm))


def _tilted_box(shift_mm: float) -> Shapes:
    halves = np.array([18.0, 15.0, 20.0])
    one, other = math.radians(29), math.radians(20)
    turn = np.array([[1, 0, 0], [0, math.cos(one), -math.sin(one)], [0, math.sin(one), math.cos(one)]])
    turn = turn @ np.array([[math.cos(other), -math.sin(other), 0], [math.sin(other), math.cos(other), 0], [0, 0, 1]])
    places = np.stack(np.broadcast_arrays(*_away()), axis=-1) @ turn
    masks = [(np.abs(places - np.array([0, 0, moved_by])) <= halves).all(axis=-1) for moved_by in (0, shift_mm)]
    return Shapes(
        name=f"tilted box moved {shift_mm:g} mm",
        reference=masks[0],
        result=masks[1],
        truth=moved((40.0, 36.0, 30.0), shift_mm),
    )


def _balls(radius_mm: float, further_mm: float) -> Shapes:
    z, y, x = _away()
    away = np.sqrt(z**2 + y**2 + x**2)
    return Shapes(
        name=f"ball of {radius_mm:g} mm in {radius_mm + further_mm:g} mm",
        reference=np.asarray(away <= radius_mm),
        result=np.asarray(away <= radius_mm + further_mm),
        # All of either surface is as far from the other. What part of it is within a tolerance a little beside that, a
        # mask of 3 mm slices cannot tell.
        truth={"hd95_mm": further_mm, "mean_surface_distance_mm": further_mm},
    )


def _away() -> tuple[NDArray[Any], ...]:
    z, y, x = (
        np.arange(size) * spacing - middle for size, spacing, middle in zip(SIZE, SPACING_MM, CENTRE_MM, strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def large() -> Shapes:
    """Make an organ of 1.4 litres on 512 × 512 × 200 voxels, and one that is a little off."""
    z, y, x = np.ogrid[:200, :512, :512]
    masks = [
        ((z - 100 - off) / 30) ** 2 + ((y - 256 - 2 * off) / 65) ** 2 + ((x - 200 - 2 * off) / 65) ** 2 <= 1
        for off in (0, 1)
    ]
    return Shapes(name="large", reference=masks[0], result=masks[1], truth={})
