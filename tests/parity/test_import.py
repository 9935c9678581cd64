"""Results folders become packages, and the engine, without torch, says what nnU-Net says."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import open_predictor
from node.domain.grid import Grid, Plane
from node.domain.volume import Volume
from node.inference.engine import labels_by_windows
from node.inference.golden import axial_grid
from node.inference.network_tables import WindowedInput
from node.inference.predictor import WindowRuntime, no_progress
from node.inference.segment import segment
from node.model_checkup import verify
from tests.builders import as_vector
from tests.parity.environment import run_module

# Two kinds of network, transposition that is not its own inverse, mirroring, crop, folds, regions, separate slices,
# masked normalisation, labels above 255.
CASES = ("ct_thick_slices", "ct_rotated_axes", "ct_two_folds", "mr_masked", "regions", "many_labels")

# The first test makes the place for nnU-Net, or waits for another that does.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported")
    run_module("tests.parity.importing", out, "--cases", ",".join(CASES), "--tasks", "total_fast")
    return out


def labels_of(name: str, made: Path, volumes: list[Volume]) -> NDArray[np.integer]:
    """Contour by the package, as the node does, in this interpreter."""
    loaded = ModelStore([made / "models"]).load(name)
    runtime = open_predictor(loaded, device="cpu")
    assert isinstance(runtime, WindowRuntime)
    assert isinstance(loaded.package.input, WindowedInput)
    labels, _ = labels_by_windows(volumes, loaded.package.input, loaded.package.output, runtime, no_progress)
    return labels


@pytest.mark.parametrize("name", CASES)
def test_an_imported_network_says_in_every_voxel_what_nnunet_says(made: Path, name: str) -> None:
    with np.load(made / f"{name}.npz") as answer:
        image, expected, spacing = answer["image"], answer["labels"], answer["spacing_mm"]
    stack = axial_grid(expected.shape, tuple(float(each) for each in spacing))  # type: ignore[arg-type]

    found = labels_of(name.replace("_", "-"), made, [Volume(voxels=each, grid=stack) for each in image])

    assert np.count_nonzero(found != expected) == 0


def test_what_nnunet_does_after_the_network_the_package_does_in_every_voxel(made: Path) -> None:
    with np.load(made / "ct_two_folds.npz") as answer:
        image, raw, spacing = answer["image"], answer["labels"], answer["spacing_mm"]
    expected = np.load(made / "ct_two_folds_tidied.npy")
    stack = axial_grid(expected.shape, tuple(float(each) for each in spacing))  # type: ignore[arg-type]
    loaded = ModelStore([made / "models"]).load("ct-two-folds")

    found = segment(
        Volume(voxels=image[0], grid=stack), loaded.package, open_predictor(loaded, device="cpu"), no_progress
    )

    assert np.count_nonzero(found.label_map.labels != expected) == 0
    assert np.count_nonzero(raw != expected) > 500


def test_rules_after_the_network_are_written_with_their_file(made: Path) -> None:
    of_labels, of_regions = (
        tomllib.loads((made / "models" / name / "model.toml").read_text()) for name in ("ct-two-folds", "regions")
    )

    rules = [(each["rule"], each["labels"], each["neighbours"]) for each in of_labels["post"]]
    assert rules == [("keep_largest", [1, 2, 3, 4], 26), ("keep_largest", [2], 26)]
    assert [each["labels"] for each in of_regions["post"]] == [[1, 2, 3], [3]]
    assert of_labels["provenance"]["files"][-1]["file"] == "postprocessing.pkl"


def test_the_fast_model_of_totalsegmentator_says_in_every_voxel_what_it_says_itself(made: Path) -> None:
    with np.load(made / "total_fast.npz") as answer:
        image, expected, affine = answer["image"], answer["labels"], answer["affine"]

    found = labels_of("ts-297", made, [oblique_volume(image, affine)])

    assert np.count_nonzero(expected != found.T) == 0


def test_a_package_states_its_origin_its_parity_and_its_golden_test(made: Path) -> None:
    manifest = tomllib.loads((made / "models" / "ct-two-folds" / "model.toml").read_text())

    networks, copies = manifest["graphs"][:2], manifest["graphs"][2:]
    assert [one["file"] for one in networks] == ["fold_0.onnx", "fold_1.onnx"]
    assert [(one["file"], one["precision"]) for one in copies] == [
        ("fold_0.f16.onnx", "f16"),
        ("fold_1.f16.onnx", "f16"),
    ]
    files = [one["file"] for one in manifest["provenance"]["files"]]
    assert files == ["fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth", "postprocessing.pkl"]
    exact, as_it_comes, in_half = manifest["parity"]
    assert exact["differing_voxels"] == 0
    assert exact["compared_with"].endswith("sums in float32")
    assert 0 < as_it_comes["differing_voxels"] < 0.005 * as_it_comes["voxels"]
    assert in_half["compared_with"].startswith("CPUExecutionProvider, float32, onnxruntime ")
    assert in_half["differing_voxels"] < 0.02 * in_half["voxels"]
    assert manifest["golden"]["differing_voxels"] < 0.02 * exact["voxels"]
    assert not list((made / "models").glob(".*"))


def test_what_only_a_person_can_say_is_listed_and_not_made_up(made: Path) -> None:
    manifest = tomllib.loads((made / "models" / "ct-two-folds" / "model.toml").read_text())
    remarks = json.loads((made / "imported.json").read_text())["ct_two_folds"]["remarks"]

    assert manifest["licence"] == "not stated"
    assert [remark.partition(":")[0] for remark in remarks] == [
        "model.toml does not state originator, licence, intended_use",
        "4 structures are not in conf/structures.toml",
        "Axes are taken as they lie in the series",
    ]
    first = manifest["structures"][0]
    assert (first["name"], first["interpreted_type"], first["type"]["value"]) == ("Structure_1", "", "91723000")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("program", "holds more than weights and plain values"),
        ("no number", "holds a value that is no finite number"),
        ("shape", "do not fit the network of plans.json"),
        ("trainer", "The trainer nnUNetTrainerOfMine is none of this nnU-Net's"),
        ("network of its own", "The trainer nnUNetTrainerBN builds a network of its own"),
        ("other", "is no checkpoint of nnU-Net v2"),
    ],
)
def test_a_wrong_checkpoint_is_refused_and_leaves_nothing(made: Path, wrong: str, said: str) -> None:
    refused = json.loads((made / "imported.json").read_text())["refused"]

    assert said in refused[wrong]
    assert not (made / "models" / "wrong").exists()


@pytest.mark.parametrize("name", ["ct-rotated-axes", "ct-two-folds", "ts-297"])
def test_an_imported_package_verifies(made: Path, name: str) -> None:
    findings = list(verify(ModelStore([made / "models"]), name, "cpu", None))

    assert [one for one in findings if not one.holds] == []
    assert "golden test" in [one.subject for one in findings]


def oblique_volume(image: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    """Take a NIfTI image ``[x, y, z]`` with its affine, in RAS, to the patient's LPS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    column, row, _ = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in range(3))
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    planes = tuple(
        Plane(
            sop_instance_uid=f"2.25.{index + 1}",
            frame_number=None,
            position_lps_mm=as_vector(affine[:3, 3] + index * affine[:3, 2]),
            orientation=(*as_vector(column), *as_vector(row)),
            pixel_spacing_mm=(float(spacing[1]), float(spacing[0])),
            rows=image.shape[1],
            columns=image.shape[0],
        )
        for index in range(image.shape[2])
    )
    return Volume(voxels=np.ascontiguousarray(image.T).astype(np.float32), grid=Grid(planes=planes))
