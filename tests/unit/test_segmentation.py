"""Segmentations, read by highdicom's own reader and by hand."""

import io
from collections.abc import Sequence

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from node.dicom.segmentation import segmentation, why_no_labelmap
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.routing import SegmentationEncoding
from node.domain.volume import Box, LabelMap
from tests.builders import (
    ORIENTATIONS,
    Identity,
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

ENCODINGS: Sequence[SegmentationEncoding] = ("binary", "labelmap", "fractional")

# Without a voxel in common.
APART = [definition("Rind", 1), definition("Core", 2), definition("Box", 3)]
DEFINITIONS = [definition("Body", 1, 2, 3, interpreted_type="EXTERNAL"), definition("Core", 2), definition("Box", 3)]


def built(source: list[Dataset], label_map: LabelMap | None = None) -> Dataset:
    manifest = manifest_of(source)
    return segmentation(label_map or ball_and_box(manifest.grid), DEFINITIONS, manifest, source[::-1], provenance())


def read_back(dataset: Dataset, stack: Grid) -> NDArray[np.bool_]:
    """Give ``[slice, row, column, segment]`` by the images that the frames name as their source."""
    result = highdicom.seg.segread(io.BytesIO(written(dataset)))
    uids = [plane.sop_instance_uid for plane in stack.planes]
    numbers = [number for number in result.segment_numbers if number > 0]
    if stack.planes[0].frame_number is None:
        pixels = result.get_pixels_by_source_instance(uids, numbers, assert_missing_frames_are_empty=True)
    else:
        frames = [plane.frame_number or 0 for plane in stack.planes]
        pixels = result.get_pixels_by_source_frame(uids[0], frames, numbers, assert_missing_frames_are_empty=True)
    return np.asarray(pixels > 0.5)


def encoded(source: list[Dataset], encoding: SegmentationEncoding, label_map: LabelMap | None = None) -> Dataset:
    """Build a Segmentation of structures that have no voxel in common."""
    manifest = manifest_of(source)
    drawn = label_map or ball_and_box(manifest.grid)
    return segmentation(drawn, APART, manifest, source[::-1], provenance(), encoding, Unsure(drawn))


def assert_label_map(dataset: Dataset, label_map: LabelMap) -> None:
    """Hold what highdicom reads by source image, above half, against the label map."""
    pixels = read_back(dataset, label_map.grid)
    for index, one in enumerate(APART):
        np.testing.assert_array_equal(pixels[..., index], np.isin(label_map.labels, one.label_values))


class Unsure:
    """A model that is sure to 0.8 of what the label map says."""

    def __init__(self, label_map: LabelMap) -> None:
        self._labels = label_map.labels

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32]:
        return np.where(np.isin(self._labels[box], label_values), 0.8, 0.2).astype(np.float32)


def assert_masks(dataset: Dataset, label_map: LabelMap) -> None:
    pixels = read_back(dataset, label_map.grid)
    for index, one in enumerate(DEFINITIONS):
        np.testing.assert_array_equal(pixels[..., index], np.isin(label_map.labels, one.label_values))


@pytest.mark.parametrize("tilt_mm", [0.0, 0.7])
@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_each_segment_holds_its_voxels_in_every_orientation(orientation: Orientation, tilt_mm: float) -> None:
    stack = grid(orientation=orientation, tilt_mm=tilt_mm)

    result = built(ct_series(stack))

    assert_masks(result, ball_and_box(stack))


def test_a_multi_frame_image_is_named_with_its_frames() -> None:
    source = [enhanced_ct(grid())]

    result = built(source)

    assert_masks(result, ball_and_box(manifest_of(source).grid))
    assert [item.ReferencedSOPInstanceUID for item in result.SourceImageSequence] == [source[0].SOPInstanceUID]
    reference = result.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert reference.ReferencedSOPClassUID == source[0].SOPClassUID


