"""Processor time, memory, size and lost voxels of RT Structure Sets and Segmentations, against other writers.

Phantoms of 512 × 512 × 300 voxels with 30 and with 117 structures, organs with holes, islands, thin nerves, are written
by ours, its check included, and in turn by rt-utils, plastimatch and highdicom, which check nothing. Each run is a
process of its own. Measured is from the label map and the headers in memory to the file on disk: processor time of
user and system, and the largest resident memory less what was resident when the work began, imports, label map and
images included. Only plastimatch is measured as a whole process, with reading its files.

Voxels changed are counted when all is done, by a reader that fills along rows, and by one that fills along columns.

rt-utils is installed from PyPI into an environment of its own. Needs plastimatch: apt-get install plastimatch
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from report import Row, median, parser, publish
from rich.console import Console
from writing.reading import Read, read_back
from writing.scene import Scene, make_images, make_scene

from tests.environments import UnavailableError, environment

BENCHES = Path(__file__).parent

# What we promise, as shares of rt-utils' figure; at 30 structures and below, and above.
CPU_OF_FEW, CPU_OF_MANY, FEW = 0.30, 0.20, 30
SIZE, MEMORY, CHANGED = 0.35, 0.5, 0.0
# Of highdicom's own time, and of the time that writing takes.
LABELMAP_CPU, VERIFICATION = 1.2, 0.2

# Without opencv-python, which needs a window system; the headless build is the same but for windows.
RT_UTILS = ("rt-utils==1.2.7", "opencv-python-headless==5.0.0.93", "numpy==2.4.6", "pydicom==3.0.2")


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Somebody who writes one kind of object, and how to start it."""

    name: str
    kind: str
    command: tuple[str, ...]
    # Once is enough for what takes minutes.
    once: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """One object written."""

    phases_s: Mapping[str, float]
    added_mib: float
    peak_mib: float
    size: int

    @property
    def cpu_s(self) -> float:
        """Give the processor time of all phases."""
        return sum(self.phases_s.values())

    @property
    def verification(self) -> float:
        """Give the check's part of the time that the rest takes."""
        return self.phases_s["verify"] / (self.cpu_s - self.phases_s["verify"])


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians over the runs of one writer on one phantom."""

    runs: Sequence[Run]

    def of(self, name: str) -> float:
        """Give the median of a figure."""
        return median([float(getattr(run, name)) for run in self.runs])


Measured = Mapping[tuple[int, str, str], Figures]


def writers(rt_utils_python: Path, *, with_plastimatch: bool) -> Sequence[Writer]:
    """Give everybody who is compared."""
    python = sys.executable
    ours = [
        Writer(name="ours", kind=kind, command=(python, "-m", "writing.ours", kind))
        for kind in ("rtstruct", "labelmap", "binary")
    ]
    highdicom = [
        Writer(name="highdicom", kind=kind, command=(python, "-m", "writing.highdicom_alone", kind))
        for kind in ("labelmap", "binary")
    ]
    rt_utils = Writer(name="rt-utils", kind="rtstruct", command=(str(rt_utils_python), "-m", "writing.rt_utils_alone"))
    plastimatch = Writer(
        name="plastimatch", kind="rtstruct", command=(python, "-m", "writing.plastimatch_alone"), once=True
    )
    return [ours[0], rt_utils, *([plastimatch] if with_plastimatch else []), *ours[1:], *highdicom]


def run(writer: Writer, scene: Scene, file: Path) -> Run:
    """Let somebody write one object, in a process of its own."""
    # No more than this checkout: the packages are those of each environment.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (BENCHES.parents[1], BENCHES)))}
    command = [*writer.command, str(scene.folder), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHES, env=environ, check=False)
    if done.returncode:
        raise RuntimeError(f"{writer.name} failed to write {writer.kind}: {done.stderr[-2000:]}")
    return Run(size=file.stat().st_size, **json.loads(done.stdout.splitlines()[-1]))


def measure_all(
    everybody: Sequence[Writer], scenes: Mapping[int, Scene], folder: Path, repetitions: int, console: Console
) -> Measured:
    """Let all write in turn, again and again, so that a slow minute of the machine is everybody's."""
    runs: dict[tuple[int, str, str], list[Run]] = defaultdict(list)
    with console.status("") as spinner:
        for repetition in range(1, repetitions + 1):
            for structures, scene in scenes.items():
                for writer in everybody:
                    if writer.once and repetition > 1:
                        continue
                    spinner.update(f"{writer.name}, {writer.kind}, {structures} structures, run {repetition}")
                    key = structures, writer.kind, writer.name
                    runs[key].append(run(writer, scene, file_of(folder, *key)))
    return {key: Figures(runs=found) for key, found in runs.items()}


def file_of(folder: Path, structures: int, kind: str, name: str) -> Path:
    """Give where an object is written; runs write it over."""
    return folder / f"{structures}-{kind}-{name}.dcm"


