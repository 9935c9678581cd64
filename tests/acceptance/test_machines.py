"""Several machines, one node: one database, one folder, and no work is lost or done twice when one of them is.

The machines are configurations with names of their own, on one folder and one PostgreSQL server on loopback.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from pydicom import Dataset

from node.adapters.database import open_server
from node.adapters.storage_scu import store
from tests.acceptance.running import RunningNode
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import FakeDestination
from tests.postgres import Server


class Machine(RunningNode):
    """One of several machines, for some of the roles."""

    def __init__(self, folder: Path, *roles: str, database: str, destination_port: int) -> None:
        folder.mkdir()
        super().__init__(folder, destination_port=destination_port)
        self.name = folder.name
        self.roles = roles
        text = self.config_path.read_text(encoding="utf-8")
        text = text.replace(f'data_dir = "{folder}/var"', f'data_dir = "{folder.parent}/shared"')
        text = text.replace("[node]\n", f'[node]\ndatabase = "{database}"\nmachine = "{self.name}"\n')
        self.config_path.write_text(text, encoding="utf-8")

    def command(self) -> list[str]:
        """Give the command line that starts it."""
        return [*super().command(), *(part for role in self.roles for part in ("--roles", role))]

    def start(self) -> None:
        """Start it, and wait until it takes work."""
        if "receiver" in self.roles:
            super().start()
            return
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def signal(self, number: int) -> None:
        """Send a signal to every process of it."""
        assert self.process is not None
        supervisor = psutil.Process(self.process.pid)
        for one in [supervisor, *supervisor.children(recursive=True)]:
            one.send_signal(number)


class Site:
    """A machine that receives and dispatches, two that contour, of which one could dispatch, too, and a destination."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.database = server.new_database()
        self.tps = FakeDestination()
        self.door = self._machine("door", "receiver", "dispatcher")
        self.workers = {
            "first": self._machine("first", "contourer", "dispatcher"),
            "second": self._machine("second", "contourer"),
        }

    def _machine(self, name: str, *roles: str) -> Machine:
        return Machine(self.folder / name, *roles, database=self.database, destination_port=self.tps.address.port)

    def send(self, series: str) -> list[Dataset]:
        """Send a series; gives its images."""
        images = phantom(series, slices=80)
        store(self.door.address, save_series(images, self.folder / series), calling_ae_title="CT1")
        return images

    def freeze_who_is_at_work(self) -> Machine:
        """Stop, in the middle of the job, every process of the machine that has it."""
        before = {name: one.log.count("] contouring ") for name, one in self.workers.items()}
        until = time.monotonic() + 120
        while True:
            for name, one in self.workers.items():
                if one.log.count("] contouring ") > before[name]:
                    one.signal(signal.SIGSTOP)
                    return one
            assert time.monotonic() < until, self.door.log
            time.sleep(0.005)

    def job_of(self, images: list[Dataset]) -> dict[str, Any]:
        """Give the one job of a series, as ``delineate status`` shows it."""
        (job,) = [one for one in self.door.status()["jobs"] if one["series_uid"] == images[0].SeriesInstanceUID]
        return dict(job)

    def wait_until_delivered(self, images: list[Dataset]) -> dict[str, Any]:
        """Wait until the result of a series is delivered; gives its job."""
        uid = str(images[0].SeriesInstanceUID)
        self.door.wait_until(
            lambda status: [one["state"] for one in status["deliveries"] if one["job"].startswith(uid)] == ["delivered"]
        )
        return self.job_of(images)

    def received_once(self, job: dict[str, Any]) -> bool:
        """Tell whether the destination got every object of a job, each once."""
        made = sorted(one["sop_instance_uid"] for one in job["outputs"])
        return sorted(uid for one in self.tps.received if (uid := str(one.SOPInstanceUID)) in made) == made

    def cut_off(self, machine: Machine) -> None:
        """End every connection of a machine, as the server does with one that it hears nothing of."""
        server = open_server(self.database)
        with server.begin() as connection:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE :of_it"
            assert connection.execute(sa.text(cut), {"of_it": f"delineate %@{machine.name}"}).all()
        server.dispose()

    def result_files(self, job: dict[str, Any]) -> set[str]:
        """Name every file beside the results of a job."""
        shared = self.folder / "shared"
        folder = (shared / job["outputs"][0]["path"]).parent
        return {str(path.relative_to(shared)) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def site(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), postgres)
    with ExitStack() as stack:
        stack.enter_context(made.tps)
        # All at once, on an empty database: one of them makes the tables, and the engine's.
        for one in (*made.workers.values(), made.door):
            stack.enter_context(one)
        made.door.wait_until(
            lambda status: {f"contourer@{name}" for name in made.workers} <= {one["name"] for one in status["workers"]}
        )
        yield made


def test_a_frozen_worker_whose_job_was_handed_on_comes_too_late(site: Site) -> None:
    images = site.send("frozen")
    frozen = site.freeze_who_is_at_work()
    try:
        site.cut_off(frozen)
        job = site.wait_until_delivered(images)
    finally:
        frozen.signal(signal.SIGCONT)
    frozen.wait_until(lambda _: "job was taken back" in frozen.log)

    (other,) = [one for one in site.workers.values() if one is not frozen]
    assert job["worker"] == f"contourer@{other.name}"
    assert [one["reason"].split(" while")[0] for one in job["setbacks"]] == [
        f"Its worker contourer@{frozen.name} was lost"
    ]
    assert site.job_of(images) == job
    assert site.result_files(job) == {one["path"] for one in job["outputs"]}
    assert site.received_once(job)


def test_the_job_of_a_machine_that_is_killed_is_finished_by_another(site: Site) -> None:
    images = site.send("killed")
    killed = site.freeze_who_is_at_work()
    killed.signal(signal.SIGKILL)
    killed_at = time.monotonic()

    site.door.wait_until(lambda _: site.job_of(images)["worker"] != f"contourer@{killed.name}")
    handed_on_within_s = time.monotonic() - killed_at
    print(f"handed on after {handed_on_within_s:.1f} s")
    job = site.wait_until_delivered(images)

    assert job["attempt"] == 2
    assert handed_on_within_s < 30
    assert site.received_once(job)
    assert f"contourer@{killed.name}" not in {one["name"] for one in site.door.status()["workers"]}
    assert killed.process is not None
    killed.process.wait(30)
    killed.start()


def test_a_server_that_restarts_while_a_job_runs_costs_no_result(site: Site) -> None:
    images = site.send("restarted")
    site.door.wait_until(lambda status: "contouring" in {one["state"] for one in status["jobs"]})

    site.server.stop()
    time.sleep(3.0)
    site.server.start()

    assert site.received_once(site.wait_until_delivered(images))


def leader_of(status: dict[str, Any]) -> set[str]:
    return {one["machine"] for one in status["workers"] if one["doing"] == "leads" and one["seen_s"] < 5}


def test_another_machine_dispatches_when_the_one_that_did_is_killed(site: Site) -> None:
    images = site.send("dispatched")
    (leader,) = leader_of(site.door.wait_until(lambda status: len(leader_of(status)) == 1))
    machine = site.door if leader == "door" else site.workers[leader]

    assert machine.process is not None
    # Its supervisor would start a new one, that may lead again before the other machine looks.
    machine.process.send_signal(signal.SIGSTOP)
    try:
        machine.kill_role("dispatcher")

        site.door.wait_until(lambda status: leader_of(status) - {leader})
        job = site.wait_until_delivered(images)
    finally:
        machine.process.send_signal(signal.SIGCONT)
    assert site.received_once(job)
