"""What the node knows and a person may read: series, manifests, jobs, outputs, deliveries, events.

Our own tables, in the database that also holds the engine's queue, so that a fact and the work that follows from it
are committed together. Times are seconds since the epoch. Holds no patient name or identifier.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from node.domain.associations import AssociationFact
from node.domain.errors import ResourceError, SetupError
from node.domain.habits import LESSONS_REMEMBERED, Lesson
from node.domain.jobs import DELIVERY_TRANSITIONS, JOB_TRANSITIONS, DeliveryState, JobState, SeriesState

_tables = sa.MetaData()

_association = sa.Table(
    "association",
    _tables,
    sa.Column("association_id", sa.Text, primary_key=True),
    sa.Column("series_uid", sa.Text, primary_key=True),
    sa.Column("calling_ae_title", sa.Text, nullable=False),
    sa.Column("ending", sa.Text, nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Index("association_of_series", "series_uid"),
)

_refused = sa.Table(
    "refused",
    _tables,
    sa.Column("series_uid", sa.Text, primary_key=True),
    sa.Column("sop_instance_uid", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

# What each past series taught of its sender.
_lesson = sa.Table(
    "lesson",
    _tables,
    sa.Column("calling_ae_title", sa.Text, primary_key=True),
    sa.Column("series_instance_uid", sa.Text, primary_key=True),
    sa.Column("learned_at", sa.Float, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("associations", sa.Integer, nullable=False),
    sa.Column("within_s", sa.Float, nullable=False),
    sa.Column("between_s", sa.Float, nullable=False),
    sa.Column("counted_acquisitions", sa.Integer, nullable=False),
)

_series = sa.Table(
    "series",
    _tables,
    sa.Column("series_uid", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("left_out", sa.JSON, nullable=False),
    sa.Column("modality", sa.Text, nullable=False, default=""),
    sa.Column("calling_ae_titles", sa.JSON, nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("study_uid", sa.Text),
    # Fingerprints of its volumes that models take together with images of other series.
    sa.Column("gathered", sa.JSON, nullable=False),
    # Of the folder when this was judged: tells at start whether to look again.
    sa.Column("stamp", sa.Text, nullable=False),
    sa.Column("route", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("first_instance_at", sa.Float),
    sa.Column("last_instance_at", sa.Float),
    sa.Column("complete_at", sa.Float),
    sa.Column("look_again_at", sa.Float),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Index("series_of_study", "study_uid"),
)

_manifest = sa.Table(
    "manifest",
    _tables,
    sa.Column("series_uid", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

_job = sa.Table(
    "job",
    _tables,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("series_uid", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    # Of a model that takes several images, in its order: channel, series_uid and fingerprint of each; the first is
    # the job's own series.
    sa.Column("channels", sa.JSON, nullable=False),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("destinations", sa.JSON, nullable=False),
    sa.Column("run_number", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("progress", sa.Text, nullable=False, default=""),
    sa.Column("progress_at", sa.Float),
    # Tries that ended their process or took too long: attempt, reason and time of each.
    sa.Column("setbacks", sa.JSON, nullable=False),
    # What the pipeline reports: structures with volumes, omissions, provider, versions.
    sa.Column("report", sa.JSON, nullable=False),
    # Stage -> seconds.
    sa.Column("timings", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

_output = sa.Table(
    "output",
    _tables,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("sop_instance_uid", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    # Of a structure set its profile, of a segmentation its encoding.
    sa.Column("form", sa.Text, nullable=False),
    # Relative to the data folder.
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
)

_delivery = sa.Table(
    "delivery",
    _tables,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    # SOP Instance UIDs that go together, the best set first.
    sa.Column("offers", sa.JSON, nullable=False),
    # SOP Instance UID, status and comment of each object's last answer.
    sa.Column("receipts", sa.JSON, nullable=False),
    sa.Column("next_attempt_at", sa.Float),
    sa.Column("took_s", sa.Float),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

_event = sa.Table(
    "event",
    _tables,
    sa.Column("event", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.UniqueConstraint("kind", "subject", "text", name="event_once"),
)

_ASSOCIATION_FACT = ("association_id", "calling_ae_title", "ending", "opened_at", "ended_at")
# Enqueues work within the caller's transaction: (connection, queue, arguments).
Enqueue = Callable[[sa.Connection], None]
Row = dict[str, Any]


class Ledger:
    """The tables behind plain methods; every method is one transaction.

    Parameters
    ----------
    database
        The open database; tables are made where they are missing.
    now
        The clock, seconds since the epoch.

    Raises
    ------
    SetupError
        Another version of Delineate made the tables, with other columns.
    """

    def __init__(self, database: sa.Engine, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        with self._transaction() as connection:
            # Takes the write lock first: several processes start at the same time.
            connection.execute(sa.text("BEGIN IMMEDIATE"))
            _refuse_other_columns(connection)
            _tables.create_all(connection, checkfirst=True)

    # Associations ----------------------------------------------------------------------------------------------------

    def association_contributes(self, association_id: str, calling_ae_title: str, series_uid: str, at: float) -> None:
        """Note that an open association sends to a series."""
        with self._transaction() as connection:
            connection.execute(
                insert(_association)
                .values(
                    association_id=association_id,
                    series_uid=series_uid,
                    calling_ae_title=calling_ae_title,
                    ending="open",
                    opened_at=at,
                )
                .on_conflict_do_nothing()
            )

    def association_ended(self, association_id: str, ending: str, at: float) -> None:
        """Note how an association ended: ``released`` or ``aborted``."""
        with self._transaction() as connection:
            connection.execute(
                sa.update(_association)
                .where(_association.c.association_id == association_id, _association.c.ending == "open")
                .values(ending=ending, ended_at=at)
            )

    def associations_lost(self, receiver: str) -> int:
        """Mark every open association of a receiver as lost; called when it starts. Gives their number."""
        of_it = _association.c.association_id.startswith(f"{receiver}/", autoescape=True)
        with self._transaction() as connection:
            return connection.execute(
                sa.update(_association)
                .where(_association.c.ending == "open", of_it)
                .values(ending="lost", ended_at=self._now())
            ).rowcount

    def associations_of(self, series_uid: str) -> tuple[AssociationFact, ...]:
        """Give every association that sent to a series."""
        columns = [_association.c[name] for name in _ASSOCIATION_FACT]
        query = sa.select(*columns).where(_association.c.series_uid == series_uid)
        return tuple(AssociationFact(**row) for row in self._rows(query))

    def instance_refused(self, series_uid: str, sop_instance_uid: str, reason: str) -> None:
        """Note that a series lacks an instance, for it was refused."""
        values = {"reason": reason, "at": self._now()}
        with self._transaction() as connection:
            connection.execute(
                insert(_refused)
                .values(series_uid=series_uid, sop_instance_uid=sop_instance_uid, **values)
                .on_conflict_do_update(index_elements=["series_uid", "sop_instance_uid"], set_=values)
            )

    def refused_of(self, series_uid: str) -> dict[str, str]:
        """Give the reason of every refusal of a series' instances, by SOP Instance UID."""
        query = sa.select(_refused).where(_refused.c.series_uid == series_uid).order_by(_refused.c.sop_instance_uid)
        return {row["sop_instance_uid"]: row["reason"] for row in self._rows(query)}

    def latest_association(self) -> int:
        """Give the number of the latest association with a series."""
        with self._transaction() as connection:
            return connection.scalar(sa.select(sa.func.max(sa.literal_column("rowid"))).select_from(_association)) or 0

    def series_sent_since(self, association: int) -> tuple[str, ...]:
        """Name the series to which an association later than that number sent."""
        query = sa.select(_association.c.series_uid).where(sa.literal_column("rowid") > association).distinct()
        return tuple(row["series_uid"] for row in self._rows(query))

    def other_series_of(self, association_id: str, series_uid: str) -> tuple[str, ...]:
        """Name the other series to which an association sent."""
        query = sa.select(_association.c.series_uid).where(
            _association.c.association_id == association_id, _association.c.series_uid != series_uid
        )
        return tuple(row["series_uid"] for row in self._rows(query))

    # Senders ---------------------------------------------------------------------------------------------------------

    def learn(self, lessons: Sequence[Lesson]) -> None:
        """Keep what a series taught of its senders, in place of what it taught before; forget their oldest."""
        with self._transaction() as connection:
            for lesson in lessons:
                values = asdict(lesson)
                connection.execute(
                    insert(_lesson)
                    .values(**values)
                    .on_conflict_do_update(index_elements=["calling_ae_title", "series_instance_uid"], set_=values)
                )
                own = _lesson.c.calling_ae_title == lesson.calling_ae_title
                latest = sa.select(_lesson.c.series_instance_uid).where(own).order_by(_lesson.c.learned_at.desc())
                kept = _lesson.c.series_instance_uid.in_(latest.limit(LESSONS_REMEMBERED))
                connection.execute(sa.delete(_lesson).where(own, ~kept))

    def lessons_of(self, calling_ae_title: str) -> tuple[Lesson, ...]:
        """Give what the latest series of a sender taught."""
        return self._lessons(sa.select(_lesson).where(_lesson.c.calling_ae_title == calling_ae_title))

    def all_lessons(self) -> tuple[Lesson, ...]:
        """Give what the latest series of every sender taught."""
        return self._lessons(sa.select(_lesson))

    def _lessons(self, query: sa.Select[Any]) -> tuple[Lesson, ...]:
        ordered = query.order_by(_lesson.c.calling_ae_title, _lesson.c.learned_at)
        return tuple(Lesson(**row) for row in self._rows(ordered))

    # Series ----------------------------------------------------------------------------------------------------------

    def series(self, series_uid: str) -> Row | None:
        """Give one series' row, or None."""
        rows = self._rows(sa.select(_series).where(_series.c.series_uid == series_uid))
        return rows[0] if rows else None

    def all_series(self) -> list[Row]:
        """Give every series, the latest first."""
        return self._rows(sa.select(_series).order_by(_series.c.updated_at.desc()))

    def series_of_study(self, study_uid: str) -> list[Row]:
        """Give the series of a study."""
        return self._rows(sa.select(_series).where(_series.c.study_uid == study_uid).order_by(_series.c.series_uid))

    def studies_that_wait(self) -> tuple[str, ...]:
        """Name the studies with a series that waits for another."""
        waiting = sa.select(_series.c.study_uid).where(_series.c.state == SeriesState.WAITING).distinct()
        return tuple(row["study_uid"] for row in self._rows(waiting))

    def note_series(self, series_uid: str, facts: Mapping[str, Any]) -> None:
        """Write what is known of a series now (columns of its table)."""
        with self._transaction() as connection:
            self._note_series(connection, series_uid, facts)

    def _note_series(self, connection: sa.Connection, series_uid: str, facts: Mapping[str, Any]) -> None:
        values = {"updated_at": self._now(), **facts}
        connection.execute(
            insert(_series)
            .values(series_uid=series_uid, **{"reason": "", "evidence": [], "left_out": [], "gathered": [], **values})
            .on_conflict_do_update(index_elements=["series_uid"], set_=values)
        )

    def accept_series(
        self,
        series_uid: str,
        facts: Mapping[str, Any],
        manifests: Sequence[Mapping[str, Any]],
        jobs: Sequence[Mapping[str, Any]],
        enqueue: Enqueue,
    ) -> None:
        """Write a complete series, its volumes' manifests and their jobs, and enqueue these, in one transaction.

        Jobs and manifests that are there already stay as they are: an identical re-send makes none.
        """
        with self._transaction() as connection:
            self._note_series(connection, series_uid, facts)
            for manifest in manifests:
                connection.execute(
                    insert(_manifest)
                    .values(
                        series_uid=series_uid,
                        fingerprint=manifest["fingerprint"],
                        body=manifest,
                        evidence=facts["evidence"],
                        created_at=self._now(),
                    )
                    .on_conflict_do_nothing()
                )
            self._add_jobs(connection, jobs, enqueue)

    def settle_together(
        self, facts: Mapping[str, Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]], enqueue: Enqueue
    ) -> None:
        """Write what became of series that models take together, and their jobs, and enqueue these, in one transaction.

        Parameters
        ----------
        facts
            Series Instance UID, of series that are known -> columns of its table.
        """
        with self._transaction() as connection:
            for series_uid, values in facts.items():
                known = sa.update(_series).where(_series.c.series_uid == series_uid)
                connection.execute(known.values(updated_at=self._now(), **values))
            self._add_jobs(connection, jobs, enqueue)

    def _add_jobs(self, connection: sa.Connection, jobs: Sequence[Mapping[str, Any]], enqueue: Enqueue) -> None:
        for job in jobs:
            connection.execute(insert(_job).values(**self._new_job(job)).on_conflict_do_nothing())
        enqueue(connection)

    def _new_job(self, job: Mapping[str, Any]) -> Row:
        now = self._now()
        return {
            "state": JobState.QUEUED,
            "attempt": 1,
            "reason": "",
            "setbacks": [],
            "channels": [],
            "report": {},
            "timings": {},
            "created_at": now,
            "updated_at": now,
            **job,
        }

    def manifest(self, series_uid: str, fingerprint: str) -> Row:
        """Give the body of a manifest."""
        query = sa.select(_manifest.c.body).where(
            _manifest.c.series_uid == series_uid, _manifest.c.fingerprint == fingerprint
        )
        body: Row = self._rows(query)[0]["body"]
        return body

    # Jobs ------------------------------------------------------------------------------------------------------------

    def job(self, job: str) -> Row | None:
        """Give one job's row, or None."""
        rows = self._rows(sa.select(_job).where(_job.c.job == job))
        return rows[0] if rows else None

    def all_jobs(self) -> list[Row]:
        """Give every job, the latest first."""
        return self._rows(sa.select(_job).order_by(_job.c.created_at.desc()))

    def unfinished_jobs(self) -> list[Row]:
        """Give every job that has work left."""
        unfinished = [state for state, following in JOB_TRANSITIONS.items() if following]
        return self._rows(sa.select(_job).where(_job.c.state.in_(unfinished)))

    def move_job(self, job: str, state: JobState, **facts: Any) -> None:
        """Change a job's state along the table of transitions, with further columns."""
        with self._transaction() as connection:
            self._move_job(connection, job, state, facts)

    def note_progress(self, job: str, progress: str) -> None:
        """Write what a worker is doing just now; nothing where the job is in no worker's hands any more."""
        at_work = _job.c.job == job, _job.c.state == JobState.CONTOURING
        with self._transaction() as connection:
            connection.execute(sa.update(_job).where(*at_work).values(progress=progress, progress_at=self._now()))

    def postpone_job(self, job: str, facts: Mapping[str, Any], enqueue: Enqueue) -> None:
        """Let a job wait, and enqueue its next attempt, in one transaction."""
        with self._transaction() as connection:
            self._move_job(connection, job, JobState.WAITING, facts)
            enqueue(connection)

    def finish_job(
        self,
        job: str,
        facts: Mapping[str, Any],
        outputs: Sequence[Mapping[str, Any]],
        offers: Mapping[str, Sequence[Sequence[str]]],
        enqueue: Enqueue,
    ) -> None:
        """Write a job's outputs and its deliveries, and enqueue these, in one transaction.

        Parameters
        ----------
        offers
            Destination -> sets of SOP Instance UIDs that go together, the best first.
        """
        now = self._now()
        with self._transaction() as connection:
            self._move_job(connection, job, JobState.CONTOURED, facts)
            for output in outputs:
                connection.execute(insert(_output).values(job=job, **output).on_conflict_do_nothing())
            for destination, offered in offers.items():
                connection.execute(
                    insert(_delivery)
                    .values(
                        job=job,
                        destination=destination,
                        state=DeliveryState.QUEUED,
                        attempt=1,
                        offers=[list(offer) for offer in offered],
                        receipts=[],
                        created_at=now,
                        updated_at=now,
                    )
                    .on_conflict_do_nothing()
                )
            enqueue(connection)

    def _move_job(self, connection: sa.Connection, job: str, state: JobState, facts: Mapping[str, Any]) -> None:
        allowed = [before for before, following in JOB_TRANSITIONS.items() if state in following]
        moved = connection.execute(
            sa.update(_job)
            .where(_job.c.job == job, _job.c.state.in_(allowed))
            .values(state=state, **{"progress": "", "progress_at": None, "updated_at": self._now(), **facts})
        ).rowcount
        if not moved:
            raise ValueError(f"job {job} cannot become {state}")

    def outputs(self, job: str) -> list[Row]:
        """Give the objects that a job made, the structure set first: what the planning system waits for."""
        return self._rows(sa.select(_output).where(_output.c.job == job).order_by(_output.c.kind, _output.c.form))

    # Deliveries ------------------------------------------------------------------------------------------------------

    def delivery(self, job: str, destination: str) -> Row | None:
        """Give one delivery's row, or None."""
        rows = self._rows(sa.select(_delivery).where(_delivery.c.job == job, _delivery.c.destination == destination))
        return rows[0] if rows else None

    def all_deliveries(self) -> list[Row]:
        """Give every delivery, the latest first."""
        return self._rows(sa.select(_delivery).order_by(_delivery.c.created_at.desc()))

    def unfinished_deliveries(self) -> list[Row]:
        """Give every delivery that has tries left."""
        unfinished = [state for state, following in DELIVERY_TRANSITIONS.items() if following]
        return self._rows(sa.select(_delivery).where(_delivery.c.state.in_(unfinished)))

    def move_delivery(
        self, job: str, destination: str, state: DeliveryState, facts: Mapping[str, Any], enqueue: Enqueue | None
    ) -> None:
        """Change a delivery's state along the table of transitions, and enqueue its next try with it."""
        allowed = [before for before, following in DELIVERY_TRANSITIONS.items() if state in following]
        with self._transaction() as connection:
            moved = connection.execute(
                sa.update(_delivery)
                .where(_delivery.c.job == job, _delivery.c.destination == destination, _delivery.c.state.in_(allowed))
                .values(state=state, updated_at=self._now(), **facts)
            ).rowcount
            if not moved:
                raise ValueError(f"delivery of {job} to {destination} cannot become {state}")
            if enqueue is not None:
                enqueue(connection)

    # Events ----------------------------------------------------------------------------------------------------------

    def note_event(self, kind: str, subject: str, text: str) -> None:
        """Keep something that a person should find in ``status``; the same again is kept once, with the later time."""
        values = {"at": self._now(), "kind": kind, "subject": subject, "text": text}
        with self._transaction() as connection:
            connection.execute(
                insert(_event)
                .values(**values)
                .on_conflict_do_update(index_elements=["kind", "subject", "text"], set_={"at": values["at"]})
            )

    def events(self, limit: int = 100) -> list[Row]:
        """Give the latest events, the latest first."""
        return self._rows(sa.select(_event).order_by(_event.c.at.desc()).limit(limit))

    # -----------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """Give a connection within a transaction.

        Raises
        ------
        ResourceError
            The database is locked for too long, or the disk is full or failed: the work is to be tried again.
        """
        try:
            with self._database.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            # SQLite's own words: never a value.
            raise ResourceError(f"The node's database cannot be used: {error.orig}.") from error

    def _rows(self, query: sa.Select[Any]) -> list[Row]:
        with self._transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _refuse_other_columns(connection: sa.Connection) -> None:
    """Raise SetupError where a table of ours has other columns: every use of it would fail, one after the other."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    for table in _tables.sorted_tables:
        if table.name in there and {one["name"] for one in inspector.get_columns(table.name)} != set(table.c.keys()):
            raise SetupError(
                f"The node's database was made by another version of Delineate: its table {table.name!r} has other "
                "columns.",
                "Go on with that version until its status shows nothing unfinished; then move node.data_dir away, or "
                "give another one, and start this version. Nothing in the old folder is changed.",
            )
