"""Read a written Segmentation back, as a receiver would, and hold it against the label map."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, SegmentationStorage

from node.dicom.required_attributes import verify_required
from node.dicom.required_segmentation import OBJECT, OBJECT_OF_ENCODING
from node.dicom.strict_reading import PIXEL_DATA, Item, Reader, explicit_elements, read_file_meta
from node.dicom.verification import ANOTHER_GRID, expect, malformed_is_an_error, verify_own_uids
from node.dicom.verify_frames import PER_FRAME_GROUPS, Place, Places
from node.dicom.verify_pixels import bits_above, changed_bits, changed_numbers, stored_bits, stored_numbers
from node.dicom.verify_segments import Segments, verify_overlap, verify_segments
from node.dicom.wording import unique_names
from node.domain.masks import BACKGROUND
from node.domain.routing import SegmentationEncoding
from node.domain.row_changes import Places as Changes
from node.domain.row_changes import RowChanges, held
from node.domain.series import SeriesManifest
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap

# PS3.4 B.5; pydicom 3.0 has no name for it.
LABEL_MAP_SEGMENTATION_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")

# What we store for certainty; above half of it is inside.
MAXIMUM_FRACTIONAL_VALUE = 255

# What would change the pixels' meaning, or name a person: we write neither.
FOREIGN = (
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "ApprovalStatus",
    "ContentCreatorName",
    "ReviewerName",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What an encoding looks like (PS3.3 C.8.20.2)."""

    sop_class_uid: UID
    bits_allocated: tuple[int, ...]
    # The second where a receiver wants it decompressed.
    transfer_syntax_uids: tuple[UID, ...]


_KINDS: Mapping[SegmentationEncoding, _Kind] = {
    "binary": _Kind(
        sop_class_uid=SegmentationStorage, bits_allocated=(1,), transfer_syntax_uids=(ExplicitVRLittleEndian,)
    ),
    "fractional": _Kind(
        sop_class_uid=SegmentationStorage,
        bits_allocated=(8,),
        transfer_syntax_uids=(RLELossless, ExplicitVRLittleEndian),
    ),
    "labelmap": _Kind(
        sop_class_uid=LABEL_MAP_SEGMENTATION_STORAGE,
        bits_allocated=(8, 16),
        transfer_syntax_uids=(RLELossless, ExplicitVRLittleEndian),
    ),
}


def verify_segmentation(
    written: bytes,
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    manifest: SeriesManifest,
    encoding: SegmentationEncoding = "binary",
) -> None:
    """Check that a Segmentation, read anew, says what the label map says.

    It is of the class and type of its encoding, has all attributes of type 1 and 2, and refers to the manifest's
    instances; each frame lies where the image that it names as its source lies, and holds exactly the voxels of its
    segment ("fractional": is above half exactly there); each structure with voxels is a segment, and nothing else.
    Explicit VR Little Endian, or RLE Lossless where it is not "binary"; decompressing changes nothing.

    Raises
    ------
    VerificationError
        Something differs; the reason names it.
    """
    with malformed_is_an_error():
        expect(label_map.grid.planes == manifest.grid.planes, ANOTHER_GRID)
        meta, start = read_file_meta(written)
        reader = Reader(written, explicit_elements, leave=(PER_FRAME_GROUPS, PIXEL_DATA))
        header = reader.item(start, len(written))
        verify_required(header, [*OBJECT, *OBJECT_OF_ENCODING[encoding]])
        _verify_kind(header, meta, encoding)
        _verify_place(header, manifest)
        changes = RowChanges(label_map)
        segments = _segments(header, _structures(changes, definitions), encoding)
        places = Places(written, header, reader, manifest)
        frames = places.of_frames
        expect(len(frames) == header.number("NumberOfFrames"), "The number of frames is wrong.")
        # In a label map the pixels tell the segment.
        known = {0} if encoding == "labelmap" else segments.keys()
        expect({segment for segment, _ in frames} <= known, "A frame is not of one of the segments.")
        changed = _changed(written, header, list(frames), segments, label_map, changes)
        expect(max(changed, default=0) <= len(segments), "A pixel has a number that no segment has.")
        for number, (name, definition) in segments.items():
            voxels = f"{changed[number]} of {held(changes.of(definition))} voxels" if changed[number] else ""
            expect(not voxels, f"{name} differs from the label map in {voxels}.")
        places.verify_counted()
        verify_segments(header, segments)
        verify_overlap(header, [definition for _, definition in segments.values()], encoding)


def _verify_kind(header: Item, meta: Item, encoding: SegmentationEncoding) -> None:
    kind = _KINDS[encoding]
    classes = {header.text("SOPClassUID"), meta.text("MediaStorageSOPClassUID")}
    expect(classes == {kind.sop_class_uid}, f"The SOP Class is not {kind.sop_class_uid}.")
    same = meta.text("MediaStorageSOPInstanceUID") == header.text("SOPInstanceUID")
    expect(same, "The file names another instance.")
    expect(meta.text("TransferSyntaxUID") in kind.transfer_syntax_uids, "The Transfer Syntax is another one.")
    expect(header.text("Modality") == "SEG", "The Modality is not SEG.")
    expect(header.text("SegmentationType") == encoding.upper(), f"The Segmentation Type is not {encoding.upper()}.")
    bits = header.number("BitsAllocated")
    expect(
        bits in kind.bits_allocated and (header.number("BitsStored"), header.number("HighBit")) == (bits, bits - 1),
        "Bits Allocated, Bits Stored and High Bit are not those of its type.",
    )
    monochrome = header.text("PhotometricInterpretation") == "MONOCHROME2"
    one_unsigned = header.number("SamplesPerPixel") == 1 and header.number("PixelRepresentation") == 0
    expect(monochrome and one_unsigned, "Pixels are not unsigned MONOCHROME2.")
    expect(header.text("ImageType") == "DERIVED\\PRIMARY", "The Image Type is not DERIVED PRIMARY.")
    _verify_nothing_alters(header)
    if encoding == "fractional":
        kept = header.text("SegmentationFractionalType")
        expect(kept == "PROBABILITY", "The fractions are not probabilities.")
        certainty = header.number("MaximumFractionalValue")
        expect(certainty == MAXIMUM_FRACTIONAL_VALUE, "Certainty is not stored as 255.")
    if encoding == "labelmap":
        padding = header.number("PixelPaddingValue")
        expect(padding == BACKGROUND, "The Pixel Padding Value is not the background.")


