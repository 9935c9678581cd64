"""The ways from the tables of earlier versions to those of today, each a numbered step that is done once.

All steps that a database needs are done in one transaction, by whichever process comes first; the others wait. So a
database is of one version or of the next, whenever it is looked at and wherever it was stopped.

A step says what it does in words of its own and takes nothing from ``tables.py``, which goes on changing.
"""

from collections.abc import Mapping

import sqlalchemy as sa

from node import __version__
from node.adapters.tables import SCHEMA_VERSION, TABLES, one_at_a_time, schema
from node.domain.errors import SetupError

# Table -> column -> its definition, of the columns that a version added. What is never null has a default: the rows
# that are there need one.
_NEW_COLUMNS: Mapping[int, Mapping[str, Mapping[str, str]]] = {
    2: {
        "series": {"asked": "TEXT DEFAULT '' NOT NULL", "removed_at": "FLOAT"},
        "job": {
            "priority": "INTEGER DEFAULT '10' NOT NULL",
            "tries": "INTEGER DEFAULT '0' NOT NULL",
            "worker": "TEXT DEFAULT '' NOT NULL",
            "superseded_by": "TEXT",
        },
        "output": {"removed_at": "FLOAT"},
        "delivery": {
            "via": "TEXT",
            "confirmation": "JSON DEFAULT '{}' NOT NULL",
            "confirmed_at": "FLOAT",
            "waits_for": "TEXT DEFAULT '' NOT NULL",
            "alarmed_at": "FLOAT",
        },
    },
}

# Statements of a version, after its columns.
_STATEMENTS: Mapping[int, tuple[str, ...]] = {
    # Tables 1 were in SQLite alone, whose rowid was the number of an association.
    2: (
        "ALTER TABLE association RENAME TO association_1",
        "DROP INDEX association_of_series",
        "CREATE TABLE association (number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, association_id TEXT NOT NULL, "
        "series_uid TEXT NOT NULL, calling_ae_title TEXT NOT NULL, ending TEXT NOT NULL, opened_at FLOAT NOT NULL, "
        "ended_at FLOAT, CONSTRAINT association_once UNIQUE (association_id, series_uid))",
        "CREATE INDEX association_of_series ON association (series_uid)",
        "INSERT INTO association SELECT rowid, association_id, series_uid, calling_ae_title, ending, opened_at, "
        "ended_at FROM association_1",
        "DROP TABLE association_1",
        "CREATE TABLE worker (name TEXT NOT NULL PRIMARY KEY, machine TEXT NOT NULL, role TEXT NOT NULL, "
        "pid INTEGER NOT NULL, started_at FLOAT NOT NULL, seen_at FLOAT NOT NULL, doing TEXT DEFAULT '' NOT NULL)",
        "CREATE TABLE schema (version INTEGER NOT NULL PRIMARY KEY, made_by TEXT NOT NULL, "
        "folder TEXT DEFAULT '' NOT NULL)",
        "INSERT INTO schema (version, made_by) VALUES (2, '')",
        "CREATE TABLE removal (series_uid TEXT NOT NULL PRIMARY KEY, file_names JSON NOT NULL, "
        "association INTEGER NOT NULL)",
        "CREATE TABLE disk (at FLOAT NOT NULL PRIMARY KEY, free BIGINT NOT NULL, images BIGINT NOT NULL, "
        "results BIGINT NOT NULL, rejected BIGINT NOT NULL)",
    ),
}

# Of the tables that were made before they had a version.
_FIRST_VERSION = 1
_COLUMNS_OF_1 = {
    "association": "association_id series_uid calling_ae_title ending opened_at ended_at",
    "refused": "series_uid sop_instance_uid reason at",
    "lesson": "calling_ae_title series_instance_uid learned_at instances associations within_s between_s "
    "counted_acquisitions",
    "series": "series_uid state reason evidence left_out modality calling_ae_titles instances study_uid gathered stamp "
    "route fingerprint first_instance_at last_instance_at complete_at look_again_at updated_at",
    "manifest": "series_uid fingerprint body evidence created_at",
    "job": "job series_uid fingerprint channels route model outputs destinations run_number attempt state reason "
    "progress progress_at setbacks report timings created_at updated_at",
    "output": "job sop_instance_uid kind form path sha256",
    "delivery": "job destination state attempt reason offers receipts next_attempt_at took_s created_at updated_at",
    "event": "event at kind subject text",
}


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to this version within the caller's transaction; make them where there are none.

    Raises
    ------
    SetupError
        A later version of Delineate made them, or something that no step explains.
    """
    if _version_of(connection) == SCHEMA_VERSION:
        return
    one_at_a_time(connection, "schema")
    version = _version_of(connection)  # again: another process may have been first
    if version is None:
        TABLES.create_all(connection, checkfirst=False)
        connection.execute(sa.insert(schema).values(version=SCHEMA_VERSION, made_by=__version__))
        return
    _refuse_what_no_step_explains(connection, version)
    for number in range(version + 1, SCHEMA_VERSION + 1):
        _step_to(connection, number)
    connection.execute(sa.update(schema).values(version=SCHEMA_VERSION, made_by=__version__))


def _version_of(connection: sa.Connection) -> int | None:
    """Give the version of the tables; None where there are none."""
    there = sa.inspect(connection)
    if there.has_table(schema.name):
        version: int = connection.execute(sa.select(schema.c.version)).scalar_one()
        return version
    return _FIRST_VERSION if any(there.has_table(name) for name in _COLUMNS_OF_1) else None


def _step_to(connection: sa.Connection, number: int) -> None:
    for table, columns in _NEW_COLUMNS.get(number, {}).items():
        for name, definition in columns.items():
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {name} {definition}")
    for statement in _STATEMENTS.get(number, ()):
        connection.exec_driver_sql(statement)


def _refuse_what_no_step_explains(connection: sa.Connection, version: int) -> None:
    if version > SCHEMA_VERSION:
        made_by = connection.execute(sa.select(schema.c.made_by)).scalar_one()
        raise SetupError(
            f"The node's database was made by Delineate {made_by} (tables {version}); this is Delineate {__version__} "
            f"(tables {SCHEMA_VERSION}).",
            f"Start Delineate {made_by} or a later one. Nothing in the database is changed.",
        )
    if version == _FIRST_VERSION:
        _refuse_other_columns(connection)


def _refuse_other_columns(connection: sa.Connection) -> None:
    """Refuse tables without a version that are not of the first: every use would fail, one after the other."""
    there = sa.inspect(connection)
    missing = [table for table in _COLUMNS_OF_1 if not there.has_table(table)]
    others = [
        table
        for table, columns in _COLUMNS_OF_1.items()
        if table not in missing and {one["name"] for one in there.get_columns(table)} != set(columns.split())
    ]
    if others or missing:
        what = f"its table {others[0]!r} has other columns" if others else f"it has no table {missing[0]!r}"
        raise SetupError(
            f"The node's database was made by another version of Delineate: {what}.",
            "Go on with that version until its status shows nothing unfinished; then move node.data_dir away, or "
            "give another one, and start this version. Nothing in the old folder is changed.",
        )
