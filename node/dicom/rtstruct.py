"""Structure set -> RT Structure Set (PS3.3 A.19.3).

Implicit VR Little Endian: in Explicit VR, Contour Data beyond 65,534 bytes turns into UN, and planning systems do not
load it.
"""

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage

import node
from node.dicom import wording
from node.dicom.identity import date_and_time, headers_by_uid, inherit, moment, result_uid
from node.domain.errors import InputError
from node.domain.grid import Plane
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.domain.series import SeriesManifest
from node.domain.structures import Code, Contour, Provenance, Structure, StructureSet

# Detached Study Management, retired: a study has no SOP class, yet RT Referenced Study Sequence asks for one, and this
# is what planning systems write there.
STUDY_CLASS_UID = "1.2.840.10008.3.1.2.3.1"

# Above the numbers that scanners give, so that results stand last in a list of series.
FIRST_SERIES_NUMBER = 8000

CONTOUR_SEQUENCE = Tag("ContourSequence")

# Longest value of DS (PS3.5 table 6.2-1); planning systems refuse longer ones.
DS_LENGTH = 16


def rtstruct(
    structure_set: StructureSet,
    manifest: SeriesManifest,
    source: Sequence[Dataset],
    provenance: Provenance,
    segmentation_uid: tuple[str, str] | None = None,
) -> FileDataset:
    """Build an RT Structure Set, ready for ``save_as``; equal arguments give equal bytes.

    Parameters
    ----------
    source
        Headers of the manifest's instances, in any order; pixel data is not needed.
    segmentation_uid
        SOP Class UID and SOP Instance UID of the Segmentation of the same result, whose segment n is ROI n.

    Raises
    ------
    InputError
        There is no structure, or a header is missing.
    """
    if not structure_set.structures:
        raise InputError("None of the model's structures is in this series.", "Check that the right model was chosen.")
    headers = headers_by_uid(manifest, source)
    first = next(iter(headers.values()))
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    inherit(dataset, first, manifest)
    _add_series_and_equipment(dataset, manifest, provenance)
    _add_times(dataset, date_and_time(moment(provenance, first)))
    _add_structure_set(dataset, structure_set, provenance)
    _add_references(dataset, manifest, headers)
    _add_regions(dataset, structure_set, manifest, provenance)
    if segmentation_uid is not None:
        _add_definition_source(dataset, segmentation_uid)
    _add_contours(dataset, structure_set, manifest, headers)
    _add_observations(dataset, structure_set)
    dataset.ApprovalStatus = "UNAPPROVED"
    return _with_file_meta(dataset)


def _add_series_and_equipment(dataset: Dataset, manifest: SeriesManifest, provenance: Provenance) -> None:
    """RT Series (C.8.8.1), Frame of Reference (C.7.4.1), General Equipment (C.7.5.1), SOP Common (C.12.1)."""
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = result_uid("RTSTRUCT instance", manifest, provenance)
    dataset.SeriesInstanceUID = result_uid("RTSTRUCT series", manifest, provenance)
    dataset.SeriesNumber = FIRST_SERIES_NUMBER + provenance.run_number
    dataset.SeriesDescription = wording.series_description(provenance)
    dataset.Modality = "RTSTRUCT"
    dataset.OperatorsName = None
    dataset.FrameOfReferenceUID = manifest.frame_of_reference_uid
    dataset.PositionReferenceIndicator = None
    dataset.Manufacturer = wording.MANUFACTURER
    dataset.ManufacturerModelName = wording.model_and_version(provenance)
    dataset.SoftwareVersions = wording.software_versions(provenance)


def _add_times(dataset: Dataset, when: tuple[str, str]) -> None:
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = when
    dataset.SeriesDate, dataset.SeriesTime = when
    dataset.StructureSetDate, dataset.StructureSetTime = when


def _add_structure_set(dataset: Dataset, structure_set: StructureSet, provenance: Provenance) -> None:
    """Structure Set (C.8.8.5), the part about the set as a whole."""
    dataset.InstanceNumber = provenance.run_number
    dataset.StructureSetLabel = wording.structure_set_label(provenance)
    dataset.StructureSetName = wording.model_and_version(provenance)
    dataset.StructureSetDescription = wording.description(provenance, structure_set.omitted, node.DISCLAIMER)


def _add_references(dataset: Dataset, manifest: SeriesManifest, headers: Mapping[str, Dataset]) -> None:
    """Referenced Frame of Reference Sequence with every instance of the manifest (C.8.8.5.4)."""
    frames: dict[str, list[int]] = {uid: [] for uid in headers}
    for plane in manifest.grid.planes:
        if plane.frame_number is not None:
            frames[plane.sop_instance_uid].append(plane.frame_number)
    series = Dataset()
    series.SeriesInstanceUID = manifest.series_instance_uid
    series.ContourImageSequence = [_image_reference(headers[uid], numbers) for uid, numbers in frames.items()]
    study = Dataset()
    study.ReferencedSOPClassUID = STUDY_CLASS_UID
    study.ReferencedSOPInstanceUID = manifest.study_instance_uid
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference = Dataset()
    frame_of_reference.FrameOfReferenceUID = manifest.frame_of_reference_uid
    frame_of_reference.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame_of_reference]


