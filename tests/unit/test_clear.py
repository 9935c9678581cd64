"""Clearing: what has its proof goes, marked first; what is wanted comes back; a process killed anywhere is followed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.adapters.database import open_database
from node.adapters.inbox import Inbox
from node.adapters.ledger import Ledger
from node.adapters.removal import RejectedFiles, Shelf
from node.adapters.result_store import ResultStore, folder_of
from node.domain.errors import ResourceError
from node.domain.jobs import DeliveryState, JobState, SeriesState
from node.domain.retention import DAY_S, RetentionPolicy, Watermarks
from node.stages.clear import GRACE_S, MEASURE_EVERY_S, MOST_AT_ONCE, Clearer, Shelves

SENT_AT = 1_000_000.0
LATER = SENT_AT + 30 * DAY_S
POLICY = RetentionPolicy(images_days=7, declined_days=7, failed_days=0, results_days=20, rejected_days=20)
NEVER = RetentionPolicy(images_days=0, declined_days=0, failed_days=0, results_days=0, rejected_days=0)

FACTS = {"modality": "CT", "calling_ae_titles": ["CT1"], "instances": 2, "study_uid": "1.2", "stamp": "2"}


class World:
    """A data folder with a ledger, and a disk whose room is what we say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inbox_folder = folder / "inbox"
        self.now = SENT_AT
        self.database = open_database(folder / "node.sqlite")
        self.ledger = Ledger(self.database, now=lambda: self.now)
        self.inbox = Inbox(self.inbox_folder)
        self.room = 100_000
        self.lines: list[str] = []

    def clearer(self, policy: RetentionPolicy = POLICY) -> Clearer:
        return Clearer(
            ledger=self.ledger,
            shelves=Shelves(
                images=Shelf(self.inbox_folder),
                results=Shelf(self.folder / "results"),
                rejected=RejectedFiles(self.inbox_folder / "rejected"),
                results_of=folder_of,
            ),
            disk=self,
            policy=policy,
            marks=Watermarks(below=4000, until=6000),
            log=lambda event, **_: self.lines.append(event),
        )

    # the disk: what lies in the data folder's inbox and results takes from the room
    def free(self) -> int:
        files = [*self.inbox_folder.rglob("*.dcm"), *(self.folder / "results").rglob("*.dcm")]
        return self.room - sum(one.stat().st_size for one in files)

    def held(self) -> dict[str, int]:
        return {"images": 3, "results": 2, "rejected": 1}

    def send(self, series: str, *names: str, size: int = 1000) -> None:
        folder = self.inbox_folder / series
        folder.mkdir(exist_ok=True)
        for name in names or ("1", "2"):
            (folder / f"{series}.{name}.{'f' * 16}.dcm").write_bytes(b"\0" * size)

    def receive(self, series: str, state: SeriesState = SeriesState.COMPLETE, **facts: Any) -> None:
        """Let a series be sent and judged."""
        self.send(series)
        self.ledger.association_contributes(f"receiver/{series}", "CT1", series, self.now)
        self.ledger.association_ended(f"receiver/{series}", "released", self.now)
        self.ledger.note_series(series, {**FACTS, "state": state, "last_instance_at": self.now, **facts})

    def contour(self, series: str, *, delivered: bool = True, channels: tuple[str, ...] = ()) -> str:
        """Let a series be contoured, and its result be delivered."""
        job = f"{series}/ffff/m/1"
        row = {"job": job, "series_uid": series, "fingerprint": "f", "route": "r", "model": "m", "run_number": 1}
        more = {"outputs": ["seg"], "destinations": ["tps"], "channels": [{"series_uid": one} for one in channels]}
        facts = {**FACTS, "state": SeriesState.COMPLETE, "evidence": []}
        self.ledger.accept_series(series, facts, [], [{**row, **more}], lambda _: None)
        self.ledger.move_job(job, JobState.CONTOURING)
        output = {"kind": "seg", "form": "binary", "sop_instance_uid": "9.9"}
        stored = ResultStore(self.folder).write(job, "seg.dcm", b"\0" * 500)
        self.ledger.finish_job(job, {}, [{**output, **stored}], {"tps": [("9.9",)]}, lambda _: None)
        if delivered:
            self.ledger.move_delivery(job, "tps", DeliveryState.DELIVERED, {}, None)
        return job

    def images(self, series: str) -> list[str]:
        return self.inbox.file_names(series)

    def result(self, job: str) -> bool:
        return (self.folder / "results" / folder_of(job) / "seg.dcm").exists()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.dispose()


def look(clearer: Clearer, at: float) -> None:
    """Look until there is no more to do, then once more after the grace."""
    while clearer.tick(at):
        pass
    clearer.tick(at + GRACE_S + 1)


