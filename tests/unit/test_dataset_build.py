"""From an archive to a training set: what lies where, what is left out and why, and whose it is, which nobody can tell.

The training sets are read by nibabel, in its own frame (RAS), and held against figures worked out by hand.
"""

import gzip
import json
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from typer.testing import CliRunner

from node.cli import app
from node.dataset.build import build
from node.dataset.built import Order
from node.dataset.names import Names
from node.dataset.nifti import Image, write_nifti
from node.dataset.raw import read_training_set
from node.dicom.segmentation import segmentation as node_segmentation
from node.domain.errors import InputError, SetupError
from tests.archives import Roi, box, boxes, person, rtstruct, save, segmentation
from tests.builders import (
    ball_and_box,
    ct_series,
    default_voxels,
    definition,
    enhanced_ct,
    grid,
    manifest_of,
    planes_of,
    provenance,
    uid,
)
from tests.geometries import FEET, GEOMETRIES, Geometry, series_of

nibabel = pytest.importorskip("nibabel")

# Voxels of 3 × 1.5 × 0.8 mm.
VOXEL_CM3 = 3 * 1.5 * 0.8 / 1000


def run(archive: Path, out: Path | None, *options: str) -> dict[str, Any]:
    """Build by the command line, and give the report."""
    arguments = ["dataset", "build", str(archive), *([str(out)] if out else ["--dry-run"]), *options, "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def organs(*names: str) -> list[str]:
    return [part for name in names for part in ("--organ", name)]


def patient(number: int, **series: Any) -> list[Dataset]:
    name = f"series {number}"
    return ct_series(grid(series=name), identity=person(number), series=name, **series)


def heart(images: Sequence[Dataset], name: str = "Heart") -> Roi:
    """Outline 4 × 5 pixels on 2 images."""
    return boxes(images[2:4], name, (3, 6), (10, 14))


def reasons(report: dict[str, Any], what: str) -> list[str]:
    return [one["reason"] for one in report["left_out"] if one["what"] == what]


def labels_of(out: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    image = nibabel.load(out / f"labelsTr/{name}.nii.gz")
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize(
    "geometry", [one for one in GEOMETRIES if one.name != "gantry tilt"], ids=lambda geometry: geometry.name
)
def test_labels_and_images_lie_where_the_patient_has_them(geometry: Geometry, tmp_path: Path) -> None:
    images = series_of(geometry)
    on = [
        image
        for position in geometry.positions
        for image in images
        if np.allclose(np.array(image.ImagePositionPatient, dtype=float), position, atol=1e-4)
    ]
    assert len(on) == 2
    feet = [box(image, (rows.start, rows.stop - 1), (cols.start, cols.stop - 1)) for image in on for rows, cols in FEET]
    save(tmp_path / "in", *images, rtstruct(images, [Roi(name="Heart", outlines=feet)]))

    report = run(tmp_path / "in", tmp_path / "out", *organs("Heart"), "--name", "lie")

    labels, affine = labels_of(tmp_path / "out", "lie_001")
    scan = nibabel.load(tmp_path / "out/imagesTr/lie_001_0000.nii.gz")
    assert scan.affine == pytest.approx(affine)
    # Left, back and head are where columns, rows and slices grow, or the nearest to it: nnU-Net must not see a mirror.
    assert nibabel.aff2axcodes(affine) == ("L", "P", "S")
    centres = nibabel.affines.apply_affine(affine, np.argwhere(labels == 1)) * (-1, -1, 1)
    # 2 × 2 pixels of three feet on two planes, each foot with its middle where it was worked out.
    assert len(centres) == 24
    for middle in (geometry.corner, geometry.along_row, geometry.along_column):
        near = centres[np.linalg.norm(centres - np.array(middle), axis=1) < 1.0]
        assert near.mean(axis=0) == pytest.approx(np.array(middle), abs=0.02)
        assert len(near) == 4
    # The same value stands at the same place: read from the first pixel of every image by its own header.
    voxels, back = np.asarray(scan.dataobj), np.linalg.inv(affine)
    assert voxels.dtype == np.int16
    for image in images:
        first = np.array(image.ImagePositionPatient, dtype=float) * (-1, -1, 1)
        column, row, slice_ = np.rint(nibabel.affines.apply_affine(back, first)).astype(int)
        assert voxels[column, row, slice_] == int(np.frombuffer(image.PixelData, "<u2")[0]) - 1024
    assert report["cases"][0]["volumes_cm3"] == {"Heart": pytest.approx(24 * VOXEL_CM3, abs=5e-4)}


def test_a_tilted_stack_is_left_out_for_nifti_cannot_hold_it(tmp_path: Path) -> None:
    (tilted,) = (one for one in GEOMETRIES if one.name == "gantry tilt")
    images = series_of(tilted)
    save(tmp_path / "in", *images, rtstruct(images, [heart(images)]))

    report = run(tmp_path / "in", None, *organs("Heart"), "--structure-set", "nothing") if False else None
    result = CliRunner().invoke(
        app, ["dataset", "build", str(tmp_path / "in"), "--dry-run", "--json", *organs("Heart")]
    )

    assert report is None
    assert isinstance(result.exception, InputError)
    told = json.loads(result.stdout)
    assert [one for one in reasons(told, "series") if "gantry tilt of 0.875 mm each" in one]


def test_an_archive_becomes_a_training_set_with_an_account_of_it(tmp_path: Path) -> None:
    for number in range(6):
        images = patient(number)
        # 4 × 5, 6 or 7 pixels on 2 images.
        usual = boxes(images[2:4], "Heart", (3, 6), (10, 14 + number % 3))
        rois = [usual, boxes(images[1:5], "Lunge links", (10, 12), (3, 8)), Roi(name="Brain")]
        rois += [boxes(images[1:5], "Parotis", (10, 12), (3, 8))]
        if number == 4:
            # Much larger than the others', and over a part of the lung.
            rois[0] = boxes(images, "HEART", (3, 11), (5, 34))
        save(
            tmp_path / "in" / f"deep/er {number}",
            *images,
            rtstruct(images, rois[:1] if number == 5 else rois, seed=str(number)),
        )
    (tmp_path / "in/notes.txt").write_text("nothing", encoding="utf-8")
    (tmp_path / "names.toml").write_text('Lung_L = ["lunge li*"]\n', encoding="utf-8")

    report = run(
        tmp_path / "in",
        tmp_path / "out",
        *("--name", "chest", "--names", str(tmp_path / "names.toml"), "--validation", "0.2", "--test", "0.2"),
        *organs("Lung_L", "Heart"),
    )

    training_set = read_training_set(tmp_path / "out")
    assert training_set.organs == ("Lung_L", "Heart")
    assert training_set.channels == ("CT",)
    assert sorted(one.name for one in training_set.cases) == [f"chest_{number:03d}" for number in range(1, 7)]
    assert {one.patient for one in training_set.cases} == {f"p{number:03d}" for number in range(1, 7)}
    assert [len(training_set.of(one)) for one in ("train", "validation", "test")] == [4, 1, 1]
    assert sorted(one.contoured for one in training_set.cases) == [("Heart",), *[("Lung_L", "Heart")] * 5]
    assert json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8")) == report
    lung, hearts = report["organs"]
    # 3 × 6 pixels on 4 planes, 4 × 5 on 2; 9 × 30 on 6.
    assert lung["patients"] == 5
    assert lung["volume_cm3"] == {"min": pytest.approx(72 * VOXEL_CM3, abs=5e-4), "median": 0.259, "max": 0.259}
    assert hearts["volume_cm3"]["max"] == pytest.approx(1620 * VOXEL_CM3, abs=5e-4)
    # 40, 40, 48, 56, 56 and 1620 voxels: the median is 52, and the deviations' is 8.
    assert hearts["volume_cm3"]["median"] == pytest.approx(52 * VOXEL_CM3, abs=5e-4)
    assert [one["volume_cm3"] for one in hearts["outliers"]] == [hearts["volume_cm3"]["max"]]
    assert report["archive"]["not_used"] == {"not a DICOM file": 1}
    assert report["names"]["unmapped"] == [{"name": "Parotis", "structure_sets": 5}]
    (large,) = (one for one in report["cases"] if one["overlaps"])
    # Rows 10 and 11 of columns 5 to 8, on 4 planes.
    assert large["overlaps"] == [
        {"organ": "Lung_L", "taken_by": "Heart", "volume_cm3": pytest.approx(32 * VOXEL_CM3, abs=5e-4)}
    ]
    assert [one["not_contoured"] for one in report["cases"]].count(["Lung_L"]) == 1


def test_nothing_says_whose_it_is_but_the_key(tmp_path: Path) -> None:
    sets = []
    for number in range(3):
        images = patient(number)
        rois = [heart(images), Roi(name=f"GTV zimmerfrau{number}", outlines=heart(images).outlines)]
        rois += [Roi(name="PTV 20240229", outlines=heart(images).outlines), heart(images, "Other")]
        sets.append(rtstruct(images, rois, seed=str(number), date="20231231"))
        save(tmp_path / f"in/Zimmerfrau{number}", *images, sets[-1])
    incomplete = patient(8)
    save(
        tmp_path / "in/Zimmerfrau8",
        *incomplete[:2],
        *incomplete[3:],
        rtstruct(incomplete, [heart(incomplete)], seed="8"),
    )
    clash = patient(9)
    clash[1].PixelData = clash[0].PixelData
    save(tmp_path / "in/9", *clash, *patient(9)[1:2], rtstruct(clash, [heart(clash)], seed="9"))
    key = tmp_path / "key.csv"

    report = run(tmp_path / "in", tmp_path / "out", *organs("Heart"), "--key", str(key), "--name", "quiet")

    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 2 * 3 + 4
    told = [str(path.relative_to(tmp_path / "out")).encode() for path in written]
    for path in written:
        content = path.read_bytes()
        told += [content, gzip.decompress(content)] if path.suffix == ".gz" else [content]
    secrets = [
        b"zimmerfrau",
        b"quirina",
        b"hosp",
        b"770",
        b"2.25.",
        b"20240229",
        b"20231231",
        b"19700101",
        b"roe",
        b"a-4711",
    ]
    secrets += [str(uid(f"series {number}", "series")).encode() for number in range(3)]
    for secret in secrets:
        assert not [one[:80] for one in told if secret in one.lower()], secret
    assert report["names"]["withheld"] == 4
    assert [one["name"] for one in report["names"]["unmapped"]] == ["Other"]
    assert any("stands for different images" in one for one in reasons(report, "series"))
    # The key says all of it, to its owner alone.
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    rows = [line.split(",") for line in key.read_text(encoding="utf-8").splitlines()]
    cases = {row[2]: row for row in rows if row[0] == "case"}
    assert sorted(cases) == ["quiet_001", "quiet_002", "quiet_003"]
    assert {row[4] for row in cases.values()} == {"HOSP-7700", "HOSP-7701", "HOSP-7702"}
    numbers = {(row[0], int(row[1])): row[4] for row in rows if row[0] in ("series", "structure set")}
    left = {one["number"] for one in report["left_out"] if one["what"] == "series"}
    assert {numbers["series", number] for number in left} == {"HOSP-7708", "HOSP-7709"}


def test_the_key_goes_neither_into_the_training_set_nor_over_a_file(tmp_path: Path) -> None:
    images = patient(1)
    save(tmp_path / "in", *images, rtstruct(images, [heart(images)]))
    (tmp_path / "there.csv").write_text("mine", encoding="utf-8")

    for path in (tmp_path / "out/key.csv", tmp_path / "there.csv"):
        with pytest.raises(SetupError, match=r"lies in the training set|is there already"):
            run(tmp_path / "in", tmp_path / "out", *organs("Heart"), "--key", str(path))
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "out").exists()


def test_a_patients_studies_are_in_one_split_and_a_repeat_is_the_same(tmp_path: Path) -> None:
    for number in range(8):
        images = patient(number)
        if number % 2:
            # The next one's second study.
            for each in images:
                each.PatientID = f"HOSP-{7700 + number - 1}"
        save(tmp_path / f"in/{number}", *images, rtstruct(images, [heart(images)], seed=str(number)))
    options = (*organs("Heart"), "--test", "0.25", "--validation", "0.25")

    reports = [run(tmp_path / "in", tmp_path / out, *options) for out in ("one", "two")]

    assert reports[0] == reports[1]
    assert reports[0]["splits"] == {
        "train": {"patients": 2, "cases": 4},
        "validation": {"patients": 1, "cases": 2},
        "test": {"patients": 1, "cases": 2},
    }
    of_patient: dict[str, set[str]] = {}
    for one in reports[0]["cases"]:
        of_patient.setdefault(one["patient"], set()).add(one["split"])
    assert len(of_patient) == 4
    assert all(len(splits) == 1 for splits in of_patient.values())
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    assert run(tmp_path / "in", None, *options, "--seed", "2")["cases"] != reports[0]["cases"]


def test_studies_without_an_identifier_are_told_for_nobody_knows_whose_they_are(tmp_path: Path) -> None:
    for number in range(3):
        images = patient(number)
        for each in images[: len(images) * (number > 0)]:
            each.PatientID = ""
        save(tmp_path / f"in/{number}", *images, rtstruct(images, [heart(images)], seed=str(number)))

    report = run(tmp_path / "in", tmp_path / "out", *organs("Heart"))

    assert report["archive"]["studies_without_patient_id"] == 2
    assert "2 studies have no Patient ID" in (tmp_path / "out/report.md").read_text(encoding="utf-8")


def test_what_does_not_hold_together_is_left_out_with_the_reason(tmp_path: Path) -> None:
    sound = patient(0)
    save(tmp_path / "in", *sound, rtstruct(sound, [heart(sound)], seed="sound"))
    elsewhere, other_frame, stranger, cut, none = (patient(number) for number in range(1, 6))
    unresolved = rtstruct(elsewhere, [heart(elsewhere)], seed="elsewhere")
    frame = rtstruct(other_frame, [heart(other_frame)], seed="frame")
    frame.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = uid("another")
    frame.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = uid("another")
    save(tmp_path / "in", unresolved, *other_frame, frame)
    save(tmp_path / "in", *stranger, rtstruct(stranger, [heart(stranger)], seed="stranger", patient_id="HOSP-9"))
    # The scan's last image is missing, which no gap tells; the structure set does.
    save(tmp_path / "in", *cut[:-1], rtstruct(cut, [heart(cut)], seed="cut"))
    save(tmp_path / "in", *none)

    report = run(tmp_path / "in", None, *organs("Heart"))

    assert sorted(reasons(report, "structure set")) == [
        "1 of the 6 images that it names are not in the archive",
        "it does not name the Frame of Reference of its images",
        "it is of another patient than its images",
        "the images that it names are not in the archive",
    ]
    assert sorted(reasons(report, "series")) == [
        "no structure set is of it",
        *["none of its structure sets can be used"] * 3,
    ]
    assert len(report["cases"]) == 1


def test_of_two_structure_sets_the_newest_sound_one_counts_or_the_one_that_is_named(tmp_path: Path) -> None:
    images = patient(0)
    old = rtstruct(images, [boxes(images[1:5], "Heart", (3, 6), (10, 14))], seed="old", date="20230101", label="First")
    new = rtstruct(images, [heart(images)], seed="new", date="20240101", label="Second")
    newest = rtstruct(images, [heart(images, "Liver")], seed="newest", date="20240202", label="Third")
    save(tmp_path / "in", *images, old, new, newest)

    by_date = run(tmp_path / "in", None, *organs("Heart"))
    by_label = run(tmp_path / "in", None, *organs("Heart"), "--structure-set", "first*")

    assert by_date["cases"][0]["volumes_cm3"] == {"Heart": pytest.approx(40 * VOXEL_CM3, abs=5e-4)}
    assert sorted(reasons(by_date, "structure set")) == [
        "a newer structure set counts",
        "none of the organs is contoured in it",
    ]
    assert by_label["cases"][0]["volumes_cm3"] == {"Heart": pytest.approx(80 * VOXEL_CM3, abs=5e-4)}
    new.StructureSetDate = old.StructureSetDate
    # The same drawing once more is no question.
    save(tmp_path / "same", *images, new, rtstruct(images, [heart(images)], seed="again", date=old.StructureSetDate))
    assert reasons(run(tmp_path / "same", None, *organs("Heart")), "structure set") == ["it says the same as another"]
    save(tmp_path / "tie", *images, old, new)
    with pytest.raises(InputError, match="No case can be made"):
        run(tmp_path / "tie", tmp_path / "out", *organs("Heart"))


def test_an_organ_that_is_not_sound_is_not_contoured_while_others_are(tmp_path: Path) -> None:
    images = patient(0)
    crossing = [box(images[1], (10, 14), (20, 25)), box(images[1], (12, 17), (23, 30))]
    rois = [
        heart(images),
        Roi(name="Liver", outlines=crossing),
        boxes(images[:1], "Brain", (1, 2), (1, 4)),
        boxes(images[:1], "BRAIN", (1, 2), (1, 5)),
        Roi(name="SpinalCord"),
    ]
    save(tmp_path / "in", *images, rtstruct(images, rois))

    with pytest.raises(InputError, match="fewer than 1 patients: Liver in 0, Brain in 0, SpinalCord in 0"):
        run(tmp_path / "in", tmp_path / "out", *organs("Heart", "Liver", "Brain", "SpinalCord"))
    result = CliRunner().invoke(
        app,
        [
            "dataset",
            "build",
            str(tmp_path / "in"),
            "--dry-run",
            "--json",
            *organs("Heart", "Liver", "Brain", "SpinalCord"),
        ],
    )

    report = json.loads(result.stdout)
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]
    assert report["cases"][0]["not_contoured"] == ["Liver", "Brain", "SpinalCord"]
    told = {one["organ"]: one["reason"] for one in report["left_out"]}
    assert told["Liver"].startswith("two of its outlines cross")
    assert told["Brain"].startswith("2 regions have a name of it")


