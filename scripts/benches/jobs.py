"""Series per minute through a whole node, and what the durable engine costs beside the bare function calls.

Starts `delineate serve` with a trivial model on the CPU. First 4 senders at once send 100 series of 100 slices of
64 × 64, and the results are waited for. Then, in turns, the same series are laid into the inbox of that node and of a
process that calls the same stages directly, one after the other, with the same tables but without the engine: processor
time of the node's dispatcher and contourer, from the laying down to the last delivery, against that of the process.
What they take in the same time when nothing comes is shown apart. The bound is for slices as scanners send them.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import RTStructureSetStorage, SegmentationStorage
from report import Row, parser, publish
from rich.console import Console
from working.series import Series, lay_down, make_series

from node.config import load
from node.domain.delivery import PeerAddress
from node.opening import Node
from tests.fakes import free_port
from tests.model_packages import install
from tests.raw_sender import RawAssociation

# What we promise: processor time with the engine, of that without.
BOUND = 1.05
WITHIN_S = 900.0
# An RT Structure Set and a Segmentation.
RESULTS_PER_SERIES = 2
WORKING = ("contourer", "dispatcher")

CONFIGURATION = """\
[node]
port = {port}
data_dir = "{folder}/var"
model_dirs = ["{models}"]
device = "cpu"
threads = 1
minimum_free_gb = 0.2

[completion]
# Measured is what a sender gets that the node knows; a new one waits for the quiet period.
new_senders = "settle"

[[destinations]]
name = "tps"
ae_title = "TPS"
host = "127.0.0.1"
port = {destination_port}