def test_images_and_results_go_in_their_time_and_status_can_say_when(world: World) -> None:
    world.receive("1.1")
    job = world.contour("1.1")
    clearer = world.clearer()

    world.now = SENT_AT + 8 * DAY_S
    look(clearer, world.now)
    after_a_week = world.images("1.1"), world.result(job)
    world.now = LATER
    look(clearer, world.now)

    assert after_a_week == ([], True)
    assert not world.result(job)
    row = world.ledger.series("1.1")
    assert row is not None
    assert row["removed_at"] == SENT_AT + 8 * DAY_S
    assert [one["removed_at"] for one in world.ledger.outputs(job)] == [LATER]
    assert [one.name for one in (world.folder / "results").iterdir()] == [".removed"]
    assert list(world.inbox.stamps()) == []


def test_what_is_not_delivered_stays_however_low_the_disk(world: World) -> None:
    world.receive("1.1")
    job = world.contour("1.1", delivered=False)
    world.room = 0

    look(world.clearer(), LATER)

    assert len(world.images("1.1")) == 2
    assert world.result(job)


def test_every_series_that_a_job_reads_stays_until_it_is_delivered(world: World) -> None:
    for series in ("1.1", "1.2", "1.3"):
        world.receive(series)
    job = world.contour("1.1", delivered=False, channels=("1.1", "1.2"))
    clearer = world.clearer()

    look(clearer, LATER)
    before = [len(world.images(series)) for series in ("1.1", "1.2", "1.3")]
    world.ledger.move_delivery(job, "tps", DeliveryState.DELIVERED, {}, None)
    look(clearer, LATER + 8 * DAY_S)

    assert before == [2, 2, 0]
    assert [len(world.images(series)) for series in ("1.1", "1.2")] == [0, 0]


def test_while_the_disk_is_low_the_oldest_go_first_and_no_more_than_it_takes(world: World) -> None:
    for number in range(1, 6):
        world.now = SENT_AT + number
        world.receive(f"1.{number}")
        world.contour(f"1.{number}")
    world.room = 12_500 + 3500  # of which 12,500 are taken; 6,000 are to be free
    clearer = world.clearer(NEVER)

    look(clearer, world.now + 2 * 3600)

    assert [len(world.images(f"1.{number}")) for number in range(1, 6)] == [0, 0, 2, 2, 2]
    assert world.lines.count("images removed") == 2
    assert not clearer.tick(world.now + 3 * 3600)


def test_nothing_goes_early_within_an_hour(world: World) -> None:
    world.receive("1.1")
    world.contour("1.1")
    world.room = 0

    look(world.clearer(), SENT_AT + 1800)

    assert len(world.images("1.1")) == 2


def test_a_series_that_is_sent_again_while_it_is_set_aside_comes_back(world: World) -> None:
    world.receive("1.1")
    world.contour("1.1")
    world.now = LATER
    clearer = world.clearer()
    clearer.tick(LATER)
    assert world.images("1.1") == []

    world.send("1.1", "2")  # the receiver makes the folder anew
    world.ledger.association_contributes("receiver/again", "CT1", "1.1", LATER)
    clearer.tick(LATER + GRACE_S + 1)

    assert len(world.images("1.1")) == 2


def test_an_instance_that_was_stored_while_its_folder_was_set_aside_is_not_lost(world: World) -> None:
    world.receive("1.1")
    world.contour("1.1")
    world.now = LATER
    clearer = world.clearer()
    clearer.tick(LATER)
    late = world.inbox_folder / ".removed" / "1.1" / f"1.1.9.{'a' * 16}.dcm"

    late.write_bytes(b"stored")
    clearer.tick(LATER + GRACE_S + 1)

    assert f"1.1.9.{'a' * 16}.dcm" in world.images("1.1")
    assert len(world.images("1.1")) == 3


def test_a_late_slice_of_a_removed_series_is_removed_in_its_turn_and_all_that_is_lacking_stays_known(
    world: World,
) -> None:
    world.receive("1.1")
    world.contour("1.1")
    clearer = world.clearer()
    world.now = LATER
    look(clearer, LATER)

    world.now = LATER + DAY_S
    world.send("1.1", "3")
    world.ledger.note_series("1.1", {**FACTS, "state": SeriesState.DECLINED, "last_instance_at": world.now})
    look(clearer, world.now + 1)
    still_there = len(world.images("1.1"))
    world.now += 8 * DAY_S
    look(clearer, world.now)

    assert still_there == 1
    assert world.images("1.1") == []
    removed = world.ledger.removed_images("1.1")
    assert removed is not None
    assert removed[1] == ["1.1.1", "1.1.2", "1.1.3"]


