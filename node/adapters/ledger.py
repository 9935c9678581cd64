"""What the node knows and a person may read: series, manifests, jobs, outputs, deliveries, events.

Our own tables, in the database that also holds the engine's queue, so that a fact and the work that follows from it
are committed together. Times are seconds since the epoch. Holds no patient name or identifier.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from node.adapters import tables
from node.adapters.clearing_rows import ClearingRows
from node.adapters.delivery_rows import DeliveryRows
from node.adapters.rows import Enqueue, Row
from node.adapters.sender_rows import SenderRows
from node.domain.jobs import (
    JOB_TRANSITIONS,
    UNFINISHED_JOBS,
    JobState,
    SeriesState,
    TransitionError,
)


class Ledger(SenderRows, DeliveryRows, ClearingRows):
    """Everything that the node knows; every method is one transaction.

    The job that was begun here last changes only while it is in this worker's hands: whoever was frozen or cut off
    while another took the job over comes too late, whatever it made.
    """

    def __init__(self, database: sa.Engine, *, now: Callable[[], float] = time.time, worker: str = "") -> None:
        super().__init__(database, now=now, worker=worker)
        # Of the job that was begun here last; a worker is at one at a time.
        self._begun, self._begun_attempt = "", 0

    # Series ----------------------------------------------------------------------------------------------------------

    def series(self, series_uid: str) -> Row | None:
        """Give one series' row, or None."""
        rows = self._rows(sa.select(tables.series).where(tables.series.c.series_uid == series_uid))
        return rows[0] if rows else None

    def all_series(self) -> list[Row]:
        """Give every series, the latest first."""
        return self._rows(sa.select(tables.series).order_by(tables.series.c.updated_at.desc()))

    def series_of_study(self, study_uid: str) -> list[Row]:
        """Give the series of a study."""
        return self._rows(
            sa.select(tables.series).where(tables.series.c.study_uid == study_uid).order_by(tables.series.c.series_uid)
        )

    def studies_that_wait(self) -> tuple[str, ...]:
        """Name the studies with a series that waits for another."""
        waiting = sa.select(tables.series.c.study_uid).where(tables.series.c.state == SeriesState.WAITING).distinct()
        return tuple(row["study_uid"] for row in self._rows(waiting))

    def note_series(self, series_uid: str, facts: Mapping[str, Any]) -> None:
        """Write what is known of a series now (columns of its table)."""
        with self._transaction() as connection:
            self._note_series(connection, series_uid, facts)

    def _note_series(self, connection: sa.Connection, series_uid: str, facts: Mapping[str, Any]) -> None:
        values = {"updated_at": self._now(), **facts}
        connection.execute(
            tables.insert(connection, tables.series)
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
        superseded: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write a complete series, its volumes' manifests and their jobs, and enqueue these, in one transaction.

        Jobs and manifests that are there already stay as they are: an identical re-send makes none.

        Parameters
        ----------
        superseded
            Former job -> the one that takes its place; what is left to do of the former is not done.
        """
        with self._transaction() as connection:
            self._note_series(connection, series_uid, facts)
            for manifest in manifests:
                connection.execute(
                    tables.insert(connection, tables.manifest)
                    .values(
                        series_uid=series_uid,
                        fingerprint=manifest["fingerprint"],
                        body=manifest,
                        evidence=facts["evidence"],
                        created_at=self._now(),
                    )
                    .on_conflict_do_nothing()
                )
            self._add_jobs(connection, jobs, enqueue, superseded)

    def settle_together(
        self,
        facts: Mapping[str, Mapping[str, Any]],
        jobs: Sequence[Mapping[str, Any]],
        enqueue: Enqueue,
        superseded: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write what became of series that models take together, and their jobs, and enqueue these, in one transaction.

        Parameters
        ----------
        facts
            Series Instance UID, of series that are known -> columns of its table.
        """
        with self._transaction() as connection:
            for series_uid, values in facts.items():
                known = sa.update(tables.series).where(tables.series.c.series_uid == series_uid)
                connection.execute(known.values(updated_at=self._now(), **values))
            self._add_jobs(connection, jobs, enqueue, superseded)

    def add_jobs(self, jobs: Sequence[Mapping[str, Any]], superseded: Mapping[str, str], enqueue: Enqueue) -> None:
        """Write new jobs and those that they supersede, and enqueue, in one transaction."""
        with self._transaction() as connection:
            self._add_jobs(connection, jobs, enqueue, superseded)

    def _add_jobs(
        self,
        connection: sa.Connection,
        jobs: Sequence[Mapping[str, Any]],
        enqueue: Enqueue,
        superseded: Mapping[str, str],
    ) -> None:
        for job in jobs:
            connection.execute(
                tables.insert(connection, tables.job).values(**self._new_job(job)).on_conflict_do_nothing()
            )
        for former, new in superseded.items():
            own = sa.update(tables.job).where(tables.job.c.job == former)
            connection.execute(own.values(superseded_by=new))
            unfinished = own.where(tables.job.c.state.in_(UNFINISHED_JOBS))
            ended = {"state": JobState.SUPERSEDED, "progress": "", "progress_at": None, "updated_at": self._now()}
            connection.execute(unfinished.values(ended))
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

    def series_asked_for(self) -> frozenset[str]:
        """Name the growing series that a person wants judged at once."""
        asked = sa.select(tables.series.c.series_uid).where(tables.series.c.asked != "")
        return frozenset(row["series_uid"] for row in self._rows(asked))

    def ask_for_verdict(self, series_uid: str) -> bool:
        """Note that a growing series is to be judged at once; gives False where it is none."""
        growing = tables.series.c.series_uid == series_uid, tables.series.c.state == SeriesState.RECEIVING
        with self._transaction() as connection:
            return connection.execute(sa.update(tables.series).where(*growing).values(asked="verdict")).rowcount > 0

    def manifest(self, series_uid: str, fingerprint: str) -> Row:
        """Give the body of a manifest."""
        query = sa.select(tables.manifest.c.body).where(
            tables.manifest.c.series_uid == series_uid, tables.manifest.c.fingerprint == fingerprint
        )
        body: Row = self._rows(query)[0]["body"]
        return body

    # Jobs ------------------------------------------------------------------------------------------------------------

    def job(self, job: str) -> Row | None:
        """Give one job's row, or None."""
        rows = self._rows(sa.select(tables.job).where(tables.job.c.job == job))
        return rows[0] if rows else None

    def all_jobs(self) -> list[Row]:
        """Give every job, the latest first."""
        return self._rows(sa.select(tables.job).order_by(tables.job.c.created_at.desc()))

    def jobs_of(self, series_uid: str) -> list[Row]:
        """Give every job of a series."""
        return self._rows(sa.select(tables.job).where(tables.job.c.series_uid == series_uid))

    def unfinished_jobs(self) -> list[Row]:
        """Give every job that has work left."""
        return self._rows(sa.select(tables.job).where(tables.job.c.state.in_(UNFINISHED_JOBS)))

    def jobs_in_hands_of(self, worker: str) -> list[Row]:
        """Give every job that a worker was at when it was last heard of."""
        in_hands = tables.job.c.worker == worker, tables.job.c.state == JobState.CONTOURING
        return self._rows(sa.select(tables.job).where(*in_hands))

    def begin_job(self, job: str, attempt: int) -> None:
        """Take a job into this worker's hands; from now on it changes by this worker only while it stays there.

        Raises
        ------
        TransitionError
            The attempt is over.
        """
        self._begun = ""
        with self._transaction() as connection:
            self._move_job(connection, job, JobState.CONTOURING, {"worker": self._worker}, at_attempt=attempt)
        self._begun, self._begun_attempt = job, attempt

    def is_contoured(self, job: str, attempt: int) -> bool:
        """Tell whether that try at a job goes on; False where somebody took the job back, or over."""
        at_work = tables.job.c.job == job, tables.job.c.attempt == attempt, tables.job.c.state == JobState.CONTOURING
        return bool(self._rows(sa.select(tables.job.c.job).where(*at_work, *self._in_our_hands(job))))

    def move_job(
        self, job: str, state: JobState, *, enqueue: Enqueue | None = None, at_attempt: int | None = None, **facts: Any
    ) -> None:
        """Change a job's state along the table of transitions, with further columns, and enqueue with it.

        Parameters
        ----------
        at_attempt
            Only where the job is at that attempt still.

        Raises
        ------
        TransitionError
            The job is where no way leads to that state, or in the hands of another.
        """
        with self._transaction() as connection:
            self._move_job(connection, job, state, facts, at_attempt)
            if enqueue is not None:
                enqueue(connection)

    def note_progress(self, job: str, progress: str) -> None:
        """Write what a worker is doing just now; nothing where the job is in no worker's hands any more."""
        at_work = tables.job.c.job == job, tables.job.c.state == JobState.CONTOURING, *self._in_our_hands(job)
        with self._transaction() as connection:
            connection.execute(sa.update(tables.job).where(*at_work).values(progress=progress, progress_at=self._now()))

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
        with self._transaction() as connection:
            self._move_job(connection, job, JobState.CONTOURED, facts)
            self._add_outputs(connection, job, outputs, offers)
            enqueue(connection)

    def _move_job(
        self,
        connection: sa.Connection,
        job: str,
        state: JobState,
        facts: Mapping[str, Any],
        at_attempt: int | None = None,
    ) -> None:
        allowed = [before for before, following in JOB_TRANSITIONS.items() if state in following]
        there = sa.true() if at_attempt is None else tables.job.c.attempt == at_attempt
        moved = connection.execute(
            sa.update(tables.job)
            .where(tables.job.c.job == job, tables.job.c.state.in_(allowed), there, *self._in_our_hands(job))
            .values(state=state, **{"progress": "", "progress_at": None, "updated_at": self._now(), **facts})
        ).rowcount
        if not moved:
            raise TransitionError(f"job {job} cannot become {state}")

    def _in_our_hands(self, job: str) -> tuple[sa.ColumnElement[bool], ...]:
        """Give what holds of a job while it is in the hands that began it here; nothing of others."""
        if job != self._begun:
            return ()
        return tables.job.c.worker == self._worker, tables.job.c.attempt == self._begun_attempt

    def folder(self) -> str:
        """Give the mark of the data folder that this database belongs to; empty: of none yet."""
        return str(self._rows(sa.select(tables.schema.c.folder))[0]["folder"])

    def bind_folder(self, mark: str) -> bool:
        """Let this database belong to the folder of that mark, if it belongs to none; tells whether it does now."""
        free = sa.update(tables.schema).where(tables.schema.c.folder == "")
        with self._transaction() as connection:
            connection.execute(free.values(folder=mark))
        return self.folder() == mark

    def workers(self) -> list[Row]:
        """Give the processes of every machine, each with the seconds since it was seen; none on SQLite."""
        return self._rows(tables.workers()) if tables.is_postgresql(self._database) else []

    # Events ----------------------------------------------------------------------------------------------------------

    def note_event(self, kind: str, subject: str, text: str) -> None:
        """Keep something that a person should find in ``status``; the same again is kept once, with the later time."""
        values = {"at": self._now(), "kind": kind, "subject": subject, "text": text}
        with self._transaction() as connection:
            connection.execute(
                tables.insert(connection, tables.event)
                .values(**values)
                .on_conflict_do_update(index_elements=["kind", "subject", "text"], set_={"at": values["at"]})
            )

    def events(self, limit: int = 100) -> list[Row]:
        """Give the latest events, the latest first."""
        return self._rows(sa.select(tables.event).order_by(tables.event.c.at.desc()).limit(limit))
