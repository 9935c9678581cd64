"""The inbox: received instances as files, durable before success is said.

    <folder>/<Series Instance UID>/<SOP Instance UID>.<digest>.dcm   received
    <folder>/rejected/<digest>.dcm and <digest>.reason.txt          refused
    <folder>/.incoming/<random>.part                                being written

``digest`` is the first 16 hexadecimal digits of the SHA-256 of the data set. So the same data set sent again is the
same file, and another data set under the same SOP Instance UID is another file: nothing is ever overwritten.
"""

import hashlib
import os
import shutil
import struct
import time
import uuid
from pathlib import Path

from node.adapters.durable import make_durable_folder, sync_folder
from node.domain.arrival import Arrival, InstanceIdentity, StoredInstance
from node.domain.errors import ResourceError, SetupError
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

INCOMING = ".incoming"
REJECTED = "rejected"
DIGEST_DIGITS = 16
BYTES_PER_GB = 10**9
# Series whose folder entry is known to be durable; forgotten, and learned anew, beyond this.
MOST_SERIES_REMEMBERED = 10_000
# Coarser than any file system's clock: an mtime older than this is not shared by a later change.
MTIME_SETTLED_NS = 2 * 10**9


class Inbox:
    """A folder of received instances. Safe for several threads, and for several processes on one folder.

    Parameters
    ----------
    folder
        Made where it is absent.
    minimum_free_gb
        Disk that must stay free, in 10⁹ bytes.

    Raises
    ------
    SetupError
        The folder cannot be made or written to.
    """

    def __init__(self, folder: Path, *, minimum_free_gb: float = 2.0) -> None:
        self._folder = folder
        self._minimum_free_bytes = int(minimum_free_gb * BYTES_PER_GB)
        self._durable_series: set[str] = set()
        # Series -> (mtime, number of files) of folders whose mtime had settled when they were counted.
        self._counted: dict[str, tuple[int, int]] = {}
        try:
            for wanted in (folder / INCOMING, folder / REJECTED):
                make_durable_folder(wanted)
        except OSError as error:
            raise SetupError(
                f"The inbox {folder} cannot be made: {error.strerror}.", "Give another node.data_dir, or its rights."
            ) from error
        if not os.access(folder / INCOMING, os.W_OK | os.X_OK):
            raise SetupError(f"The inbox {folder} cannot be written to.", "Mend the rights of node.data_dir.")

    def remove_unfinished(self) -> int:
        """Remove what an earlier process left half written: no success was said for it. Gives the number of files.

        For the start of the one receiver of this folder, before it listens.
        """
        unfinished = list((self._folder / INCOMING).glob("*.part"))
        for path in unfinished:
            path.unlink(missing_ok=True)
        return len(unfinished)

    def has_room_for(self, byte_count: int) -> bool:
        """Tell whether that many bytes can be stored and the free disk stays above the minimum."""
        return shutil.disk_usage(self._folder).free - byte_count >= self._minimum_free_bytes

    def store(self, arrival: Arrival, identity: InstanceIdentity) -> StoredInstance:
        """Make an instance durable as a Part 10 file: on return it survives a power cut.

        The data set is stored byte for byte as received; only the File Meta Information is ours (PS3.10 7.1).

        Raises
        ------
        ResourceError
            The disk did not take it; nothing is left behind.
        """
        file_name = f"{identity.sop_instance_uid}.{_digest(arrival.data_set)}.dcm"
        final = self.path(identity.series_instance_uid, file_name)
        try:
            self._make_series_folder(final.parent)
            was_there = final.exists()
            if not was_there:
                self._write(final, part10(arrival, identity.sop_class_uid, identity.sop_instance_uid))
            # Also where the file was there: the thread that renamed it may not have come to this line yet.
            sync_folder(final.parent)
        except OSError as error:
            raise ResourceError(f"The inbox did not take an instance: {error.strerror}.") from error
        return StoredInstance(
            series_instance_uid=identity.series_instance_uid,
            sop_instance_uid=identity.sop_instance_uid,
            file_name=file_name,
            was_there=was_there,
        )

    def keep_rejected(self, arrival: Arrival, reason: str) -> None:
        """Keep a refused data set and the reason, durable; the same data set again changes nothing.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        digest = _digest(arrival.data_set)
        folder = self._folder / REJECTED
        file, note = folder / f"{digest}.dcm", folder / f"{digest}.reason.txt"
        try:
            if not file.exists():
                self._write(file, part10(arrival, arrival.affected_sop_class_uid, arrival.affected_sop_instance_uid))
            if not note.exists():
                self._write(note, f"{reason}\nSent by {arrival.calling_ae_title}\n".encode())
            sync_folder(folder)
        except OSError as error:
            raise ResourceError(f"The inbox did not take a refused instance: {error.strerror}.") from error

    def series_uids(self) -> list[str]:
        """Give the Series Instance UID of every series with at least one instance, sorted."""
        with os.scandir(self._folder) as entries:
            names = [one.name for one in entries if one.name[0].isdigit() and one.is_dir()]
        return sorted(name for name in names if self._changed_and_count(name)[1])

    def file_names(self, series_uid: str) -> list[str]:
        """Give the names of the series' files, sorted; empty where there is no such series."""
        try:
            with os.scandir(self.path(series_uid)) as entries:
                return sorted(one.name for one in entries if one.name.endswith(".dcm"))
        except FileNotFoundError:
            return []

    def path(self, series_uid: str, file_name: str = "") -> Path:
        """Give the path of a series' folder, or of a file in it.

        Raises
        ------
        ValueError
            A name is a path: it was not checked before it came here.
        """
        for name in (series_uid, file_name):
            if "/" in name or "\0" in name or name.startswith("."):
                raise ValueError("not a name within the inbox")
        if not series_uid:
            raise ValueError("not a name within the inbox")
        return self._folder / series_uid / file_name

    def stamp(self, series_uid: str) -> str:
        """Give a text that changes whenever an instance is added; the same after a restart."""
        changed_ns, count = self._changed_and_count(series_uid)
        return f"{changed_ns}-{count}"

    def _changed_and_count(self, series_uid: str) -> tuple[int, int]:
        """Give a series folder's mtime and its number of files; (0, 0) where there is none.

        Both, because two files added within one tick of the file system's clock leave the same mtime.
        """
        try:
            changed_ns = self.path(series_uid).stat().st_mtime_ns
        except FileNotFoundError:
            return 0, 0
        counted = self._counted.get(series_uid)
        if counted is None or counted[0] != changed_ns:
            settled = time.time_ns() - changed_ns > MTIME_SETTLED_NS
            counted = changed_ns, len(self.file_names(series_uid))
            if settled:
                self._counted[series_uid] = counted
        return counted

    def _make_series_folder(self, folder: Path) -> None:
        # Not only where mkdir made it: a process killed between mkdir and fsync left an entry that is not durable.
        if folder.name in self._durable_series and folder.is_dir():
            return
        folder.mkdir(exist_ok=True)
        sync_folder(self._folder)
        if len(self._durable_series) >= MOST_SERIES_REMEMBERED:
            self._durable_series.clear()
        self._durable_series.add(folder.name)

    def _write(self, final: Path, content: bytes) -> None:
        """Write, fsync, rename; the caller syncs the folder, which makes the name durable."""
        part = self._folder / INCOMING / f"{uuid.uuid4().hex}.part"
        try:
            with part.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(final)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def part10(arrival: Arrival, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Give the Part 10 file of an arrival: our own File Meta Information (PS3.10 7.1), the data set as received.

    A UID that is none is left out, so that a refused file can still be opened.
    """
    meta = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _uid_element(0x0002, sop_class_uid),
            _uid_element(0x0003, sop_instance_uid),
            _uid_element(0x0010, arrival.transfer_syntax_uid),
            _uid_element(0x0012, IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
            _element(0x0016, b"AE", _ae_title(arrival.calling_ae_title)),
            _element(0x0018, b"AE", _ae_title(arrival.called_ae_title)),
        )
    )
    group_length = _element(0x0000, b"UL", struct.pack("<L", len(meta)))
    return b"".join((b"\0" * 128, b"DICM", group_length, meta, arrival.data_set))


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """Encode one element of group 0002 in Explicit VR Little Endian (PS3.5 7.1.2), padded to even length."""
    padded = value + (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sHL", 0x0002, number, vr, 0, len(padded)) + padded
    return struct.pack("<HH2sH", 0x0002, number, vr, len(padded)) + padded


def _uid_element(number: int, uid: str) -> bytes:
    value = uid.encode("ascii", errors="replace")
    clean = 0 < len(value) <= 64 and value.replace(b".", b"").isdigit()
    return _element(number, b"UI", value) if clean else b""


def _ae_title(title: str) -> bytes:
    return title.encode("ascii", errors="replace")[:16]


def _digest(data_set: bytes) -> str:
    return hashlib.sha256(data_set).hexdigest()[:DIGEST_DIGITS]
