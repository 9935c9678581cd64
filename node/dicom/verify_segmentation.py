"""Read a written Segmentation back, as a receiver would, and hold it against the label map."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, SegmentationStorage

from node.dicom.encoded import Elements, elements
from node.dicom.part10 import start_of_data_set
from node.dicom.required_segmentation import OBJECT, OBJECT_OF_ENCODING
from node.dicom.verification import ANOTHER_GRID, Images, expect, malformed_is_an_error
from node.dicom.verify_attributes import verify_required, verify_values
from node.dicom.verify_frames import BitFrames, Pixels, Place, Places, byte_frames
from node.dicom.wording import unique_names
from node.domain.grid import Grid
from node.domain.masks import BACKGROUND, members
from node.domain.routing import SegmentationEncoding
from node.domain.series import SeriesManifest
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap

Labels = NDArray[Any]

# PS3.4 B.5; pydicom 3.0 has no name for it.
LABEL_MAP_SEGMENTATION_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")

# What we store for certainty; above half of it is inside.
MAXIMUM_FRACTIONAL_VALUE = 255


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Structure:
    """What a segment must hold, and how it differs."""

    name: str
    values: tuple[int, ...]
    # Voxels on each plane.
    voxels: NDArray[np.int64]
    # Voxels that differ, by the index of each plane that has a frame.
    changed: dict[int, int] = field(default_factory=dict)

    def verify(self) -> None:
        """Raise VerificationError where a voxel differs; an image without a frame has none (PS3.3 C.8.20.2)."""
        lost = np.delete(self.voxels, list(self.changed)).sum()
        changed = sum(self.changed.values()) + int(lost)
        expect(changed == 0, f"{self.name} differs from the label map in {changed} of {self.voxels.sum()} voxels.")


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
        found = elements(written, start_of_data_set(written), len(written))
        verify_required(written, found, [*OBJECT, OBJECT_OF_ENCODING[encoding]])
        verify_values(written, found)
        header = dcmread(io.BytesIO(written), stop_before_pixels=True)
        _verify_kind(header, encoding)
        _verify_place(header, manifest)
        segments = _segments(header, _structures(label_map, definitions), encoding)
        places = list(Places(written, found, Images(manifest.grid)).of_frames)
        expect(len(places) == int(header.NumberOfFrames), "The number of frames is wrong.")
        _verify_frames(written, found, header, places, segments, label_map)


def _verify_kind(header: Dataset, encoding: SegmentationEncoding) -> None:
    kind, meta = _KINDS[encoding], header.file_meta
    classes = {header.SOPClassUID, meta.MediaStorageSOPClassUID}
    expect(classes == {kind.sop_class_uid}, f"The SOP Class is not {kind.sop_class_uid}.")
    expect(meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID, "The file names another instance.")
    expect(meta.TransferSyntaxUID in kind.transfer_syntax_uids, "The Transfer Syntax is another one.")
    expect(header.Modality == "SEG", "The Modality is not SEG.")
    expect(header.SegmentationType == encoding.upper(), f"The Segmentation Type is not {encoding.upper()}.")
    bits = header.BitsAllocated
    expect(
        bits in kind.bits_allocated and (header.BitsStored, header.HighBit) == (bits, bits - 1),
        "Bits Allocated, Bits Stored and High Bit are not those of its type.",
    )
    pixel = header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation
    expect(pixel == (1, "MONOCHROME2", 0), "Pixels are not unsigned MONOCHROME2.")
    if encoding == "fractional":
        expect(header.SegmentationFractionalType == "PROBABILITY", "The fractions are not probabilities.")
        expect(header.MaximumFractionalValue == MAXIMUM_FRACTIONAL_VALUE, "Certainty is not stored as 255.")
    if encoding == "labelmap":
        expect(header.PixelPaddingValue == BACKGROUND, "The Pixel Padding Value is not the background.")


def _verify_place(header: Dataset, manifest: SeriesManifest) -> None:
    expect(str(header.StudyInstanceUID) == manifest.study_instance_uid, "The result is in another study.")
    expect(
        str(header.FrameOfReferenceUID) == manifest.frame_of_reference_uid,
        "The result is in another frame of reference.",
    )
    expect((header.Rows, header.Columns) == manifest.grid.shape[1:], "The frames have another size than the images.")
    (series,) = header.ReferencedSeriesSequence
    expect(
        str(series.SeriesInstanceUID) == manifest.series_instance_uid != str(header.SeriesInstanceUID),
        "The result refers to another series, or is in it.",
    )
    received = {plane.sop_instance_uid for plane in manifest.grid.planes}
    for references in (series.ReferencedInstanceSequence, header.SourceImageSequence):
        named = [str(item.ReferencedSOPInstanceUID) for item in references]
        expect(sorted(named) == sorted(received), "The referenced images are not those of the series.")
    _verify_measures(header, manifest.grid)


def _verify_measures(header: Dataset, grid: Grid) -> None:
    (shared,) = header.SharedFunctionalGroupsSequence
    (measures,), (orientation,) = shared.PixelMeasuresSequence, shared.PlaneOrientationSequence
    plane = grid.planes[0]
    cosines = np.array(orientation.ImageOrientationPatient, dtype=np.float64)
    spacing = np.array(measures.PixelSpacing, dtype=np.float64)
    between = float(measures.get("SpacingBetweenSlices", grid.slice_spacing_mm))
    expect(
        bool(
            np.allclose(cosines, plane.orientation, atol=1e-6)
            and np.allclose(spacing, plane.pixel_spacing_mm, rtol=1e-6)
            and np.isclose(between, grid.slice_spacing_mm, rtol=1e-2)
        ),
        "Orientation or spacing of the frames is not that of the images.",
    )


def _structures(label_map: LabelMap, definitions: Sequence[StructureDefinition]) -> list[_Structure]:
    """Give the structures that have voxels, in their order, by the name that the result must give them."""
    counts = _counts(label_map.labels)
    voxels = [_voxels(counts, definition.label_values) for definition in definitions]
    found = [
        (definition, of_planes) for definition, of_planes in zip(definitions, voxels, strict=True) if of_planes.any()
    ]
    names = unique_names([definition.name for definition, _ in found])
    return [
        _Structure(name=name, values=definition.label_values, voxels=of_planes)
        for name, (definition, of_planes) in zip(names, found, strict=True)
    ]


def _counts(labels: Labels) -> NDArray[np.int64]:
    """Count the voxels of each value on each plane, shape (slices, largest value + 1), run by run."""
    counts = np.zeros((len(labels), int(labels.max()) + 1), dtype=np.int64)
    for index, plane in enumerate(labels):
        flat = plane.reshape(-1)
        ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), len(flat) - 1)
        counts[index] = np.bincount(flat[ends], np.diff(ends, prepend=-1), counts.shape[1])
    return counts


def _voxels(counts: NDArray[np.int64], values: Sequence[int]) -> NDArray[np.int64]:
    there = sorted({value for value in values if BACKGROUND < value < counts.shape[1]})
    return np.asarray(counts[:, there].sum(axis=1), dtype=np.int64)


def _segments(
    header: Dataset, structures: Sequence[_Structure], encoding: SegmentationEncoding
) -> dict[int, _Structure]:
    """Give the structure of each Segment Number; a label map has the background as number 0 besides."""
    named = [(int(item.SegmentNumber), str(item.SegmentLabel)) for item in header.SegmentSequence]
    if encoding == "labelmap":
        expect(named[0][0] == BACKGROUND, "The background is not described.")
        named = named[1:]
    wanted = {structure.name: structure for structure in structures}
    expect(
        sorted(name for _, name in named) == sorted(wanted),
        "The segments are not those of the structures that have voxels.",
    )
    expect([number for number, _ in named] == list(range(1, len(named) + 1)), "Segments are not numbered from 1.")
    return {number: wanted[name] for number, name in named}


def _verify_frames(
    written: bytes,
    found: Elements,
    header: Dataset,
    places: Sequence[Place],
    segments: Mapping[int, _Structure],
    label_map: LabelMap,
) -> None:
    if header.SegmentationType == "BINARY":
        _compare_bits(BitFrames(written, found, len(places), header.Rows * header.Columns), places, segments, label_map)
    else:
        shape = header.Rows, header.Columns
        frames = zip(places, byte_frames(written, found, len(places), shape, header.BitsAllocated), strict=True)
        compare = _compare_fractions if header.SegmentationType == "FRACTIONAL" else _compare_numbers
        compare(frames, segments, label_map)
    for structure in segments.values():
        structure.verify()


def _compare_bits(
    frames: BitFrames, places: Sequence[Place], segments: Mapping[int, _Structure], label_map: LabelMap
) -> None:
    for frame, (number, plane) in enumerate(places):
        structure = segments[number]
        structure.changed[plane] = frames.changed(frame, members(label_map.labels[plane], structure.values))


def _compare_fractions(
    frames: Iterable[tuple[Place, Pixels]], segments: Mapping[int, _Structure], label_map: LabelMap
) -> None:
    for (number, plane), pixels in frames:
        structure = segments[number]
        inside = members(label_map.labels[plane], structure.values)
        structure.changed[plane] = int(np.count_nonzero((pixels > MAXIMUM_FRACTIONAL_VALUE // 2) != inside))


def _compare_numbers(
    frames: Iterable[tuple[Place, Pixels]], segments: Mapping[int, _Structure], label_map: LabelMap
) -> None:
    table = _numbers(segments, int(np.iinfo(label_map.labels.dtype).max))
    for (_, plane), pixels in frames:
        labels = label_map.labels[plane]
        wanted = cv2.LUT(labels, table) if labels.dtype == np.uint8 else np.take(table, labels)
        same = np.array_equal(pixels, wanted)
        for number, structure in segments.items():
            changed = 0 if same else np.count_nonzero((pixels == number) != (wanted == number))
            structure.changed[plane] = int(changed)
        expect(same or pixels.max() <= len(segments), "A pixel has a number that no segment has.")


def _numbers(segments: Mapping[int, _Structure], largest: int) -> NDArray[np.uint16]:
    """Give the Segment Number of each label value."""
    table = np.zeros(largest + 1, dtype=np.uint16)
    for number, structure in segments.items():
        for value in set(structure.values) - {BACKGROUND}:
            if value <= largest:
                expect(table[value] == 0, f"{structure.name} shares voxels with another structure.")
                table[value] = number
    return table
