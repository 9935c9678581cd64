"""Masks of regions on a grid, whatever kind of file they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.dataset.archive import whole
from node.dataset.nifti import Image, read_nifti
from node.dataset.regions import draw, gaps
from node.dicom.archived_segments import Segments, read_segments
from node.dicom.archived_structures import Region, RegionName, read_region
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.evaluation.grids import brought, corners_lps_mm, grid_of_affine, grid_of_frames
from node.evaluation.sources import Source

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Content(Protocol):
    """What a file holds."""

    @property
    def grid(self) -> Grid | None:
        """Give the grid of its own voxels; None for contours."""
        ...

    @property
    def extent_lps_mm(self) -> Floats:
        """Give points that hold all of it between them, shape (n, 3)."""
        ...

    def mask(self, region: RegionName, grid: Grid) -> Mask:
        """Give the voxels of a region on a grid; raises InputError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Contours:
    """An RT Structure Set."""

    dataset: Dataset
    regions: tuple[RegionName, ...]
    # Of a reference: drawn on every third plane only, it says nothing of those between.
    refuse_gaps: bool
    grid: None = None

    @cached_property
    def drawn(self) -> Mapping[int, Region | InputError]:
        """Read the contours of every region that has some."""
        found: dict[int, Region | InputError] = {}
        for region in self.regions:
            try:
                if not region.is_empty:
                    found[region.number] = read_region(self.dataset, region.number)
            except InputError as error:
                found[region.number] = error
        return found

    @property
    def extent_lps_mm(self) -> Floats:
        """Give all points."""
        read = [each for each in self.drawn.values() if isinstance(each, Region)]
        points = [contour.points_lps_mm for region in read for contour in region.contours]
        if not points:
            raise InputError("nothing is drawn in it", "Give a structure set with contours.")
        return np.concatenate(points)

    def mask(self, region: RegionName, grid: Grid) -> Mask:
        """Fill the contours (`node.dataset.regions.draw`)."""
        found = self.drawn[region.number]
        if isinstance(found, InputError):
            raise found
        # The grid may have been made of other planes than images, or of more.
        unnamed = tuple(replace(contour, images=()) for contour in found.contours)
        mask = draw(replace(found, contours=unnamed), grid, found.frame_of_reference_uid).mask
        if self.refuse_gaps:
            gaps(mask)
        return mask


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """A Segmentation object."""

    dataset: Dataset

    @cached_property
    def grid(self) -> Grid:
        """Give the grid of its frames."""
        return grid_of_frames(self.dataset)

    @cached_property
    def _segments(self) -> Segments:
        return read_segments(self.dataset, self.grid)

    @property
    def extent_lps_mm(self) -> Floats:
        """Give the corners of its frames."""
        return corners_lps_mm(self.grid)

    def mask(self, region: RegionName, grid: Grid) -> Mask:
        """Take the frames of a segment."""
        return brought(self._segments.mask(region.number), self.grid, grid)


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """A NIfTI of labels."""

    image: Image
    values: Mapping[int, tuple[int, ...]]

    @cached_property
    def grid(self) -> Grid:
        """Give its grid."""
        return grid_of_affine(self.image.affine_lps_mm, self.image.voxels.shape)

    @property
    def extent_lps_mm(self) -> Floats:
        """Give its corners."""
        return corners_lps_mm(self.grid)

    def mask(self, region: RegionName, grid: Grid) -> Mask:
        """Take the voxels of a region's values."""
        values = self.values[region.number]
        found = self.image.voxels == values[0] if len(values) == 1 else np.isin(self.image.voxels, values)
        return brought(np.asarray(found, dtype=np.bool_), self.grid, grid)


def opened(source: Source, *, is_reference: bool) -> Content:
    """Read a file.

    Raises
    ------
    InputError
        It cannot be read.
    """
    if source.kind == "RTSTRUCT":
        return Contours(dataset=whole(source.path), regions=source.regions, refuse_gaps=is_reference)
    if source.kind == "SEG":
        return Segmentation(dataset=whole(source.path))
    image = read_nifti(source.path)
    if image.voxels.dtype.kind == "f" and not np.array_equal(image.voxels, np.rint(image.voxels)):
        # As of probabilities, of which hardly a voxel would have a label's value.
        raise InputError(f"{source.path.name} holds values that are no labels", "Give whole numbers, one per organ.")
    return LabelMap(image=image, values=source.values or {})
