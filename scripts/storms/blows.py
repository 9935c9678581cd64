"""The blows: kill -9 at random moments of random processes."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from node.adapters.ledger import Ledger
from node.domain.errors import NodeError
from node.domain.jobs import JobState
from node.stages.setbacks import MOST_SETBACKS
from scripts.storms.machine import SUPERVISOR, Machine

EVERYTHING = "everything at once"
# Whom it hits how often: a dead supervisor takes all others with it, and their start is most of a machine's work.
_VICTIMS = {"receiver": 5, "contourer": 5, "dispatcher": 5, "collector": 2, SUPERVISOR: 1, EVERYTHING: 1}
_AIMS = 4
# A death of these is, or may be, a setback of the job at work.
_END_CONTOURERS = ("contourer", SUPERVISOR, EVERYTHING)


class Blows:
    """Kills, one blow after the other; each hits processes that are alive.

    Parameters
    ----------
    restart_database
        A further kind of blow: restarts the database server without letting it finish anything.
    """

    def __init__(
        self,
        machines: Sequence[Machine],
        ledger: Ledger,
        chance: random.Random,
        restart_database: Callable[[], None] | None = None,
    ) -> None:
        self._machines, self._ledger, self._chance = machines, ledger, chance
        self._restart_database = restart_database
        # Blows by what they hit.
        self.struck: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Give how many there were."""
        return self.struck.total()

    def strike(self) -> None:
        """Hit somebody; nobody where nobody is there, or where it would be the blow that fails a job by rule."""
        if self._restart_database is not None and self._chance.random() < 0.05:
            if not self._would_fail_a_job():
                self._restart_database()
                self.struck["database"] += 1
            return
        there = self._chance.choice(self._machines).processes()
        # Somebody who has not started again since the last blow cannot be hit: then somebody else is.
        for wanted in self._chance.choices(list(_VICTIMS), list(_VICTIMS.values()), k=_AIMS):
            victims = [one for name, one in there.items() if wanted in (name, EVERYTHING)]
            if victims:
                if self._kill(victims, wanted):
                    self.struck[wanted] += 1
                return

    def _kill(self, victims: Sequence[psutil.Process], name: str) -> bool:
        alive = [one for one in victims if _stopped(one)]
        spare = name in _END_CONTOURERS and self._would_fail_a_job()
        for one in alive:
            # It may be gone: with its supervisor, or by itself.
            with suppress(psutil.NoSuchProcess):
                (one.resume if spare else one.kill)()
        return bool(alive) and not spare

    def _would_fail_a_job(self) -> bool:
        """Tell whether a job has had all the deaths but one after which the node fails it, as it says it does."""
        try:
            jobs = self._ledger.unfinished_jobs()
        except NodeError:
            return True
        at_work = [one for one in jobs if one["state"] == JobState.CONTOURING]
        return any(len(one["setbacks"]) >= MOST_SETBACKS - 1 for one in at_work)


def _stopped(process: psutil.Process) -> bool:
    """Stop a process where it is; gives whether it was there."""
    try:
        process.suspend()
    except psutil.Error:
        return False
    return True