def test_an_organ_that_others_hide_gives_its_voxels_back(tmp_path: Path) -> None:
    images = patient(0)
    # The lungs lie over a part of the liver; the left lung hides the lungs.
    rois = [
        boxes(images[2:4], "Liver", (3, 6), (1, 12)),
        boxes(images[2:4], "Lungs", (3, 6), (10, 20)),
        boxes(images[2:4], "Lung_L", (3, 6), (13, 20)),
    ]
    save(tmp_path / "in", *images, rtstruct(images, rois))

    arguments = ["dataset", "build", str(tmp_path / "in"), "--dry-run", "--json", *organs("Liver", "Lungs", "Lung_L")]
    report = json.loads(CliRunner().invoke(app, arguments).stdout)

    (case,) = report["cases"]
    assert case["not_contoured"] == ["Lungs"]
    assert case["overlaps"] == []
    # 8 of its 11 columns.
    assert report["left_out"][0]["reason"] == "73% of it lies in Lung_L, which --organ names later"


def test_segmentations_count_as_structure_sets_do(tmp_path: Path) -> None:
    images = patient(0)
    mask = np.zeros((6, 24, 40), dtype=np.bool_)
    mask[2:4, 3:7, 10:15] = True
    mask[3, 4, 11] = False
    save(tmp_path / "in", *images, segmentation(images, mask, "Heart"))

    report = run(tmp_path / "in", tmp_path / "out", *organs("Heart"))

    labels, affine = labels_of(tmp_path / "out", "set_001")
    assert report["cases"][0]["volumes_cm3"] == {"Heart": pytest.approx(39 * VOXEL_CM3, abs=5e-4)}
    # The stack is axial and head first: columns, rows and slices stay as they are.
    assert np.array_equal(labels.transpose(2, 1, 0), mask)
    assert nibabel.affines.apply_affine(affine, (0, 0, 0)) == pytest.approx([31.5, 22.25, 105])


