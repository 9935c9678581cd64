"""Finished objects as files in the data folder, durable before anybody hears of them."""

import hashlib
from pathlib import Path

from node.adapters.durable import sync_folder, write_durably

RESULTS = "results"


def folder_of(job: str) -> str:
    """Name the folder of a job's results, below that of all results."""
    series_uid, rest = job.split("/", 1)
    return f"{series_uid}/{rest.replace('/', '-')}"


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
        folder = self._data_dir / RESULTS / folder_of(job)
        target = folder / name
        write_durably(target, written)
        # Also where an earlier process made the folders and ended before it could sync them.
        for parent in (folder.parent, folder.parent.parent, self._data_dir):
            sync_folder(parent)
        return {"path": str(target.relative_to(self._data_dir)), "sha256": hashlib.sha256(written).hexdigest()}
