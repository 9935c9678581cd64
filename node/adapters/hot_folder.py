"""A hot folder on disk: looked at, watched, and emptied by renaming.

    <folder>/...                                        what people and programs drop
    <folder>/.taking/<owner>/<drop>.<kind>.<starts>/    taken, by one rename each, and being read
    <folder>/rejected/...                               could not be taken in: each with a .reason.txt beside it

All on one file system, so that a rename is atomic: of two nodes on one folder one gets a file, the other finds nothing.
Nothing is followed that is a link. Names stay in the folder: they may hold a patient's.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import signal
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from node.adapters.durable import sync_shared_folder, write_durably
from node.domain.drops import REJECTED, TAKING, Entry, Names

# File systems whose every change goes through our kernel, so that it can tell of it. On others (NFS, SMB, FUSE) other
# machines write too, and the kernel answers the question for a lease by whether the server lent it the file.
LOCAL_FILE_SYSTEMS = (
    *("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "jfs", "ntfs3", "overlay", "ramfs"),
    *("reiserfs", "tmpfs", "vfat", "xfs", "zfs"),
)
_POLL_EVERY_S = 2.0
_CHECKED = ".checked-"
_BATCH = re.compile(r"[0-9a-f]{32}\.(whole|files)\.[0-9]+")
_LONGEST_NAME = 200

Kind = Literal["whole", "files"]


def lasting_owner(path: Path) -> str:
    """Give the name of this node among those that share a hot folder, the same at every start: kept in a file."""
    if not path.exists():
        write_durably(path, uuid.uuid4().hex.encode("ascii"))
    return path.read_text(encoding="ascii").strip()


class HotFolder:
    """The folder as one node sees it.

    Parameters
    ----------
    owner
        Names this node among those that share the folder; always the same, so that it finds again what it took.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._taking = folder / TAKING / owner
        self._is_local = False

    def lying(self) -> dict[str, frozenset[Entry]]:
        """Give every file below each name in the folder, without what is ours.

        A folder that cannot be read is given as if it were one file: `held_by_a_writer` says why it is not taken.

        Raises
        ------
        OSError
            The hot folder itself is not there or cannot be read.
        """
        # At every look: the share that was missing may be mounted now.
        self._is_local = is_local(self._folder)
        with os.scandir(self._folder) as entries:
            names = [one.name for one in entries if one.name not in (TAKING, REJECTED)]
        found = {}
        for name in names:
            try:
                found[name] = frozenset(_entries_below(self._folder, (name,)))
            except FileNotFoundError:  # taken away meanwhile
                continue
            except OSError:
                found[name] = frozenset([Entry(parts=(name,), size=0, modified_ns=0, inode=0)])
        return found

    def held_by_a_writer(self, name: str) -> str:
        """Say why a file or folder is not to be taken yet: somebody has it open for writing, or locked; else empty."""
        try:
            for entry in _entries_below(self._folder, (name,)):
                said = self._held(self._folder.joinpath(*entry.parts))
                if said:
                    return said
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return ""

    def _held(self, path: Path) -> str:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        descriptor = _open(path)  # a Windows server refuses this while a writer denies sharing
        try:
            return "is locked" if _is_locked(descriptor) else self._said_of_writers(descriptor)
        finally:
            os.close(descriptor)  # with its locks and its lease

    def _said_of_writers(self, descriptor: int) -> str:
        """Ask for a read lease, which is granted only on a file that nobody has open for writing (fcntl(2))."""
        if not self._is_local:
            return ""
        # Whoever opens it in that moment would have us killed by SIGIO otherwise.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        refused = _is_refused(lambda: fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK))
        return "is open for writing" if refused else ""

    @contextlib.contextmanager
    def open(self, parts: Sequence[str]) -> Iterator[BinaryIO]:
        """Open something that lies there for reading."""
        with os.fdopen(_open(self._folder.joinpath(*parts)), "rb") as file:
            yield file

    def take(self, names: Names, kind: Kind) -> dict[str, str]:
        """Move drops into a batch of our own; what another was quicker to take is left out.

        Returns
        -------
        What could not be moved, with the reason: another's, in a folder whose rights forbid it, or a mount.

        Raises
        ------
        OSError
            Nothing can be taken.
        """
        batch = self._taking / f"{uuid.uuid4().hex}.{kind}.0"
        batch.mkdir(parents=True)
        left = {}
        for name in names:
            try:
                (self._folder / name).rename(batch / name)
            except FileNotFoundError:
                continue
            except OSError as error:
                left[name] = f"cannot be moved ({error.strerror})"
        return left

    def batches(self) -> list["Batch"]:
        """Give what was taken and is not finished, also by an earlier process; the oldest first."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._taking) as entries:
            ours = [one for one in entries if _BATCH.fullmatch(one.name)]
            found = sorted((one.stat(follow_symlinks=False).st_mtime_ns, one.name) for one in ours)
            return [Batch(self._taking / name, self._folder / REJECTED) for _, name in found]
        return []

    def taken_by_others(self) -> int:
        """Count what other nodes took and have not finished."""
        batches = self._taking.parent.glob("*/*")
        return sum(_BATCH.fullmatch(one.name) is not None for one in batches if one.parent != self._taking)


class Batch:
    """What was taken in one go."""

    def __init__(self, folder: Path, rejected: Path) -> None:
        self._folder = folder
        self._rejected = rejected
        self.drop, kind, starts = folder.name.split(".")
        # Complete in itself, or files to which others may belong.
        self.whole = kind == "whole"
        # How often reading it was begun and not brought to an end.
        self.starts = int(starts)

    def begin(self) -> None:
        """Note, on disk, that reading it begins: a batch that brings its process down is known by that."""
        self._renamed_with(self.starts + 1)

    def pause(self) -> None:
        """Note that reading it ended in order, though not all could be taken in."""
        self._renamed_with(0)

    def _renamed_with(self, starts: int) -> None:
        drop, kind, _ = self._folder.name.split(".")
        self._folder = self._folder.rename(self._folder.with_name(f"{drop}.{kind}.{starts}"))
        self.starts = starts

    def files(self) -> list["TakenFile"]:
        """Give everything in it that is no folder, in the order of the names."""
        entries = sorted(_entries_below(self._folder, ()), key=lambda entry: entry.parts)
        return [
            TakenFile(self, number, entry.parts)
            for number, entry in enumerate(entries, start=1)
            if not entry.parts[0].startswith(_CHECKED)
        ]

    def path(self, parts: Sequence[str]) -> Path:
        """Give where something in it lies."""
        return self._folder.joinpath(*parts)

    def set_aside(self, parts: Sequence[str]) -> None:
        """Take a file out of ``files``; it goes with the batch's end."""
        self.path(parts).rename(self._folder / f"{_CHECKED}{uuid.uuid4().hex}")

    def explain(self, parts: Sequence[str], text: str) -> Path:
        """Write a ``.reason.txt`` for a file, durable; gives the place in `rejected/` where the file itself belongs.

        Where another drop has that place, it is in a folder of this drop's own. The same again changes nothing.

        Raises
        ------
        OSError
            It cannot be written.
        """
        last_line = f"Drop {self.drop}"
        for folder in (self._rejected, self._rejected / self.drop):
            place = folder.joinpath(*parts[:-1], _short(parts[-1]))
            note = place.with_name(f"{place.name}.reason.txt")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if not os.path.lexists(place):
                    _write_new(note, f"{text}\n{last_line}\n")
                    return place
            except (FileExistsError, NotADirectoryError):
                # Ours, if an earlier process was stopped before it could move the file.
                if note.is_file() and note.read_text(encoding="utf-8", errors="replace").endswith(f"{last_line}\n"):
                    return place
        raise FileExistsError(errno.EEXIST, "No place is left in rejected")

    def finish(self) -> None:
        """Remove the folders that are empty now, and the batch itself if nothing is left in it."""
        for checked in self._folder.glob(f"{_CHECKED}*"):
            checked.unlink()
        for folder, _, _ in os.walk(self._folder, topdown=False):
            with contextlib.suppress(OSError):  # not empty: what came meanwhile is taken in at the next look
                Path(folder).rmdir()


