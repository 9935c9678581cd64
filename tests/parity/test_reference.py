"""The reference itself: it is made of nnU-Net's own answers, and those are not trivial."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity.cases import case
from tests.parity.environment import run_module

CASES = ("ct_rotated_axes", "regions")


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