def _image_reference(header: Dataset, frame_numbers: Sequence[int]) -> Dataset:
    """Image SOP Instance Reference Macro (table 10-3)."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame_numbers:
        item.ReferencedFrameNumber = sorted(frame_numbers)
    return item


def _add_regions(
    dataset: Dataset, structure_set: StructureSet, manifest: SeriesManifest, provenance: Provenance
) -> None:
    """Structure Set ROI Sequence (C.8.8.5); ROI n is the n-th structure."""
    items = []
    for number, (structure, name) in enumerate(_named(structure_set), start=1):
        item = Dataset()
        item.ROINumber = number
        item.ReferencedFrameOfReferenceUID = manifest.frame_of_reference_uid
        item.ROIName = name
        item.ROIVolume = f"{structure.volume_cm3:.6g}"
        item.ROIGenerationAlgorithm = "AUTOMATIC"
        item.ROIGenerationDescription = wording.model_and_version(provenance)
        items.append(item)
    dataset.StructureSetROISequence = items


def _add_definition_source(dataset: Dataset, segmentation_uid: tuple[str, str]) -> None:
    """Definition Source Sequence: the segment that a ROI was drawn around."""
    for item in dataset.StructureSetROISequence:
        segment = Dataset()
        segment.ReferencedSOPClassUID, segment.ReferencedSOPInstanceUID = segmentation_uid
        segment.ReferencedSegmentNumber = item.ROINumber
        item.DefinitionSourceSequence = [segment]


def _add_contours(
    dataset: Dataset, structure_set: StructureSet, manifest: SeriesManifest, headers: Mapping[str, Dataset]
) -> None:
    """ROI Contour (C.8.8.6).

    Contour Sequence is encoded here: pydicom would make an object of every item and of every number, several seconds
    for a large set. It keeps raw elements as they are if the item is said to be in the encoding in which it is written.
    """
    images = [_encoded_image_sequence(plane, headers) for plane in manifest.grid.planes]
    items = []
    for number, structure in enumerate(structure_set.structures, start=1):
        contours = [
            _encoded_item(_encoded_contour(contour, count, images[contour.slice_index]))
            for count, contour in enumerate(structure.contours, start=1)
        ]
        item = Dataset()
        item.ROIDisplayColor = list(structure.definition.colour_rgb)
        item[CONTOUR_SEQUENCE] = _raw_sequence(CONTOUR_SEQUENCE, b"".join(contours))
        item.ReferencedROINumber = number
        item.set_original_encoding(True, True, "iso8859")
        items.append(item)
    dataset.ROIContourSequence = items


def _encoded_contour(contour: Contour, number: int, image_sequence: bytes) -> bytes:
    """Encode the elements of an item of Contour Sequence, in the order of their tags."""
    coordinates = "\\".join(map(_decimal_string, contour.points_lps_mm.ravel().tolist()))
    return (
        _encoded_element("ContourImageSequence", image_sequence)
        + _encoded_element("ContourGeometricType", b"CLOSED_PLANAR")
        + _encoded_element("NumberOfContourPoints", b"%d" % len(contour.points_lps_mm))
        + _encoded_element("ContourNumber", b"%d" % number)
        + _encoded_element("ContourData", coordinates.encode())
    )


def _decimal_string(value: float) -> str:
    """Give the shortest text of a coordinate; contours are rounded already, so none needs cutting."""
    text = repr(value)
    if len(text) <= DS_LENGTH and "e" not in text:
        return text.removesuffix(".0")
    return np.format_float_positional(round(value, 4), trim="-")


def _encoded_image_sequence(plane: Plane, headers: Mapping[str, Dataset]) -> bytes:
    """Encode Contour Image Sequence with its one item; the contours of a plane share it."""
    frames = [] if plane.frame_number is None else [plane.frame_number]
    content = DicomBytesIO()
    content.is_little_endian = content.is_implicit_VR = True
    write_dataset(content, _image_reference(headers[plane.sop_instance_uid], frames))
    return _encoded_item(content.getvalue())


def _encoded_element(keyword: str, value: bytes) -> bytes:
    """Encode an element in Implicit VR Little Endian (PS3.5 7.1.3)."""
    tag = Tag(keyword)
    padded = value + b" " * (len(value) % 2)
    return struct.pack("<HHL", tag.group, tag.element, len(padded)) + padded


def _encoded_item(content: bytes) -> bytes:
    """Encode an item of a sequence, of explicit length (PS3.5 7.5.1)."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def _raw_sequence(tag: BaseTag, items: bytes) -> RawDataElement:
    return RawDataElement(tag, "SQ", len(items), items, 0, True, True)


def _add_observations(dataset: Dataset, structure_set: StructureSet) -> None:
    """RT ROI Observations (C.8.8.8)."""
    items = []
    for number, (structure, name) in enumerate(_named(structure_set), start=1):
        definition = structure.definition
        kind = _code_item(definition.type)
        if definition.modifier is not None:
            kind.SegmentedPropertyTypeModifierCodeSequence = [_code_item(definition.modifier)]
        item = Dataset()
        item.ObservationNumber = number
        item.ReferencedROINumber = number
        item.ROIObservationLabel = wording.fitted(name, wording.SH)
        item.RTROIInterpretedType = definition.interpreted_type
        item.ROIInterpreter = None
        item.SegmentedPropertyCategoryCodeSequence = [_code_item(definition.category)]
        item.RTROIIdentificationCodeSequence = [kind]
        items.append(item)
    dataset.RTROIObservationsSequence = items


def _named(structure_set: StructureSet) -> list[tuple[Structure, str]]:
    names = wording.unique_names([structure.definition.name for structure in structure_set.structures])
    return list(zip(structure_set.structures, names, strict=True))


def _code_item(code: Code) -> Dataset:
    """Code Sequence Macro (table 8.8-1)."""
    item = Dataset()
    # Code Value is SH; SNOMED CT knows identifiers of up to 18 digits.
    setattr(item, "CodeValue" if len(code.value) <= wording.SH else "LongCodeValue", code.value)
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = wording.fitted(code.meaning, wording.LO)
    return item


def _with_file_meta(dataset: FileDataset) -> FileDataset:
    """File Meta Information (PS3.10 7.1)."""
    meta = dataset.file_meta
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return dataset