class TakenFile:
    """One file of a batch."""

    def __init__(self, batch: Batch, number: int, parts: tuple[str, ...]) -> None:
        self._batch = batch
        # From 1 within the batch: for the log, which must not hold names.
        self.number = number
        self.parts = parts

    @property
    def kind(self) -> Literal["file", "link", "other"]:
        """Tell what it is, without following it."""
        mode = self._path.lstat().st_mode
        return "file" if stat.S_ISREG(mode) else "link" if stat.S_ISLNK(mode) else "other"

    def stamp(self) -> tuple[int, ...]:
        """Give figures that change when it is written to."""
        now = self._path.lstat()
        return now.st_ino, now.st_size, now.st_mtime_ns

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it for reading."""
        with os.fdopen(_open(self._path), "rb") as file:
            yield file

    def remove(self) -> None:
        """Remove it: what it held is durable in the inbox."""
        self._path.unlink()

    def reject(self, reason: str) -> None:
        """Move it to `rejected/`, below the folders it was dropped in, with the reason beside it."""
        place = self._batch.explain(self.parts, reason)
        self._path.rename(place)
        sync_shared_folder(place.parent)

    def note(self, text: str, beside: str = "") -> None:
        """Leave a note about it in `rejected/`, where the file itself does not go."""
        self._batch.explain((*self.parts[:-1], f"{self.parts[-1]}{beside}"), text)

    def set_aside(self) -> None:
        """Let it go with the end of its batch."""
        self._batch.set_aside(self.parts)

    @property
    def _path(self) -> Path:
        return self._batch.path(self.parts)


def _entries_below(folder: Path, parts: tuple[str, ...]) -> Iterator[Entry]:
    """Give everything that is no folder at or below a place; an empty folder has nothing."""
    left = [parts]
    while left:
        parts = left.pop()
        now = folder.joinpath(*parts).lstat()
        if stat.S_ISDIR(now.st_mode):
            left += [(*parts, below.name) for below in folder.joinpath(*parts).iterdir()]
        else:
            yield Entry(parts=parts, size=now.st_size, modified_ns=now.st_mtime_ns, inode=now.st_ino)


def _short(name: str) -> str:
    """Give a name that has room for our endings within the 255 bytes of most file systems."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST_NAME else hashlib.sha256(encoded).hexdigest()


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_shared_folder(path.parent)


