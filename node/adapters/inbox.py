"""The inbox: received instances as files, durable before success is said.

    <folder>/<Series Instance UID>/<SOP Instance UID>.<digest>.dcm   received
    <folder>/rejected/<digest>.dcm and <digest>.reason.txt          refused
    <folder>/.incoming/<writer>/<random>.part                       being written

``digest`` is the XXH3 of the data set in 16 hexadecimal digits. So the same data set sent again is the same file, and
another data set under the same SOP Instance UID is another file: nothing is ever overwritten. The digest only makes a
name; whether two files are the same is decided by comparing them.
"""

import mmap
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import xxhash

from node.adapters.durable import SharedSync, make_durable_folder, sync_folder, write_durably
from node.dicom.part10 import file_meta, start_of_data_set
from node.domain.arrival import Arrival, Fragment, InstanceIdentity, StoredInstance
from node.domain.errors import ResourceError, SetupError

INCOMING = ".incoming"
REJECTED = "rejected"
# So much at a time is handed to the disk while more arrives; the fsync at the end then has little left to wait for.
WRITE_BACK_BYTES = 128 * 1024
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
    writer
        Name of the process: what one left half written, its next start removes, and nobody else.
    minimum_free_gb
        Disk that must stay free, in 10⁹ bytes.

    Raises
    ------
    SetupError
        The folder cannot be made or written to.
    """

    def __init__(self, folder: Path, *, writer: str = "node", minimum_free_gb: float = 2.0) -> None:
        self._folder = folder
        self._incoming_folder = folder / INCOMING / writer
        self._minimum_free_bytes = int(minimum_free_gb * BYTES_PER_GB)
        # Series whose folder entry is durable -> instances in it, as far as this process knows.
        self._durable_series: dict[str, int] = {}
        self._syncs: dict[Path, SharedSync] = {}
        # Series -> (mtime, number of files) of folders whose mtime had settled when they were counted.
        self._counted: dict[str, tuple[int, int]] = {}
        try:
            for wanted in (self._incoming_folder, folder / REJECTED):
                make_durable_folder(wanted)
        except OSError as error:
            raise SetupError(
                f"The inbox {folder} cannot be made: {error.strerror}.", "Give another node.data_dir, or its rights."
            ) from error
        if not os.access(self._incoming_folder, os.W_OK | os.X_OK):
            raise SetupError(f"The inbox {folder} cannot be written to.", "Mend the rights of node.data_dir.")

    def remove_unfinished(self) -> int:
        """Remove what an earlier process of this name left half written: no success was said for it.

        For its start, before it writes. Gives the number of files.
        """
        unfinished = list(self._incoming_folder.glob("*.part"))
        for path in unfinished:
            path.unlink(missing_ok=True)
        return len(unfinished)

    def has_room_for(self, byte_count: int) -> bool:
        """Tell whether that many bytes can be stored and the free disk stays above the minimum."""
        return shutil.disk_usage(self._folder).free - byte_count >= self._minimum_free_bytes

    def takes_more_of(self, series_uid: str, most: int) -> bool:
        """Tell whether a series has fewer instances than that."""
        return self._instances_of(series_uid) < most

    def open(self, arrival: Arrival) -> "Part":
        """Begin to write an instance as a Part 10 file, in a place of its own.

        Raises
        ------
        ResourceError
            The disk did not take it; nothing is left behind.
        """
        try:
            return Part(self, self._incoming(), arrival)
        except FileNotFoundError:
            return self._open_anew(arrival)
        except OSError as error:
            raise _not_taken(error) from error

    def _open_anew(self, arrival: Arrival) -> "Part":
        """Begin once more where somebody removed the folder while we run."""
        try:
            make_durable_folder(self._incoming_folder)
            return Part(self, self._incoming(), arrival)
        except OSError as error:
            raise _not_taken(error) from error

    def _incoming(self) -> str:
        return f"{self._incoming_folder}/{uuid.uuid4().hex}.part"

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

    def keep(self, part: "Part", identity: InstanceIdentity) -> StoredInstance:
        """Give a synced part its name in its series, durably; for `Part.store`."""
        series_uid = identity.series_instance_uid
        folder = self.path(series_uid)
        self._make_series_folder(folder)
        stem = f"{identity.sop_instance_uid}.{part.digest}"
        name, was_there = next(self._names(folder, stem, part))
        if not was_there:
            os.rename(part.path, f"{folder}/{name}")  # noqa: PTH104 - a Path of each would cost a tenth of it all
            self._durable_series[series_uid] = self._instances_of(series_uid) + 1
        # Also where the file was there: the thread that renamed it may not have come to this line yet.
        self._sync(folder)
        return StoredInstance(
            series_instance_uid=series_uid,
            sop_instance_uid=identity.sop_instance_uid,
            file_name=name,
            was_there=was_there,
        )

    def keep_rejected(self, part: "Part", reason: str) -> None:
        """Give a synced part its name among the refused, with the reason beside it, durably; for `Part.reject`."""
        folder = self._folder / REJECTED
        make_durable_folder(folder)
        name, was_there = next(self._names(folder, part.digest, part))
        note = folder / f"{name.removesuffix('.dcm')}.reason.txt"
        if not was_there:
            os.rename(part.path, f"{folder}/{name}")  # noqa: PTH104
        if not note.exists():
            write_durably(note, reason.encode())
        self._sync(folder)

    @staticmethod
    def _names(folder: Path, stem: str, part: "Part") -> Iterator[tuple[str, bool]]:
        """Yield names for a part, each with whether the identical data set has it: the first that is free or ours."""
        for number in count():
            name = f"{stem}-{number}.dcm" if number else f"{stem}.dcm"
            path = f"{folder}/{name}"
            if not os.path.exists(path):  # noqa: PTH110
                yield name, False
            elif part.is_like(path):
                yield name, True

    def _instances_of(self, series_uid: str) -> int:
        known = self._durable_series.get(series_uid)
        return len(self.file_names(series_uid)) if known is None else known

    def _make_series_folder(self, folder: Path) -> None:
        # Not only where mkdir made it: a process killed between mkdir and fsync left an entry that is not durable.
        if folder.name in self._durable_series and os.path.isdir(folder):  # noqa: PTH112
            return
        folder.mkdir(exist_ok=True)
        self._sync(self._folder)
        if len(self._durable_series) >= MOST_SERIES_REMEMBERED:
            self._durable_series.clear()
            self._syncs.clear()
        self._durable_series[folder.name] = len(self.file_names(folder.name))

    def _sync(self, folder: Path) -> None:
        sync = self._syncs.get(folder)
        if sync is None:
            sync = self._syncs.setdefault(folder, SharedSync(lambda: sync_folder(folder)))
        sync()


class Part:
    """An instance that is being written: our File Meta Information (PS3.10 7.1), then the data set as it comes.

    For one thread. ``store``, ``reject`` and ``discard`` end it.
    """

    def __init__(self, inbox: Inbox, path: str, arrival: Arrival) -> None:
        self._inbox, self.path, self._arrival = inbox, path, arrival
        meta = file_meta(arrival)
        self._digest = xxhash.xxh3_64()
        # -1: gone.
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        self._start = self._size = len(meta)
        self._handed_to_disk = 0
        try:
            _write_all(self._descriptor, meta)
        except OSError:
            self.discard()
            raise

    @property
    def digest(self) -> str:
        """Give the digest of the data set."""
        return self._digest.hexdigest()

    def write(self, fragment: Fragment) -> None:
        """Append to the encoded data set.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        try:
            _write_all(self._descriptor, fragment)
        except OSError as error:
            raise _not_taken(error) from error
        self._size += len(fragment)
        self._digest.update(fragment)
        if self._size - self._handed_to_disk >= WRITE_BACK_BYTES:
            # Linux begins to write back what it is told that nobody needs; measured: 0.09 ms for the fsync of half a
            # megabyte instead of 0.35.
            length = self._size - self._handed_to_disk
            os.posix_fadvise(self._descriptor, self._handed_to_disk, length, os.POSIX_FADV_DONTNEED)
            self._handed_to_disk = self._size

    @contextmanager
    def data_set(self) -> Iterator[Fragment]:
        """Give the encoded data set as written so far, from the file: only what is looked at is in memory."""
        # Not closed here: the mapping goes with the last view of it.
        yield _mapped(self._descriptor, self._size)[self._start :]

    def is_like(self, path: str) -> bool:
        """Tell whether a stored file holds the same data set, whoever sent it to whom."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = _mapped(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        with self.data_set() as ours:
            return there[start_of_data_set(there) :] == ours

    def store(self, identity: InstanceIdentity) -> StoredInstance:
        """Make the instance durable under a name made of its UIDs and digest: on return it survives a power cut.

        Raises
        ------
        ResourceError
            The disk did not take it; nothing is left behind.
        """
        try:
            os.fsync(self._descriptor)
            return self._inbox.keep(self, identity)
        except OSError as error:
            raise _not_taken(error) from error
        finally:
            self.discard()

    def reject(self, reason: str) -> None:
        """Keep a refused data set and the reason, durable; the same data set again changes nothing.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        try:
            os.fsync(self._descriptor)
            self._inbox.keep_rejected(self, f"{reason}\nSent by {self._arrival.calling_ae_title}\n")
        except OSError as error:
            raise _not_taken(error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Keep nothing; does nothing where it was stored or discarded before."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        with suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108


def _mapped(descriptor: int, size: int) -> memoryview:
    return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)) if size else memoryview(b"")


def _write_all(descriptor: int, content: Fragment) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, memoryview(content)[written:])


def _not_taken(error: OSError) -> ResourceError:
    return ResourceError(f"The inbox did not take an instance: {error.strerror}.")
