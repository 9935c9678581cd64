"""What frames state of their planes: all at once, or each for itself where the planes of the series are not alike."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from pydicom import Dataset

from node.dicom.segmentation_source import decimal_string
from node.domain.grid import Grid, Plane

# Half of the 0.02 mm to which every point of a result is right. Series whose planes differ by up to 5e-4 in direction
# cosines or Pixel Spacing are accepted, which is 0.25 mm at the end of a row of 500 mm.
ALIKE_MM = 0.01


def planes_are_alike(grid: Grid) -> bool:
    """Tell whether the first plane's orientation and spacing put no pixel of any plane off by more than 0.01 mm."""
    _, rows, columns = grid.shape
    # From the first pixel, which each frame's own position places, a pixel is off the more the farther it is.
    corners = np.array([(rows - 1, 0), (0, columns - 1), (rows - 1, columns - 1)])
    off_mm = corners @ (grid.steps_mm - grid.steps_mm[0])
    return bool(np.linalg.norm(off_mm, axis=-1).max() <= ALIKE_MM)


def state_each_plane(dataset: Dataset, order: Sequence[int], grid: Grid, sources: Sequence[Dataset]) -> None:
    """Put orientation and measures of each frame's own plane in place of those that all frames share (PS3.3 A.51.5).

    Parameters
    ----------
    order
        The plane of each frame.
    sources
        Of each plane of the grid (``source_headers``).
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for groups, index in zip(dataset.PerFrameFunctionalGroupsSequence, order, strict=True):
        plane = grid.planes[index]
        groups.PixelMeasuresSequence = [_measures(shared.PixelMeasuresSequence[0], plane, sources[index])]
        groups.PlaneOrientationSequence = [_orientation(plane)]
    # A group is either of all frames or of each (PS3.3 C.7.6.16.1.1).
    del shared.PixelMeasuresSequence, shared.PlaneOrientationSequence
    # "3D" would say that they are parallel (PS3.3 C.7.6.17).
    dataset.pop("DimensionOrganizationType", None)


def _measures(of_all: Dataset, plane: Plane, source: Dataset) -> Dataset:
    measures = deepcopy(of_all)
    measures.PixelSpacing = [decimal_string(value) for value in plane.pixel_spacing_mm]
    measures.SliceThickness = source.SliceThickness
    return measures


def _orientation(plane: Plane) -> Dataset:
    orientation = Dataset()
    orientation.ImageOrientationPatient = [decimal_string(value) for value in plane.orientation]
    return orientation
