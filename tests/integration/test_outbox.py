"""The outbox on the real engine: who is down holds no worker, who hangs nobody else, who is back gets all at once."""

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from node.config import parse
from node.delivering import Destinations
from node.domain.delivery import CommitmentReport, DeliveryPlan, StoreReceipt, meaning_of
from node.domain.errors import UnreachableError
from node.domain.jobs import DeliveryState
from node.stages.deliver import RetryPolicy
from node.stages.outbox import WatchPolicy
from tests.builders import uid
from tests.fakes import RT_STRUCTURE_SET, FakeDestination
from tests.integration.test_storage_scu import object_file
from tests.outbox import outbox

HOUR_S, DAY_S = 3600.0, 86_400.0
WATCHING = WatchPolicy(first_probe_s=2.0, longest_probe_s=30.0, alarm_after_s=4 * HOUR_S)


class Planning:
    """A destination that is down, or takes what comes; counts the calls."""

    def __init__(self) -> None:
        self.is_up = False
        self.tries = 0
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def plan(self, destination: str) -> DeliveryPlan:
        return DeliveryPlan()

    def store(self, destination: str, offers: Sequence[Sequence[Path]]) -> Sequence[StoreReceipt]:
        with self._lock:
            self.tries += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.probe(destination)
            return [
                StoreReceipt(
                    sop_instance_uid=f"1.2.{offers[0][0].stem}",
                    sop_class_uid=RT_STRUCTURE_SET,
                    transfer_syntax_uid="1.2.840.10008.1.2",
                    **meaning_of(0),
                    took_s=0.0,
                )
            ]
        finally:
            with self._lock:
                self.at_once -= 1

    def probe(self, destination: str) -> None:
        if not self.is_up:
            raise UnreachableError("tps cannot be reached: connection refused.")

    def request_commitment(
        self, destination: str, transaction_uid: str, objects: Mapping[str, str]
    ) -> CommitmentReport | None:
        raise AssertionError("nothing is to be confirmed")

    def missing_of(self, destination: str, files: Sequence[Path]) -> Sequence[str]:
        raise AssertionError("nothing is to be confirmed")


def test_a_destination_that_is_down_for_a_week_holds_nothing_and_gets_all_within_a_minute_of_its_return(
    tmp_path: Path,
) -> None:
    # `scripts/bench outbox` does the same by the delays of the default configuration.
    tps = Planning()
    retries = RetryPolicy(first_retry_s=8 * HOUR_S, longest_retry_s=2 * DAY_S, give_up_after_s=30 * DAY_S)
    with outbox(tmp_path, tps, retries, WATCHING) as box:
        box.add({str(number): f"1.2.{number}" for number in range(200)}, ["tps"])
        box.wait_until_nothing_is_due()
        process = psutil.Process()
        memory, threads = process.memory_info().rss, process.num_threads()

        for _ in range(7):
            box.pass_s(DAY_S)
            box.wait_until_nothing_is_due()
            box.watch.tick()
            # Between its tries nobody is at it: no worker, no thread, nothing but rows.
            assert tps.at_once == 0
        assert box.count(DeliveryState.WAITING) == 200
        assert tps.most_at_once == 1
        # Who cannot be reached is called once for all that is due.
        assert tps.tries < 30
        assert process.num_threads() <= threads + 5
        assert process.memory_info().rss - memory < 50e6

        tps.is_up = True
        before = tps.tries
        box.pass_s(WATCHING.longest_probe_s)  # the next probe, at the latest
        began = time.monotonic()
        box.watch.tick()
        box.watch.tick()
        box.wait_until(lambda: box.count(DeliveryState.DELIVERED) == 200)
        took_s = time.monotonic() - began

    # Each once, and each told once when it was overdue.
    assert tps.tries - before == 200
    alarms = [one for one in box.ledger.events(1000) if one["kind"] == "delivery overdue"]
    assert len(alarms) == 200
    print(f"200 deliveries {took_s:.1f} s after the probe")


def test_a_destination_that_never_answers_holds_up_no_other(tmp_path: Path) -> None:
    def mute_is_at_it() -> bool:
        listener.setblocking(False)
        try:
            held.append(listener.accept()[0])
        except BlockingIOError:
            return bool(held)
        return True

    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, FakeDestination() as tps:
        addresses = {"tps": tps.address.port, "mute": listener.getsockname()[1]}
        config = parse(
            {
                "delivery": {"timeout_s": 60.0},
                "destinations": [
                    {"name": name, "ae_title": "TPS", "host": "127.0.0.1", "port": port}
                    for name, port in addresses.items()
                ],
            }
        )
        retries = RetryPolicy(first_retry_s=5.0, longest_retry_s=HOUR_S, give_up_after_s=DAY_S)
        jobs = [str(number) for number in range(8)]
        for job in jobs:
            object_file(tmp_path, RT_STRUCTURE_SET, job).rename(tmp_path / f"{job}.dcm")
        with outbox(tmp_path, Destinations(config), retries, WATCHING) as box:
            box.add({job: uid(job, RT_STRUCTURE_SET) for job in jobs}, ["mute", "tps"])

            box.wait_until(lambda: box.count(DeliveryState.DELIVERED, "tps") == len(jobs), within_s=50.0)

            assert mute_is_at_it()
            assert box.count(DeliveryState.QUEUED, "mute") == len(jobs)
            for one in held:
                one.close()
