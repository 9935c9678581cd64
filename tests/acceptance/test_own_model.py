"""From a trained nnU-Net folder to contours in the planning system: the five commands of the README, in their order.

The network is nnU-Net's, tiny, and trained for 60 steps on drawn organs. The first command, installing the extra, is
done by the tests' own place for nnU-Net.
"""

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from node.adapters.storage_scu import store
from tests.acceptance.running import RunningNode, run_delineate
from tests.builders import ct_series, grid, save_series
from tests.fakes import RT_STRUCTURE_SET, FakeDestination
from tests.parity.environment import run_module
from tests.parity.organs import ORGANS, organs


def ct() -> list[Dataset]:
    """Draw the organs on axial slices, the patient's middle at the origin."""
    stack = grid(
        slices=36, rows=64, columns=72, origin_lps_mm=(-71.0, -63.0, -87.5), spacing_mm=(5.0, 2.0, 2.0), series="organs"
    )
    z = np.array([plane.position_lps_mm[2] for plane in stack.planes]).reshape(-1, 1, 1)
    y = -63.0 + 2.0 * np.arange(64).reshape(1, -1, 1)
    x = -71.0 + 2.0 * np.arange(72).reshape(1, 1, -1)
    values, _ = organs(x, y, z)
    return ct_series(stack, voxels=values, series="organs")


@pytest.mark.timeout(900)
def test_a_trained_network_contours_in_the_planning_system_after_five_commands(tmp_path: Path) -> None:
    results = Path(run_module("tests.parity.training", tmp_path / "nnUNet_results").splitlines()[-1])
    models = tmp_path / "models"
    files = save_series(ct(), tmp_path / "ct")

    said = run_module(
        "tests.parity.command_line",
        sysconfig.get_path("purelib"),
        *("model", "import", "nnunet", results, "--into", models, "--name", "organs", "--orientation", "LPS"),
    )
    verified = run_delineate("model", "verify", "organs", "--model-dir", str(models), "--json")
    with FakeDestination() as tps:
        node = RunningNode(tmp_path, destination_port=tps.address.port, model="organs")
        told = node.config_path.read_text().replace("[node]", f'[node]\nmodel_dirs = ["{models}"]')
        node.config_path.write_text(told)
        with node:
            checked = run_delineate("check", "--config", str(node.config_path), "--json")
            store(node.address, files, calling_ae_title="CT1")
            node.wait_until_delivered(1)

    assert "against nnU-Net: 0 of " in said
    assert [one for one in json.loads(verified.stdout) if not one["holds"]] == []
    assert [one for one in json.loads(checked.stdout) if not one["holds"]] == []
    (rtstruct,) = [one for one in tps.received if one.SOPClassUID == RT_STRUCTURE_SET]
    assert [str(one.ROIName) for one in rtstruct.StructureSetROISequence] == ["Bladder", "Lung_R"]
    for roi, (centre, _, _) in zip(rtstruct.ROIContourSequence, ORGANS.values(), strict=True):
        # A tiny network is a few millimetres off; a swapped side or axis would be 24 mm off at least.
        np.testing.assert_allclose(middle_of(roi), centre, atol=6.0)


def middle_of(roi: Dataset) -> NDArray[np.float64]:
    """Give the middle of the box around all contours, LPS mm."""
    points = np.concatenate([np.array(one.ContourData, dtype=float).reshape(-1, 3) for one in roi.ContourSequence])
    return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)
