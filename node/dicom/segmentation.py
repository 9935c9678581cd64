"""Label map -> Segmentation (PS3.3 A.51), type BINARY, by highdicom: one segment per structure, which may overlap."""

from collections.abc import Mapping, Sequence
from typing import Any

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription, SegmentsOverlapValues
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from node.dicom import wording
from node.dicom.identity import TYPE_2, date_and_time, headers_by_uid, inherit, moment, result_uid, valid_element
from node.domain.errors import InputError
from node.domain.grid import Grid, Plane
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.domain.masks import members
from node.domain.series import SeriesManifest
from node.domain.structures import Code, Provenance, StructureDefinition
from node.domain.volume import LabelMap

# Above the numbers that scanners give, and beside those of RT Structure Sets.
FIRST_SERIES_NUMBER = 9000

# CID 7162 Surface Processing Algorithm Family; the concept of a trained network.
ARTIFICIAL_INTELLIGENCE = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")


def segmentation(
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    manifest: SeriesManifest,
    source: Sequence[Dataset],
    provenance: Provenance,
) -> Dataset:
    """Build a BINARY Segmentation in Explicit VR Little Endian, ready for ``save_as``; equal arguments, equal bytes.

    Segment n is the n-th definition. Frames without a voxel of their segment are left out.

    Parameters
    ----------
    definitions
        Of structures that have voxels only.
    source
        Headers of the manifest's instances, in any order; pixel data is not needed.

    Raises
    ------
    InputError
        There is no structure, or a header is missing.
    """
    if not definitions:
        raise InputError("None of the model's structures is in this series.", "Check that the right model was chosen.")
    headers = headers_by_uid(manifest, source)
    first = next(iter(headers.values()))
    dataset = _built(label_map, definitions, _sources(manifest, headers), manifest, provenance)
    _name_sources(dataset, manifest.grid.planes, headers)
    _pin(dataset, manifest, provenance, date_and_time(moment(provenance, first)))
    inherit(dataset, first, manifest)
    return dataset


class _LayeredSegmentation(highdicom.seg.Segmentation):
    """A Segmentation of structures that share label values, from the label map itself.

    highdicom takes overlapping segments as an array with a last axis for segments. For 30 structures of 300 × 512 × 512
    voxels that is 2.4 GB, and it sums the axis as int64. These two hooks pick each plane of each segment when its
    turn comes; the rest is highdicom's.
    """

    def __init__(self, values_of_segment: Sequence[Sequence[int]], **attributes: Any) -> None:
        self._values_of_segment = values_of_segment
        super().__init__(**attributes)

    def _check_and_cast_pixel_array(  # type: ignore[override]
        self, pixel_array: NDArray[Any], *_: Any, **__: Any
    ) -> tuple[NDArray[Any], SegmentsOverlapValues]:
        values = [value for of_segment in self._values_of_segment for value in set(of_segment)]
        shared = len(set(values)) < len(values)
        return pixel_array, SegmentsOverlapValues.YES if shared else SegmentsOverlapValues.NO

    def _get_segment_pixel_array(  # type: ignore[override]
        self, pixel_array: NDArray[Any], segment_number: int, **_: Any
    ) -> NDArray[np.uint8]:
        return members(pixel_array, self._values_of_segment[segment_number - 1]).view(np.uint8)


def _built(
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    sources: Sequence[Dataset],
    manifest: SeriesManifest,
    provenance: Provenance,
) -> Dataset:
    return _LayeredSegmentation(
        [definition.label_values for definition in definitions],
        source_images=sources,
        pixel_array=label_map.labels,
        segmentation_type="BINARY",
        segment_descriptions=_segment_descriptions(definitions, provenance),
        series_instance_uid=result_uid("SEG series", manifest, provenance),
        series_number=FIRST_SERIES_NUMBER + provenance.run_number,
        sop_instance_uid=result_uid("SEG instance", manifest, provenance),
        instance_number=provenance.run_number,
        manufacturer=wording.MANUFACTURER,
        manufacturer_model_name=wording.model_and_version(provenance),
        software_versions=provenance.software_version,
        device_serial_number=provenance.model_digest[: wording.LO],
        series_description=wording.series_description(provenance),
        content_label="SEGMENTATION",
        content_description=wording.NOTICE,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=None,
    )


def _segment_descriptions(
    definitions: Sequence[StructureDefinition], provenance: Provenance
) -> list[SegmentDescription]:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=wording.fitted(provenance.model_title, wording.LO),
        family=_concept(ARTIFICIAL_INTELLIGENCE),
        version=wording.fitted(provenance.model_version, wording.LO),
    )
    names = wording.unique_names([definition.name for definition in definitions])
    return [
        _segment_description(number, name, definition, algorithm)
        for number, (name, definition) in enumerate(zip(names, definitions, strict=True), start=1)
    ]


