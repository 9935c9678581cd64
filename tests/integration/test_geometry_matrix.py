"""However a series lies in the patient, our objects stand where it does: against millimetres worked out by hand.

The whole way: files of a CT, found and judged as `delineate contour` does, a label map, the objects' bytes, and pydicom
alone to read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from pydicom import Dataset, dcmread

from node.dicom.rtstruct import rtstruct
from node.dicom.segmentation import segmentation
from node.domain.contours import build_structures
from node.domain.series import Complete, CompletionPolicy, SeriesManifest, Stalled
from node.offline import collect, judge
from tests.builders import definition, provenance, save_series, written
from tests.geometries import FEET, GEOMETRIES, Geometry, series_of, structure_on

TOLERANCE_MM = 0.02

STRUCTURES = [definition("Feet", 1)]

AXIAL = GEOMETRIES[0]

every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=[one.name for one in GEOMETRIES])


@dataclass(frozen=True, kw_only=True)
class Objects:
    """What a receiver has: the CT and our objects, as pydicom reads them."""

    images: Mapping[str, Dataset]
    rtstruct: Dataset
    segmentation: Dataset


def verdict_on(datasets: list[Dataset], folder: Path) -> Complete | Stalled:
    save_series(datasets, folder)
    found = collect([folder], folder / "unpacked")
    assert found.unusable == ()
    (instances,) = found.series
    return judge(instances, CompletionPolicy())


def objects_on(geometry: Geometry, folder: Path) -> Objects:
    verdict = verdict_on(series_of(geometry), folder)
    assert isinstance(verdict, Complete), verdict
    (manifest,) = verdict.manifests
    images = {str(one.SOPInstanceUID): one for one in map(dcmread, sorted(folder.glob("*.dcm")))}
    return Objects(images=images, **contoured(manifest, list(images.values())))


def contoured(manifest: SeriesManifest, source: list[Dataset]) -> dict[str, Dataset]:
    label_map = structure_on(manifest.grid)
    contours = rtstruct(build_structures(label_map, STRUCTURES), manifest, source, provenance())
    segments = segmentation(label_map, STRUCTURES, manifest, source, provenance())
    return {"rtstruct": read(written(contours)), "segmentation": read(written(segments))}


def read(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def apart_mm(one: ArrayLike, other: ArrayLike) -> float:
    return float(np.linalg.norm(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)))


def points_of(contour: Dataset) -> NDArray[np.float64]:
    return np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)


def middle_of(contour: Dataset) -> NDArray[np.float64]:
    """Give the centroid of the area: that of the pixels, where these are symmetric."""
    points = points_of(contour)
    spokes = points[1:] - points[0]
    doubled = np.cross(spokes[:-1], spokes[1:])
    weights = doubled @ doubled.sum(axis=0)
    thirds = (points[0] + points[1:-1] + points[2:]) / 3
    return np.asarray(weights @ thirds / weights.sum(), dtype=np.float64)


@every_geometry
def test_contours_stand_where_the_structure_does(geometry: Geometry, tmp_path: Path) -> None:
    found = objects_on(geometry, tmp_path)

    (region,) = found.rtstruct.ROIContourSequence
    middles = [middle_of(contour) for contour in region.ContourSequence]
    assert len(middles) == 6
    on_plane_2 = np.array([geometry.corner, geometry.along_row, geometry.along_column])
    to_plane_3 = np.subtract(*geometry.positions[::-1])
    for wanted in (*on_plane_2, *(on_plane_2 + to_plane_3)):
        assert min(apart_mm(wanted, middle) for middle in middles) <= TOLERANCE_MM


@every_geometry
def test_contours_lie_on_the_image_that_they_name(geometry: Geometry, tmp_path: Path) -> None:
    found = objects_on(geometry, tmp_path)

    (region,) = found.rtstruct.ROIContourSequence
    along_row = np.subtract(geometry.along_row, geometry.corner)
    along_column = np.subtract(geometry.along_column, geometry.corner)
    # The arms are 16 and 15 mm long and at right angles.
    normal = np.cross(along_row, along_column) / (16 * 15)
    for contour in region.ContourSequence:
        (reference,) = contour.ContourImageSequence
        position = found.images[reference.ReferencedSOPInstanceUID].ImagePositionPatient
        assert min(apart_mm(wanted, position) for wanted in geometry.positions) <= TOLERANCE_MM
        away = points_of(contour) - np.array(position, dtype=np.float64)
        assert np.abs(away @ normal).max() <= TOLERANCE_MM


@every_geometry
def test_frames_stand_where_the_structure_does(geometry: Geometry, tmp_path: Path) -> None:
    found = objects_on(geometry, tmp_path).segmentation

    (shared,) = found.SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [1.5, 0.8]
    assert np.allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, geometry.orientation, atol=1e-6)
    positions = [one.PlanePositionSequence[0].ImagePositionPatient for one in found.PerFrameFunctionalGroupsSequence]
    assert len(positions) == len(geometry.positions)
    for wanted in geometry.positions:
        assert min(apart_mm(wanted, position) for position in positions) <= TOLERANCE_MM
    feet = np.zeros((24, 40), dtype=np.uint8)
    for foot in FEET:
        feet[foot] = 1
    assert np.array_equal(found.pixel_array, [feet, feet])


@every_geometry
def test_frames_name_the_image_that_stands_there(geometry: Geometry, tmp_path: Path) -> None:
    found = objects_on(geometry, tmp_path)

    for frame in found.segmentation.PerFrameFunctionalGroupsSequence:
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        image = found.images[reference.ReferencedSOPInstanceUID]
        assert apart_mm(image.ImagePositionPatient, frame.PlanePositionSequence[0].ImagePositionPatient) <= 1e-6


def test_planes_at_uneven_distances_are_declined_with_their_distances(tmp_path: Path) -> None:
    # At z = 105, 108, 111, 115.2, 118.2, 121.2.
    verdict = verdict_on(series_of(AXIAL, steps=(0, 1, 2, 3.4, 4.4, 5.4)), tmp_path)

    assert isinstance(verdict, Stalled)
    assert verdict.reason == "variable slice spacing: gaps of 3.000 to 4.200 mm, mostly 3.000 mm"


def test_a_stack_that_lacks_a_plane_is_declined_with_the_place(tmp_path: Path) -> None:
    # At z = 105, 108, 111, 117, 120, 123.
    verdict = verdict_on(series_of(AXIAL, steps=(0, 1, 2, 4, 5, 6)), tmp_path)

    assert isinstance(verdict, Stalled)
    assert verdict.reason == "slice missing: gap of 6.000 mm between z=111.000 and z=117.000, others 3.000 mm"
