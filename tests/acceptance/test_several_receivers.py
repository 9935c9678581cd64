"""Several receivers on one port: each association has one of them, and the death of one is not that of the others."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import wire
from tests.acceptance.running import RunningNode
from tests.builders import ct_series, grid
from tests.fakes import free_port
from tests.unit.test_receive import encoded

CONTEXTS = (wire.Context(1, wire.CT_IMAGE_STORAGE, (wire.EXPLICIT_LITTLE,)),)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    """Give a running node with two receivers."""
    with RunningNode(tmp_path, destination_port=free_port(), more="\n[receiver]\nprocesses = 2\n") as running:
        until = time.monotonic() + 30
        while running.times_it_listened < 2:
            assert time.monotonic() < until, running.log
            time.sleep(0.05)
        yield running


def receivers(node: RunningNode) -> list[int]:
    """Give the processes that receive."""
    assert node.process is not None
    children = psutil.Process(node.process.pid).children()
    return [child.pid for child in children if "receiver" in child.cmdline()]


def called(node: RunningNode) -> wire.Connection:
    """Open an association."""
    connection = wire.Connection(node.port, timeout_s=20)
    connection.associate(CONTEXTS)
    return connection


def test_what_several_receivers_take_is_one_series_and_the_death_of_one_ends_its_associations_alone(
    node: RunningNode,
) -> None:
    datasets = ct_series(grid(slices=24))
    callers = [called(node) for _ in range(12)]
    first, second = receivers(node)
    acknowledged, broken = set(), 0

    os.kill(first, signal.SIGSTOP)  # so that the kill finds it with associations open
    os.kill(first, signal.SIGKILL)
    for caller, dataset in zip(callers, datasets, strict=False):
        uid = str(dataset.SOPInstanceUID)
        try:
            caller.send(wire.store_message(1, wire.CT_IMAGE_STORAGE, uid, encoded(dataset), 16_384))
            assert caller.status() == 0x0000
            caller.release()
            acknowledged.add(uid)
        except (wire.PeerEnded, OSError):
            broken += 1
    for dataset in datasets:  # the sender sends again, and the rest
        uid = str(dataset.SOPInstanceUID)
        with called(node) as caller:
            caller.send(wire.store_message(1, wire.CT_IMAGE_STORAGE, uid, encoded(dataset), 16_384))
            assert caller.status() == 0x0000
            caller.release()

    # Twelve connections on one side alone would be a chance of 1 in 2,000.
    assert 0 < broken < 12
    assert second in receivers(node)
    status = node.wait_until(lambda status: status["series"] and status["series"][0]["state"] == "complete")
    assert status["series"][0]["instances"] == 24
    assert {path.name.rsplit(".", 2)[0] for path in (node.folder / "var" / "inbox").glob("2*/*.dcm")} >= acknowledged
