"""The inbox on a real file system."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from node.adapters import inbox as inbox_module
from node.adapters.durable import SharedSync
from node.adapters.inbox import Inbox, Part
from node.domain.arrival import InstanceIdentity, StoredInstance
from node.domain.errors import ResourceError, SetupError
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.stages.ports import Inbox as InboxPort
from node.stages.ports import SeriesFolder
from tests.unit.test_receive import IMPLICIT, Offered, arrival, image


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """Give an inbox in a new folder."""
    return Inbox(tmp_path / "inbox", minimum_free_gb=0)


def identity_of(one: Offered) -> InstanceIdentity:
    """Examine an arrival that is in order."""
    verdict = one.examined()
    assert isinstance(verdict, InstanceIdentity)
    return verdict


def opened(inbox: Inbox, one: Offered) -> Part:
    """Write an arrival's data set into the inbox, in two pieces."""
    part = inbox.open(one.arrival)
    part.write(one.data_set[:100])
    part.write(one.data_set[100:])
    return part


def store(inbox: Inbox, one: Offered) -> StoredInstance:
    """Store an arrival that is in order."""
    return opened(inbox, one).store(identity_of(one))


def everything_in(folder: Path) -> dict[str, bytes]:
    """Give every file under a folder."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def test_it_is_what_the_stages_ask_for(inbox: Inbox) -> None:
    for_receiving: InboxPort = inbox
    for_assembling: SeriesFolder = inbox

    assert for_receiving.has_room_for(0)
    assert list(for_assembling.stamps()) == []


def test_the_data_set_is_stored_byte_for_byte_under_our_own_meta_information(inbox: Inbox) -> None:
    one = arrival(image(), IMPLICIT)

    stored = store(inbox, one)

    path = inbox.path(stored.series_instance_uid, stored.file_name)
    assert path.read_bytes().endswith(one.data_set)
    read = dcmread(path)
    assert read.file_meta.TransferSyntaxUID == IMPLICIT
    assert read.file_meta.MediaStorageSOPClassUID == read.SOPClassUID
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
    assert read.file_meta.SourceApplicationEntityTitle == "SCANNER"
    assert read.file_meta.ReceivingApplicationEntityTitle == "DELINEATE"
    assert read.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert read.file_meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert path.stat().st_size == 132 + 12 + read.file_meta.FileMetaInformationGroupLength + len(one.data_set)
    assert read == image()


def test_the_same_data_set_again_leaves_the_file_untouched(inbox: Inbox) -> None:
    one = arrival()
    first = store(inbox, one)
    path = inbox.path(first.series_instance_uid, first.file_name)
    before, stamp = path.stat(), inbox.stamps()[first.series_instance_uid]

    again = store(inbox, one.but(calling_ae_title="OTHER"))

    assert (first.was_there, again.was_there) == (False, True)
    assert again.file_name == first.file_name
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert inbox.stamps()[first.series_instance_uid] == stamp


def test_the_same_instance_with_other_content_is_another_file(inbox: Inbox) -> None:
    changed = image()
    changed.SeriesDescription = "changed"
    one, other = arrival(), arrival(changed)

    names = {store(inbox, each).file_name for each in (one, other)}

    assert len(names) == 2
    assert set(inbox.file_names(identity_of(one).series_instance_uid)) == names


def test_nothing_half_written_is_ever_seen_and_the_next_start_removes_it(inbox: Inbox, tmp_path: Path) -> None:
    opened(inbox, arrival())

    assert list(inbox.stamps()) == []
    assert [name for name in everything_in(tmp_path) if not name.endswith(".part")] == []
    assert Inbox(tmp_path / "inbox", writer="another").remove_unfinished() == 0
    assert Inbox(tmp_path / "inbox").remove_unfinished() == 1
    assert everything_in(tmp_path) == {}


def test_success_comes_after_file_folder_and_parent_are_synced(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    one = arrival()
    series = inbox.path(identity_of(one).series_instance_uid)
    inbox.remove_unfinished()
    steps = recorded_steps(monkeypatch)

    store(inbox, one)

    assert steps == ["sync part", f"sync {series.parent.name}", "rename", f"sync {series.name}"]


def test_a_series_folder_left_by_a_killed_process_is_synced_anew(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = arrival()
    inbox.path(identity_of(one).series_instance_uid).mkdir()
    steps = recorded_steps(monkeypatch)

    store(Inbox(tmp_path / "inbox"), one)

    assert "sync inbox" in steps


def recorded_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every fsync and rename in order."""
    steps: list[str] = []
    fsync: Callable[[int], None] = os.fsync
    rename: Callable[[str, str], None] = os.rename

    def recording_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("sync part" if name.suffix == ".part" else f"sync {name.name}")
        fsync(descriptor)

    def recording_rename(path: str, target: str) -> None:
        steps.append("rename")
        rename(path, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "rename", recording_rename)
    return steps


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = arrival()

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".part":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ResourceError, match="No space left on device"):
        store(inbox, one)

    assert everything_in(tmp_path) == {}
    assert list(inbox.stamps()) == []


