"""What ``delineate check`` tries of a database and a folder that several machines share."""

import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from node.adapters.guard import first_line
from node.adapters.ledger import Ledger
from node.adapters.shared_folder import FileSystem, folder_mark
from node.adapters.tables import SERVER_NOW
from node.domain.errors import NodeError, SetupError
from node.machines import other_folder

# PostgreSQL 13 is the oldest whose makers still mend it as this is written, and all that is asked for is there.
_OLDEST_SERVER = 130000
# Times of instances and of the database are compared; waits are seconds long.
_MOST_CLOCK_DIFFERENCE_S = 1.0
# A process that lives is seen every two seconds.
_ALIVE_S = 10.0
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


def check_server(database: sa.Engine) -> str:
    """Try the database server.

    Raises
    ------
    NodeError
        It cannot be reached, is too old, or does not keep what it said that it kept.
    """
    try:
        with database.connect() as connection:
            number = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
            unsafe = [name for name in _DURABLE if connection.exec_driver_sql(f"SHOW {name}").scalar_one() == "off"]
            same_session = _is_one_session(connection)
    except sa.exc.SQLAlchemyError as error:
        remedy = (
            "Start the server; correct node.database; give the password in the file that PGPASSFILE names; allow this "
            "machine in pg_hba.conf; look for a firewall between."
        )
        raise NodeError(f"{address(database)} cannot be used: {first_line(error)}.", remedy) from error
    if number < _OLDEST_SERVER:
        raise NodeError(
            f"{address(database)} is PostgreSQL {number // 10000}; 13 is the oldest that will do.", "Update the server."
        )
    if unsafe:
        raise NodeError(
            f"{address(database)} loses what it said it had kept when its power fails: {', '.join(unsafe)} is off.",
            "Switch it on in postgresql.conf.",
        )
    if not same_session:
        raise NodeError(
            f"{address(database)} gives every transaction another session: a pooler stands between.",
            "Connect to the server itself, or let the pooler keep sessions: workers hold locks there while they live.",
        )
    return f"PostgreSQL {number // 10000}.{number % 10000} at {address(database)}"


def _is_one_session(connection: sa.Connection) -> bool:
    sessions = set()
    for _ in range(5):
        sessions.add(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        connection.commit()
    return len(sessions) == 1


def address(database: sa.Engine) -> str:
    """Say where a database is, without a user or a password."""
    url = database.url
    return f"{url.host or 'this machine'}:{url.port or 5432}/{url.database}"


def check_clock(database: sa.Engine, now: Callable[[], float] = time.time) -> str:
    """Compare this machine's clock with the server's.

    Raises
    ------
    NodeError
        They differ too much.
    """
    with database.connect() as connection:
        before = now()
        servers = float(connection.execute(sa.select(SERVER_NOW)).scalar_one())
        after = now()
    # The server looked at its clock at some moment between.
    ahead_s = max(before - servers, 0.0) or min(after - servers, 0.0)
    if abs(ahead_s) > _MOST_CLOCK_DIFFERENCE_S:
        direction = "ahead of" if ahead_s > 0 else "behind"
        raise NodeError(
            f"this machine's clock is {abs(ahead_s):.1f} s {direction} the database server's.",
            "Let both follow a time server (chrony, systemd-timesyncd).",
        )
    return f"within {max(abs(ahead_s), after - before):.3f} s of the database server's"


def check_folder(ledger: Ledger, data_dir: Path, file_system: FileSystem) -> str:
    """Tell whether the data folder is the one that the other machines use.

    Raises
    ------
    SetupError
        It is another, or what they write there is seen here too late.
    """
    bound_to, mark = ledger.folder(), folder_mark(data_dir)
    if bound_to and bound_to != mark:
        raise other_folder(data_dir)
    if not file_system.shows_at_once:
        raise SetupError(
            f"{data_dir} is on {file_system.kind} and remembers folders for up to {file_system.remembers_s} s: a "
            "series would be judged before its last images are seen.",
            "Mount it with the option actimeo=1 (or noac) on every machine.",
        )
    others = sorted({row["machine"] for row in ledger.workers()})
    known = f"used by {', '.join(others)}" if others else "no machine uses it yet"
    return f"{data_dir} on {file_system.kind}; {known}"


def check_machine(ledger: Ledger, machine: str) -> str:
    """Say how this machine is called, and whether processes of that name live.

    Two machines of one name are found when the second starts: it is refused.
    """
    alive = [row for row in ledger.workers() if row["machine"] == machine and row["seen_s"] < _ALIVE_S and row["pid"]]
    at_work = ", ".join(f"{row['role']} (process {row['pid']})" for row in alive)
    return f"{machine}; {at_work or 'nothing'} of that name is at work"
