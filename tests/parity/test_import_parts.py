"""The five networks of TotalSegmentator's whole body become one package, which says what TotalSegmentator says."""

import json
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import open_predictor
from node.inference.predictor import no_progress
from node.inference.segment import segment
from node.model_checkup import verify
from tests.parity.environment import run_module
from tests.parity.test_import import oblique_volume

PARTS = ["part1_organs", "part2_vertebrae", "part3_cardiac", "part4_muscles", "part5_ribs"]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported")
    run_module("tests.parity.importing", out, "--tasks", "total", timeout_s=800)
    return out


@pytest.fixture(scope="module")
def manifest(made: Path) -> dict[str, Any]:
    return tomllib.loads((made / "models" / "ts" / "model.toml").read_text())


def test_a_package_of_five_networks_says_in_every_voxel_what_totalsegmentator_says(made: Path) -> None:
    with np.load(made / "total.npz") as answer:
        image, expected, affine = answer["image"], answer["labels"], answer["affine"]
        labels_of_parts = [int(np.unique(answer[str(number)]).size) - 1 for number in range(291, 296)]
    loaded = ModelStore([made / "models"]).load("ts")

    found = segment(
        oblique_volume(image, affine), loaded.package, open_predictor(loaded, device="cpu"), no_progress
    ).label_map.labels

    assert np.count_nonzero(expected != found.T) == 0
    # Each part found much, and of each but the last something was overridden.
    assert min(labels_of_parts) > 10
    firsts = [part.labels[0] for part in loaded.package.parts] + [256]
    assert all(np.isin(found, range(*ends)).any() for ends in pairwise(firsts))


def test_parts_follow_in_the_order_of_merging_each_with_its_own_labels(manifest: dict[str, Any]) -> None:
    assert [part["name"] for part in manifest["parts"]] == PARTS
    assert [(part["labels"][0], part["labels"][-1]) for part in manifest["parts"]] == [
        (1, 24),
        (25, 50),
        (51, 68),
        (69, 91),
        (92, 117),
    ]
    files = [[graph["file"] for graph in part["graphs"]] for part in manifest["parts"]]
    assert files == [[f"{part}_fold_0.onnx", f"{part}_fold_0.f16.onnx"] for part in PARTS]


def test_what_parts_have_in_common_is_said_once(manifest: dict[str, Any]) -> None:
    assert manifest["input"]["spacing_mm"] == [1.5, 1.5, 1.5]
    assert manifest["window"]["step"] == 0.8
    assert [part["output"]["classes"] for part in manifest["parts"]] == [25, 27, 19, 24, 27]
    assert all("input" not in part and "window" not in part for part in manifest["parts"])


def test_every_structure_of_every_part_is_there(manifest: dict[str, Any]) -> None:
    values = sorted(value for each in manifest["structures"] for value in each["label_values"])

    assert values == list(range(1, 118))
    by_name = {each["name"]: each["label_values"] for each in manifest["structures"]}
    assert (by_name["Spleen"], by_name["Sacrum"], by_name["Heart"]) == ([1], [25], [51])


def test_the_package_states_its_parity_over_all_networks(made: Path, manifest: dict[str, Any]) -> None:
    told = json.loads((made / "imported.json").read_text())["ts"]

    exact = manifest["parity"][0]
    assert exact["differing_voxels"] == 0
    assert exact["voxels"] == told["voxels"]
    assert len(manifest["provenance"]["files"]) == 5
    assert manifest["provenance"]["files"][0]["file"] == "part1_organs/fold_0/checkpoint_final.pth"


def test_the_package_verifies_with_its_golden_test_through_all_parts(made: Path) -> None:
    findings = {each.subject: each for each in verify(ModelStore([made / "models"]), "ts", "cpu", None)}

    assert [each for each in findings.values() if not each.holds] == []
    assert findings["session"].said.startswith("5 networks fit their manifest")
    assert findings["golden test"].said.startswith("0 of ")
