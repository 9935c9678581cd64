"""Contour as users of MONAI do: python -m inferring.monai_alone NETWORK SCAN LABELS SPACING.

The same network in torch behind `sliding_window_inference`, with nnU-Net's overlap and Gaussian. Before it the image is
scaled and resampled linearly, after it scores are resampled linearly and the highest wins: MONAI has no cubic
resampling that keeps the faces, so its labels are others than nnU-Net's.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import Resize

from inferring.cases import SPACING_MM, network, results_of
from inferring.measured import NETWORK, POST, PRE, Meter
from tests.parity import reference
from tests.parity.results_folder import CT_INTENSITIES


def main(folder: Path, scan: Path, labels: Path, spacing_mm: list[float]) -> None:
    """Contour one scan."""
    image = torch.from_numpy(np.load(scan))[None]
    size = [round(voxels * each / SPACING_MM) for voxels, each in zip(image.shape[1:], spacing_mm, strict=True)]
    one = network(folder.name)
    meter = Meter()
    predictor = reference.predictor(one, results_of(folder))
    net = predictor.network.eval()
    net.load_state_dict(predictor.list_of_parameters[0])
    net.register_forward_pre_hook(lambda *_: meter.begin(NETWORK))
    net.register_forward_hook(lambda *_: meter.begin(POST))
    meter.begin(PRE)
    with torch.inference_mode():
        scaled = image.clip(CT_INTENSITIES["percentile_00_5"], CT_INTENSITIES["percentile_99_5"])
        scaled = (scaled - CT_INTENSITIES["mean"]) / CT_INTENSITIES["std"]
        values = Resize(size, mode="trilinear")(scaled)[None]
        scores = sliding_window_inference(values, one.patch_size, 1, net, overlap=0.5, mode="gaussian")
        found = Resize(image.shape[1:], mode="trilinear")(scores[0]).argmax(dim=0).to(torch.uint8)
    meter.tell()
    np.save(labels, np.asarray(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), [float(each) for each in sys.argv[4].split(",")])
