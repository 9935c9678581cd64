"""From the hot folder to the inbox: a real folder, an inbox in memory, and a clock of the test's own."""

import hashlib
import io
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import UID

from node.adapters.hot_folder import HotFolder
from node.adapters.zip_archive import members_of
from node.collecting import start_collecting
from node.config import HotFolderSection
from node.dicom.file_meta import FileMeta
from node.dicom.storage import STORAGE_CLASSES, TRANSFER_SYNTAXES
from node.domain.arrival import LackingInstance, StoreAnswer, StoredInstance
from node.domain.drops import EMPTY_SETTLES_AFTER_S
from node.domain.errors import ResourceError, SetupError
from node.stages.collect import HELD_UP_FOR_LONG_S, MEDIUM_WAITS_S, MOST_STARTS, PAUSE_S, Collector
from node.stages.unpack import Accepted, Unpacker
from tests.builders import ct_series, grid, save_series, uid, written
from tests.fakes import FakeObserver

EXPLICIT = "1.2.840.10008.1.2.1"
MEGABYTE = 1 << 20


@dataclass
class FakeInbox:
    """Takes data sets whole, each once, and answers as told."""

    answer: StoreAnswer | None = None
    # Called with every data set before it is answered.
    on_finish: Callable[[FileMeta], None] = lambda meta: None
    room: int = 10**12
    # (SOP Instance UID, digest) -> sender.
    stored: dict[tuple[str, str], str] = field(default_factory=dict)
    finished: int = 0
    abandoned: int = 0
    longest_fragment: int = 0

    def begin(self, meta: FileMeta, sender: str) -> "FakeReception":
        return FakeReception(self, meta, sender)

    def has_room_for(self, byte_count: int) -> bool:
        return byte_count <= self.room

    @property
    def uids(self) -> list[str]:
        return sorted(sop_uid for sop_uid, _ in self.stored)


class FakeReception:
    def __init__(self, inbox: FakeInbox, meta: FileMeta, sender: str) -> None:
        self._inbox, self._meta, self._sender = inbox, meta, sender
        self._data_set = b""

    def write(self, *fragments: bytes | bytearray | memoryview) -> None:
        self._inbox.longest_fragment = max(self._inbox.longest_fragment, *map(len, fragments))
        self._data_set += b"".join(fragments)

    def finish(self) -> StoreAnswer:
        self._inbox.finished += 1
        self._inbox.on_finish(self._meta)
        if self._inbox.answer is not None:
            return self._inbox.answer
        sop_uid = self._meta.sop_instance_uid
        key = (sop_uid, hashlib.sha256(self._data_set).hexdigest())
        was_there = key in self._inbox.stored
        self._inbox.stored[key] = self._sender
        stored = StoredInstance(
            series_instance_uid=uid("series", "series"), sop_instance_uid=sop_uid, file_name="x", was_there=was_there
        )
        return StoreAnswer(status=0, stored=stored)

    def abandon(self) -> None:
        self._inbox.abandoned += 1


class Drop:
    """A hot folder with its collector."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.inbox = FakeInbox()
        self.observer = FakeObserver()
        self.notes: list[str] = []
        self.log: list[dict[str, Any]] = []
        self.now = 1000.0
        self.collector = self.another_process()

    def another_process(self) -> Collector:
        """Give a collector that remembers nothing, as after a start."""
        self.collector = Collector(
            folder=HotFolder(self.folder, "me"),
            unpacker=Unpacker(
                begin=self.inbox.begin,
                has_room_for=self.inbox.has_room_for,
                members_of=members_of,
                accepted=Accepted(sop_classes=STORAGE_CLASSES, transfer_syntaxes=TRANSFER_SYNTAXES, disk_bytes=10**12),
            ),
            observer=self.observer,
            ae_title="DELINEATE",
            stable_s=2.0,
            rescan_s=10.0,
            note=self.notes.append,
            now=lambda: self.now,
            log=lambda event, **fields: self.log.append({"event": event, **fields}),
        )
        return self.collector

    def look(self, after_s: float = 0.0) -> float:
        self.now += after_s
        return self.collector.tick(self.now)

    def settle(self) -> None:
        """Look twice, as far apart as stability asks for."""
        self.look()
        self.look(2.0)

    @property
    def lying(self) -> list[str]:
        """Name every file that is still somewhere in the folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir())

    def reason(self, name: str) -> str:
        return (self.folder / "rejected" / f"{name}.reason.txt").read_text(encoding="utf-8")

    @property
    def endings(self) -> list[str]:
        return [ending for _, ending in self.observer.ended]


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    return Drop(tmp_path / "drop")


