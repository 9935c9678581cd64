"""Contour as the node does: python -m inferring.ours NETWORK SCAN LABELS SPACING [softmax|openvino].

From voxels in memory to labels in memory, on the CPU with all its threads. With ``softmax`` probabilities are kept,
too, which no peer does; with ``openvino`` networks run by OpenVINO in bf16.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from inferring.cases import network, results_of
from inferring.measured import PRE, Meter
from inferring.packages import loaded
from inferring.sessions import install
from node.adapters.onnx_session import open_predictor
from node.domain.volume import Volume
from node.inference.engine import labels_by_windows
from node.inference.golden import axial_grid
from node.inference.network_tables import Activation
from node.inference.predictor import WindowRuntime, no_progress
from tests.parity.manifests import input_of, output_of

# How a network is opened, beside its package.
ON_CPU: dict[str, str] = {"device": "cpu"}
BY_OPENVINO: dict[str, str] = {"device": "openvino", "precision": "bf16"}


def main(paths: list[Path], spacing_mm: list[float], activation: Activation, where: dict[str, str]) -> None:
    """Contour one scan: from the folder of its network and its file to a file of labels."""
    folder, scan, labels = paths
    one, plans = network(folder.name), json.loads((results_of(folder) / "plans.json").read_text(encoding="utf-8"))
    wanted, output = input_of(one, plans), replace(output_of(one), activation=activation)
    package = loaded(folder.name, wanted, output, [folder / "fold_0.onnx"])
    voxels = np.load(scan)
    volume = Volume(voxels=voxels, grid=axial_grid(voxels.shape, (spacing_mm[0], spacing_mm[1], spacing_mm[2])))
    meter = Meter()
    install(meter)
    runtime = open_predictor(package, **where)  # type: ignore[arg-type]
    if not isinstance(runtime, WindowRuntime):
        raise TypeError("a network with a window was opened as one without")
    meter.begin(PRE)
    found, _ = labels_by_windows([volume], wanted, output, runtime, no_progress)
    meter.tell()
    np.save(labels, found)


if __name__ == "__main__":
    paths, spacing = [Path(name) for name in sys.argv[1:4]], [float(each) for each in sys.argv[4].split(",")]
    more = sys.argv[5:]
    main(paths, spacing, "softmax" if "softmax" in more else "none", BY_OPENVINO if "openvino" in more else ON_CPU)
