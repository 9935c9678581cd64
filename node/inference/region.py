"""The region in which a fine network works, as a coarse one finds it: ``[crop_model]``.

TotalSegmentator's rule: the box around every voxel of the structures on the series' own grid, widened on each side by
as many whole voxels as the margin holds, and cut at the image's edge. What the fine network then gets is the box alone.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Grid
from node.domain.volume import Box, Probabilities
from node.inference.parts import CropModel
from node.inference.postprocess import mask_of
from node.inference.transforms import Labels, oriented_axes


def region_of(labels: Labels, grid: Grid, crop_model: CropModel) -> Box | None:
    """Give the box of the series' grid around the structures, with the margin; None where there is none of them.

    At least two voxels along each axis that has two: a single plane is no volume.
    """
    values = [value for each in crop_model.structures.values() for value in each]
    inside = mask_of(labels, values)
    extents = [np.flatnonzero(inside.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(extents[0]):
        return None
    margins = _margins(grid, crop_model)
    box = tuple(
        _widened(int(at[0]), int(at[-1]) + 1, margin, size)
        for at, margin, size in zip(extents, margins, grid.shape, strict=True)
    )
    return cast(Box, box)


def _margins(grid: Grid, crop_model: CropModel) -> list[int]:
    """Count the voxels of the margin along the series' axes."""
    margins = [0, 0, 0]
    for axis, margin_mm in zip(oriented_axes(grid, crop_model.input.orientation), crop_model.margin_mm, strict=True):
        # TotalSegmentator divides by what a NIfTI header holds: 20 mm are 24 voxels of 0.8 mm, not 25.
        margins[axis] = int(margin_mm / float(np.float32(grid.spacing_mm[axis])))
    return margins


def _widened(start: int, stop: int, margin: int, size: int) -> slice:
    start, stop = max(0, start - margin), min(size, stop + margin)
    if stop - start == 1:
        start, stop = (start, stop + 1) if stop < size else (max(0, start - 1), stop)
    return slice(start, stop)


class ProbabilitiesWithin:
    """Probabilities of a region as those of the whole grid; satisfies `node.domain.volume.Probabilities`."""

    def __init__(self, probabilities: Probabilities, region: Box, shape: tuple[int, int, int]) -> None:
        """Take the probabilities of a region, and the shape of the whole grid."""
        self._probabilities = probabilities
        self._region = region
        self._shape = shape

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32] | None:
        """Give the probability that each voxel of a box has one of the label values; beyond the region it is 0."""
        sides = [each.indices(size)[:2] for each, size in zip(box, self._shape, strict=True)]
        overlap = [
            (max(start, region.start), max(start, region.start, min(stop, region.stop)))
            for (start, stop), region in zip(sides, self._region, strict=True)
        ]
        found = self._probabilities.of(label_values, _moved(overlap, [region.start for region in self._region]))
        if found is None:
            return None
        whole = np.zeros([stop - start for start, stop in sides], dtype=np.float32)
        whole[_moved(overlap, [start for start, _ in sides])] = found
        return whole


def _moved(sides: Sequence[tuple[int, int]], origin: Sequence[int]) -> Box:
    first, second, third = (slice(start - by, stop - by) for (start, stop), by in zip(sides, origin, strict=True))
    return first, second, third
