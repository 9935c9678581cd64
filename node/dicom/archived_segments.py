"""Read segments of a Segmentation of any vendor onto the grid of the images that it was drawn on; never resampled."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels

from node.dicom import UNREADABLE
from node.dicom.headers import functional_group
from node.domain.errors import InputError
from node.domain.grid import Grid

# A frame lies on an image where no corner is further from the image's: writers round to 2 decimals or more.
OFF_IMAGE_MM = 0.1

Frames = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The frames of a Segmentation, brought to the planes of a grid."""

    dataset: Dataset
    grid: Grid
    # Frame, counted from 0, -> index of its plane.
    planes: Mapping[int, int]
    is_label_map: bool

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Give the voxels of a segment, ``[slice, row, column]``; planes without a frame are empty.

        Raises
        ------
        InputError
            Two of its frames lie on one image, or pixels cannot be decoded.
        """
        try:
            frames = [each for each in self.planes if self.is_label_map or self._segment(each) == number]
            if len({self.planes[each] for each in frames}) != len(frames):
                raise InputError("two of its frames lie on one image")
            inside = np.zeros(self.grid.shape, dtype=np.bool_)
            decoded = iter_pixels(self.dataset, indices=frames, raw=True) if frames else ()
            for frame, pixels in zip(frames, decoded, strict=True):
                inside[self.planes[frame]] = pixels == (number if self.is_label_map else 1)
        except (*UNREADABLE, RuntimeError) as error:
            raise InputError(f"its pixels cannot be decoded ({type(error).__name__})") from error
        return inside

    def _segment(self, frame: int) -> int:
        group = functional_group(self.dataset, frame + 1, "SegmentIdentificationSequence")
        if group is None:
            raise InputError(f"frame {frame + 1} names no segment")
        return int(group.ReferencedSegmentNumber)


def read_segments(dataset: Dataset, grid: Grid) -> Segments:
    """Find the plane of every frame.

    Raises
    ------
    InputError
        The Segmentation holds fractions, or a frame lies elsewhere than on one of the images, pixel on pixel.
    """
    kind = str(dataset.get("SegmentationType") or "")
    if kind not in ("BINARY", "LABELMAP"):
        raise InputError("the Segmentation is FRACTIONAL: where its borders are would be a guess")
    try:
        frames = range(int(dataset.get("NumberOfFrames") or 1))
        planes = {frame: _plane_of(dataset, frame, grid) for frame in frames}
    except UNREADABLE as error:
        raise InputError(f"the geometry of the Segmentation is damaged ({type(error).__name__})") from error
    return Segments(dataset=dataset, grid=grid, planes=planes, is_label_map=kind == "LABELMAP")


def _plane_of(dataset: Dataset, frame: int, grid: Grid) -> int:
    _, rows, columns = grid.shape
    if (int(dataset.Rows), int(dataset.Columns)) != (rows, columns):
        raise InputError("the Segmentation has other Rows or Columns than the images")
    corners = _corners(dataset, frame)
    nearest = int(np.argmin(np.abs(grid.positions_lps_mm @ grid.normal - corners[0] @ grid.normal)))
    row, column = np.array([0, 0, rows - 1]), np.array([0, columns - 1, 0])
    off_mm = np.linalg.norm(grid.points_lps_mm(nearest, row, column) - corners, axis=1).max()
    if off_mm > OFF_IMAGE_MM:
        raise InputError(f"frame {frame + 1} of the Segmentation lies {off_mm:.2f} mm off the nearest image")
    return nearest


def _corners(dataset: Dataset, frame: int) -> NDArray[np.float64]:
    """Give the centres of a frame's first pixel, of the last of its first row, and of the last of its first column."""
    position = functional_group(dataset, frame + 1, "PlanePositionSequence")
    orientation = functional_group(dataset, frame + 1, "PlaneOrientationSequence")
    measures = functional_group(dataset, frame + 1, "PixelMeasuresSequence")
    if position is None or orientation is None or measures is None:
        raise InputError(f"frame {frame + 1} of the Segmentation does not say where it lies")
    first = np.array(position.ImagePositionPatient, dtype=np.float64)
    cosines = np.array(orientation.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(each) for each in measures.PixelSpacing)
    across = cosines[0] * between_columns * (int(dataset.Columns) - 1)
    down = cosines[1] * between_rows * (int(dataset.Rows) - 1)
    return np.stack([first, first + across, first + down])
