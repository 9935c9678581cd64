"""Senders as real ones are: what was not acknowledged with 0x0000 they send again, until it is."""

import random
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from node.domain.delivery import PeerAddress
from scripts.storms.machine import Places
from scripts.storms.series import Series, make_series
from tests.raw_sender import Instance, RawAssociation, RejectedError

# Sends files in one association; gives those that were acknowledged with 0x0000.
Transmit = Callable[[PeerAddress, str, Sequence[Path]], Collection[Path]]

# A sender calls itself by so many titles in turn.
_TITLES = 10
# Of DCMTK's storescu with --verbose: a file, and the answer to it.
_SENDING = re.compile(r"^I: Sending file: (.+)$|^I: Received Store Response \(Success\)", re.MULTILINE)


@dataclass(kw_only=True)
class Promises:
    """What the node has promised so far; safe for several threads."""

    # Series that were acknowledged to the last instance.
    whole: list[Series] = field(default_factory=list)
    acknowledged: set[Path] = field(default_factory=set)
    # How series were sent, and how often something had to be sent again.
    courses: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, files: Collection[Path]) -> None:
        """Note instances that were acknowledged."""
        with self.lock:
            self.acknowledged.update(files)

    def count(self, course: str) -> None:
        """Note how something was sent."""
        with self.lock:
            self.courses[course] += 1

    def complete(self, series: Series) -> None:
        """Note a series of which every instance was acknowledged."""
        with self.lock:
            self.whole.append(series)


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What all senders see of the storm."""

    places: Places
    promises: Promises
    # The receivers that may be called.
    addresses: Sequence[PeerAddress]
    # Set when nothing new is to be sent.
    calm: threading.Event
    # Set when nobody may go on, whatever was acknowledged.
    end: threading.Event
    # Tells whether the node has so much to do that a new series had better wait.
    is_busy: Callable[[], bool]


class Sender:
    """Sends one series after the other, each in its own way.

    Parameters
    ----------
    name
        Also the beginning of its AE titles.
    """

    def __init__(self, name: str, transmit: Transmit, weather: Weather, chance: random.Random, seed: int) -> None:
        self._name, self._transmit, self._weather, self._chance, self._seed = name, transmit, weather, chance, seed
        self._title = name
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._courses = (self._plain, self._plain, self._again, self._late, self._aborted, self._in_parts)
        self._thread.start()

    def join(self, within_s: float) -> bool:
        """Wait for its end; gives whether it came."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        number = 0
        while not self._weather.calm.wait(self._chance.uniform(0.5, 4.0)):
            if self._weather.is_busy():
                continue
            number += 1
            self._title = f"{self._name}{number % _TITLES}"
            series = make_series(f"{self._seed}/{self._name}/{number}", self._weather.places.sent, self._chance)
            course = self._chance.choice(self._courses)
            self._weather.promises.count(course.__name__.strip("_"))
            course(list(series.files.values()))
            if not self._weather.end.is_set():
                self._weather.promises.complete(series)

    # Courses ---------------------------------------------------------------------------------------------------------

    def _plain(self, files: list[Path]) -> None:
        self._until_acknowledged(files)

    def _again(self, files: list[Path]) -> None:
        self._until_acknowledged(files)
        self._weather.end.wait(self._chance.uniform(0.0, 12.0))
        self._until_acknowledged(files)

    def _late(self, files: list[Path]) -> None:
        late = self._chance.sample(files, self._chance.randint(1, 2))
        self._until_acknowledged([one for one in files if one not in late])
        self._weather.end.wait(self._chance.uniform(1.0, 12.0))
        self._until_acknowledged(late)

    def _aborted(self, files: list[Path]) -> None:
        half = self._chance.randint(0, len(files) - 1)
        with suppress(OSError, RejectedError):
            self._weather.promises.acknowledge(_abort_after(self._address(), self._title, files[:half], files[half]))
        self._weather.end.wait(self._chance.uniform(0.0, 3.0))
        self._until_acknowledged(files)

    def _in_parts(self, files: list[Path]) -> None:
        half = self._chance.randint(1, len(files) - 1)
        self._until_acknowledged(files[:half])
        self._weather.end.wait(self._chance.uniform(0.0, 3.0))
        self._until_acknowledged(files[half:])

    def _until_acknowledged(self, files: Sequence[Path]) -> None:
        """Send until every file was acknowledged; some senders repeat a whole series, others what failed."""
        lacking = list(files)
        while lacking and not self._weather.end.is_set():
            repeated = list(files) if self._chance.random() < 0.3 else lacking
            acknowledged = self._transmit(self._address(), self._title, repeated)
            self._weather.promises.acknowledge(acknowledged)
            lacking = [one for one in lacking if one not in acknowledged]
            if lacking:
                self._weather.promises.count("sent again")
                self._weather.end.wait(self._chance.uniform(0.2, 2.0))

    def _address(self) -> PeerAddress:
        return self._chance.choice(self._weather.addresses)


