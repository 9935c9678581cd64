"""Read back what a destination received."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.scanlines import rasterise
from node.domain.structures import Contour

RGB = tuple[int, int, int]

# Where an RT Structure Set names no colour.
YELLOW: RGB = (255, 255, 0)


@dataclass(frozen=True, kw_only=True)
class DeliveredStructure:
    """One structure as an RT Structure Set tells it."""

    name: str
    colour_rgb: RGB
    # RT ROI Interpreted Type; empty where the object leaves it so.
    interpreted_type: str
    contours: tuple[Contour, ...]
    # The pixels inside the contours, ``[slice, row, column]``, and their volume.
    mask: NDArray[np.bool_]
    volume_cm3: float


def structures_from_rtstruct(dataset: Dataset, grid: Grid) -> list[DeliveredStructure]:
    """Read the structures of an RT Structure Set (PS3.3 A.19) onto the grid of its series, in the object's order.

    Raises
    ------
    InputError
        A contour refers to an image that is not in the grid.
    """
    slices = {(plane.sop_instance_uid, plane.frame_number): index for index, plane in enumerate(grid.planes)}
    drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence", [])}
    observed = {int(item.ReferencedROINumber): item for item in dataset.get("RTROIObservationsSequence", [])}
    structures = []
    for roi in dataset.StructureSetROISequence:
        item = drawn.get(int(roi.ROINumber), Dataset())
        contours = tuple(_contour(contour, slices) for contour in item.get("ContourSequence", []))
        mask = rasterise(contours, grid)
        structures.append(
            DeliveredStructure(
                name=str(roi.ROIName),
                colour_rgb=_colour(item),
                interpreted_type=str(observed.get(int(roi.ROINumber), Dataset()).get("RTROIInterpretedType") or ""),
                contours=contours,
                mask=mask,
                volume_cm3=float(np.count_nonzero(mask)) * grid.voxel_volume_mm3 / 1000,
            )
        )
    return structures


def _contour(item: Dataset, slices: dict[tuple[str, int | None], int]) -> Contour:
    image = item.ContourImageSequence[0]
    frame = image.get("ReferencedFrameNumber")
    place = (str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame))
    if place not in slices:
        raise InputError(f"A contour refers to the image {place[0]}, which is not in the series.")
    points = np.array(item.ContourData, dtype=np.float64).reshape(-1, 3)
    return Contour(slice_index=slices[place], points_lps_mm=points)


def _colour(item: Dataset) -> RGB:
    red, green, blue = item.get("ROIDisplayColor") or YELLOW
    return int(red), int(green), int(blue)
