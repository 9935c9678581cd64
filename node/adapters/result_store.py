"""Finished objects as files in the data folder, durable before anybody hears of them."""

import hashlib
import os
from pathlib import Path


class ResultStore:
    """Keeps ``results/<series>/<fingerprint-model-run>/<name>`` under the data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def write(self, job: str, name: str, written: bytes) -> dict[str, str]:
        """Store bytes durably: file, sync, rename, sync of the folder.

        Returns
        -------
        ``path`` relative to the data folder, and ``sha256``.
        """
        series_uid, rest = job.split("/", 1)
        folder = self._data_dir / "results" / series_uid / rest.replace("/", "-")
        target = folder / name
        write_durably(target, written)
        for parent in (folder.parent, folder.parent.parent, self._data_dir):
            sync_folder(parent)
        return {"path": str(target.relative_to(self._data_dir)), "sha256": hashlib.sha256(written).hexdigest()}


def write_durably(target: Path, written: bytes) -> None:
    """Store bytes so that after a power cut the file is there whole, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
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
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
