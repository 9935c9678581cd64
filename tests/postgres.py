"""A PostgreSQL server of the tests' own, on loopback, from Debian's package; gone with the tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import sqlalchemy as sa

from node.adapters.database import open_server
from tests.fakes import free_port

_USER, _PASSWORD = "delineate", "not a secret"


class Server:
    """One server; may be stopped and started again."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._programs = programs
        self._names = count(1)
        self.passwords = folder / "passwords"
        self.passwords.write_text(f"127.0.0.1:{self.port}:*:{_USER}:{_PASSWORD}\n", encoding="ascii")
        self.passwords.chmod(0o600)
        secret = folder / "secret"
        secret.write_text(_PASSWORD, encoding="ascii")
        # initdb and postgres refuse to run as root.
        self._drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if self._drop:
            owner = pwd.getpwnam("postgres")
            for path in (folder, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "--auth=scram-sha-256", f"--username={_USER}", f"--pwfile={secret}", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self._folder} -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", str(self._folder / "log"))

    def stop(self) -> None:
        """Stop it at once, as a crash of it does."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def new_database(self) -> str:
        """Make an empty database; gives its address."""
        name = f"test_{next(self._names)}"
        maker = open_server(self._url("postgres"))
        with maker.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        maker.dispose()
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._drop, str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        # No pipe: the server would keep it open.
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/", timeout=120)


def programs() -> Path | None:
    """Find the server's programs, the newest; None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def running_server(programs: Path) -> Iterator[Server]:
    """Run a server; libpq finds its password by PGPASSFILE in this process and those that it starts."""
    # Not pytest's folder: the server's user may not go there. Short: it is the name of a socket, too.
    with tempfile.TemporaryDirectory(prefix="delineate-pg-", dir="/tmp") as folder:
        server = Server(Path(folder), programs)
        server.start()
        before = os.environ.get("PGPASSFILE")
        os.environ["PGPASSFILE"] = str(server.passwords)
        try:
            yield server
        finally:
            server.stop()
            os.environ.pop("PGPASSFILE")
            if before is not None:
                os.environ["PGPASSFILE"] = before
