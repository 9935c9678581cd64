"""The node's one SQLite file, opened so that a commit survives a power cut."""

import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa

# https://sqlite.org/wal.html#walresetbug: a write-ahead log can corrupt the file from 3.7.0 until these versions.
_WAL_SAFE_SINCE = (3, 51, 3)
_WAL_SAFE_BACKPORTS = ((3, 50, 7), (3, 44, 6))

# A writer waits this long for another one; every transaction here takes milliseconds.
_BUSY_TIMEOUT_MS = 30_000


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
    """Open (or make) the database file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    module = best_sqlite()
    journal, synchronous = journal_pragmas(module.sqlite_version_info)
    engine = sa.create_engine(f"sqlite:///{path}", module=module, pool_size=8, max_overflow=8)

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
            f"journal_mode={journal}",
            f"synchronous={synchronous}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    return engine
