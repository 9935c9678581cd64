"""Our engine labels as nnU-Net does, by the networks that nnU-Net ran, without torch.

Where sums of patches are float32 on both sides, a voxel differs only where its two best classes tie to the accuracy
of a float32: torch and ONNX Runtime sum a convolution in another order.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.adapters.onnx_session import open_predictor
from node.adapters.onnx_windows import OnnxWindows
from node.domain.volume import Volume
from node.inference.engine import labels_by_windows
from node.inference.package import LoadedPackage
from node.inference.predictor import no_progress
from tests.builders import grid
from tests.parity.cases import Case, case
from tests.parity.environment import run_module
from tests.parity.manifests import input_of, output_of
from tests.windowed import package

# As a whole and by slice, both with coarse slices; axes in another order, mirrored and cropped; two channels; folds; a
# mask with holes; regions; more labels than a byte holds.
NAMES = (
    "ct_smaller_than_patch",
    "ct_anisotropic",
    "ct_thick_slices",
    "ct_rotated_axes",
    "ct_two_folds",
    "mr_masked",
    "two_channels",
    "regions",
    "many_labels",
)

# Of logits whose deviation is 1.
TIE = 1e-5

# The first test makes the place for nnU-Net, or waits for another that does.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let nnU-Net answer all cases and export its networks; torch is loaded once for each."""
    folder = tmp_path_factory.mktemp("answers")
    for program in ("reference", "export"):
        run_module(f"tests.parity.{program}", folder, "--cases", ",".join(NAMES))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_no_voxel_differs_from_nnunet_but_by_a_tie(answers: Path, name: str) -> None:
    one, results = case(name), answers / "results" / f"Dataset900_{name}"
    plans = json.loads(next(results.glob("*/plans.json")).read_text())
    wanted, output = input_of(one, plans), output_of(one)
    graphs = tuple(sorted((answers / name).glob("fold_*.onnx")))
    loaded = LoadedPackage(package=package(wanted, output, len(graphs)), graph_paths=graphs)
    runtime = open_predictor(loaded, "cpu", threads=1)
    assert isinstance(runtime, OnnxWindows)

    with np.load(answers / f"{name}.npz") as answer:
        found, _ = labels_by_windows(volumes(answer["image"], one), wanted, output, runtime, no_progress)

        differ = found != answer["labels"]
        assert len(graphs) == one.folds
        assert differ.sum() <= 2
        assert answer["margin"][differ].max(initial=0) < TIE


def volumes(image: np.ndarray[Any, np.dtype[np.float32]], one: Case) -> list[Volume]:
    slices, rows, columns = one.shape
    stack = grid(slices=slices, rows=rows, columns=columns, spacing_mm=one.spacing_mm)
    return [Volume(voxels=each, grid=stack) for each in image]
