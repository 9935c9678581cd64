"""Files and folders that survive a power cut: the order of write, fsync, rename and fsync of the folder."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path


def write_durably(target: Path, written: bytes) -> None:
    """Store bytes so that after a power cut the file is there whole, or not at all."""
    make_durable_folder(target.parent)
    write_whole(target, written)
    sync_folder(target.parent)


def write_whole(target: Path, written: bytes) -> None:
    """Store bytes in a folder that is there: the file is there whole, or not at all; its name is not yet durable."""
    partial = target.with_name(f".{target.name}.part")
    try:
        with partial.open("wb") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
    finally:
        # Gone by then, unless the disk is full or a person stopped us.
        partial.unlink(missing_ok=True)


def make_durable_folder(folder: Path) -> None:
    """Make a folder and its parents where they are absent; every one made survives a power cut."""
    absent = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in absent:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_shared_folder(folder: Path) -> None:
    """Make a folder's entries durable as far as its file system can: some of network shares sync files only."""
    try:
        sync_folder(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise


class SharedSync:
    """One fsync for all threads that ask for it at the same time.

    A call returns after an fsync that began when the call had been made, whoever made that fsync: several associations
    that finish instances of one series share the commits of its folder.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._begun = self._done = 0
        self._running = False

    def __call__(self, sync: Callable[[], None]) -> None:
        """Sync, or wait for somebody who does; everybody's ``sync`` does the same.

        Raises
        ------
        OSError
            Our own fsync failed; somebody else's failure is not taken for ours.
        """
        with self._turn:
            mine = self._begun + 1
            while self._done < mine:
                if self._running:
                    self._turn.wait()
                else:
                    self._run(sync)

    def _run(self, sync: Callable[[], None]) -> None:
        self._running = True
        self._begun += 1
        number = self._begun
        self._turn.release()
        done = False
        try:
            sync()
            done = True
        finally:
            self._turn.acquire()
            self._running = False
            if done:
                self._done = number
            self._turn.notify_all()
