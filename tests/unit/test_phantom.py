"""The phantom is a real CT series, and what it claims to be true of itself holds."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from node.demo.phantom import PlanningCT, Scan, planning_ct, write_planning_ct

# Heights above the diaphragm: -54, -24 … 216; 40 × 56 pixels of 9 × 8 mm.
COARSE = Scan(slices=10, rows=40, columns=56, pixel_spacing_mm=(9.0, 8.0), slice_spacing_mm=30.0)


@pytest.fixture(scope="module")
def coarse() -> PlanningCT:
    return planning_ct(COARSE)


def test_slices_run_from_feet_to_head_at_their_spacing(coarse: PlanningCT) -> None:
    grid = coarse.volume.grid

    assert grid.shape == (10, 40, 56)
    np.testing.assert_allclose(np.diff(grid.distances_mm), 30.0, atol=1e-3)
    # The middle of 56 columns of 8 mm lies at 4.3: 4.3 - 27.5 · 8.
    assert grid.planes[0].position_lps_mm == pytest.approx((-215.7, -338.2, -652.25))


def test_files_hold_the_voxels_and_planes_of_the_volume(coarse: PlanningCT, tmp_path: Path) -> None:
    written = write_planning_ct(tmp_path / "ct", COARSE)

    for index, file in enumerate(written.files):
        dataset = dcmread(file)
        np.testing.assert_array_equal(dataset.pixel_array - 1024.0, coarse.volume.voxels[index])
        plane = coarse.volume.grid.planes[index]
        assert dataset.SOPInstanceUID == plane.sop_instance_uid
        assert tuple(dataset.ImagePositionPatient) == pytest.approx(plane.position_lps_mm)
        assert tuple(dataset.PixelSpacing) == (9.0, 8.0)
        assert dataset.InstanceNumber == 10 - index
    assert written.truth == coarse.truth


def test_the_same_scan_makes_the_same_bytes(tmp_path: Path) -> None:
    scan = Scan(slices=2, rows=16, columns=20, pixel_spacing_mm=(20.0, 18.0))

    first = write_planning_ct(tmp_path / "first", scan)
    second = write_planning_ct(tmp_path / "second", scan)

    assert [file.read_bytes() for file in first.files] == [file.read_bytes() for file in second.files]


def test_a_fresh_scan_is_another_examination_of_the_same_patient(tmp_path: Path) -> None:
    scan = Scan(slices=2, rows=16, columns=20, pixel_spacing_mm=(20.0, 18.0))

    first = write_planning_ct(tmp_path / "first", scan)
    second = write_planning_ct(tmp_path / "second", scan, fresh=True)

    datasets = [dcmread(written.files[0]) for written in (first, second)]
    assert first.series_instance_uid != second.series_instance_uid
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert datasets[0][keyword].value != datasets[1][keyword].value
    assert datasets[0].PatientID == datasets[1].PatientID == "DEMO"
    np.testing.assert_array_equal(datasets[0].pixel_array, datasets[1].pixel_array)


def test_every_file_is_valid_ct(needs_program: Callable[..., None], tmp_path: Path) -> None:
    needs_program("dciodvfy")
    written = write_planning_ct(tmp_path, Scan(slices=2, rows=16, columns=20, pixel_spacing_mm=(20.0, 18.0)))

    for file in written.files:
        verdict = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        assert "Error" not in verdict.stdout + verdict.stderr


def test_true_volumes_do_not_depend_on_the_pixels() -> None:
    coarse = planning_ct(Scan(slices=30, rows=64, columns=80, pixel_spacing_mm=(5.6, 5.6), slice_spacing_mm=9.0))
    fine = planning_ct(Scan(slices=30, rows=224, columns=256, pixel_spacing_mm=(1.6, 1.75), slice_spacing_mm=9.0))

    assert coarse.truth.body_cm3 == pytest.approx(fine.truth.body_cm3, rel=0.005)
    # An adult's trunk from the loins to the shoulders.
    assert 14_000 < fine.truth.body_cm3 < 19_000
    assert 600 < fine.truth.bones_cm3 < 1_200


def test_the_liver_is_right_and_the_heart_left(coarse: PlanningCT) -> None:
    # 24 and 54 below and above the domes; the patient's left is the higher column.
    under, above = coarse.volume.voxels[1], coarse.volume.voxels[3]

    assert np.mean(under[20:22, 17:22]) == pytest.approx(61, abs=25)
    heart = above[8:24] > 0
    assert heart[:, 28:38].sum() > 2 * heart[:, 18:28].sum()


def test_the_couch_is_behind_the_patient_and_gas_in_front(coarse: PlanningCT) -> None:
    under = coarse.volume.voxels[1]
    rows_of_the_shell = np.flatnonzero(under[:, 0] > -900)

    # The couch's top is 116 mm: (116 - 24) / 9 + 19.5 = row 29.7.
    assert rows_of_the_shell.min() in (29, 30)
    # Stomach, left of the middle: gas down to y = -42 mm (row 12.2), fluid behind it.
    assert under[12, 34] < -500
    assert under[14, 34] == pytest.approx(30, abs=30)


def test_bone_dense_voxels_lie_at_true_bone() -> None:
    scan = Scan(slices=8, rows=224, columns=256, slice_spacing_mm=33.0)
    phantom = planning_ct(scan)

    dense = float((phantom.volume.voxels > 150).sum()) * phantom.volume.grid.voxel_volume_mm3 / 1000

    assert dense == pytest.approx(phantom.truth.bones_cm3, rel=0.2)
