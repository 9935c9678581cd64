"""Segmentations, read by highdicom's own reader and by hand."""

import io

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from node.dicom.segmentation import segmentation
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.volume import LabelMap
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
    written,
)

DEFINITIONS = [definition("Body", 1, 2, 3, interpreted_type="EXTERNAL"), definition("Core", 2), definition("Box", 3)]


def built(source: list[Dataset], label_map: LabelMap | None = None) -> Dataset:
    manifest = manifest_of(source)
    return segmentation(label_map or ball_and_box(manifest.grid), DEFINITIONS, manifest, source[::-1], provenance())


def read_back(dataset: Dataset, stack: Grid) -> NDArray[np.bool_]:
    """Give ``[slice, row, column, segment]`` by the images that the frames name as their source."""
    result = highdicom.seg.segread(io.BytesIO(written(dataset)))
    uids = [plane.sop_instance_uid for plane in stack.planes]
    if stack.planes[0].frame_number is None:
        pixels = result.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    else:
        frames = [plane.frame_number or 0 for plane in stack.planes]
        pixels = result.get_pixels_by_source_frame(uids[0], frames, assert_missing_frames_are_empty=True)
    return pixels.astype(np.bool_)


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


def test_no_structure_is_refused() -> None:
    source = ct_series(grid())

    with pytest.raises(InputError, match="None of the model's structures"):
        segmentation(ball_and_box(grid()), [], manifest_of(source), source, provenance())
