"""Finished objects as files in the data folder, durable before anybody hears of them."""

import hashlib
from pathlib import Path

from node.adapters.disk import free_bytes
from node.adapters.durable import sync_folder, write_durably
from node.domain.errors import StorageError

RESULTS = "results"


def folder_of(job: str) -> str:
    """Name the folder of a job's results, below that of all results."""
    series_uid, rest = job.split("/", 1)
    return f"{series_uid}/{rest.replace('/', '-')}"


class ResultStore:
    """Keeps ``results/<series>/<fingerprint-model-run>/<name>`` under the data folder.

    Parameters
    ----------
    minimum_free_gb
        Disk below which no instance is received, in 10⁹ bytes. Results may take half of it: the other half is the
        database's, without which nothing goes on.
    """

    def __init__(self, data_dir: Path, *, minimum_free_gb: float = 0.0) -> None:
        self._data_dir = data_dir
        self._reserve = minimum_free_gb * 1e9 / 2

    def require_room(self, byte_count: int = 0) -> None:
        """Refuse where the disk has no room for so many bytes.

        Raises
        ------
        StorageError
            With what is free, and what must be.
        """
        free = free_bytes(self._data_dir)
        if free - byte_count < self._reserve:
            raise StorageError(
                f"The disk is low: {free / 1e9:.2f} GB are free; results leave {self._reserve / 1e9:.2f} GB to the "
                "database. It goes on when there is room."
            )

    def write(self, job: str, name: str, written: bytes) -> dict[str, str]:
        """Store bytes durably: file, sync, rename, sync of the folder.

        Returns
        -------
        ``path`` relative to the data folder, and ``sha256``.

        Raises
        ------
        StorageError
            The disk did not take it.
        """
        self.require_room(len(written))
        try:
            target = self._write(job, name, written)
        except OSError as error:
            raise StorageError(f"The disk did not take a result: {error.strerror}.") from error
        return {"path": str(target.relative_to(self._data_dir)), "sha256": hashlib.sha256(written).hexdigest()}

    def remove(self, path: str) -> None:
        """Remove what ``write`` stored at that path."""
        (self._data_dir / path).unlink(missing_ok=True)

    def _write(self, job: str, name: str, written: bytes) -> Path:
        folder = self._data_dir / RESULTS / folder_of(job)
        target = folder / name
        write_durably(target, written)
        # Also where an earlier process made the folders and ended before it could sync them.
        for parent in (folder.parent, folder.parent.parent, self._data_dir):
            sync_folder(parent)
        return target
