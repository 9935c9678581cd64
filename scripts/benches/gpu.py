"""Seconds and memory of an inference on an NVIDIA GPU: the network against all else, cold and warm, against torch.

A network as nnU-Net plans it, with random weights, contours a made-up CT of 512 × 512 × 300: as a whole-body model at
3 mm with 118 classes, and as a model of organs at 1.5 mm with 25 classes that are brought back exactly. In float32
without TF32, with it, and in float16. Each is a process of its own: its first run is cold. "Network alone" is what as
many patches take one after the other, on the device already. Where torch is here and finds the GPU, it runs the same
network, with cudnn.benchmark.

Needs no more than onnxruntime-gpu, numpy, scipy, onnx and rich; where nothing can be installed:
PYTHONPATH=. python3 scripts/benches/gpu.py

Without a GPU that can be used it says why and gives no figure. --provider cpu tries the bench itself with a tiny
network on the processor, and promises nothing.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from inferring.gpu_models import MODELS, Precision
from inferring.measured import NETWORK, OPEN
from report import Row, median, parser, publish
from rich.console import Console

from node.adapters.onnx_session import cuda_not_usable_because

BENCHES = Path(__file__).parent

# What we aim at: a whole run, warm, of the time that its network takes alone.
OVERHEAD = 1.15

PRECISIONS: Mapping[Precision, str] = {"float32": "float32", "tf32": "TF32", "float16": "float16"}

REMEDY = (
    "Install an NVIDIA driver for CUDA 13 and the extra `cuda` (scripts/setup cuda); `delineate check` shows what is "
    "missing. --provider cpu tries the bench itself on the processor."
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What `inferring.on_device` tells."""

    # Wall seconds by phase of each run, the first one cold.
    laps: Sequence[Mapping[str, float]]
    patches: int
    # Of the network alone.
    patch_s: Sequence[float]
    device_mib: float | None
    computed_by: str

    @property
    def cold_s(self) -> float:
        """Give the seconds of opening and the first run."""
        return sum(self.laps[0].values())

    @property
    def warm_s(self) -> float:
        """Give the seconds of a run."""
        return median([sum(lap.values()) for lap in self.laps[1:]])

    @property
    def network_s(self) -> float:
        """Give the seconds of the network in a warm run."""
        return median([lap[NETWORK] for lap in self.laps[1:]])

    @property
    def opening_s(self) -> float:
        """Give the seconds of opening before and in the first run."""
        return self.laps[0][OPEN]

    @property
    def alone_s(self) -> float:
        """Give the seconds of the network alone on as many patches."""
        return self.patches * median(self.patch_s)


@dataclass(frozen=True, kw_only=True)
class TorchRun:
    """What `inferring.torch_on_device` tells."""

    cold_s: float
    patch_s: Sequence[float]
    device_mib: float | None
    computed_by: str


def rows_of(title: str, run: Run, bound_s: float | None, overhead: float | None) -> list[Row]:
    """Tell what a model takes; bounds are on a warm run, None: nothing is promised."""
    rows = [
        Row(name=f"{title}: whole run, warm", ours=run.warm_s, unit="s", bound=bound_s),
        Row(
            name=f"{title}: whole run, warm",
            ours=run.warm_s,
            peer=run.alone_s,
            peer_name="network alone",
            unit="s",
            bound=overhead,
        ),
        Row(name=f"{title}: of it network, {run.patches} patches", ours=run.network_s, unit="s"),
        Row(name=f"{title}: of it all else", ours=run.warm_s - run.network_s, unit="s"),
        Row(name=f"{title}: opening and first run", ours=run.cold_s, unit="s"),
        Row(name=f"{title}: of it opening", ours=run.opening_s, unit="s"),
    ]
    if run.device_mib is not None:
        rows.append(Row(name=f"{title}: peak device memory", ours=run.device_mib, unit="MiB"))
    return rows


def torch_rows(title: str, ours: Run, theirs: TorchRun, difference: float) -> list[Row]:
    """Compare the network alone with torch's."""
    patch = [1000 * median(run.patch_s) for run in (ours, theirs)]
    rows = [
        Row(name=f"{title}: network, one patch", ours=patch[0], peer=patch[1], peer_name="torch", unit="ms"),
        Row(name=f"{title}: scores differ from torch's by at most", ours=difference, unit="deviations"),
        Row(name=f"{title}: first patch by torch", ours=theirs.cold_s, unit="s"),
    ]
    if theirs.device_mib is not None:
        rows.append(Row(name=f"{title}: peak device memory of torch's network", ours=theirs.device_mib, unit="MiB"))
    return rows


def measure(name: str, precision: Precision, provider: str, folder: Path, repetitions: int) -> list[Row]:
    """Measure a model in one precision."""
    model, on_gpu = MODELS[name], provider == "cuda"
    title = f"{model.title}, {PRECISIONS[precision]}"
    told = _started("inferring.on_device", name, precision, provider, folder, repetitions)
    ours = Run(**told)
    rows = rows_of(title, ours, model.bound_s if on_gpu else None, OVERHEAD if on_gpu else None)
    reference = folder / "labels float32.npy"
    if precision != "float32" and reference.exists():
        differ = float(np.mean(np.load(reference) != np.load(folder / f"labels {precision}.npy")))
        rows.append(Row(name=f"{title}: labels that differ from float32's", ours=1e6 * differ, unit="per million"))
    if torch_sees(provider):
        theirs = TorchRun(**_started("inferring.torch_on_device", name, precision, provider, folder))
        scores = [np.load(folder / f"scores {engine} {precision}.npy") for engine in ("torch", "ours")]
        difference = float(np.abs(scores[0] - scores[1]).max() / scores[0].std())
        rows += torch_rows(title, ours, theirs, difference)
    return rows


def torch_sees(provider: str) -> bool:
    """Tell whether torch is here and can compute there."""
    if importlib.util.find_spec("torch") is None:
        return False
    if provider == "cpu":
        return True
    # In a process of its own: its context would be counted as somebody's memory.
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", question], capture_output=True, check=False).returncode == 0


def _started(module: str, *arguments: object) -> dict[str, object]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (BENCHES.parents[1], BENCHES)))}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHES, env=environ, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:5])} ended with {done.returncode}: {done.stderr[-2000:]}")
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> int:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=5, help="warm runs of each (default: 5)")
    arguments.add_argument("--provider", choices=["cuda", "cpu"], default="cuda", help="default: cuda")
    chosen = arguments.parse_args()
    on_gpu = chosen.provider == "cuda"
    if on_gpu and (why_not := cuda_not_usable_because()) is not None:
        sys.stderr.write(f"No figures: CUDA cannot be used here: {why_not}.\n{REMEDY}\n")
        return 2
    names = ["whole-body", "organs"] if on_gpu else ["tiny"]
    precisions: list[Precision] = list(PRECISIONS) if on_gpu else ["float32"]
    console, rows, where = Console(stderr=True), [], "the GPU" if on_gpu else "the CPU: no GPU, nothing is promised"
    for name in names:
        with tempfile.TemporaryDirectory(prefix="delineate-bench-") as folder:
            for precision in precisions:
                with console.status(f"{MODELS[name].title}, {PRECISIONS[precision]}"):
                    rows += measure(name, precision, chosen.provider, Path(folder), chosen.repetitions)
    notes = [] if torch_sees(chosen.provider) else ["torch is not here, or does not see the device: not compared."]
    title = f"Inference on {where}, wall time, median of {chosen.repetitions} warm runs"
    return publish("\n".join([title, *notes]), rows, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
