"""The hot folder on disk: looked at, taken by renaming, locks respected, rejected without overwriting anything."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.adapters import hot_folder
from node.adapters.hot_folder import (
    LOCAL_FILE_SYSTEMS,
    Batch,
    HotFolder,
    Watch,
    file_system_of,
    is_local,
    lasting_owner,
)


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def taken(folder: HotFolder, *names: str) -> Batch:
    before = {batch.drop for batch in folder.batches()}
    folder.take(names, "whole")
    (batch,) = [batch for batch in folder.batches() if batch.drop not in before]
    return batch


# Looking -------------------------------------------------------------------------------------------------------------


def test_everything_is_seen_but_what_is_ours(drop: Path) -> None:
    put(drop / "a")
    put(drop / "ct/sub/b")
    put(drop / "rejected/c")
    put(drop / ".taking/me/d")
    (drop / "empty").mkdir()

    found = HotFolder(drop, "me").lying()

    assert {name: {entry.parts for entry in entries} for name, entries in found.items()} == {
        "a": {("a",)},
        "ct": {("ct", "sub", "b")},
        "empty": set(),
    }


def test_a_link_is_seen_and_not_followed(drop: Path, tmp_path: Path) -> None:
    put(tmp_path / "secret/key")
    (drop / "link").symlink_to(tmp_path / "secret")
    put(drop / "ct/a")
    (drop / "ct/loop").symlink_to(drop)

    found = HotFolder(drop, "me").lying()

    assert {entry.parts for entries in found.values() for entry in entries} == {("link",), ("ct", "a"), ("ct", "loop")}


def test_a_folder_deeper_than_any_path_does_not_hide_the_others(drop: Path) -> None:
    put(drop / "a")
    here = Path.cwd()
    os.chdir(drop)
    try:
        for _ in range(30):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
        Path("b").touch()
    finally:
        os.chdir(here)
    folder = HotFolder(drop, "me")

    assert set(folder.lying()) == {"a", "d" * 200}
    assert folder.held_by_a_writer("a") == ""
    assert folder.held_by_a_writer("d" * 200) == "cannot be read (File name too long)"


def test_a_hot_folder_that_is_gone_is_an_error(drop: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HotFolder(drop / "gone", "me").lying()


# Writers -------------------------------------------------------------------------------------------------------------


@contextmanager
def another_process(code: str) -> Iterator[None]:
    """Run code in a process that prints a line when it holds what it holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        process.communicate("\n", timeout=10)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import fcntl; f = open({0!r}, 'ab'); fcntl.flock(f, fcntl.LOCK_EX)", "is locked"),
        ("import fcntl; f = open({0!r}, 'ab'); fcntl.lockf(f, fcntl.LOCK_EX)", "is locked"),
        ("f = open({0!r}, 'ab')", "is open for writing"),
    ],
)
def test_what_a_writer_holds_is_not_taken(drop: Path, code: str, said: str) -> None:
    path = put(drop / "ct/a")
    folder = HotFolder(drop, "me")
    folder.lying()

    with another_process(code.format(str(path))):
        assert folder.held_by_a_writer("ct") == said

    assert folder.held_by_a_writer("ct") == ""


def test_what_a_reader_holds_is_taken(drop: Path) -> None:
    path = put(drop / "a")

    with another_process(f"import fcntl; f = open({str(path)!r}, 'rb'); fcntl.flock(f, fcntl.LOCK_SH)"):
        assert HotFolder(drop, "me").held_by_a_writer("a") == ""


def test_a_writer_that_comes_while_we_ask_does_not_end_the_process(drop: Path) -> None:
    path = put(drop / "a")
    folder = HotFolder(drop, "me")
    folder.lying()
    done = threading.Event()

    def write_again_and_again() -> None:
        while not done.is_set():
            with path.open("ab"):
                pass

    writer = threading.Thread(target=write_again_and_again)
    writer.start()
    try:
        # The signal of a broken lease would end this process here.
        said = {folder.held_by_a_writer("a") for _ in range(2000)}
    finally:
        done.set()
        writer.join()

    assert said <= {"", "is open for writing"}
    assert folder.held_by_a_writer("a") == ""


def test_pipes_and_sockets_are_not_waited_for(drop: Path) -> None:
    os.mkfifo(drop / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(drop / "socket"))
    folder = HotFolder(drop, "me")

    assert [folder.held_by_a_writer(name) for name in ("pipe", "socket")] == ["", ""]
    assert {one.kind for one in taken(folder, "pipe", "socket").files()} == {"other"}


# Taking --------------------------------------------------------------------------------------------------------------


