"""Processor time, wall time and memory of an inference beside its network, against nnU-Net and MONAI, on the CPU.

Networks of random weights, the same for all, contour the same made-up CT at 1.5 mm with patches of 128 voxels. Ours
runs them by ONNX Runtime, nnU-Net by its own `nnUNetPredictor` as it comes, MONAI by `sliding_window_inference` between
linear resampling. Each run is a process of its own, in turn. Measured is from voxels in memory to labels in memory;
opening networks and graphs is told apart, imports are not counted. Ratios of seconds are of processor time, summed over
threads. What lies beside a network does not depend on its features, so it is measured with a small one; a whole run is
measured with the one that nnU-Net plans. Labels are compared with nnU-Net's by sums in float32.

nnU-Net, torch and MONAI are installed from PyPI into environments of their own (5 GB with all that they want).
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from inferring.cases import Scan, monai_bytes, nnunet_bytes
from inferring.ct import write
from inferring.measured import NETWORK, OPEN, POST, PRE
from numpy.typing import NDArray
from report import Row, median, parser, publish
from rich.console import Console

from node.adapters.onnx_memory import free_host_bytes
from tests.environments import UnavailableError, environment
from tests.parity.environment import prepared_python

BENCHES = Path(__file__).parent

# What we promise, as shares of nnU-Net's figure. Growth is from 300 to 900 slices.
BESIDE, WHOLE, WHOLE_OPENVINO, MEMORY, GROWTH = 0.10, 0.5, 0.2, 0.5, 1.1
# Voxels of a million whose label may be another: torch and ONNX Runtime add up a convolution in another order, and a
# voxel whose best two classes tie to the accuracy of a float32 falls to either side.
TIES = 5.0

MONAI = "monai==1.6.1"
# Of the free memory, what a peer may want: it is killed where it takes too much, and the machine stands still before.
SHARE_OF_FREE = 0.8


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Somebody who contours, and how to start it."""

    name: str
    python: Path
    module: str
    arguments: tuple[str, ...] = ()
    # Where its packages are that its interpreter does not know.
    packages: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """One scan contoured."""

    cpu_s: Mapping[str, float]
    wall_s: Mapping[str, float]
    peak_mib: float
    added_mib: float

    @property
    def beside_cpu_s(self) -> float:
        """Give the processor time of all but the network and the opening."""
        return self.cpu_s[PRE] + self.cpu_s[POST]

    @property
    def beside_wall_s(self) -> float:
        """Give the wall time of all but the network and the opening."""
        return self.wall_s[PRE] + self.wall_s[POST]

    @property
    def whole_cpu_s(self) -> float:
        """Give the processor time of all but the opening."""
        return self.beside_cpu_s + self.cpu_s[NETWORK]

    @property
    def whole_wall_s(self) -> float:
        """Give the wall time of all but the opening."""
        return self.beside_wall_s + self.wall_s[NETWORK]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians over the runs of one engine, and its labels."""

    runs: Sequence[Run]
    labels: NDArray[np.integer]

    def of(self, name: str) -> float:
        """Give the median of a figure."""
        return median([float(getattr(run, name)) for run in self.runs])

    def cpu_s(self, phase: str) -> float:
        """Give the median processor time of a phase."""
        return median([run.cpu_s[phase] for run in self.runs])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network on a scan, and how often each engine is measured with it."""

    network: str
    scan: Scan
    repetitions: Mapping[str, int]

    @property
    def classes(self) -> int:
        """Count the classes."""
        return int(self.network.partition("-")[2])

    @property
    def title(self) -> str:
        """Say it as the table does."""
        return f"{self.classes} classes" + (" as noise" if self.network.startswith("noisy") else "")


Measured = Mapping[str, Figures]