def _open(path: Path) -> int:
    # A link put there meanwhile is not followed, a pipe not waited for.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_locked(descriptor: int) -> bool:
    return _is_refused(lambda: fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)) or _is_refused(
        lambda: fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    )


def _is_refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except OSError as error:
        # Any other answer says that this file system, or we, cannot ask: stable size and time must do.
        return error.errno == errno.EAGAIN
    return False


# Watching ------------------------------------------------------------------------------------------------------------


def file_system_of(folder: Path, mounts: str) -> str:
    """Give the type of the file system that a folder is on.

    Parameters
    ----------
    mounts
        The contents of ``/proc/self/mounts`` (proc(5)): a mount hides those that stand before it.
    """
    found = ""
    longest = Path("/")
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        # fstab(5): blanks and the like as octal numbers.
        point = Path(fields[1].encode("latin-1", errors="replace").decode("unicode_escape"))
        if folder.is_relative_to(point) and point.is_relative_to(longest):
            found, longest = fields[2], point
    return found


def is_local(folder: Path) -> bool:
    """Tell whether every change in a folder goes through this machine's kernel."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return file_system_of(folder.resolve(), mounts) in LOCAL_FILE_SYSTEMS


class Watch:
    """Calls ``wake`` soon after something comes into a folder. Events get lost: look by yourself from time to time too.

    Only the folder itself is watched: what grows in the folders below it is looked at again anyway until it is stable.

    Raises
    ------
    OSError
        The folder is not there.
    """

    def __init__(self, folder: Path, *, polling: Literal["auto", "always"], wake: Callable[[], None]) -> None:
        must_poll = polling == "always" or not is_local(folder)
        handler = _Waker(wake)
        try:
            self._observer = _observer(handler, folder, PollingObserver if must_poll else Observer)
        except OSError:
            if must_poll or not folder.is_dir():
                raise
            # The kernel's limit of watches is reached.
            must_poll, self._observer = True, _observer(handler, folder, PollingObserver)
        # For the log.
        self.how = "polling" if must_poll else "inotify"

    def stop(self) -> None:
        """Watch no more."""
        self._observer.stop()


class _Waker(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if not {TAKING, REJECTED} & {Path(os.fsdecode(event.src_path)).name, Path(os.fsdecode(event.dest_path)).name}:
            self._wake()


def _observer(handler: FileSystemEventHandler, folder: Path, kind: Callable[..., BaseObserver]) -> BaseObserver:
    observer = kind(timeout=_POLL_EVERY_S) if kind is PollingObserver else kind()
    # Not those of files being opened: our own looks make them.
    wanted = [FileCreatedEvent, FileMovedEvent, FileClosedEvent, DirCreatedEvent, DirMovedEvent]
    observer.schedule(handler, str(folder), recursive=False, event_filter=list[type[FileSystemEvent]](wanted))
    observer.daemon = True
    observer.start()
    return observer
