"""What is looked at after a storm over a node: it must see what was lost, and what came twice."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread

from node.adapters.database import open_database
from node.adapters.ledger import Ledger
from node.domain.jobs import DeliveryState, SeriesState
from scripts.storms.machine import Places
from scripts.storms.senders import Promises
from scripts.storms.series import Series, make_series
from scripts.storms.verdict import Aftermath, judge
from tests.fakes import FakeDestination
from tests.raw_sender import data_set_of

JOB, TPS, SHELF = "1.2/f/m/1", "tps", "shelf"


def enqueue_nothing(_connection: sa.Connection) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a storm left: one series, its job, two results that are with both destinations."""

    aftermath: Aftermath
    series: Series
    # Standing in for a structure set and a segmentation.
    results: list[Path]

    @property
    def received(self) -> Path:
        """Give an instance as it lies in the inbox."""
        return next((self.aftermath.data_dir / "inbox").rglob("*.dcm"))

    def faults(self) -> list[str]:
        """Give what is found."""
        return judge(self.aftermath).faults


@pytest.fixture
def left(tmp_path: Path) -> Left:
    series = make_series("sent", tmp_path, random.Random(1))
    inbox = tmp_path / "var/inbox" / series.series_instance_uid
    inbox.mkdir(parents=True)
    for uid, path in series.files.items():
        shutil.copy(path, inbox / f"{uid}.0123456789abcdef.dcm")
    folder = tmp_path / "var/results"
    folder.mkdir()
    made = list(make_series("made", tmp_path, random.Random(2)).files.values())[:2]
    results = [Path(shutil.copy(path, folder)) for path in made]
    promises = Promises()
    promises.acknowledge(series.files.values())
    promises.complete(series)
    aftermath = Aftermath(
        places=Places(folder=tmp_path),
        data_dir=tmp_path / "var",
        ledger=delivered(Ledger(open_database(tmp_path / "ledger.sqlite")), series, results),
        promises=promises,
        tps=FakeDestination(),
    )
    aftermath.places.shelf.mkdir()
    for path in results:
        receive(aftermath.tps, path)
        shutil.copy(path, aftermath.places.shelf / f"SEG.{path.name}")
    return Left(aftermath=aftermath, series=series, results=results)


def receive(tps: FakeDestination, path: Path) -> None:
    tps.received.append(dcmread(path))
    tps.received_bytes.append(data_set_of(path))


def delivered(ledger: Ledger, series: Series, results: list[Path]) -> Ledger:
    """Write of one series that it is whole, contoured and delivered."""
    uid = series.series_instance_uid
    facts = {
        "state": SeriesState.COMPLETE,
        "instances": len(series.files),
        "stamp": "1",
        "evidence": [],
        "left_out": [],
        "calling_ae_titles": ["CT1"],
    }
    manifest = {"fingerprint": "f", "files": dict.fromkeys(series.files, "")}
    job = {"job": JOB, "series_uid": uid, "fingerprint": "f", "route": "r", "model": "m", "run_number": 1}
    more = {"outputs": ["rtstruct", "seg"], "destinations": [TPS, SHELF], "priority": 10}
    ledger.accept_series(uid, facts, [manifest], [{**job, **more}], enqueue_nothing, {})
    ledger.begin_job(JOB, 1)
    outputs = [
        {"kind": kind, "form": "", "sop_instance_uid": path.stem, "path": f"results/{path.name}", "sha256": ""}
        for kind, path in zip(("rtstruct", "seg"), results, strict=True)
    ]
    offers = {name: [[path.stem for path in results]] for name in (TPS, SHELF)}
    ledger.finish_job(JOB, {}, outputs, offers, enqueue_nothing)
    receipts = [{"sop_instance_uid": path.stem} for path in results]
    for name in (TPS, SHELF):
        ledger.move_delivery(JOB, name, DeliveryState.DELIVERED, {"receipts": receipts}, None)
    return ledger


def test_where_everything_is_as_promised_nothing_is_found(left: Left) -> None:
    verdict = judge(left.aftermath)

    assert verdict.faults == []
    assert verdict.figures["instances acknowledged"] == len(left.series.files)
    assert verdict.figures["results at tps"] == 2


def lose_an_image(left: Left) -> None:
    left.received.unlink()


def change_an_image(left: Left) -> None:
    left.received.write_bytes(left.received.read_bytes()[:-2] + b"\x12\x34")


def keep_an_image_twice(left: Left) -> None:
    shutil.copy(left.received, left.received.with_name(left.received.name.replace("0123", "4567")))


def leave_a_file_unfinished(left: Left) -> None:
    path = left.aftermath.data_dir / "inbox/.incoming/receiver/1-1.part"
    path.parent.mkdir(parents=True)
    path.touch()


def deliver_other_bytes(left: Left) -> None:
    left.aftermath.tps.received_bytes[0] = left.aftermath.tps.received_bytes[0][:-2] + b"\x12\x34"


def deliver_what_no_job_made(left: Left) -> None:
    receive(left.aftermath.tps, next(iter(left.series.files.values())))


def lose_a_result_on_its_way(left: Left) -> None:
    del left.aftermath.tps.received[0], left.aftermath.tps.received_bytes[0]


def half_write_into_the_folder(left: Left) -> None:
    (left.aftermath.places.shelf / ".SEG.1.dcm-1234").touch()


def leave_a_delivery(left: Left) -> None:
    left.aftermath.ledger.move_delivery(JOB, SHELF, DeliveryState.QUEUED, {}, None)


def leave_a_file_in_the_hot_folder(left: Left) -> None:
    left.aftermath.places.drop.mkdir()
    (left.aftermath.places.drop / "1.dcm").touch()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose_an_image, "acknowledged, but not there with the same bytes"),
        (change_an_image, "acknowledged, but not there with the same bytes"),
        (keep_an_image_twice, "kept in two files though the same was sent"),
        (leave_a_file_unfinished, "unfinished files left in the inbox"),
        (deliver_other_bytes, "other bytes"),
        (deliver_what_no_job_made, "which no job made"),
        (lose_a_result_on_its_way, "tps lacks 1 results"),
        (half_write_into_the_folder, "half-written in the folder"),
        (leave_a_delivery, "is still queued"),
        (leave_a_file_in_the_hot_folder, "left in the hot folder"),
    ],
)
def test_every_broken_promise_is_found(left: Left, harm: Callable[[Left], None], said: str) -> None:
    harm(left)

    assert any(said in fault for fault in left.faults())


def test_a_second_job_on_the_same_images_is_found(left: Left) -> None:
    job = left.aftermath.ledger.all_jobs()[0]
    copied = {key: job[key] for key in ("series_uid", "fingerprint", "route", "model", "outputs", "destinations")}
    second = {**copied, "job": "1.2/f/m/2", "run_number": 2, "priority": 10}
    left.aftermath.ledger.settle_together({}, [second], enqueue_nothing)

    faults = left.faults()

    assert any("two jobs on the same instances" in fault for fault in faults)
    assert any("is still queued" in fault for fault in faults)