class Bench:
    """A folder with networks, scans and labels, and everybody who contours."""

    def __init__(self, folder: Path, everybody: Sequence[Engine], console: Console) -> None:
        self._folder = folder
        self._engines = {engine.name: engine for engine in everybody}
        self._console = console

    def prepare(self, cases: Sequence[Case]) -> None:
        """Write the networks and draw the scans."""
        maker = self._engines["nnU-Net"]
        names = sorted({case.network for case in cases})
        with self._console.status(f"making networks of random weights: {', '.join(names)}"):
            _started([maker.python, "-m", "inferring.making", self._folder, *names], maker.packages)
        with self._console.status("drawing scans"):
            for case in cases:
                write(case.scan, self._folder)

    def measure(self, case: Case) -> Measured:
        """Let all contour in turn, again and again, so that a slow minute of the machine is everybody's."""
        runs: dict[str, list[Run]] = defaultdict(list)
        with self._console.status("") as spinner:
            for repetition in range(max(case.repetitions.values(), default=0)):
                for name, times in case.repetitions.items():
                    if repetition < times:
                        spinner.update(f"{case.network} on {case.scan.name}: {name}, run {repetition + 1} of {times}")
                        runs[name].append(self._run(self._engines[name], case))
        return {name: Figures(runs=found, labels=np.load(self._labels(name))) for name, found in runs.items()}

    def _run(self, engine: Engine, case: Case) -> Run:
        spacing = ",".join(str(each) for each in case.scan.spacing_mm)
        files = [self._folder / case.network, write(case.scan, self._folder), self._labels(engine.name), spacing]
        told = _started([engine.python, "-m", engine.module, *files, *engine.arguments], engine.packages)
        return Run(**json.loads(told.splitlines()[-1]))

    def _labels(self, name: str) -> Path:
        return self._folder / f"labels of {name}.npy"


def _started(command: Sequence[str | Path], packages: Sequence[Path]) -> str:
    # No more than this checkout: the other packages are those of each environment.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (BENCHES.parents[1], BENCHES, *packages)))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHES, env=environ, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[2]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def beside_rows(case: Case, measured: Measured) -> list[Row]:
    """Compare what lies beside a network, its memory and its labels."""
    title, ours = case.title, measured["ours"]
    rows = _seconds(title, measured, BESIDE, None)
    if "softmax" in measured:
        softmax = measured["softmax"].of("beside_cpu_s")
        rows.append(Row(name=f"{title}: beside the network, with probabilities, CPU", ours=softmax, unit="s"))
    return [*rows, *_memory(title, measured), *_labels(title, ours.labels, measured)]


def whole_rows(case: Case, measured: Measured) -> list[Row]:
    """Compare whole runs."""
    title = f"whole run, {case.classes} classes"
    rows = [*_seconds(title, measured, None, WHOLE), *_memory(title, measured)]
    if "OpenVINO" in measured:
        seconds = [measured[name].of("whole_cpu_s") for name in ("OpenVINO", "nnU-Net")]
        rows.append(
            Row(
                name=f"{title} by OpenVINO: all, CPU",
                ours=seconds[0],
                peer=seconds[1],
                peer_name="nnU-Net",
                unit="s",
                bound=WHOLE_OPENVINO,
            )
        )
    return rows


def growth_rows(few: tuple[Case, Run], many: tuple[Case, Run]) -> list[Row]:
    """Tell how memory grows with the slices; the image and its labels, which must be there, are not counted."""
    slices = [case.scan.shape[0] for case, _ in (few, many)]
    title = f"{slices[1]} slices against {slices[0]}"
    added = [run.added_mib - case.scan.voxels / 2**20 for case, run in (few, many)]
    peer = f"{slices[0]} slices"
    return [
        Row(
            name=f"{title}: memory beside image and labels",
            ours=added[1],
            peer=added[0],
            peer_name=peer,
            unit="MiB",
            bound=GROWTH,
        ),
        Row(
            name=f"{title}: peak memory with them",
            ours=many[1].peak_mib,
            peer=few[1].peak_mib,
            peer_name=peer,
            unit="MiB",
        ),
    ]


