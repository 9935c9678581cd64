"""Errors of measures of agreement against answers known without a computer, ours and those of other tools.

Boxes that moved, a tilted box, a ball within a ball, as masks of planning CT (slices of 3 mm, pixels of 0.9 mm). Errors
of the 95 % Hausdorff and the mean surface distance are in % of the answer, those of surface Dice (tolerance 1.8 mm) in
hundredths. Beside them, the processor time for an organ of 1.4 litres on 512 × 512 × 200 voxels.

surface-distance (DeepMind), MedPy and SimpleITK are installed from PyPI into an environment of their own; SimpleITK is
used as its notebook on evaluation does. MONAI runs beside nnU-Net's torch. plastimatch is compared where it is
installed (apt-get install plastimatch).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluating.shapes import SPACING_MM, TOLERANCE_MM, Shapes, every, large
from report import Row, parser, publish
from rich.console import Console

from node.evaluation.grids import regular_grid
from node.evaluation.metrics import compare
from tests.environments import UnavailableError, environment
from tests.parity.environment import prepared_python

BENCHES = Path(__file__).parent

# What we promise: % of the answer, and hundredths of surface Dice. A ball in slices of 3 mm is what a mask can be.
BOUNDS = {"mean_surface_distance_mm": 3.0, "surface_dice": 2.0}
NAMES = {"mean_surface_distance_mm": "mean surface distance", "hd95_mm": "HD95", "surface_dice": "surface Dice"}

PACKAGES = (
    "surface-distance==0.1",
    "absl-py==2.5.1",
    "MedPy==0.5.2",
    "SimpleITK==2.5.7",
    "numpy==2.4.6",
    "scipy==1.17.1",
)
MONAI = "monai==1.6.1"

# Pair -> measure -> value.
Found = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """Another tool, and where it is installed."""

    name: str
    # Of its function in `evaluating.peers`.
    function: str
    python: Path
    # Further packages.
    packages: tuple[Path, ...] = ()


def tools(*, with_monai: bool) -> list[Tool]:
    """Give all tools, with their environments made.

    Raises
    ------
    UnavailableError
        PyPI cannot be reached, usually.
    """
    python = environment("evaluation", PACKAGES) / "python"
    found = [
        Tool(name="surface-distance", function="surface_distance", python=python),
        Tool(name="MedPy", function="medpy", python=python),
        Tool(name="SimpleITK", function="simpleitk", python=python),
    ]
    if with_monai:
        (monai,) = (environment("monai", (MONAI,)).parent / "lib").glob("python*/site-packages")
        found.append(Tool(name="MONAI", function="monai", python=prepared_python(), packages=(monai,)))
    if shutil.which("plastimatch") is not None:
        found.append(Tool(name="plastimatch", function="plastimatch", python=python))
    return found


def measured_by(tool: Tool, folder: Path) -> Found:
    """Let a tool measure all pairs in a folder."""
    # No more than the benches: the packages are those of each environment.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (BENCHES, *tool.packages)))}
    spacing = ",".join(map(str, SPACING_MM))
    command = [str(tool.python), "-m", "evaluating.peers", tool.function, str(folder), str(TOLERANCE_MM), spacing]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHES, env=environ, check=False)
    if done.returncode:
        raise RuntimeError(f"{tool.name} failed: {done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(pairs: Sequence[Shapes]) -> Found:
    """Measure all pairs ourselves."""
    found = {}
    for pair in pairs:
        grid = regular_grid(pair.reference.shape, SPACING_MM)
        started = time.process_time()
        measures = compare(pair.reference, pair.result, grid, TOLERANCE_MM).as_json()
        found[pair.name] = {**measures, "cpu_s": time.process_time() - started}
    return found


def error(measure: str, found: float, truth: float) -> float:
    """Give how far a figure is off, in % of the truth; of surface Dice in hundredths."""
    return 100 * abs(found - truth) / (1.0 if measure == "surface_dice" else truth)


def rows_of(pairs: Sequence[Shapes], mine: Found, theirs: Mapping[str, Found]) -> list[Row]:
    """Give our errors, which are bounded, and the largest of each tool beside them."""
    rows = []
    for measure, name in NAMES.items():
        unit = "/100" if measure == "surface_dice" else "%"
        known = [pair for pair in pairs if measure in pair.truth]
        for pair in known:
            off = error(measure, mine[pair.name][measure], pair.truth[measure])
            rows.append(Row(name=f"{name}, {pair.name}", ours=off, unit=unit, bound=BOUNDS.get(measure)))
            rows += [
                Row(
                    name=f"{name}, {pair.name}",
                    ours=off,
                    peer=error(measure, found[pair.name][measure], pair.truth[measure]),
                    peer_name=tool,
                    unit=unit,
                )
                for tool, found in theirs.items()
                if measure in found[pair.name]
            ]
    return rows


def main() -> int:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--without-monai", action="store_true", help="its torch is 1.6 GB, once")
    arguments.add_argument("--quick", action="store_true", help="leave out the large organ")
    chosen = arguments.parse_args()
    console = Console(stderr=True)
    try:
        with console.status("installing other tools"):
            peers = tools(with_monai=not chosen.without_monai)
    except UnavailableError as failure:
        sys.stderr.write(f"Other tools cannot be installed: {failure}\n")
        return 2
    pairs = every()
    rows = rows_of(pairs, ours(pairs), _measured(peers, pairs, console))
    if not chosen.quick:
        organ = [large()]
        cpu_s = ours(organ)["large"]["cpu_s"]
        some = [peer for peer in peers if peer.name in ("surface-distance", "MONAI")]
        rows += [
            Row(
                name="organ of 1.4 litres, CPU",
                ours=cpu_s,
                peer=found["large"]["cpu_s"],
                peer_name=name,
                unit="s",
            )
            for name, found in _measured(some, organ, console).items()
        ]
    return publish("Errors against known answers; slices of 3 mm, pixels of 0.9 mm", rows, chosen.json)


def _measured(peers: Sequence[Tool], pairs: Sequence[Shapes], console: Console) -> dict[str, Found]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="delineate-bench-") as name:
        folder = Path(name)
        for pair in pairs:
            pair.save(folder)
        for peer in peers:
            with console.status(peer.name):
                found[peer.name] = measured_by(peer, folder)
    return found


if __name__ == "__main__":
    sys.exit(main())
