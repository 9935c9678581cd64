"""Run a model's network by torch: python -m inferring.torch_on_device MODEL PRECISION PROVIDER FOLDER.

With `cudnn.benchmark`, which tries every way of a convolution once, as nnU-Net has it. Prints figures as JSON.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from inferring.gpu_models import MODELS, Model, Precision, write_network
from inferring.on_device import middle_slice, noise, times_of
from inferring.torch_network import TorchNetwork


def main(model: Model, precision: Precision, provider: str, folder: Path) -> None:
    """Time the network on one patch."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    network = TorchNetwork(write_network(model, precision, folder), provider)
    patch = torch.from_numpy(noise([1, 1, *(model.patch,) * 3])).to(provider)

    def call() -> torch.Tensor:
        scores: torch.Tensor = network(patch)
        if provider == "cuda":
            torch.cuda.synchronize()
        return scores

    with torch.inference_mode():
        start = time.perf_counter()
        scores = call()
        cold_s = time.perf_counter() - start
        np.save(folder / f"scores torch {precision}.npy", middle_slice(scores.cpu().numpy()))
        del scores
        taken = times_of(call)
    peak = torch.cuda.max_memory_reserved() / 2**20 if provider == "cuda" else None
    told = {"cold_s": cold_s, "patch_s": taken, "device_mib": peak}
    print(json.dumps({**told, "computed_by": f"torch {torch.__version__}"}))


if __name__ == "__main__":
    main(MODELS[sys.argv[1]], sys.argv[2], sys.argv[3], Path(sys.argv[4]))  # type: ignore[arg-type]
