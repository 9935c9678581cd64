"""The inbox: received instances as files, durable before success is said.

    <folder>/<Series Instance UID>/<SOP Instance UID>.<digest>.dcm   received
    <folder>/rejected/<digest>.dcm and <digest>.reason.txt          refused
    <folder>/.incoming/<writer>/<random>.part                       being written
    <folder>/.removed/<Series Instance UID>                         set aside by whoever removes it (see `removal`)

``digest`` is the XXH3 of the data set in 16 hexadecimal digits. So the same data set sent again is the same file, and
another data set under the same SOP Instance UID is another file: nothing is ever overwritten. The digest only makes a
name; whether two files are the same is decided by comparing them.
"""

import errno
import mmap
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import xxhash

from node.adapters.disk import Folder, free_bytes
from node.adapters.durable import SharedSync, make_durable_folder, sync_folder, write_durably
from node.dicom.part10 import file_meta, start_of_data_set
from node.domain.arrival import Arrival, Fragment, InstanceIdentity, Readable, StoredInstance
from node.domain.errors import ResourceError, SetupError

INCOMING = ".incoming"
REJECTED = "rejected"
# So much at a time is handed to the disk while more arrives; the fsync at the end then has little left to wait for.
WRITE_BACK_BYTES = 256 * 1024
# Of each data set; the elements before the pixels of any image lie within.
BEGINNING_BYTES = 16 * 1024
BYTES_PER_GB = 10**9
# Series of which the names are remembered and the folder is open; the others are looked at again.
MOST_OPEN_SERIES = 64
FORGET_SERIES_AFTER_S = 5.0
# A file system is not asked for its free bytes at every instance.
LOOK_AT_DISK_EVERY_S = 0.2
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
        # Series that were written to lately, the latest last.
        self._open_series: OrderedDict[str, _OpenSeries] = OrderedDict()
        self._lock = threading.Lock()
        self._numbers = count()
        # When the free disk was looked at, and how much there was.
        self._looked_at, self._free_bytes = -1.0, 0
        # Series -> (mtime, number of files) of folders whose mtime had settled when they were counted.
        self._counted: dict[str, tuple[int, int]] = {}
        try:
            for wanted in (folder / INCOMING, folder / REJECTED):
                make_durable_folder(wanted)
        except OSError as error:
            raise SetupError(
                f"The inbox {folder} cannot be made: {error.strerror}.", "Give another node.data_dir, or its rights."
            ) from error
        # What is stored while the data folder is not mounted would be hidden when it is again.
        self._home = Folder(folder.parent)
        if not os.access(folder / INCOMING, os.W_OK | os.X_OK):
            raise SetupError(f"The inbox {folder} cannot be written to.", "Mend the rights of node.data_dir.")

    def remove_unfinished(self) -> int:
        """Remove what an earlier process of this name left half written: no success was said for it.

        For its start, before it writes. Gives the number of files.
        """
        make_durable_folder(self._incoming_folder)
        unfinished = list(self._incoming_folder.glob("*.part"))
        for path in unfinished:
            path.unlink(missing_ok=True)
        return len(unfinished)

    def has_room_for(self, byte_count: int) -> bool:
        """Tell whether that many bytes can be stored and the free disk stays above the minimum.

        Not where the data folder is gone.
        """
        now = time.monotonic()
        if not 0 <= now - self._looked_at < LOOK_AT_DISK_EVERY_S:
            self._free_bytes, self._looked_at = free_bytes(self._folder) if self._home.is_here() else -1, now
        return self._free_bytes - byte_count >= self._minimum_free_bytes

    def takes_more_of(self, series_uid: str, most: int) -> bool:
        """Tell whether a series has fewer instances than that."""
        return len(self._series(series_uid).names) < most

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
        """Begin once more where this is the first, or somebody removed the folder while we run."""
        try:
            self._require_home()
            make_durable_folder(self._incoming_folder)
            return Part(self, self._incoming(), arrival)
        except OSError as error:
            raise _not_taken(error) from error

    def _incoming(self) -> str:
        return f"{self._incoming_folder}/{os.getpid()}-{next(self._numbers)}.part"

    def stamps(self) -> dict[str, str]:
        """Give every series with at least one instance, by its UID, sorted, with a text that changes with every other.

        Of the folder's mtime and its number of files: two that were added within one tick of the file system's clock
        leave the same mtime. The same after a restart.
        """
        found = {}
        try:
            with os.scandir(self._folder) as entries:
                for one in entries:
                    if one.name[0].isdigit() and one.is_dir():
                        with suppress(FileNotFoundError):  # removed meanwhile
                            found[one.name] = one.stat().st_mtime_ns
        except FileNotFoundError:  # somebody removed the folder while we run: the next instance makes it anew
            return {}
        counts = {name: self._counted_at(name, changed_ns) for name, changed_ns in sorted(found.items())}
        return {name: f"{found[name]}-{count}" for name, count in counts.items() if count}

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

    def _counted_at(self, series_uid: str, changed_ns: int) -> int:
        """Give the number of files in a series' folder that was changed last then."""
        counted = self._counted.get(series_uid)
        if counted is None or counted[0] != changed_ns:
            settled = time.time_ns() - changed_ns > MTIME_SETTLED_NS
            counted = changed_ns, len(self.file_names(series_uid))
            if settled:
                self._counted[series_uid] = counted
        return counted[1]

    def keep(self, part: "Part", identity: InstanceIdentity) -> StoredInstance:
        """Give a synced part its name in its series, durably; for `Part.store`."""
        self._require_home()
        series = self._series(identity.series_instance_uid)
        if not series.is_open:
            self._make_durable(series)
        stem = f"{identity.sop_instance_uid}.{part.digest}"
        name, was_there = _name_for(part, series.folder, stem, series.names.__contains__)
        if not was_there:
            self._rename(part, series, name)
            series.names.add(name)
        # Also where the file was there: the thread that renamed it may not have come to this line yet.
        series.sync()
        return StoredInstance(
            series_instance_uid=identity.series_instance_uid,
            sop_instance_uid=identity.sop_instance_uid,
            file_name=name,
            was_there=was_there,
        )

    def _rename(self, part: "Part", series: "_OpenSeries", name: str) -> None:
        try:
            os.rename(part.path, f"{series.folder}/{name}")  # noqa: PTH104 - a Path of each would cost a tenth of it all
        except FileNotFoundError:  # somebody removed the folder while we run
            series.is_open = False
            self._make_durable(series)
            os.rename(part.path, f"{series.folder}/{name}")  # noqa: PTH104

    def keep_rejected(self, part: "Part", reason: str) -> None:
        """Give a synced part its name among the refused, with the reason beside it, durably; for `Part.reject`."""
        self._require_home()
        folder = self._folder / REJECTED
        make_durable_folder(folder)
        name, was_there = _name_for(part, str(folder), part.digest, lambda name: (folder / name).exists())
        note = folder / f"{name.removesuffix('.dcm')}.reason.txt"
        if not was_there:
            os.rename(part.path, f"{folder}/{name}")  # noqa: PTH104
        if not note.exists():
            write_durably(note, reason.encode())
        sync_folder(folder)

    def _require_home(self) -> None:
        if not self._home.is_here():
            raise FileNotFoundError(errno.ENOENT, "the data folder is gone")

    def _series(self, series_uid: str) -> "_OpenSeries":
        now = time.monotonic()
        with self._lock:
            series = self._open_series.get(series_uid)
            if series is None:
                series = _OpenSeries(self.path(series_uid), set(self.file_names(series_uid)))
                self._open_series[series_uid] = series
            series.used_at = now
            self._open_series.move_to_end(series_uid)
            while len(self._open_series) > MOST_OPEN_SERIES or now - self._longest_unused > FORGET_SERIES_AFTER_S:
                self._open_series.popitem(last=False)
            return series

    @property
    def _longest_unused(self) -> float:
        return next(iter(self._open_series.values())).used_at

    def _make_durable(self, series: "_OpenSeries") -> None:
        with self._lock:
            if series.is_open:
                return
            # Also where it is there: a process killed between mkdir and fsync left an entry that is not durable.
            Path(series.folder).mkdir(exist_ok=True)
            sync_folder(self._folder)
            series.open()


