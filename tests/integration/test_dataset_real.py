"""Training sets of real archives: what becomes of scans and structure sets that others wrote."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from typer.testing import CliRunner

from node.cli import app
from tests.archives import boxes, rtstruct, save
from tests.real_data import unpacked

nibabel = pytest.importorskip("nibabel")
pytestmark = pytest.mark.real_data


def build(archive: Path, out: Path | None, *organs: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    wanted = [part for name in organs for part in ("--organ", name)]
    target = ["--dry-run"] if out is None else [str(out)]
    result = CliRunner().invoke(app, ["dataset", "build", str(archive), *target, *wanted, *options, "--json"])
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def left_out(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["what"], one["reason"]) for one in report["left_out"]}


def nrrd(path: Path) -> NDArray[np.uint8]:
    """Read a mask, ``[slice, row, column]``: the header ends at an empty line, the rest is compressed."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    columns, rows, slices = map(int, fields["sizes"].split())
    assert fields["encoding"] == "gzip"
    return np.frombuffer(gzip.decompress(body), dtype=np.uint8).reshape(slices, rows, columns)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_a_planning_ct_and_its_contours_agree_with_the_clinics_own_masks(tmp_path: Path) -> None:
    folder = unpacked("onkodicom-thorax-rt") / "onkodicom-thorax-rt"
    organs = ("Liver", "Lung_L", "Lung_R", "Heart", "SpinalCord")

    report = build(folder / "dicom", tmp_path / "out", *organs, options=("--name", "thorax"))

    labels = nibabel.load(tmp_path / "out/labelsTr/thorax_001.nii.gz")
    scan = nibabel.load(tmp_path / "out/imagesTr/thorax_001_0000.nii.gz")
    found = np.asarray(labels.dataobj).transpose(2, 1, 0)
    # As the masks' headers say it, LPS.
    assert labels.affine[:3, 3] * (-1, -1, 1) == pytest.approx([-324.365, -559.365, -189], abs=0.01)
    assert scan.shape == labels.shape == (512, 512, 105)
    # Air and water are where a CT has them.
    voxels = np.asarray(scan.dataobj).transpose(2, 1, 0)
    assert np.median(voxels[found == 3]) == pytest.approx(-800, abs=100)
    assert np.median(voxels[found == 1]) == pytest.approx(60, abs=60)
    # The source says of its masks: Dice 0.90 (cord) to 0.98 with these contours.
    names = {"Liver": "liver", "Lung_L": "lt lung", "Lung_R": "rt lung", "Heart": "heart", "SpinalCord": "cord"}
    for value, organ in enumerate(organs, start=1):
        mask = nrrd(folder / "structures_nrrd" / f"{names[organ]}.nrrd") > 0
        assert dice(found == value, mask) > (0.88 if organ == "SpinalCord" else 0.94), organ
    assert report["left_out"] == []
    assert [one["name"] for one in report["names"]["unmapped"]] != []


def test_a_scan_with_a_missing_slice_is_left_out(tmp_path: Path) -> None:
    report = build(unpacked("gstt-aide-ct-rtstruct"), None, "Heart")

    (reason,) = [why for what, why in left_out(report) if what == "series"]
    assert reason.startswith("slice missing: gap of 1.600 mm")
    assert ("structure set", "its series is left out") in left_out(report)
    assert report["cases"] == []


def test_references_to_images_that_are_elsewhere_are_not_followed() -> None:
    (cropped,) = [unpacked("ibsi-sts-001-042")]
    (eclipse,) = [unpacked("vendor-rtstruct-eclipse")]

    cts = build(cropped, None, "Heart")
    plans = build(eclipse, None, "Bladder")

    assert ("structure set", "267 of the 267 images that it names are not in the archive") in left_out(cts)
    assert ("structure set", "223 of the 223 images that it names are not in the archive") in left_out(cts)
    assert left_out(plans) == {("structure set", "the images that it names are not in the archive")}
    assert plans["archive"]["structure_sets"] == 3
    assert cts["cases"] == plans["cases"] == []


def test_a_segmentation_of_another_program_lies_on_its_feet_first_scan(tmp_path: Path) -> None:
    folder = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "dcmqi-ct-liver-seg"
    images = [dcmread(path) for path in (folder / "segmentations/ct-3slice").iterdir()]
    save(tmp_path / "in", *images, dcmread(folder / "liver.dcm"))

    report = build(tmp_path / "in", tmp_path / "out", "Liver")

    labels = nibabel.load(tmp_path / "out/labelsTr/set_001.nii.gz")
    centres = nibabel.affines.apply_affine(labels.affine, np.argwhere(np.asarray(labels.dataobj) == 1)) * (-1, -1, 1)
    segmentation = dcmread(folder / "liver.dcm")
    stated = []
    for pixels, groups in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        shared = segmentation.SharedFunctionalGroupsSequence[0]
        cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        rows, columns = np.nonzero(pixels)
        stated.append(
            position + np.outer(columns * between_columns, cosines[0]) + np.outer(rows * between_rows, cosines[1])
        )
    expected = np.concatenate(stated)
    assert len(centres) == len(expected) > 10_000
    ordered = [np.array(sorted(map(tuple, np.round(each, 1)))) for each in (centres, expected)]
    assert np.abs(ordered[0] - ordered[1]).max() < 0.25
    assert report["cases"][0]["shape"] == [3, 512, 512]


def test_contours_on_an_oblique_mr_lie_on_its_planes(tmp_path: Path) -> None:
    folder = unpacked("brain-mr-series") / "brain-mr-series" / "Study3" / "11-T1post-18670"
    # Files and slices are in no order; neighbours are those whose first pixels are.
    images = sorted(map(dcmread, folder.iterdir()), key=lambda image: float(image.ImagePositionPatient[2]))
    save(tmp_path / "in", *images, rtstruct(images, [boxes(images[5:8], "Brain", (60, 79), (90, 99))]))

    build(tmp_path / "in", tmp_path / "out", "Brain", options=("--modality", "MR"))

    labels = nibabel.load(tmp_path / "out/labelsTr/set_001.nii.gz")
    centres = nibabel.affines.apply_affine(labels.affine, np.argwhere(np.asarray(labels.dataobj) == 1)) * (-1, -1, 1)
    assert len(centres) == 3 * 20 * 10
    # The middle of the boxes, by the header of the middle image.
    position = np.array(images[6].ImagePositionPatient, dtype=float)
    cosines = np.array(images[6].ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = map(float, images[6].PixelSpacing)
    middle = position + 94.5 * between_columns * cosines[0] + 69.5 * between_rows * cosines[1]
    assert centres.mean(axis=0) == pytest.approx(middle, abs=0.1)
