"""From a DICOM header to the facts of one instance.

Reads only what deciding needs. Patient identification goes in as attributes and comes out as a digest.
"""

import hashlib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.errors import BytesLengthException
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from node.domain.errors import InputError
from node.domain.grid import Cosines, Plane
from node.domain.instance import Concatenation, ReceivedInstance

SINGLE_FRAME_CLASSES = frozenset({CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage})
MULTI_FRAME_CLASSES = frozenset(
    {
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
    }
)

# Data elements that a route may ask for by their keyword. None identifies a patient.
_ROUTING_ELEMENTS = (
    "Modality",
    "SOPClassUID",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "BodyPartExamined",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "RequestedProcedureDescription",
    "ScanOptions",
    "SequenceName",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "PatientPosition",
    "SliceThickness",
    "MagneticFieldStrength",
)
# All that a route may ask for: the elements, the class by its name, and who sent to whom.
ROUTING_KEYWORDS = (*_ROUTING_ELEMENTS, "SOPClassName", "CallingAETitle", "CalledAETitle")

_PATIENT_ELEMENTS = ("PatientID", "PatientName", "IssuerOfPatientID", "PatientBirthDate")

# Where each of `node.domain.volumes.SPLITTING_KEYS` is in a single-frame image: its own element.
_SPLITTING_ELEMENTS = (
    "ImageType",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "EchoNumbers",
    "DiffusionBValue",
    "KVP",
    "AcquisitionNumber",
)
# Where it is in a frame (PS3.3 C.7.6.16 and C.8.13, C.8.15): the macro and the element in it.
_SPLITTING_MACROS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "ImageType": (
        ("CTImageFrameTypeSequence", "FrameType"),
        ("MRImageFrameTypeSequence", "FrameType"),
        ("PETFrameTypeSequence", "FrameType"),
    ),
    "TemporalPositionIdentifier": (("FrameContentSequence", "TemporalPositionIndex"),),
    "TriggerTime": (("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),),
    "EchoNumbers": (("MREchoSequence", "EffectiveEchoTime"),),
    "DiffusionBValue": (("MRDiffusionSequence", "DiffusionBValue"),),
    "KVP": (("CTXRayDetailsSequence", "KVP"),),
    "AcquisitionNumber": (("FrameContentSequence", "FrameAcquisitionNumber"),),
}

# What `received_instance` looks at: reading no more than this makes a header twice as fast to read.
HEADER_KEYWORDS = (
    *_ROUTING_ELEMENTS,
    *_PATIENT_ELEMENTS,
    *_SPLITTING_ELEMENTS,
    "ImagesInAcquisition",
    "NumberOfSeriesRelatedInstances",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
HEADER_TAGS: list[int] = [tag for keyword in HEADER_KEYWORDS if (tag := tag_for_keyword(keyword)) is not None]

# PS3.5 9.1: components of digits with dots between, 64 characters at most. Leading zeros are wrong but common.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_FRAME_TYPE_SEQUENCES = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")
# What pydicom raises while it converts a value that is not of its VR.
_UNREADABLE = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    NotImplementedError,
    AttributeError,
    BytesLengthException,
    OSError,
    struct.error,
)


def received_instance(dataset: Dataset, *, pixel_digest: str, received_at: float, file_name: str) -> ReceivedInstance:
    """Take the facts of one instance from its header.

    Parameters
    ----------
    dataset
        With its file meta information; `HEADER_TAGS` suffice, pixel data is not looked at.
    pixel_digest
        Digest of Pixel Data as it lies in the file; empty where there is none.
    received_at
        Seconds since the epoch.

    Raises
    ------
    InputError
        A UID that tells instances, series or studies apart is missing or empty, one of them or the Frame of Reference
        UID is no UID, or a value of the geometry is not readable. An instance that simply is no image plane is no
        error: `not_an_image` says why.
    """
    try:
        return _received_instance(dataset, pixel_digest, received_at, file_name)
    except _UNREADABLE as error:
        # A damaged header can make pydicom raise anywhere, and a sequence turn out to be a text. Without the error's
        # own words, which may quote a value.
        raise InputError(f"The header is damaged: {type(error).__name__}.") from error


def functional_group(dataset: Dataset, frame_number: int, keyword: str) -> Dataset | None:
    """Give the macro ``keyword`` of one frame, from the per-frame or else the shared groups; None where absent.

    PS3.3 C.7.6.16.1: a macro is in one of the two, never in both.

    Parameters
    ----------
    frame_number
        From 1; without per-frame groups of its own it has the shared ones only.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    own = per_frame[frame_number - 1 : frame_number]
    for group in (*own, *(dataset.get("SharedFunctionalGroupsSequence") or ())):
        macro = group.get(keyword)
        if macro:
            item = macro[0]
            return item if isinstance(item, Dataset) else None
    return None


def slice_thickness_mm(header: Dataset, plane: Plane) -> float | None:
    """Give the Slice Thickness that an instance states of one of its planes; None where it states none."""
    measures = functional_group(header, plane.frame_number or 1, "PixelMeasuresSequence") or header
    try:
        thickness_mm = float(measures.get("SliceThickness") or 0)
    except _UNREADABLE:
        return None
    return thickness_mm if 0 < thickness_mm < math.inf else None


def _received_instance(dataset: Dataset, pixel_digest: str, received_at: float, file_name: str) -> ReceivedInstance:
    sop_instance_uid = _required_uid(dataset, "SOPInstanceUID")
    image_type = _strings(dataset, "ImageType")
    not_an_image = _why_no_image(dataset, image_type)
    planes: tuple[Plane, ...] = ()
    if not_an_image is None:
        planes, not_an_image = _planes(dataset, sop_instance_uid) if pixel_digest else ((), "Pixel Data is missing")
    return ReceivedInstance(
        sop_instance_uid=sop_instance_uid,
        sop_class_uid=_required_uid(dataset, "SOPClassUID"),
        series_instance_uid=_required_uid(dataset, "SeriesInstanceUID"),
        study_instance_uid=_required_uid(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=_uid(dataset, "FrameOfReferenceUID"),
        patient_digest=patient_digest(dataset),
        pixel_digest=pixel_digest,
        modality=_text(dataset, "Modality"),
        image_type=image_type,
        planes=planes,
        not_an_image=not_an_image,
        instance_number=_whole_number(dataset, "InstanceNumber"),
        plane_keys=tuple(_plane_keys(dataset, plane) for plane in planes),
        images_in_acquisition=_whole_number(dataset, "ImagesInAcquisition"),
        series_related_instances=_whole_number(dataset, "NumberOfSeriesRelatedInstances"),
        concatenation=_concatenation(dataset),
        attributes=_attributes(dataset),
        received_at=received_at,
        file_name=file_name,
    )


def _why_no_image(dataset: Dataset, image_type: Sequence[str]) -> str | None:
    sop_class_uid = UID(_required_uid(dataset, "SOPClassUID"))
    if sop_class_uid not in SINGLE_FRAME_CLASSES | MULTI_FRAME_CLASSES:
        return f"{sop_class_uid.name} is no CT, MR or PET image"
    # PS3.3 C.8.2.1.1.1, C.8.3.1.1.1 and C.8.16.1.3: value 3 (or the flavor) says LOCALIZER.
    if "LOCALIZER" in image_type:
        return "localizer"
    # A Siemens mosaic shows all slices side by side in one "plane" whose position is that of none of them.
    if "MOSAIC" in image_type:
        return "mosaic of several slices in one image"
    samples = _integer(dataset, "SamplesPerPixel")
    if samples != 1:
        return f"{samples} samples per pixel instead of 1"
    return None


def _planes(dataset: Dataset, sop_instance_uid: str) -> tuple[tuple[Plane, ...], str | None]:
    frames = _integer(dataset, "NumberOfFrames") if dataset.get("NumberOfFrames") is not None else 1
    if _text(dataset, "SOPClassUID") in MULTI_FRAME_CLASSES:
        return _planes_of_frames(dataset, sop_instance_uid, frames)
    if frames != 1:
        return (), f"{frames} frames in a class that allows one"
    missing = _missing(dataset, dataset, dataset, dataset)
    if missing:
        return (), missing
    return (_plane(dataset, sop_instance_uid, None, (dataset, dataset, dataset)),), None


def _planes_of_frames(dataset: Dataset, sop_instance_uid: str, frames: int) -> tuple[tuple[Plane, ...], str | None]:
    described = len(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    if described != frames:  # type 1, one item per frame: PS3.3 C.7.6.16
        return (), f"functional groups for {described} of {frames} frames"
    planes = []
    for number in range(1, frames + 1):
        if _is_localizer_frame(dataset, number):
            continue
        position = functional_group(dataset, number, "PlanePositionSequence")
        orientation = functional_group(dataset, number, "PlaneOrientationSequence")
        measures = functional_group(dataset, number, "PixelMeasuresSequence")
        missing = _missing(dataset, position, orientation, measures)
        if missing or position is None or orientation is None or measures is None:
            return (), f"{missing} in frame {number}"
        planes.append(_plane(dataset, sop_instance_uid, number, (position, orientation, measures)))
    return tuple(planes), None if planes else "localizer"


def _is_localizer_frame(dataset: Dataset, frame_number: int) -> bool:
    for keyword in _FRAME_TYPE_SEQUENCES:
        frame_type = functional_group(dataset, frame_number, keyword)
        if frame_type is not None:
            return "LOCALIZER" in _strings(frame_type, "FrameType")
    return False


def _missing(
    image: Dataset, position: Dataset | None, orientation: Dataset | None, measures: Dataset | None
) -> str | None:
    wanted = (
        (position, "ImagePositionPatient"),
        (orientation, "ImageOrientationPatient"),
        (measures, "PixelSpacing"),
        (image, "Rows"),
        (image, "Columns"),
    )
    for dataset, keyword in wanted:
        if dataset is None or _is_empty(_value(dataset, keyword)):
            return f"{dictionary_description(keyword)} is missing"
    return None


def _plane(
    dataset: Dataset, sop_instance_uid: str, frame_number: int | None, groups: tuple[Dataset, Dataset, Dataset]
) -> Plane:
    position, orientation, measures = groups
    x, y, z = _numbers(position, "ImagePositionPatient", 3)
    between_rows, between_columns = _numbers(measures, "PixelSpacing", 2)
    cosines: Cosines = _six(_numbers(orientation, "ImageOrientationPatient", 6))
    return Plane(
        sop_instance_uid=sop_instance_uid,
        frame_number=frame_number,
        position_lps_mm=(x, y, z),
        orientation=cosines,
        pixel_spacing_mm=(between_rows, between_columns),
        rows=_integer(dataset, "Rows"),
        columns=_integer(dataset, "Columns"),
    )


def _six(numbers: Sequence[float]) -> Cosines:
    a, b, c, d, e, f = numbers
    return a, b, c, d, e, f


def patient_digest(dataset: Dataset) -> str:
    # The same patient must give the same digest from every modality: padding and empty name components differ.
    identification = "|".join(_readable_text(dataset, keyword).rstrip("^= ") for keyword in _PATIENT_ELEMENTS)
    return hashlib.sha256(identification.encode()).hexdigest()[:32]


def _attributes(dataset: Dataset) -> dict[str, str]:
    found = {keyword: _readable_text(dataset, keyword) for keyword in _ROUTING_ELEMENTS}
    found["SOPClassName"] = UID(found["SOPClassUID"]).name
    meta = getattr(dataset, "file_meta", None) or Dataset()
    # PS3.10 7.1: the Sending AE sent the file over a network; older writers only know the Source AE.
    found["CallingAETitle"] = _readable_text(meta, "SendingApplicationEntityTitle") or _readable_text(
        meta, "SourceApplicationEntityTitle"
    )
    found["CalledAETitle"] = _readable_text(meta, "ReceivingApplicationEntityTitle")
    return {keyword: value for keyword, value in found.items() if value}


def _plane_keys(dataset: Dataset, plane: Plane) -> dict[str, str]:
    """Give what may tell the plane's volume from others in the series; only what is there."""
    if plane.frame_number is None:
        found = {keyword: _readable_text(dataset, keyword) for keyword in _SPLITTING_ELEMENTS}
    else:
        found = {
            keyword: _in_frame(dataset, plane.frame_number, places) for keyword, places in _SPLITTING_MACROS.items()
        }
    return {keyword: value for keyword, value in found.items() if value}


def _in_frame(dataset: Dataset, frame_number: int, places: Sequence[tuple[str, str]]) -> str:
    for macro, keyword in places:
        group = functional_group(dataset, frame_number, macro)
        if group is not None:
            return _readable_text(group, keyword)
    return ""


def _concatenation(dataset: Dataset) -> Concatenation | None:
    uid, number = _uid(dataset, "ConcatenationUID"), _whole_number(dataset, "InConcatenationNumber")
    if uid is None or number is None:
        return None
    return Concatenation(uid=uid, number=number, total=_whole_number(dataset, "InConcatenationTotalNumber"))


def _whole_number(dataset: Dataset, keyword: str) -> int | None:
    try:
        value = _value(dataset, keyword)
        return None if _is_empty(value) else int(value)
    except (InputError, ValueError, TypeError):  # a hint, on which no pixel depends: a wrong one is as good as none
        return None


def _required_uid(dataset: Dataset, keyword: str) -> str:
    uid = _uid(dataset, keyword)
    if uid is None:
        raise InputError(f"{dictionary_description(keyword)} is missing or empty.")
    return uid


def _uid(dataset: Dataset, keyword: str) -> str | None:
    uid = _text(dataset, keyword)
    if not uid:
        return None
    if len(uid) > 64 or not _UID.fullmatch(uid):
        # Without the value: in a damaged header it may be anything, a name as well.
        raise InputError(f"{dictionary_description(keyword)} of {len(uid)} characters is no UID.")
    return uid


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    value = _value(dataset, keyword)
    values = [value] if isinstance(value, str | int | float) else list(value)
    if len(values) != count:
        raise InputError(f"{dictionary_description(keyword)} holds {len(values)} values instead of {count}.")
    try:
        numbers = [float(number) for number in values]
    except _UNREADABLE as error:
        raise InputError(f"{dictionary_description(keyword)} holds no numbers.") from error
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{dictionary_description(keyword)} {numbers} is not finite.")
    return numbers


def _integer(dataset: Dataset, keyword: str) -> int:
    value = _value(dataset, keyword)
    try:
        return int(value)
    except _UNREADABLE as error:
        raise InputError(f"{dictionary_description(keyword)} is no whole number.") from error


def _strings(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    text = _text(dataset, keyword)
    return tuple(part.strip() for part in text.split("\\")) if text else ()


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    if _is_empty(value):
        return ""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value).strip(" \0")
    return "\\".join(str(part).strip(" \0") for part in value)


def _readable_text(dataset: Dataset, keyword: str) -> str:
    """Give the text, or none where it cannot be read: for what no result depends on."""
    try:
        return _text(dataset, keyword)
    except InputError:
        return ""


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | Sequence) and len(value) == 0)


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except _UNREADABLE as error:
        raise InputError(f"{dictionary_description(keyword)} is not readable.") from error
