"""What was made of a job, and what became of it at each destination."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from node.adapters import tables
from node.adapters.rows import Enqueue, Row, Rows
from node.domain.jobs import DELIVERY_TRANSITIONS, UNFINISHED_DELIVERIES, DeliveryState, TransitionError


class DeliveryRows(Rows):
    """The ledger of outputs and deliveries."""

    def outputs(self, job: str) -> list[Row]:
        """Give the objects that a job made, the structure set first: what the planning system waits for."""
        return self._rows(
            sa.select(tables.output)
            .where(tables.output.c.job == job)
            .order_by(tables.output.c.kind, tables.output.c.form)
        )

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
        own = sa.select(tables.delivery).where(tables.delivery.c.job == job)
        return self._rows(own.order_by(tables.delivery.c.destination))

    def unfinished_deliveries(self) -> list[Row]:
        """Give every delivery that has tries left."""
        return self._rows(sa.select(tables.delivery).where(tables.delivery.c.state.in_(UNFINISHED_DELIVERIES)))

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
        there = sa.true() if at_attempt is None else tables.delivery.c.attempt == at_attempt
        with self._transaction() as connection:
            moved = connection.execute(
                sa.update(tables.delivery)
                .where(
                    tables.delivery.c.job == job,
                    tables.delivery.c.destination == destination,
                    tables.delivery.c.state.in_(allowed),
                    there,
                )
                .values(state=state, updated_at=self._now(), **facts)
            ).rowcount
            if not moved:
                raise TransitionError(f"delivery of {job} to {destination} cannot become {state}")
            if enqueue is not None:
                enqueue(connection)
