"""Seeded faults: each is caught when the written Segmentation is read back, whatever its encoding."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from node.dicom.rle import rle_frame
from node.dicom.segmentation import segmentation
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.errors import VerificationError
from node.domain.routing import SegmentationEncoding
from node.domain.series import SeriesManifest
from node.domain.structures import Code
from node.domain.volume import Box, LabelMap
from tests.builders import (
    ORIENTATIONS,
    Orientation,
    ball_and_box,
    ct_series,
    definition,
    enhanced_ct,
    grid,
    manifest_of,
    provenance,
    write_and_read,
    written,
)

Change = Callable[[Dataset], None]
Frames = NDArray[np.integer]

ENCODINGS: Sequence[SegmentationEncoding] = ("binary", "labelmap", "fractional")

DEFINITIONS = [definition("All", 1, 2, 3), definition("Rind", 1), definition("Box", 3), definition("Nowhere", 9)]
PRESENT = DEFINITIONS[:3]
# Without a voxel in common.
APART = [definition("Rind", 1), definition("Core", 2), definition("Box", 3), definition("Nowhere", 9)]


def case(
    orientation: Orientation = "axial", tilt_mm: float = 0.0, multi_frame: bool = False
) -> tuple[list[Dataset], SeriesManifest, LabelMap]:
    stack = grid(orientation=orientation, tilt_mm=tilt_mm)
    source = [enhanced_ct(stack)] if multi_frame else ct_series(stack)
    manifest = manifest_of(source)
    return source, manifest, ball_and_box(manifest.grid)


def written_segmentation(change: Change | None = None) -> tuple[bytes, LabelMap, SeriesManifest]:
    source, manifest, label_map = case()
    dataset = write_and_read(segmentation(label_map, PRESENT, manifest, source, provenance()))
    if change is not None:
        change(dataset)
    return written(dataset), label_map, manifest


def another_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "2.25.6"


@pytest.mark.parametrize("multi_frame", [False, True])
@pytest.mark.parametrize("tilt_mm", [0.0, 0.7])
@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_sound_results_pass(orientation: Orientation, tilt_mm: float, multi_frame: bool) -> None:
    source, manifest, label_map = case(orientation, tilt_mm, multi_frame)

    verify_segmentation(
        written(segmentation(label_map, PRESENT, manifest, source, provenance())), label_map, DEFINITIONS, manifest
    )


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_a_code_too_long_for_code_value_is_no_fault(encoding: SegmentationEncoding) -> None:
    source, manifest, label_map = case()
    extension = Code(value="123456781000119107", scheme="SCT", meaning="Of a national extension")
    long = [replace(one, type=extension) for one in APART[:3]]

    sound = written(segmentation(label_map, long, manifest, source, provenance(), encoding))

    verify_segmentation(sound, label_map, long, manifest, encoding)
    assert dcmread(io.BytesIO(sound)).SegmentSequence[-1].SegmentedPropertyTypeCodeSequence[0].LongCodeValue


def shifted_references(dataset: Dataset) -> None:
    first, *rest = dataset.PerFrameFunctionalGroupsSequence
    first.DerivationImageSequence = rest[0].DerivationImageSequence


def shifted_positions(dataset: Dataset) -> None:
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
        groups.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 3]


def swapped_spacings(dataset: Dataset) -> None:
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = list(measures.PixelSpacing)[::-1]


def flipped_orientation(dataset: Dataset) -> None:
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def cut_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-200]


def doubled_frame(dataset: Dataset) -> None:
    first, second = dataset.PerFrameFunctionalGroupsSequence[:2]
    second.DerivationImageSequence = first.DerivationImageSequence
    second.PlanePositionSequence = first.PlanePositionSequence


def foreign_source(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence[0]
    groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "2.25.99"


def other_frame_of_reference(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "2.25.5"


def test_pixel_data_that_is_cut_short_is_caught() -> None:
    faulty, label_map, manifest = written_segmentation(cut_pixels)

    with pytest.raises(VerificationError, match="Pixel data is cut short"):
        verify_segmentation(faulty, label_map, DEFINITIONS, manifest)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_label_map_is_caught(axis: int) -> None:
    segments, label_map, manifest = written_segmentation()
    flipped = LabelMap(labels=np.flip(label_map.labels, axis), grid=label_map.grid)

    with pytest.raises(VerificationError, match="differs from the label map"):
        verify_segmentation(segments, flipped, DEFINITIONS, manifest)


class Unsure:
    """A model that is sure to 0.8 of what the label map says."""

    def __init__(self, label_map: LabelMap) -> None:
        self._labels = label_map.labels

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32]:
        return np.where(np.isin(self._labels[box], label_values), 0.8, 0.2).astype(np.float32)


def written_as(encoding: SegmentationEncoding, change: Change | None = None) -> tuple[bytes, LabelMap, SeriesManifest]:
    source, manifest, label_map = case()
    dataset = write_and_read(
        segmentation(label_map, APART[:3], manifest, source, provenance(), encoding, Unsure(label_map))
    )
    if change is not None:
        change(dataset)
    return written(dataset), label_map, manifest


def repixelled(change: Callable[[Frames], Frames]) -> Change:
    """Give a fault of the pixels, written anew as they were."""

    def put(dataset: Dataset) -> None:
        frames = change(dataset.pixel_array.copy())
        if dataset.BitsAllocated == 1:
            dataset.PixelData = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
        else:
            dataset.PixelData = encapsulate([rle_frame(frame) for frame in frames])

    return put


def one_voxel(frames: Frames) -> Frames:
    row, column = np.argwhere(frames[0] == frames[0].max())[0]
    frames[0, row, column] = 0
    return frames


def one_voxel_too_many(frames: Frames) -> Frames:
    frames[0, 0, 0] = frames[0].max()
    return frames


def one_row_down(frames: Frames) -> Frames:
    return np.roll(frames, 1, axis=1)


def flipped_columns(frames: Frames) -> Frames:
    return frames[:, :, ::-1].copy()


def next_slice(frames: Frames) -> Frames:
    return np.roll(frames, 1, axis=0)


def half_a_pixel_off(dataset: Dataset) -> None:
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
        groups.PlanePositionSequence[0].ImagePositionPatient = [x + 0.4, y + 0.75, z]


def lost_frame(dataset: Dataset) -> None:
    repixelled(lambda frames: frames[1:])(dataset)
    del dataset.PerFrameFunctionalGroupsSequence[0]
    dataset.NumberOfFrames -= 1


def frame_twice(dataset: Dataset) -> None:
    repixelled(lambda frames: np.concatenate((frames, frames[-1:])))(dataset)
    dataset.PerFrameFunctionalGroupsSequence.append(dataset.PerFrameFunctionalGroupsSequence[-1])
    dataset.NumberOfFrames += 1


def exchanged_numbers(dataset: Dataset) -> None:
    first, second = dataset.SegmentSequence[-2:]
    first.SegmentNumber, second.SegmentNumber = second.SegmentNumber, first.SegmentNumber


def exchanged_labels(dataset: Dataset) -> None:
    first, second = dataset.SegmentSequence[-2:]
    first.SegmentLabel, second.SegmentLabel = second.SegmentLabel, first.SegmentLabel


def lost_segment(dataset: Dataset) -> None:
    del dataset.SegmentSequence[-1]


def other_bits(dataset: Dataset) -> None:
    dataset.BitsAllocated = dataset.BitsStored = 4


def other_class(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage


def other_type(dataset: Dataset) -> None:
    dataset.SegmentationType = "OTHER"


def no_uid(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = UID("2.25.007")


def same_series_as_the_images(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = dataset.ReferencedSeriesSequence[0].SeriesInstanceUID


def lost_reference(dataset: Dataset) -> None:
    del dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[2]


def too_long_a_label(dataset: Dataset) -> None:
    dataset.SegmentSequence[-1].SegmentAlgorithmName = 65 * "a"


def dimension_of_another_plane(dataset: Dataset) -> None:
    first, *_, last = dataset.PerFrameFunctionalGroupsSequence
    values = last.FrameContentSequence[0].DimensionIndexValues
    first.FrameContentSequence[0].DimensionIndexValues = values


def miscounted_frames(dataset: Dataset) -> None:
    dataset.NumberOfFrames += 1


def inverted(dataset: Dataset) -> None:
    dataset.PhotometricInterpretation = "MONOCHROME1"


FAULTS: list[tuple[Change, str]] = [
    (shifted_references, "away from the image"),
    (shifted_positions, "away from the image"),
    (half_a_pixel_off, "away from the image"),
    (swapped_spacings, "Orientation or spacing"),
    (flipped_orientation, "Orientation or spacing"),
    (repixelled(one_voxel), "differs from the label map in 1 of"),
    (repixelled(one_voxel_too_many), "differs from the label map in 1 of"),
    (repixelled(one_row_down), "differs from the label map"),
    (repixelled(flipped_columns), "differs from the label map"),
    (repixelled(next_slice), "differs from the label map"),
    (lost_frame, "differs from the label map"),
    (frame_twice, "two frames"),
    (doubled_frame, "two frames"),
    (exchanged_labels, "differs from the label map"),
    (exchanged_numbers, "not numbered from 1"),
    (lost_segment, "not those of the structures"),
    (foreign_source, "not of the series"),
    (lost_reference, "referenced images"),
    (other_frame_of_reference, "another frame of reference"),
    (another_study, "another study"),
    (same_series_as_the_images, "is in it"),
    (other_bits, "Bits Allocated"),
    (other_class, "SOP Class"),
    (other_type, "Segmentation Type"),
    (inverted, "MONOCHROME2"),
    (no_uid, "UID is malformed"),
    (too_long_a_label, "longer than 64"),
    (dimension_of_another_plane, "dimension index"),
    (miscounted_frames, "number of frames"),
]
FAULT_NAMES = [f"{number} {reason} {getattr(change, '__name__', '')}" for number, (change, reason) in enumerate(FAULTS)]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("change", "reason"), FAULTS, ids=FAULT_NAMES)
def test_a_fault_is_caught_in_every_encoding(change: Change, reason: str, encoding: SegmentationEncoding) -> None:
    faulty, label_map, manifest = written_as(encoding, change)

    with pytest.raises(VerificationError, match=reason):
        verify_segmentation(faulty, label_map, APART, manifest, encoding)


def segment_of(dataset: Dataset) -> Dataset:
    """Give the item of the last segment, the box."""
    item: Dataset = dataset.SegmentSequence[-1]
    return item


def another_type_code(dataset: Dataset) -> None:
    segment_of(dataset).SegmentedPropertyTypeCodeSequence[0].CodeValue = "64033007"


def another_type_meaning(dataset: Dataset) -> None:
    segment_of(dataset).SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Heart"


def another_category_code(dataset: Dataset) -> None:
    segment_of(dataset).SegmentedPropertyCategoryCodeSequence[0].CodeValue = "49755003"


def other_side(dataset: Dataset) -> None:
    kind = segment_of(dataset).SegmentedPropertyTypeCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "24028007"


def other_side_in_words(dataset: Dataset) -> None:
    kind = segment_of(dataset).SegmentedPropertyTypeCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning = "Right"


def no_side(dataset: Dataset) -> None:
    del segment_of(dataset).SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence


def both_sides(dataset: Dataset) -> None:
    modifiers = segment_of(dataset).SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    right = Dataset()
    right.CodeValue, right.CodingSchemeDesignator, right.CodeMeaning = "24028007", "SCT", "Right"
    modifiers.append(right)


def described_as_another_organ(dataset: Dataset) -> None:
    segment_of(dataset).SegmentDescription = "Heart"


def manual(dataset: Dataset) -> None:
    segment_of(dataset).SegmentAlgorithmType = "MANUAL"


def another_colour(dataset: Dataset) -> None:
    lightness, *chroma = segment_of(dataset).RecommendedDisplayCIELabValue
    segment_of(dataset).RecommendedDisplayCIELabValue = [lightness + 700, *chroma]


def no_colour(dataset: Dataset) -> None:
    del segment_of(dataset).RecommendedDisplayCIELabValue


def listed_as_another_class(dataset: Dataset) -> None:
    listed = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    listed[-1].ReferencedSOPClassUID = SecondaryCaptureImageStorage


def source_images_of_another_class(dataset: Dataset) -> None:
    dataset.SourceImageSequence[-1].ReferencedSOPClassUID = SecondaryCaptureImageStorage


def shared_position(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    dataset.SharedFunctionalGroupsSequence[0].PlanePositionSequence = position


def orientation_of_a_frame(dataset: Dataset) -> None:
    orientation = Dataset()
    orientation.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    dataset.PerFrameFunctionalGroupsSequence[-1].PlaneOrientationSequence = [orientation]


def spacing_of_a_frame(dataset: Dataset) -> None:
    measures = Dataset()
    measures.PixelSpacing = [9, 9]
    dataset.PerFrameFunctionalGroupsSequence[-1].PixelMeasuresSequence = [measures]


def rescaled_frames(dataset: Dataset) -> None:
    transformation = Dataset()
    transformation.RescaleIntercept, transformation.RescaleSlope, transformation.RescaleType = 1, 2, "US"
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [transformation]


def series_called_as_the_study(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = dataset.StudyInstanceUID


def series_called_as_itself(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = dataset.SOPInstanceUID


def called_as_an_image(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.SourceImageSequence[0].ReferencedSOPInstanceUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def dimension_of_another_organization(dataset: Dataset) -> None:
    dataset.DimensionIndexSequence[-1].DimensionOrganizationUID = "2.25.1"


def original(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]


def inverted_for_display(dataset: Dataset) -> None:
    dataset.PresentationLUTShape = "INVERSE"


def rescaled(dataset: Dataset) -> None:
    dataset.RescaleIntercept, dataset.RescaleSlope = 1, 2


def approved(dataset: Dataset) -> None:
    dataset.ApprovalStatus = "APPROVED"


def overlapping(dataset: Dataset) -> None:
    dataset.SegmentsOverlap = "YES"


def date_that_is_none(dataset: Dataset) -> None:
    dataset.add_new("ContentDate", "LO", "20260230")
    dataset["ContentDate"].VR = "DA"


def time_that_is_none(dataset: Dataset) -> None:
    dataset["ContentTime"].value = "2560"


FAULTS_OF_WHAT_IS_SAID: list[tuple[Change, str]] = [
    (another_type_code, "Box has another code"),
    (another_type_meaning, "Box has another code"),
    (another_category_code, "Box has another code"),
    (other_side, "Box has another code"),
    (other_side_in_words, "Box has another code"),
    (no_side, "Box has another code"),
    (both_sides, "Box has another code"),
    (described_as_another_organ, "Box has a description"),
    (manual, "Box is not said to be AUTOMATIC"),
    (another_colour, "Box has another colour"),
    (no_colour, "Box has another colour"),
    (listed_as_another_class, "referenced images"),
    (source_images_of_another_class, "referenced images"),
    (shared_position, "functional group"),
    (orientation_of_a_frame, "functional group"),
    (spacing_of_a_frame, "functional group"),
    (rescaled_frames, "functional group"),
    (series_called_as_the_study, "UIDs of its own"),
    (series_called_as_itself, "UIDs of its own"),
    (called_as_an_image, "UIDs of its own"),
    (dimension_of_another_organization, "another organization"),
    (original, "Image Type"),
    (inverted_for_display, "Presentation LUT Shape"),
    (rescaled, "RescaleIntercept does not belong"),
    (approved, "ApprovalStatus does not belong"),
    (overlapping, "Segments Overlap"),
    (date_that_is_none, "ContentDate has a value that is no DA"),
    (time_that_is_none, "ContentTime has a value that is no TM"),
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("change", "reason"), FAULTS_OF_WHAT_IS_SAID, ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_said_of_sound_pixels_must_be_so(change: Change, reason: str, encoding: SegmentationEncoding) -> None:
    faulty, label_map, manifest = written_as(encoding, change)

    with pytest.raises(VerificationError, match=reason):
        verify_segmentation(faulty, label_map, APART, manifest, encoding)


def test_a_segment_told_of_all_frames_and_of_each_is_caught() -> None:
    def tell_of_all(dataset: Dataset) -> None:
        identification = Dataset()
        identification.ReferencedSegmentNumber = 2
        dataset.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence = [identification]

    faulty, label_map, manifest = written_as("binary", tell_of_all)

    with pytest.raises(VerificationError, match="functional group"):
        verify_segmentation(faulty, label_map, APART, manifest)


def test_a_background_with_the_code_of_an_organ_is_caught() -> None:
    def name_it(dataset: Dataset) -> None:
        background, segment = dataset.SegmentSequence[:2]
        background.SegmentedPropertyTypeCodeSequence = segment.SegmentedPropertyTypeCodeSequence

    faulty, label_map, manifest = written_as("labelmap", name_it)

    with pytest.raises(VerificationError, match="The background carries the code"):
        verify_segmentation(faulty, label_map, APART, manifest, "labelmap")


def test_segments_that_share_voxels_must_not_be_said_to_be_apart() -> None:
    def apart(dataset: Dataset) -> None:
        dataset.SegmentsOverlap = "NO"

    faulty, label_map, manifest = written_segmentation(apart)

    with pytest.raises(VerificationError, match="Segments Overlap is not YES"):
        verify_segmentation(faulty, label_map, DEFINITIONS, manifest)


REQUIRED = [
    "PatientName",
    "AccessionNumber",
    "SeriesNumber",
    "PositionReferenceIndicator",
    "DeviceSerialNumber",
    "PixelRepresentation",
    "ContentDescription",
    "LossyImageCompression",
    "SegmentSequence/SegmentLabel",
    "SegmentSequence/SegmentedPropertyTypeCodeSequence/CodeMeaning",
    "SharedFunctionalGroupsSequence/PixelMeasuresSequence/SliceThickness",
    "DimensionIndexSequence/DimensionIndexPointer",
    "ReferencedSeriesSequence/ReferencedInstanceSequence/ReferencedSOPClassUID",
    "PerFrameFunctionalGroupsSequence/DerivationImageSequence/DerivationCodeSequence",
    "PerFrameFunctionalGroupsSequence/DerivationImageSequence/SourceImageSequence/PurposeOfReferenceCodeSequence",
    "PerFrameFunctionalGroupsSequence/PlanePositionSequence",
    "PerFrameFunctionalGroupsSequence/FrameContentSequence/DimensionIndexValues",
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", REQUIRED)
def test_an_attribute_that_is_missing_is_named(path: str, encoding: SegmentationEncoding) -> None:
    *sequences, keyword = path.split("/")

    def leave_out(dataset: Dataset) -> None:
        item = dataset
        for sequence in sequences:
            # The last: that what is read of the first item holds for all must not be assumed.
            item = item[sequence].value[-1]
        delattr(item, keyword)

    faulty, label_map, manifest = written_as(encoding, leave_out)

    with pytest.raises(VerificationError, match=f"{keyword} is missing .PS3.3"):
        verify_segmentation(faulty, label_map, APART, manifest, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bytes_cut_short_or_grown_are_caught(encoding: SegmentationEncoding) -> None:
    sound, label_map, manifest = written_as(encoding)

    for faulty in (sound[:0], sound[:100], sound[: len(sound) // 2], sound[:-2], sound + b"\0\0"):
        with pytest.raises(VerificationError):
            verify_segmentation(faulty, label_map, APART, manifest, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_another_encoding_than_was_asked_for_is_caught(encoding: SegmentationEncoding) -> None:
    sound, label_map, manifest = written_as(encoding)

    for other in set(ENCODINGS) - {encoding}:
        with pytest.raises(VerificationError):
            verify_segmentation(sound, label_map, APART, manifest, other)


def test_an_rle_frame_that_ends_early_is_caught() -> None:
    def cut(dataset: Dataset) -> None:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))
        dataset.PixelData = encapsulate([frames[0][:70], *frames[1:]])

    faulty, label_map, manifest = written_as("labelmap", cut)

    with pytest.raises(VerificationError, match="cannot be decoded"):
        verify_segmentation(faulty, label_map, APART, manifest, "labelmap")


def test_a_transfer_syntax_that_nobody_writes_is_refused() -> None:
    source, manifest, label_map = case()
    dataset = write_and_read(segmentation(label_map, APART[:3], manifest, source, provenance()))
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    with pytest.raises(VerificationError):
        verify_segmentation(written(dataset), label_map, APART, manifest)


def test_shared_voxels_make_no_label_map() -> None:
    sound, label_map, manifest = written_as("labelmap")
    twice = [*APART[:2], definition("Box", 1, 3)]

    with pytest.raises(VerificationError):
        verify_segmentation(sound, label_map, twice, manifest, "labelmap")


@pytest.mark.parametrize(("encoding", "foreign"), [("labelmap", b"\3"), ("fractional", b"\x80")])
def test_what_is_decompressed_for_a_receiver_still_passes(encoding: SegmentationEncoding, foreign: bytes) -> None:
    sound, label_map, manifest = written_as(encoding)
    dataset = dcmread(io.BytesIO(sound))
    dataset.decompress(generate_instance_uid=False)
    decompressed = written(dataset)

    verify_segmentation(decompressed, label_map, APART, manifest, encoding)

    with pytest.raises(VerificationError, match="Box differs from the label map in 1 of"):
        verify_segmentation(decompressed[:-1] + foreign, label_map, APART, manifest, encoding)


def test_a_number_without_a_segment_is_caught() -> None:
    def add(frames: Frames) -> Frames:
        frames[0, 0, 0] = 4
        return frames

    faulty, label_map, manifest = written_as("labelmap", repixelled(add))

    with pytest.raises(VerificationError, match="a number that no segment has"):
        verify_segmentation(faulty, label_map, APART, manifest, "labelmap")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_that_names_another_instance_is_caught(encoding: SegmentationEncoding) -> None:
    sound, label_map, manifest = written_as(encoding)
    named = str(dcmread(io.BytesIO(sound)).SOPInstanceUID).encode()
    other = named[:-1] + (b"1" if named[-1:] != b"1" else b"2")

    with pytest.raises(VerificationError, match="another instance"):
        verify_segmentation(sound.replace(named, other, 1), label_map, APART, manifest, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("multi_frame", [False, True])
@pytest.mark.parametrize("tilt_mm", [0.0, 0.7])
@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_sound_results_of_every_encoding_pass(
    orientation: Orientation, tilt_mm: float, multi_frame: bool, encoding: SegmentationEncoding
) -> None:
    source, manifest, label_map = case(orientation, tilt_mm, multi_frame)
    dataset = segmentation(label_map, APART[:3], manifest, source, provenance(), encoding, Unsure(label_map))

    verify_segmentation(written(dataset), label_map, APART, manifest, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("rows", [17, 18, 20])
def test_frames_that_end_within_a_byte_are_compared_to_their_last_bit(
    rows: int, encoding: SegmentationEncoding
) -> None:
    stack = grid(rows=rows, columns=25)
    source = ct_series(stack)
    manifest, label_map = manifest_of(source), ball_and_box(stack)
    sound = segmentation(label_map, APART[:3], manifest, source, provenance(), encoding, Unsure(label_map))

    verify_segmentation(written(sound), label_map, APART, manifest, encoding)

    for row, column in ((0, 0), (0, 24), (rows - 1, 0), (rows - 1, 24)):
        labels = label_map.labels.copy()
        labels[2, row, column] = 3
        with pytest.raises(VerificationError, match="Box differs from the label map in 1 of"):
            verify_segmentation(written(sound), LabelMap(labels=labels, grid=stack), APART, manifest, encoding)


def labelled(dataset: Dataset) -> None:
    """Put something behind the Dimension Index Values of every frame, where we write nothing."""
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.FrameContentSequence[0].FrameLabel = "ours"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_frames_laid_out_in_another_way_are_read_as_well(encoding: SegmentationEncoding) -> None:
    sound, label_map, manifest = written_as(encoding, labelled)

    verify_segmentation(sound, label_map, APART, manifest, encoding)


def longer_than_its_vr(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[-1].FrameContentSequence[0].FrameLabel = "ours" * 17


def last_dimension(dataset: Dataset) -> None:
    content = dataset.PerFrameFunctionalGroupsSequence[-1].FrameContentSequence[0]
    values = content["DimensionIndexValues"].value
    content.DimensionIndexValues = [*values[:-1], 99] if isinstance(values, list) else 99


def index_of_the_first_plane(value: int) -> Change:
    """Give a fault that all frames of the plane share, so that none contradicts another."""

    def change(dataset: Dataset) -> None:
        contents = [groups.FrameContentSequence[0] for groups in dataset.PerFrameFunctionalGroupsSequence]
        for content in contents:
            segment, plane = content.DimensionIndexValues
            content.DimensionIndexValues = [segment, value if plane == 1 else plane]

    change.__name__ = f"index_{value}_of_the_first_plane"
    return change


def exchanged_planes(dataset: Dataset) -> None:
    """Count two neighbouring planes the wrong way round, in all frames."""
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        content = groups.FrameContentSequence[0]
        segment, plane = content.DimensionIndexValues
        content.DimensionIndexValues = [segment, {1: 2, 2: 1}.get(plane, plane)]


def last_segment(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence[-1]
    groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1


def last_position(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    x, y, z = position.ImagePositionPatient
    position.ImagePositionPatient = [x, y, z + 0.5]


def last_source(dataset: Dataset) -> None:
    first, *_, last = dataset.PerFrameFunctionalGroupsSequence
    last.DerivationImageSequence = first.DerivationImageSequence


def last_frame_of_no_segment(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence[-1]
    del groups.SegmentIdentificationSequence
    groups.FrameContentSequence[0].DimensionIndexValues = groups.FrameContentSequence[0].DimensionIndexValues[-1]


def last_frame_of_a_foreign_segment(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence[-1]
    groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    groups.FrameContentSequence[0].DimensionIndexValues[0] = 9


def last_source_of_another_class(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence[-1]
    groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPClassUID = SecondaryCaptureImageStorage


LAST_FRAME_FAULTS: list[tuple[Change, str]] = [
    (longer_than_its_vr, "FrameLabel has a value of 68 characters"),
    (last_dimension, "dimension index"),
    (index_of_the_first_plane(0), "dimension index"),
    (index_of_the_first_plane(2), "dimension index"),
    (index_of_the_first_plane(70), "dimension index"),
    (exchanged_planes, "dimension index"),
    (last_segment, "two frames|dimension index"),
    (last_position, "away from the image"),
    (last_source, "away from the image"),
    (last_source_of_another_class, "image of another class"),
    (last_frame_of_no_segment, "not of one of the segments"),
    (last_frame_of_a_foreign_segment, "not of one of the segments"),
]


@pytest.mark.parametrize(("change", "reason"), LAST_FRAME_FAULTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_fault_is_caught_in_the_last_frame_though_all_before_it_were_alike(change: Change, reason: str) -> None:
    faulty, label_map, manifest = written_as("binary", change)

    with pytest.raises(VerificationError, match=reason):
        verify_segmentation(faulty, label_map, APART, manifest)


SOUND = written_as("binary")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_in_the_groups_of_a_frame_is_caught_or_changes_nothing_that_counts(data: st.DataObject) -> None:
    sound, label_map, manifest = SOUND
    first = sound.index(b"\x00\x52\x30\x92SQ")
    last = sound.index(b"\xe0\x7f\x10\x00O", first)
    faulty = bytearray(sound)
    faulty[data.draw(st.integers(first, last - 1))] = data.draw(st.integers(0, 255))

    try:
        verify_segmentation(bytes(faulty), label_map, APART, manifest)
    except VerificationError:
        return
    assert list(told_of_frames(bytes(faulty))) == list(told_of_frames(sound))


def told_of_frames(content: bytes) -> Iterator[tuple[object, ...]]:
    """Give what is said of each frame that can be known."""
    for groups in dcmread(io.BytesIO(content)).PerFrameFunctionalGroupsSequence:
        yield (
            groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID,
            [round(float(one), 1) for one in groups.PlanePositionSequence[0].ImagePositionPatient],
            groups.FrameContentSequence[0].DimensionIndexValues,
            groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
        )


def test_a_frame_of_a_label_map_that_names_a_segment_is_caught() -> None:
    def name_it(dataset: Dataset) -> None:
        identification, groups = Dataset(), dataset.PerFrameFunctionalGroupsSequence[-1]
        identification.ReferencedSegmentNumber = 1
        groups.SegmentIdentificationSequence = [identification]
        groups.FrameContentSequence[0].DimensionIndexValues = [1, groups.FrameContentSequence[0].DimensionIndexValues]

    faulty, label_map, manifest = written_as("labelmap", name_it)

    with pytest.raises(VerificationError, match="not of one of the segments"):
        verify_segmentation(faulty, label_map, APART, manifest, "labelmap")
