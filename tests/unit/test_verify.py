"""Seeded faults: each is caught when the written object is read back."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from node.dicom.rtstruct import rtstruct
from node.dicom.verify_rtstruct import verify_rtstruct
from node.domain.contours import build_structures
from node.domain.errors import VerificationError
from node.domain.series import SeriesManifest
from node.domain.volume import LabelMap
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

DEFINITIONS = [definition("All", 1, 2, 3), definition("Rind", 1), definition("Box", 3), definition("Nowhere", 9)]


def case(
    orientation: Orientation = "axial", tilt_mm: float = 0.0, multi_frame: bool = False
) -> tuple[list[Dataset], SeriesManifest, LabelMap]:
    stack = grid(orientation=orientation, tilt_mm=tilt_mm)
    source = [enhanced_ct(stack)] if multi_frame else ct_series(stack)
    manifest = manifest_of(source)
    return source, manifest, ball_and_box(manifest.grid)


def written_rtstruct(change: Change | None = None) -> tuple[bytes, LabelMap, SeriesManifest]:
    source, manifest, label_map = case()
    dataset = write_and_read(rtstruct(build_structures(label_map, DEFINITIONS), manifest, source, provenance()))
    if change is not None:
        change(dataset)
    return written(dataset), label_map, manifest


def moved(move: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Change:
    """Give a fault that moves every point of the first ROI."""

    def change(dataset: Dataset) -> None:
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            points = move(np.array(contour.ContourData, dtype=float).reshape(-1, 3))
            contour.ContourData = [f"{value:.3f}" for value in points.ravel()]

    return change


ORIGIN = np.array([-31.5, -22.25, 0.0])


def swapped_spacing(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.multiply(points - ORIGIN, [1.5 / 0.8, 0.8 / 1.5, 1.0]) + ORIGIN, dtype=np.float64)


def flipped_columns(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.add(points * [-1, 1, 1], [2 * (-31.5 + 19.5 * 0.8), 0, 0])


def half_a_pixel_off(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.add(points, [0.4, 0.75, 0.0])


def off_its_plane(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.add(points, [0.0, 0.0, 0.02])


def on_the_next_slice(dataset: Dataset) -> None:
    contours = dataset.ROIContourSequence[0].ContourSequence
    for contour in contours[:-1]:
        later = contours[-1]
        contour.ContourImageSequence = later.ContourImageSequence
        contour.ContourData = [
            later.ContourData[2] if index % 3 == 2 else value for index, value in enumerate(contour.ContourData)
        ]


def lost_hole(dataset: Dataset) -> None:
    """Take the outline of the whole for that of the rind, which has a hole."""
    dataset.ROIContourSequence[1].ContourSequence = dataset.ROIContourSequence[0].ContourSequence


def lost_contour(dataset: Dataset) -> None:
    del dataset.ROIContourSequence[1].ContourSequence[-1]


def another_series_image(dataset: Dataset) -> None:
    reference = dataset.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    reference.ReferencedSOPInstanceUID = "2.25.99"


def wrong_image(dataset: Dataset) -> None:
    contours = dataset.ROIContourSequence[0].ContourSequence
    contours[0].ContourImageSequence, contours[-1].ContourImageSequence = (
        contours[-1].ContourImageSequence,
        contours[0].ContourImageSequence,
    )


def image_missing_in_the_list(dataset: Dataset) -> None:
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    del study.RTReferencedSeriesSequence[0].ContourImageSequence[2]


def another_frame_of_reference(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "2.25.5"


def another_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "2.25.6"


def two_points(dataset: Dataset) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData, contour.NumberOfContourPoints = contour.ContourData[:6], 2


def miscounted_points(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].NumberOfContourPoints += 1


def swapped_names(dataset: Dataset) -> None:
    first, second = dataset.StructureSetROISequence[:2]
    first.ROIName, second.ROIName = second.ROIName, first.ROIName


def lost_region(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[2], dataset.ROIContourSequence[2], dataset.RTROIObservationsSequence[2]


def lost_observation(dataset: Dataset) -> None:
    del dataset.RTROIObservationsSequence[2]


def no_contours(dataset: Dataset) -> None:
    del dataset.ROIContourSequence[0].ContourSequence


RTSTRUCT_FAULTS: list[tuple[Change, str]] = [
    (moved(swapped_spacing), "outside the image"),
    (moved(flipped_columns), "differs from the label map"),
    (moved(half_a_pixel_off), "differs from the label map"),
    (moved(off_its_plane), "off the image"),
    (on_the_next_slice, "differs from the label map"),
    (lost_hole, "differs from the label map"),
    (lost_contour, "differs from the label map"),
    (another_series_image, "not of the series"),
    (wrong_image, "off the image"),
    (image_missing_in_the_list, "referenced images"),
    (another_frame_of_reference, "another frame of reference"),
    (another_study, "another study"),
    (two_points, "no polygon"),
    (miscounted_points, "no polygon"),
    (swapped_names, "differs from the label map"),
    (lost_region, "not those of the structures"),
    (lost_observation, "do not go together"),
    (no_contours, "differs from the label map"),
]


@pytest.mark.parametrize("multi_frame", [False, True])
@pytest.mark.parametrize("tilt_mm", [0.0, 0.7])
@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_sound_results_pass(orientation: Orientation, tilt_mm: float, multi_frame: bool) -> None:
    source, manifest, label_map = case(orientation, tilt_mm, multi_frame)
    structure_set = build_structures(label_map, DEFINITIONS)

    verify_rtstruct(written(rtstruct(structure_set, manifest, source, provenance())), label_map, DEFINITIONS, manifest)


@pytest.mark.parametrize(("change", "reason"), RTSTRUCT_FAULTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_fault_in_an_rtstruct_is_caught(change: Change, reason: str) -> None:
    faulty, label_map, manifest = written_rtstruct(change)

    with pytest.raises(VerificationError, match=reason):
        verify_rtstruct(faulty, label_map, DEFINITIONS, manifest)


def test_a_coordinate_that_is_too_long_is_caught() -> None:
    sound, label_map, manifest = written_rtstruct()
    coordinates = sound.index(b"\\", sound.index(b"CLOSED_PLANAR"))
    grown_together = sound[coordinates : coordinates + 40].replace(b"\\", b"0")

    with pytest.raises(VerificationError, match="longer than 16 bytes"):
        verify_rtstruct(
            sound[:coordinates] + grown_together + sound[coordinates + 40 :], label_map, DEFINITIONS, manifest
        )


def test_bytes_cut_short_are_caught() -> None:
    sound, label_map, manifest = written_rtstruct()

    for length in (0, 100, len(sound) // 2):
        with pytest.raises(VerificationError):
            verify_rtstruct(sound[:length], label_map, DEFINITIONS, manifest)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_label_map_is_caught(axis: int) -> None:
    sound, label_map, manifest = written_rtstruct()
    flipped = LabelMap(labels=np.flip(label_map.labels, axis), grid=label_map.grid)

    with pytest.raises(VerificationError, match="differs from the label map"):
        verify_rtstruct(sound, flipped, DEFINITIONS, manifest)


def test_a_label_map_on_another_grid_is_caught() -> None:
    sound, label_map, manifest = written_rtstruct()
    elsewhere = LabelMap(labels=label_map.labels, grid=grid(spacing_mm=(-3.0, 1.5, 0.8)))

    with pytest.raises(VerificationError, match="another grid"):
        verify_rtstruct(sound, elsewhere, DEFINITIONS, manifest)


def test_the_remedy_is_to_report_it() -> None:
    assert "quarantine" in VerificationError("x").remedy
