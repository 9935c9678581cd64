"""The course of one try at a job: what a person, and whoever would end it, sees of it."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from node.domain.errors import NodeError
from node.domain.jobs import TransitionError
from node.pipeline import INFERENCE
from node.stages.ports import JobLedger, Pulse, Row, Slot


class OvertimeError(Exception):
    """A try takes longer than the limit."""


class Stopwatch:
    """Adds up the seconds of named phases; a phase ends where the next begins."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._phase = ""
        self._since = now()
        self.seconds: dict[str, float] = {}

    def phase(self, name: str) -> None:
        """Begin a phase; the empty name ends the last."""
        at = self._now()
        if self._phase:
            self.seconds[self._phase] = round(self.seconds.get(self._phase, 0.0) + at - self._since, 4)
        self._phase, self._since = name, at


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWatch:
    """How tries at jobs are watched."""

    # Tells the supervisor that the try still moves.
    pulse: Pulse
    # Seconds since the epoch.
    now: Callable[[], float]
    # Seconds of a clock that nobody puts right.
    steady: Callable[[], float]
    # A try that takes longer ends, at its next step; waiting for the accelerator does not count.
    timeout_s: float
    # How often a person is told.
    tell_every_s: float = 1.0


class Course:
    """One try at a job, from its start to its end; holds the accelerator while the network runs, and only then.

    Every step goes to the pulse at once, and to the ledger at most once a second, from a thread of its own: the
    network never waits for the database.
    """

    def __init__(self, row: Row, ledger: JobLedger, watch: JobWatch) -> None:
        self._job, self._attempt = row["job"], row["attempt"]
        self._ledger = ledger
        self._watch = watch
        self._stopwatch = Stopwatch(watch.steady)
        self._over_at = watch.steady() + watch.timeout_s
        self._phase = self._doing = ""
        # Of the model's device; None on the CPU.
        self.slot: Slot | None = None
        self._holds_slot = False
        self._ended, self._taken_back = threading.Event(), threading.Event()
        self._teller = threading.Thread(target=self._tell_until_ended, daemon=True)

    @property
    def seconds(self) -> dict[str, float]:
        """Give the seconds of every phase that has ended."""
        return self._stopwatch.seconds

    def phase(self, name: str) -> None:
        """Begin a phase; the empty name ends the last.

        Raises
        ------
        OvertimeError
            The try takes longer than the limit.
        TransitionError
            Somebody took the job back.
        """
        self._give_slot_back()
        if name == INFERENCE and self.slot is not None:
            self._wait_for(self.slot)
        self._stopwatch.phase(name)
        self._phase = name
        if name:
            self._say(name)

    def progress(self, doing: str, done: int, of: int) -> None:
        """Say which step of a phase is done; raises as `phase`."""
        phase = f" ({self._phase})" if doing != self._phase else ""
        self._say(f"{doing} {done} of {of}{phase}")

    def _say(self, doing: str) -> None:
        self._doing = doing
        if self._taken_back.is_set():
            raise TransitionError(f"job {self._job} was taken back")
        self._watch.pulse.beat(doing, self._job, self._attempt)
        if self._watch.steady() > self._over_at:
            limit = f"{self._watch.timeout_s:g} s (contouring.timeout_s)"
            raise OvertimeError(f"Not done within {limit}, when it was at: {doing}.")

    def _wait_for(self, slot: Slot) -> None:
        began_at = self._watch.steady()
        while not slot.take():
            self._stopwatch.phase("wait")
            self._over_at += self._watch.steady() - began_at
            began_at = self._watch.steady()
            self._say("waits for the accelerator, which another process uses")
        self._holds_slot = True

    def _give_slot_back(self) -> None:
        if self._holds_slot and self.slot is not None:
            self._holds_slot = False
            self.slot.give_back()

    def _tell_until_ended(self) -> None:
        told = ""
        while not self._ended.wait(self._watch.tell_every_s):
            doing = self._doing
            if doing != told:
                # A locked database is the job's to meet, when it needs it.
                with suppress(NodeError):
                    self._ledger.note_progress(self._job, doing)
                    told = doing
            with suppress(NodeError):
                if not self._ledger.is_contoured(self._job, self._attempt):
                    self._taken_back.set()

    def __enter__(self) -> Self:
        self._teller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_slot_back()
        self._ended.set()
        self._teller.join()
        self._watch.pulse.rest()
