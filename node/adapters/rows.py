"""What every part of the ledger stands on: transactions whose faults say whose turn it is, and rows as dictionaries."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from node.adapters.migrations import migrate
from node.domain.errors import SetupError, StorageError

# Enqueues work within the caller's transaction: (connection, queue, arguments).
Enqueue = Callable[[sa.Connection], None]
Row = dict[str, Any]

# What a database says that is gone, restarts, is locked or full, or was made read-only: never that a value is wrong.
_PASSING = (sa.exc.OperationalError, sa.exc.InternalError, sa.exc.InterfaceError)


class Rows:
    """The node's tables behind plain methods; every method of the classes that derive from it is one transaction.

    Parameters
    ----------
    database
        The open database; tables are made where they are missing, and brought to this version.
    now
        The clock, seconds since the epoch.
    worker
        Who asks: the name under which jobs are begun.

    Raises
    ------
    SetupError
        A later version of Delineate made the tables.
    StorageError
        The database cannot be used just now.
    """

    def __init__(self, database: sa.Engine, *, now: Callable[[], float] = time.time, worker: str = "") -> None:
        self._database = database
        self._now = now
        self._worker = worker
        with self._transaction() as connection:
            migrate(connection)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """Give a connection within a transaction.

        Raises
        ------
        StorageError
            The database is locked for too long or gone, or its disk is full or failed: the work is to be tried again.
        SetupError
            The database's file is damaged.
        """
        try:
            with self._database.begin() as connection:
                yield connection
        except _PASSING as error:
            # The database's own words, of which the first line never quotes a value.
            said = str(error.orig).strip().partition("\n")[0]
            raise StorageError(f"The node's database cannot be used: {said}.") from error
        except sa.exc.DatabaseError as error:
            if type(error) is not sa.exc.DatabaseError:  # a fault of ours
                raise
            raise SetupError(
                f"The node's database is damaged ({error.orig}).",
                "Stop the node and start it again: it says what to do.",
            ) from error
        except sa.exc.TimeoutError as error:
            raise StorageError("The node's database cannot be used: every connection to it is taken.") from error

    def _rows(self, query: sa.Select[Any]) -> list[Row]:
        with self._transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