def rtstruct_rows(structures: int, measured: Measured, changed: Mapping[str, Read]) -> list[Row]:
    """Compare RT Structure Sets; bounds are against rt-utils."""
    ours = measured[structures, "rtstruct", "ours"]
    rows = []
    for peer in ("rt-utils", "plastimatch"):
        if (structures, "rtstruct", peer) not in measured:
            continue
        theirs = measured[structures, "rtstruct", peer]
        bounds = (CPU_OF_FEW if structures <= FEW else CPU_OF_MANY, MEMORY, None, SIZE, CHANGED, CHANGED)
        pairs = [
            ("CPU", "s", ours.of("cpu_s"), theirs.of("cpu_s")),
            ("memory added", "MiB", ours.of("added_mib"), theirs.of("added_mib")),
            ("peak memory", "MiB", ours.of("peak_mib"), theirs.of("peak_mib")),
            ("file", "MB", ours.of("size") / 1e6, theirs.of("size") / 1e6),
            ("voxels changed, by rows", "", changed["ours"].by_rows, changed[peer].by_rows),
            ("voxels changed, by columns", "", changed["ours"].by_columns, changed[peer].by_columns),
        ]
        rows += [
            Row(
                name=f"{structures} ROIs: {name}",
                ours=mine,
                peer=other,
                peer_name=peer,
                unit=unit,
                bound=bound if peer == "rt-utils" else None,
            )
            for (name, unit, mine, other), bound in zip(pairs, bounds, strict=True)
        ]
    return [*rows, _verification_row(f"{structures} ROIs", ours)]


def segmentation_rows(structures: int, kind: str, measured: Measured) -> list[Row]:
    """Compare Segmentations of one type with highdicom's own."""
    ours, theirs = measured[structures, kind, "ours"], measured[structures, kind, "highdicom"]
    title = f"{structures} segments, {kind.upper()}"
    pairs = [
        ("CPU", "s", ours.of("cpu_s"), theirs.of("cpu_s"), LABELMAP_CPU if kind == "labelmap" else None),
        ("memory added", "MiB", ours.of("added_mib"), theirs.of("added_mib"), None),
        ("file", "MB", ours.of("size") / 1e6, theirs.of("size") / 1e6, None),
    ]
    rows = [
        Row(name=f"{title}: {name}", ours=mine, peer=other, peer_name="highdicom", unit=unit, bound=bound)
        for name, unit, mine, other, bound in pairs
    ]
    return [*rows, _verification_row(title, ours)]


def _verification_row(title: str, ours: Figures) -> Row:
    return Row(name=f"{title}: check / writing", ours=ours.of("verification"), unit="× writing", bound=VERIFICATION)


def main() -> int:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=3, help="runs of each but plastimatch (default: 3)")
    arguments.add_argument(
        "--structures",
        type=lambda text: [int(one) for one in text.split(",")],
        default=[30, 117],
        metavar="N,N",
        help="how many structures the phantoms have, 5 to 255 (default: 30,117)",
    )
    arguments.add_argument("--slices", type=int, default=300, help="at least 30 (default: 300)")
    arguments.add_argument("--without-plastimatch", action="store_true", help="it takes minutes")
    chosen = arguments.parse_args()
    if not chosen.without_plastimatch and shutil.which("plastimatch") is None:
        sys.stderr.write("Missing: plastimatch. Install: apt-get install plastimatch; or --without-plastimatch\n")
        return 2
    try:
        rt_utils_python = environment("rt-utils", RT_UTILS) / "python"
    except UnavailableError as error:
        sys.stderr.write(f"rt-utils cannot be installed: {error}\n")
        return 2
    everybody = writers(rt_utils_python, with_plastimatch=not chosen.without_plastimatch)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="delineate-bench-") as name:
        folder = Path(name)
        rows = _rows(folder, everybody, chosen.structures, chosen.slices, chosen.repetitions, console)
    title = (
        f"Objects from label maps of {chosen.slices} × 512 × 512, median of {chosen.repetitions}; ours checked, "
        "others not"
    )
    return publish(title, rows, chosen.json)


def _rows(
    folder: Path,
    everybody: Sequence[Writer],
    structures: Sequence[int],
    slices: int,
    repetitions: int,
    console: Console,
) -> list[Row]:
    with console.status("drawing phantoms"):
        images = make_images(folder, slices)
        scenes = {count: make_scene(folder / str(count), images, count, slices) for count in structures}
    measured = measure_all(everybody, scenes, folder, repetitions, console)
    rows = []
    for count, scene in scenes.items():
        drawn = [writer.name for writer in everybody if writer.kind == "rtstruct"]
        with console.status(f"reading back {count} structures"):
            changed = {name: read_back(file_of(folder, count, "rtstruct", name), scene) for name in drawn}
        rows += rtstruct_rows(count, measured, changed)
        rows += segmentation_rows(count, "labelmap", measured)
        rows += segmentation_rows(count, "binary", measured)
    return rows


if __name__ == "__main__":
    sys.exit(main())
