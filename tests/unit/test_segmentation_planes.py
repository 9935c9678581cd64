"""Series of which one plane is turned or scaled a little: its frames lie where the plane lies, in hand-computed mm.

4 planes of 26 rows × 51 columns, 20 mm between rows and 10 mm between columns: the last pixel is 25 · 20 = 500 mm down
and 50 · 10 = 500 mm across from the first. Plane 2 stands at (-31.5, -22.25, 105 + 2 · 3); only it differs.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import highdicom
import numpy as np
import pytest
from pydicom import Dataset

from node.dicom.segmentation import segmentation
from node.dicom.verify_identity import verify_acquisition
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.errors import VerificationError
from node.domain.grid import Cosines, Grid
from node.domain.routing import SegmentationEncoding
from node.domain.series import SeriesManifest
from node.domain.volume import LabelMap
from tests.builders import ct_series, definition, enhanced_ct, grid, manifest_of, provenance, write_and_read, written
from tests.unit.test_segmentation import Unsure

STRUCTURES = [definition("Low", 1), definition("High", 2)]
ENCODINGS: Sequence[SegmentationEncoding] = ("binary", "labelmap", "fractional")

# By 4e-4 rad about z, from x towards y: X = (1, 4e-4, 0), Y = (-4e-4, 1, 0).
TURNED: Cosines = (1, 4e-4, 0, -4e-4, 1, 0)
# Where the last pixel of plane 2 is: x = -31.5 + 500 - 0.2, y = -22.25 + 0.2 + 500. Said of it as of the other planes,
# it would be at (468.5, 477.75), 0.2 · √2 = 0.283 mm away.
LAST_OF_TURNED = (468.3, 477.95, 111)
# 10.004 mm between columns: x = -31.5 + 50 · 10.004, which is 0.2 mm further.
SCALED = (20.0, 10.004)
LAST_OF_SCALED = (468.7, 477.75, 111)


def series(multi_frame: bool = False, **of_plane_2: Any) -> tuple[list[Dataset], SeriesManifest, LabelMap]:
    """Build a series whose plane 2 is another, and a structure on each half of every plane."""
    straight = grid(slices=4, rows=26, columns=51, spacing_mm=(3, 20, 10))
    if multi_frame:
        source = [enhanced_ct(straight)]
        planes = [*manifest_of(source).grid.planes]
    else:
        planes = [*straight.planes]
    planes[2] = replace(planes[2], **of_plane_2)
    stack = Grid(planes=tuple(planes))
    if not multi_frame:
        source = ct_series(stack)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    labels[:, 2:9, 3:20], labels[:, 12:20, 10:50] = 1, 2
    return source, replace(manifest_of(source), grid=stack), LabelMap(labels=labels, grid=stack)


def written_from(
    built: tuple[list[Dataset], SeriesManifest, LabelMap], encoding: SegmentationEncoding = "binary"
) -> Dataset:
    source, manifest, label_map = built
    return write_and_read(
        segmentation(label_map, STRUCTURES, manifest, source, provenance(), encoding, Unsure(label_map))
    )


def last_pixel(dataset: Dataset, groups: Dataset) -> list[float]:
    """Give where a frame says that its last pixel is (PS3.3 C.7.6.2.1.1), read by hand."""
    x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
    row_x, row_y, row_z, column_x, column_y, column_z = groups.PlaneOrientationSequence[0].ImageOrientationPatient
    down, across = groups.PixelMeasuresSequence[0].PixelSpacing
    down, across = down * (dataset.Rows - 1), across * (dataset.Columns - 1)
    return [
        x + across * row_x + down * column_x,
        y + across * row_y + down * column_y,
        z + across * row_z + down * column_z,
    ]


def frames_by_height(dataset: Dataset) -> dict[float, list[Dataset]]:
    found: dict[float, list[Dataset]] = {}
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        found.setdefault(float(groups.PlanePositionSequence[0].ImagePositionPatient[2]), []).append(groups)
    return found


@pytest.mark.parametrize("multi_frame", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("of_plane_2", "last"),
    [({"orientation": TURNED}, LAST_OF_TURNED), ({"pixel_spacing_mm": SCALED}, LAST_OF_SCALED)],
    ids=["turned", "scaled"],
)
def test_each_frame_lies_where_its_own_plane_lies(
    of_plane_2: dict[str, Any], last: tuple[float, ...], encoding: SegmentationEncoding, multi_frame: bool
) -> None:
    source, manifest, label_map = series(multi_frame, **of_plane_2)

    result = written_from((source, manifest, label_map), encoding)

    frames = frames_by_height(result)
    assert sorted(frames) == [105, 108, 111, 114]
    for height, groups in frames.items():
        expected = last if height == 111 else (468.5, 477.75, height)
        for one in groups:
            np.testing.assert_allclose(last_pixel(result, one), expected, rtol=0, atol=1e-9)
    assert "PlaneOrientationSequence" not in result.SharedFunctionalGroupsSequence[0]
    assert "PixelMeasuresSequence" not in result.SharedFunctionalGroupsSequence[0]
    assert "DimensionOrganizationType" not in result
    verify_segmentation(written(result), label_map, STRUCTURES, manifest, encoding)
    verify_acquisition(written(result), source, manifest.grid)


# The last pixel is off by 500 mm · angle · √2: 0.0099 mm by 1.4e-5, 0.0106 mm by 1.5e-5. It is off by 50 times what
# is more between the columns: 0.01 mm by 0.0002, 0.0105 mm by 0.00021.
@pytest.mark.parametrize(
    ("of_plane_2", "shared"),
    [
        ({"orientation": (1, 1.4e-5, 0, -1.4e-5, 1, 0)}, True),
        ({"orientation": (1, 1.5e-5, 0, -1.5e-5, 1, 0)}, False),
        ({"pixel_spacing_mm": (20.0, 10.0002)}, True),
        ({"pixel_spacing_mm": (20.0, 10.00021)}, False),
    ],
)
def test_planes_share_their_orientation_and_spacing_up_to_a_hundredth_of_a_millimetre(
    of_plane_2: dict[str, Any], shared: bool
) -> None:
    _, manifest, label_map = built = series(**of_plane_2)

    result = written_from(built)

    assert ("PlaneOrientationSequence" in result.SharedFunctionalGroupsSequence[0]) is shared
    assert all(("PixelMeasuresSequence" in one) is not shared for one in result.PerFrameFunctionalGroupsSequence)
    verify_segmentation(written(result), label_map, STRUCTURES, manifest)


def test_planes_that_are_nearly_alike_give_the_frames_of_planes_that_are() -> None:
    nearly = written_from(series(orientation=(1, 1e-5, 0, -1e-5, 1, 0)))
    alike = written_from(series())

    assert written(nearly) == written(alike)


def test_each_frame_has_the_slice_thickness_of_its_own_plane() -> None:
    source, manifest, label_map = series(orientation=TURNED)
    source[2].SliceThickness = "4"

    result = written_from((source, manifest, label_map))

    thickness_mm = {
        height: {one.PixelMeasuresSequence[0].SliceThickness for one in groups}
        for height, groups in frames_by_height(result).items()
    }
    assert thickness_mm == {105: {3}, 108: {3}, 111: {4}, 114: {3}}


def test_highdicom_reads_frames_of_planes_that_differ() -> None:
    _, manifest, label_map = built = series(orientation=TURNED)

    found = highdicom.seg.segread(io.BytesIO(written(written_from(built))))

    uids = [plane.sop_instance_uid for plane in manifest.grid.planes]
    pixels = found.get_pixels_by_source_instance(uids, [1, 2])
    np.testing.assert_array_equal(pixels[..., 0], label_map.labels == 1)
    np.testing.assert_array_equal(pixels[..., 1], label_map.labels == 2)


# Seeded faults.


def turned_as_the_first(dataset: Dataset) -> None:
    frames = frames_by_height(dataset)
    frames[111][-1].PlaneOrientationSequence = frames[105][0].PlaneOrientationSequence


def scaled_as_the_first(dataset: Dataset) -> None:
    frames = frames_by_height(dataset)
    frames[111][-1].PixelMeasuresSequence = frames[105][0].PixelMeasuresSequence


def first_as_the_turned(dataset: Dataset) -> None:
    frames = frames_by_height(dataset)
    frames[105][0].PlaneOrientationSequence = frames[111][0].PlaneOrientationSequence


def no_orientation(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[-1].PlaneOrientationSequence


def no_spacing(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[-1].PixelMeasuresSequence[0].PixelSpacing


def orientation_of_all_besides(dataset: Dataset) -> None:
    own = dataset.PerFrameFunctionalGroupsSequence[0]
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = own.PlaneOrientationSequence
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = own.PixelMeasuresSequence


def shared_as_the_first(dataset: Dataset) -> None:
    orientation_of_all_besides(dataset)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.PlaneOrientationSequence, groups.PixelMeasuresSequence


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (turned_as_the_first, "Orientation or spacing"),
        (scaled_as_the_first, "Orientation or spacing"),
        (first_as_the_turned, "Orientation or spacing"),
        (no_orientation, "PlaneOrientationSequence is missing"),
        (no_spacing, "PixelSpacing is missing"),
        (orientation_of_all_besides, "functional group"),
        # The end of the first row, 0.2 mm further across and 500.2 mm · 4e-4 down: √(0.2² + 0.2²). At the last pixel
        # the one makes up for what the other takes: 0.2 mm.
        (shared_as_the_first, r"0\.283 mm off"),
    ],
)
def test_a_frame_that_is_not_said_to_lie_as_its_plane_does_is_caught(
    fault: Callable[[Dataset], None], reason: str, encoding: SegmentationEncoding
) -> None:
    _, manifest, label_map = built = series(orientation=TURNED, pixel_spacing_mm=SCALED)
    dataset = written_from(built, encoding)
    fault(dataset)

    with pytest.raises(VerificationError, match=reason):
        verify_segmentation(written(dataset), label_map, STRUCTURES, manifest, encoding)


def test_a_slice_thickness_of_a_frame_that_no_image_has_is_caught() -> None:
    source, manifest, label_map = series(orientation=TURNED)
    dataset = written_from((source, manifest, label_map))
    dataset.PerFrameFunctionalGroupsSequence[-1].PixelMeasuresSequence[0].SliceThickness = "1"

    with pytest.raises(VerificationError, match="Slice Thickness"):
        verify_acquisition(written(dataset), source, manifest.grid)
