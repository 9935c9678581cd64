"""A database of an earlier version keeps every row and goes on; one of a later version is left alone."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from node import __version__
from node.adapters import migrations
from node.adapters.database import open_database
from node.adapters.ledger import Ledger
from node.adapters.tables import SCHEMA_VERSION, TABLES
from node.domain.errors import SetupError
from node.domain.jobs import DeliveryState, JobState, SeriesState

# As the tables were made before they had a version.
TABLES_1 = """\
CREATE TABLE association (association_id TEXT NOT NULL, series_uid TEXT NOT NULL, calling_ae_title TEXT NOT NULL,
  ending TEXT NOT NULL, opened_at FLOAT NOT NULL, ended_at FLOAT, PRIMARY KEY (association_id, series_uid));
CREATE INDEX association_of_series ON association (series_uid);
CREATE TABLE refused (series_uid TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, reason TEXT NOT NULL, at FLOAT NOT NULL,
  PRIMARY KEY (series_uid, sop_instance_uid));
CREATE TABLE lesson (calling_ae_title TEXT NOT NULL, series_instance_uid TEXT NOT NULL, learned_at FLOAT NOT NULL,
  instances INTEGER NOT NULL, associations INTEGER NOT NULL, within_s FLOAT NOT NULL, between_s FLOAT NOT NULL,
  counted_acquisitions INTEGER NOT NULL, PRIMARY KEY (calling_ae_title, series_instance_uid));
CREATE TABLE series (series_uid TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, evidence JSON NOT NULL,
  left_out JSON NOT NULL, modality TEXT NOT NULL, calling_ae_titles JSON NOT NULL, instances INTEGER NOT NULL,
  study_uid TEXT, gathered JSON NOT NULL, stamp TEXT NOT NULL, route TEXT, fingerprint TEXT, first_instance_at FLOAT,
  last_instance_at FLOAT, complete_at FLOAT, look_again_at FLOAT, updated_at FLOAT NOT NULL, PRIMARY KEY (series_uid));
CREATE INDEX series_of_study ON series (study_uid);
CREATE TABLE manifest (series_uid TEXT NOT NULL, fingerprint TEXT NOT NULL, body JSON NOT NULL, evidence JSON NOT NULL,
  created_at FLOAT NOT NULL, PRIMARY KEY (series_uid, fingerprint));
CREATE TABLE job (job TEXT NOT NULL, series_uid TEXT NOT NULL, fingerprint TEXT NOT NULL, channels JSON NOT NULL,
  route TEXT NOT NULL, model TEXT NOT NULL, outputs JSON NOT NULL, destinations JSON NOT NULL,
  run_number INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
  progress TEXT NOT NULL, progress_at FLOAT, setbacks JSON NOT NULL, report JSON NOT NULL, timings JSON NOT NULL,
  created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL, PRIMARY KEY (job));
CREATE TABLE output (job TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, kind TEXT NOT NULL, form TEXT NOT NULL,
  path TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (job, sop_instance_uid));
CREATE TABLE delivery (job TEXT NOT NULL, destination TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
  reason TEXT NOT NULL, offers JSON NOT NULL, receipts JSON NOT NULL, next_attempt_at FLOAT, took_s FLOAT,
  created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL, PRIMARY KEY (job, destination));
CREATE TABLE event (event INTEGER NOT NULL, at FLOAT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
  text TEXT NOT NULL, PRIMARY KEY (event), CONSTRAINT event_once UNIQUE (kind, subject, text))
