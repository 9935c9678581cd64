"""Files and folders that survive a power cut: the order of write, fsync, rename and fsync of the folder."""

import errno
import os
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
