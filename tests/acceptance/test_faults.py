"""A whole node whose disk fills up, whose database is removed or damaged, and whose old images were cleared away."""

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import Dataset

from node.adapters.storage_scu import store
from node.clearing import clearer_of
from node.config import load
from node.domain.delivery import StoreReceipt
from node.domain.retention import DAY_S
from node.stages.clear import GRACE_S
from node.status import open_ledger
from tests.acceptance.running import RunningNode, run_delineate
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import FakeDestination
from tests.small_disk import SmallDisk

PATIENCE_S = 240.0


def send(node: RunningNode, datasets: list[Dataset], name: str) -> list[StoreReceipt]:
    return list(store(node.address, save_series(datasets, node.folder / name), calling_ae_title="CT1"))


def state_of(series: str, status: dict[str, Any]) -> str:
    return next((row["state"] for row in status["series"] if row["series_uid"] == series), "unknown")


@pytest.mark.timeout(600)
def test_a_disk_that_fills_up_while_the_node_works_holds_it_up_and_loses_nothing(
    disk: SmallDisk, tmp_path: Path
) -> None:
    with FakeDestination() as tps:
        node = RunningNode(tmp_path, destination_port=tps.address.port)
        text = node.config_path.read_text().replace(f'"{tmp_path}/var"', f'"{disk.path}/var"')
        node.config_path.write_text(text.replace("minimum_free_gb = 0.2", "minimum_free_gb = 0.004"))
        with node:
            first = phantom("filling", slices=8)
            series = str(first[0].SeriesInstanceUID)
            answers = send(node, first, "first")
            disk.fill(leave=1_500_000)  # less than results leave to the database
            waiting = node.wait_until(lambda now: [one for one in now["jobs"] if one["state"] == "waiting"], PATIENCE_S)
            refused = send(node, phantom("refused", slices=4), "refused")
            processes = {role: node.pid_of(role) for role in ("receiver", "contourer", "dispatcher")}
            disk.fill()
            node.wait_until(lambda now: now["disk"]["free"] < 100_000, PATIENCE_S)
            disk.clear()
            status = node.wait_until_delivered(within_s=PATIENCE_S)
            assert {role: node.pid_of(role) for role in processes} == processes

    assert {one.status for one in answers} == {0x0000}
    assert waiting["jobs"][0]["reason"].startswith("The disk is low: 0.00 GB are free")
    assert {one.status for one in refused} == {0xA700}
    assert waiting["disk"]["is_low"]
    (job,) = status["jobs"]
    assert (job["series_uid"], job["state"], job["tries"]) == (series, "contoured", 0)
    assert len(tps.received) == 2


def test_a_node_whose_database_is_removed_begins_anew_and_delivers_what_is_in_the_inbox(tmp_path: Path) -> None:
    with FakeDestination() as tps, RunningNode(tmp_path, destination_port=tps.address.port) as node:
        send(node, phantom("removed", slices=8), "ct")
        node.wait_until_delivered(within_s=PATIENCE_S)
        before = psutil.Process(node.pid_of("receiver"))

        (tmp_path / "var" / "delineate.sqlite").unlink()
        before.wait(PATIENCE_S)
        tps.wait_for(4, PATIENCE_S)
        status = node.wait_until_delivered(within_s=PATIENCE_S)

    assert [one["kind"] for one in status["events"]] == ["database lost"]
    assert "database lost" in node.log
    sent = [str(one.SOPInstanceUID) for one in tps.received]
    assert sorted(sent[:2]) == sorted(sent[2:])


def test_a_damaged_database_stops_the_start_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "delineate.sqlite").write_bytes(b"this is no database at all" * 400)
    node = RunningNode(tmp_path, destination_port=104)

    done = run_delineate("serve", "--config", str(node.config_path))

    assert done.returncode == 2
    assert "is damaged (file is not a database)" in done.stderr
    assert "move delineate.sqlite* to another folder and start" in done.stderr


def clear_away(node: RunningNode, at: float) -> None:
    """Do what the dispatcher does, so much later."""
    config = load(node.config_path)
    clearer = clearer_of(config, open_ledger(config))
    for now in (at, at + GRACE_S + 1):
        clearer.tick(now)


def test_a_series_whose_images_were_removed_is_neither_contoured_in_part_nor_a_second_time(tmp_path: Path) -> None:
    datasets = phantom("cleared", slices=8)
    series = str(datasets[0].SeriesInstanceUID)
    with (
        FakeDestination() as tps,
        RunningNode(tmp_path, destination_port=tps.address.port, quiet_period_s=2.0) as node,
    ):
        send(node, datasets, "ct")
        before = node.wait_until_delivered(within_s=PATIENCE_S)
        clear_away(node, time.time() + 100 * DAY_S)
        left = list((tmp_path / "var").rglob("*.dcm"))
        send(node, datasets[2:6], "part")
        declined = node.wait_until(lambda now: state_of(series, now) == "declined", PATIENCE_S)
        told = run_delineate("status", "--config", str(node.config_path)).stdout
        send(node, datasets, "again")
        whole = node.wait_until(lambda now: state_of(series, now) == "complete", PATIENCE_S)

    assert left == []
    assert declined["series"][0]["reason"].startswith("4 of the images that were here before were removed on ")
    assert "images were removed at " in told
    assert "disk: " in told
    assert [one["job"] for one in whole["jobs"]] == [one["job"] for one in before["jobs"]]
    assert whole["series"][0]["removed_at"] is None
    assert len(tps.received) == 2