def test_a_series_that_waited_in_vain_waits_no_longer(world: World) -> None:
    world.receive("1.1", SeriesState.WAITING, gathered=["f"])

    look(world.clearer(), LATER)

    row = world.ledger.series("1.1")
    assert row is not None
    assert (row["state"], row["gathered"]) == (SeriesState.DECLINED, [])
    assert row["reason"] == "it waited in vain, and its images were removed (retention.declined_days)"


class Killed(BaseException):
    """The process was killed."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
    whole = getattr(owner, name)

    def killed(*arguments: Any, **named: Any) -> Any:
        if after:
            whole(*arguments, **named)
        raise Killed

    monkeypatch.setattr(owner, name, killed)


MOMENTS: list[tuple[Any, str, bool]] = [
    (Ledger, "mark_images_removed", True),
    (Shelf, "set_aside", False),
    (Shelf, "set_aside", True),
    (Shelf, "delete", False),
    (os, "rmdir", False),
    (Ledger, "mark_results_removed", True),
]


@pytest.mark.parametrize(("owner", "name", "after"), MOMENTS)
def test_a_process_killed_at_any_step_is_followed_by_one_that_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool
) -> None:
    world.receive("1.1")
    job = world.contour("1.1")
    world.now = LATER
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, after=after)
        with pytest.raises(Killed):
            look(world.clearer(), LATER)

    look(world.clearer(), LATER + 5.0)

    assert world.images("1.1") == []
    assert not world.result(job)
    for folder in (world.inbox_folder, world.folder / "results"):
        assert list((folder / ".removed").iterdir()) == []


def test_a_folder_that_the_disk_does_not_let_go_holds_up_no_other_and_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for series in ("1.1", "1.2"):
        world.receive(series)
        world.contour(series)
    clearer, set_aside = world.clearer(), Shelf.set_aside

    def fail(shelf: Shelf, name: str) -> None:
        if name == "1.1":
            raise OSError(5, "Input/output error")
        set_aside(shelf, name)

    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "set_aside", fail)
        look(clearer, LATER)
    meanwhile = [len(world.images(series)) for series in ("1.1", "1.2")]
    world.now = LATER
    look(clearer, LATER + 10)

    assert meanwhile == [2, 0]
    assert world.images("1.1") == []


def test_what_was_set_aside_and_nobody_knows_of_comes_back(world: World) -> None:
    """The ledger was lost: a series without a row may never have been contoured."""
    world.send("1.1")
    Shelf(world.inbox_folder).set_aside("1.1")

    world.clearer().tick(LATER)

    assert len(world.images("1.1")) == 2


def test_refused_data_sets_go_with_their_reasons_the_oldest_first(world: World) -> None:
    rejected = world.inbox_folder / "rejected"
    for number, days in enumerate((25, 10)):
        for name in (f"{number}.dcm", f"{number}.reason.txt"):
            (rejected / name).write_text("why")
            os.utime(rejected / name, (LATER - days * DAY_S,) * 2)

    look(world.clearer(), LATER)

    assert sorted(one.name for one in rejected.iterdir()) == ["1.dcm", "1.reason.txt"]


def test_a_look_has_a_bound_and_says_that_there_is_more(world: World) -> None:
    for number in range(MOST_AT_ONCE + 1):
        world.receive(f"1.{number}")
    clearer = world.clearer()

    more = clearer.tick(LATER)

    assert more
    assert len(list(world.inbox.stamps())) == 1
    assert clearer.tick(LATER)
    assert list(world.inbox.stamps()) == []


def test_the_disk_is_measured_from_time_to_time_also_after_the_clock_was_put_back(world: World) -> None:
    clearer = world.clearer()

    for at in (LATER, LATER + 60, LATER + MEASURE_EVERY_S + 1, LATER - 10 * 3600):
        clearer.tick(at)

    assert [one.at for one in world.ledger.disk_samples()] == [LATER - 36_000, LATER, LATER + MEASURE_EVERY_S + 1]
    assert world.ledger.disk_samples()[0].used == 6


def test_a_series_that_changed_since_it_was_judged_stays(world: World) -> None:
    world.receive("1.1")
    (fact,) = world.ledger.series_with_images(after=None, limit=9)
    world.ledger.association_contributes("receiver/again", "CT1", "1.1", LATER)

    assert not world.ledger.mark_images_removed(fact, world.images("1.1"))
    assert world.ledger.removed_files("1.1") is None


def test_a_database_that_cannot_be_used_removes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.receive("1.1")

    def locked(*_: Any, **__: Any) -> Callable[[], None]:
        raise ResourceError("The node's database cannot be used: database is locked.")

    monkeypatch.setattr(Ledger, "mark_images_removed", locked)
    with pytest.raises(ResourceError):
        world.clearer().tick(LATER)

    assert len(world.images("1.1")) == 2
