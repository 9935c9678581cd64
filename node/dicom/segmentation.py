"""Label map -> Segmentation or Label Map Segmentation (PS3.3 A.51), drawn up by highdicom, with frames of our own.

highdicom draws up the object for images of one pixel, with a frame for each plane: modules, shared functional groups,
dimensions, the order of planes. What is many or large is put in here, in bytes: the functional groups of each frame,
and the pixels, a plane at a time. Nothing is ever held for all segments at once.
"""

from collections.abc import Mapping, Sequence

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from node.dicom import wording
from node.dicom.fractions import MAXIMUM_FRACTIONAL_VALUE
from node.dicom.functional_groups import FunctionalGroups
from node.dicom.identity import date_and_time, headers_by_uid, inherit, moment, result_uid
from node.dicom.segmentation_frames import Frames, binary_frames, fractional_frames, labelmap_frames
from node.dicom.segmentation_planes import planes_are_alike, state_each_plane
from node.dicom.segmentation_source import plane_index, source_headers
from node.domain.errors import InputError
from node.domain.grid import Plane
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.domain.routing import SegmentationEncoding
from node.domain.series import SeriesManifest
from node.domain.structures import Code, Provenance, StructureDefinition
from node.domain.volume import LabelMap, Probabilities

# Above the numbers that scanners give, and beside those of RT Structure Sets.
FIRST_SERIES_NUMBER = 9000

# CID 7162 Surface Processing Algorithm Family; the concept of a trained network.
ARTIFICIAL_INTELLIGENCE = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")

TRANSFER_SYNTAXES: Mapping[SegmentationEncoding, UID] = {
    # PS3.5 8.2: RLE is for whole bytes.
    "binary": ExplicitVRLittleEndian,
    "labelmap": RLELossless,
    "fractional": RLELossless,
}

PIXEL_DATA = Tag("PixelData")
PER_FRAME_GROUPS = Tag("PerFrameFunctionalGroupsSequence")


def segmentation(
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    manifest: SeriesManifest,
    source: Sequence[Dataset],
    provenance: Provenance,
    encoding: SegmentationEncoding = "binary",
    probabilities: Probabilities | None = None,
) -> Dataset:
    """Build a Segmentation, ready for ``save_as``; equal arguments, equal bytes.

    Segment n is the n-th definition. Frames without a voxel of their segment (without any, in a label map) are left
    out.

    Parameters
    ----------
    definitions
        Of structures that have voxels only.
    source
        Headers of the manifest's instances, in any order; pixel data is not needed.
    encoding
        "binary": one bit for each voxel and segment, Explicit VR Little Endian. "labelmap": Segment Numbers, RLE
        Lossless. "fractional": probabilities (``node.dicom.fractions``), RLE Lossless.
    probabilities
        Needed for "fractional", and not looked at otherwise.

    Raises
    ------
    InputError
        There is no structure, a header is missing, structures share voxels that are to be a label map
        (``why_no_labelmap``), or there are no probabilities to write.
    """
    frames = _frames(label_map, definitions, encoding, probabilities) if definitions else None
    if frames is None or not frames.filled.any():
        raise InputError("None of the model's structures is in this series.", "Check that the right model was chosen.")
    headers = headers_by_uid(manifest, source)
    first = next(iter(headers.values()))
    sources = source_headers(manifest, headers)
    dataset = _drawn_up(frames.filled, definitions, sources, manifest, provenance, encoding)
    order = [plane_index(_source(groups)) for groups in dataset.PerFrameFunctionalGroupsSequence]
    if not planes_are_alike(manifest.grid):
        state_each_plane(dataset, order, manifest.grid, sources)
    _name_sources(dataset, manifest.grid.planes, headers)
    _pin(
        dataset, _uid("dimensions", encoding, manifest, provenance), date_and_time(moment(provenance.created_at, first))
    )
    dataset.SoftwareVersions = wording.software_versions(provenance)
    inherit(dataset, first, manifest.study_instance_uid)
    _put_frames(dataset, frames, order, TRANSFER_SYNTAXES[encoding])
    dataset.Rows, dataset.Columns = manifest.grid.shape[1:]
    return dataset


def why_no_labelmap(definitions: Sequence[StructureDefinition]) -> str:
    """Say why structures cannot be one label map, whose voxels have one Segment Number each; empty: they can."""
    owner: dict[int, str] = {}
    for definition in definitions:
        for value in set(definition.label_values):
            if value in owner:
                return f"{owner[value]} and {definition.name} share voxels, which a label map cannot say."
            owner[value] = definition.name
    return ""


