import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from node.dataset.nifti import Image, affine_of, read_nifti, turned_to_lps, write_nifti
from node.dataset.raw import Case, TrainingSet, read_training_set, write_training_set
from node.domain.errors import InputError, SetupError
from node.domain.grid import Grid
from tests.builders import grid


def test_an_image_lies_where_its_affine_says_whatever_way_its_file_has_it(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    stored = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    # Columns of 1.5 mm to the right, rows of 0.8 mm to the front, slices of 3 mm to the feet, in NIfTI's RAS.
    affine = np.array([[1.5, 0, 0, 10], [0, 0.8, 0, -20], [0, 0, -3, 30], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "a.nii")

    image = read_nifti(tmp_path / "a.nii")

    assert image.voxels.shape == (4, 3, 2)
    assert image.spacing_mm == pytest.approx((3, 0.8, 1.5))
    # Stored voxel (1, 2, 3) lies at RAS 11.5, -18.4, 21: LPS -11.5, 18.4, 21; it is the first of all turned axes.
    assert image.affine_lps_mm[:3, 3] == pytest.approx([-11.5, 18.4, 21])
    assert image.affine_lps_mm[:3, :3] == pytest.approx(np.diag([1.5, 0.8, 3]))
    assert image.voxels[0, 0, 0] == stored[1, 2, 3]
    assert image.voxels[3, 2, 1] == stored[0, 0, 0]
    assert image.voxels[1, 0, 0] == stored[1, 2, 2]


def test_what_is_written_is_read_by_others_in_their_frame(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.zeros((4, 3, 2), dtype=np.uint8)
    voxels[1, 2, 0] = 7
    affine = np.array([[1.5, 0, 0, 5], [0, 0.8, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])

    write_nifti(tmp_path / "a.nii.gz", Image(voxels=voxels, affine_lps_mm=affine))

    written = nibabel.load(tmp_path / "a.nii.gz")
    (place,) = np.argwhere(np.asarray(written.dataobj) == 7)
    # Column 0, row 2, slice 1: LPS 5, 7.6, 10.
    assert nibabel.affines.apply_affine(written.affine, place) == pytest.approx([-5, -7.6, 10])
    assert written.header.get_xyzt_units()[0] == "mm"


def test_a_stack_lies_where_its_planes_lie_or_is_refused() -> None:
    stack = grid(orientation="oblique", slices=5)

    affine = affine_of(stack)

    # Column 7, row 3 of plane 4, by the equation of the standard.
    (stated,) = stack.points_lps_mm(4, [3], [7])
    assert affine @ (7, 3, 4, 1) == pytest.approx([*stated, 1], abs=1e-3)
    # A third of a millimetre more from plane to plane: the ends are 0.66 mm off.
    with pytest.raises(InputError, match=r"0\.66 mm off .*gantry tilt of 0\.330 mm each"):
        affine_of(grid(slices=5, tilt_mm=0.33))
    planes = stack.planes
    with pytest.raises(InputError, match="irregular"):
        affine_of(Grid(planes=(*planes[:2], *planes[3:])))


def test_axes_are_turned_to_the_patients() -> None:
    pytest.importorskip("nibabel")
    voxels = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    # Feet first: columns grow to the right, slices to the feet.
    affine = np.array([[-0.8, 0, 0, 5], [0, 1.5, 0, 6], [0, 0, -3, 7], [0, 0, 0, 1.0]])

    turned = turned_to_lps(Image(voxels=voxels, affine_lps_mm=affine))

    assert np.array_equal(turned.voxels, voxels[::-1, :, ::-1])
    # The last column and slice are first: 5 - 0.8, 7 - 3 · 3.
    assert turned.affine_lps_mm[:3, 3] == pytest.approx([4.2, 6, -2])
    assert turned.affine_lps_mm[:3, :3] == pytest.approx(np.diag([0.8, 1.5, 3]))


def test_what_is_no_image_of_three_axes_is_refused(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "text.nii").write_text("no image", encoding="ascii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 2), np.int16), np.eye(4)), tmp_path / "four.nii")

    with pytest.raises(InputError, match="cannot be read"):
        read_nifti(tmp_path / "text.nii")
    with pytest.raises(InputError, match="cannot be read"):
        read_nifti(tmp_path / "none.nii")
    with pytest.raises(InputError, match="4 axes"):
        read_nifti(tmp_path / "four.nii")
    colours = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "colours.nii")
    with pytest.raises(InputError, match="holds colours"):
        read_nifti(tmp_path / "colours.nii")


def test_a_damaged_file_is_told_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    noise = np.random.default_rng(1).integers(0, 200, (20, 20, 20)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), tmp_path / "whole.nii.gz")
    written = (tmp_path / "whole.nii.gz").read_bytes()
    middle = len(written) // 2
    damaged = {
        "cut.nii.gz": written[:middle],
        "flipped.nii.gz": written[:middle]
        + bytes(255 - each for each in written[middle : middle + 64])
        + written[-99:],
        "empty.nii.gz": b"",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_nifti(tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), tmp_path / "a.nii")
    header = bytearray((tmp_path / "a.nii").read_bytes())
    for row in (0.0, math.nan):
        # srow_y of the header.
        header[296:312] = struct.pack("<4f", row, row, row, row)
        (tmp_path / "a.nii").write_bytes(header)
        with pytest.raises(InputError, match="does not say where"):
            read_nifti(tmp_path / "a.nii")


def training_set(folder: Path) -> TrainingSet:
    cases = (
        Case(name="neck_001", patient="p1", split="train", contoured=("Cord", "Parotid_L")),
        Case(name="neck_002", patient="p2", split="validation", contoured=("Cord",)),
        Case(name="neck_003", patient="p3", split="test", contoured=()),
    )
    return TrainingSet(folder=folder, name="neck", channels=("CT",), organs=("Parotid_L", "Cord"), cases=cases)


def with_files(wanted: TrainingSet) -> TrainingSet:
    write_training_set(wanted)
    for case in wanted.cases:
        for path in (*wanted.images(case), wanted.labels(case)):
            path.touch()
    return wanted


def test_a_training_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = with_files(training_set(tmp_path))

    read = read_training_set(tmp_path)

    assert read == written
    assert [each.name for each in read.of("validation")] == ["neck_002"]
    assert read.images(read.cases[2]) == (tmp_path / "imagesTs/neck_003_0000.nii.gz",)
    assert read.labels(read.cases[0]) == tmp_path / "labelsTr/neck_001.nii.gz"


def test_a_training_set_that_cannot_be_is_refused(tmp_path: Path) -> None:
    whole = training_set(tmp_path)
    one, two, three = whole.cases
    wrong = {
        "in train and in validation": (one, replace(two, patient="p1"), three),
        "names neck_001 twice": (one, replace(one, patient="p9")),
        "Lens": (replace(one, contoured=("Lens",)),),
        "none of train, validation, test": (replace(one, split="holdout"),),  # type: ignore[arg-type]
    }
    for reason, cases in wrong.items():
        with_files(replace(whole, cases=cases))
        with pytest.raises(SetupError, match=reason):
            read_training_set(tmp_path)
    for changed, reason in (
        (replace(whole, organs=(), cases=(replace(three, name="x"),)), "no label but background"),
        (replace(whole, name="../elsewhere"), "no name of a training set or a case"),
    ):
        with_files(changed)
        with pytest.raises(SetupError, match=reason):
            read_training_set(tmp_path)
    with_files(whole)
    told = json.loads((tmp_path / "cases.json").read_text())
    told["cases"][0]["name"] = "../../neck_001"
    (tmp_path / "cases.json").write_text(json.dumps(told))
    with pytest.raises(SetupError, match="no name of a training set or a case"):
        read_training_set(tmp_path)
    with_files(whole)
    told = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**told, "channel_names": {}}))
    with pytest.raises(SetupError, match="no channel"):
        read_training_set(tmp_path)
    with_files(whole).labels(one).unlink()
    with pytest.raises(SetupError, match=r"neck_001\.nii\.gz is missing"):
        read_training_set(tmp_path)
    with pytest.raises(SetupError, match="cannot be read"):
        read_training_set(tmp_path / "elsewhere")
