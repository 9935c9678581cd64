"""The receiver under attack: `delineate serve --role receiver` in a process of its own, watched from outside."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from node.config import Config

# Quick, so that an attack that must run into a timeout does so while one watches; taken where the configuration of
# the receiver knows them.
QUICK: Mapping[str, float] = {
    "association_timeout_s": 2,
    "message_timeout_s": 3,
    "idle_timeout_s": 6,
    "maximum_object_mb": 64,
}
# How long a behaviour waits for the receiver to end what it must end, beyond the timeout that applies.
MARGIN_S = 4.0
START_WITHIN_S = 60.0
# What a line of the honest sender says, and no other.
HONEST = "HONEST"
# In all that the attackers send; must be found in no log line and no file name.
PATIENT = "Attackedson^Wilhelmine"
# What an AE title with a line break would write at the start of a line of the log.
FORGED = "FORGED"

CONFIGURATION = """\
[node]
port = {port}
data_dir = "{folder}/var"
minimum_free_gb = 0.2
"""


class NotStartedError(Exception):
    """There is no receiver to attack; the message says how it ended and what it logged last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalSigns:
    """What the system says of the receiver's process at one moment."""

    memory_mib: float
    threads: int
    descriptors: int


class Target:
    """The receiver with its configuration, data and log in one folder.

    >>> with Target(folder) as target:
    ...     target.vital_signs()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.data_dir = folder / "var"
        self.timeouts = _known_timeouts()
        self._log_path = folder / "node.log"
        self._config_path = folder / "node.toml"
        text = CONFIGURATION.format(port=self.port, folder=folder)
        if self.timeouts:
            text += "\n[receiver]\n" + "".join(f"{key} = {value:g}\n" for key, value in self.timeouts.items())
        self._config_path.write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._watched: psutil.Process | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "node", "serve", "--role", "receiver", "--config", str(self._config_path)]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        self._watched = psutil.Process(self._process.pid)
        deadline = time.monotonic() + START_WITHIN_S
        while not self._listens():
            if not self.is_alive() or time.monotonic() > deadline:
                raise NotStartedError(f"The receiver did not start ({self.how_it_ended()}):\n{self.log[-2000:]}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def is_alive(self) -> bool:
        """Tell whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def how_it_ended(self) -> str:
        """Say with what exit status, or by what signal, its process ended."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return "it runs"
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def longest_patience_s(self) -> float:
        """Give how long the receiver may keep a connection on which nothing goes on."""
        return MARGIN_S + max((s for key, s in self.timeouts.items() if key.endswith("_timeout_s")), default=0.0)

    def vital_signs(self) -> VitalSigns | None:
        """Look at its process; None: it has ended."""
        if self._watched is None or not self.is_alive():
            return None
        try:
            with self._watched.oneshot():
                return VitalSigns(
                    memory_mib=self._watched.memory_info().rss / 2**20,
                    threads=self._watched.num_threads(),
                    descriptors=self._watched.num_fds(),
                )
        except psutil.Error:
            return None

    @property
    def log(self) -> str:
        """Give all that it logged."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def attack_lines(self) -> list[str]:
        """Give the log lines that are not about the honest sender."""
        return [line for line in self.log.splitlines() if HONEST not in line]

    def unfinished_files(self) -> set[Path]:
        """Give the files that are being written, or were left so."""
        return set(self.data_dir.rglob("*.part"))

    def exposures(self) -> list[str]:
        """Tell where the patient's name, or a line that an attacker wrote, can be read, and what lies outside."""
        found = []
        secret = re.compile("|".join(PATIENT.split("^")))
        if secret.search(self.log):
            found.append("the patient's name is in the log")
        if any(line.startswith(FORGED) for line in self.log.splitlines()):
            found.append("an attacker wrote a line of the log")
        names = [path.relative_to(self.folder) for path in self.folder.rglob("*")]
        if any(secret.search(str(name)) for name in names):
            found.append("the patient's name is in a file name")
        reasons = (path.read_text(encoding="utf-8", errors="replace") for path in self.data_dir.rglob("*.reason.txt"))
        if any(secret.search(reason) for reason in reasons):
            found.append("the patient's name is in the reason of a refusal")
        outside = [str(name) for name in names if name.parts[0] not in ("var", "node.log", "node.toml", "honest.jsonl")]
        if outside:
            found.append(f"files outside the data folder: {outside[:3]}")
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _known_timeouts() -> Mapping[str, float]:
    """Give those of QUICK that the configuration's section for the receiver has."""
    section = Config.model_fields.get("receiver")
    known: Any = section.annotation.model_fields if section is not None and section.annotation is not None else {}
    return {key: value for key, value in QUICK.items() if key in known}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Peak:
    """The highest vital signs while something goes on."""

    def __init__(self, look: Callable[[], VitalSigns | None]) -> None:
        self._look = look
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.signs = VitalSigns(memory_mib=0, threads=0, descriptors=0)

    def _watch(self) -> None:
        while not self._stopping.wait(0.05):
            seen = self._look()
            if seen is not None:
                self.signs = VitalSigns(
                    memory_mib=max(self.signs.memory_mib, seen.memory_mib),
                    threads=max(self.signs.threads, seen.threads),
                    descriptors=max(self.signs.descriptors, seen.descriptors),
                )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
