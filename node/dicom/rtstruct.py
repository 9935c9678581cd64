"""Structure set -> RT Structure Set (PS3.3 A.19.3).

Implicit VR Little Endian: in Explicit VR, Contour Data beyond 65,534 bytes turns into UN, and planning systems do not
load it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset, FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

import node
from node.dicom import wording
from node.dicom.contour_encoding import encoded_contours, encoded_item
from node.dicom.identity import date_and_time, file_meta_of, headers_by_uid, inherit, moment, result_uid
from node.domain.errors import InputError
from node.domain.grid import Plane
from node.domain.profiles import RoiName
from node.domain.series import SeriesManifest
from node.domain.structures import Code, Provenance, Structure, StructureSet

# Detached Study Management, retired: a study has no SOP class, yet RT Referenced Study Sequence asks for one, and this
# is what planning systems write there.
STUDY_CLASS_UID = "1.2.840.10008.3.1.2.3.1"

# Above the numbers that scanners give, so that results stand last in a list of series.
FIRST_SERIES_NUMBER = 8000

CONTOUR_SEQUENCE = Tag("ContourSequence")
ROI_CONTOUR_SEQUENCE = Tag("ROIContourSequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReference:
    """The Segmentation of the same result, which the regions were drawn around."""

    sop_class_uid: str
    sop_instance_uid: str
    # Segment Number by the structure's name; a structure that is no segment of its own is not in it.
    segment_numbers: Mapping[str, int]


def rtstruct(
    structure_set: StructureSet,
    manifest: SeriesManifest,
    source: Sequence[Dataset],
    provenance: Provenance,
    names: Sequence[RoiName] | None = None,
    segmentation: SegmentReference | None = None,
    form: str = "",
    label_length: int = wording.SH,
    predecessor_uid: str | None = None,
) -> FileDataset:
    """Build an RT Structure Set, ready for ``save_as``; equal arguments give equal bytes.

    ROI n is the n-th structure; one without contours is listed without Contour Sequence.

    Parameters
    ----------
    source
        Headers of the manifest's instances, in any order; pixel data is not needed.
    names
        What each structure is called, in their order; by default its own name, made unique.
    form
        Tells this form of the result from others for other receivers: each has UIDs of its own.
    label_length
        Longest Structure Set Label, at most 16.
    predecessor_uid
        SOP Instance UID of the RT Structure Set that this one takes the place of.

    Raises
    ------
    InputError
        There is no structure, or a header is missing.
    """
    if not structure_set.structures:
        raise InputError("None of the model's structures is in this series.", "Check that the right model was chosen.")
    regions = _regions(structure_set, names)
    headers = headers_by_uid(manifest, source)
    first = next(iter(headers.values()))
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    inherit(dataset, first, manifest.study_instance_uid)
    _add_series_and_equipment(dataset, manifest, provenance, form)
    _add_times(dataset, date_and_time(moment(provenance.created_at, first)))
    dataset.InstanceNumber = provenance.run_number
    dataset.StructureSetLabel = wording.structure_set_label(provenance, label_length)
    dataset.StructureSetName = wording.model_and_version(provenance)
    renamed = [name for _, name in regions if name.reason]
    dataset.StructureSetDescription = wording.description(
        provenance,
        structure_set.omitted,
        node.DISCLAIMER,
        renamed,
        listed=any(not structure.contours for structure in structure_set.structures),
    )
    _add_references(dataset, manifest, headers)
    _add_regions(dataset, regions, manifest, provenance)
    if segmentation is not None:
        _add_definition_source(dataset, regions, segmentation)
    if predecessor_uid is not None:
        dataset.PredecessorStructureSetSequence = [_reference(RTStructureSetStorage, predecessor_uid)]
    _add_contours(dataset, structure_set, manifest, headers)
    _add_observations(dataset, regions)
    dataset.ApprovalStatus = "UNAPPROVED"
    return _with_file_meta(dataset)


Region = tuple[Structure, RoiName]


def _regions(structure_set: StructureSet, names: Sequence[RoiName] | None) -> list[Region]:
    if names is None:
        own = [structure.definition.name for structure in structure_set.structures]
        names = [
            RoiName(
                structure=one, name=unique, reason="" if one == unique else "to be unique, in ASCII and 64 characters"
            )
            for one, unique in zip(own, wording.unique_names(own), strict=True)
        ]
    return list(zip(structure_set.structures, names, strict=True))


def _add_series_and_equipment(dataset: Dataset, manifest: SeriesManifest, provenance: Provenance, form: str) -> None:
    """RT Series (C.8.8.1), Frame of Reference (C.7.4.1), General Equipment (C.7.5.1), SOP Common (C.12.1)."""
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = result_uid("RTSTRUCT instance", manifest, provenance, form)
    dataset.SeriesInstanceUID = result_uid("RTSTRUCT series", manifest, provenance, form)
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


def _add_references(dataset: Dataset, manifest: SeriesManifest, headers: Mapping[str, Dataset]) -> None:
    """Referenced Frame of Reference Sequence with every instance of the manifest (C.8.8.5.4)."""
    frames: dict[str, list[int]] = {uid: [] for uid in headers}
    for plane in manifest.grid.planes:
        if plane.frame_number is not None:
            frames[plane.sop_instance_uid].append(plane.frame_number)
    series = Dataset()
    series.SeriesInstanceUID = manifest.series_instance_uid
    series.ContourImageSequence = [_image_reference(headers[uid], numbers) for uid, numbers in frames.items()]
    study = _reference(STUDY_CLASS_UID, manifest.study_instance_uid)
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference = Dataset()
    frame_of_reference.FrameOfReferenceUID = manifest.frame_of_reference_uid
    frame_of_reference.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame_of_reference]


def _image_reference(header: Dataset, frame_numbers: Sequence[int]) -> Dataset:
    """Image SOP Instance Reference Macro (table 10-3)."""
    item = _reference(header.SOPClassUID, header.SOPInstanceUID)
    if frame_numbers:
        item.ReferencedFrameNumber = sorted(frame_numbers)
    return item


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """SOP Instance Reference Macro (table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _add_regions(dataset: Dataset, regions: Sequence[Region], manifest: SeriesManifest, provenance: Provenance) -> None:
    """Structure Set ROI Sequence (C.8.8.5)."""
    items = []
    for number, (structure, name) in enumerate(regions, start=1):
        item = Dataset()
        item.ROINumber = number
        item.ReferencedFrameOfReferenceUID = manifest.frame_of_reference_uid
        item.ROIName = name.name
        if name.reason:
            item.ROIDescription = wording.fitted(f"{name.structure}: {name.reason}", wording.ST)
        item.ROIVolume = f"{structure.volume_cm3:.6g}"
        item.ROIGenerationAlgorithm = "AUTOMATIC"
        item.ROIGenerationDescription = wording.model_and_version(provenance)
        items.append(item)
    dataset.StructureSetROISequence = items


def _add_definition_source(dataset: Dataset, regions: Sequence[Region], segmentation: SegmentReference) -> None:
    """Definition Source Sequence (C.8.8.5): the segment that a ROI was drawn around."""
    for item, (structure, _) in zip(dataset.StructureSetROISequence, regions, strict=True):
        number = segmentation.segment_numbers.get(structure.definition.name)
        if number is not None:
            segment = _reference(segmentation.sop_class_uid, segmentation.sop_instance_uid)
            segment.ReferencedSegmentNumber = number
            item.DefinitionSourceSequence = [segment]


def _add_contours(
    dataset: Dataset, structure_set: StructureSet, manifest: SeriesManifest, headers: Mapping[str, Dataset]
) -> None:
    """ROI Contour (C.8.8.6), encoded: pydicom keeps it as it is when it writes in the same encoding."""
    images = [_encoded_image_sequence(plane, headers) for plane in manifest.grid.planes]
    content = BytesIO()
    for number, structure in enumerate(structure_set.structures, start=1):
        item = Dataset()
        item.ROIDisplayColor = list(structure.definition.colour_rgb)
        if structure.contours:
            item[CONTOUR_SEQUENCE] = _raw_sequence(CONTOUR_SEQUENCE, encoded_contours(structure, images))
        item.ReferencedROINumber = number
        content.write(encoded_item(_encoded(item)))
    dataset[ROI_CONTOUR_SEQUENCE] = _raw_sequence(ROI_CONTOUR_SEQUENCE, content.getvalue())


def _encoded_image_sequence(plane: Plane, headers: Mapping[str, Dataset]) -> bytes:
    """Encode Contour Image Sequence with its one item; the contours of a plane share it."""
    frames = [] if plane.frame_number is None else [plane.frame_number]
    return encoded_item(_encoded(_image_reference(headers[plane.sop_instance_uid], frames)))


def _encoded(item: Dataset) -> bytes:
    """Encode in Implicit VR Little Endian; raw elements of the item are in it already."""
    item.set_original_encoding(True, True, "iso8859")
    content = DicomBytesIO()
    content.is_little_endian = content.is_implicit_VR = True
    write_dataset(content, item)
    return content.getvalue()


def _raw_sequence(tag: BaseTag, items: bytes) -> RawDataElement:
    return RawDataElement(tag, "SQ", len(items), items, 0, True, True)


def _add_observations(dataset: Dataset, regions: Sequence[Region]) -> None:
    """RT ROI Observations (C.8.8.8)."""
    items = []
    for number, (structure, name) in enumerate(regions, start=1):
        definition = structure.definition
        kind = _code_item(definition.type)
        if definition.modifier is not None:
            kind.SegmentedPropertyTypeModifierCodeSequence = [_code_item(definition.modifier)]
        item = Dataset()
        item.ObservationNumber = number
        item.ReferencedROINumber = number
        item.ROIObservationLabel = wording.fitted(name.name, wording.SH)
        item.RTROIInterpretedType = definition.interpreted_type
        item.ROIInterpreter = None
        item.SegmentedPropertyCategoryCodeSequence = [_code_item(definition.category)]
        item.RTROIIdentificationCodeSequence = [kind]
        items.append(item)
    dataset.RTROIObservationsSequence = items


def _code_item(code: Code) -> Dataset:
    """Code Sequence Macro (table 8.8-1)."""
    item = Dataset()
    # Code Value is SH; SNOMED CT knows identifiers of up to 18 digits.
    setattr(item, "CodeValue" if len(code.value) <= wording.SH else "LongCodeValue", code.value)
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = wording.fitted(code.meaning, wording.LO)
    return item


def _with_file_meta(dataset: FileDataset) -> FileDataset:
    dataset.file_meta = file_meta_of(dataset, ImplicitVRLittleEndian)
    # Said to be in the encoding in which it is written, or pydicom would read all contours and write them anew.
    dataset.set_original_encoding(True, True, dataset._character_set)
    return dataset
