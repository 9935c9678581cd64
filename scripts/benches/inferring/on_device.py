"""Run a model on one device, cold and warm: python -m inferring.on_device MODEL PRECISION PROVIDER FOLDER RUNS.

A process of its own, so that its first run is cold. Prints figures as JSON, and writes labels and some scores.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inferring.ct import write
from inferring.gpu_models import MODELS, Model, Precision, write_network
from inferring.measured import PRE, Meter
from inferring.packages import loaded
from inferring.sessions import install, ort
from node.adapters.onnx_session import open_predictor
from node.domain.volume import Volume
from node.inference.engine import labels_by_windows
from node.inference.golden import axial_grid
from node.inference.predictor import WindowRuntime, no_progress

Provider = Literal["cuda", "cpu"]

# One that is timed alone: so often at least, and so long.
CALLS, SECONDS = 10, 2.0


def main(model: Model, precision: Precision, provider: Provider, folder: Path, runs: int) -> None:
    """Run the engine, then the network alone in the session that the engine opened."""
    network, scan = write_network(model, precision, folder), np.load(write(model.scan, folder))
    volume = Volume(voxels=scan, grid=axial_grid(scan.shape, model.scan.spacing_mm))
    before_mib = device_mib() if provider == "cuda" else None
    meter = Meter()
    networks = install(meter, {"use_tf32": str(int(precision == "tf32"))} if provider == "cuda" else None)
    runtime = open_predictor(loaded(model.title, model.input, model.output, [network]), provider)
    if not isinstance(runtime, WindowRuntime):
        raise TypeError("a network with a window was opened as one without")
    meter.begin(PRE)
    laps = []
    for _ in range(1 + runs):
        found, _ = labels_by_windows([volume], model.input, model.output, runtime, no_progress)
        laps.append(meter.lap()["wall_s"])
    patches = networks.runs // (1 + runs)
    # Arenas never give back, so this is the most that there was.
    after_mib = device_mib() if provider == "cuda" else None
    patch_s, scores = alone(networks.sessions[0], provider)
    np.save(folder / f"labels {precision}.npy", found)
    np.save(folder / f"scores ours {precision}.npy", scores)
    added = None if before_mib is None or after_mib is None else after_mib - before_mib
    told = {"laps": laps, "patches": patches, "patch_s": patch_s, "device_mib": added}
    print(json.dumps({**told, "computed_by": runtime.computed_by}))


def noise(shape: list[int]) -> np.ndarray:
    """Give a patch that is the same for everybody."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def middle_slice(scores: np.ndarray) -> np.ndarray:
    """Give enough of scores to compare them by: all would be a gigabyte."""
    return np.array(scores[0, :, scores.shape[2] // 2])


def times_of(call: Callable[[], object]) -> list[float]:
    """Time calls one after the other, the first left out."""
    call()
    taken: list[float] = []
    while len(taken) < CALLS or sum(taken) < SECONDS:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


def alone(session: Any, provider: Provider) -> tuple[list[float], np.ndarray]:
    """Time a network on a patch that lies on the device, as do its scores; gives some of these, too."""
    given, answered = session.get_inputs()[0], session.get_outputs()[0]
    binding = session.io_binding()
    patch = noise([1, *given.shape[1:]])
    binding.bind_ortvalue_input(given.name, ort.OrtValue.ortvalue_from_numpy(patch, provider, 0))
    scores = ort.OrtValue.ortvalue_from_shape_and_type([1, *answered.shape[1:]], np.float32, provider, 0)
    binding.bind_ortvalue_output(answered.name, scores)
    return times_of(lambda: session.run_with_iobinding(binding)), middle_slice(scores.numpy())


def device_mib() -> float | None:
    """Ask the driver how much of the first GPU's memory is taken, by whomever; None where it does not say."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


if __name__ == "__main__":
    main(MODELS[sys.argv[1]], sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))  # type: ignore[arg-type]