def test_odd_sizes_whose_frames_end_within_a_byte_survive() -> None:
    stack = grid(rows=17, columns=25)

    assert_masks(built(ct_series(stack)), ball_and_box(stack))


def test_wide_label_maps_survive() -> None:
    stack = grid()
    labels = ball_and_box(stack).labels.astype(np.uint16)

    assert_masks(built(ct_series(stack), LabelMap(labels=labels, grid=stack)), ball_and_box(stack))


def test_a_header_without_what_highdicom_needs_is_enough() -> None:
    source = ct_series(grid())
    for header in source:
        for keyword in ("AccessionNumber", "StudyID", "StudyTime", "PatientID", "PatientBirthDate", "SliceThickness"):
            del header[keyword]

    assert_masks(built(source), ball_and_box(grid()))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "keyword", ["AccessionNumber", "StudyID", "StudyTime", "PatientID", "PatientBirthDate", "PatientSex"]
)
def test_an_identity_that_is_missing_is_left_empty(keyword: str, encoding: SegmentationEncoding) -> None:
    source = ct_series(grid())
    for header in source:
        del header[keyword]

    result = encoded(source, encoding)

    assert result[keyword].is_empty
    assert_label_map(result, ball_and_box(grid()))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_slice_thickness_that_is_missing_is_the_distance_of_the_slices(encoding: SegmentationEncoding) -> None:
    source = ct_series(grid())
    for header in source:
        del header.SliceThickness

    result = encoded(source, encoding)

    assert result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 3
    assert_label_map(result, ball_and_box(grid()))


@pytest.mark.filterwarnings("error")
def test_a_name_of_one_word_is_kept_and_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    source = ct_series(grid(), identity=Identity(patient_name="UNHYPHENATED"))

    result = built(source)

    assert result.PatientName == "UNHYPHENATED"
    assert "UNHYPHENATED" not in caplog.text


def test_equal_arguments_give_equal_bytes() -> None:
    assert written(built(ct_series(grid()))) == written(built(ct_series(grid())))


def test_frames_without_a_voxel_are_left_out() -> None:
    result = built(ct_series(grid()))

    label_map = ball_and_box(grid())
    filled = [np.isin(label_map.labels, one.label_values).any(axis=(1, 2)).sum() for one in DEFINITIONS]
    assert result.NumberOfFrames == sum(filled)


def test_overlap_is_declared() -> None:
    source = ct_series(grid())
    manifest = manifest_of(source)
    apart = segmentation(ball_and_box(manifest.grid), DEFINITIONS[1:], manifest, source, provenance())

    assert built(source).SegmentsOverlap == "YES"
    assert apart.SegmentsOverlap == "NO"


def test_segments_carry_label_code_algorithm_and_disclaimer() -> None:
    result = built(ct_series(grid()))

    body, core, _ = result.SegmentSequence
    assert [body.SegmentLabel, core.SegmentLabel] == ["Body", "Core"]
    assert core.SegmentAlgorithmType == "AUTOMATIC"
    assert core.SegmentAlgorithmName == "Torso organs"
    assert core.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"
    modifier = core.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Left"
    assert "research use" in result.SeriesDescription
    assert result.ContentDescription == "Research use; not a medical device"
    assert result.SoftwareVersions[0] == "Delineate 0.1.0"


def test_a_mask_of_a_lossy_image_stays_marked() -> None:
    source = ct_series(grid())
    for header in source:
        header.LossyImageCompression, header.LossyImageCompressionRatio = "01", "8.5"
        header.LossyImageCompressionMethod = "ISO_10918_1"

    result = built(source)

    assert (result.LossyImageCompression, result.LossyImageCompressionRatio) == ("01", 8.5)


def test_a_mask_of_images_of_which_some_are_lossy_is_marked() -> None:
    source = ct_series(grid())
    source[3].LossyImageCompression, source[3].LossyImageCompressionRatio = "01", "8.5"

    result = built(source)

    assert (result.LossyImageCompression, result.LossyImageCompressionRatio) == ("01", 8.5)


