"""The node's own tables, in SQLite or PostgreSQL: the only place that says what columns there are.

Whoever changes them raises ``SCHEMA_VERSION`` and writes the way there in ``migrations.py``. Times are seconds since
the epoch. No table holds a patient's name or identifier.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

SCHEMA_VERSION = 2

TABLES = sa.MetaData()


class _Text(sa.types.TypeDecorator[str]):
    """Text that both databases hold: PostgreSQL takes no NUL character, which a peer may well send in a comment."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.replace("\0", "\N{REPLACEMENT CHARACTER}")


# One row: the version of these tables, and who made it so.
schema = sa.Table(
    "schema",
    TABLES,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("made_by", _Text, nullable=False),
    # What the data folder's file node.id says, where several machines share it; empty until the first started.
    sa.Column("folder", _Text, nullable=False, server_default=""),
)

association = sa.Table(
    "association",
    TABLES,
    # In the order of their commits.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("association_id", _Text, nullable=False),
    sa.Column("series_uid", _Text, nullable=False),
    sa.Column("calling_ae_title", _Text, nullable=False),
    sa.Column("ending", _Text, nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.UniqueConstraint("association_id", "series_uid", name="association_once"),
    sa.Index("association_of_series", "series_uid"),
    # Numbers are never used again, also where the latest row is removed.
    sqlite_autoincrement=True,
)

refused = sa.Table(
    "refused",
    TABLES,
    sa.Column("series_uid", _Text, primary_key=True),
    sa.Column("sop_instance_uid", _Text, primary_key=True),
    sa.Column("reason", _Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

# What each past series taught of its sender.
lesson = sa.Table(
    "lesson",
    TABLES,
    sa.Column("calling_ae_title", _Text, primary_key=True),
    sa.Column("series_instance_uid", _Text, primary_key=True),
    sa.Column("learned_at", sa.Float, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("associations", sa.Integer, nullable=False),
    sa.Column("within_s", sa.Float, nullable=False),
    sa.Column("between_s", sa.Float, nullable=False),
    sa.Column("counted_acquisitions", sa.Integer, nullable=False),
)

series = sa.Table(
    "series",
    TABLES,
    sa.Column("series_uid", _Text, primary_key=True),
    sa.Column("state", _Text, nullable=False),
    sa.Column("reason", _Text, nullable=False, default=""),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("left_out", sa.JSON, nullable=False),
    sa.Column("modality", _Text, nullable=False, default=""),
    sa.Column("calling_ae_titles", sa.JSON, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("study_uid", _Text),
    # Fingerprints of its volumes that models take together with images of other series.
    sa.Column("gathered", sa.JSON, nullable=False),
    # Of the folder when this was judged: tells at start whether to look again.
    sa.Column("stamp", _Text, nullable=False),
    sa.Column("route", _Text),
    sa.Column("fingerprint", _Text),
    sa.Column("first_instance_at", sa.Float),
    sa.Column("last_instance_at", sa.Float),
    sa.Column("complete_at", sa.Float),
    sa.Column("look_again_at", sa.Float),
    # What a person asked for, until it is done; empty: nothing.
    sa.Column("asked", _Text, nullable=False, server_default=""),
    # When its images were removed from the inbox; None: they are there.
    sa.Column("removed_at", sa.Float),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Index("series_of_study", "study_uid"),
)

manifest = sa.Table(
    "manifest",
    TABLES,
    sa.Column("series_uid", _Text, primary_key=True),
    sa.Column("fingerprint", _Text, primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

job = sa.Table(
    "job",
    TABLES,
    sa.Column("job", _Text, primary_key=True),
    sa.Column("series_uid", _Text, nullable=False),
    sa.Column("fingerprint", _Text, nullable=False),
    # Of a model that takes several images, in its order: channel, series_uid and fingerprint of each; the first is
    # the job's own series.
    sa.Column("channels", sa.JSON, nullable=False),
    sa.Column("route", _Text, nullable=False),
    sa.Column("model", _Text, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("destinations", sa.JSON, nullable=False),
    sa.Column("run_number", sa.Integer, nullable=False),
    # The lower, the sooner.
    sa.Column("priority", sa.Integer, nullable=False, server_default="10"),
    # Names the task of the engine that may do it now; counts up with every task.
    sa.Column("attempt", sa.Integer, nullable=False),
    # Tries that failed for a reason that is the job's own.
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("state", _Text, nullable=False),
    sa.Column("reason", _Text, nullable=False, default=""),
    sa.Column("progress", _Text, nullable=False, default=""),
    sa.Column("progress_at", sa.Float),
    # Who is at it, or was at it last; empty: nobody yet.
    sa.Column("worker", _Text, nullable=False, server_default=""),
    # Tries that ended their process or took too long: attempt, reason and time of each.
    sa.Column("setbacks", sa.JSON, nullable=False),
    # What the pipeline reports: structures with volumes, omissions, provider, versions.
    sa.Column("report", sa.JSON, nullable=False),
    # Stage -> seconds.
    sa.Column("timings", sa.JSON, nullable=False),
    # The job that was made of more images of the same series; None: this is the latest.
    sa.Column("superseded_by", _Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

output = sa.Table(
    "output",
    TABLES,
    sa.Column("job", _Text, primary_key=True),
    sa.Column("sop_instance_uid", _Text, primary_key=True),
    sa.Column("kind", _Text, nullable=False),
    # Of a structure set its profile, of a segmentation its encoding.
    sa.Column("form", _Text, nullable=False),
    # Relative to the data folder.
    sa.Column("path", _Text, nullable=False),
    sa.Column("sha256", _Text, nullable=False),
    # When its file was removed; None: it is there.
    sa.Column("removed_at", sa.Float),
)

delivery = sa.Table(
    "delivery",
    TABLES,
    sa.Column("job", _Text, primary_key=True),
    sa.Column("destination", _Text, primary_key=True),
    sa.Column("state", _Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", _Text, nullable=False, default=""),
    # SOP Instance UIDs that go together, the best set first.
    sa.Column("offers", sa.JSON, nullable=False),
    # SOP Instance UID, status and comment of each object's last answer.
    sa.Column("receipts", sa.JSON, nullable=False),
    # The destination that took it in this one's place; None: this one.
    sa.Column("via", _Text),
    # What the destination said when it was asked whether it has the objects.
    sa.Column("confirmation", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("confirmed_at", sa.Float),
    sa.Column("next_attempt_at", sa.Float),
    # "destination": to be reached at all, so that it goes as soon as the destination answers; empty: for its time.
    sa.Column("waits_for", _Text, nullable=False, server_default=""),
    # When people were told that it is overdue; None: they were not.
    sa.Column("alarmed_at", sa.Float),
    sa.Column("took_s", sa.Float),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

event = sa.Table(
    "event",
    TABLES,
    sa.Column("event", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", _Text, nullable=False),
    sa.Column("subject", _Text, nullable=False),
    sa.Column("text", _Text, nullable=False),
    sa.UniqueConstraint("kind", "subject", "text", name="event_once"),
)

# The node's processes that take work, whichever machine they run on.
worker = sa.Table(
    "worker",
    TABLES,
    sa.Column("name", _Text, primary_key=True),
    sa.Column("machine", _Text, nullable=False),
    sa.Column("role", _Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("doing", _Text, nullable=False, server_default=""),
)

# Images that were removed from the inbox and did not all come again.
removal = sa.Table(
    "removal",
    TABLES,
    sa.Column("series_uid", _Text, primary_key=True),
    # Their names in the series' folder.
    sa.Column("file_names", sa.JSON, nullable=False),
    # The number of the latest association that had sent to the series by then.
    sa.Column("association", sa.Integer, nullable=False),
)

# What the disk held from time to time, in bytes.
disk = sa.Table(
    "disk",
    TABLES,
    sa.Column("at", sa.Float, primary_key=True),
    sa.Column("free", sa.BigInteger, nullable=False),
    sa.Column("images", sa.BigInteger, nullable=False),
    sa.Column("results", sa.BigInteger, nullable=False),
    sa.Column("rejected", sa.BigInteger, nullable=False),
)


# Seconds since the epoch by a PostgreSQL server's clock, the only one that all machines share.
SERVER_NOW = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float)


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Begin an INSERT that can say what to do where the row is there already, in the database's own dialect."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


def workers() -> sa.Select[Any]:
    """Ask a PostgreSQL server for every worker, with ``seen_s``, the seconds since it was seen."""
    return sa.select(worker, (SERVER_NOW - worker.c.seen_at).label("seen_s")).order_by(worker.c.name)


def is_postgresql(connection: sa.Connection | sa.Engine) -> bool:
    """Tell whether the database is PostgreSQL, not SQLite."""
    return connection.dialect.name == "postgresql"


def one_at_a_time(connection: sa.Connection, what: str) -> None:
    """Let this transaction, until its end, be the only one of all processes that asked for the same.

    Its commit is seen by whoever comes next. SQLite has one writer at a time: there the write lock is taken.
    """
    if is_postgresql(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"delineate {what}", 0))))
    elif not connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
        connection.exec_driver_sql("BEGIN IMMEDIATE")