[[routes]]
name = "bench"
when = {{ Modality = "CT" }}
models = ["densities"]
destinations = ["tps"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How often what is compared."""

    side: int
    rounds: int
    series_per_round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    senders: int
    series: int
    slices: int
    # Of what is sent, and is compared first.
    side: int
    # The last is of the size for which the bound is promised.
    comparisons: tuple[Comparison, ...]
    idle_s: float


FULL = Size(
    senders=4,
    series=100,
    slices=100,
    side=64,
    comparisons=(
        Comparison(side=64, rounds=5, series_per_round=10),
        Comparison(side=512, rounds=3, series_per_round=3),
    ),
    idle_s=20.0,
)
QUICK = Size(
    senders=2,
    series=3,
    slices=12,
    side=64,
    comparisons=(Comparison(side=64, rounds=1, series_per_round=2), Comparison(side=96, rounds=1, series_per_round=1)),
    idle_s=1.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Seconds of processor time of a series."""

    comparison: Comparison
    with_engine_s: float
    without_s: float


class Destination:
    """A Storage SCP that counts what it gets."""

    def __init__(self) -> None:
        self.received = 0
        self._news = threading.Condition()
        entity = AE(ae_title="TPS")
        entity.maximum_pdu_size = 0
        for storage in (RTStructureSetStorage, SegmentationStorage):
            entity.add_supported_context(storage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        handlers = [(evt.EVT_C_STORE, self._receive)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self._server.server_address[1])

    def wait_for(self, received: int) -> None:
        """Wait until so many objects have come in all."""
        with self._news:
            if not self._news.wait_for(lambda: self.received >= received, WITHIN_S):
                raise TimeoutError(f"{self.received} of {received} results came within {WITHIN_S:g} s")

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()

    def _receive(self, event: evt.Event) -> int:
        with self._news:
            self.received += 1
            self._news.notify_all()
        return 0x0000


class Bench:
    """A node at work, its destination, and the process that does the same without the engine."""

    def __init__(self, folder: Path, destination: Destination) -> None:
        self.folder, self.destination = folder, destination
        install(folder / "models")
        self.port = free_port()
        self.configs = {name: self._configure(name) for name in ("node", "bare")}

    def _configure(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir()
        text = CONFIGURATION.format(
            port=self.port, folder=place, models=self.folder / "models", destination_port=self.destination.port
        )
        (place / "node.toml").write_text(text, encoding="utf-8")
        return place / "node.toml"

    def send(self, series: Sequence[Series], senders: int) -> float:
        """Send all, several at a time, and wait for the results; gives the seconds that it took."""
        address = PeerAddress(name="node", ae_title="DELINEATE", host="127.0.0.1", port=self.port)
        before, started = self.destination.received, time.monotonic()
        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(lambda one: _send(address, one), series))
        self.destination.wait_for(before + RESULTS_PER_SERIES * len(series))
        return time.monotonic() - started

    def compare(
        self,
        comparison: Comparison,
        node: psutil.Process,
        without: "subprocess.Popen[str]",
        make: "Maker",
    ) -> "Compared":
        """Let both do the same series in turns; gives the round whose ratio is the median."""
        rounds = []
        for _ in range(comparison.rounds):
            series = make(comparison.series_per_round, comparison.side)
            rounds.append((self.with_engine(node, series), self.without(without, series)))
        with_engine_s, without_s = sorted(rounds, key=lambda pair: pair[0] / pair[1])[len(rounds) // 2]
        number = comparison.series_per_round
        return Compared(comparison=comparison, with_engine_s=with_engine_s / number, without_s=without_s / number)

    def with_engine(self, process: psutil.Process, series: Sequence[Series]) -> float:
        """Lay series into the node's inbox; gives the seconds of processor time until all are delivered."""
        workers = _workers(process)
        ledger = Node(config=load(self.configs["node"])).ledger
        before, received = _cpu_s(workers), self.destination.received
        self._hand_over(series, "node")
        self.destination.wait_for(received + RESULTS_PER_SERIES * len(series))
        _wait(lambda: not ledger.unfinished_deliveries())
        return _cpu_s(workers) - before

    def without(self, process: "subprocess.Popen[str]", series: Sequence[Series]) -> float:
        """Let the stages be called directly; gives the seconds of processor time."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._hand_over(series, "bare")
        process.stdin.write("go\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    def _hand_over(self, series: Sequence[Series], name: str) -> None:
        """Let series appear in an inbox, whole."""
        inbox = self.folder / name / "var/inbox"
        laid_down = lay_down(series, self.folder / f"{name}-prepared")
        for one in series:
            laid_down.path(one.series_instance_uid).rename(inbox / one.series_instance_uid)


def _send(address: PeerAddress, series: Series) -> None:
    first = series.instances[0]
    with RawAssociation(address, [(first.sop_class_uid, [first.transfer_syntax_uid])]) as association:
        for instance in series.instances:
            answer = association.store(instance)
            if answer.status != 0x0000:
                raise ConnectionError(f"the node did not take an image: 0x{answer.status:04X}")


def _workers(node: psutil.Process) -> list[psutil.Process]:
    found = [one for one in node.children() if one.cmdline()[-1] in WORKING]
    if len(found) != len(WORKING):
        raise RuntimeError("a process of the node has ended")
    return found


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [one.cpu_times() for one in processes]
    return float(sum(one.user + one.system for one in times))


def _wait(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"the node was not done within {WITHIN_S:g} s")
        time.sleep(0.2)


@contextmanager
def running(command: Sequence[str], log_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Run a program and end it; what it says goes to a file, whose end is shown if anything fails."""
    with log_path.open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield process
    except BaseException:
        sys.stderr.write(log_path.read_text(encoding="utf-8", errors="replace")[-4000:])
        raise
    finally:
        process.terminate()
        process.communicate(timeout=60)


def measure(folder: Path, destination: Destination, size: Size, console: Console) -> list[Row]:
    """Measure all."""
    bench = Bench(folder, destination)
    serve = [sys.executable, "-m", "node", "serve", "--config", str(bench.configs["node"])]
    bare = [sys.executable, "-m", "working.bare", str(bench.configs["bare"])]
    make = Maker(folder / "made", size.slices)
    with (
        running(serve, folder / "node.log") as process,
        running(bare, folder / "bare.log") as without,
        console.status("warming up") as spinner,
    ):
        node = psutil.Process(process.pid)
        _wait(lambda: {"model opened", "] listening"} <= _said(folder / "node.log"))
        bench.send(make(2, size.side), 1)
        bench.without(without, make(1, size.side))
        spinner.update("sending")
        series = make(size.series, size.side)
        took_s = bench.send(series, size.senders)
        compared = []
        for comparison in size.comparisons:
            spinner.update(f"comparing with the bare calls, {comparison.side} × {comparison.side}")
            compared.append(bench.compare(comparison, node, without, make))
        spinner.update("idle")
        before = _cpu_s(_workers(node))
        time.sleep(size.idle_s)
        idle = (_cpu_s(_workers(node)) - before) / size.idle_s
    sent = Row(
        name=f"{size.series} series of {size.slices} × {size.side} × {size.side} from {size.senders} senders",
        ours=60.0 * size.series / took_s,
        unit="series/min",
        better="higher",
    )
    rows = [_row(size, one) for one in compared]
    return [sent, *rows, Row(name="processor time while nothing comes", ours=100 * idle, unit="% of a core")]


def _said(log: Path) -> set[str]:
    said = log.read_text(encoding="utf-8", errors="replace")
    return {one for one in ("model opened", "] listening") if one in said}


class Maker:
    """Makes series, each once."""

    def __init__(self, folder: Path, slices: int) -> None:
        self._folder, self._slices, self._numbers = folder, slices, count()

    def __call__(self, number: int, side: int) -> list[Series]:
        """Make some series of a size."""
        return [make_series(f"bench-{next(self._numbers)}", self._slices, side, self._folder) for _ in range(number)]


def _row(size: Size, compared: Compared) -> Row:
    side = compared.comparison.side
    return Row(
        name=f"processor time of a series of {size.slices} × {side} × {side}, with the engine",
        ours=1000 * compared.with_engine_s,
        peer=1000 * compared.without_s,
        peer_name="stages called directly",
        unit="ms",
        bound=BOUND if compared.comparison == size.comparisons[-1] else None,
    )


def main() -> int:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--quick", action="store_true", help="a few small series, once: proves that it works")
    chosen = arguments.parse_args()
    console = Console(stderr=True)
    destination = Destination()
    # The process that calls the stages finds its module beside this file.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    try:
        with tempfile.TemporaryDirectory(prefix="delineate-bench-") as folder:
            rows = measure(Path(folder), destination, QUICK if chosen.quick else FULL, console)
    finally:
        destination.stop()
    return publish("Jobs, RTSTRUCT and SEG of two thresholds on the CPU", rows, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
