"""Archives as clinics have them: series of `tests.builders` with structure sets that are written element by element.

Nothing of the node's own writer is used, so what is read is read against PS3.3 C.8.8.5 and C.8.8.6 alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import RTStructureSetStorage

from tests.builders import Identity, common_attributes, uid, with_file_meta, written

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One contour on an image."""

    image: Dataset
    points_lps_mm: Points
    geometric_type: str = "CLOSED_PLANAR"


@dataclass(frozen=True, kw_only=True)
class Roi:
    """One ROI."""

    name: str
    outlines: Sequence[Outline] = ()


def points_of(image: Dataset, corners: Sequence[tuple[float, float]]) -> Points:
    """Give the patient coordinates of (row, column) in pixels of an image: PS3.3 C.7.6.2.1.1."""
    position = np.array(image.ImagePositionPatient, dtype=float)
    along_row, along_column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = (float(each) for each in image.PixelSpacing)
    return np.array(
        [position + column * between_columns * along_row + row * between_rows * along_column for row, column in corners]
    )


def box(
    image: Dataset, rows: tuple[int, int], columns: tuple[int, int], geometric_type: str = "CLOSED_PLANAR"
) -> Outline:
    """Outline the pixels of these rows and columns, first and last, half a pixel outside of their centres."""
    top, bottom, left, right = rows[0] - 0.5, rows[1] + 0.5, columns[0] - 0.5, columns[1] + 0.5
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    return Outline(image=image, points_lps_mm=points_of(image, corners), geometric_type=geometric_type)


def boxes(images: Sequence[Dataset], name: str, rows: tuple[int, int], columns: tuple[int, int]) -> Roi:
    """Outline the same pixels on several images."""
    return Roi(name=name, outlines=[box(image, rows, columns) for image in images])


def rtstruct(
    images: Sequence[Dataset],
    rois: Sequence[Roi],
    *,
    seed: str = "structures",
    date: str = "20240301",
    label: str = "plan",
    patient_id: str | None = None,
) -> Dataset:
    """Build an RT Structure Set of a series."""
    first = images[0]
    dataset = common_attributes(Identity(), "structures " + seed, "RTSTRUCT", "HFS")
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SpecificCharacterSet"):
        setattr(dataset, keyword, first.get(keyword))
    if patient_id is not None:
        dataset.PatientID = patient_id
    del dataset.FrameOfReferenceUID, dataset.PatientPosition
    dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime = label, date, "120000"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(image) for image in images]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence = [_roi(number, roi.name, first) for number, roi in enumerate(rois, start=1)]
    dataset.ROIContourSequence = [_drawn(number, roi) for number, roi in enumerate(rois, start=1)]
    return with_file_meta(dataset, RTStructureSetStorage, uid(seed, "rtstruct"))


def segmentation(images: Sequence[Dataset], mask: NDArray[np.bool_], label: str, seed: str = "segments") -> Dataset:
    """Let highdicom write a Segmentation of one segment, ``[image, row, column]``."""
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=label,
        segmented_property_category=Code("91723000", "SCT", "Anatomical Structure"),
        segmented_property_type=Code("10200004", "SCT", "Liver"),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    return highdicom.seg.Segmentation(
        source_images=list(images),
        pixel_array=mask.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=uid(seed, "series"),
        series_number=9,
        sop_instance_uid=uid(seed, "instance"),
        instance_number=1,
        manufacturer="Builder",
        manufacturer_model_name="Model 1",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    )


def save(folder: Path, *datasets: Dataset) -> None:
    """Put objects into a folder, under names that say nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in datasets:
        (folder / f"{len(list(folder.iterdir())):06d}").write_bytes(written(dataset))


def person(number: int) -> Identity:
    """Give one of several patients, each with a study and a Frame of Reference."""
    return Identity(
        patient_name=f"Zimmerfrau{number}^Quirina",
        patient_id=f"HOSP-{7700 + number}",
        study=f"study {number}",
        frame_of_reference=f"frame {number}",
    )


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _roi(number: int, name: str, image: Dataset) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ROIName, item.ROIGenerationAlgorithm = number, name, "MANUAL"
    item.ReferencedFrameOfReferenceUID = image.FrameOfReferenceUID
    return item


def _drawn(number: int, roi: Roi) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = number
    if roi.outlines:
        item.ContourSequence = [_contour(outline) for outline in roi.outlines]
    return item


def _contour(outline: Outline) -> Dataset:
    item = Dataset()
    item.ContourImageSequence = [_reference(outline.image)]
    item.ContourGeometricType = outline.geometric_type
    item.NumberOfContourPoints = len(outline.points_lps_mm)
    item.ContourData = [f"{value:.4f}" for value in outline.points_lps_mm.ravel()]
    return item
