"""What programs of other projects make of our objects."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from node.dicom.basic_text_sr import basic_text_sr
from node.dicom.rtstruct import SegmentReference, rtstruct
from node.dicom.segmentation import segmentation
from node.domain.contours import build_structures
from node.domain.grid import Grid
from node.domain.masks import members
from node.domain.series import SeriesManifest
from tests.builders import (
    GERMAN,
    JANE,
    JAPANESE,
    PATIENT_POSITIONS,
    Identity,
    Orientation,
    ball_and_box,
    ct_series,
    definition,
    enhanced_ct,
    grid,
    manifest_of,
    provenance,
    save_series,
    written,
)
from tests.geometries import GEOMETRIES, Geometry, series_of
from tests.peer_readers import dice, on_grid, plastimatch, run
from tests.unit.test_basic_text_sr import NOTICE

pytestmark = pytest.mark.peers

NeedsProgram = Callable[..., None]

DEFINITIONS = [
    definition("Body", 1, 2, 3, interpreted_type="EXTERNAL"),
    definition("Rind", 1),
    definition("Box", 3),
    definition("Nowhere", 9),
]

CASES: list[tuple[Orientation, float, Identity]] = [
    ("axial", 0.0, JANE),
    ("oblique", 0.0, GERMAN),
    ("feet_first", 0.0, JAPANESE),
    ("axial", 0.7, JANE),
]
CASE_NAMES = ["axial", "oblique", "feet first", "tilt"]


def series(stack: Grid, orientation: Orientation, identity: Identity = JANE) -> list[Dataset]:
    return ct_series(stack, identity=identity, patient_position=PATIENT_POSITIONS.get(orientation, "HFS"))


def save_rtstruct(source: list[Dataset], folder: Path) -> tuple[Path, SeriesManifest]:
    manifest = manifest_of(source)
    structure_set = build_structures(ball_and_box(manifest.grid), DEFINITIONS)
    segmentation = SegmentReference(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4", sop_instance_uid="2.25.77", segment_numbers={"Body": 1, "Rind": 2}
    )
    path = folder / "rtstruct.dcm"
    path.write_bytes(written(rtstruct(structure_set, manifest, source, provenance(), segmentation=segmentation)))
    return path, manifest


def save_segmentation(source: list[Dataset], folder: Path) -> Path:
    manifest = manifest_of(source)
    path = folder / "seg.dcm"
    label_map = ball_and_box(manifest.grid)
    path.write_bytes(written(segmentation(label_map, DEFINITIONS[:3], manifest, source, provenance())))
    return path


def assert_dciodvfy_finds_nothing(path: Path, but: str = "no exception") -> None:
    _, said = run("dciodvfy", path)
    complaints = [line for line in said.splitlines() if line.startswith(("Error", "Warning")) and but not in line]
    assert complaints == []


def assert_drtdump_finds_nothing(path: Path) -> None:
    status, said = run("drtdump", "-v", path)
    assert status == 0
    assert not [line for line in said.splitlines() if line.startswith(("E:", "W:"))]


def assert_dcmpschk_finds_nothing(path: Path) -> None:
    status, said = run("dcmpschk", path)
    assert status == 0
    assert "Test passed" in said


@pytest.mark.parametrize(("orientation", "tilt_mm", "identity"), CASES, ids=CASE_NAMES)
def test_validators_find_nothing_in_an_rtstruct(
    orientation: Orientation, tilt_mm: float, identity: Identity, tmp_path: Path, needs_program: NeedsProgram
) -> None:
    needs_program("dciodvfy", "drtdump", "dcmpschk")
    source = series(grid(orientation=orientation, tilt_mm=tilt_mm), orientation, identity)

    path, _ = save_rtstruct(source, tmp_path)

    assert_dciodvfy_finds_nothing(path)
    assert_drtdump_finds_nothing(path)
    assert_dcmpschk_finds_nothing(path)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=[one.name for one in GEOMETRIES])
def test_validators_find_nothing_however_the_series_lies(
    geometry: Geometry, tmp_path: Path, needs_program: NeedsProgram
) -> None:
    needs_program("dciodvfy", "drtdump", "dcmpschk")
    source = series_of(geometry)

    contours, _ = save_rtstruct(source, tmp_path)
    segments = save_segmentation(source, tmp_path)

    assert_drtdump_finds_nothing(contours)
    for path in (contours, segments):
        assert_dciodvfy_finds_nothing(path)
        assert_dcmpschk_finds_nothing(path)


@pytest.mark.parametrize(("orientation", "tilt_mm", "identity"), CASES, ids=CASE_NAMES)
def test_dciodvfy_finds_nothing_in_a_segmentation(
    orientation: Orientation, tilt_mm: float, identity: Identity, tmp_path: Path, needs_program: NeedsProgram
) -> None:
    needs_program("dciodvfy")
    source = series(grid(orientation=orientation, tilt_mm=tilt_mm), orientation, identity)

    assert_dciodvfy_finds_nothing(save_segmentation(source, tmp_path))


def test_dciodvfy_finds_nothing_in_results_on_a_multi_frame_image(tmp_path: Path, needs_program: NeedsProgram) -> None:
    needs_program("dciodvfy")
    source = [enhanced_ct(grid())]

    assert_dciodvfy_finds_nothing(save_rtstruct(source, tmp_path)[0])
    assert_dciodvfy_finds_nothing(save_segmentation(source, tmp_path))


def test_validators_find_nothing_in_frames_that_state_their_own_planes(
    tmp_path: Path, needs_program: NeedsProgram
) -> None:
    needs_program("dciodvfy", "dcmpschk")
    source = series(grid(rows=64, columns=64), "axial")
    # The last pixel is 63 · 0.8 = 50.4 mm across and 63 · 1.5 = 94.5 mm down: 107.1 mm · 4e-4 = 0.043 mm off.
    source[3].ImageOrientationPatient = [1, 4e-4, 0, -4e-4, 1, 0]

    path = save_segmentation(source, tmp_path)

    assert "PlaneOrientationSequence" in dcmread(path).PerFrameFunctionalGroupsSequence[0]
    assert_dciodvfy_finds_nothing(path)
    assert_dcmpschk_finds_nothing(path)


def test_dciodvfy_finds_nothing_in_results_of_a_poor_source(tmp_path: Path, needs_program: NeedsProgram) -> None:
    needs_program("dciodvfy")
    source = series(grid(), "axial")
    for header in source:
        del header.AccessionNumber, header.PatientSex, header.StudyTime, header.ReferringPhysicianName, header.KVP
        header.StudyID = ""

    # Empty as in the source, which is all that the standard asks for; a DICOMDIR asks for more.
    assert_dciodvfy_finds_nothing(save_rtstruct(source, tmp_path)[0], but="DICOMDIR")
    assert_dciodvfy_finds_nothing(save_segmentation(source, tmp_path), but="DICOMDIR")


@pytest.mark.parametrize("orientation", ["axial", "feet_first", "sagittal"])
def test_plastimatch_fills_our_contours_with_our_voxels(
    orientation: Orientation, tmp_path: Path, needs_program: NeedsProgram
) -> None:
    needs_program("plastimatch")
    source = series(grid(orientation=orientation, slices=8), orientation)
    save_series(source, tmp_path / "ct")
    path, manifest = save_rtstruct(source, tmp_path)

    found = plastimatch(path, tmp_path / "ct", tmp_path / "masks")

    labels = ball_and_box(manifest.grid).labels
    for one in DEFINITIONS[:3]:
        filled = on_grid(found[one.name], manifest.grid) > 0
        assert dice(filled, members(labels, one.label_values)) >= 0.98, one.name


def test_dciodvfy_and_dsrdump_find_nothing_in_the_report_of_a_negative_result(
    tmp_path: Path, needs_program: NeedsProgram
) -> None:
    needs_program("dciodvfy", "dsrdump")
    path = tmp_path / "report.dcm"
    source = ct_series(grid(slices=4))
    path.write_bytes(written(basic_text_sr(NOTICE, source)))

    # The code of its title is our own.
    assert_dciodvfy_finds_nothing(path, but="99DELINEATE")
    status, said = run("dsrdump", "--verbose", "+Pl", path)

    assert status == 0
    assert "No contours were made by" in said
    assert "E: " not in said
    assert "W: " not in said