"""

SERIES: dict[str, Any] = {
    "state": "complete",
    "reason": "",
    "evidence": ["regular"],
    "left_out": [],
    "modality": "CT",
    "calling_ae_titles": ["CT1"],
    "instances": 5,
    "study_uid": "1.2",
    "gathered": [],
    "stamp": "5",
    "updated_at": 9.0,
}
JOB: dict[str, Any] = {
    "series_uid": "1.2.0",
    "fingerprint": "f",
    "channels": [],
    "route": "r",
    "model": "m",
    "outputs": ["seg"],
    "destinations": ["tps"],
    "run_number": 1,
    "attempt": 2,
    "reason": "",
    "progress": "",
    "setbacks": [{"attempt": 1, "reason": "it crashed", "at": 8.0}],
    "report": {},
    "timings": {},
    "created_at": 7.0,
    "updated_at": 9.0,
}
DELIVERY: dict[str, Any] = {
    "job": "job contoured",
    "attempt": 3,
    "reason": "",
    "offers": [["9.9"]],
    "receipts": [],
    "created_at": 7.0,
    "updated_at": 9.0,
}
LESSON = {
    "calling_ae_title": "CT1",
    "series_instance_uid": "1.2.0",
    "learned_at": 9.0,
    "instances": 5,
    "associations": 1,
    "within_s": 0.5,
    "between_s": 0.0,
    "counted_acquisitions": 0,
}


def fill(connection: sa.Connection) -> None:
    """Write rows in every state, as the version before would have."""

    def write(table: str, **row: Any) -> None:
        values = {name: json.dumps(one) if isinstance(one, list | dict) else one for name, one in row.items()}
        places = ", ".join(f":{name}" for name in values)
        connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})"), values)

    for number, series_state in enumerate(SeriesState):
        write("series", **{**SERIES, "series_uid": f"1.2.{number}", "state": str(series_state)})
    for job_state in JobState:
        write("job", **JOB, job=f"job {job_state}", state=str(job_state))
    for delivery_state in DeliveryState:
        write("delivery", **DELIVERY, destination=f"to {delivery_state}", state=str(delivery_state))
    write("manifest", series_uid="1.2.0", fingerprint="f", body={"planes": [1]}, evidence=["regular"], created_at=7.0)
    write("output", job="job contoured", sop_instance_uid="9.9", kind="seg", form="binary", path="a.dcm", sha256="0")
    write("refused", series_uid="1.2.0", sop_instance_uid="1.2.0.1", reason="0xC000: cut off", at=1.0)
    write("event", at=1.0, kind="association rejected", subject="CT9", text="unknown")
    write("lesson", **LESSON)
    sent = {"calling_ae_title": "CT1", "opened_at": 1.0}
    write("association", association_id="receiver/a", series_uid="1.2.0", ending="released", ended_at=2.0, **sent)
    write("association", association_id="receiver/b", series_uid="1.2.1", ending="open", **sent)


@pytest.fixture
def former(tmp_path: Path) -> Iterator[sa.Engine]:
    """Give a database that the first version made and used."""
    database = open_database(tmp_path / "node.sqlite")
    with database.begin() as connection:
        for statement in TABLES_1.split(";\n"):
            connection.exec_driver_sql(statement)
        fill(connection)
    yield database
    database.dispose()


def rows_of(database: sa.Engine) -> dict[str, list[dict[str, Any]]]:
    """Give every row of every table that the first version had."""
    there = sa.inspect(database)
    names = [line.split()[2] for line in TABLES_1.splitlines() if line.startswith("CREATE TABLE")]
    assert set(names) <= set(there.get_table_names())
    with database.connect() as connection:
        return {
            name: [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {name}")).mappings()]
            for name in names
        }


def test_a_database_of_the_first_version_keeps_every_row_as_it_was(former: sa.Engine) -> None:
    before = rows_of(former)

    Ledger(former)

    after = rows_of(former)
    for table, rows in before.items():
        assert rows, table
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert kept == rows, table


def test_what_the_first_version_left_unfinished_goes_on(former: sa.Engine) -> None:
    ledger = Ledger(former, now=lambda: 1000.0)

    assert {row["state"] for row in ledger.unfinished_jobs()} == {"queued", "contouring", "waiting"}
    assert {row["state"] for row in ledger.unfinished_deliveries()} == {"queued", "waiting"}
    job = ledger.job("job waiting")
    assert job is not None
    new = {name: job[name] for name in ("priority", "tries", "worker", "superseded_by")}
    assert new == {"priority": 10, "tries": 0, "worker": "", "superseded_by": None}
    assert (job["attempt"], job["setbacks"]) == (2, JOB["setbacks"])

    ledger.move_job("job waiting", JobState.CONTOURING)
    ledger.finish_job("job waiting", {}, [], {"tps": [("9.9",)]}, lambda _: None)
    ledger.move_delivery("job contoured", "to waiting", DeliveryState.DELIVERED, {}, None)

    delivered = ledger.delivery("job contoured", "to waiting")
    assert delivered is not None
    assert (delivered["state"], delivered["via"], delivered["confirmation"]) == ("delivered", None, {})
    assert ledger.delivery("job waiting", "tps") is not None


def test_associations_keep_their_order_and_are_counted_on(former: sa.Engine) -> None:
    ledger = Ledger(former, now=lambda: 1000.0)
    latest = ledger.latest_association()

    ledger.association_contributes("receiver/c", "CT1", "1.2.3", 5.0)

    assert latest == 2
    assert set(ledger.series_sent_since(1)) == {"1.2.1", "1.2.3"}
    assert ledger.series_sent_since(latest) == ("1.2.3",)
    assert ledger.associations_lost("receiver") == 2


def described(database: sa.Engine) -> dict[str, Any]:
    there = sa.inspect(database)

    def columns(table: str) -> dict[str, tuple[str, bool, Any, int]]:
        return {
            one["name"]: (str(one["type"]), one["nullable"], one["default"], one["primary_key"])  # type: ignore[typeddict-item]
            for one in there.get_columns(table)
        }

    return {
        name: (
            columns(name),
            sorted((one["name"] or "", tuple(one["column_names"])) for one in there.get_indexes(name)),
            sorted((one["name"] or "", tuple(one["column_names"])) for one in there.get_unique_constraints(name)),
        )
        for name in TABLES.tables
    }


def test_tables_that_were_brought_here_are_those_that_are_made_anew(former: sa.Engine, tmp_path: Path) -> None:
    Ledger(former)
    anew = open_database(tmp_path / "anew.sqlite")
    Ledger(anew)

    assert described(former) == described(anew)
    anew.dispose()


def test_several_processes_that_start_at_once_do_every_step_once(former: sa.Engine, tmp_path: Path) -> None:
    others = [open_database(tmp_path / "node.sqlite") for _ in range(6)]

    with ThreadPoolExecutor(len(others)) as threads:
        ledgers = list(threads.map(Ledger, others))

    assert [len(ledger.all_jobs()) for ledger in ledgers] == [len(JobState)] * len(others)
    with former.connect() as connection:
        rows = connection.execute(sa.text("SELECT version, made_by FROM schema")).all()
    assert [tuple(row) for row in rows] == [(SCHEMA_VERSION, __version__)]
    for other in others:
        other.dispose()


def test_a_migration_that_is_cut_short_is_as_if_it_had_never_begun(
    former: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, step = rows_of(former), migrations._step_to

    def step_and_stop(connection: sa.Connection, number: int) -> None:
        step(connection, number)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_step_to", step_and_stop)
        with pytest.raises(KeyboardInterrupt):
            Ledger(former)

    assert rows_of(former) == before
    assert not sa.inspect(former).has_table("schema")
    assert len(Ledger(former).all_jobs()) == len(JobState)


@pytest.mark.parametrize("change", [lambda _: None, lambda c: c.exec_driver_sql("DROP TABLE job")])
def test_a_database_of_a_later_version_is_refused_by_the_name_of_its_maker(
    tmp_path: Path, change: Callable[[sa.Connection], Any]
) -> None:
    database = open_database(tmp_path / "node.sqlite")
    Ledger(database)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE schema SET version = version + 1, made_by = '9.8.7'"))
        change(connection)

    with pytest.raises(SetupError, match=r"was made by Delineate 9\.8\.7") as raised:
        Ledger(database)

    assert "Start Delineate 9.8.7 or a later one" in raised.value.remedy
    database.dispose()
