"""Destinations that flap: a Storage SCP that goes down, refuses and hangs, and a folder that is gone for a while."""

import random
import threading
from collections import Counter
from collections.abc import Callable

from scripts.storms.machine import Places
from tests.fakes import FakeDestination

# Longer than the node waits for an answer.
_HANGS_S = 4.5
_OUT_OF_RESOURCES = 0xA700


class Flapping:
    """A thread that lets one destination be well, and ill, in turn, until it is told to be well for good.

    Parameters
    ----------
    illnesses
        Name -> what begins and what ends it.
    """

    def __init__(
        self, illnesses: dict[str, tuple[Callable[[], None], Callable[[], None]]], chance: random.Random
    ) -> None:
        self._illnesses = illnesses
        self._chance = chance
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._flap, daemon=True)
        self.suffered: Counter[str] = Counter()
        self._thread.start()

    def be_well(self) -> None:
        """End what it suffers from, for good."""
        self._over.set()
        self._thread.join()

    def _flap(self) -> None:
        while not self._over.wait(self._chance.uniform(4.0, 15.0)):
            name = self._chance.choice(sorted(self._illnesses))
            begin, end = self._illnesses[name]
            begin()
            self.suffered[name] += 1
            self._over.wait(self._chance.uniform(1.0, 8.0))
            end()


def flapping_scp(tps: FakeDestination, chance: random.Random) -> Flapping:
    """Let a Storage SCP go down, refuse for lack of resources, and hang."""

    def refuse() -> None:
        tps.status = _OUT_OF_RESOURCES

    def accept() -> None:
        tps.status = 0x0000

    def hang() -> None:
        tps.delay_s = _HANGS_S

    def answer() -> None:
        tps.delay_s = 0.0

    illnesses = {"down": (tps.go_down, tps.go_up), "refuses": (refuse, accept), "hangs": (hang, answer)}
    return Flapping(illnesses, chance)


def flapping_folder(places: Places, chance: random.Random) -> Flapping:
    """Let a folder be gone, as a share that is not mounted."""
    away = places.shelf.with_name("unmounted")

    def unmount() -> None:
        places.shelf.rename(away)

    def mount() -> None:
        away.rename(places.shelf)

    return Flapping({"gone": (unmount, mount)}, chance)
