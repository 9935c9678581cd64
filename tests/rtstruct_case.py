"""A sound RT Structure Set with all that one can hold, what it is held against, and ways into its parts."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from node.dicom.rtstruct import SegmentReference, rtstruct
from node.dicom.verify_rtstruct import verify_rtstruct
from node.domain.contours import build_structures
from node.domain.grid import Grid
from node.domain.profiles import RoiName
from node.domain.scanlines import rasterise
from node.domain.series import SeriesManifest
from node.domain.structures import Code, Contour, Structure, StructureDefinition, StructureSet
from node.domain.volume import LabelMap
from tests.builders import JAPANESE, ball_and_box, ct_series, definition, grid, manifest_of, provenance, written

Change = Callable[[Dataset], None]

SEGMENTATION_UID, PREDECESSOR_UID = "2.25.77", "2.25.78"
SEGMENTATION_CLASS_UID = "1.2.840.10008.5.1.4.1.1.66.4"
SEGMENT_NUMBERS = {"Kidney_L": 1, "Kidney_R": 2, "Body": 3}
LEFT = Code(value="7771000", scheme="SCT", meaning="Left")
RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")

# Of the ball (1) with its core (2) and the box (3): the left kidney has a hole, and the spleen is nowhere.
KIDNEY_L = replace(definition("Kidney_L", 1), modifier=LEFT)
KIDNEY_R = replace(definition("Kidney_R", 3), modifier=RIGHT, colour_rgb=(1, 2, 3), interpreted_type="AVOIDANCE")
BODY = definition("Body", 1, 2, 3, interpreted_type="EXTERNAL")
SPLEEN = definition("Spleen", 9)
DEFINITIONS = (KIDNEY_L, KIDNEY_R, BODY, SPLEEN)
NAMES = (
    RoiName(structure="Kidney_L", name="Kid_L", reason="shortened"),
    RoiName(structure="Kidney_R", name="Kid_R", reason="shortened"),
    RoiName(structure="Body", name="Body"),
    RoiName(structure="Spleen", name="Spleen"),
)


class Case:
    """A sound object and what it is held against."""

    def __init__(self, stack: Grid, geometric_type: str = "CLOSED_PLANAR") -> None:
        source = ct_series(stack, identity=JAPANESE)
        self.manifest: SeriesManifest = manifest_of(source)
        self.label_map: LabelMap = ball_and_box(self.manifest.grid)
        found = build_structures(self.label_map, DEFINITIONS)
        structures = [*found.structures, Structure(definition=SPLEEN, contours=(), volume_cm3=0.0)]
        if geometric_type == "CLOSEDPLANAR_XOR":
            structures[0] = self._excluding(structures[0])
        self.written = written(
            rtstruct(
                StructureSet(structures=tuple(structures), omitted=()),
                self.manifest,
                source,
                provenance(),
                NAMES,
                SegmentReference(
                    sop_class_uid=SEGMENTATION_CLASS_UID,
                    sop_instance_uid=SEGMENTATION_UID,
                    segment_numbers=SEGMENT_NUMBERS,
                ),
                predecessor_uid=PREDECESSOR_UID,
            )
        )

    def _excluding(self, kidney: Structure) -> Structure:
        """Give the ball as one contour and its core as another that excludes."""
        drawn = build_structures(self.label_map, [definition("Ball", 1, 2), definition("Core", 2)]).structures
        return replace(kidney, contours=(*drawn[0].contours, *drawn[1].contours), geometric_type="CLOSEDPLANAR_XOR")

    def verify(self, faulty: bytes, definitions: Sequence[StructureDefinition] = DEFINITIONS) -> None:
        verify_rtstruct(
            faulty,
            self.label_map,
            definitions,
            self.manifest,
            NAMES,
            SEGMENTATION_UID,
            PREDECESSOR_UID,
            SEGMENT_NUMBERS,
            SEGMENTATION_CLASS_UID,
        )

    def changed(self, change: Change) -> bytes:
        dataset = dcmread(io.BytesIO(self.written))
        change(dataset)
        return written(dataset)


@lru_cache(maxsize=4)
def case(geometric_type: str = "CLOSED_PLANAR") -> Case:
    return Case(grid(), geometric_type)


def contours_of(dataset: Dataset, region: int = 0) -> list[Dataset]:
    return list(dataset.ROIContourSequence[region].ContourSequence)


def points_of(contour: Dataset) -> NDArray[np.float64]:
    return np.array(contour.ContourData, dtype=float).reshape(-1, 3)


def put(contour: Dataset, points: NDArray[np.float64]) -> None:
    contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
    contour.NumberOfContourPoints = len(points)


def filled(contour: Dataset, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    stack = case().manifest.grid
    planes = [plane.sop_instance_uid for plane in stack.planes]
    index = planes.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
    return rasterise([Contour(slice_index=index, points_lps_mm=points)], stack)
