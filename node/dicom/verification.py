"""What the checks of written results share: images by reference, masks by name, faults as errors.

Shares no code with the writers except the rule of which pixels a polygon holds and the naming of structures.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from pydicom import Dataset

from node.dicom import UNREADABLE
from node.dicom.wording import unique_names
from node.domain.errors import VerificationError
from node.domain.grid import Grid
from node.domain.masks import CroppedMask, Mask, Masks
from node.domain.scanlines import Points
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap

# How far a point may lie off the plane of the image it names.
OFF_PLANE_MM = 0.01

ANOTHER_GRID = "The label map is on another grid than the series."


@contextmanager
def malformed_is_an_error() -> Iterator[None]:
    """Turn what reading a broken object raises, of whatever kind, into the one verdict that stops it."""
    try:
        yield
    except UNREADABLE as error:
        raise VerificationError(f"The written object is malformed: {type(error).__name__}.") from error


def expect(holds: bool, otherwise: str) -> None:
    """Raise VerificationError with that reason unless the condition holds."""
    if not holds:
        raise VerificationError(otherwise)


def wanted_masks(label_map: LabelMap, definitions: Sequence[StructureDefinition]) -> Mapping[str, CroppedMask]:
    """Give the voxels of the structures that have any, by the name that the result must give them."""
    masks = Masks(label_map)
    found = [(definition.name, mask) for definition in definitions if (mask := masks.of(definition)) is not None]
    names = unique_names([name for name, _ in found])
    return {unique: mask for unique, (_, mask) in zip(names, found, strict=True)}


class Images:
    """The images of a grid, by how a result refers to them."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._index = {(plane.sop_instance_uid, plane.frame_number): index for index, plane in enumerate(grid.planes)}
        self._normals = [plane.normal for plane in grid.planes]

    def index(self, reference: Dataset, name: str) -> int:
        """Give which plane of the grid an image reference means."""
        frame = reference.get("ReferencedFrameNumber")
        return self.index_of(str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame), name)

    def index_of(self, sop_instance_uid: str, frame_number: int | None, name: str) -> int:
        """Give which plane of the grid an instance, or a frame of it, is."""
        key = (sop_instance_uid, frame_number)
        expect(key in self._index, f"{name} names an image that is not of the series.")
        return self._index[key]

    def off_plane_mm(self, index: int, points_lps_mm: Points) -> float:
        """Give how far the farthest point lies off a plane."""
        away = points_lps_mm - self.grid.planes[index].position_lps_mm
        return float(np.abs(away @ self._normals[index]).max())


def verify_mask(name: str, got: Mask, wanted: CroppedMask) -> None:
    """Raise VerificationError unless a mask of the whole grid holds the wanted voxels and no other."""
    inside = got[wanted.box]
    changed = np.count_nonzero(inside != wanted.mask) + np.count_nonzero(got) - np.count_nonzero(inside)
    expect(changed == 0, f"{name} differs from the label map in {changed} of {np.count_nonzero(wanted.mask)} voxels.")
