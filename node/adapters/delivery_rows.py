"""What was made of a job, and what became of it at each destination."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from node.adapters import tables
from node.adapters.rows import Enqueue, Row, Rows
from node.domain.delivery import CommitmentReport, failed_of, notice_key
from node.domain.jobs import (
    DELIVERY_TRANSITIONS,
    UNFINISHED_DELIVERIES,
    DeliveryState,
    JobState,
    SeriesState,
    TransitionError,
)

# A delivery's row as it was when this was decided, what changes of it, and its next try.
Release = tuple[Mapping[str, Any], Mapping[str, Any], Enqueue]


class DeliveryRows(Rows):
    """The ledger of outputs and deliveries."""

    def outputs(self, job: str) -> list[Row]:
        """Give the objects that a job made, the structure set first: what the planning system waits for."""
        return self._rows(
            sa.select(tables.output)
            .where(tables.output.c.job == job)
            .order_by(tables.output.c.kind, tables.output.c.form)
        )

    def all_outputs(self) -> dict[str, list[Row]]:
        """Give the objects of every job, by its key, in the order of `outputs`."""
        found: dict[str, list[Row]] = {}
        for row in self._rows(sa.select(tables.output).order_by(tables.output.c.kind, tables.output.c.form)):
            found.setdefault(row["job"], []).append(row)
        return found

    def delivery(self, job: str, destination: str) -> Row | None:
        """Give one delivery's row, or None."""
        rows = self._rows(
            sa.select(tables.delivery).where(tables.delivery.c.job == job, tables.delivery.c.destination == destination)
        )
        return rows[0] if rows else None

    def all_deliveries(self) -> list[Row]:
        """Give every delivery, the latest first."""
        return self._rows(sa.select(tables.delivery).order_by(tables.delivery.c.created_at.desc()))

    def deliveries_of(self, job: str) -> list[Row]:
        """Give the deliveries of a job."""
        return self._rows(sa.select(_delivery).where(_delivery.c.job == job).order_by(_delivery.c.destination))

    def reports_of(self, of: str) -> list[Row]:
        """Give the deliveries of reports that nothing came of a job, or of a series."""
        reports = tables.delivery.c.job.startswith(notice_key(of, ""), autoescape=True)
        return self._rows(sa.select(tables.delivery).where(reports).order_by(tables.delivery.c.destination))

    def unfinished_deliveries(self) -> list[Row]:
        """Give every delivery that has a try before it, the oldest first."""
        return self._rows(sa.select(_delivery).where(_UNDER_WAY).order_by(_delivery.c.created_at))

    def due_deliveries(self, called: str) -> list[Row]:
        """Give what is to be sent to a destination now, be it in another one's place; the oldest first, some."""
        due = (
            _delivery.c.state.in_(UNFINISHED_DELIVERIES),
            sa.func.coalesce(_delivery.c.via, _delivery.c.destination) == called,
            sa.or_(_delivery.c.next_attempt_at.is_(None), _delivery.c.next_attempt_at <= self._now()),
        )
        return self._rows(sa.select(_delivery).where(*due).order_by(_delivery.c.created_at).limit(_AT_ONCE))

    def move_delivery(
        self,
        job: str,
        destination: str,
        state: DeliveryState,
        facts: Mapping[str, Any],
        enqueue: Enqueue | None,
        *,
        at_attempt: int | None = None,
    ) -> None:
        """Change a delivery's state along the table of transitions, and enqueue its next try with it.

        Parameters
        ----------
        at_attempt
            Only where the delivery is at that attempt still.

        Raises
        ------
        TransitionError
            The delivery is where no way leads to that state.
        """
        allowed = [before for before, following in DELIVERY_TRANSITIONS.items() if state in following]
        there = sa.true() if at_attempt is None else _delivery.c.attempt == at_attempt
        with self._transaction() as connection:
            moved = connection.execute(
                sa.update(_delivery)
                .where(*_is(job, destination), _delivery.c.state.in_(allowed), there)
                .values(state=state, updated_at=self._now(), **facts)
            ).rowcount
            if not moved:
                raise TransitionError(f"delivery of {job} to {destination} cannot become {state}")
            if enqueue is not None:
                enqueue(connection)

    def release_deliveries(self, releases: Sequence[Release]) -> int:
        """Let waiting deliveries have their next try now; those that moved meanwhile are left alone. Gives how many."""
        now = self._now()
        released = 0
        with self._transaction() as connection:
            for row, facts, enqueue in releases:
                of_row = (*_is(row["job"], row["destination"]), _delivery.c.attempt == row["attempt"])
                values = {**facts, "attempt": row["attempt"] + 1, "next_attempt_at": now, "updated_at": now}
                if connection.execute(sa.update(_delivery).where(*of_row, _UNDER_WAY).values(**values)).rowcount:
                    enqueue(connection)
                    released += 1
        return released

    def alarm_delivery(self, job: str, destination: str, text: str) -> None:
        """Tell people, once, that a delivery is overdue."""
        now = self._now()
        values = {"at": now, "kind": "delivery overdue", "subject": f"{job} to {destination}", "text": text}
        with self._transaction() as connection:
            connection.execute(sa.update(_delivery).where(*_is(job, destination)).values(alarmed_at=now))
            connection.execute(tables.insert(connection, tables.event).values(**values).on_conflict_do_nothing())

    # Negative results ------------------------------------------------------------------------------------------------

    def jobs_without_result(self, routes: Sequence[str], states: Sequence[JobState], since: float) -> list[Row]:
        """Give the jobs of routes that came to one of these states since then."""
        job = tables.job
        ended = job.c.state.in_(states), job.c.route.in_(routes), job.c.updated_at > since
        return self._rows(sa.select(job).where(*ended).order_by(job.c.updated_at))

    def declined_series(self, since: float) -> list[Row]:
        """Give the series that were declined since then."""
        series = tables.series
        ended = series.c.state == SeriesState.DECLINED, series.c.updated_at > since
        return self._rows(sa.select(series).where(*ended).order_by(series.c.updated_at))

    def add_notice(
        self,
        key: str,
        outputs: Sequence[Mapping[str, Any]],
        offers: Mapping[str, Sequence[Sequence[str]]],
        enqueue: Enqueue,
    ) -> None:
        """Write a report and what is offered to each destination, and enqueue it, in one transaction."""
        with self._transaction() as connection:
            self._add_outputs(connection, key, outputs, offers)
            enqueue(connection)

    def _add_outputs(
        self,
        connection: sa.Connection,
        job: str,
        outputs: Sequence[Mapping[str, Any]],
        offers: Mapping[str, Sequence[Sequence[str]]],
    ) -> None:
        """Write what was made, and its deliveries; what is there already is left as it is."""
        now = self._now()
        for output in outputs:
            written = tables.insert(connection, tables.output).values(job=job, **output)
            connection.execute(written.on_conflict_do_nothing())
        for destination, offered in offers.items():
            offer = {"offers": [list(one) for one in offered], "receipts": []}
            fresh = {"state": DeliveryState.QUEUED, "attempt": 1, "created_at": now, "updated_at": now, **offer}
            row = tables.insert(connection, _delivery).values(job=job, destination=destination, **fresh)
            connection.execute(row.on_conflict_do_nothing())

    # Proof -----------------------------------------------------------------------------------------------------------

    def ask_commitment(self, job: str, destination: str, transaction_uid: str) -> None:
        """Note, before it is asked for, under which transaction a destination will report on Storage Commitment."""
        with self._transaction() as connection:
            tables.one_at_a_time(connection, "commitment")
            said = connection.execute(sa.select(_delivery.c.confirmation).where(*_is(job, destination))).scalar_one()
            asked = [*said.get("transactions", []), transaction_uid]
            confirmation = {**said, "by": "commitment", "transactions": list(dict.fromkeys(asked)), "at": self._now()}
            connection.execute(sa.update(_delivery).where(*_is(job, destination)).values(confirmation=confirmation))

    def commitment_reported(self, report: CommitmentReport) -> bool:
        """Note what a destination reports; gives whether that is about something that was asked of it.

        What it does not commit itself to keep stands in ``confirmation`` under ``failed``: SOP Instance UID -> reason.
        """
        with self._transaction() as connection:
            tables.one_at_a_time(connection, "commitment")
            asked = sa.select(_delivery).where(_delivery.c.state == DeliveryState.DELIVERED)
            for row in connection.execute(asked.order_by(_delivery.c.updated_at.desc())).mappings():
                if report.transaction_uid in row["confirmation"].get("transactions", []):
                    self._note_report(connection, dict(row), report)
                    return True
        return False

    def _note_report(self, connection: sa.Connection, row: Row, report: CommitmentReport) -> None:
        if row["confirmed_at"] is not None:
            return
        failed = failed_of(report, [receipt["sop_instance_uid"] for receipt in row["receipts"]])
        facts: Row = {"confirmation": {**row["confirmation"], "at": self._now(), "failed": failed}}
        if not failed:
            facts |= {"confirmed_at": self._now(), "next_attempt_at": None, "waits_for": "", "reason": ""}
        connection.execute(sa.update(_delivery).where(*_is(row["job"], row["destination"])).values(**facts))


# Rows that are looked at together.
_AT_ONCE = 100
_delivery = tables.delivery
# As ``is_under_way`` says it.
_UNDER_WAY = sa.or_(
    _delivery.c.state.in_(UNFINISHED_DELIVERIES),
    sa.and_(
        _delivery.c.state == DeliveryState.DELIVERED,
        _delivery.c.next_attempt_at.is_not(None),
        _delivery.c.confirmed_at.is_(None),
    ),
)


def _is(job: str, destination: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _delivery.c.job == job, _delivery.c.destination == destination
