"""The database is opened so that a commit survives a power cut."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from node.adapters.database import best_sqlite, journal_pragmas, open_database, wal_is_safe


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((4, 0, 0), True),
    ],
)
def test_the_write_ahead_log_is_used_only_where_it_cannot_corrupt(version: tuple[int, int, int], safe: bool) -> None:
    assert wal_is_safe(version) is safe
    assert journal_pragmas(version) == (("WAL", "FULL") if safe else ("DELETE", "EXTRA"))


def test_every_connection_is_durable(tmp_path: Path) -> None:
    database = open_database(tmp_path / "new" / "node.sqlite")
    journal, synchronous = journal_pragmas(best_sqlite().sqlite_version_info)

    for _ in range(2):
        with database.connect() as connection:
            assert connection.scalar(sa.text("PRAGMA journal_mode")) == journal.lower()
            assert connection.scalar(sa.text("PRAGMA synchronous")) == {"FULL": 2, "EXTRA": 3}[synchronous]
            assert connection.scalar(sa.text("PRAGMA busy_timeout")) == 30_000
        database.dispose()
