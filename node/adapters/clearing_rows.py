"""What the ledger knows of what may be removed, what was removed, and how full the disk was."""

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from node.adapters import tables
from node.adapters.rows import Row, Rows
from node.domain.delivery import is_proven, notice_key, told_of
from node.domain.jobs import DeliveryState, JobState, SeriesState
from node.domain.retention import DAY_S, DeliveryFact, DiskSample, JobFact, RemovedFiles, SeriesFact

_REMOVED_WAITING = "it waited in vain, and its images were removed (retention.declined_days)"
# Older samples say nothing of how the disk fills now.
_SAMPLES_KEPT_S = 8 * DAY_S

# Images that are there: never removed, or sent again since.
_HAS_IMAGES = sa.or_(
    tables.series.c.removed_at.is_(None), tables.series.c.last_instance_at > tables.series.c.removed_at
)
_SENT_AT = sa.func.coalesce(tables.series.c.last_instance_at, tables.series.c.updated_at)


class ClearingRows(Rows):
    """The ledger of what is removed."""

    def series_with_images(self, *, after: tuple[float, str] | None, limit: int) -> list[SeriesFact]:
        """Give series whose images are there, the oldest first; those behind ``after`` (time, series)."""
        with self._transaction() as connection:
            query = sa.select(tables.series).where(_HAS_IMAGES).order_by(_SENT_AT, tables.series.c.series_uid)
            if after is not None:
                query = query.where(sa.tuple_(_SENT_AT, tables.series.c.series_uid) > sa.tuple_(*after))
            return _series_facts(connection, query.limit(limit))

    def mark_images_removed(self, series: SeriesFact, file_names: Sequence[str]) -> bool:
        """Write that the images of a series are removed, unless anything changed since it was judged; gives whether.

        Parameters
        ----------
        file_names
            Of all that is removed. What was removed before and did not come again stays written.
        """
        uid = series.series_uid
        of_it = tables.series.c.series_uid == uid
        with self._transaction() as connection:
            tables.one_at_a_time(connection, "removal")
            if _series_facts(connection, sa.select(tables.series).where(of_it, _HAS_IMAGES)) != [series]:
                return False
            row = connection.execute(sa.select(tables.series).where(of_it)).mappings().one()
            before = _removal(connection, uid) if row["removed_at"] is not None else None
            names = sorted({*file_names, *(before.file_names if before else ())})
            values = {"file_names": names, "association": _latest_association(connection, uid)}
            written = tables.insert(connection, tables.removal).values(series_uid=uid, **values)
            connection.execute(written.on_conflict_do_update(index_elements=["series_uid"], set_=values))
            facts: Row = {"removed_at": self._now(), "gathered": []}
            if row["state"] == SeriesState.WAITING:
                facts |= {"state": SeriesState.DECLINED, "reason": _REMOVED_WAITING}
            connection.execute(sa.update(tables.series).where(of_it).values(**facts))
            return True

    def removed_files(self, series_uid: str) -> RemovedFiles | None:
        """Give what was removed of a series, and whether it is asked for again; None where all came again."""
        with self._transaction() as connection:
            return _removal(connection, series_uid)

    def removed_images(self, series_uid: str) -> tuple[float, Sequence[str]] | None:
        """Give when images of a series were removed, and their SOP Instance UIDs; None where all came again."""
        found = self.removed_files(series_uid)
        return None if found is None else (found.at, sorted(found.sop_instance_uids))

    def series_removed(self) -> frozenset[str]:
        """Name every series of which images were removed and did not all come again."""
        query = sa.select(tables.series.c.series_uid).where(tables.series.c.removed_at.is_not(None))
        return frozenset(row["series_uid"] for row in self._rows(query))

    def first_identity(self, series_uid: str) -> str:
        """Give whose the series was when it was first contoured; empty where it never was, or no manifest says it."""
        of_it = sa.select(tables.manifest.c.body).where(tables.manifest.c.series_uid == series_uid)
        rows = self._rows(of_it.order_by(tables.manifest.c.created_at, tables.manifest.c.fingerprint).limit(1))
        return str(rows[0]["body"].get("identity", "")) if rows else ""

    # Results ---------------------------------------------------------------------------------------------------------

    def jobs_with_results(self, *, after: tuple[float, str] | None, limit: int) -> list[JobFact]:
        """Give contoured jobs whose results are there, the oldest first; those behind ``after`` (time, job)."""
        job = tables.job
        kept = sa.exists().where(tables.output.c.job == job.c.job, tables.output.c.removed_at.is_(None))
        query = sa.select(job).where(job.c.state == JobState.CONTOURED, kept).order_by(job.c.updated_at, job.c.job)
        if after is not None:
            query = query.where(sa.tuple_(job.c.updated_at, job.c.job) > sa.tuple_(*after))
        with self._transaction() as connection:
            return _job_facts(connection, connection.execute(query.limit(limit)).mappings().all())

    def reports_with_results(self, *, after: str | None, limit: int) -> list[JobFact]:
        """Give reports that nothing came of a job or a series, as jobs, whose files are there; those behind ``after``.

        One that was never offered to anybody is not among them.
        """
        one = tables.output.c
        kept = one.job.contains(notice_key("", ""), autoescape=True), one.removed_at.is_(None), one.job > (after or "")
        query = sa.select(one.job).where(*kept).distinct().order_by(one.job).limit(limit)
        with self._transaction() as connection:
            return _report_facts(connection, list(connection.execute(query).scalars()))

    def mark_results_removed(self, job: JobFact) -> bool:
        """Write that the results of a job, or a report, are removed, unless anything changed since it was judged.

        Gives whether it did.
        """
        with self._transaction() as connection:
            tables.one_at_a_time(connection, "removal")
            if _fact_of(connection, job.job) != [job]:
                return False
            outputs = sa.update(tables.output).where(tables.output.c.job == job.job)
            connection.execute(outputs.values(removed_at=self._now()))
            return True

    def jobs_without_results(self) -> list[str]:
        """Name every job whose results were removed."""
        removed = sa.select(tables.output.c.job).where(tables.output.c.removed_at.is_not(None)).distinct()
        return [row["job"] for row in self._rows(removed)]

    # The disk --------------------------------------------------------------------------------------------------------

    def note_disk(self, sample: DiskSample) -> None:
        """Keep what the disk held at one moment, and forget what it held more than a week ago."""
        with self._transaction() as connection:
            insert = tables.insert(connection, tables.disk).values(**asdict(sample))
            connection.execute(insert.on_conflict_do_nothing())
            connection.execute(sa.delete(tables.disk).where(tables.disk.c.at < sample.at - _SAMPLES_KEPT_S))

    def disk_samples(self) -> list[DiskSample]:
        """Give what the disk held during the past week, the latest last."""
        return [DiskSample(**row) for row in self._rows(sa.select(tables.disk).order_by(tables.disk.c.at))]