def by_ourselves(address: PeerAddress, title: str, files: Sequence[Path]) -> Collection[Path]:
    """Send with the bare Storage SCU of the tests."""
    acknowledged: list[Path] = []
    # The node may be killed while the association is released.
    with suppress(OSError, RejectedError, AssertionError), _association(address, title, files[0]) as association:
        for path in files:
            if association.store(Instance.read(path)).status == 0x0000:
                acknowledged.append(path)
    return acknowledged


def by_storescu(address: PeerAddress, title: str, files: Sequence[Path]) -> Collection[Path]:
    """Send with DCMTK's storescu."""
    timeouts = ["--timeout", "5", "--acse-timeout", "20", "--dimse-timeout", "30"]
    titles = ["--aetitle", title, "--call", address.ae_title]
    command = ["storescu", "--verbose", *timeouts, *titles, address.host, str(address.port), *map(str, files)]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    acknowledged, sending = [], ""
    for found in _SENDING.finditer(said.stdout + said.stderr):
        if found[1]:
            sending = found[1]
        elif sending:
            acknowledged.append(Path(sending))
            sending = ""
    return acknowledged


def _abort_after(address: PeerAddress, title: str, whole: Sequence[Path], begun: Path) -> Collection[Path]:
    """Send some files, begin another and reset the connection; gives those that were acknowledged."""
    association = _association(address, title, begun)
    acknowledged: list[Path] = []
    with suppress(OSError):
        for path in whole:
            if association.store(Instance.read(path)).status == 0x0000:
                acknowledged.append(path)
        association.send_half(Instance.read(begun))
    association.vanish()
    return acknowledged


def _association(address: PeerAddress, title: str, example: Path) -> RawAssociation:
    instance = Instance.read(example)
    return RawAssociation(address, [(instance.sop_class_uid, [instance.transfer_syntax_uid])], calling=title)


class Dropper:
    """Drops folders into the hot folder; what it has taken is promised as what is acknowledged."""

    def __init__(self, weather: Weather, chance: random.Random, seed: int) -> None:
        self._weather, self._chance, self._seed = weather, chance, seed
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, within_s: float) -> bool:
        """Wait for its end; gives whether it came."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        number = 0
        while not self._weather.calm.wait(self._chance.uniform(2.0, 8.0)):
            if self._weather.is_busy():
                continue
            number += 1
            series = make_series(f"{self._seed}/drop/{number}", self._weather.places.sent, self._chance)
            self._weather.promises.count("dropped")
            self._drop(series, f"drop-{number}")

    def _drop(self, series: Series, name: str) -> None:
        files = list(series.files.values())
        copied = self._weather.places.folder / "staging" / name
        shutil.copytree(files[0].parent, copied)
        target = self._weather.places.drop / name
        copied.rename(target)
        while target.exists() and not self._weather.end.is_set():
            time.sleep(0.2)
        if not target.exists():
            self._weather.promises.acknowledge(files)
            self._weather.promises.complete(series)
