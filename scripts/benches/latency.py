"""Seconds from the last C-STORE response to the RT Structure Set's arrival, by stage, and peak memory.

Starts `delineate serve` on the CPU, with the waiting times of a known sender, on free ports of this machine, sends
synthetic CTs with pynetdicom, and receives the results with pynetdicom. Every run sends a new series to the same
running node. The time that the node waits to be sure that a series is whole (`completion.settle_s` and the silence it
asks for) is shown apart.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, RTStructureSetStorage, SegmentationStorage, Verification
from report import Row, median, parser, publish
from rich.console import Console

from node.demo.phantom import Scan, write_planning_ct

CASES = {
    "demo CT": Scan(),
    "300x512x512": Scan(slices=300, rows=512, columns=512, pixel_spacing_mm=(0.9, 0.9), slice_spacing_mm=1.5),
}
# What users of contouring software are used to: "under a minute".
BOUND_S = 60.0
START_WITHIN_S, ARRIVE_WITHIN_S = 60.0, 900.0

# States of a series, a job or a delivery that end without an arrival.
NEVER_DELIVERED = {"declined", "failed", "quarantined", "refused", "given up"}

CONFIGURATION = """\
[node]
port = {port}
data_dir = "{folder}/var"
device = "cpu"
minimum_free_gb = 0.5

[completion]
# Measured is what a sender gets that the node knows; a new one waits for the quiet period.
new_senders = "settle"

[[destinations]]
name = "tps"
ae_title = "TPS"
host = "127.0.0.1"
port = {destination_port}

[[routes]]
name = "planning-ct"
when = {{ Modality = "CT" }}
models = ["body-bones"]
outputs = ["rtstruct", "seg"]
destinations = ["tps"]
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One series: seconds in all, seconds of waiting to be sure, and seconds per stage of the work."""

    total_s: float
    waiting_s: float
    stages_s: Mapping[str, float]


class Destination:
    """A Storage SCP that records when each RT Structure Set arrived, by the series it refers to."""

    def __init__(self) -> None:
        self._arrived: dict[str, float] = {}
        self._news = threading.Condition()
        entity = AE(ae_title="TPS")
        entity.maximum_pdu_size = 0
        for storage in (RTStructureSetStorage, SegmentationStorage):
            entity.add_supported_context(storage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        entity.add_supported_context(Verification)
        self._server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._receive)]
        )
        self.port = int(self._server.server_address[1])

    def _receive(self, event: evt.Event) -> int:
        now = time.time()
        if event.request.AffectedSOPClassUID == RTStructureSetStorage:
            reference = event.dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
            series_uid = str(reference.RTReferencedSeriesSequence[0].SeriesInstanceUID)
            with self._news:
                self._arrived[series_uid] = now
                self._news.notify_all()
        return 0x0000

    def arrival_of(self, series_uid: str, within_s: float) -> float | None:
        """Wait for a series' RT Structure Set and give the time at which its last byte was here; None: not yet."""
        with self._news:
            self._news.wait_for(lambda: series_uid in self._arrived, within_s)
            return self._arrived.get(series_uid)

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A node at work and its destination."""

    folder: Path
    config: Path
    port: int
    process: subprocess.Popen[bytes]
    destination: Destination

    def run(self, scan: Scan) -> Run:
        """Send one new series and measure its way."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            written = write_planning_ct(Path(folder), scan, fresh=True)
            sent_at = send(written.files, self.port)
        arrived_at = self._arrival_of(written.series_instance_uid)
        status = self._delivered(written.series_instance_uid)
        complete_at = float(status["series"]["complete_at"])
        stages = {name: float(seconds) for name, seconds in status["job"]["timings"].items()}
        stages["deliver and wait between stages"] = arrived_at - complete_at - sum(stages.values())
        return Run(total_s=arrived_at - sent_at, waiting_s=complete_at - sent_at, stages_s=stages)

    def _arrival_of(self, series_uid: str) -> float:
        deadline = time.monotonic() + ARRIVE_WITHIN_S
        # Asking for the status costs a second of processor time, so it is asked rarely while the node works.
        while (arrived_at := self.destination.arrival_of(series_uid, within_s=60.0)) is None:
            rows = [row for kind in self._status(series_uid).values() for row in kind]
            if any(row["state"] in NEVER_DELIVERED for row in rows) or time.monotonic() > deadline:
                raise RuntimeError("; ".join(f"{row['state']}: {row['reason']}" for row in rows))
        return arrived_at

    def _delivered(self, series_uid: str) -> dict[str, Any]:
        """Give the rows of a series and its job once the delivery is recorded."""
        for _ in range(60):
            known = self._status(series_uid)
            if all(row["state"] == "delivered" for row in known["deliveries"]):
                return {"series": known["series"][0], "job": known["jobs"][0]}
            time.sleep(0.5)
        raise TimeoutError("the delivery was never recorded")

    def _status(self, series_uid: str) -> dict[str, list[dict[str, Any]]]:
        """Give the rows of one series as `delineate status` tells them."""
        command = [sys.executable, "-m", "node", "status", "--json", "--config", str(self.config)]
        known = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        jobs = [row for row in known["jobs"] if row["series_uid"] == series_uid]
        return {
            "series": [row for row in known["series"] if row["series_uid"] == series_uid],
            "jobs": jobs,
            "deliveries": [row for row in known["deliveries"] if row["job"] in {job["job"] for job in jobs}],
        }

    def peak_memory_mib(self) -> dict[str, float]:
        """Give the largest resident memory that each process of the node ever had, by its role."""
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return {_role(process): _high_water_mib(process.pid) for process in processes}


