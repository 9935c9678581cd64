"""On a PostgreSQL server: a restart passes, processes that start together agree, and no association is overlooked."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from node.adapters import tables
from node.adapters.database import open_server, parse_url
from node.adapters.ledger import Ledger
from node.domain.errors import ResourceError, SetupError
from tests.postgres import Server
from tests.unit.test_ledger import FACTS, SERIES


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
def database(url: str) -> Iterator[sa.Engine]:
    opened = open_server(url)
    yield opened
    opened.dispose()


def test_a_server_that_is_down_is_a_lack_that_passes_and_its_restart_is_not_noticed(
    postgres: Server, database: sa.Engine
) -> None:
    ledger = Ledger(database)
    ledger.note_series(SERIES, FACTS)

    postgres.stop()
    try:
        with pytest.raises(ResourceError, match="database cannot be used") as raised:
            ledger.note_series(SERIES, FACTS)
    finally:
        postgres.start()

    assert "\n" not in raised.value.reason
    assert ledger.series(SERIES) is not None


def test_a_server_that_stops_in_the_middle_of_a_transaction_is_a_lack_that_passes(
    postgres: Server, database: sa.Engine
) -> None:
    ledger = Ledger(database)

    def stop_and_ask(connection: sa.Connection) -> None:
        postgres.stop()
        try:
            connection.execute(sa.text("SELECT 1"))
        finally:
            postgres.start()

    with pytest.raises(ResourceError):
        ledger.accept_series(SERIES, FACTS, [], [], stop_and_ask)

    assert ledger.all_series() == []


def test_processes_that_start_at_once_on_an_empty_database_make_its_tables_once(url: str) -> None:
    databases = [open_server(url) for _ in range(6)]

    with ThreadPoolExecutor(len(databases)) as threads:
        ledgers = list(threads.map(Ledger, databases))

    assert [ledger.all_jobs() for ledger in ledgers] == [[]] * len(databases)
    for one in databases:
        one.dispose()


def test_an_association_is_seen_in_the_order_of_its_number_whichever_commit_comes_first(database: sa.Engine) -> None:
    ledger = Ledger(database)
    slow_wrote, slow_may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with database.begin() as connection:
            tables.one_at_a_time(connection, "association")
            values = {"association_id": "slow", "series_uid": "1.1", "calling_ae_title": "CT1"}
            connection.execute(sa.insert(tables.association).values(**values, ending="open", opened_at=1.0))
            slow_wrote.set()
            slow_may_commit.wait(30)

    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(write_slowly)
        assert slow_wrote.wait(30)
        fast = threads.submit(ledger.association_contributes, "fast", "CT1", "1.2", 1.0)
        seen = ledger.latest_association()
        slow_may_commit.set()
        slow.result(30)
        fast.result(30)

    assert seen == 0
    assert set(ledger.series_sent_since(seen)) == {"1.1", "1.2"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://node:secret@db/delineate", "holds a password"),
        ("mysql://node@db/delineate", "no address of a PostgreSQL database"),
        ("postgresql://node@db", "no address of a PostgreSQL database"),
        ("what is this", "no address of a database"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(SetupError, match=said) as raised:
        parse_url(url)

    assert "secret" not in f"{raised.value.reason} {raised.value.remedy} {raised.value.__cause__}"