def _seconds(title: str, measured: Measured, beside: float | None, whole: float | None) -> list[Row]:
    """Give seconds by phase; bounds are against nnU-Net, on what lies beside the network or on all."""
    rows = []
    ours = measured["ours"]
    for peer in ("nnU-Net", "MONAI"):
        if peer not in measured:
            continue
        theirs = measured[peer]
        pairs = [
            ("beside the network, CPU", ours.of("beside_cpu_s"), theirs.of("beside_cpu_s"), beside),
            ("of it before the network, CPU", ours.cpu_s(PRE), theirs.cpu_s(PRE), None),
            ("of it after, CPU", ours.cpu_s(POST), theirs.cpu_s(POST), None),
            ("network, CPU", ours.cpu_s(NETWORK), theirs.cpu_s(NETWORK), None),
            ("all, CPU", ours.of("whole_cpu_s"), theirs.of("whole_cpu_s"), whole),
            ("beside the network, wall", ours.of("beside_wall_s"), theirs.of("beside_wall_s"), None),
            ("all, wall", ours.of("whole_wall_s"), theirs.of("whole_wall_s"), None),
            ("opening before, CPU", ours.cpu_s(OPEN), theirs.cpu_s(OPEN), None),
        ]
        rows += [
            Row(
                name=f"{title}: {name}",
                ours=mine,
                peer=other,
                peer_name=peer,
                unit="s",
                bound=bound if peer == "nnU-Net" else None,
            )
            for name, mine, other, bound in pairs
        ]
    return rows


def _memory(title: str, measured: Measured) -> list[Row]:
    return [
        Row(
            name=f"{title}: peak memory",
            ours=measured["ours"].of("peak_mib"),
            peer=measured[peer].of("peak_mib"),
            peer_name=peer,
            unit="MiB",
            bound=MEMORY if peer == "nnU-Net" else None,
        )
        for peer in ("nnU-Net", "MONAI")
        if peer in measured
    ]


def _labels(title: str, ours: NDArray[np.integer], measured: Measured) -> list[Row]:
    rows = [
        Row(name=f"{title}: classes that the labels have", ours=len(np.unique(ours)), unit=""),
        Row(name=f"{title}: neighbours of another label", ours=100 * share_of_edges(ours), unit="%"),
    ]
    for name, sums, bound in (("nnU-Net in float32", "float32", TIES), ("nnU-Net", "float16", None)):
        if name in measured:
            differ = 1e6 * float(np.mean(ours != measured[name].labels))
            words = f"{title}: labels that differ from nnU-Net's with {sums} sums"
            rows.append(Row(name=words, ours=differ, unit="per million", bound=bound))
    return rows


def share_of_edges(labels: NDArray[np.integer]) -> float:
    """Tell how many of neighbouring voxels of a row have different labels: labels of organs have few."""
    return float(np.mean(labels[:, :, 1:] != labels[:, :, :-1]))


def cases_of(kind: str, repetitions: int) -> tuple[list[Case], Case, list[Case]]:
    """Give what is measured beside the network, as a whole, and for its memory.

    nnU-Net at 117 classes takes minutes, and so does a network as nnU-Net plans it: these run once.
    """
    softmax_and_labels = {"softmax": 1, "nnU-Net in float32": 1}
    often = {"ours": repetitions, "nnU-Net": repetitions, "MONAI": 1, **softmax_and_labels}
    few = {"ours": repetitions, "nnU-Net": 1, "MONAI": 1, "softmax": 1}
    once = {"ours": 1, "nnU-Net": 1, "MONAI": 1}
    if kind == "quick":
        scan = Scan(shape=(40, 60, 64))
        beside = [Case(network="tiny-5", scan=scan, repetitions=often)]
        whole = Case(network="tiny-9", scan=scan, repetitions=once)
        network, shapes = "tiny-5", [(30, 60, 64), (90, 60, 64)]
    else:
        full = kind == "full"
        scan = Scan(shape=(300, 512, 512) if full else (160, 320, 320))
        scan_of_many = scan if full else Scan(shape=(120, 256, 256))
        beside = [
            Case(network="small-25", scan=scan, repetitions=often),
            Case(network="small-117", scan=scan_of_many, repetitions=few),
            Case(network="noisy-25", scan=scan, repetitions={"ours": 1, "nnU-Net": 1}),
        ]
        whole = Case(network="full-25", scan=scan, repetitions=once)
        network, shapes = "small-25", [(slices, *scan.shape[1:]) for slices in (300, 900)]
    growth = [Case(network=network, scan=Scan(shape=shape), repetitions={"ours": 1}) for shape in shapes]
    return beside, whole, growth


