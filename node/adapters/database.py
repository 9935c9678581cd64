"""The node's database, opened so that a commit survives a power cut: one SQLite file, or a PostgreSQL server."""

import sqlite3
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa

from node.domain.errors import ResourceError, SetupError

# https://sqlite.org/wal.html#walresetbug: a write-ahead log can corrupt the file from 3.7.0 until these versions.
_WAL_SAFE_SINCE = (3, 51, 3)
_WAL_SAFE_BACKPORTS = ((3, 50, 7), (3, 44, 6))

# A writer waits this long for another one; every transaction here takes milliseconds.
_BUSY_TIMEOUT_MS = 30_000

# A machine that is lost without a word is known to be so after 5 + 3 x 5 = 20 s, on either side: what it held (the lock
# of its worker) is then free for another.
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
_CONNECT_WITHIN_S = 10
# In the middle of a transaction; a process that is frozen there would else keep all others from what it has locked.
_LONGEST_PAUSE_MS = 20_000


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Tell whether this SQLite's write-ahead log is free of the WAL-reset fault."""
    if version >= _WAL_SAFE_SINCE:
        return True
    return any(version[:2] == fixed[:2] and version >= fixed for fixed in _WAL_SAFE_BACKPORTS)


def best_sqlite() -> ModuleType:
    """Give the SQLite module with the safe write-ahead log if one is installed, else Python's own."""
    if wal_is_safe(sqlite3.sqlite_version_info):
        return sqlite3
    try:
        import pysqlite3.dbapi2 as bundled  # noqa: PLC0415 - optional: there is no wheel for every platform
    except ImportError:
        return sqlite3
    return bundled if wal_is_safe(bundled.sqlite_version_info) else sqlite3


def journal_pragmas(version: tuple[int, int, int]) -> tuple[str, str]:
    """Choose journal mode and synchronous setting: durable either way, the write-ahead log where it is safe.

    With the rollback journal only EXTRA also syncs the folder after the journal's unlink; with FULL the last commits
    may roll back after a power cut.
    """
    return ("WAL", "FULL") if wal_is_safe(version) else ("DELETE", "EXTRA")


def open_database(path: Path) -> sa.Engine:
    """Open (or make) the database file.

    Once that file is removed, or another takes its place, every use is refused as a fault that passes: what is written
    into a file without a name is lost, and two files would each hold a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    module = best_sqlite()
    journal, synchronous = journal_pragmas(module.sqlite_version_info)
    engine = sa.create_engine(f"sqlite:///{path}", module=module, pool_size=8, max_overflow=8)

    file = DatabaseFile(path)

    @sa.event.listens_for(engine, "do_connect")
    @sa.event.listens_for(engine, "checkout")
    def _require_the_file(*_: Any) -> None:
        if reason := file.why_gone():
            raise module.OperationalError(reason)

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        file.remember()
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
            f"journal_mode={journal}",
            f"synchronous={synchronous}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    return engine


class DatabaseFile:
    """The file of a database, to be known again.

    Parameters
    ----------
    path
        Remembered as it is now, if it is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Its number; nobody else gets that while we have the file open.
        self._was: int | None = None
        with suppress(FileNotFoundError):
            self._was = path.stat().st_ino

    def remember(self) -> None:
        """Remember the file as it is now, where it was not there before."""
        self._was = self._was or self._path.stat().st_ino

    def why_gone(self) -> str:
        """Say that the file is another one, or none, than the one remembered; empty where all is well."""
        try:
            now = self._path.stat().st_ino
        except OSError:
            return f"the file {self._path.name} was removed" if self._was is not None else ""
        if self._was not in (None, now):
            return f"another file took the place of {self._path.name}"
        return ""


def set_leftovers_aside(path: Path) -> list[str]:
    """Rename journals whose database is gone: SQLite would read them into the new one. Gives their new names.

    For the supervisor, while nobody has the database open.
    """
    if path.exists():
        return []
    renamed = []
    for suffix in ("-wal", "-shm", "-journal"):
        left = path.with_name(path.name + suffix)
        if left.exists():
            renamed.append(left.rename(f"{left}.left").name)
    return renamed


def refuse_damaged(path: Path) -> None:
    """Look through a database file, if it is there, before anybody relies on it.

    Raises
    ------
    SetupError
        It is damaged, or no database.
    """
    if not path.exists():
        return
    connection = best_sqlite().connect(path, timeout=_BUSY_TIMEOUT_MS / 1000)
    try:
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except best_sqlite().DatabaseError as error:
        if isinstance(error, best_sqlite().OperationalError):  # locked, or a disk that fails: not the file's fault
            raise ResourceError(f"The node's database cannot be used: {error}.") from error
        said = str(error)
    finally:
        connection.close()
    if said != "ok":
        raise SetupError(
            f"The node's database {path} is damaged ({said.splitlines()[-1]}).",
            f"Put back a copy of {path.name} made while the node was stopped; or move {path.name}* to another folder "
            "and start: a new database is made, and every series that is still in the inbox is judged, contoured and "
            "delivered again, under the same UIDs.",
        )


def open_server(url: str, process: str = "") -> sa.Engine:
    """Open a database on a PostgreSQL server; connects when it is first used.

    Connections that the server closed, restarting or for another reason, are noticed before they are used.

    Parameters
    ----------
    url
        ``postgresql://user@host:port/database``; a password comes from PGPASSFILE or PGPASSWORD, which libpq reads.
    process
        Who connects, for people who look at the server.

    Raises
    ------
    SetupError
        It is no such address, or holds a password.
    """
    server = parse_url(url)
    # The server's side of the same: names of its own settings.
    settings: dict[str, int] = {
        f"tcp_{name}" if name.startswith("keepalives") else name: value for name, value in _KEEPALIVE.items()
    }
    settings["idle_in_transaction_session_timeout"] = _LONGEST_PAUSE_MS
    return sa.create_engine(
        server.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        # A server takes a hundred connections by default, and every process of every machine has its own.
        pool_size=4,
        max_overflow=12,
        connect_args={
            "application_name": f"delineate {process}".strip(),
            "connect_timeout": _CONNECT_WITHIN_S,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            **_KEEPALIVE,
        },
    )


def parse_url(url: str) -> sa.URL:
    """Read the address of a PostgreSQL database.

    Raises
    ------
    SetupError
        It is none, or holds a password, which it does not repeat.
    """
    shape = "Give it as postgresql://user@host/database; without a database at all there is an SQLite file in data_dir."
    try:
        server = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise SetupError("node.database is no address of a database.", shape) from None
    if server.drivername not in ("postgresql", "postgres") or not server.database:
        raise SetupError("node.database is no address of a PostgreSQL database.", shape)
    if server.password is not None:
        raise SetupError(
            "node.database holds a password, which would stand in files and messages.",
            "Put it into a file of rights 0600 (host:port:database:user:password) and name that in PGPASSFILE.",
        )
    return server
