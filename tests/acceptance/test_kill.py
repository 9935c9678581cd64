"""kill -9 at the worst moments: nothing acknowledged is lost, nothing is delivered twice."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE

from node.adapters.storage_scu import store
from tests.acceptance.running import RunningNode
from tests.builders import ct_series, grid, save_series
from tests.fakes import RT_STRUCTURE_SET, SEGMENTATION, FakeDestination

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def phantom(series: str, slices: int = 30) -> list[Dataset]:
    """Build a CT of a cylinder of tissue with a rod of bone in air."""
    stack = grid(
        slices=slices,
        rows=96,
        columns=112,
        spacing_mm=(3.0, 3.0, 2.5),
        origin_lps_mm=(-140.0, -140.0, 20.0),
        series=series,
    )
    rows, columns = np.mgrid[:96, :112]
    body = ((rows - 48) / 38.0) ** 2 + ((columns - 56) / 45.0) ** 2 < 1
    bone = (rows - 66) ** 2 + (columns - 56) ** 2 < 49
    plane = np.where(bone, 700, np.where(body, 40, -1000)).astype(np.int16)
    return ct_series(stack, voxels=np.repeat(plane[None], slices, axis=0), series=series)


def of_class(received: list[Dataset], sop_class: str) -> list[str]:
    return [str(dataset.SOPInstanceUID) for dataset in received if dataset.SOPClassUID == sop_class]


def test_a_worker_killed_while_it_contours_is_followed_by_one_that_finishes(tmp_path: Path) -> None:
    files = save_series(phantom("kill-worker", slices=80), tmp_path / "ct")
    with FakeDestination() as tps, RunningNode(tmp_path, destination_port=tps.address.port) as node:
        store(node.address, files, calling_ae_title="CT1")
        worker = node.pid_of("contourer")
        # Freeze it first: the job is certainly not finished when the kill comes.
        node.wait_until(lambda status: status["series"] and status["series"][0]["state"] != "declined")
        while "contouring" not in node.log:
            time.sleep(0.005)
        os.kill(worker, signal.SIGSTOP)
        assert node.status()["jobs"][0]["state"] == "contouring"
        os.kill(worker, signal.SIGKILL)

        status = node.wait_until_delivered()
        time.sleep(2.0)

        assert node.pid_of("contourer") != worker
    assert len(of_class(tps.received, RT_STRUCTURE_SET)) == 1
    assert len(of_class(tps.received, SEGMENTATION)) == 1
    assert len(status["jobs"]) == 1


def test_a_receiver_killed_during_a_transfer_keeps_all_that_it_acknowledged(tmp_path: Path) -> None:
    datasets = phantom("kill-receiver", slices=60)
    files = save_series(datasets, tmp_path / "ct")
    with FakeDestination() as tps, RunningNode(tmp_path, destination_port=tps.address.port) as node:
        acknowledged = send_until_broken(node, files, kill_after=25)
        assert 25 <= len(acknowledged) < len(files)
        kept = {path.name.split(".dcm")[0].rsplit(".", 1)[0] for path in (tmp_path / "var/inbox").rglob("*.dcm")}
        assert set(acknowledged) <= kept

        wait_until_it_listens_again(node)
        receipts = store(node.address, files, calling_ae_title="CT1")
        assert {receipt.outcome for receipt in receipts} == {"stored"}
        # What came before the kill may be contoured first, where the receiver takes long to start again.
        status = node.wait_until(lambda found: whole_and_delivered(found, len(files)))

        instances = list((tmp_path / "var/inbox").rglob("*.dcm"))
        assert len(instances) == len(files)
        assert list((tmp_path / "var/inbox/.incoming").rglob("*.part")) == []
    # The part that came before the kill was no 60-slice volume: whatever was made of it, each object is there once.
    delivered = of_class(tps.received, RT_STRUCTURE_SET)
    assert len(delivered) == len(set(delivered)) == len(status["jobs"])


def whole_and_delivered(status: dict[str, Any], instances: int) -> bool:
    (series,) = status["series"]
    whole = series["state"] == "complete" and series["instances"] == instances
    states = {one["state"] for table in ("jobs", "deliveries") for one in status[table]}
    return whole and states == {"contoured", "delivered"}


def send_until_broken(node: RunningNode, files: list[Path], kill_after: int) -> list[str]:
    """Send one by one; kill the receiver while the next is under way. Gives what was acknowledged."""
    entity = AE(ae_title="CT1")
    entity.add_requested_context(CT_IMAGE, "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", node.port, ae_title="DELINEATE")
    assert association.is_established
    receiver = node.pid_of("receiver")
    acknowledged: list[str] = []
    for number, path in enumerate(files):
        dataset = dcmread(path)
        if number == kill_after:
            threading.Timer(0.001, os.kill, (receiver, signal.SIGKILL)).start()
        if not association.is_established:
            break
        answer = association.send_c_store(dataset)
        if "Status" not in answer:
            break
        assert answer.Status == 0x0000
        acknowledged.append(str(dataset.SOPInstanceUID))
    return acknowledged


def wait_until_it_listens_again(node: RunningNode) -> None:
    until = time.monotonic() + 60
    while node.times_it_listened < 2:
        assert time.monotonic() < until, node.log
        time.sleep(0.1)


@pytest.mark.parametrize("moment", ["received", "contouring", "delivering"])
def test_everything_killed_at_once_goes_on_at_the_next_start(tmp_path: Path, moment: str) -> None:
    files = save_series(phantom(f"kill-all-{moment}"), tmp_path / "ct")
    with FakeDestination() as tps:
        tps.delay_s = 1.0 if moment == "delivering" else 0.0
        node = RunningNode(tmp_path, destination_port=tps.address.port)
        with node:
            store(node.address, files, calling_ae_title="CT1")
            if moment == "contouring":
                node.wait_until(lambda status: status["jobs"])
            elif moment == "delivering":
                while not tps.asked:
                    time.sleep(0.01)
            node.kill()
            before = len(tps.received)
            tps.delay_s = 0.0
            node.start()
            node.wait_until_delivered()
            time.sleep(1.0)

    delivered = of_class(tps.received, RT_STRUCTURE_SET)
    assert len(set(delivered)) == 1
    # An object whose receipt was lost with the process is sent again as the same instance: what a destination stores
    # once. Where none was under way, it is sent once.
    assert len(delivered) == 1 or before or moment == "delivering"


def test_a_series_whose_processes_are_killed_in_turn_is_delivered_once(tmp_path: Path) -> None:
    files = save_series(phantom("kill-often"), tmp_path / "ct")
    with FakeDestination() as tps:
        with RunningNode(tmp_path, destination_port=tps.address.port) as node:
            store(node.address, files, calling_ae_title="CT1")
            for role in ("contourer", "dispatcher", "receiver", "dispatcher", "contourer"):
                time.sleep(0.7)
                node.kill_role(role)
            status = node.wait_until_delivered()
            time.sleep(1.0)
        assert len(status["jobs"]) == 1
    assert len(set(of_class(tps.received, RT_STRUCTURE_SET))) == 1
    assert len(set(of_class(tps.received, SEGMENTATION))) == 1


def test_a_killed_supervisor_takes_its_processes_with_it_and_the_next_start_goes_on(tmp_path: Path) -> None:
    files = save_series(phantom("kill-supervisor"), tmp_path / "ct")
    with FakeDestination() as tps, RunningNode(tmp_path, destination_port=tps.address.port) as node:
        store(node.address, files, calling_ae_title="CT1")
        orphans = node.kill_supervisor()
        assert len(orphans) == 3

        node.start()

        _, alive = psutil.wait_procs(orphans, timeout=10)
        assert alive == []
        status = node.wait_until_delivered()
    assert len(status["jobs"]) == 1
    assert len(set(of_class(tps.received, RT_STRUCTURE_SET))) == 1