def test_a_refused_data_set_is_kept_once_with_its_reason(inbox: Inbox, tmp_path: Path) -> None:
    one = arrival().but(affected_sop_instance_uid="../../x", data_set=b"not a data set")

    opened(inbox, one).reject("The data set is empty")
    opened(inbox, one).reject("The data set is empty")

    kept = everything_in(tmp_path / "inbox")
    assert len(kept) == 2
    (file,) = (name for name in kept if name.endswith(".dcm"))
    assert kept[file].endswith(b"not a data set")
    assert b"../../x" not in kept[file]
    assert kept[file.removesuffix(".dcm") + ".reason.txt"] == b"The data set is empty\nSent by SCANNER\n"
    assert file.startswith("rejected/")
    assert list(inbox.stamps()) == []


@pytest.mark.parametrize(
    ("series", "name"), [("../x", "a"), ("1.2", "../a"), ("", "a"), (".incoming", "a"), ("a/b", "")]
)
def test_a_name_that_leaves_the_folder_is_never_a_path(inbox: Inbox, series: str, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        inbox.path(series, name)


def test_the_stamp_changes_with_every_file_even_within_one_tick_of_the_clock(inbox: Inbox) -> None:
    seen = set()
    for number in range(20):
        changed = image()
        changed.SeriesDescription = str(number)
        one = arrival(changed)
        series = store(inbox, one).series_instance_uid
        os.utime(inbox.path(series), ns=(0, 0))
        inbox._counted.clear()
        seen.add(inbox.stamps()[series])

    assert len(seen) == 20


def test_the_stamp_is_the_same_after_a_restart(inbox: Inbox, tmp_path: Path) -> None:
    one = arrival()
    series = store(inbox, one).series_instance_uid

    assert Inbox(tmp_path / "inbox").stamps()[series] == inbox.stamps()[series]
    assert "1.2.3" not in inbox.stamps()


def test_the_watermark_counts_what_is_to_come(inbox: Inbox, tmp_path: Path) -> None:
    assert inbox.has_room_for(1000)
    assert not inbox.has_room_for(2**60)
    assert not Inbox(tmp_path / "inbox", minimum_free_gb=10**9).has_room_for(0)


def test_many_threads_storing_the_same_and_others_lose_and_double_nothing(inbox: Inbox) -> None:
    arrivals = []
    for number in range(8):
        changed = image()
        changed.SeriesDescription = str(number)
        arrivals.append(arrival(changed))

    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda one: store(inbox, one), arrivals * 4))

    series = stored[0].series_instance_uid
    assert list(inbox.stamps()) == [series]
    assert sorted({one.file_name for one in stored}) == inbox.file_names(series)
    assert len(inbox.file_names(series)) == 8
    assert all(inbox.path(series, name).read_bytes()[128:132] == b"DICM" for name in inbox.file_names(series))


def test_a_folder_that_cannot_be_made_is_a_setup_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SetupError, match="cannot be made") as raised:
        Inbox(tmp_path / "file" / "inbox")

    assert "data_dir" in raised.value.remedy


