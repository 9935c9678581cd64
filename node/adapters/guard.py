"""Who lives, where several machines work on one PostgreSQL database.

Every process holds a lock of its name on the server for as long as it lives, on a connection of its own: it is free
the moment the process dies, and 20 s after its machine is lost (the connections' keepalive, see `database`). A table
says who there is. Who takes the lock of a process that is in the table acts in its place.

A process that is frozen while its machine answers keeps its lock; it is known by the time at which it was seen last,
and its connection is ended.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.adapters import tables
from node.domain.errors import ResourceError, SetupError

_BEAT_S = 2.0
# A process that was seen so lately is connecting again, or its supervisor starts it anew: both take seconds.
_DEAD_AFTER_S = 8.0
# After a start of the server everybody has so long to come back.
_COMES_BACK_WITHIN_S = 10.0
# A beat needs no more than the interpreter and the server, a moment of each; this is far beyond any load.
_FROZEN_AFTER_S = 120.0
_TRY_AGAIN_S = 0.5

# pg_locks shows the two halves of a lock's number.
_HOLDERS = sa.text(
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND ((classid::bigint << 32) | objid::bigint) = hashtextextended(:lock, 0)"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_UP_FOR_S = sa.text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")

# The lock of the one process that leads.
_LEADER = "delineate leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process of the node."""

    # Unique among all machines.
    name: str
    machine: str
    role: str
    # 0: it ended in order.
    pid: int


class Guard:
    """One process' own side: holds its lock and says that it lives.

    Parameters
    ----------
    lost
        Called once, from a thread, when the lock of the leader was lost.
    """

    def __init__(self, database: sa.Engine, member: Member, *, lost: Callable[[], None]) -> None:
        self._database = database
        self._member = member
        self._lost = lost
        self._doing = ""
        self._leads = False
        self._connection: sa.Connection | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, daemon=True)

    def take(self, *, wait_s: float) -> None:
        """Take the lock of this process' name, and keep it.

        Raises
        ------
        SetupError
            Another process holds it still after that time.
        ResourceError
            The server cannot be used.
        """
        until = time.monotonic() + wait_s
        while not self._connect():
            if time.monotonic() > until:
                raise SetupError(
                    f"{self._member.name} is already running on this database.",
                    "Stop the other one, or give each machine its own name (node.machine).",
                )
            time.sleep(_TRY_AGAIN_S)
        self._thread.start()

    def lead(self) -> bool:
        """Try to be the one process that leads; holds until the process ends or ``lost`` is called."""
        with self._lock:
            try:
                self._leads = self._connection is not None and _try_lock(self._connection, _LEADER)
            except sa.exc.SQLAlchemyError:
                self._drop()
            return self._leads

    def say(self, doing: str) -> None:
        """Say what this process does; shown from the next beat on."""
        self._doing = doing

    def close(self) -> None:
        """Let go: what this process left is anybody's, and no fault of it."""
        self._ended.set()
        with self._lock, suppress(sa.exc.SQLAlchemyError):
            if self._connection is not None:
                self._write(self._connection, pid=0)
                self._drop()

    def _connect(self) -> bool:
        """Connect, and take the lock; tells whether it was free."""
        try:
            connection = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
            if not _try_lock(connection, lock_of(self._member.name)):
                connection.close()
                return False
            # A beat that a crash of the server loses is no loss.
            connection.exec_driver_sql("SET synchronous_commit = off")
            self._write(connection, pid=self._member.pid)
        except sa.exc.SQLAlchemyError as error:
            raise ResourceError(f"The node's database cannot be used: {first_line(error)}.") from error
        self._connection = connection
        return True

    def _drop(self) -> None:
        """Close the connection for good, not back into the pool: the locks go with it."""
        if self._connection is not None:
            _end_session(self._connection)
            self._connection = None

    def _write(self, connection: sa.Connection, *, pid: int) -> None:
        # Always as a whole: who was taken for dead is there again.
        member = self._member
        values = {
            "machine": member.machine,
            "role": member.role,
            "pid": pid,
            "seen_at": tables.SERVER_NOW,
            "doing": self._doing,
        }
        connection.execute(
            tables.insert(connection, tables.worker)
            .values(name=member.name, started_at=tables.SERVER_NOW, **values)
            .on_conflict_do_update(index_elements=["name"], set_=values)
        )

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(_BEAT_S if self._connection is not None else _TRY_AGAIN_S):
            with self._lock, suppress(ResourceError):
                self._beat()

    def _beat(self) -> None:
        if self._ended.is_set():
            return
        if self._connection is None:
            self._connect()
            return
        try:
            self._write(self._connection, pid=self._member.pid)
        except sa.exc.SQLAlchemyError:
            self._drop()
            if self._leads:
                self._leads = False
                self._lost()


