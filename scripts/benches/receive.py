"""Instances per second received, processor time of each and memory, against storescp, Orthanc and pynetdicom.

One sender, as quick as a compiled one, sends the same 300 CT images of 512 × 512 to each receiver in turn, over 1, 4
and 10 associations: `delineate serve --role receiver`, DCMTK's storescp, Orthanc, and the Storage SCP of pynetdicom's
examples. All write to the same file system. Ours answers an instance when file and folder are synced; storescp syncs
nothing. Every run starts its receiver anew, in an empty folder.

Needs DCMTK and Orthanc: apt-get install dcmtk orthanc
"""

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from receiving.instances import Instance, make_series
from receiving.receivers import ALL, ORTHANC, OTHERS, OURS, STORESCP, Receiver, Running, missing_packages, running
from receiving.sending import send
from report import Row, median, parser, publish
from rich.console import Console

# What we promise.
OF_STORESCP, OF_ORTHANC, CPU_OF_STORESCP, GROWTH_MIB = 0.9, 3.0, 1.5, 30.0
# Sent before the clock starts, so that nobody is measured while importing or making folders.
WARM_UP = 4
# Memory: how many times the series is sent, and how many images of 4096 × 4096 (32 MB).
TIMES, LARGE, LARGE_SIDE = 10, 8, 4096


@dataclass(frozen=True, kw_only=True)
class Run:
    """One series received."""

    instances_per_s: float
    cpu_ms_per_instance: float


Measured = dict[tuple[Receiver, int], list[Run]]


def measure(receiver: Receiver, folder: Path, series: Sequence[Instance], associations: int) -> Run:
    """Start a receiver, warm it up, and send it the series."""
    with running(receiver, folder) as one:
        send(one.port, one.ae_title, [series[0].renamed(10**6 + number) for number in range(WARM_UP)])
        os.sync()
        cpu_s = one.cpu_s()
        took_s = send(one.port, one.ae_title, series, associations=associations)
        # What it does after the last answer is its work, too.
        time.sleep(0.2)
        cpu_s = one.cpu_s() - cpu_s
        if one.stored_bytes() < sum(len(instance.data_set) for instance in series):
            raise RuntimeError(f"{receiver.name} answered with success and stored less than it was sent.")
    return Run(instances_per_s=len(series) / took_s, cpu_ms_per_instance=1000 * cpu_s / len(series))


def measure_all(
    folder: Path, series: Sequence[Instance], associations: Sequence[int], repetitions: int, console: Console
) -> Measured:
    """Measure all receivers in turn, again and again, so that a slow minute of the machine is everybody's."""
    measured: Measured = defaultdict(list)
    with console.status("") as spinner:
        for repetition in range(1, repetitions + 1):
            for number in associations:
                for receiver in ALL:
                    spinner.update(f"{receiver.name}, {number} associations, run {repetition} of {repetitions}")
                    measured[receiver, number].append(measure(receiver, folder, series, number))
    return measured


def rows_of(measured: Measured, associations: int) -> list[Row]:
    """Compare ours with everybody at one number of associations."""
    speed = {one: median([run.instances_per_s for run in measured[one, associations]]) for one in ALL}
    cpu = {one: median([run.cpu_ms_per_instance for run in measured[one, associations]]) for one in ALL}
    bounds = {STORESCP: OF_STORESCP, ORTHANC: OF_ORTHANC}
    cpu_bounds = {STORESCP: CPU_OF_STORESCP}
    peers = (STORESCP, ORTHANC, *OTHERS)
    title = "1 association" if associations == 1 else f"{associations} associations"
    return [
        *(
            Row(
                name=f"{title}: received",
                ours=speed[OURS],
                peer=speed[peer],
                peer_name=peer.name,
                unit="/s",
                bound=bounds.get(peer),
                better="higher",
            )
            for peer in peers
        ),
        *(
            Row(
                name=f"{title}: CPU each",
                ours=cpu[OURS],
                peer=cpu[peer],
                peer_name=peer.name,
                unit="ms",
                bound=cpu_bounds.get(peer),
            )
            for peer in peers
        ),
    ]


def memory_rows(folder: Path, series: Sequence[Instance], console: Console) -> list[Row]:
    """Tell how the peak memory of ours grows with the number and with the size of instances."""
    with console.status(f"memory: {TIMES} × {len(series)} instances"), running(OURS, folder) as one:
        few = _peak_mib(one, series)
        for time_ in range(1, TIMES):
            many = _peak_mib(one, [each.renamed(time_ * len(series) + n) for n, each in enumerate(series)])
    with console.status(f"memory: {LARGE} instances of 32 MB"), running(OURS, folder) as one:
        small = _peak_mib(one, series)
        large = _peak_mib(one, [each.renamed(10**6 + n) for n, each in enumerate(make_series(LARGE, side=LARGE_SIDE))])
    return [
        Row(name=f"peak memory after {len(series)} instances", ours=few, unit="MiB"),
        Row(name=f"growth up to {TIMES * len(series)}", ours=many - few, unit="MiB", bound=GROWTH_MIB),
        Row(name=f"growth by {LARGE} of 32 MB", ours=large - small, unit="MiB", bound=GROWTH_MIB),
    ]


def _peak_mib(receiver: Running, instances: Sequence[Instance]) -> float:
    # Four at a time: a receiver that holds instances in memory then holds four.
    send(receiver.port, receiver.ae_title, instances, associations=4)
    return receiver.peak_memory_mib()


def main() -> int:
    """Run the bench."""
    arguments = parser(__doc__)
    arguments.add_argument("--quick", action="store_true", help="60 instances, one run: does it work at all?")
    arguments.add_argument("--instances", type=int, default=300, help="instances in a run (default: 300)")
    arguments.add_argument("--repetitions", type=int, default=5, help="runs of each (default: 5)")
    arguments.add_argument("--associations", type=int, nargs="+", default=[1, 4, 10], help="default: 1 4 10")
    arguments.add_argument("--folder", type=Path, help="receive into this file system; default: that of TMPDIR")
    chosen = arguments.parse_args()
    if missing := missing_packages():
        sys.stderr.write(f"Missing: {', '.join(missing)}. Install: apt-get install {' '.join(missing)}\n")
        return 2
    instances, repetitions = (60, 1) if chosen.quick else (chosen.instances, chosen.repetitions)
    console = Console(stderr=True)
    series = make_series(instances, side=512)
    with tempfile.TemporaryDirectory(prefix="delineate-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        measured = measure_all(folder, series, chosen.associations, repetitions, console)
        rows = [row for number in chosen.associations for row in rows_of(measured, number)]
        rows += memory_rows(folder, series, console)
    title = f"Receiving {instances} CT of 512 × 512 (0.5 MB), median of {repetitions}; ours synced, storescp not"
    return publish(title, rows, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