def test_frames_of_a_multi_frame_image_hold_contours(tmp_path: Path) -> None:
    image = enhanced_ct(grid(series="frames"))
    framed = []
    for index, plane in enumerate(planes_of(image), start=1):
        single = Dataset()
        single.SOPClassUID, single.SOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        single.ImagePositionPatient = list(plane.position_lps_mm)
        single.ImageOrientationPatient, single.PixelSpacing = list(plane.orientation), list(plane.pixel_spacing_mm)
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(single, keyword, image[keyword].value)
        single.SpecificCharacterSet = image.SpecificCharacterSet
        single.InstanceNumber = index
        framed.append(single)
    drawn = rtstruct(framed, [heart(framed)])
    for number, contour in zip((3, 4), drawn.ROIContourSequence[0].ContourSequence, strict=True):
        contour.ContourImageSequence[0].ReferencedFrameNumber = number
    save(tmp_path / "in", image, drawn)

    run(tmp_path / "in", tmp_path / "out", *organs("Heart"))

    labels, _ = labels_of(tmp_path / "out", "set_001")
    assert np.argwhere(labels).min(axis=0).tolist() == [10, 3, 2]
    assert np.argwhere(labels).max(axis=0).tolist() == [14, 6, 3]
    drawn.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0].ReferencedFrameNumber = 5
    save(tmp_path / "wrong", image, drawn)
    with pytest.raises(InputError, match="No case"):
        run(tmp_path / "wrong", tmp_path / "other", *organs("Heart"))