def test_what_is_taken_is_found_again_by_the_next_process(drop: Path) -> None:
    put(drop / "ct/a", b"1")
    HotFolder(drop, "me").take(("ct",), "whole")
    put(drop / "b", b"2")
    HotFolder(drop, "me").take(("b",), "files")

    first, second = HotFolder(drop, "me").batches()

    assert (first.whole, [one.parts for one in first.files()]) == (True, [("ct", "a")])
    assert (second.whole, [one.parts for one in second.files()]) == (False, [("b",)])
    assert set(HotFolder(drop, "me").lying()) == set()


def test_of_two_nodes_one_gets_each_file(drop: Path) -> None:
    names = tuple(put(drop / f"{number:03d}").name for number in range(300))
    nodes = [HotFolder(drop, owner) for owner in ("one", "two")]
    threads = [threading.Thread(target=node.take, args=(names, "files")) for node in nodes]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    got = [one.parts[0] for node in nodes for batch in node.batches() for one in batch.files()]
    assert sorted(got) == list(names)
    assert nodes[0].taken_by_others() == 1


def test_what_cannot_be_moved_is_told_and_does_not_hold_up_the_others(
    drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        put(drop / name)
    rename = Path.rename

    def refuse_b(self: Path, target: Path) -> Path:
        if self.name == "b":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_b)
    folder = HotFolder(drop, "me")

    left = folder.take(("a", "b", "c"), "files")

    assert left == {"b": "cannot be moved (Operation not permitted)"}
    assert [one.parts for one in folder.batches()[0].files()] == [("a",), ("c",)]


def test_a_batch_that_is_begun_and_never_ended_counts_its_starts(drop: Path) -> None:
    put(drop / "a")
    HotFolder(drop, "me").take(("a",), "files")

    for _ in range(3):
        (batch,) = HotFolder(drop, "me").batches()
        batch.begin()
    (counted,) = HotFolder(drop, "me").batches()
    counted.pause()

    assert counted.drop == batch.drop
    assert batch.starts == 3
    assert HotFolder(drop, "me").batches()[0].starts == 0


def test_a_finished_batch_leaves_no_folders(drop: Path) -> None:
    put(drop / "ct/sub/a")
    put(drop / "ct/DICOMDIR")
    (drop / "ct/empty").mkdir()
    folder = HotFolder(drop, "me")
    batch = taken(folder, "ct")
    files = {one.parts[-1]: one for one in batch.files()}

    files["DICOMDIR"].set_aside()
    assert [one.parts for one in batch.files()] == [("ct", "sub", "a")]
    files["a"].remove()
    batch.finish()

    assert folder.batches() == []
    assert below(drop) == []


def test_what_still_lies_in_a_finished_batch_is_not_lost(drop: Path) -> None:
    put(drop / "ct/a")
    folder = HotFolder(drop, "me")
    batch = taken(folder, "ct")

    batch.finish()

    assert [one.parts for one in folder.batches()[0].files()] == [("ct", "a")]


def test_a_file_that_is_written_to_has_another_stamp(drop: Path) -> None:
    put(drop / "a", b"1")
    (file,) = taken(HotFolder(drop, "me"), "a").files()
    before = file.stamp()

    with file.open() as opened:
        assert opened.read() == b"1"
    unchanged = file.stamp()
    put(next(drop.glob(".taking/me/*/a")), b"12")

    assert before == unchanged != file.stamp()


# Rejecting -----------------------------------------------------------------------------------------------------------


def test_a_rejected_file_keeps_its_place_and_gets_its_reason(drop: Path) -> None:
    put(drop / "ct/sub/a", b"bad")
    batch = taken(HotFolder(drop, "me"), "ct")

    batch.files()[0].reject("Not taken in: an empty file.")

    assert below(drop) == ["rejected/ct/sub/a", "rejected/ct/sub/a.reason.txt"]
    assert (drop / "rejected/ct/sub/a").read_bytes() == b"bad"
    reason = (drop / "rejected/ct/sub/a.reason.txt").read_text(encoding="utf-8")
    assert reason == f"Not taken in: an empty file.\nDrop {batch.drop}\n"


def test_nothing_in_rejected_is_overwritten(drop: Path) -> None:
    folder = HotFolder(drop, "me")
    for number in range(3):
        put(drop / "a", b"%d" % number)
        taken(folder, "a").files()[0].reject("bad")

    kept = [path.read_bytes() for path in (drop / "rejected").rglob("a")]
    assert sorted(kept) == [b"0", b"1", b"2"]


def test_a_file_where_a_folder_should_be_is_no_obstacle(drop: Path) -> None:
    folder = HotFolder(drop, "me")
    put(drop / "a", b"file")
    taken(folder, "a").files()[0].reject("bad")
    put(drop / "a/b", b"in a folder")
    taken(folder, "a").files()[0].reject("bad")

    assert sorted(path.read_bytes() for path in (drop / "rejected").rglob("[ab]") if path.is_file()) == [
        b"file",
        b"in a folder",
    ]


