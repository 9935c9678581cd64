"""Several machines, one node: one database, one folder, and no work is lost or done twice when one of them is.

Two machines are two configurations with names of their own, on one folder and one PostgreSQL server on loopback.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from node.adapters.storage_scu import store
from tests.acceptance.running import RunningNode
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import FakeDestination
from tests.postgres import Server


class Machine(RunningNode):
    """One of several machines; some roles, all by default."""

    def __init__(self, folder: Path, name: str, *, shared: Path, database: str, tps: int, roles: str = "") -> None:
        folder = folder / name
        folder.mkdir()
        super().__init__(folder, destination_port=tps)
        self.name = name
        self.roles = roles.split()
        text = self.config_path.read_text(encoding="utf-8").replace(
            f'data_dir = "{folder}/var"', f'data_dir = "{shared}"'
        )
        text = text.replace("[node]\n", f'[node]\ndatabase = "{database}"\nmachine = "{name}"\n')
        self.config_path.write_text(text, encoding="utf-8")

    def command(self) -> list[str]:
        """Give the command line that starts it."""
        return [*super().command(), *(part for role in self.roles for part in ("--roles", role))]

    def start(self) -> None:
        """Start it, and wait until it works."""
        if not self.roles or "receiver" in self.roles:
            super().start()
            return
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def everybody(self) -> list[psutil.Process]:
        """Give its processes."""
        assert self.process is not None
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]


@pytest.fixture
def machines(postgres: Server, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Give what starts another machine of one node; they end with the test."""
    database, made = postgres.new_database(), []
    with ExitStack() as stack, FakeDestination() as tps:

        def start(name: str, roles: str = "") -> Machine:
            machine = Machine(
                tmp_path, name, shared=tmp_path / "shared", database=database, tps=tps.address.port, roles=roles
            )
            machine.database = database  # type: ignore[attr-defined]
            machine.tps = tps  # type: ignore[attr-defined]
            made.append(machine)
            return stack.enter_context(machine)

        yield start


def in_hands_of(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: any(
        job["worker"] == f"contourer@{name}" and job["state"] == "contouring" for job in status["jobs"]
    )


def test_smoke(machines: Callable[..., Machine], tmp_path: Path) -> None:
    a = machines("a", "receiver dispatcher")
    machines("b", "contourer")
    files = save_series(phantom("machines", slices=80), tmp_path / "ct")
    store(a.address, files, calling_ae_title="CT1")
    status = a.wait_until_delivered()
    print(status["jobs"])
    assert [job["worker"] for job in status["jobs"]] == ["contourer@b"]