class Peers:
    """The others, as the leader sees them."""

    def __init__(
        self,
        database: sa.Engine,
        *,
        dead_after_s: float = _DEAD_AFTER_S,
        frozen_after_s: float = _FROZEN_AFTER_S,
        comes_back_within_s: float = _COMES_BACK_WITHIN_S,
    ) -> None:
        self._database = database
        self._dead_after_s = dead_after_s
        self._frozen_after_s = frozen_after_s
        self._comes_back_within_s = comes_back_within_s

    def all(self) -> list[dict[str, Any]]:
        """Give every process in the table, with the seconds since it was seen."""
        with self._database.connect() as connection:
            return [dict(row) for row in connection.execute(tables.workers()).mappings()]

    def end_frozen(self) -> list[str]:
        """End the connections of processes that live and yet were not seen for long; gives their names."""
        frozen = [row["name"] for row in self.all() if row["pid"] and row["seen_s"] > self._frozen_after_s]
        with self._database.begin() as connection:
            return [name for name in frozen if _end_holders(connection, lock_of(name))]

    @contextmanager
    def dead(self) -> Iterator[list[Member]]:
        """Give the processes that are dead, and keep their names locked meanwhile; those that stay are told to go.

        Within it, act in their place. They are forgotten at its end, if it ends well.
        """
        with self._database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            found: list[Member] = []
            try:
                found.extend(self._lock_the_dead(connection))
                yield found
                for member in found:
                    connection.execute(sa.delete(tables.worker).where(tables.worker.c.name == member.name))
            finally:
                if found:
                    _end_session(connection)

    def _lock_the_dead(self, connection: sa.Connection) -> Iterator[Member]:
        if float(connection.execute(_UP_FOR_S).scalar_one()) < self._comes_back_within_s:
            return
        for row in self.all():
            silent = row["seen_s"] > self._dead_after_s or not row["pid"]
            if silent and _try_lock(connection, lock_of(row["name"])):
                yield Member(**{name: row[name] for name in ("name", "machine", "role", "pid")})


def lock_of(name: str) -> str:
    """Name the lock of a process."""
    return f"delineate process {name}"


def first_line(error: sa.exc.SQLAlchemyError) -> str:
    """Give the first line of what the database said, which never quotes a value."""
    return str(getattr(error, "orig", error)).strip().partition("\n")[0].rstrip(".")


def _number(lock: str) -> Any:
    return sa.func.hashtextextended(lock, 0)


def _try_lock(connection: sa.Connection, lock: str) -> bool:
    # Of this session; it may be taken by it several times.
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(_number(lock)))).scalar())


def _end_session(connection: sa.Connection) -> None:
    """Close for good, not back into the pool: locks go with the session."""
    connection.invalidate()
    connection.close()


def _end_holders(connection: sa.Connection, lock: str) -> bool:
    holders = connection.execute(_HOLDERS, {"lock": lock}).scalars().all()
    for pid in holders:
        connection.execute(sa.select(sa.func.pg_terminate_backend(pid)))
    return bool(holders)