def test_the_slice_thickness_of_frames_is_that_of_their_functional_groups() -> None:
    source = enhanced_ct(grid())
    source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = "5"

    result = built([source])

    assert result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 5


def test_a_slice_thickness_that_is_no_number_is_the_distance_of_the_slices() -> None:
    source = ct_series(grid())
    for header in source:
        header[Tag("SliceThickness")] = RawDataElement(Tag("SliceThickness"), "DS", 4, b"inf ", 0, False, True)

    result = built(source)

    assert result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 3


def test_no_structure_is_refused() -> None:
    source = ct_series(grid())

    with pytest.raises(InputError, match="None of the model's structures"):
        segmentation(ball_and_box(grid()), [], manifest_of(source), source, provenance())


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("tilt_mm", [0.0, 0.7])
@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_highdicom_reads_every_encoding_by_source_image(
    orientation: Orientation, tilt_mm: float, encoding: SegmentationEncoding
) -> None:
    stack = grid(orientation=orientation, tilt_mm=tilt_mm)

    assert_label_map(encoded(ct_series(stack), encoding), ball_and_box(stack))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_highdicom_reads_every_encoding_by_source_frame(encoding: SegmentationEncoding) -> None:
    source = [enhanced_ct(grid())]

    assert_label_map(encoded(source, encoding), ball_and_box(manifest_of(source).grid))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_descending_stack_with_a_gap_survives(encoding: SegmentationEncoding) -> None:
    whole = grid(slices=8, spacing_mm=(-3.0, 1.5, 0.8))
    stack = Grid(planes=(*whole.planes[:3], *whole.planes[4:]))
    source = ct_series(stack)

    result = encoded(source, encoding)

    assert_label_map(result, ball_and_box(manifest_of(source).grid))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_equal_arguments_give_equal_bytes_in_every_encoding(encoding: SegmentationEncoding) -> None:
    assert written(encoded(ct_series(grid()), encoding)) == written(encoded(ct_series(grid()), encoding))


def test_each_encoding_is_an_object_of_a_series_of_its_own() -> None:
    results = [encoded(ct_series(grid()), encoding) for encoding in ENCODINGS]

    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({str(result[keyword].value) for result in results}) == 3
    assert len({result.DimensionOrganizationSequence[0].DimensionOrganizationUID for result in results}) == 3


def test_classes_types_and_transfer_syntaxes_are_those_of_the_encoding() -> None:
    binary, labelmap, fractional = (write_and_read(encoded(ct_series(grid()), encoding)) for encoding in ENCODINGS)

    assert [one.SOPClassUID.rpartition(".")[2] for one in (binary, labelmap, fractional)] == ["4", "7", "4"]
    assert [one.SegmentationType for one in (binary, labelmap, fractional)] == ["BINARY", "LABELMAP", "FRACTIONAL"]
    names = [one.file_meta.TransferSyntaxUID.name for one in (binary, labelmap, fractional)]
    assert names == ["Explicit VR Little Endian", "RLE Lossless", "RLE Lossless"]
    assert (fractional.SegmentationFractionalType, fractional.MaximumFractionalValue) == ("PROBABILITY", 255)
    assert [one.SegmentsOverlap for one in (binary, labelmap, fractional)] == ["NO", "NO", "UNDEFINED"]


def test_pixels_of_a_label_map_are_segment_numbers() -> None:
    source = ct_series(grid())
    label_map = ball_and_box(grid())
    swapped = [definition("Box", 3), definition("Ball", 1, 2)]

    result = write_and_read(segmentation(label_map, swapped, manifest_of(source), source, provenance(), "labelmap"))

    assert [(item.SegmentNumber, item.SegmentLabel) for item in result.SegmentSequence] == [
        (0, "Background"),
        (1, "Box"),
        (2, "Ball"),
    ]
    # highdicom orders planes against the normal.
    filled = [plane for plane in label_map.labels[::-1] if plane.any()]
    np.testing.assert_array_equal(result.pixel_array, np.array([0, 2, 2, 1], dtype=np.uint8)[filled])
    assert (result.PixelPaddingValue, result.BitsAllocated) == (0, 8)