class _OpenSeries:
    """A series' folder while instances come: what is in it, and one sync for all who wait."""

    def __init__(self, folder: Path, names: set[str]) -> None:
        self.folder = str(folder)
        self.names = names
        self._shared = SharedSync()
        self.used_at = 0.0
        # Whether the folder is open, and its own entry durable.
        self.is_open = False
        self._file: _Folder | None = None

    def open(self) -> None:
        """Open the folder, whose entry is durable now."""
        self._file = _Folder(self.folder)
        self.is_open = True

    def sync(self) -> None:
        """Make the folder's entries durable."""
        self._shared(self._sync)

    def _sync(self) -> None:
        file = self._file
        assert file is not None
        if not file.is_at(self.folder):  # removed or set aside, and made anew by somebody else
            file = self._file = _Folder(self.folder)
        os.fsync(file.descriptor)


class _Folder:
    """A descriptor that is closed when nobody needs it any more, and not while somebody syncs it."""

    def __init__(self, folder: str) -> None:
        self.descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._here = os.fstat(self.descriptor)

    def is_at(self, folder: str) -> bool:
        """Tell whether this is the folder of that name; also where none is: what was set aside can be synced there."""
        try:
            return os.path.samestat(os.stat(folder), self._here)  # noqa: PTH116 - a Path would cost as much again
        except FileNotFoundError:
            return True

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # else it could not be opened
            os.close(self.descriptor)


