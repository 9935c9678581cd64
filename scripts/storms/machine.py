"""`delineate serve` on one machine of the storm, and a service manager that starts it again whenever it ended."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from node.config import Config, load
from node.domain.delivery import PeerAddress
from tests.fakes import free_port

SUPERVISOR = "supervisor"
START_WITHIN_S, STOP_WITHIN_S = 120.0, 60.0
# What a service manager waits before it starts the node again.
_RESTART_AFTER_S = 0.3

# Every wait is short, so that much happens between two kills. No sender gets known: what would be learned of its
# pauses, which the kills make, would let its later series wait for minutes.
_CONFIGURATION = """\
[node]
machine = "{name}"
database = "{database}"
port = {port}
data_dir = "{folder}/var"
model_dirs = ["{folder}/models"]
device = "cpu"
threads = 1
minimum_free_gb = 0.2

[completion]
new_senders = "settle"
known_after_series = 50
settle_s = 1.0
quiet_period_s = 4.0

[delivery]
first_retry_s = 0.5
longest_retry_s = 4.0
timeout_s = 3.0

[hot_folder]
folder = "{folder}/drop"
stable_s = 0.5
rescan_s = 2.0

[[destinations]]
name = "tps"
ae_title = "TPS"
host = "127.0.0.1"
port = {destination_port}

[[destinations]]
name = "shelf"
folder = "{folder}/shelf"

[[routes]]
name = "storm"
when = {{ Modality = "CT" }}
models = ["densities"]
destinations = ["tps", "shelf"]
"""


class NotStartedError(Exception):
    """The node does not start; the message tells what it logged last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The folders of a storm, all in one."""

    folder: Path

    @property
    def sent(self) -> Path:
        """Give where the senders keep their files."""
        return self.folder / "sent"

    @property
    def drop(self) -> Path:
        """Give the node's hot folder."""
        return self.folder / "drop"

    @property
    def shelf(self) -> Path:
        """Give the destination that is a folder."""
        return self.folder / "shelf"

    @property
    def models(self) -> Path:
        """Give the folder of the model packages."""
        return self.folder / "models"


class Machine:
    """The node on one machine, kept running until it is told to rest.

    Parameters
    ----------
    database
        Address of the database that machines share; empty: the node's own file.

    >>> machine = Machine("a", places, database="", destination_port=11113)
    >>> machine.start()
    >>> machine.processes()["receiver"].kill()
    """

    def __init__(self, name: str, places: Places, *, database: str, destination_port: int) -> None:
        self.name = name
        self.port = free_port()
        self._config_path = places.folder / f"{name}.toml"
        self._log_path = places.folder / f"{name}.log"
        text = _CONFIGURATION.format(
            name=name, database=database, port=self.port, folder=places.folder, destination_port=destination_port
        )
        self._config_path.write_text(text, encoding="utf-8")
        self.config: Config = load(self._config_path)
        self._process: subprocess.Popen[bytes] | None = None
        self._resting = threading.Event()
        self._manager = threading.Thread(target=self._keep_running, daemon=True)
        # Exit statuses of the supervisor; negative: the signal that ended it.
        self.endings: list[int] = []

    @property
    def address(self) -> PeerAddress:
        """Give where it listens."""
        return PeerAddress(name=self.name, ae_title="DELINEATE", host="127.0.0.1", port=self.port)

    @property
    def log(self) -> str:
        """Give all that it logged."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it, wait until it listens, and let the service manager watch it."""
        self._launch()
        deadline = time.monotonic() + START_WITHIN_S
        while "] listening" not in self.log:
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise NotStartedError(f"The node does not start:\n{self.log[-3000:]}")
            time.sleep(0.1)
        self._manager.start()

    def processes(self) -> Mapping[str, psutil.Process]:
        """Give the processes that it has now, by role."""
        found: dict[str, psutil.Process] = {}
        try:
            assert self._process is not None
            supervisor = psutil.Process(self._process.pid)
            if supervisor.status() == psutil.STATUS_ZOMBIE:
                return found
            found[SUPERVISOR] = supervisor
            for child in supervisor.children():
                command = child.cmdline()
                if "--role" in command and child.status() != psutil.STATUS_ZOMBIE:
                    found[command[command.index("--role") + 1]] = child
        except psutil.Error:  # it ended while we looked
            pass
        return found

    def rest(self) -> int | None:
        """Stop it in order; gives its exit status, None where it had to be killed."""
        self._resting.set()
        if self._process is None:
            return 0
        if self._manager.is_alive():
            self._manager.join()
        self._process.terminate()
        try:
            return self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def left_behind(self) -> list[str]:
        """Give the command lines of processes of it that still run."""
        mine = str(self._config_path)
        found = []
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
                if mine in command and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid}: {' '.join(command)}")
            except psutil.Error:
                continue
        return found

    def _launch(self) -> None:
        command = [sys.executable, "-m", "node", "serve", "--config", str(self._config_path)]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _keep_running(self) -> None:
        while not self._resting.wait(0.1):
            assert self._process is not None
            status = self._process.poll()
            if status is not None:
                self.endings.append(status)
                self._resting.wait(_RESTART_AFTER_S)
                self._launch()
