"""What fails around the node: disks that are full or gone, files cut short, a database that is locked or damaged."""

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.adapters import engine as engine_module
from node.adapters import result_store
from node.adapters.database import DatabaseFile, best_sqlite, open_database, refuse_damaged, set_leftovers_aside
from node.adapters.engine import Queue, Task, Tasks, Worker, prepare
from node.adapters.inbox import Inbox
from node.adapters.ledger import Ledger
from node.adapters.processes import BEGIN_ANEW, Look, Supervisor
from node.adapters.result_folder import store_in_folder
from node.adapters.result_store import ResultStore
from node.domain.arrival import StoreAnswer
from node.domain.errors import PeerError, SetupError, StorageError
from node.domain.jobs import SeriesState
from node.domain.series import CompletionPolicy
from node.sharing import SharedFiles
from node.stages.assemble import Assembler
from node.stages.receive import begin
from tests.assembling import ROUTE, SERIES, World
from tests.small_disk import SmallDisk
from tests.unit.test_receive import arrival, image
from tests.unit.test_result_folder import result

OUT_OF_RESOURCES, SUCCESS = 0xA700, 0x0000
JOB = "1.2.3/ffff/m/1"


def received(inbox: Inbox, padding: int = 0) -> StoreAnswer:
    """Send an instance whose data set is so much larger than it must be."""
    large = image()
    large.PixelData = bytes(large.PixelData) + b"\0" * padding
    offered = arrival(large)
    reception = begin(offered.arrival, inbox)
    for start in range(0, len(offered.data_set), 1 << 16):
        reception.write(offered.data_set[start : start + (1 << 16)])
    return reception.finish()


def files_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.rglob("*") if one.is_file())


# A full disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 4 << 20])
def test_an_instance_that_finds_no_room_is_refused_for_now_and_leaves_nothing(disk: SmallDisk, padding: int) -> None:
    inbox = Inbox(disk.path / "inbox", minimum_free_gb=0)
    disk.fill(leave=2 << 20 if padding else 0)

    refused = received(inbox, padding)
    left = files_in(disk.path / "inbox")
    disk.clear()
    taken = received(inbox, padding)

    assert (refused.status, taken.status) == (OUT_OF_RESOURCES, SUCCESS)
    assert refused.lacking is not None
    assert left == []
    assert len(files_in(disk.path / "inbox")) == 1


def test_below_the_minimum_an_instance_is_refused_before_anything_of_it_is_kept(disk: SmallDisk) -> None:
    inbox = Inbox(disk.path / "inbox", minimum_free_gb=0.02)  # more than the disk has

    offered = arrival(image())
    reception = begin(offered.arrival, inbox)
    while_it_comes = files_in(disk.path / "inbox")
    reception.write(offered.data_set)

    assert reception.finish().status == OUT_OF_RESOURCES
    assert while_it_comes == files_in(disk.path / "inbox") == []


def exhaust(ledger: Ledger, disk: SmallDisk) -> None:
    """Fill the disk, and what the database has of it in reserve."""
    disk.fill()
    with pytest.raises(StorageError, match="full"):
        note_much(ledger)


def note_much(ledger: Ledger) -> None:
    for number in range(1000):
        ledger.note_event("filling", str(number), "x" * 100_000)


class NoQueue:
    """Enqueues nothing: the engine has tests of its own."""

    def contour(self, *_: Any, **__: Any) -> Callable[[Any], None]:
        return lambda _: None

    deliver = contour


def test_a_series_that_becomes_whole_while_the_ledger_is_full_has_its_jobs_when_there_is_room(disk: SmallDisk) -> None:
    world, ledger = World(), Ledger(open_database(disk.path / "node.sqlite"))
    assembler = Assembler(
        inbox=world,
        ledger=ledger,
        queue=NoQueue(),
        routes=[ROUTE],
        policy=CompletionPolicy(quiet_period_s=0),
        policies={},
        archives=world,
        read_instance=world.read,
        log=lambda *_, **__: None,
    )
    exhaust(ledger, disk)

    for now in (200.0, 201.0):
        with pytest.raises(StorageError):
            assembler.tick(now)
    disk.clear()
    assembler.tick(202.0)

    row = ledger.series(SERIES)
    assert row is not None
    assert row["state"] == SeriesState.COMPLETE
    assert len(ledger.all_jobs()) == 2


