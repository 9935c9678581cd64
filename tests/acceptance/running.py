"""A node at work in processes of its own, for tests that look at it from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from node.config import load
from node.domain.delivery import PeerAddress
from node.status import read_status
from tests.fakes import free_port

_TEMPLATE = """\
[node]
port = {port}
data_dir = "{folder}/var"
minimum_free_gb = 0.2
device = "cpu"

[completion]
# Every sender here is new: waiting for the quiet period each time would make the tests slow.
new_senders = "settle"
settle_s = {settle_s}
quiet_period_s = {quiet_period_s}

[delivery]
first_retry_s = 0.5
longest_retry_s = 2.0
timeout_s = 10.0

[[destinations]]
name = "tps"
ae_title = "TPS"
host = "127.0.0.1"
port = {destination_port}

[[routes]]
name = "planning-ct"
when = {{ Modality = "CT" }}
models = ["{model}"]
destinations = ["tps"]
"""


_HOT_FOLDER = """
[hot_folder]
folder = "{folder}/drop"
stable_s = 0.5
rescan_s = 2.0

[[destinations]]
name = "shelf"
folder = "{folder}/results"
"""


class RunningNode:
    """``delineate serve`` with its configuration, data and log in one folder.

    Parameters
    ----------
    more
        Further sections of the configuration.

    >>> with RunningNode(tmp_path, destination_port=tps.address.port) as node:
    ...     node.wait_until(lambda status: status["deliveries"])
    """

    def __init__(
        self,
        folder: Path,
        *,
        destination_port: int,
        settle_s: float = 1.0,
        quiet_period_s: float = 4.0,
        model: str = "body-bones",
        more: str = "",
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.config_path = folder / "node.toml"
        text = _TEMPLATE.format(
            port=self.port,
            folder=folder,
            destination_port=destination_port,
            settle_s=settle_s,
            quiet_period_s=quiet_period_s,
            model=model,
        )
        self.config_path.write_text(text + more, encoding="utf-8")
        self.hot_folder = folder / "drop"
        self.results = folder / "results"
        self.log_path = folder / "node.log"
        self.process: subprocess.Popen[bytes] | None = None

    def use_folders(self) -> None:
        """Let it take from `hot_folder`, and deliver to the folder `results` alone."""
        for made in (self.hot_folder, self.results):
            made.mkdir()
        text = self.config_path.read_text(encoding="utf-8").replace(
            'destinations = ["tps"]', 'destinations = ["shelf"]'
        )
        self.config_path.write_text(text + _HOT_FOLDER.format(folder=self.folder), encoding="utf-8")

    @property
    def address(self) -> PeerAddress:
        """Give where it listens."""
        return PeerAddress(name="node", ae_title="DELINEATE", host="127.0.0.1", port=self.port)

    @property
    def log(self) -> str:
        """Give all that it logged so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def times_it_listened(self) -> int:
        """Give how often a receiver of it began to listen."""
        return self.log.count("] listening") if self.log_path.exists() else 0

    def command(self) -> list[str]:
        """Give the command line that starts it."""
        return [sys.executable, "-m", "node", "serve", "--config", str(self.config_path)]

    def start(self) -> None:
        """Start it and wait until it listens."""
        heard = self.times_it_listened
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self._wait(lambda: self.times_it_listened > heard or self.process_ended(), "to listen")
        assert not self.process_ended(), self.log

    def process_ended(self) -> bool:
        """Tell whether the supervisor has ended."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> int:
        """Stop it in order; gives the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def kill(self) -> None:
        """Kill every process of it at once, as a power cut does."""
        assert self.process is not None
        everybody = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for one in everybody:
            one.suspend()
        for one in everybody:
            one.kill()
        self.process.wait(30)

    def kill_supervisor(self) -> list[psutil.Process]:
        """Kill the supervisor alone, without warning; gives the processes that it leaves."""
        assert self.process is not None
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        self.process.kill()
        self.process.wait(30)
        return children

    def pid_of(self, role: str) -> int:
        """Give the process of a role, waiting until it is there."""
        assert self.process is not None
        supervisor = psutil.Process(self.process.pid)

        def find() -> int | None:
            for child in supervisor.children():
                try:
                    if child.cmdline()[-1:] == [role]:
                        return int(child.pid)
                except psutil.Error:
                    continue
            return None

        self._wait(lambda: find() is not None, f"for a {role}")
        found = find()
        assert found is not None
        return found

    def kill_role(self, role: str) -> None:
        """Kill the process of one role, without warning."""
        os.kill(self.pid_of(role), signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        """Give what ``delineate status`` reads."""
        return read_status(load(self.config_path))

    def wait_until(self, holds: Callable[[dict[str, Any]], Any], within_s: float = 120.0) -> dict[str, Any]:
        """Look at the status until it fulfils a condition; gives that status."""
        until = time.monotonic() + within_s
        while True:
            status = self.status()
            if holds(status):
                return status
            assert not self.process_ended(), self.log
            assert time.monotonic() < until, json.dumps(status, indent=1)[-3000:] + self.log[-3000:]
            # A look costs 0.04 s of a core: more often, several waiting tests would keep one busy.
            time.sleep(0.25)

    def wait_until_delivered(self, count: int = 1, within_s: float = 120.0) -> dict[str, Any]:
        """Wait until that many deliveries have been made."""

        def delivered(status: dict[str, Any]) -> bool:
            states = [row["state"] for row in status["deliveries"]]
            return states.count("delivered") >= count

        return self.wait_until(delivered, within_s)

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + 150
        while not holds():
            assert time.monotonic() < until, f"waited in vain {what}:\n{self.log}"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.process_ended():
            self.stop()


def run_delineate(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return run([sys.executable, "-m", "node", *arguments], cwd=cwd)


def run(
    command: Sequence[str | Path], cwd: Path | None = None, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run any program; gives what it printed."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
