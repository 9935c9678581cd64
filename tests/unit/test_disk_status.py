"""What status says of the disk, for people and for scripts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.adapters import disk
from node.config import Config, parse
from node.disk_status import disk_lines, disk_status
from node.domain.retention import DAY_S, DiskSample
from tests.unit.test_clear import SENT_AT, World

GB = 10**9


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.dispose()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse({"node": {"data_dir": str(tmp_path)}, "retention": {"images_days": 7, "results_days": 20}})


def said(config: Config, world: World, now: float, monkeypatch: pytest.MonkeyPatch, free: int) -> dict[str, Any]:
    monkeypatch.setattr("node.disk_status.free_bytes", lambda _: free)
    return dict(json.loads(json.dumps(disk_status(config, world.ledger, now))))


def test_what_is_free_held_and_removed_next_is_said(
    config: Config, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receive("1.1")
    world.contour("1.1")
    world.receive("1.2")
    world.contour("1.2", delivered=False)
    for day, held in ((0, 10), (7, 80)):
        at = SENT_AT + day * DAY_S
        world.ledger.note_disk(DiskSample(at=at, free=102 * GB, images=held * GB, results=GB, rejected=0))

    told = said(config, world, SENT_AT + 7 * DAY_S, monkeypatch, free=102 * GB)

    lines = list(disk_lines(told))
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(SENT_AT + 20 * DAY_S))
    assert lines[0] == "disk: 102.0 GB free; below 2.0 GB instances are refused"
    assert lines[1].startswith("  images 80.0 GB, results 1.0 GB, rejected 0.0 GB, measured at ")
    assert lines[2] == "  full in 10.0 days, as the past week went"
    assert lines[3].endswith(": images of 1.1 (nobody needs it)")
    assert lines[4:] == [
        f"  goes at {when}: results of 1.1/ffff/m/1 (retention.results_days)",
        "  2 stay: the delivery to tps is queued",
    ]
    assert (told["held"]["images"], told["days_left"]) == (80 * GB, 10.0)


def test_a_new_node_knows_little_and_a_low_disk_is_said(
    config: Config, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = said(config, world, SENT_AT, monkeypatch, free=3 * GB)

    assert list(disk_lines(told)) == [
        "disk: 3.0 GB free; below 2.0 GB instances are refused",
        "  low: below 4.0 GB what was delivered is removed early",
        "  when it will be full is not known yet",
    ]


def test_what_a_folder_holds_is_added_up_through_all_that_is_below(tmp_path: Path) -> None:
    (tmp_path / "inbox" / "rejected").mkdir(parents=True)
    (tmp_path / "inbox" / "1.2").mkdir()
    for name, size in (("inbox/1.2/a.dcm", 700), ("inbox/1.2/b.dcm", 30), ("inbox/rejected/c.dcm", 9)):
        (tmp_path / name).write_bytes(b"\0" * size)
    (tmp_path / "inbox" / "link").symlink_to(tmp_path)

    held = disk.DataDisk(tmp_path).held()

    link = (tmp_path / "inbox" / "link").lstat().st_size
    assert held == {"images": 730 + link, "results": 0, "rejected": 9}