def test_a_result_that_finds_no_room_leaves_nothing_half_written(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(disk.path)
    monkeypatch.setattr(result_store, "free_bytes", lambda _: 10**9)  # somebody else fills it just then
    disk.fill(leave=1 << 20)

    with pytest.raises(StorageError, match="The disk did not take a result: No space left on device"):
        store.write(JOB, "seg.dcm", b"\0" * (4 << 20))
    left = files_in(disk.path / "results")
    disk.clear()
    stored = store.write(JOB, "seg.dcm", b"\0" * (4 << 20))

    assert left == []
    assert (disk.path / stored["path"]).stat().st_size == 4 << 20


def test_results_leave_to_the_database_what_it_needs(disk: SmallDisk) -> None:
    store = ResultStore(disk.path, minimum_free_gb=0.016)  # half of it is the database's

    store.require_room()
    disk.fill(leave=9 << 20)
    with pytest.raises(StorageError, match=r"The disk is low: 0\.01 GB are free"):
        store.write(JOB, "seg.dcm", b"\0" * (2 << 20))
    disk.fill(leave=7 << 20)
    with pytest.raises(StorageError):
        store.require_room()
    assert files_in(disk.path) == ["filling"]


def test_a_destination_folder_that_is_full_is_waited_for_and_holds_nothing_half_written(
    disk: SmallDisk, tmp_path: Path
) -> None:
    disk.fill()
    with pytest.raises(PeerError, match="No space left on device"):
        store_in_folder("shelf", disk.path, [result(tmp_path)])
    left = files_in(disk.path)
    disk.clear()

    (receipt,) = store_in_folder("shelf", disk.path, [result(tmp_path)])

    assert left == ["filling"]
    assert receipt.outcome == "stored"


class Engine:
    """A worker in this process, whose tasks do what the test says."""

    def __init__(self, folder: Path, does: Callable[[int], None]) -> None:
        self.database = open_database(folder / "node.sqlite")
        prepare(self.database, [Queue(name="work", at_a_time=1)])
        self.tasks = Tasks(self.database)
        self.starts: list[int] = []
        self.worker = Worker(
            self.database,
            executor_id="worker-0",
            serves=["work"],
            functions={"work": self.work},
            maximum_starts=None,
        )

        self.does = does

    def work(self, number: int) -> None:
        self.starts.append(number)
        self.does(len(self.starts))

    def enqueue(self, number: int) -> str:
        key = f"work/{number}"
        self.tasks.enqueue_now(Task(queue="work", key=key, arguments=(number,)))
        return key

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        until = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < until, f"waited in vain {what}; started {self.starts}"
            time.sleep(0.05)

    def close(self) -> None:
        self.worker.close()
        self.tasks.close()
        self.database.dispose()


@pytest.fixture
def run_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, Callable[[int], None]], Engine]]:
    """Give what starts a worker that loses no time."""
    monkeypatch.setattr(engine_module, "_TEND_EVERY_S", 0.5)
    monkeypatch.setattr(engine_module, "_FIRST_PAUSE_S", 0.05)
    started: list[Engine] = []

    def run(folder: Path, does: Callable[[int], None]) -> Engine:
        started.append(Engine(folder, does))
        return started[-1]

    yield run
    for one in started:
        one.close()


def test_a_task_whose_end_found_no_room_in_the_database_is_done_again_when_there_is_room(
    disk: SmallDisk, run_engine: Callable[..., Engine]
) -> None:
    def fill_at_first(start: int) -> None:
        if start == 1:
            exhaust(Ledger(engine.database), disk)

    engine = run_engine(disk.path, fill_at_first)
    key = engine.enqueue(7)
    engine.wait_until(lambda: engine.starts, "for the task")
    time.sleep(2.0)  # several looks, at all of which there is no room
    before = list(engine.starts)
    disk.clear()
    engine.wait_until(lambda: engine.tasks.status_of([key]) == {key: "SUCCESS"}, "for its end")

    assert before == [7]
    assert set(engine.starts) == {7}
    following = engine.enqueue(8)
    engine.wait_until(lambda: engine.tasks.status_of([following]) == {following: "SUCCESS"}, "for the next task")


