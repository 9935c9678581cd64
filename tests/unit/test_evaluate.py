"""``delineate evaluate``: files in, figures out, which were worked out by hand on boxes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from typer.testing import CliRunner

from node.cli import app
from node.dataset.nifti import Image, affine_of, turned_to_lps, write_nifti
from node.dataset.raw import Case, TrainingSet, write_training_set
from node.dicom.rtstruct import rtstruct as our_rtstruct
from node.dicom.segmentation import segmentation as our_segmentation
from node.domain.contours import build_structures
from node.domain.errors import InputError, SetupError
from node.domain.grid import Grid
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap
from tests.archives import Roi, boxes, person, rtstruct, segmentation
from tests.builders import ct_series, definition, enhanced_ct, grid, manifest_of, provenance, save_series, written

STACK = grid(slices=8, rows=24, columns=40)
ROWS, COLUMNS = (4, 13), (10, 29)
# 4 slices of 10 rows and 20 columns, 3 × 1.5 × 0.8 mm.
BOX_CM3 = 4 * 10 * 20 * 3.6 / 1000


def run(reference: Path, result: Path, *options: str) -> dict[str, Any]:
    """Evaluate by the command line, and give its JSON."""
    told = CliRunner().invoke(
        app, ["evaluate", str(reference), str(result), *options, "--json"], catch_exceptions=False
    )
    report: dict[str, Any] = json.loads(told.stdout)
    assert told.exit_code == (0 if report["organs"] else 1)
    return report


def organs(report: dict[str, Any], case: int = 0) -> dict[str, dict[str, Any]]:
    """Give the measures of a case by organ, and where there are none the verdict."""
    return {each["organ"]: each["measures"] or each for each in report["cases"][case]["organs"]}


def put(path: Path, dataset: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written(dataset))
    return path


def heart(images: Sequence[Dataset], *, columns: tuple[int, int] = COLUMNS, name: str = "Heart") -> Roi:
    return boxes(images[2:6], name, ROWS, columns)


def box_mask(columns: tuple[int, int] = COLUMNS, shape: tuple[int, int, int] = STACK.shape) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=np.bool_)
    mask[2:6, ROWS[0] : ROWS[1] + 1, columns[0] : columns[1] + 1] = True
    return mask


def nifti(path: Path, labels: NDArray[np.uint8], stack: Grid = STACK) -> Path:
    pytest.importorskip("nibabel")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, turned_to_lps(Image(voxels=labels, affine_lps_mm=affine_of(stack))))
    return path


SERIES = ct_series(STACK)
MOVED = (COLUMNS[0] + 5, COLUMNS[1] + 5)


def test_contours_are_measured_on_the_grid_of_their_images(tmp_path: Path) -> None:
    save_series(SERIES, tmp_path / "ct")
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [heart(SERIES)]))
    result = put(tmp_path / "mine.dcm", rtstruct(SERIES, [heart(SERIES, columns=MOVED)], seed="mine"))

    report = run(reference, result, "--images", str(tmp_path / "ct"))

    found = organs(report)["Heart"]
    assert report["cases"][0]["notes"] == ["grid of the images: 8 × 24 × 40 voxels of 3 × 1.5 × 0.8 mm"]
    assert found["reference_cm3"] == pytest.approx(BOX_CM3)
    assert found["dice"] == pytest.approx(15 / 20)
    assert found["hd95_mm"] == pytest.approx(5 * 0.8)


@pytest.mark.parametrize("kind", ["rtstruct", "seg"])
def test_without_images_contours_get_a_grid_of_their_own_planes_or_the_others_voxels(kind: str, tmp_path: Path) -> None:
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [heart(SERIES)]))
    results = {
        "rtstruct": rtstruct(SERIES, [heart(SERIES, columns=MOVED)], seed="mine"),
        "seg": segmentation(SERIES, box_mask(MOVED), "heart"),
    }

    report = run(reference, put(tmp_path / "mine.dcm", results[kind]), "--spacing-mm", "0.4")

    found, (note,) = organs(report)["Heart"], report["cases"][0]["notes"]
    assert found["dice"] == pytest.approx(15 / 20, abs=0.02)
    assert found["hd95_mm"] == pytest.approx(5 * 0.8, abs=0.01)
    assert found["reference_cm3"] == pytest.approx(BOX_CM3, rel=0.04)
    wanted = {
        "rtstruct": "grid of the planes that both are drawn on, with pixels of 0.4 mm (no --images)",
        "seg": "grid of the result: 4 × 24 × 40 voxels",
    }
    assert note.startswith(wanted[kind])


def test_holes_are_holes_in_every_kind_of_file(tmp_path: Path) -> None:
    rind, core = definition("Rind", 1), definition("Core", 2)
    labels = box_mask().astype(np.uint8)
    labels[3:5, 7:11, 15:25] = 2
    manifest, source = manifest_of(SERIES), SERIES
    label_map = LabelMap(labels=labels, grid=manifest.grid)
    both: list[StructureDefinition] = [rind, core]
    drawn = build_structures(label_map, both)
    contours = put(tmp_path / "contours.dcm", our_rtstruct(drawn, manifest, source, provenance()))
    segments = put(tmp_path / "segments.dcm", our_segmentation(label_map, both, manifest, source, provenance()))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "Rind": 1, "Core": 2}}))
    voxels = nifti(tmp_path / "voxels.nii.gz", labels)

    for reference, result in ((contours, segments), (segments, contours), (segments, voxels), (voxels, contours)):
        found = organs(run(reference, result))

        assert {organ: (each["dice"], each["surface_dice"]) for organ, each in found.items()} == {
            "Rind": (1, 1),
            "Core": (1, 1),
        }
        assert found["Rind"]["reference_cm3"] == pytest.approx(BOX_CM3 - 2 * 4 * 10 * 3.6 / 1000)


def test_segments_and_contours_beyond_the_frames_of_the_other_are_not_lost(tmp_path: Path) -> None:
    long = boxes(SERIES[1:8], "Heart", ROWS, COLUMNS)
    reference = put(tmp_path / "ref.dcm", segmentation(SERIES, box_mask(), "Heart"))

    report = run(reference, put(tmp_path / "mine.dcm", rtstruct(SERIES, [long])))

    found, (note,) = organs(report)["Heart"], report["cases"][0]["notes"]
    assert (found["dice"], found["volume_difference_percent"]) == (pytest.approx(8 / 11), pytest.approx(75))
    assert "7 × 24 × 40 voxels" in note
    assert "grown from 4 × 24 × 40 to hold both" in note


def test_organs_are_one_by_tg263_by_the_table_or_by_the_same_spelling(tmp_path: Path) -> None:
    theirs = ("Lung left", "parotis re", "Tumour bed", "Heart~", "SPINAL CORD")
    ours = ("Lung_L", "Parotid_R", "tumour_bed", "Heart", "SpinalCord")
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [heart(SERIES, name=name) for name in theirs]))
    result = put(tmp_path / "mine.dcm", rtstruct(SERIES, [heart(SERIES, name=name) for name in ours], seed="mine"))
    (tmp_path / "names.toml").write_text('Parotid_R = ["parotis re*"]\n')

    found = organs(run(reference, result, "--names", str(tmp_path / "names.toml")))
    without = organs(run(reference, result))

    assert {name: each.get("dice") for name, each in found.items()} == {
        "Lung_L": 1,
        "Parotid_R": 1,
        "Tumour bed": 1,
        "Heart": 1,
        "SpinalCord": 1,
    }
    assert (without["parotis re"]["dice"], without["Parotid_R"]["verdict"]) == (0, "extra")


def test_what_one_of_the_two_lacks_is_told(tmp_path: Path) -> None:
    rois = [heart(SERIES), heart(SERIES, name="Liver"), Roi(name="Bladder"), heart(SERIES, name="Lung left")]
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [*rois, heart(SERIES, name="LUNG_L")]))
    mine = [heart(SERIES), heart(SERIES, name="Bladder"), Roi(name="Liver"), heart(SERIES, name="Lung_L")]

    report = run(reference, put(tmp_path / "mine.dcm", rtstruct(SERIES, mine, seed="mine")))

    told = {each["organ"]: (each["verdict"], each["reason"]) for each in report["cases"][0]["organs"]}
    assert told == {
        "Heart": ("compared", ""),
        "Liver": ("missing", "the result has none of it"),
        "Bladder": ("extra", "the result has it, the reference has not"),
        "Lung_L": ("left out", "in the reference 2 regions have a name of it: 'Lung left', 'LUNG_L'"),
    }
    liver = organs(report)["Liver"]
    assert (liver["dice"], liver["hd95_mm"], liver["added_path_share"]) == (0, None, 1)
    # 2 × (15 + 16) mm on 4 slices.
    assert liver["added_path_mm"] == pytest.approx(4 * 62, rel=0.05)
    assert {each["organ"]: each["dice"]["mean"] for each in report["organs"]} == {"Heart": 1, "Liver": 0}


def test_a_reference_that_is_drawn_on_every_third_plane_is_none(tmp_path: Path) -> None:
    sparse = Roi(name="Heart", outlines=boxes(SERIES[1:8:3], "", ROWS, COLUMNS).outlines)
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [sparse, heart(SERIES, name="Liver")]))
    result = put(tmp_path / "mine.dcm", rtstruct(SERIES, [heart(SERIES), heart(SERIES, name="Liver")], seed="mine"))

    found = organs(run(reference, result))

    assert found["Heart"]["reason"] == "in the reference it is drawn on 3 of the 7 planes from its first to its last"
    assert found["Liver"]["dice"] == 1


def people(folder: Path, *, shift: int = 0) -> list[list[Dataset]]:
    """Put structure sets of three patients into a folder; the last has two series."""
    series = []
    for number in (1, 2, 3):
        name = f"series {number}"
        images = ct_series(grid(slices=8, series=name), identity=person(number), series=name)
        columns = (COLUMNS[0] + shift * number, COLUMNS[1] + shift * number)
        made = rtstruct(images, [heart(images, columns=columns)], seed=f"{folder.name} {number}")
        put(folder / f"{7 * number % 4}.dcm", made)
        series.append(images)
    return series


def test_patients_are_matched_by_their_images_and_never_by_name(tmp_path: Path) -> None:
    people(tmp_path / "refs")
    series = people(tmp_path / "mine", shift=1)
    other = ct_series(grid(slices=8, series="other"), identity=person(9), series="other")
    put(tmp_path / "mine/strange.dcm", rtstruct(other, [heart(other)], seed="strange"))
    # Of the same images as well: the structure set counts.
    put(tmp_path / "mine/seg.dcm", segmentation(series[0], box_mask(), "Heart"))
    (tmp_path / "mine/notes.txt").write_text("no DICOM")

    report = run(tmp_path / "refs", tmp_path / "mine", "--spacing-mm", "0.4")

    dice = sorted(each["organs"][0]["measures"]["dice"] for each in report["cases"])
    # Moved by 1, 2 and 3 of 20 columns.
    assert dice == pytest.approx([17 / 20, 18 / 20, 19 / 20], abs=0.01)
    assert [each["patient"] for each in report["cases"]] == ["p001", "p002", "p003"]
    assert [(each["what"], each["name"]) for each in report["unmatched"]] == [("result", "strange")]
    low, high = report["organs"][0]["dice"]["mean_interval"]
    assert min(dice) <= low < report["organs"][0]["dice"]["mean"] < high <= max(dice)
    for number in (1, 2, 3):
        assert f"HOSP-{7700 + number}" not in json.dumps(report)


def test_two_results_of_one_series_are_not_chosen_between(tmp_path: Path) -> None:
    people(tmp_path / "refs")
    series = people(tmp_path / "mine")
    put(tmp_path / "mine/again.dcm", rtstruct(series[1], [heart(series[1])], seed="again"))

    report = run(tmp_path / "refs", tmp_path / "mine")

    assert len(report["cases"]) == 2
    (left,) = report["unmatched"]
    assert left["what"] == "reference"
    assert "2 results are of its images" in left["reason"]


def test_files_of_different_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    reference, result = people(tmp_path / "refs")[:2]
    one = put(tmp_path / "one.dcm", rtstruct(reference, [heart(reference)]))
    other = put(tmp_path / "other.dcm", rtstruct(result, [heart(result)]))

    with pytest.raises(InputError, match="not of the same images: no Frame of Reference is common"):
        run(one, other)


def test_voxels_at_other_places_are_refused_or_resampled_as_asked(tmp_path: Path) -> None:
    reference = nifti(tmp_path / "ref.nii.gz", box_mask().astype(np.uint8))
    fine = grid(slices=8, rows=24, columns=80, spacing_mm=(3.0, 1.5, 0.4))
    twice = box_mask((2 * COLUMNS[0], 2 * COLUMNS[1] + 1), fine.shape).astype(np.uint8)
    result = nifti(tmp_path / "mine.nii", twice, fine)

    with pytest.raises(InputError, match=r"3 × 1\.5 × 0\.4 mm\) lie at other places") as refused:
        run(reference, result, "--labels", "Heart=1")
    report = run(reference, result, "--labels", "Heart=1", "--resample")

    assert "--resample" in refused.value.remedy
    assert organs(report)["Heart"]["dice"] > 0.95
    assert report["cases"][0]["notes"][1].startswith("result resampled from voxels of 3 × 1.5 × 0.4 mm")


def test_label_maps_need_names(tmp_path: Path) -> None:
    reference = nifti(tmp_path / "ref.nii.gz", box_mask().astype(np.uint8))

    with pytest.raises(SetupError, match=r"Nothing says what the labels of ref\.nii\.gz are") as refused:
        run(reference, reference)
    with pytest.raises(SetupError, match="no NAME=VALUE"):
        run(reference, reference, "--labels", "Heart=1,Liver")

    assert "--labels" in refused.value.remedy


def test_probabilities_are_no_labels(tmp_path: Path) -> None:
    reference = nifti(tmp_path / "ref.nii.gz", box_mask().astype(np.uint8))
    result = nifti(tmp_path / "mine.nii.gz", box_mask().astype(np.float32) * 0.9)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="values that are no labels"):
        run(reference, result, "--labels", "Heart=1")


def test_an_organ_that_an_option_misspells_is_told(tmp_path: Path) -> None:
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [heart(SERIES)]))

    report = run(reference, reference, "--organ", "Heart", "--organ", "Hart", "--tolerance-mm", "Haert=1")

    assert [(one["what"], one["name"]) for one in report["unmatched"]] == [("organ", "Hart"), ("organ", "Haert")]


def training_set(folder: Path) -> None:
    """Put two cases of test and one of training on disk; the liver of the first was not contoured."""
    contoured = {"n_001": ("Heart",), "n_002": ("Heart", "Liver"), "n_003": ("Heart", "Liver")}
    cases = tuple(
        Case(name=name, patient=name[-1], split="train" if name == "n_003" else "test", contoured=organs)
        for name, organs in contoured.items()
    )
    made = TrainingSet(folder=folder, name="n", channels=("CT",), organs=("Heart", "Liver"), cases=cases)
    write_training_set(made)
    for case in cases:
        labels = box_mask((2, 9)).astype(np.uint8) * (case.name != "n_001") * 2 + box_mask().astype(np.uint8)
        nifti(made.labels(case), labels.astype(np.uint8))
        made.images(case)[0].touch()


def test_predictions_are_held_against_the_test_cases_of_a_training_set(tmp_path: Path) -> None:
    training_set(tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "Liver": 1, "Heart": 2, "Both": [1, 2]}})
    )
    mine = box_mask((2, 9)).astype(np.uint8) + 2 * box_mask(MOVED).astype(np.uint8)
    for name in ("n_001", "n_002"):
        nifti(tmp_path / f"mine/{name}.nii.gz", mine)

    report = run(tmp_path / "set", tmp_path / "mine", "--split", "test")

    assert [each["case"] for each in report["cases"]] == ["n_001", "n_002"]
    assert report["unmatched"] == []
    first = organs(report)
    assert (first["Heart"]["dice"], first["Liver"]["reason"]) == (0.75, "not contoured in the reference")
    assert first["Both"]["verdict"] == "extra"
    assert organs(report, 1)["Liver"]["dice"] == 1
    counts = {each["organ"]: each["patients"] for each in report["organs"]}
    assert counts == {"Heart": 2, "Liver": 1}
    whole = run(tmp_path / "set", tmp_path / "mine")
    assert [(each["what"], each["name"]) for each in whole["unmatched"]] == [("reference", "n_003")]


def test_multi_frame_images_are_a_grid_too(tmp_path: Path) -> None:
    images = enhanced_ct(STACK)
    put(tmp_path / "ct/enhanced.dcm", images)
    reference = put(tmp_path / "ref.dcm", segmentation([images], box_mask(), "Heart"))

    report = run(reference, reference, "--images", str(tmp_path / "ct"))

    assert organs(report)["Heart"]["dice"] == 1
    assert report["cases"][0]["notes"][0].startswith("grid of the images: 8 × 24 × 40")


def test_images_that_are_not_those_of_the_reference_are_refused(tmp_path: Path) -> None:
    other = ct_series(grid(slices=8, series="other"), series="other")
    save_series(other, tmp_path / "ct")
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [heart(SERIES)]))

    with pytest.raises(InputError, match="images that are not in the folder of --images"):
        run(reference, reference, "--images", str(tmp_path / "ct"))
    save_series(SERIES[:6], tmp_path / "part")
    with pytest.raises(InputError, match="of no volume"):
        run(
            put(tmp_path / "long.dcm", rtstruct(SERIES, [boxes(SERIES, "Heart", ROWS, COLUMNS)])),
            reference,
            "--images",
            str(tmp_path / "part"),
        )


def test_a_folder_without_contours_says_so(tmp_path: Path) -> None:
    save_series(SERIES, tmp_path / "ct")

    with pytest.raises(InputError, match="holds no contours that can be used"):
        run(tmp_path / "ct", tmp_path / "ct")
    with pytest.raises(InputError, match="does not exist"):
        run(tmp_path / "none", tmp_path / "ct")


def test_people_get_tables_a_picture_and_warnings(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    right = (2, 8)
    sides = [heart(SERIES, name="Lung_L"), heart(SERIES, name="Lung_R", columns=right)]
    swapped = [heart(SERIES, name="Lung_R"), heart(SERIES, name="Lung_L", columns=right)]
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, sides))
    result = put(tmp_path / "mine.dcm", rtstruct(SERIES, swapped, seed="mine"))
    picture = tmp_path / "agreement.png"

    told = CliRunner().invoke(
        app,
        [
            *("evaluate", str(reference), str(result), "--per-patient", "--plot", str(picture)),
            *("--tolerance-mm", "3", "--tolerance-mm", "Lung_R=1.5", "--organ", "Lung_L", "--organ", "Lung_R"),
        ],
        catch_exceptions=False,
    )

    assert told.exit_code == 0
    assert "Case by case" in told.stdout
    assert "1 patient" in told.stdout
    assert "warning: ref: Lung_L of the result agrees better with Lung_R" in told.stdout
    assert "1.5 mm" in told.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_wrong_options_are_told(tmp_path: Path) -> None:
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [heart(SERIES)]))

    for options, reason in (
        (("--tolerance-mm", "two"), "is no length"),
        (("--split", "test"), "is no training set"),
        (("--names", str(tmp_path / "none.toml")), "cannot be read"),
        (("--plot", "a.doc"), "is no picture"),
        (("--plot", str(tmp_path / "none/a.png")), "does not exist"),
    ):
        with pytest.raises(SetupError, match=reason):
            run(reference, reference, *options)


def test_nothing_in_common_is_exit_status_1(tmp_path: Path) -> None:
    reference = put(tmp_path / "ref.dcm", rtstruct(SERIES, [heart(SERIES)]))

    told = CliRunner().invoke(app, ["evaluate", str(reference), str(reference), "--organ", "Liver"])

    assert told.exit_code == 1
    assert "Nothing could be compared." in told.stdout
