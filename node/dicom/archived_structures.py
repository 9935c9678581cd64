"""What a structure set of any vendor says, RT Structure Set or Segmentation: of which images it is, and its regions.

A lenient reader where vendors differ and nothing depends on it, and a strict one of references. Our own objects are
checked by readers of their own (``verify_rtstruct``, ``verify_segmentation``).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from node.dicom import UNREADABLE
from node.domain.errors import InputError
from node.domain.scanlines import Points

# Label Map Segmentation Storage (Supplement 243); older pydicom has no name for it.
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET_CLASSES: Mapping[str, Literal["RTSTRUCT", "SEG"]] = {
    str(RTStructureSetStorage): "RTSTRUCT",
    str(SegmentationStorage): "SEG",
    LABEL_MAP_STORAGE: "SEG",
}

# When somebody drew it, the best first: PS3.3 C.8.8.5, C.7.6.16, C.12.1.
_DATES = (
    ("StructureSetDate", "StructureSetTime"),
    ("ContentDate", "ContentTime"),
    ("InstanceCreationDate", "InstanceCreationTime"),
    ("SeriesDate", "SeriesTime"),
)
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d{2,6}(\.\d{1,6})?")

# SOP Instance UID and the frame, None for an object without frames.
ImageName = tuple[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionName:
    """A region of a structure set (an ROI, a segment), as a list of them shows it."""

    number: int
    name: str
    # Nothing is drawn.
    is_empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureSetFacts:
    """Of which images a structure set says it is, and the names of its regions. No image, no contour."""

    kind: Literal["RTSTRUCT", "SEG"]
    sop_instance_uid: str
    study_instance_uid: str
    patient_id: str
    # Structure Set Label, or the Series Description of a Segmentation.
    label: str
    # Date and time in the order of time; empty where it states none that is one.
    dated: str
    frames_of_reference: frozenset[str]
    # Series Instance UID -> SOP Instance UIDs of its images, as its lists of references name them; may be empty.
    series: Mapping[str, frozenset[str]]
    # SOP Instance UIDs that contours, or frames, say they lie on.
    drawn_on: frozenset[str]
    regions: tuple[RegionName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnContour:
    """One contour as written."""

    geometric_type: str
    # Images that it says it lies on; mostly one, or none.
    images: tuple[ImageName, ...]
    # Shape (n, 3), patient LPS, mm.
    points_lps_mm: Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One ROI with its contours."""

    name: str
    # Empty where it states none.
    frame_of_reference_uid: str
    contours: tuple[DrawnContour, ...]


def structure_set_facts(dataset: Dataset) -> StructureSetFacts:
    """Take the facts of an RT Structure Set or a Segmentation; pixel data is not needed.

    Raises
    ------
    InputError
        It is neither, or damaged.
    """
    kind = STRUCTURE_SET_CLASSES.get(str(dataset.get("SOPClassUID") or ""))
    if kind is None:
        raise InputError("It is neither an RT Structure Set nor a Segmentation.")
    try:
        return _facts_of_rtstruct(dataset) if kind == "RTSTRUCT" else _facts_of_segmentation(dataset)
    except UNREADABLE as error:
        # Without the error's own words, which may quote a value.
        raise InputError(f"The structure set is damaged: {type(error).__name__}.") from error


def read_region(dataset: Dataset, number: int) -> Region:
    """Read an ROI of an RT Structure Set.

    Raises
    ------
    InputError
        There is not exactly one of this ROI Number, or its contours are damaged.
    """
    try:
        found = [each for each in _items(dataset, "StructureSetROISequence") if int(each.ROINumber) == number]
        drawn = [each for each in _items(dataset, "ROIContourSequence") if int(each.ReferencedROINumber) == number]
        if len(found) != 1 or len(drawn) > 1:
            raise InputError(f"{len(found)} ROIs, and {len(drawn)} drawn ones, share one ROI Number")
        contours = tuple(_contour(item) for each in drawn for item in _items(each, "ContourSequence"))
    except UNREADABLE as error:
        raise InputError(f"its contours are damaged ({type(error).__name__})") from error
    return Region(
        name=_text(found[0], "ROIName"),
        frame_of_reference_uid=_text(found[0], "ReferencedFrameOfReferenceUID"),
        contours=contours,
    )


# RT Structure Set