def _role(process: psutil.Process) -> str:
    command = process.cmdline()
    return command[command.index("--role") + 1] if "--role" in command else "supervisor"


def _high_water_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status names no VmHWM")


@contextmanager
def running() -> Iterator[Bench]:
    """Start a node and a destination, and stop both."""
    destination = Destination()
    with tempfile.TemporaryDirectory(prefix="delineate-bench-") as name:
        folder = Path(name)
        port = _free_port()
        config = folder / "node.toml"
        text = CONFIGURATION.format(port=port, folder=folder, destination_port=destination.port)
        config.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "node", "serve", "--config", str(config)]
        with (folder / "node.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_listening(port)
            yield Bench(folder=folder, config=config, port=port, process=process, destination=destination)
        except BaseException:
            sys.stderr.write((folder / "node.log").read_text(encoding="utf-8", errors="replace")[-4000:])
            raise
        finally:
            _end(process)
            destination.stop()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_listening(port: int) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        entity = AE(ae_title="BENCH")
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", port, ae_title="DELINEATE")
        if association.is_established:
            association.send_c_echo()
            association.release()
            return
        time.sleep(0.2)
    raise TimeoutError(f"the node did not listen within {START_WITHIN_S:.0f} s")


def send(files: Sequence[Path], port: int) -> float:
    """Send files by C-STORE in one association; gives the time of the last response."""
    entity = AE(ae_title="BENCH")
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="DELINEATE")
    if not association.is_established:
        raise ConnectionError("the node took no association")
    for file in files:
        status = association.send_c_store(dcmread(file))
        if status.get("Status") != 0x0000:
            raise ConnectionError(f"the node did not take an image: {status}")
    responded_at = time.time()
    association.release()
    return responded_at


def measure(name: str, scan: Scan, runs: int, console: Console) -> list[Row]:
    """Measure one case with a node of its own, so that its peak memory is its own."""
    with running() as bench, console.status(f"{name}: starting") as spinner:
        measured = []
        for number in range(1, runs + 1):
            spinner.update(f"{name}: run {number} of {runs}")
            measured.append(bench.run(scan))
        memory = bench.peak_memory_mib()
    return [*_seconds(name, measured), *_mebibytes(name, memory)]


def _seconds(name: str, runs: Sequence[Run]) -> list[Row]:
    total = median([run.total_s for run in runs])
    waiting = median([run.waiting_s for run in runs])
    work = median([run.total_s - run.waiting_s for run in runs])
    stages = [
        Row(name=f"{name}: of the work, {stage}", ours=median([run.stages_s[stage] for run in runs]), unit="s")
        for stage in runs[0].stages_s
    ]
    return [
        Row(name=f"{name}: last response to arrival", ours=total, unit="s", bound=BOUND_S),
        Row(name=f"{name}: of it waiting to be sure it is whole", ours=waiting, unit="s"),
        Row(name=f"{name}: of it work", ours=work, unit="s"),
        *stages,
        Row(name=f"{name}: work, first run after start", ours=runs[0].total_s - runs[0].waiting_s, unit="s"),
    ]


def _mebibytes(name: str, memory: Mapping[str, float]) -> list[Row]:
    each = [Row(name=f"{name}: peak memory, {role}", ours=peak, unit="MiB") for role, peak in memory.items()]
    # Pages that processes share are counted in each, and peaks at different times are added: an upper bound.
    return [Row(name=f"{name}: peak memory, all processes", ours=sum(memory.values()), unit="MiB"), *each]


def main() -> int:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--runs", type=int, default=5, help="series per case (default: 5)")
    arguments.add_argument("--case", choices=CASES, help="only this case")
    chosen = arguments.parse_args()
    console = Console(stderr=True)
    names = [chosen.case] if chosen.case else list(CASES)
    rows = [row for name in names for row in measure(name, CASES[name], chosen.runs, console)]
    return publish(f"Latency, median of {chosen.runs}, RTSTRUCT and SEG of body-bones on the CPU", rows, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