def images(count: int = 4) -> list[Dataset]:
    return ct_series(grid(slices=count))


def uids(datasets: Sequence[Dataset]) -> list[str]:
    return sorted(str(dataset.SOPInstanceUID) for dataset in datasets)


def zipped(contents: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zipped_images(datasets: Sequence[Dataset], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    return zipped({f"Doe/{one.InstanceNumber}": written(one) for one in datasets}, compression)


# What is taken in ----------------------------------------------------------------------------------------------------


def test_loose_files_come_into_the_inbox_and_leave_the_folder(drop: Drop) -> None:
    save_series(images(), drop.folder)

    drop.look()
    assert drop.inbox.uids == []
    drop.look(2.0)

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []
    assert set(drop.inbox.stored.values()) == {"HOT_FOLDER"}


def test_the_data_set_arrives_without_its_meta_information_in_pieces(drop: Drop) -> None:
    dataset = images(3)[0]
    dataset.add_new(0x00091010, "OB", bytes(3 * MEGABYTE))
    file = written(dataset)
    (drop.folder / "a").write_bytes(file)

    drop.settle()

    start = file.index(b"\x08\x00\x05\x00CS")
    ((_, digest),) = drop.inbox.stored
    assert digest == hashlib.sha256(file[start:]).hexdigest()
    assert drop.inbox.longest_fragment == MEGABYTE


def test_the_sender_is_who_the_file_says(drop: Drop) -> None:
    dataset = images(3)[0]
    dataset.file_meta.SourceApplicationEntityTitle = "CT1"
    save_series([dataset], drop.folder)

    drop.settle()

    assert list(drop.inbox.stored.values()) == ["CT1"]


def test_a_folder_is_an_association_that_is_released_when_all_of_it_is_durable(drop: Drop) -> None:
    save_series(images(), drop.folder / "study/ct")

    drop.settle()

    assert drop.lying == []
    assert list(drop.folder.iterdir()) == [drop.folder / ".taking"]
    (opened,) = drop.observer.opened
    assert opened.calling_ae_title == "HOT_FOLDER"
    assert [caller for caller, _ in drop.observer.stored] == [opened] * 4
    assert drop.observer.ended == [(opened, "released")]


def test_loose_files_are_no_evidence(drop: Drop) -> None:
    save_series(images(), drop.folder)

    drop.settle()

    assert (drop.observer.opened, drop.observer.stored, drop.observer.ended) == ([], [], [])


def test_every_archive_among_loose_files_is_an_association_of_its_own(drop: Drop) -> None:
    for number, part in enumerate((images()[:2], images()[2:])):
        (drop.folder / f"{number}.zip").write_bytes(zipped_images(part))

    drop.settle()

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []
    assert len({caller.association_id for caller, _ in drop.observer.ended}) == 2
    assert drop.endings == ["released", "released"]


def test_archives_in_a_folder_are_released_with_the_folder(drop: Drop) -> None:
    folder = drop.folder / "study"
    folder.mkdir()
    for number, part in enumerate((images()[:2], images()[2:])):
        (folder / f"{number}.zip").write_bytes(zipped_images(part))

    drop.settle()

    assert drop.inbox.uids == uids(images())
    assert len(drop.observer.stored) == 4
    assert drop.endings == ["released"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_of_every_compression_are_read(drop: Drop, compression: int) -> None:
    (drop.folder / "ct").write_bytes(zipped_images(images(), compression))

    drop.settle()

    assert drop.inbox.uids == uids(images())


def test_litter_goes_with_its_folder_and_is_counted(drop: Drop) -> None:
    save_series(images(), drop.folder / "ct")
    for name in (".DS_Store", "Thumbs.db", "._IM1"):
        (drop.folder / "ct" / name).write_bytes(b"litter")

    drop.settle()

    assert drop.lying == []
    assert drop.log[-1] == {"event": "drop read", "drop": drop.log[-1]["drop"], "instances": 4, "litter": 3}


def test_the_same_files_in_any_order_come_to_the_same(drop: Drop, tmp_path: Path) -> None:
    paths = save_series(images(), tmp_path / "ct")

    for path in (paths[2], paths[0], paths[3], paths[1], paths[2]):
        shutil.copy(path, drop.folder)
        drop.settle()

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []


# What is not ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"hello", "not a DICOM file"),
        (b"\xff\xd8\xff\xe0 JFIF", "not a DICOM file"),
        (written(images(3)[0])[written(images(3)[0]).index(b"\x08\x00\x05\x00CS") :], "a bare DICOM data set"),
        (zipped({}), "an archive without files"),
        (b"PK\x03\x04 and no more", "a damaged ZIP archive"),
    ],
)
def test_what_is_no_image_is_rejected_with_the_reason(drop: Drop, content: bytes, said: str) -> None:
    (drop.folder / "Doe^Jane").write_bytes(content)

    drop.settle()
    drop.look(EMPTY_SETTLES_AFTER_S)

    assert drop.lying == ["rejected/Doe^Jane", "rejected/Doe^Jane.reason.txt"]
    assert (drop.folder / "rejected/Doe^Jane").read_bytes() == content
    assert said in drop.reason("Doe^Jane")
    assert drop.inbox.finished == 0
    assert said in drop.notes[0]


def test_no_name_of_a_file_gets_into_log_or_status(drop: Drop) -> None:
    (drop.folder / "Doe^Jane.txt").write_bytes(b"hello")
    (drop.folder / "Doe^Jane.zip").write_bytes(zipped({"Doe^Jane": b"hello", "a/Doe^Jane": b"hello"}))

    drop.settle()

    assert "Doe" not in str(drop.log) + str(drop.notes) + str(drop.observer)
    assert "member 1, 2: not a DICOM file" in drop.reason("Doe^Jane.zip")
    assert "Doe" not in drop.reason("Doe^Jane.zip")


def test_a_sop_class_that_the_network_does_not_take_is_not_taken(drop: Drop) -> None:
    dataset = images(3)[0]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.3.4.5")
    save_series([dataset], drop.folder)

    drop.settle()

    assert drop.inbox.finished == 0
    assert "SOP Class 1.2.3.4.5 is not taken" in drop.reason(f"{dataset.SOPInstanceUID}.dcm")


def test_an_image_in_a_transfer_syntax_that_is_not_taken_is_lacking_in_its_series(drop: Drop) -> None:
    dataset = images(3)[0]
    file = written(dataset).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    (drop.folder / "a").write_bytes(file)

    drop.settle()

    assert "Transfer Syntax 1.2.840.10008.1.2.9 is not taken" in drop.reason("a")
    assert drop.inbox.finished == 0
    assert len(drop.observer.refused) == 1


def test_what_the_inbox_refuses_is_rejected_with_its_words_and_told_to_the_ledger(drop: Drop) -> None:
    save_series(images(), drop.folder / "ct")
    drop.inbox.answer = StoreAnswer(status=0xC000, error_comment="Pixel Data is too short: 1 of 2 bytes")

    drop.settle()

    assert drop.endings == ["released"]
    assert [answer.status for _, answer in drop.observer.refused] == [0xC000] * 4
    assert all("Pixel Data is too short" in drop.reason(f"ct/{one}.dcm") for one in uids(images()))


def test_links_are_rejected_and_not_followed(drop: Drop, tmp_path: Path) -> None:
    outside = save_series(images(), tmp_path / "outside")
    (drop.folder / "file").symlink_to(outside[0])
    (drop.folder / "folder").symlink_to(tmp_path / "outside")

    drop.settle()

    assert drop.inbox.finished == 0
    assert "links are not followed" in drop.reason("file")
    assert "links are not followed" in drop.reason("folder")
    assert all(path.exists() for path in outside)


# Archives ------------------------------------------------------------------------------------------------------------


def test_the_rest_of_a_damaged_archive_is_taken_and_its_series_lacks_what_was_damaged(drop: Drop) -> None:
    datasets = ct_series(grid(slices=4, rows=200, columns=200))
    archive = bytearray(zipped_images(datasets, zipfile.ZIP_STORED))
    archive[archive.index(b"\xe0\x7f\x10\x00OW", archive.index(str(datasets[1].SOPInstanceUID).encode())) + 100] ^= 0xFF
    (drop.folder / "ct.zip").write_bytes(archive)

    drop.settle()

    assert drop.inbox.uids == uids([datasets[0], *datasets[2:]])
    assert drop.lying == ["rejected/ct.zip", "rejected/ct.zip.reason.txt"]
    assert "an archive of 4 files, of which 1 were not taken in:\nmember 2: damaged" in drop.reason("ct.zip")
    ((_, answer),) = drop.observer.refused
    assert answer.lacking == LackingInstance(
        series_instance_uid=uid("series", "series"), sop_instance_uid=str(datasets[1].SOPInstanceUID)
    )
    assert drop.inbox.abandoned == 1


def test_an_archive_that_lost_an_image_of_which_nothing_is_known_is_no_evidence(drop: Drop) -> None:
    datasets = images()
    archive = bytearray(zipped_images(datasets, zipfile.ZIP_STORED))
    # So small that zipfile gives nothing of it, for its checksum is wrong.
    archive[archive.index(b"\x08\x00\x05\x00CS", archive.index(str(datasets[1].SOPInstanceUID).encode()))] ^= 0xFF
    (drop.folder / "ct.zip").write_bytes(archive)

    drop.settle()

    assert drop.endings == ["aborted"]
    assert len(drop.inbox.stored) == 3


def test_an_encrypted_archive_is_rejected_with_the_reason(drop: Drop) -> None:
    archive = bytearray(zipped_images(images()))
    # PKWARE APPNOTE 4.4.4: bit 0 of the general purpose flags, in each entry of the central directory.
    at = archive.index(b"PK\x01\x02")
    while at >= 0:
        archive[at + 8] |= 1
        at = archive.find(b"PK\x01\x02", at + 1)
    (drop.folder / "ct.zip").write_bytes(archive)

    drop.settle()

    assert drop.inbox.finished == 0
    assert "member 1, 2, 3, 4: encrypted" in drop.reason("ct.zip")


def test_an_archive_within_an_archive_is_refused(drop: Drop) -> None:
    (drop.folder / "ct.zip").write_bytes(zipped({"inner.zip": zipped_images(images()), "1": written(images()[0])}))

    drop.settle()

    assert drop.inbox.uids == uids(images()[:1])
    assert "member 1: an archive within an archive" in drop.reason("ct.zip")


def test_names_in_an_archive_lead_nowhere(drop: Drop, tmp_path: Path) -> None:
    names = ["../../evil", "/etc/evil", "..\\evil", "C:\\evil", "a/../../evil", "NUL/evil"]
    before = sorted(tmp_path.rglob("*"))
    contents = {name: written(one) for name, one in zip(names, images(len(names)), strict=True)}
    (drop.folder / "ct.zip").write_bytes(zipped(contents).replace(b"NUL/evil", b"\0UL/evil"))

    drop.settle()

    assert drop.inbox.uids == uids(images(len(names)))
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [drop.folder / ".taking", drop.folder / ".taking/me"]


def test_an_archive_that_states_more_than_the_disk_holds_is_rejected(drop: Drop) -> None:
    archive = bytearray(zipped_images(images()))
    at = archive.index(b"PK\x01\x02")
    archive[at + 24 : at + 28] = struct.pack("<L", 0xFFFFFFFE)
    (drop.folder / "bomb.zip").write_bytes(archive)
    drop.collector._unpacker._accepted = Accepted(
        sop_classes=STORAGE_CLASSES, transfer_syntaxes=TRANSFER_SYNTAXES, disk_bytes=10**9
    )

    drop.settle()

    assert "unpacks to 4.3 GB, more than this node's disk holds" in drop.reason("bomb.zip")
    assert drop.inbox.finished == 0


def test_an_archive_for_which_the_disk_is_too_full_waits_and_says_so_once(drop: Drop) -> None:
    (drop.folder / "ct.zip").write_bytes(zipped_images(images()))
    drop.inbox.room = 100

    drop.settle()
    for _ in range(3):
        drop.look(PAUSE_S)
    assert len(drop.notes) == len(drop.log) == 1
    assert "not so much disk is free" in drop.notes[0]
    drop.inbox.room = 10**9
    drop.look(PAUSE_S)

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []
    assert drop.endings == ["released"]


def test_a_member_that_is_no_image_keeps_the_archive_but_not_its_images(drop: Drop) -> None:
    contents = {str(number): written(one) for number, one in enumerate(images())}
    (drop.folder / "ct.zip").write_bytes(zipped({**contents, "readme.txt": b"hello", "__MACOSX/._1": b"litter"}))

    drop.settle()

    assert drop.inbox.uids == uids(images())
    assert "an archive of 5 files, of which 1 were not taken in:\nmember 5: not a DICOM file" in drop.reason("ct.zip")
    assert drop.endings == ["released"]


# Media ---------------------------------------------------------------------------------------------------------------


def medium(folder: Path) -> list[Path]:
    """Write a medium with a DICOMDIR; gives its images."""
    files = FileSet()
    for dataset in images():
        files.add(dataset)
    files.write(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR")


def test_a_medium_is_taken_with_its_directory(drop: Drop) -> None:
    medium(drop.folder / "cd")

    drop.settle()

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []
    assert drop.endings == ["released"]


def test_a_medium_in_the_hot_folder_itself_is_taken_as_one(drop: Drop, tmp_path: Path) -> None:
    medium(tmp_path / "cd")
    shutil.copytree(tmp_path / "cd", drop.folder, dirs_exist_ok=True)

    drop.settle()

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []
    assert drop.endings == ["released"]


def test_what_a_directory_names_and_is_not_there_is_told(drop: Drop) -> None:
    for path in medium(drop.folder / "cd")[:2]:
        path.unlink()

    drop.settle()
    drop.look(MEDIUM_WAITS_S)

    assert len(drop.inbox.stored) == 2
    assert drop.lying == ["rejected/cd/DICOMDIR.reason.txt"]
    assert drop.reason("cd/DICOMDIR").startswith("DICOMDIR names 4 files, 2 are not there.\n")


def test_a_medium_is_not_taken_before_what_its_directory_names_is_there(drop: Drop, tmp_path: Path) -> None:
    last = medium(tmp_path / "cd")[-1]
    there = drop.folder / "cd" / last.relative_to(tmp_path / "cd")
    last.rename(tmp_path / "last")
    shutil.copytree(tmp_path / "cd", drop.folder / "cd")

    drop.settle()
    drop.look(MEDIUM_WAITS_S / 2)
    assert drop.inbox.finished == 0
    (tmp_path / "last").rename(there)
    drop.settle()

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []


def test_a_medium_that_was_copied_in_small_letters_is_the_same(drop: Drop, tmp_path: Path) -> None:
    for path in [*medium(tmp_path / "cd"), tmp_path / "cd/DICOMDIR"]:
        target = drop.folder / "cd" / str(path.relative_to(tmp_path / "cd")).lower()
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)

    drop.settle()

    assert drop.lying == []
    assert len(drop.inbox.stored) == 4


def test_a_medium_in_an_archive_is_understood_too(drop: Drop, tmp_path: Path) -> None:
    medium(tmp_path / "cd")
    contents = {
        str(path.relative_to(tmp_path)): path.read_bytes() for path in (tmp_path / "cd").rglob("*") if path.is_file()
    }
    lost = next(name for name in contents if not name.endswith("DICOMDIR"))
    (drop.folder / "whole.zip").write_bytes(zipped(contents))
    (drop.folder / "part.zip").write_bytes(zipped({name: one for name, one in contents.items() if name != lost}))

    drop.settle()

    assert drop.lying == ["rejected/part.zip.DICOMDIR.reason.txt"]
    assert "DICOMDIR names 4 files, 1 are not there" in drop.reason("part.zip.DICOMDIR")


def test_a_file_that_is_only_called_dicomdir_is_rejected(drop: Drop) -> None:
    save_series(images(), drop.folder / "cd")
    (drop.folder / "cd/DICOMDIR").write_bytes(b"hello")

    drop.settle()

    assert drop.lying == ["rejected/cd/DICOMDIR", "rejected/cd/DICOMDIR.reason.txt"]
    assert len(drop.inbox.stored) == 4


# What stops us -------------------------------------------------------------------------------------------------------


FAR = 10**9


class StoppedError(BaseException):
    """Stands for kill -9: nothing after it is done."""


def test_a_process_that_stops_anywhere_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop before every single change to the folder and after every instance, each in a run of its own."""
    stops = every_change(monkeypatch)
    whole_images = images()
    moment, stopped = 0, True
    while stopped:
        moment += 1
        stops.after = FAR
        drop = Drop(tmp_path / f"{moment:03d}")
        save_series(whole_images[:2], drop.folder / "ct")
        medium(drop.folder / "cd")
        (drop.folder / "ct/bad").write_bytes(b"hello")
        (drop.folder / "ct.zip").write_bytes(zipped_images(whole_images[1:]))
        (drop.folder / "bad.zip").write_bytes(zipped({"a": b"hello"}))
        drop.inbox.on_finish = lambda meta: stops.one()

        stops.after = moment
        try:
            drop.settle()
            stopped = False
        except StoppedError:
            stops.after = FAR
            drop.another_process()
            drop.settle()

        assert drop.inbox.uids == uids(whole_images), moment
        assert drop.lying == [
            "rejected/bad.zip",
            "rejected/bad.zip.reason.txt",
            "rejected/ct/bad",
            "rejected/ct/bad.reason.txt",
        ], moment
    assert moment > 40


class Stops:
    """Counts down to the moment when the process stops."""

    def __init__(self) -> None:
        self.after = FAR

    def one(self) -> None:
        self.after -= 1
        if self.after <= 0:
            raise StoppedError


def every_change(monkeypatch: pytest.MonkeyPatch) -> Stops:
    """Stop instead of the change to the folder that `Stops` counts down to."""
    stops = Stops()
    for name in ("rename", "unlink", "rmdir", "mkdir"):
        change = getattr(Path, name)

        def stopping(*args: Any, change: Any = change, **kwargs: Any) -> Any:
            stops.one()
            return change(*args, **kwargs)

        monkeypatch.setattr(Path, name, stopping)
    return stops


def test_nothing_is_removed_before_it_is_durable(drop: Drop) -> None:
    save_series(images(), drop.folder / "ct")
    (drop.folder / "ct.zip").write_bytes(zipped_images(images()))
    there: list[bool] = []
    drop.inbox.on_finish = lambda meta: there.append(
        any(meta.sop_instance_uid in name or name.endswith("ct.zip") for name in drop.lying)
    )

    drop.settle()

    assert there == [True] * 8
    assert drop.lying == []


@pytest.mark.parametrize("status", [0xA700, 0xC001])
def test_what_is_no_fault_of_the_file_waits_where_it_is(drop: Drop, status: int) -> None:
    save_series(images(), drop.folder / "ct")
    drop.inbox.answer = StoreAnswer(status=status, error_comment="Disk low, nothing was stored: send again later")

    drop.settle()
    asked = drop.inbox.finished
    drop.look(PAUSE_S / 2)
    assert drop.inbox.finished == asked
    drop.look(PAUSE_S / 2)
    assert len(drop.lying) == 4
    assert [note for note in drop.notes if "Disk low" in note] == drop.notes
    assert len(drop.notes) == 1
    drop.inbox.answer = None
    drop.look(PAUSE_S)

    assert drop.inbox.uids == uids(images())
    assert drop.lying == []
    assert drop.endings == ["released"]


def test_a_waiting_drop_that_somebody_moves_back_is_waited_for_no_more(drop: Drop) -> None:
    (path,) = save_series(images(3)[:1], drop.folder)
    drop.inbox.answer = StoreAnswer(status=0xA700, error_comment="Disk low")
    drop.settle()

    next(drop.folder.rglob(path.name)).rename(path)
    shutil.rmtree(drop.folder / ".taking")
    drop.look(PAUSE_S)

    assert drop.look(1.0) > drop.now


def test_a_ledger_that_is_locked_lets_the_drop_wait(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    save_series(images(), drop.folder / "ct")

    def locked(*_: Any) -> None:
        raise ResourceError("The node's database cannot be used: database is locked.")

    with monkeypatch.context() as patched:
        patched.setattr(drop.observer, "instance_stored", locked)
        drop.settle()
        assert len(drop.lying) == 4
    drop.look(PAUSE_S)

    assert drop.lying == []
    assert len(drop.observer.stored) == 4
    assert len(drop.inbox.stored) == 4


def test_a_file_that_is_written_to_while_it_is_read_is_read_again(drop: Drop) -> None:
    dataset = images(3)[0]
    file = written(dataset)
    (drop.folder / "a").write_bytes(file[:-100])
    begin = drop.inbox.begin

    def written_to_meanwhile(meta: FileMeta, sender: str) -> FakeReception:
        drop.inbox.begin = begin  # type: ignore[method-assign]
        next(drop.folder.rglob("a")).write_bytes(file)
        return begin(meta, sender)

    drop.inbox.begin = written_to_meanwhile  # type: ignore[method-assign]
    drop.another_process()

    drop.settle()
    assert drop.inbox.stored == {}
    drop.another_process()
    drop.look(PAUSE_S)

    start = file.index(b"\x08\x00\x05\x00CS")
    assert list(drop.inbox.stored) == [(dataset.SOPInstanceUID, hashlib.sha256(file[start:]).hexdigest())]
    assert drop.lying == []


def test_a_file_that_ends_the_process_again_and_again_is_put_aside_and_the_others_are_taken(drop: Drop) -> None:
    save_series(images(), drop.folder / "ct")
    deadly = uids(images())[1]

    def end_the_process(meta: FileMeta) -> None:
        if meta.sop_instance_uid == deadly:
            raise StoppedError

    drop.inbox.on_finish = end_the_process
    drop.look()
    # The first time comes after a file was taken in, which is progress.
    for _ in range(MOST_STARTS + 1):
        with pytest.raises(StoppedError):
            drop.look(2.0)
        drop.another_process()
    drop.look(2.0)

    assert drop.lying == [f"rejected/ct/{deadly}.dcm", f"rejected/ct/{deadly}.dcm.reason.txt"]
    assert "ended the node's process 10 times" in drop.reason(f"ct/{deadly}.dcm")
    assert len(drop.inbox.stored) == 3


def test_a_drop_whose_process_is_killed_often_goes_on_where_it_was(drop: Drop) -> None:
    save_series(images(30), drop.folder / "ct")
    stops = Stops()
    drop.inbox.on_finish = lambda meta: stops.one()
    drop.look()
    times_stopped = 0
    while not drop.endings:
        stops.after = 2
        try:
            drop.look(2.0)
        except StoppedError:
            times_stopped += 1
        drop.another_process()

    assert times_stopped == 29 > MOST_STARTS
    assert drop.inbox.uids == uids(images(30))
    assert drop.lying == []


def test_a_fault_of_ours_at_one_file_does_not_hold_up_the_others(drop: Drop) -> None:
    save_series(images(), drop.folder / "ct")
    first = uids(images())[0]

    def fail(meta: FileMeta) -> None:
        if meta.sop_instance_uid == first:
            raise ValueError("Doe^Jane")

    drop.inbox.on_finish = fail

    drop.settle()

    assert len(drop.inbox.stored) == 3
    assert "a fault of the node, ValueError" in drop.reason(f"ct/{first}.dcm")
    assert "Doe" not in str(drop.log) + str(drop.notes)


def test_a_hot_folder_that_is_gone_is_told_once_and_used_when_it_is_back(drop: Drop) -> None:
    drop.folder.rmdir()

    assert drop.look() == drop.now + 10.0
    drop.look(10.0)
    assert drop.notes == ["waits: it cannot be used (No such file or directory); it is tried again and again"]
    save_series(images(), drop.folder)
    drop.settle()

    assert drop.inbox.uids == uids(images())


def test_a_drop_that_somebody_holds_for_long_is_told(drop: Drop) -> None:
    (path,) = save_series(images(3)[:1], drop.folder)

    with path.open("ab"):
        drop.look()
        drop.look(HELD_UP_FOR_LONG_S - 1)
        assert drop.notes == []
        drop.look(1.0)
        drop.look(10.0)
    assert drop.notes == ["waits: nothing in it changes, and yet it is not taken: a file of it is open for writing"]
    drop.look(10.0)

    assert drop.lying == []


def test_one_file_that_is_held_does_not_hold_up_those_beside_it(drop: Drop) -> None:
    paths = save_series(images(), drop.folder)

    with paths[0].open("ab"):
        drop.settle()
        assert len(drop.inbox.stored) == 3
    drop.look(2.0)

    assert len(drop.inbox.stored) == 4


def test_a_collector_without_a_hot_folder_says_what_to_set(tmp_path: Path) -> None:
    inbox = FakeInbox()

    with pytest.raises(SetupError) as caught:
        start_collecting(
            HotFolderSection(),
            owner_file=tmp_path / "collector.id",
            ae_title="DELINEATE",
            begin=inbox.begin,
            has_room_for=inbox.has_room_for,
            disk_bytes=10**12,
            observer=FakeObserver(),
            note=lambda text: None,
        )

    assert "hot_folder.folder" in caught.value.remedy


def count_of(pieces: Iterator[bytes]) -> int:
    return sum(1 for _ in pieces)


def test_a_member_is_read_in_pieces() -> None:
    (member,) = members_of(io.BytesIO(zipped({"a": bytes(3 * MEGABYTE + 1)})))

    assert count_of(member.pieces()) == 4


def test_an_empty_member_is_an_empty_file(drop: Drop) -> None:
    (drop.folder / "ct.zip").write_bytes(zipped({"a": b""}))

    drop.settle()

    assert "member 1: an empty file" in drop.reason("ct.zip")