def _removal(connection: sa.Connection, series_uid: str) -> RemovedFiles | None:
    row = (
        connection.execute(
            sa.select(tables.removal, tables.series.c.removed_at)
            .join(tables.series, tables.series.c.series_uid == tables.removal.c.series_uid)
            .where(tables.removal.c.series_uid == series_uid, tables.series.c.removed_at.is_not(None))
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        return None
    jobs = _jobs_reading(connection, [series_uid])[series_uid]
    sent = tables.association.c.series_uid == series_uid
    later = sa.or_(tables.association.c.number > row["association"], tables.association.c.ending == "open")
    return RemovedFiles(
        at=row["removed_at"],
        file_names=frozenset(row["file_names"]),
        is_wanted=any(job.is_unfinished for job in jobs)
        or connection.execute(sa.select(tables.association.c.number).where(sent, later).limit(1)).first() is not None,
    )


def _latest_association(connection: sa.Connection, series_uid: str) -> int:
    of_it = tables.association.c.series_uid == series_uid
    latest: int | None = connection.scalar(sa.select(sa.func.max(tables.association.c.number)).where(of_it))
    return latest or 0


def _series_facts(connection: sa.Connection, query: sa.Select[tuple[object, ...]]) -> list[SeriesFact]:
    rows = connection.execute(query).mappings().all()
    uids = [row["series_uid"] for row in rows]
    jobs, sent_at, open_ones = _jobs_reading(connection, uids), *_sendings(connection, uids)
    return [
        SeriesFact(
            series_uid=row["series_uid"],
            state=SeriesState(row["state"]),
            sent_at=row["last_instance_at"] or row["updated_at"],
            at=max(row["last_instance_at"] or 0.0, row["updated_at"], sent_at.get(row["series_uid"], 0.0)),
            is_being_sent=row["series_uid"] in open_ones,
            jobs=jobs[row["series_uid"]],
        )
        for row in rows
    ]


def _sendings(connection: sa.Connection, uids: Sequence[str]) -> tuple[dict[str, float], frozenset[str]]:
    """Give when each series was last sent to, and those that are being sent."""
    one = tables.association.c
    query = sa.select(one.series_uid, one.ending, one.opened_at, one.ended_at).where(one.series_uid.in_(uids))
    at: dict[str, float] = {}
    open_ones = set()
    for row in connection.execute(query).mappings():
        at[row["series_uid"]] = max(at.get(row["series_uid"], 0.0), row["opened_at"], row["ended_at"] or 0.0)
        if row["ending"] == "open":
            open_ones.add(row["series_uid"])
    return at, frozenset(open_ones)


def _jobs_reading(connection: sa.Connection, uids: Sequence[str]) -> dict[str, tuple[JobFact, ...]]:
    """Give the jobs that read the images of each series: its own, and those of series of its study that take it."""
    series, job = tables.series, tables.job
    studies = sa.select(series.c.study_uid).where(series.c.series_uid.in_(uids))
    neighbours = sa.select(series.c.series_uid).where(series.c.study_uid.in_(studies))
    query = sa.select(job).where(sa.or_(job.c.series_uid.in_(uids), job.c.series_uid.in_(neighbours)))
    rows = connection.execute(query.order_by(job.c.job)).mappings().all()
    reading: dict[str, list[JobFact]] = {uid: [] for uid in uids}
    for row, fact in zip(rows, _job_facts(connection, rows), strict=True):
        for uid in {row["series_uid"], *(channel["series_uid"] for channel in row["channels"])} & reading.keys():
            reading[uid].append(fact)
    for report in _undelivered_reports(connection) if uids else ():
        uid = report.job.partition("/")[0]
        if uid in reading:
            reading[uid].append(report)
    return {uid: tuple(facts) for uid, facts in reading.items()}


def _fact_of(connection: sa.Connection, job: str) -> list[JobFact]:
    if told_of(job) is not None:
        return _report_facts(connection, [job])
    of_it = sa.select(tables.job).where(tables.job.c.job == job)
    return _job_facts(connection, connection.execute(of_it).mappings().all())


def _job_facts(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> list[JobFact]:
    deliveries = _deliveries(connection, tables.delivery.c.job.in_([row["job"] for row in rows]))
    return [
        JobFact(
            job=row["job"],
            state=JobState(row["state"]),
            at=row["updated_at"],
            deliveries=tuple(deliveries.get(row["job"], ())),
        )
        for row in rows
    ]


def _report_facts(connection: sa.Connection, keys: Sequence[str]) -> list[JobFact]:
    """Give reports as jobs that were declined and yet have something to deliver."""
    deliveries = _deliveries(connection, tables.delivery.c.job.in_(keys))
    return [
        JobFact(job=key, state=JobState.DECLINED, at=0.0, deliveries=tuple(deliveries[key]))
        for key in keys
        if key in deliveries
    ]


def _undelivered_reports(connection: sa.Connection) -> list[JobFact]:
    one = tables.delivery.c
    unproven = sa.or_(one.state != DeliveryState.DELIVERED, one.confirmed_at.is_(None))
    deliveries = _deliveries(connection, sa.and_(one.job.contains(notice_key("", ""), autoescape=True), unproven))
    return [
        JobFact(job=key, state=JobState.DECLINED, at=0.0, deliveries=tuple(found)) for key, found in deliveries.items()
    ]


def _deliveries(connection: sa.Connection, which: sa.ColumnElement[bool]) -> dict[str, list[DeliveryFact]]:
    query = sa.select(tables.delivery).where(which).order_by(tables.delivery.c.destination)
    deliveries: dict[str, list[DeliveryFact]] = {}
    for row in connection.execute(query).mappings():
        fact = DeliveryFact(
            destination=row["destination"],
            state=DeliveryState(row["state"]),
            at=max(row["updated_at"], row["confirmed_at"] or 0.0),
            is_unconfirmed=row["state"] == DeliveryState.DELIVERED and not is_proven(dict(row)),
        )
        deliveries.setdefault(row["job"], []).append(fact)
    return deliveries
