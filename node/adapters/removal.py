"""Removing folders in two steps, each durable and each done again without harm.

    <root>/<name>                  in use
    <root>/.removed/<name>         set aside: it can be put back
    <root>/.removed/<name>.gone    being deleted: nothing of it is ever put back

So a folder that is half deleted is never taken for one in use. Slashes of a name are ``~`` once it is set aside.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from node.adapters.disk import held_bytes
from node.adapters.durable import make_durable_folder, sync_folder

REMOVED = ".removed"
_GONE = ".gone"
_NOTE = ".reason.txt"


class Shelf:
    """The folders below ``root``, in use or set aside.

    Every method raises OSError where the disk does not do as it is told.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root / REMOVED

    def is_there(self, name: str) -> bool:
        """Tell whether a folder of that name is in use."""
        return (self._root / name).is_dir()

    def file_names(self, name: str) -> list[str]:
        """Name the files in a folder in use, sorted; none where there is no such folder."""
        return _names_in(self._root / name)

    def held(self, name: str) -> int:
        """Give the bytes that a folder in use holds."""
        return held_bytes(self._root / name)

    def set_aside(self, name: str) -> None:
        """Take a folder out of use; does nothing where there is none."""
        source, target = self._root / name, self._of(name)
        if not source.is_dir():
            return
        make_durable_folder(self._aside)
        if target.is_dir():  # set aside before, and sent again since
            _move_all(source, target)
        else:
            source.rename(target)
            sync_folder(self._aside)
        sync_folder(source.parent)

    def aside(self) -> list[str]:
        """Name the folders that are set aside and can be put back, sorted."""
        return sorted(one.replace("~", "/") for one in _names_in(self._aside) if not one.endswith(_GONE))

    def file_names_aside(self, name: str) -> list[str]:
        """Name the files in a folder that is set aside, sorted."""
        return _names_in(self._of(name))

    def held_aside(self) -> int:
        """Give the bytes that all holds that is set aside."""
        return held_bytes(self._aside)

    def put_back(self, name: str) -> None:
        """Take a folder into use again; what came meanwhile under the same file name is the same, and stays."""
        target = self._root / name
        make_durable_folder(target)
        _move_all(self._of(name), target)

    def delete(self, name: str) -> None:
        """Delete a folder that is set aside, for good; does nothing where there is none."""
        if not self._of(name).is_dir():
            return
        gone = self._aside / f"{self._of(name).name}{_GONE}"
        if gone.is_dir():  # of an earlier removal that did not come to its end
            shutil.rmtree(gone)
        self._of(name).rename(gone)
        shutil.rmtree(gone)
        with suppress(OSError):  # of results: others of the same series may be there
            (self._root / name).parent.rmdir()

    def delete_gone(self) -> None:
        """Delete what a process before this one began to delete."""
        for name in _names_in(self._aside):
            if name.endswith(_GONE):
                shutil.rmtree(self._aside / name)

    def _of(self, name: str) -> Path:
        return self._aside / name.replace("/", "~")


def _names_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries)
    except FileNotFoundError:
        return []


def _move_all(source: Path, target: Path) -> None:
    for name in _names_in(source):
        if (target / name).exists():
            (source / name).unlink()
        else:
            (source / name).rename(target / name)
    sync_folder(target)
    source.rmdir()
    sync_folder(source.parent)


class RejectedFiles:
    """Data sets that were refused and kept, each beside its reason."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def kept(self) -> Iterator[tuple[str, float]]:
        """Give the file name of each, and since when it is there."""
        with os.scandir(self._folder) as entries:
            for one in entries:
                if not one.name.endswith(_NOTE):
                    with suppress(FileNotFoundError):
                        yield one.name, one.stat().st_mtime

    def remove(self, file_name: str) -> int:
        """Remove one with its reason; gives the bytes that it held."""
        path = self._folder / file_name
        with suppress(FileNotFoundError):
            held = path.stat().st_size
            path.unlink()
            (self._folder / f"{file_name.removesuffix('.dcm')}{_NOTE}").unlink(missing_ok=True)
            return held
        return 0