def _segment_description(
    number: int, name: str, definition: StructureDefinition, algorithm: highdicom.AlgorithmIdentificationSequence
) -> SegmentDescription:
    kind = _concept(definition.type)
    if definition.modifier is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(definition.modifier)]
    return SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=_concept(definition.category),
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        display_color=highdicom.color.CIELabColor.from_rgb(*definition.colour_rgb),
    )


def _concept(code: Code) -> highdicom.sr.CodedConcept:
    return highdicom.sr.CodedConcept(code.value, code.scheme, wording.fitted(code.meaning, wording.LO))


def _sources(manifest: SeriesManifest, headers: Mapping[str, Dataset]) -> list[Dataset]:
    """Give a clean single-frame header for each plane, in order.

    Made from the manifest instead of copied: headers from the field lack attributes that highdicom reads without
    asking, and hold values that break their VR.
    """
    return [
        _source(plane, number, headers[plane.sop_instance_uid], manifest)
        for number, plane in enumerate(manifest.grid.planes, start=1)
    ]


def _source(plane: Plane, number: int, header: Dataset, manifest: SeriesManifest) -> Dataset:
    source = Dataset()
    # Identity comes last, from ``inherit``: highdicom would tell names that it finds odd to the log.
    for keyword in TYPE_2:
        setattr(source, keyword, None)
    source.PatientName = "Placeholder^"
    source.StudyInstanceUID = manifest.study_instance_uid
    source.SOPClassUID = header.SOPClassUID if plane.frame_number is None else CTImageStorage
    source.SOPInstanceUID = _placeholder(number)
    source.SeriesInstanceUID = manifest.series_instance_uid
    source.FrameOfReferenceUID = manifest.frame_of_reference_uid
    source.Modality = manifest.modality
    source.Rows, source.Columns = plane.rows, plane.columns
    first = manifest.grid.planes[0]
    source.ImagePositionPatient = [_decimal(value) for value in plane.position_lps_mm]
    source.ImageOrientationPatient = [_decimal(value) for value in first.orientation]
    source.PixelSpacing = [_decimal(value) for value in first.pixel_spacing_mm]
    source.SliceThickness = _decimal(_thickness_mm(header, manifest.grid))
    if header.get("LossyImageCompression") == "01":
        # A mask drawn on a lossy image stays marked (PS3.3 C.8.20.2).
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            element = valid_element(header, keyword)
            if element is not None:
                source.add(element)
    return source


def _placeholder(number: int) -> str:
    """Give the UID that stands for a plane until ``_name_sources`` puts its instance and frame there."""
    return f"2.25.0.{number}"  # no real UID: its second last component is 0 below the UUID root


def _thickness_mm(header: Dataset, grid: Grid) -> float:
    """Give the stated Slice Thickness, or where it is missing, as in most multi-frame headers, the slices' distance."""
    try:
        stated = float(header.get("SliceThickness") or 0)
    except (ValueError, TypeError):
        stated = 0.0
    return stated if stated > 0 else grid.slice_spacing_mm or 1.0


def _decimal(value: float) -> str:
    """Give a DS with as many figures as its 16 characters hold."""
    for digits in range(15, 7, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{value:.7g}"


def _name_sources(dataset: Dataset, planes: Sequence[Plane], headers: Mapping[str, Dataset]) -> None:
    """Put instances and frames in place of the plane numbers that ``_source`` gave."""
    meant = {_placeholder(number): plane for number, plane in enumerate(planes, start=1)}
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in groups.DerivationImageSequence:
            for reference in derivation.SourceImageSequence:
                plane = meant.get(str(reference.ReferencedSOPInstanceUID))
                if plane is None:
                    continue  # frames of one plane share the item
                _name(reference, headers[plane.sop_instance_uid])
                if plane.frame_number is not None:
                    reference.ReferencedFrameNumber = plane.frame_number
    dataset.SourceImageSequence = [_name(Dataset(), header) for header in headers.values()]
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [
        _name(Dataset(), header) for header in headers.values()
    ]


def _name(reference: Dataset, header: Dataset) -> Dataset:
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


def _pin(dataset: Dataset, manifest: SeriesManifest, provenance: Provenance, when: tuple[str, str]) -> None:
    """Replace what highdicom took from the clock and from chance, and what it holds to be a single value."""
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.SoftwareVersions = wording.software_versions(provenance)
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = when
    dataset.ContentDate, dataset.ContentTime = when
    dataset.SeriesDate, dataset.SeriesTime = when
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = "".join(when)
    organization = result_uid("SEG dimensions", manifest, provenance)
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
