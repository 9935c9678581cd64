"""What is known of who sends: associations, refusals, and what past series taught of each sender."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from node.adapters import tables
from node.adapters.rows import Rows
from node.domain.associations import AssociationFact
from node.domain.habits import LESSONS_REMEMBERED, Lesson

_ASSOCIATION_FACT = ("association_id", "calling_ae_title", "ending", "opened_at", "ended_at")


class SenderRows(Rows):
    """The ledger of senders."""

    # Associations ----------------------------------------------------------------------------------------------------

    def association_contributes(self, association_id: str, calling_ae_title: str, series_uid: str, at: float) -> None:
        """Note that an open association sends to a series."""
        with self._transaction() as connection:
            # Numbers become visible in their order: who has seen one has seen all before it.
            tables.one_at_a_time(connection, "association")
            connection.execute(
                tables.insert(connection, tables.association)
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
                sa.update(tables.association)
                .where(tables.association.c.association_id == association_id, tables.association.c.ending == "open")
                .values(ending=ending, ended_at=at)
            )

    def associations_lost(self, receiver: str) -> int:
        """Mark every open association of a receiver as lost; called when it starts. Gives their number."""
        of_it = tables.association.c.association_id.startswith(f"{receiver}/", autoescape=True)
        with self._transaction() as connection:
            return connection.execute(
                sa.update(tables.association)
                .where(tables.association.c.ending == "open", of_it)
                .values(ending="lost", ended_at=self._now())
            ).rowcount

    def associations_of(self, series_uid: str) -> tuple[AssociationFact, ...]:
        """Give every association that sent to a series."""
        columns = [tables.association.c[name] for name in _ASSOCIATION_FACT]
        query = sa.select(*columns).where(tables.association.c.series_uid == series_uid)
        return tuple(AssociationFact(**row) for row in self._rows(query))

    def instance_refused(self, series_uid: str, sop_instance_uid: str, reason: str) -> None:
        """Note that a series lacks an instance, for it was refused."""
        values = {"reason": reason, "at": self._now()}
        with self._transaction() as connection:
            connection.execute(
                tables.insert(connection, tables.refused)
                .values(series_uid=series_uid, sop_instance_uid=sop_instance_uid, **values)
                .on_conflict_do_update(index_elements=["series_uid", "sop_instance_uid"], set_=values)
            )

    def refused_of(self, series_uid: str) -> dict[str, str]:
        """Give the reason of every refusal of a series' instances, by SOP Instance UID."""
        query = (
            sa.select(tables.refused)
            .where(tables.refused.c.series_uid == series_uid)
            .order_by(tables.refused.c.sop_instance_uid)
        )
        return {row["sop_instance_uid"]: row["reason"] for row in self._rows(query)}

    def latest_association(self) -> int:
        """Give the number of the latest association with a series."""
        with self._transaction() as connection:
            return connection.scalar(sa.select(sa.func.max(tables.association.c.number))) or 0

    def series_sent_since(self, association: int) -> tuple[str, ...]:
        """Name the series to which an association later than that number sent."""
        later = tables.association.c.number > association
        query = sa.select(tables.association.c.series_uid).where(later).distinct()
        return tuple(row["series_uid"] for row in self._rows(query))

    def other_series_of(self, association_id: str, series_uid: str) -> tuple[str, ...]:
        """Name the other series to which an association sent."""
        query = sa.select(tables.association.c.series_uid).where(
            tables.association.c.association_id == association_id, tables.association.c.series_uid != series_uid
        )
        return tuple(row["series_uid"] for row in self._rows(query))

    # Senders ---------------------------------------------------------------------------------------------------------

    def learn(self, lessons: Sequence[Lesson]) -> None:
        """Keep what a series taught of its senders, in place of what it taught before; forget their oldest."""
        with self._transaction() as connection:
            for lesson in lessons:
                values = asdict(lesson)
                connection.execute(
                    tables.insert(connection, tables.lesson)
                    .values(**values)
                    .on_conflict_do_update(index_elements=["calling_ae_title", "series_instance_uid"], set_=values)
                )
                own = tables.lesson.c.calling_ae_title == lesson.calling_ae_title
                latest = (
                    sa.select(tables.lesson.c.series_instance_uid)
                    .where(own)
                    .order_by(tables.lesson.c.learned_at.desc())
                )
                kept = tables.lesson.c.series_instance_uid.in_(latest.limit(LESSONS_REMEMBERED))
                connection.execute(sa.delete(tables.lesson).where(own, ~kept))

    def lessons_of(self, calling_ae_title: str) -> tuple[Lesson, ...]:
        """Give what the latest series of a sender taught."""
        return self._lessons(sa.select(tables.lesson).where(tables.lesson.c.calling_ae_title == calling_ae_title))

    def all_lessons(self) -> tuple[Lesson, ...]:
        """Give what the latest series of every sender taught."""
        return self._lessons(sa.select(tables.lesson))

    def _lessons(self, query: sa.Select[Any]) -> tuple[Lesson, ...]:
        ordered = query.order_by(tables.lesson.c.calling_ae_title, tables.lesson.c.learned_at)
        return tuple(Lesson(**row) for row in self._rows(ordered))
