"""Contour as nnU-Net does: python -m inferring.nnunet_alone NETWORK SCAN LABELS SPACING [float32].

From the array in memory to labels in memory, by `nnUNetPredictor` on the CPU with all its threads. With ``float32`` its
sums are made in float32, for comparing labels; as it comes they are float16.
"""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np

from inferring.cases import network, results_of
from inferring.measured import NETWORK, POST, PRE, Meter
from tests.parity import reference


def main(folder: Path, scan: Path, labels: Path, spacing_mm: list[float]) -> None:
    """Contour one scan."""
    image = np.load(scan)[None]
    meter = Meter()
    predictor = reference.predictor(network(folder.name), results_of(folder))
    predictor.network.register_forward_pre_hook(lambda *_: meter.begin(NETWORK))
    predictor.network.register_forward_hook(lambda *_: meter.begin(POST))
    meter.begin(PRE)
    with contextlib.redirect_stdout(io.StringIO()):
        found = predictor.predict_single_npy_array(image, {"spacing": spacing_mm})
    meter.tell()
    np.save(labels, found)


if __name__ == "__main__":
    paths, spacing = [Path(name) for name in sys.argv[1:4]], [float(each) for each in sys.argv[4].split(",")]
    with reference.float32_accumulators() if "float32" in sys.argv[5:] else contextlib.nullcontext():
        main(paths[0], paths[1], paths[2], spacing)