def _facts_of_rtstruct(dataset: Dataset) -> StructureSetFacts:
    rois = _items(dataset, "StructureSetROISequence")
    drawn = {
        int(each.ReferencedROINumber): len(_items(each, "ContourSequence"))
        for each in _items(dataset, "ROIContourSequence")
    }
    frames, series = {_text(dataset, "FrameOfReferenceUID")}, {}
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        frames.add(_text(frame, "FrameOfReferenceUID"))
        for study in _items(frame, "RTReferencedStudySequence"):
            for one in _items(study, "RTReferencedSeriesSequence"):
                series[_text(one, "SeriesInstanceUID")] = _referenced(_items(one, "ContourImageSequence"))
    frames |= {_text(roi, "ReferencedFrameOfReferenceUID") for roi in rois}
    images = [
        image
        for each in _items(dataset, "ROIContourSequence")
        for contour in _items(each, "ContourSequence")
        for image in _items(contour, "ContourImageSequence")
    ]
    return StructureSetFacts(
        kind="RTSTRUCT",
        **_common(dataset, "StructureSetLabel"),
        frames_of_reference=frozenset(frames - {""}),
        series=series,
        drawn_on=_referenced(images),
        regions=tuple(
            RegionName(
                number=int(roi.ROINumber), name=_text(roi, "ROIName"), is_empty=not drawn.get(int(roi.ROINumber))
            )
            for roi in rois
        ),
    )


def _contour(item: Dataset) -> DrawnContour:
    # As text, all numbers at once: pydicom would make an object of each.
    element = item.get_item("ContourData")
    raw = element.value if element is not None else b""
    if isinstance(raw, bytes):
        numbers = np.array([float(each) for each in raw.rstrip(b" \0").split(b"\\") if each.strip()])
    else:
        numbers = np.array(item.ContourData or [], dtype=np.float64)
    if len(numbers) % 3 or not np.isfinite(numbers).all():
        raise InputError("a contour holds no points of three finite coordinates")
    return DrawnContour(
        geometric_type=_text(item, "ContourGeometricType"),
        images=tuple(_image_name(each) for each in _items(item, "ContourImageSequence")),
        points_lps_mm=numbers.reshape(-1, 3),
    )


def _image_name(item: Dataset) -> ImageName:
    frame = item.get("ReferencedFrameNumber")
    return _text(item, "ReferencedSOPInstanceUID"), None if frame in (None, "") else int(frame)


# Segmentation


def _facts_of_segmentation(dataset: Dataset) -> StructureSetFacts:
    series = {
        _text(each, "SeriesInstanceUID"): _referenced(_items(each, "ReferencedInstanceSequence"))
        for each in _items(dataset, "ReferencedSeriesSequence")
    }
    groups = [*_items(dataset, "SharedFunctionalGroupsSequence"), *_items(dataset, "PerFrameFunctionalGroupsSequence")]
    sources = [
        source
        for group in groups
        for derivation in _items(group, "DerivationImageSequence")
        for source in _items(derivation, "SourceImageSequence")
    ]
    drawn = {
        int(each.ReferencedSegmentNumber) for group in groups for each in _items(group, "SegmentIdentificationSequence")
    }
    is_label_map = _text(dataset, "SegmentationType") == "LABELMAP"
    return StructureSetFacts(
        kind="SEG",
        **_common(dataset, "SeriesDescription"),
        frames_of_reference=frozenset({_text(dataset, "FrameOfReferenceUID")} - {""}),
        series=series,
        drawn_on=_referenced(sources),
        regions=tuple(
            RegionName(
                number=int(each.SegmentNumber),
                name=_text(each, "SegmentLabel"),
                # Which labels a label map holds, its pixels say alone.
                is_empty=not is_label_map and int(each.SegmentNumber) not in drawn,
            )
            for each in _items(dataset, "SegmentSequence")
            # PS3.3 C.8.20.2: of a label map, segment 0 may be the background.
            if int(each.SegmentNumber) != 0
        ),
    )


# Both


def _common(dataset: Dataset, label: str) -> dict[str, Any]:
    uid = _text(dataset, "SOPInstanceUID")
    if not uid:
        raise InputError("SOP Instance UID is missing.")
    return {
        "sop_instance_uid": uid,
        "study_instance_uid": _text(dataset, "StudyInstanceUID"),
        "patient_id": _text(dataset, "PatientID"),
        "label": _text(dataset, label),
        "dated": _dated(dataset),
    }


def _dated(dataset: Dataset) -> str:
    for date, time in _DATES:
        day, hour = _text(dataset, date), _text(dataset, time)
        if _DATE.fullmatch(day):
            return day + (hour if _TIME.fullmatch(hour) else "")
    return ""


def _referenced(items: Iterable[Dataset]) -> frozenset[str]:
    return frozenset(_text(each, "ReferencedSOPInstanceUID") for each in items) - {""}


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or ())


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")
