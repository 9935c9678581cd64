"""How much of the disk is free, and how much of it a folder holds."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


class Folder:
    """A folder, to be known again: a share that is gone leaves another folder in its place, or none.

    Parameters
    ----------
    path
        Must be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Not its device, which may have another number when a share is mounted again.
        self._was = path.stat().st_ino

    def is_here(self) -> bool:
        """Tell whether the path leads to the same folder still."""
        try:
            return self._path.stat().st_ino == self._was
        except OSError:
            return False


def free_bytes(folder: Path) -> int:
    """Give the bytes that are free on the disk of a folder, or of the nearest folder above that is there."""
    return shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists())).free


def held_bytes(folder: Path) -> int:
    """Add up the files below a folder, by their sizes; what vanishes meanwhile does not count."""
    held = 0
    below = [folder]
    while below:
        with suppress(FileNotFoundError), os.scandir(below.pop()) as entries:
            for one in entries:
                with suppress(FileNotFoundError):
                    if one.is_dir(follow_symlinks=False):
                        below.append(Path(one.path))
                    else:
                        held += one.stat(follow_symlinks=False).st_size
    return held


class DataDisk:
    """The disk of the data folder, and what of it the node holds."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def free(self) -> int:
        """Give the bytes that are free."""
        return free_bytes(self._data_dir)

    def held(self) -> dict[str, int]:
        """Give the bytes of images, results and refused data sets."""
        inbox = self._data_dir / "inbox"
        rejected = held_bytes(inbox / "rejected")
        return {
            "images": held_bytes(inbox) - rejected,
            "results": held_bytes(self._data_dir / "results"),
            "rejected": rejected,
        }
