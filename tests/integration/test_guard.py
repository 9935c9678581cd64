"""Who lives and who leads, on a PostgreSQL server: killed, frozen, cut off and orderly processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import sqlalchemy as sa

from node.adapters.database import open_server
from node.adapters.guard import Guard, Member, Peers
from node.adapters.ledger import Ledger
from node.domain.errors import SetupError
from tests.postgres import Server

T = TypeVar("T")

# Another process, which holds its name until it is killed.
OTHER = """
import os, sys, time
from node.adapters.database import open_server
from node.adapters.guard import Guard, Member
member = Member(name=sys.argv[2], machine="b", role="contourer", pid=os.getpid())
Guard(open_server(sys.argv[1]), member, lost=lambda: None).take(wait_s=0)
print("taken", flush=True)
time.sleep(3600)
"""


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture
def database(url: str) -> Iterator[sa.Engine]:
    opened = open_server(url)
    Ledger(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def other(url: str, database: sa.Engine) -> Iterator[subprocess.Popen[bytes]]:
    """Give another process, of another machine, that lives."""
    process = subprocess.Popen([sys.executable, "-c", OTHER, url, "contourer@b"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"taken\n"
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait(30)
    process.stdout.close()


def guard(database: sa.Engine, name: str = "dispatcher@a", lost: Callable[[], None] = lambda: None) -> Guard:
    role, machine = name.split("@")
    return Guard(database, Member(name=name, machine=machine, role=role, pid=os.getpid()), lost=lost)


def peers(database: sa.Engine, *, dead_after_s: float = 0.0, frozen_after_s: float = 3600.0) -> Peers:
    """Give the view of a leader that does not wait."""
    return Peers(database, dead_after_s=dead_after_s, frozen_after_s=frozen_after_s, comes_back_within_s=0.0)


def names_of_the_dead(seen: Peers) -> list[str]:
    with seen.dead() as dead:
        return [one.name for one in dead]


def wait_until(holds: Callable[[], T], what: str) -> T:
    """Ask until the answer is true; gives it."""
    until = time.monotonic() + 60
    while not (answer := holds()):
        assert time.monotonic() < until, what
        time.sleep(0.05)
    return answer


def test_two_processes_cannot_have_one_name(database: sa.Engine, other: subprocess.Popen[bytes]) -> None:
    with pytest.raises(SetupError, match="contourer@b is already running") as raised:
        guard(database, "contourer@b").take(wait_s=0.0)

    assert "node.machine" in raised.value.remedy


def test_one_that_lives_is_not_dead_however_long_it_was_not_seen(
    database: sa.Engine, other: subprocess.Popen[bytes]
) -> None:
    assert names_of_the_dead(peers(database)) == []
    assert [row["name"] for row in peers(database).all()] == ["contourer@b"]


def test_one_that_is_killed_is_dead_once_and_then_forgotten(
    database: sa.Engine, other: subprocess.Popen[bytes]
) -> None:
    other.kill()
    other.wait(30)

    found = wait_until(lambda: names_of_the_dead(peers(database)), "for the death to be seen")

    assert found == ["contourer@b"]
    assert names_of_the_dead(peers(database)) == []
    assert peers(database).all() == []


def test_one_that_was_seen_lately_has_time_to_come_back(database: sa.Engine, other: subprocess.Popen[bytes]) -> None:
    other.kill()
    other.wait(30)

    assert names_of_the_dead(peers(database, dead_after_s=3600.0)) == []


def test_after_a_start_of_the_server_everybody_has_time_to_come_back(
    database: sa.Engine, other: subprocess.Popen[bytes]
) -> None:
    other.kill()
    other.wait(30)

    assert names_of_the_dead(Peers(database, dead_after_s=0.0, comes_back_within_s=1e9)) == []


def test_work_of_the_dead_that_could_not_be_handed_on_is_found_again(
    database: sa.Engine, other: subprocess.Popen[bytes]
) -> None:
    other.kill()
    other.wait(30)
    seen = peers(database)
    wait_until(lambda: not _is_held(database), "for the server to notice")

    with pytest.raises(RuntimeError), seen.dead():
        raise RuntimeError

    assert names_of_the_dead(seen) == ["contourer@b"]


def _is_held(database: sa.Engine) -> bool:
    with database.connect() as connection:
        return bool(connection.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")))


def test_one_that_is_frozen_is_cut_off_and_comes_back_when_it_goes_on(
    database: sa.Engine, other: subprocess.Popen[bytes]
) -> None:
    other.send_signal(signal.SIGSTOP)
    seen = peers(database, frozen_after_s=0.5)

    cut_off = wait_until(seen.end_frozen, "for the frozen one to be seen")
    dead = wait_until(lambda: names_of_the_dead(seen), "for the frozen one to be dead")
    other.send_signal(signal.SIGCONT)

    wait_until(seen.all, "for it to come back")
    assert (cut_off, dead) == (["contourer@b"], ["contourer@b"])
    assert names_of_the_dead(seen) == []


def test_one_that_ends_in_order_says_so(url: str, database: sa.Engine) -> None:
    own = open_server(url)
    ending = guard(own, "contourer@b")
    ending.take(wait_s=0.0)
    ending.close()
    own.dispose()

    with peers(database, dead_after_s=3600.0).dead() as dead:
        assert [(one.name, one.pid) for one in dead] == [("contourer@b", 0)]


def test_one_leads_until_it_ends_and_then_another_does(url: str, database: sa.Engine) -> None:
    first, second = guard(database), guard(database, "dispatcher@b")
    first.take(wait_s=0.0)
    second.take(wait_s=0.0)

    assert (first.lead(), second.lead()) == (True, False)
    first.close()

    wait_until(second.lead, "for the lead")
    second.close()


def test_a_leader_that_is_cut_off_is_told(url: str, database: sa.Engine) -> None:
    told = threading.Event()
    own = open_server(url, "cut off")
    leader = guard(own, lost=told.set)
    leader.take(wait_s=0.0)
    assert leader.lead()

    with database.begin() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'delineate cut off'"
        connection.execute(sa.text(cut))

    assert told.wait(60)
    follower = guard(database, "dispatcher@b")
    follower.take(wait_s=0.0)
    assert follower.lead()
    follower.close()
    leader.close()
    own.dispose()


def test_one_that_stands_by_leads_after_a_restart_of_the_server(postgres: Server, database: sa.Engine) -> None:
    told = threading.Event()
    leader, follower = guard(database, lost=told.set), guard(database, "dispatcher@b")
    leader.take(wait_s=0.0)
    follower.take(wait_s=0.0)
    assert leader.lead()

    postgres.stop()
    try:
        assert told.wait(60)
        assert [follower.lead() for _ in range(3)] == [False] * 3
    finally:
        postgres.start()

    wait_until(follower.lead, "for the lead")
    assert not leader.lead()
    follower.close()
    leader.close()