@pytest.mark.parametrize(("structures", "bits"), [(255, 8), (300, 16)])
def test_more_than_255_segments_take_16_bits(structures: int, bits: int) -> None:
    stack = grid()
    labels = np.zeros(stack.shape, dtype=np.uint16)
    labels[2, 5:20].reshape(-1)[:structures] = np.arange(1, structures + 1)
    label_map = LabelMap(labels=labels, grid=stack)
    many = [definition(f"Structure {value}", value) for value in range(1, structures + 1)]
    source = ct_series(stack)

    result = segmentation(label_map, many, manifest_of(source), source, provenance(), "labelmap")

    assert result.BitsAllocated == bits
    verify_segmentation(written(result), label_map, many, manifest_of(source), "labelmap")
    pixels = read_back(result, stack)
    assert pixels.shape[-1] == structures
    np.testing.assert_array_equal(pixels[2, ..., 254], labels[2] == 255)


def test_structures_that_share_voxels_are_no_label_map() -> None:
    source = ct_series(grid())

    assert why_no_labelmap(APART) == ""
    assert why_no_labelmap(DEFINITIONS) == "Body and Core share voxels, which a label map cannot say."
    with pytest.raises(InputError, match="Body and Core share voxels"):
        segmentation(ball_and_box(grid()), DEFINITIONS, manifest_of(source), source, provenance(), "labelmap")


def test_a_fractional_result_needs_probabilities() -> None:
    source = ct_series(grid())

    with pytest.raises(InputError, match="no probabilities"):
        segmentation(ball_and_box(grid()), APART, manifest_of(source), source, provenance(), "fractional")


def test_probabilities_are_stored_with_255_for_certainty() -> None:
    label_map = ball_and_box(grid())

    result = write_and_read(encoded(ct_series(grid()), "fractional"))

    # 0.8 × 255 and 0.2 × 255, ten voxels around the box of rows 19 to 22 and columns 31 to 37, on all 6 slices.
    frames = [
        frame
        for frame, groups in zip(result.pixel_array, result.PerFrameFunctionalGroupsSequence, strict=True)
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 3
    ]
    expected = np.where(label_map.labels == 3, 204, 51)
    expected[:, :9] = expected[:, :, :21] = 0
    np.testing.assert_array_equal(np.array(frames)[::-1], expected)


def test_a_single_segment_is_identified_for_all_frames_at_once() -> None:
    source = ct_series(grid())
    label_map = ball_and_box(grid())

    result = write_and_read(segmentation(label_map, APART[:1], manifest_of(source), source, provenance()))

    shared = result.SharedFunctionalGroupsSequence[0]
    assert shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
    verify_segmentation(written(result), label_map, APART[:1], manifest_of(source))


def test_planes_are_counted_from_1_where_they_have_a_frame() -> None:
    source = ct_series(grid())

    result = segmentation(ball_and_box(grid()), APART[2:], manifest_of(source), source, provenance())

    values = [item.FrameContentSequence[0].DimensionIndexValues for item in result.PerFrameFunctionalGroupsSequence]
    assert [list(value) for value in values] == [[1, 1], [1, 2], [1, 3]]


def test_a_label_map_without_any_of_the_structures_is_refused() -> None:
    source = ct_series(grid())

    for encoding in ENCODINGS:
        with pytest.raises(InputError, match="None of the model's structures"):
            segmentation(
                ball_and_box(grid()),
                [definition("Nowhere", 9)],
                manifest_of(source),
                source,
                provenance(),
                encoding,
                Unsure(ball_and_box(grid())),
            )