def _name_for(part: "Part", folder: str, stem: str, is_taken: Callable[[str], bool]) -> tuple[str, bool]:
    """Give the first name that is free, or that the identical data set has; and whether it has."""
    for number in count():
        name = f"{stem}-{number}.dcm" if number else f"{stem}.dcm"
        if not is_taken(name):
            return name, False
        try:
            if part.is_like(f"{folder}/{name}"):
                return name, True
        except FileNotFoundError:  # somebody removed it
            return name, False
    raise AssertionError("there are always further numbers")


class Part:
    """An instance that is being written: our File Meta Information (PS3.10 7.1), then the data set as it comes.

    For one thread. ``store``, ``reject`` and ``discard`` end it. Every system call here is one that each instance
    pays for, twice where several threads want the interpreter's lock back.
    """

    def __init__(self, inbox: Inbox, path: str, arrival: Arrival) -> None:
        self._inbox, self.path, self._arrival = inbox, path, arrival
        # Written together with the first fragments.
        self._meta = file_meta(arrival)
        self._start = self._size = len(self._meta)
        self._beginning = b""
        self._digest = xxhash.xxh3_64()
        self._handed_to_disk = 0
        # -1: gone.
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)

    @property
    def digest(self) -> str:
        """Give the digest of the data set."""
        return self._digest.hexdigest()

    def write(self, *fragments: Fragment) -> None:
        """Append to the encoded data set.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        try:
            self._append(fragments)
        except OSError as error:
            raise _not_taken(error) from error
        for fragment in fragments:
            self._size += len(fragment)
            self._digest.update(fragment)
            if len(self._beginning) < BEGINNING_BYTES:
                self._beginning += bytes(fragment[: BEGINNING_BYTES - len(self._beginning)])
        if self._size - self._handed_to_disk >= WRITE_BACK_BYTES:
            # Linux begins to write back what it is told that nobody needs; measured: 0.09 ms for the fsync of half a
            # megabyte instead of 0.35.
            length = self._size - self._handed_to_disk
            os.posix_fadvise(self._descriptor, self._handed_to_disk, length, os.POSIX_FADV_DONTNEED)
            self._handed_to_disk = self._size

    def _append(self, fragments: Sequence[Fragment]) -> None:
        pieces = (self._meta, *fragments) if self._meta else fragments
        wanted = sum(map(len, pieces))
        written = os.writev(self._descriptor, pieces)
        if written < wanted:
            _write_all(self._descriptor, b"".join(pieces)[written:])
        self._meta = b""

    def data_set(self) -> Readable:
        """Give the encoded data set as written so far: its beginning from memory, the rest from the file."""
        return _Written(self._beginning, self._descriptor, self._start, self._size - self._start)

    def is_like(self, path: str) -> bool:
        """Tell whether a stored file holds the same data set, whoever sent it to whom."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            there, ours = _mapped(descriptor, os.fstat(descriptor).st_size), _mapped(self._descriptor, self._size)
        finally:
            os.close(descriptor)
        return there[start_of_data_set(there) :] == ours[self._start :]

    def store(self, identity: InstanceIdentity) -> StoredInstance:
        """Make the instance durable under a name made of its UIDs and digest: on return it survives a power cut.

        Raises
        ------
        ResourceError
            The disk did not take it; nothing is left behind.
        """
        try:
            os.fsync(self._descriptor)
            stored = self._inbox.keep(self, identity)
        except OSError as error:
            raise _not_taken(error) from error
        else:
            if not stored.was_there:
                self._close()
            return stored
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
            self._append(())
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
        self._close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


class _Written:
    """A data set in a file, of which the beginning is in memory: there lies what is asked of an image."""

    def __init__(self, beginning: bytes, descriptor: int, start: int, length: int) -> None:
        self._beginning, self._descriptor, self._start, self._length = beginning, descriptor, start, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: slice) -> bytes:
        start, stop = place.start, min(place.stop, self._length)
        if stop <= len(self._beginning):
            return self._beginning[start:stop]
        return os.pread(self._descriptor, max(stop - start, 0), self._start + start)


def _mapped(descriptor: int, size: int) -> memoryview:
    return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)) if size else memoryview(b"")


def _write_all(descriptor: int, content: Fragment) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, memoryview(content)[written:])


def _not_taken(error: OSError) -> ResourceError:
    return ResourceError(f"The inbox did not take an instance: {error.strerror}.")
