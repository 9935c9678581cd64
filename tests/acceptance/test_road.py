"""From a clinic's archive to contours of its own model in the planning system: the commands of the README.

Seven drawn patients with RT Structure Sets, a tiny network, and an eighth patient whom nobody has contoured. Training
runs in the tests' own place for nnU-Net, where torch is.
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
from tests.archives import Outline, Roi, person, rtstruct, save
from tests.builders import ct_series, grid, save_series
from tests.fakes import RT_STRUCTURE_SET, FakeDestination
from tests.parity.environment import run_module

# Centre (x, y, z) and half axes, LPS mm, HU. The lung lies on the patient's right, where x is negative.
ORGANS = {
    "Blase": ((24.0, 8.0, -14.0), (17.0, 18.0, 18.0), 350),
    "Lunge re": ((-26.0, -6.0, 12.0), (18.0, 20.0, 22.0), -500),
}
NAMES = """
Bladder = ["blase"]
Lung_R = ["lunge re"]
"""
RECIPE = """
spacing_mm = [5.0, 4.0, 4.0]
patch = [24, 24, 32]
features = [6, 12, 24]
encoder_convolutions = [1, 1, 1]
decoder_convolutions = [1, 1]
learning_rate = 1e-2
warm_up_steps = 10
average = 0.9
steps = 160
decay = 0.3
check_every = 160
"""


class Drawn:
    """A patient, somewhat to one side of the others."""

    def __init__(self, number: int) -> None:
        self.shift = np.random.default_rng(number).uniform(-6, 6, 3)
        stack = grid(
            slices=32,
            rows=40,
            columns=56,
            origin_lps_mm=(-68.0, -58.0, -78.0),
            spacing_mm=(5.0, 3.0, 2.5),
            series=f"road {number}",
        )
        z = np.array([plane.position_lps_mm[2] for plane in stack.planes]).reshape(-1, 1, 1)
        y = -58.0 + 3.0 * np.arange(40).reshape(1, -1, 1)
        x = -68.0 + 2.5 * np.arange(56).reshape(1, 1, -1)
        values = np.where((x / 64) ** 2 + (y / 52) ** 2 + (z / 90) ** 2 <= 1, 40, -1000)
        for name, (_, half, hu) in ORGANS.items():
            middle = self.middle(name)
            inside = sum(((at - m) / h) ** 2 for at, m, h in zip((x, y, z), middle, half, strict=True)) <= 1
            values[inside] = hu
        noise = np.random.default_rng(number).normal(0, 12, values.shape)
        self.images = ct_series(
            stack,
            voxels=np.rint(values + noise).clip(-1024, 3071).astype(np.int16),
            identity=person(number),
            series=f"road {number}",
        )

    def middle(self, name: str) -> NDArray[np.float64]:
        """Give the middle of an organ, LPS mm."""
        return np.array(ORGANS[name][0]) + self.shift

    def contoured(self, *names: str) -> Dataset:
        """Give a structure set with these organs, outlined on every image that they cross."""
        rois = [Roi(name=name, outlines=list(self._outlines(name))) for name in names]
        return rtstruct(self.images, rois, seed=f"road {self.images[0].PatientID}")

    def _outlines(self, name: str) -> list[Outline]:
        middle, half = self.middle(name), ORGANS[name][1]
        around = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        outlines = []
        for image in self.images:
            z = float(image.ImagePositionPatient[2])
            share = 1 - ((z - middle[2]) / half[2]) ** 2
            if share <= 0.02:
                continue
            x = middle[0] + half[0] * np.sqrt(share) * np.cos(around)
            y = middle[1] + half[1] * np.sqrt(share) * np.sin(around)
            outlines.append(Outline(image=image, points_lps_mm=np.stack([x, y, np.full(60, z)], axis=1)))
        return outlines


@pytest.mark.timeout(900)
def test_a_clinics_archive_becomes_contours_of_its_own_model_in_the_planning_system(tmp_path: Path) -> None:
    for number in range(7):
        patient = Drawn(number)
        # Nobody contoured the lung of the first two.
        names = list(ORGANS)[: 1 if number < 2 else 2]
        save(tmp_path / "archive" / f"{number}", *patient.images, patient.contoured(*names))
    (tmp_path / "names.toml").write_text(NAMES, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    dataset, training = tmp_path / "dataset", tmp_path / "training"

    built = run_delineate(
        *("dataset", "build", str(tmp_path / "archive"), str(dataset), "--name", "trunk", "--organ", "Bladder"),
        *("--organ", "Lung_R", "--names", str(tmp_path / "names.toml"), "--validation", "0.2", "--test", "0"),
    )
    assert built.returncode == 0, built.stderr + built.stdout
    said = run_module(
        "tests.parity.command_line",
        sysconfig.get_path("purelib"),
        *("train", dataset, training, "--recipe", tmp_path / "recipe.toml", "--name", "trunk", "--device", "cpu"),
        *("--originator", "A clinic", "--licence", "Apache-2.0", "--intended-use", "Tests."),
    )
    models = training / "packages"
    verified = run_delineate("model", "verify", "trunk", "--model-dir", str(models), "--json")
    patient = Drawn(8)
    with FakeDestination() as tps:
        node = RunningNode(tmp_path, destination_port=tps.address.port, model="trunk")
        told = node.config_path.read_text().replace("[node]", f'[node]\nmodel_dirs = ["{models}"]')
        node.config_path.write_text(told)
        with node:
            store(node.address, save_series(patient.images, tmp_path / "ct"), calling_ae_title="CT1")
            node.wait_until_delivered(1)

    cases = json.loads((dataset / "cases.json").read_text())["cases"]
    assert sorted(tuple(each["contoured"]) for each in cases) == [("Bladder",)] * 2 + [("Bladder", "Lung_R")] * 5
    assert "validation Dice" in said
    assert (training / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [one for one in json.loads(verified.stdout) if not one["holds"]] == []
    card = (models / "trunk/MODEL_CARD.md").read_text()
    assert "images of" in card
    assert "| Lung_R |" in card
    # The weights of 16-bit numbers, in the file as such.
    assert (models / "trunk/fold_0.onnx").stat().st_size < 2.2 * sum_of_weights(training)
    (result,) = [one for one in tps.received if one.SOPClassUID == RT_STRUCTURE_SET]
    rois = {str(one.ROIName): one.ROINumber for one in result.StructureSetROISequence}
    assert sorted(rois) == ["Bladder", "Lung_R"]
    for name, drawn in (("Bladder", "Blase"), ("Lung_R", "Lunge re")):
        (contours,) = [one for one in result.ROIContourSequence if one.ReferencedROINumber == rois[name]]
        # A tiny network is a few millimetres off; a swapped side or axis would be 24 mm off at least.
        np.testing.assert_allclose(middle_of(contours), patient.middle(drawn), atol=6.0)


def sum_of_weights(training: Path) -> int:
    """Count the numbers in the checkpoint's network, by its size in float32."""
    (checkpoint,) = training.glob("results/*/*/fold_0/checkpoint_final.pth")
    return checkpoint.stat().st_size // 4


def middle_of(roi: Dataset) -> NDArray[np.float64]:
    """Give the middle of the box around all contours, LPS mm."""
    points = np.concatenate([np.array(one.ContourData, dtype=float).reshape(-1, 3) for one in roi.ContourSequence])
    return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)