def test_a_file_called_like_a_reason_destroys_none(drop: Path) -> None:
    put(drop / "ct/a", b"1")
    put(drop / "ct/a.reason.txt", b"2")
    batch = taken(HotFolder(drop, "me"), "ct")

    for file in batch.files():
        file.reject("bad")

    contents = [path.read_bytes() for path in (drop / "rejected").rglob("*") if path.is_file()]
    assert {b"1", b"2"} < set(contents)
    assert len(contents) == 4


def test_a_process_that_stopped_between_reason_and_file_leaves_no_double(drop: Path) -> None:
    put(drop / "a", b"bad")
    folder = HotFolder(drop, "me")
    batch = taken(folder, "a")
    batch.explain(("a",), "bad")

    folder.batches()[0].files()[0].reject("bad")

    assert below(drop) == ["rejected/a", "rejected/a.reason.txt"]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, b"\xff\xfe\n".decode(errors="surrogateescape")])
def test_any_name_that_a_file_system_takes_can_be_rejected(drop: Path, name: str) -> None:
    put(drop / name, b"bad")
    batch = taken(HotFolder(drop, "me"), name)

    batch.files()[0].reject("bad")

    rejected = sorted((drop / "rejected").iterdir())
    assert rejected[0].read_bytes() == b"bad"
    assert rejected[1].name == f"{rejected[0].name}.reason.txt"


# Watching ------------------------------------------------------------------------------------------------------------

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
nas:/export /srv nfs4 rw 0 0
tmpfs /srv/local tmpfs rw 0 0
//pc/drop /mnt/with\\040blank cifs rw 0 0
sshfs /home/me/remote fuse.sshfs rw 0 0
/dev/sda2 /over ext4 rw 0 0
overlay /over overlay rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/drop", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/drop", "nfs4"),
        ("/srv/local/drop", "tmpfs"),
        ("/srvx", "ext4"),
        ("/mnt/with blank/drop", "cifs"),
        ("/home/me/remote", "fuse.sshfs"),
        ("/over", "overlay"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(folder: str, kind: str) -> None:
    assert file_system_of(Path(folder), MOUNTS) == kind


def test_only_known_file_systems_are_local(drop: Path) -> None:
    assert is_local(drop)
    assert not is_local(Path("/proc/self"))
    assert not {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", ""} & set(LOCAL_FILE_SYSTEMS)


def test_on_a_network_share_locks_are_asked_for_and_leases_are_not(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(drop / "a")
    monkeypatch.setattr(hot_folder, "is_local", lambda _: False)
    folder = HotFolder(drop, "me")
    folder.lying()

    with another_process(f"f = open({str(path)!r}, 'ab')"):
        assert folder.held_by_a_writer("a") == ""
    with another_process(f"import fcntl; f = open({str(path)!r}, 'ab'); fcntl.flock(f, fcntl.LOCK_EX)"):
        assert folder.held_by_a_writer("a") == "is locked"


@pytest.mark.parametrize(("polling", "how"), [("auto", "inotify"), ("always", "polling")])
@pytest.mark.parametrize("arrival", ["written", "moved"])
def test_what_comes_into_the_folder_wakes_us(drop: Path, polling: str, how: str, arrival: str) -> None:
    woken = threading.Event()
    watch = Watch(drop, polling=polling, wake=woken.set)  # type: ignore[arg-type]
    try:
        assert watch.how == how
        time.sleep(0.1)
        outside = put(drop.parent / "a")
        if arrival == "moved":
            outside.rename(drop / "a")
        else:
            put(drop / "a")

        assert woken.wait(20)
    finally:
        watch.stop()


def test_our_own_looks_do_not_wake_us(drop: Path) -> None:
    put(drop / "ct/a")
    folder = HotFolder(drop, "me")
    woken = threading.Event()
    watch = Watch(drop, polling="auto", wake=woken.set)
    try:
        folder.lying()
        folder.held_by_a_writer("ct")
        taken(folder, "ct").files()[0].reject("bad")

        assert not woken.wait(1.0)
    finally:
        watch.stop()


def test_a_folder_that_is_not_there_cannot_be_watched(drop: Path) -> None:
    with pytest.raises(OSError):
        Watch(drop / "gone", polling="auto", wake=lambda: None)


def test_a_node_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "var/collector.id"

    assert lasting_owner(path) == lasting_owner(path)
    assert lasting_owner(path) != lasting_owner(tmp_path / "other/collector.id")


def test_locks_that_are_asked_for_are_let_go(drop: Path) -> None:
    path = put(drop / "a")
    HotFolder(drop, "me").held_by_a_writer("a")

    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