def _verify_nothing_alters(header: Item) -> None:
    """Raise VerificationError if something says that pixels mean other values, or that a person made or judged them."""
    for keyword in FOREIGN:
        expect(not header.has(keyword), f"{keyword} does not belong to a result.")
    identity = not header.has("PresentationLUTShape") or header.text("PresentationLUTShape") == "IDENTITY"
    expect(identity, "The Presentation LUT Shape is not IDENTITY.")


def _verify_place(header: Item, manifest: SeriesManifest) -> None:
    expect(header.text("StudyInstanceUID") == manifest.study_instance_uid, "The result is in another study.")
    expect(
        header.text("FrameOfReferenceUID") == manifest.frame_of_reference_uid,
        "The result is in another frame of reference.",
    )
    shape = header.number("Rows"), header.number("Columns")
    expect(shape == manifest.grid.shape[1:], "The frames have another size than the images.")
    series = header.item("ReferencedSeriesSequence")
    own_series = header.text("SeriesInstanceUID")
    expect(
        series.text("SeriesInstanceUID") == manifest.series_instance_uid != own_series,
        "The result refers to another series, or is in it.",
    )
    dimensions = header.item("DimensionOrganizationSequence").text("DimensionOrganizationUID")
    own = header.text("SOPInstanceUID"), own_series, dimensions
    verify_own_uids(own, manifest)
    indices = {index.text("DimensionOrganizationUID") for index in header.items("DimensionIndexSequence")}
    expect(indices == {dimensions}, "A dimension is of another organization.")
    received = sorted({(manifest.sop_class_uid, plane.sop_instance_uid) for plane in manifest.grid.planes})
    for references in (series.items("ReferencedInstanceSequence"), header.items("SourceImageSequence")):
        named = [(one.text("ReferencedSOPClassUID"), one.text("ReferencedSOPInstanceUID")) for one in references]
        expect(sorted(named) == received, "The referenced images are not those of the series.")


def _structures(changes: RowChanges, definitions: Sequence[StructureDefinition]) -> dict[str, StructureDefinition]:
    """Give the structures that have voxels, in their order, by the name that the result must give them."""
    found = [definition for definition in definitions if not changes.values.isdisjoint(definition.label_values)]
    return dict(zip(unique_names([definition.name for definition in found]), found, strict=True))


def _segments(header: Item, structures: Mapping[str, StructureDefinition], encoding: SegmentationEncoding) -> Segments:
    """Give the structure of each Segment Number; a label map has the background as number 0 besides."""
    named = [(item.number("SegmentNumber"), item.text("SegmentLabel")) for item in header.items("SegmentSequence")]
    if encoding == "labelmap":
        expect(named[0][0] == BACKGROUND, "The background is not described.")
        named = named[1:]
    expect(
        sorted(name for _, name in named) == sorted(structures),
        "The segments are not those of the structures that have voxels.",
    )
    expect([number for number, _ in named] == list(range(1, len(named) + 1)), "Segments are not numbered from 1.")
    return {number: (name, structures[name]) for number, name in named}


def _changed(
    written: bytes, header: Item, places: Sequence[Place], segments: Segments, label_map: LabelMap, changes: RowChanges
) -> Counter[int]:
    """Count the voxels that differ, by Segment Number."""
    bounds, bits = header.left[PIXEL_DATA], header.number("BitsAllocated")
    shape = label_map.grid.shape
    size = shape[1] * shape[2]
    if bits == 1:
        stored = stored_bits(written, bounds, len(places), size)
        return changed_bits(stored, places, _wanted(segments, changes), shape)
    frames = stored_numbers(written, bounds, len(places), shape[1:], bits)
    if header.text("SegmentationType") == "FRACTIONAL":
        stored = bits_above(frames, MAXIMUM_FRACTIONAL_VALUE // 2, size)
        return changed_bits(stored, places, _wanted(segments, changes), shape)
    number_of = _numbers(segments, int(np.iinfo(label_map.labels.dtype).max))
    planes = (plane for _, plane in places)
    return changed_numbers(zip(planes, frames, strict=True), changes, label_map.labels, number_of)


def _wanted(segments: Segments, changes: RowChanges) -> dict[int, Changes]:
    return {number: changes.of(definition) for number, (_, definition) in segments.items()}


def _numbers(segments: Segments, largest: int) -> NDArray[np.uint16]:
    """Give the Segment Number of each label value."""
    table = np.zeros(largest + 1, dtype=np.uint16)
    for number, (name, definition) in segments.items():
        for value in set(definition.label_values) - {BACKGROUND}:
            if value <= largest:
                expect(table[value] == 0, f"{name} shares voxels with another structure.")
                table[value] = number
    return table