def test_mr_is_kept_as_it_is_stored_and_ct_only_where_16_bit_hold_it(tmp_path: Path) -> None:
    stack = grid(series="mr")
    images = ct_series(stack, modality="MR", series="mr", voxels=default_voxels(stack) + 1000)
    save(tmp_path / "mr", *images, rtstruct(images, [heart(images)]))
    for image in images:
        image.RescaleSlope, image.RescaleIntercept = "0.5", "0.25"
    save(tmp_path / "scaled", *images, rtstruct(images, [heart(images)]))

    run(tmp_path / "mr", tmp_path / "whole", *organs("Heart"), "--modality", "MR")
    run(tmp_path / "scaled", tmp_path / "parts", *organs("Heart"), "--modality", "MR")

    whole, parts = (nibabel.load(tmp_path / each / "imagesTr/set_001_0000.nii.gz") for each in ("whole", "parts"))
    assert whole.get_data_dtype() == np.int16
    assert parts.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(parts.dataobj), np.asarray(whole.dataobj) * 0.5 + 0.25)
    with pytest.raises(InputError, match="No case"):
        run(tmp_path / "mr", tmp_path / "none", *organs("Heart"))


def test_what_is_there_is_not_overwritten_and_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    images = patient(0)
    save(tmp_path / "in", *images, rtstruct(images, [heart(images)]))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(SetupError, match="is there already"):
        run(tmp_path / "in", tmp_path / "full", *organs("Heart"))
    with pytest.raises(InputError, match="Heart in 1"):
        run(tmp_path / "in", tmp_path / "out", *organs("Heart"), "--min-patients", "2")
    run(tmp_path / "in", tmp_path / "empty", *organs("Heart"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "in"]
    assert (tmp_path / "empty/dataset.json").is_file()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--organ", "Parotis_L"], "none of conf/structures.toml; spelt most alike: Parotid_L"),
        ([], "No organ is asked for"),
        (["--organ", "Heart", "--name", "a/b"], "is no name"),
        (["--organ", "Heart", "--validation", "0.5", "--test", "0.5"], "leave no patient"),
        (["--organ", "Heart", "--names", "nowhere.toml"], "cannot be read"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(tmp_path: Path, options: list[str], reason: str) -> None:
    with pytest.raises(SetupError, match=re.escape(reason)):
        run(tmp_path / "nowhere", None, *options)


def test_the_names_of_an_archive_are_printed_as_a_table_to_start_from(tmp_path: Path) -> None:
    images = patient(0)
    rois = [heart(images), heart(images, "Parotid li"), heart(images, 'Herz "neu"'), Roi(name="Lung_L")]
    save(tmp_path / "in", *images, rtstruct(images, rois))

    result = CliRunner().invoke(app, ["dataset", "names", str(tmp_path / "in")], catch_exceptions=False)

    lines = result.stdout.splitlines()
    assert '# Heart: "Heart", in 1, is known already.' in lines
    assert '# Parotid_L = ["Parotid li"]' in lines
    assert any(r'"Herz \"neu\""' in line for line in lines)
    assert not any("Lung_L" in line for line in lines)


def test_what_delineate_writes_itself_is_read_too_but_no_fractions(tmp_path: Path) -> None:
    images = patient(0)
    manifest = manifest_of(images)
    label_map = ball_and_box(manifest.grid)
    drawn = [definition("Heart", 1), definition("Liver", 3)]
    masks = {name: label_map.labels == value for name, value in (("Heart", 1), ("Liver", 3))}
    for encoding in ("labelmap", "binary"):
        written = node_segmentation(label_map, drawn, manifest, images, provenance(), encoding)
        save(tmp_path / encoding, *images, written)

        run(tmp_path / encoding, tmp_path / f"{encoding} set", *organs("Heart", "Liver"))

        labels, _ = labels_of(tmp_path / f"{encoding} set", "set_001")
        for value, mask in enumerate(masks.values(), start=1):
            assert np.array_equal(labels.transpose(2, 1, 0) == value, mask)
    written.SegmentationType = "FRACTIONAL"
    save(tmp_path / "fractions", *images, written)
    arguments = ["dataset", "build", str(tmp_path / "fractions"), "--dry-run", "--json", *organs("Heart")]
    (reason,) = reasons(json.loads(CliRunner().invoke(app, arguments).stdout), "structure set")
    assert reason == "the Segmentation is FRACTIONAL: where its borders are would be a guess"


def test_a_segmentation_that_lies_beside_its_images_is_left_out(tmp_path: Path) -> None:
    images = patient(0)
    mask = np.ones((6, 24, 40), dtype=np.bool_)
    shifted = segmentation(images, mask, "Heart")
    shifted.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient[0] += 0.4
    save(tmp_path / "in", *images, shifted)

    arguments = ["dataset", "build", str(tmp_path / "in"), "--dry-run", "--json", *organs("Heart")]
    (reason,) = reasons(json.loads(CliRunner().invoke(app, arguments).stdout), "structure set")

    assert reason == "frame 3 of the Segmentation lies 0.40 mm off the nearest image"


def test_who_is_interrupted_finds_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = patient(0)
    save(tmp_path / "in", *images, rtstruct(images, [heart(images)]))
    written = []

    def interrupted(path: Path, image: Image) -> None:
        written.append(path)
        if len(written) == 2:
            assert written[0].is_file()
            raise KeyboardInterrupt
        write_nifti(path, image)

    monkeypatch.setattr("node.dataset.build.write_nifti", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "in", tmp_path / "out", Order(name="x", names=Names(organs=("Heart",))), lambda *_: None)

    assert [path.name for path in tmp_path.iterdir()] == ["in"]
