"""How much memory a model needs for a scan, before there is one."""

import math
from dataclasses import dataclass
from typing import cast

from node.domain.errors import ResourceError
from node.domain.grid import Grid
from node.inference.golden import axial_grid
from node.inference.network_tables import InputSpecification, WindowedInput
from node.inference.package import ModelPackage
from node.inference.plan import (
    Plan,
    bytes_needed,
    bytes_to_resample,
    plan_windows,
    refuse_too_large,
    refuse_too_large_to_resample,
)
from node.inference.predictor import Room
from node.inference.resampling import Extent, Three, resampled_shape
from node.inference.transforms import oriented_axes, passage

# A planning scan of the trunk: 45 cm long, 40 cm wide.
USUAL_SCAN = axial_grid((300, 512, 512), (1.5, 0.78, 0.78))
USUAL_SCAN_WORDS = "512×512×300 at 0.78×0.78×1.5 mm"

_FLOAT32 = 4


def bytes_for(package: ModelPackage, grid: Grid, room: Room) -> int:
    """Give the memory that a scan of this grid takes where a package's only network runs, beside scan and labels."""
    if not isinstance(package.input, WindowedInput):
        return _bytes_of_whole(package, package.input, grid) + room.network
    way = _way(package, package.input, grid)
    needed = bytes_needed(way.plan, len(package.input.channels), room)
    return needed if room.device is not None else max(way.to_resample, way.held + needed)


def refuse_scan_too_large(package: ModelPackage, grid: Grid, room: Room) -> None:
    """Refuse a scan that the memory does not hold for a package's only network.

    Raises
    ------
    ResourceError
        With what is needed and what is there.
    """
    if isinstance(package.input, WindowedInput):
        way = _way(package, package.input, grid)
        refuse_too_large_to_resample(way.to_resample, room)
        held = way.held if room.device is None else 0
        refuse_too_large(way.plan, len(package.input.channels), room, held)
        return
    needed = bytes_for(package, grid, room)
    if needed > room.host:
        raise ResourceError(
            f"{needed / 1e9:.1f} GB of memory are needed for {package.output.classes} classes, and this machine has "
            f"{room.host / 1e9:.1f} GB free.",
            "Free memory, or use a machine with more.",
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """What a scan goes through with a window, and the bytes of the machine's memory that its resampled images take."""

    plan: Plan
    # At most while they are made, and then while the network runs, with its labels at its spacing.
    to_resample: int = 0
    held: int = 0


def _way(package: ModelPackage, wanted: WindowedInput, grid: Grid) -> _Way:
    axes = oriented_axes(grid, wanted.orientation)
    order = [axes[axis] for axis in wanted.axis_order]
    shape = cast(Three, tuple(grid.shape[axis] for axis in order))
    spacing_mm = cast(Extent, tuple(grid.spacing_mm[axis] for axis in order))
    if wanted.resample == "nnunet":
        return _Way(plan_windows(shape, spacing_mm, wanted, package.output))
    coarse = resampled_shape(shape, spacing_mm, wanted.spacing_mm)
    label_bytes = 1 if max(package.output.label_values) < 256 else 2
    return _Way(
        plan_windows(coarse, wanted.spacing_mm, wanted, package.output),
        to_resample=bytes_to_resample(shape, coarse, wanted),
        held=(_FLOAT32 * len(wanted.channels) + label_bytes) * math.prod(coarse),
    )


def _bytes_of_whole(package: ModelPackage, wanted: InputSpecification, grid: Grid) -> int:
    """Count the image, at the network's spacing, and the scores of all classes, which are held for the whole volume."""
    return _FLOAT32 * (1 + package.output.classes) * math.prod(passage(grid, wanted).padded_shape)