def test_the_memory_of_durable_series_is_bounded(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MOST_OPEN_SERIES", 2)
    one = arrival()
    for number in range(5):
        opened(inbox, one).store(replace(identity_of(one), series_instance_uid=f"1.2.{number}"))

    assert len(inbox._open_series) <= 2
    assert len(list(inbox.stamps())) == 5


def test_another_data_set_with_the_same_digest_is_another_file(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Part, "digest", "0123456789abcdef")
    changed = image()
    changed.SeriesDescription = "changed"
    one, other = arrival(), arrival(changed)

    stored = [store(inbox, each) for each in (one, other, one, other)]

    assert [each.was_there for each in stored] == [False, False, True, True]
    assert len({each.file_name for each in stored}) == 2
    for each, sent in zip(stored, (one, other), strict=False):
        assert inbox.path(each.series_instance_uid, each.file_name).read_bytes().endswith(sent.data_set)


def test_an_incoming_folder_that_somebody_removed_is_made_anew(inbox: Inbox, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "inbox" / ".incoming")

    stored = store(inbox, arrival())

    assert inbox.file_names(stored.series_instance_uid) == [stored.file_name]


def test_what_is_discarded_leaves_nothing(inbox: Inbox, tmp_path: Path) -> None:
    part = opened(inbox, arrival())

    part.discard()
    part.discard()

    assert everything_in(tmp_path) == {}


def test_a_series_counts_what_was_there_before_the_start(inbox: Inbox, tmp_path: Path) -> None:
    series = store(inbox, arrival()).series_instance_uid

    anew = Inbox(tmp_path / "inbox")

    assert (anew.takes_more_of(series, 1), anew.takes_more_of(series, 2)) == (False, True)
    assert (inbox.takes_more_of(series, 1), inbox.takes_more_of(series, 2)) == (False, True)


def test_one_sync_serves_all_who_wait_and_never_one_that_came_later() -> None:
    began, go_on = threading.Event(), threading.Event()
    synced: list[None] = []

    def sync() -> None:
        began.set()
        go_on.wait(10)
        synced.append(None)

    shared = SharedSync()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(shared, sync)
        began.wait(10)
        later = [pool.submit(shared, sync) for _ in range(8)]
        while len(shared._turn._waiters) < 8:  # type: ignore[attr-defined]
            pass
        go_on.set()
        for one in (first, *later):
            one.result(10)

    # The first began before the others asked: they share another.
    assert len(synced) == 2


def test_a_sync_that_fails_fails_for_the_one_who_made_it_and_is_made_again_for_the_others() -> None:
    faults = [OSError(errno.EIO, "Input/output error")]

    def sync() -> None:
        if faults:
            raise faults.pop()

    shared = SharedSync()

    with pytest.raises(OSError, match="Input/output"):
        shared(sync)
    shared(sync)


def test_a_series_to_which_nothing_comes_is_forgotten_and_its_folder_closed(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = arrival()
    opened(inbox, one).store(replace(identity_of(one), series_instance_uid="1.2.1"))
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(inbox_module, "FORGET_SERIES_AFTER_S", 0.0)

    opened(inbox, one).store(replace(identity_of(one), series_instance_uid="1.2.2"))

    assert list(inbox._open_series) == ["1.2.2"]
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_many_threads_that_begin_a_series_at_once_all_succeed(tmp_path: Path) -> None:
    for number in range(20):
        inbox, together = Inbox(tmp_path / str(number), minimum_free_gb=0), threading.Barrier(8)

        def begin(name: int, inbox: Inbox = inbox, together: threading.Barrier = together) -> None:
            changed = image()
            changed.SeriesDescription = str(name)
            part = opened(inbox, one := arrival(changed))
            together.wait(10)
            part.store(identity_of(one))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(begin, range(8)))

        (series,) = list(inbox.stamps())
        assert len(inbox.file_names(series)) == 8


def test_a_series_folder_that_was_removed_and_made_anew_is_synced_anew(inbox: Inbox, tmp_path: Path) -> None:
    changed = image()
    changed.SeriesDescription = "changed"
    series = store(inbox, arrival()).series_instance_uid
    shutil.rmtree(inbox.path(series))

    again, other = store(inbox, arrival()), store(inbox, arrival(changed))

    assert (again.was_there, other.was_there) == (False, False)
    assert inbox.file_names(series) == sorted([again.file_name, other.file_name])


def test_a_series_folder_that_was_set_aside_and_made_anew_by_another_process_is_the_one_that_is_synced(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = image()
    changed.SeriesDescription = "changed"
    series = store(inbox, arrival()).series_instance_uid
    inbox.path(series).rename(tmp_path / "aside")
    inbox.path(series).mkdir()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))

    store(inbox, arrival(changed))

    assert inbox.path(series).stat().st_ino in synced
    assert (tmp_path / "aside").stat().st_ino not in synced
