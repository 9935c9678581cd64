"""A task of TotalSegmentator that works in a region becomes one package, which finds the region itself."""

import tomllib
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

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported")
    run_module("tests.parity.importing", out, "--tasks", "liver_segments", timeout_s=800)
    return out


@pytest.fixture(scope="module")
def manifest(made: Path) -> dict[str, Any]:
    return tomllib.loads((made / "models" / "segments" / "model.toml").read_text())


def test_a_package_with_a_region_says_in_every_voxel_what_totalsegmentator_says(made: Path) -> None:
    with np.load(made / "liver_segments.npz") as answer:
        image, expected, affine = answer["image"], answer["labels"], answer["affine"]
    loaded = ModelStore([made / "models"]).load("segments")

    found = segment(
        oblique_volume(image, affine), loaded.package, open_predictor(loaded, device="cpu"), no_progress
    ).label_map.labels

    assert np.count_nonzero(expected != found.T) == 0
    # Labels lie in a part of the image along each axis.
    sides = [(int(at.min()), int(at.max())) for at in np.nonzero(expected)]
    assert all(last - first < 0.6 * size for (first, last), size in zip(sides, expected.shape, strict=True))
    assert np.count_nonzero(expected) > 500


def test_the_package_says_what_its_region_is_around(manifest: dict[str, Any]) -> None:
    region = manifest["crop_model"]

    assert (region["structures"], region["margin_mm"]) == ({"liver": [5]}, [20.0, 20.0, 20.0])
    assert region["input"]["spacing_mm"] == [6.0, 6.0, 6.0]
    assert (region["window"]["step"], manifest["window"]["step"]) == (0.8, 0.5)
    assert [graph["file"] for graph in region["graphs"]] == ["region_fold_0.onnx", "region_fold_0.f16.onnx"]
    assert len(manifest["provenance"]["files"]) == 2


def test_the_package_verifies(made: Path) -> None:
    findings = list(verify(ModelStore([made / "models"]), "segments", "cpu", None))

    assert [each for each in findings if not each.holds] == []