def _frames(
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    encoding: SegmentationEncoding,
    probabilities: Probabilities | None,
) -> Frames:
    if encoding == "binary":
        return binary_frames(label_map, definitions)
    if encoding == "labelmap":
        why_not = why_no_labelmap(definitions)
        if why_not:
            raise InputError(why_not, "Have the result written as a binary Segmentation.")
        return labelmap_frames(label_map, definitions)
    if probabilities is None:
        raise InputError(
            "The model gives no probabilities, which a fractional Segmentation holds.",
            "Have the result written as a binary or label map Segmentation.",
        )
    return fractional_frames(label_map, definitions, probabilities)


def _drawn_up(
    filled: NDArray[np.bool_],
    definitions: Sequence[StructureDefinition],
    sources: Sequence[Dataset],
    manifest: SeriesManifest,
    provenance: Provenance,
    encoding: SegmentationEncoding,
) -> Dataset:
    """Let highdicom draw up the object for images of one pixel, all of them in the first segment where ``filled``."""
    drawn_up = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=filled.astype(np.uint8).reshape(-1, 1, 1),
        segmentation_type=encoding.upper(),
        segment_descriptions=_segment_descriptions(definitions, provenance),
        series_instance_uid=_uid("series", encoding, manifest, provenance),
        series_number=FIRST_SERIES_NUMBER + provenance.run_number,
        sop_instance_uid=_uid("instance", encoding, manifest, provenance),
        instance_number=provenance.run_number,
        manufacturer=wording.MANUFACTURER,
        manufacturer_model_name=wording.model_and_version(provenance),
        software_versions=provenance.software_version,
        device_serial_number=provenance.model_digest[: wording.LO],
        fractional_type="PROBABILITY",
        max_fractional_value=MAXIMUM_FRACTIONAL_VALUE,
        series_description=wording.series_description(provenance),
        content_label="SEGMENTATION",
        content_description=wording.NOTICE,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=None,
    )
    # Without its tables for reading the one-pixel frames.
    dataset = Dataset(drawn_up)
    dataset.file_meta = drawn_up.file_meta
    return dataset


def _uid(what: str, encoding: SegmentationEncoding, manifest: SeriesManifest, provenance: Provenance) -> UID:
    """Give a UID of the result: another for each encoding, as these are different objects of different series."""
    kind = "SEG" if encoding == "binary" else f"SEG {encoding}"
    return result_uid(f"{kind} {what}", manifest, provenance)


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


def _name_sources(dataset: Dataset, planes: Sequence[Plane], headers: Mapping[str, Dataset]) -> None:
    """Put instances and frames in place of the plane numbers that ``source_headers`` gave."""
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        reference = _source(groups)
        plane = planes[plane_index(reference)]
        _name(reference, headers[plane.sop_instance_uid])
        if plane.frame_number is not None:
            reference.ReferencedFrameNumber = plane.frame_number
    instances = [_name(Dataset(), header) for header in headers.values()]
    dataset.SourceImageSequence = instances
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence = instances


def _source(groups: Dataset) -> Dataset:
    source: Dataset = groups.DerivationImageSequence[0].SourceImageSequence[0]
    return source


def _name(reference: Dataset, header: Dataset) -> Dataset:
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


def _pin(dataset: Dataset, dimensions_uid: UID, when: tuple[str, str]) -> None:
    """Replace what highdicom took from the clock and from chance."""
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = when
    dataset.ContentDate, dataset.ContentTime = when
    dataset.SeriesDate, dataset.SeriesTime = when
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = "".join(when)
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions_uid
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = dimensions_uid


def _put_frames(dataset: Dataset, frames: Frames, order: Sequence[int], transfer_syntax_uid: UID) -> None:
    """Put the frames in place of the one-pixel frames, which lie on the planes of ``order``."""
    groups = FunctionalGroups(dict(zip(order, dataset.PerFrameFunctionalGroupsSequence, strict=True)))
    places, pixel_data = frames.draw(order)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.SegmentsOverlap = "UNDEFINED" if frames.overlap is None else "YES" if frames.overlap else "NO"
    dataset.NumberOfFrames = len(places)
    # A buffer is written from where it is; bytes would be copied on the way.
    dataset.add(DataElement(PIXEL_DATA, "OB", pixel_data))
    dataset[PIXEL_DATA].is_undefined_length = transfer_syntax_uid.is_compressed
    correct_ambiguous_vr(dataset, is_little_endian=True)
    encoded = groups.encoded(places)
    dataset[PER_FRAME_GROUPS] = RawDataElement(PER_FRAME_GROUPS, "SQ", len(encoded), encoded, 0, False, True)
    # Only a data set whose encoding is the one that is asked for is written without reading every element anew.
    dataset.set_original_encoding(False, True, dataset._character_set)
