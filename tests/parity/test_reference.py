"""The reference itself: it is made of nnU-Net's own answers, and those are not trivial."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity.cases import case
from tests.parity.environment import run_module

CASES = ("ct_rotated_axes", "regions")

# The first test makes the place for nnU-Net, or waits for another that does.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference")
    run_module("tests.parity.reference", out, "--cases", ",".join(CASES))
    return out


@pytest.mark.parametrize("name", CASES)
def test_every_label_is_in_the_answer_and_none_fills_it(reference: Path, name: str) -> None:
    labels = np.load(reference / f"{name}.npz")["labels"]

    shares = np.bincount(labels.ravel(), minlength=len(case(name).labels)) / labels.size

    assert labels.shape == case(name).shape
    assert shares.min() > 0.03
    assert shares.max() < 0.6


def test_what_the_crop_left_out_is_background(reference: Path) -> None:
    with np.load(reference / "ct_rotated_axes.npz") as answer:
        outside = np.isinf(answer["margin"])

        # The border is 3 and 2 slices, 4 and 7 rows, 6 and 1 columns of 48 x 50 x 40.
        assert (~outside).sum() == 43 * 39 * 33
        assert not answer["labels"][outside].any()


@pytest.mark.parametrize("name", CASES)
def test_accumulators_of_float16_move_few_voxels(reference: Path, name: str) -> None:
    with np.load(reference / f"{name}.npz") as answer:
        moved = (answer["labels"] != answer["labels_f16"]).mean()

    assert 0 < moved < 0.005


def test_the_report_names_the_versions_that_answered(reference: Path) -> None:
    report = json.loads((reference / "reference.json").read_text())

    assert report["versions"]["nnunetv2"] == "2.8.1"
    assert set(report["cases"]) == set(CASES)


@pytest.fixture(scope="module")
def whole_body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole-body")
    run_module("tests.parity.whole_body", out, "--tasks", "total_fast,total")
    return out


def test_structures_of_all_five_parts_are_in_the_merged_labels(whole_body: Path) -> None:
    labels = set(json.loads((whole_body / "whole_body.json").read_text())["total"]["labels"])

    # The parts of TotalSegmentator's 117 labels: organs 1-24, vertebrae 25-50, heart and vessels 51-68, muscles 69-91
    # (with brain and skull), ribs 92-117.
    parts = (range(1, 25), range(25, 51), range(51, 69), range(69, 92), range(92, 118))
    assert all(len(labels.intersection(part)) >= 3 for part in parts)


def test_whole_body_labels_lie_in_the_grid_of_the_oblique_image(whole_body: Path) -> None:
    geometry = json.loads((whole_body / "whole_body.json").read_text())["total_fast"]["affine_of_labels"]

    # Columns of the affine: 12 degrees about z then about x; voxel axes point left, posterior and superior.
    # x: -1.7 cos 12 = -1.66285; y of the third: -3.7 sin 12 = -0.76927.
    assert geometry[0][0] == pytest.approx(-1.66285, abs=1e-4)
    assert geometry[1][2] == pytest.approx(-0.76927, abs=1e-4)
    assert [row[3] for row in geometry[:3]] == pytest.approx([87.5, 110.25, -342.0])


def test_exported_networks_answer_like_torch_without_the_biases_that_normalisation_removes(tmp_path: Path) -> None:
    printed = run_module("tests.parity.export", tmp_path, "--cases", "ct_two_folds,ct_thick_slices")

    measured = json.loads(printed.splitlines()[-1])
    assert {name: len(folds) for name, folds in measured.items()} == {"ct_two_folds": 2, "ct_thick_slices": 1}
    # Two stages of the decoder and three of the encoder, two convolutions each.
    assert [fold["biases_dropped"] for fold in measured["ct_two_folds"]] == [10, 10]
    assert all(fold["labels_that_differ"] <= 1 for folds in measured.values() for fold in folds)