def test_a_task_waits_for_a_ledger_that_is_locked_instead_of_failing(
    tmp_path: Path, run_engine: Callable[..., Engine]
) -> None:
    def locked_twice(start: int) -> None:
        if start <= 2:
            raise StorageError("The node's database cannot be used: database is locked.")

    engine = run_engine(tmp_path, locked_twice)
    key = engine.enqueue(7)

    engine.wait_until(lambda: engine.tasks.status_of([key]) == {key: "SUCCESS"}, "for its end")
    assert engine.starts == [7, 7, 7]


# A disk, a folder or a file that is gone -----------------------------------------------------------------------------


def test_an_inbox_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", minimum_free_gb=0)
    first = received(inbox)

    shutil.rmtree(tmp_path / "inbox")
    series_then = list(inbox.stamps())
    again = received(inbox)

    assert (first.status, again.status) == (SUCCESS, SUCCESS)
    assert again.stored is not None
    assert not again.stored.was_there
    assert series_then == []
    assert list(inbox.stamps()) == [again.stored.series_instance_uid]


def test_while_the_data_folder_is_not_mounted_instances_are_refused_and_nothing_is_written_in_its_place(
    disk: SmallDisk,
) -> None:
    inbox = Inbox(disk.path / "inbox", minimum_free_gb=0)
    offered = arrival(image())
    begun = begin(offered.arrival, inbox)
    begun.write(offered.data_set)

    subprocess.run(["umount", "-l", disk.path], check=True)
    answers = [received(inbox).status for _ in range(2)]
    answers.append(begun.finish().status)
    in_its_place = list(disk.path.iterdir())
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk.path], check=True)
    time.sleep(0.3)  # the disk is looked at five times a second

    assert answers == [OUT_OF_RESOURCES] * 3
    assert in_its_place == []
    assert received(inbox).status == SUCCESS


def test_the_supervisor_waits_for_a_data_folder_and_begins_anew_without_a_database(tmp_path: Path) -> None:
    data, lines = tmp_path / "var", list[str]()
    data.mkdir()
    (data / "node.sqlite").touch()
    shared = SharedFiles(data, data / "node.sqlite", lambda event, **_: lines.append(event))

    looks: list[Look] = [shared.look()]
    data.rename(tmp_path / "elsewhere")
    looks += [shared.look(), shared.look()]
    data.mkdir()
    looks.append(shared.look())
    data.rmdir()
    (tmp_path / "elsewhere").rename(data)
    looks.append(shared.look())
    (data / "node.sqlite").rename(data / "old")
    looks.append(shared.look())
    reason = shared.reason
    (data / "node.sqlite").touch()
    looks.append(shared.look())

    assert looks == ["fine", "wait", "wait", "wait", "fine", "anew", "anew"]
    assert lines[:2] == ["data folder is gone: instances are refused", "data folder is back"]
    assert reason == "the file node.sqlite was removed"
    assert shared.reason == "another file took the place of node.sqlite"


def test_no_process_is_started_while_the_data_folder_is_gone_and_all_end_when_everything_begins_anew(
    tmp_path: Path,
) -> None:
    starts = tmp_path / "starts"
    code = f"import time; open({str(starts)!r}, 'a').write('x'); time.sleep(60)"
    found: list[Look] = ["wait"]
    supervisor = Supervisor({"one": [sys.executable, "-c", code]}, log=lambda *_, **__: None, look=lambda: found[-1])
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(supervisor.run()))
    thread.start()
    try:
        time.sleep(1.5)
        before = starts.exists()
        found.append("fine")
        until = time.monotonic() + 60
        while not starts.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        found.append("anew")
        thread.join(60)
    finally:
        supervisor.stop()
        thread.join(60)

    assert not before
    assert ended == [BEGIN_ANEW]


