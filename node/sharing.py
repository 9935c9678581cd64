"""Looks after what all processes of a node share: the data folder, and the database's file in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.adapters.database import DatabaseFile
from node.adapters.disk import Folder
from node.adapters.processes import Look


class SharedFiles:
    """The supervisor's look at the data folder and the database's file.

    Parameters
    ----------
    database
        Its file; None where a server has it.
    log
        Called with the event's name and its fields, once for each change.
    """

    def __init__(self, data_dir: Path, database: Path | None, log: Callable[..., Any]) -> None:
        self._folder = Folder(data_dir)
        self._file = None if database is None else DatabaseFile(database)
        self._log = log
        self._is_here = True
        # Why everything is begun anew.
        self.reason = ""

    def look(self) -> Look:
        """Look once.

        While the data folder is gone, a share that is not mounted for one, instances are refused and no process is
        started: it would make another folder in its place. Without the database's file alone all begin anew, with a
        new one: what is in the inbox is judged again.
        """
        is_here = self._folder.is_here()
        if is_here != self._is_here:
            self._is_here = is_here
            self._log("data folder is back" if is_here else "data folder is gone: instances are refused")
        if not is_here:
            return "wait"
        self.reason = self._file.why_gone() if self._file is not None else ""
        if self.reason:
            self._log("database lost: the node begins anew with a new one", reason=self.reason)
        return "anew" if self.reason else "fine"