def affordable(case: Case, free_bytes: float) -> tuple[Case, list[str]]:
    """Leave out whom the memory does not suffice for, and say so."""
    wanted = {
        "nnU-Net": nnunet_bytes(case.scan, case.classes),
        "nnU-Net in float32": nnunet_bytes(case.scan, case.classes, 4),
        "MONAI": monai_bytes(case.scan, case.classes),
    }
    short = [name for name in case.repetitions if wanted.get(name, 0) > SHARE_OF_FREE * free_bytes]
    left = {name: times for name, times in case.repetitions.items() if name not in short}
    notes = [
        f"{name} with {case.classes} classes on {case.scan.name} wants {wanted[name] / 1e9:.0f} GB, of which "
        f"{free_bytes / 1e9:.0f} GB are free: left out."
        for name in short
    ]
    return replace(case, repetitions=left), notes


def everybody() -> list[Engine]:
    """Give all engines, with their environments made.

    Raises
    ------
    UnavailableError
        PyPI cannot be reached, usually.
    """
    python, ours = prepared_python(), Path(sys.executable)
    (monai,) = (environment("monai", (MONAI,)).parent / "lib").glob("python*/site-packages")
    return [
        Engine(name="ours", python=ours, module="inferring.ours"),
        Engine(name="softmax", python=ours, module="inferring.ours", arguments=("softmax",)),
        Engine(name="OpenVINO", python=ours, module="inferring.ours", arguments=("openvino",)),
        Engine(name="nnU-Net", python=python, module="inferring.nnunet_alone"),
        Engine(name="nnU-Net in float32", python=python, module="inferring.nnunet_alone", arguments=("float32",)),
        Engine(name="MONAI", python=python, module="inferring.monai_alone", packages=(monai,)),
    ]


def openvino_left_out(processor: str) -> str | None:
    """Say why OpenVINO is not measured on a processor, of its /proc/cpuinfo; None where it is."""
    why_not = None
    if " amx_bf16 " not in processor:
        why_not = "this processor has no AMX"
    elif importlib.util.find_spec("onnxruntime_ep_openvino") is None:
        why_not = "the extra `openvino` is not installed (scripts/setup openvino)"
    return why_not and f"Whole run with OpenVINO (≤ {WHOLE_OPENVINO:g} ×): left out, as {why_not}."


def main() -> int:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=3, help="runs of what takes seconds (default: 3)")
    arguments.add_argument(
        "--parts",
        type=lambda text: text.split(","),
        default=["beside", "whole", "memory"],
        help="of beside,whole,memory (default: all)",
    )
    size = arguments.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_const", const="full", dest="size", help="512 × 512 × 300; hours")
    size.add_argument("--quick", action="store_const", const="quick", dest="size", help="does it work at all?")
    chosen = arguments.parse_args()
    try:
        engines = everybody()
    except UnavailableError as error:
        sys.stderr.write(f"The peers cannot be installed: {error}\n")
        return 2
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="delineate-bench-") as name:
        bench = Bench(Path(name), engines, console)
        beside, whole, growth = cases_of(chosen.size or "usual", chosen.repetitions)
        openvino = openvino_left_out(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if openvino is None:
            whole = replace(whole, repetitions={**whole.repetitions, "OpenVINO": 1})
        wanted = {"beside": beside, "whole": [whole], "memory": growth}
        rows, notes = _rows(bench, {part: wanted[part] for part in chosen.parts})
    title = (
        f"Inference on the CPU, median of {chosen.repetitions}; once: nnU-Net above 25 classes and in float32, MONAI, "
        "probabilities, noise, whole runs, growth"
    )
    return publish("\n".join([title, *notes, *([openvino] if openvino else [])]), rows, chosen.json)


def _rows(bench: Bench, wanted: Mapping[str, Sequence[Case]]) -> tuple[list[Row], list[str]]:
    rows, notes = [], []
    bench.prepare([case for cases in wanted.values() for case in cases])
    for part, cases in wanted.items():
        measured = []
        for case in cases:
            possible, why_not = affordable(case, free_host_bytes())
            measured.append((case, bench.measure(possible)))
            notes += why_not
            if part != "memory":
                notes.append(f"{case.network.replace('-', ' network, ')} classes: {case.scan.name}.")
        if part == "beside":
            rows += [row for case, found in measured for row in beside_rows(case, found)]
        elif part == "whole":
            rows += [row for case, found in measured for row in whole_rows(case, found)]
        else:
            few, many = [(case, found["ours"].runs[0]) for case, found in measured]
            rows += growth_rows(few, many)
    return rows, notes


if __name__ == "__main__":
    sys.exit(main())