def test_nothing_is_written_into_a_database_file_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    ledger = Ledger(open_database(path))
    ledger.note_event("kind", "before", "text")

    path.rename(tmp_path / "moved")
    with pytest.raises(StorageError, match=r"the file node\.sqlite was removed"):
        ledger.note_event("kind", "meanwhile", "text")
    path.write_bytes(b"")
    with pytest.raises(StorageError, match=r"another file took the place of node\.sqlite"):
        ledger.events()
    path.unlink()
    made = path.exists()
    (tmp_path / "moved").rename(path)

    assert not made
    assert [one["subject"] for one in ledger.events()] == ["before"]


def test_a_journal_whose_database_is_gone_is_not_read_into_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    former = open_database(path)
    Ledger(former).note_event("kind", "former", "text")
    journals = sorted(one.name for one in tmp_path.iterdir() if one != path)
    path.unlink()

    set_aside = set_leftovers_aside(path)
    events = Ledger(open_database(path)).events()

    assert events == []
    assert sorted(set_aside) == [f"{name}.left" for name in journals]
    assert set_leftovers_aside(path) == []
    assert DatabaseFile(path).why_gone() == ""


# Files that were cut short, or are damaged ---------------------------------------------------------------------------


def test_a_database_whose_journal_was_cut_anywhere_keeps_what_was_committed_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    database = open_database(path)
    ledger = Ledger(database)
    for number in range(30):
        ledger.note_event("kind", f"{number:02}", "text")
    whole = {name: path.with_name(name).read_bytes() for name in ("node.sqlite", "node.sqlite-wal")}

    cuts = random.Random(5)
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        wal = whole["node.sqlite-wal"]
        (folder / "node.sqlite").write_bytes(whole["node.sqlite"])
        (folder / "node.sqlite-wal").write_bytes(wal[: cuts.randrange(len(wal) // 2, len(wal))] + b"\xff" * 50)
        refuse_damaged(folder / "node.sqlite")
        kept = sorted(one["subject"] for one in Ledger(open_database(folder / "node.sqlite")).events())
        assert kept == [f"{one:02}" for one in range(len(kept))]


def damaged(path: Path, how: str) -> None:
    with open_database(path).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a TEXT)")
        for number in range(200):
            connection.exec_driver_sql("INSERT INTO t VALUES (?)", (f"{number}" * 300,))
    with best_sqlite().connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    if how == "no database":
        path.write_bytes(b"this is no database at all" * 400)
    elif how == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(whole[:8192] + b"\xab" * 4096 + whole[12288:])


@pytest.mark.parametrize("how", ["no database", "cut off", "overwritten"])
def test_a_damaged_database_is_said_at_the_start_with_what_to_do(tmp_path: Path, how: str) -> None:
    path = tmp_path / "node.sqlite"
    damaged(path, how)
    before = path.read_bytes()

    with pytest.raises(SetupError, match=r"is damaged \(") as said:
        refuse_damaged(path)

    assert "move node.sqlite* to another folder and start" in said.value.remedy
    assert path.read_bytes() == before


def test_a_database_that_is_whole_or_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    Ledger(open_database(tmp_path / "node.sqlite"))

    refuse_damaged(tmp_path / "node.sqlite")
    refuse_damaged(tmp_path / "absent.sqlite")

    assert not (tmp_path / "absent.sqlite").exists()


def test_a_database_that_turns_out_to_be_damaged_at_work_is_our_operators_turn(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    path.write_bytes(b"this is no database at all" * 400)

    with pytest.raises(SetupError, match="damaged"):
        Ledger(open_database(path))


def test_what_a_killed_process_left_of_a_result_is_replaced(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first = store.write(JOB, "seg.dcm", b"whole")
    half = (tmp_path / first["path"]).with_name(".seg.dcm.part")
    half.write_bytes(b"ha")

    again = store.write(JOB, "seg.dcm", b"whole again")

    assert files_in(tmp_path / "results") == ["seg.dcm"]
    assert (tmp_path / again["path"]).read_bytes() == b"whole again"


def test_what_a_killed_receiver_left_of_an_instance_is_never_a_series(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", writer="receiver", minimum_free_gb=0)
    offered = arrival(image())
    begin(offered.arrival, inbox).write(offered.data_set[:200])

    after = Inbox(tmp_path / "inbox", writer="receiver", minimum_free_gb=0)

    assert list(after.stamps()) == []
    assert after.remove_unfinished() == 1
    assert files_in(tmp_path / "inbox") == []
