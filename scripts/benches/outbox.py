"""A destination that is down for a week: what that costs, and how soon all deliveries are there when it is back.

The node's own outbox on the real engine and SQLite, with the delays of the default configuration; the destination is a
function that is down or takes what comes. The week is simulated: the clock of our tables is set forward hour by hour,
and the times until which the engine delays its tasks are set back by as much. Not simulated: the probes in between, of
which only the first after each hour is made, and the engine's tasks that find nothing left to do, which in a week of
real hours end long before the next.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil
from report import Row, parser, publish

from node.config import parse
from node.domain.jobs import DeliveryState
from node.stages.deliver import RetryPolicy
from node.stages.outbox import WatchPolicy
from tests.outbox import Outbox, Planning, outbox

HOUR_S = 3600.0
# What we promise: from the return of the destination to the last delivery, the longest pause between two probes in it.
BOUND_S = 60.0
BOUND_MIB = 50.0


def main() -> int:
    """Measure, print, and give the exit status."""
    wanted = _arguments()
    delivery = parse({}).delivery
    retries = RetryPolicy(
        first_retry_s=delivery.first_retry_s,
        longest_retry_s=delivery.longest_retry_s,
        give_up_after_s=delivery.give_up_after_days * 86_400,
    )
    watching = WatchPolicy(
        first_probe_s=2.0, longest_probe_s=delivery.probe_s, alarm_after_s=delivery.alarm_after_hours * HOUR_S
    )
    tps = Planning()
    with tempfile.TemporaryDirectory() as folder, outbox(Path(folder), tps, retries, watching) as box:
        box.add({str(number): f"1.2.{number}" for number in range(wanted.series)}, ["tps"])
        box.wait_until_nothing_is_due()
        rows = [*_week(box, tps, hours=round(wanted.days * 24)), _return(box, tps, wanted.series, watching)]
        database = sum(path.stat().st_size for path in Path(folder).glob("node.sqlite*")) / 2**20
        rows.append(Row(name="database at the end", ours=database, unit="MiB"))
    return publish(f"{wanted.series} deliveries, {wanted.days:g} days", rows, wanted.json)


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("--series", type=int, default=200)
    arguments.add_argument("--days", type=float, default=7.0)
    return arguments.parse_args()


def _week(box: Outbox, tps: Planning, hours: int) -> list[Row]:
    process = psutil.Process()
    memory, threads, processor_s = process.memory_info().rss, process.num_threads(), _processor_s(process)
    most_memory, most_threads = memory, threads
    for _ in range(hours):
        box.pass_s(HOUR_S)
        box.wait_until_nothing_is_due(within_s=600)
        box.watch.tick()
        most_memory = max(most_memory, process.memory_info().rss)
        most_threads = max(most_threads, process.num_threads())
    return [
        Row(name="memory gained", ours=(most_memory - memory) / 2**20, unit="MiB", bound=BOUND_MIB),
        Row(name="threads gained", ours=float(most_threads - threads), unit="", bound=5.0),
        Row(name="tries at the same time", ours=float(tps.most_at_once), unit="", bound=1.0),
        Row(name="calls to the destination", ours=float(tps.tries), unit=""),
        Row(name="processor time for an hour of it", ours=(_processor_s(process) - processor_s) / hours, unit="s"),
    ]


def _return(box: Outbox, tps: Planning, series: int, watching: WatchPolicy) -> Row:
    tps.is_up = True
    box.pass_s(watching.longest_probe_s)
    began = time.monotonic()
    box.watch.tick()
    box.watch.tick()
    box.wait_until(lambda: box.count(DeliveryState.DELIVERED) == series, within_s=600)
    took_s = watching.longest_probe_s + time.monotonic() - began
    return Row(name="from its return to the last delivery, at most", ours=took_s, unit="s", bound=BOUND_S)


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
