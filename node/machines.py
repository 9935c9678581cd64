"""Join the machines of one node: who leads, and what becomes of the work of processes that are dead."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from node.adapters.engine import Tasks
from node.adapters.guard import Guard, Member, Peers
from node.adapters.ledger import Ledger
from node.adapters.shared_folder import mark_folder
from node.domain.errors import NodeError, SetupError, place_of
from node.log import log
from node.stages.ports import Queue
from node.stages.setbacks import set_back

_LOOK_FOR_THE_LEAD_EVERY_S = 1.0


def refuse_other_folder(ledger: Ledger, data_dir: Path) -> None:
    """Refuse a data folder that is not the one that the other machines use; the first machine's is theirs.

    Raises
    ------
    SetupError
        With what to do.
    """
    if not ledger.bind_folder(mark_folder(data_dir)):
        raise other_folder(data_dir)


def other_folder(data_dir: Path) -> SetupError:
    """Say that a data folder is not the one that the other machines use."""
    return SetupError(
        f"The data folder {data_dir} is not the one that the other machines of this node use: its file node.id is "
        "missing or another.",
        "Mount the folder that they share at node.data_dir, on every machine at the same path.",
    )


class Handover:
    """What the leader does with the work of the dead, wherever they ran.

    Parameters
    ----------
    remove_unfinished
        Removes what the process of that name left half received.
    """

    def __init__(
        self,
        *,
        peers: Peers,
        ledger: Ledger,
        tasks: Tasks,
        queue: Queue,
        remove_unfinished: Callable[[str], object],
        now: Callable[[], float],
    ) -> None:
        self._peers = peers
        self._ledger = ledger
        self._tasks = tasks
        self._queue = queue
        self._remove_unfinished = remove_unfinished
        self._now = now

    def look(self) -> None:
        """Hand on the work of every process that is dead; one that is frozen is cut off, and dead at the next look."""
        for name in self._peers.end_frozen():
            log("process is frozen", process=name, what_is_done="its connection is ended, its work is handed on")
        with self._peers.dead() as dead:
            for member in dead:
                self._settle(member)

    def _settle(self, member: Member) -> None:
        lost = self._ledger.associations_lost(member.name)
        # One that ended in order left its job for the next worker; no fault of the job.
        jobs = self._ledger.jobs_in_hands_of(member.name) if member.pid else []
        for row in jobs:
            reason = f"Its worker {member.name} was lost while at: {row['progress'] or 'start'}."
            set_back(row, reason, ledger=self._ledger, queue=self._queue, now=self._now(), log=log)
        tasks = self._tasks.hand_on(member.name)
        self._remove_unfinished(member.name)
        if member.pid or tasks:
            log("work handed on", process=member.name, jobs=len(jobs), tasks=tasks, associations_lost=lost)


def lead_when_possible(guard: Guard, peers: Peers, begin: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """Begin, in a thread, as soon as no other process leads; gives what stops it.

    Parameters
    ----------
    begin
        Gives what stops what it began.
    """
    stopping = threading.Event()
    ends: list[Callable[[], None]] = []

    def wait_and_begin() -> None:
        guard.say("stands by")
        while not guard.lead():
            if stopping.wait(_LOOK_FOR_THE_LEAD_EVERY_S):
                return
            # The leader may be the one that is frozen.
            with suppress(sa.exc.SQLAlchemyError):
                peers.end_frozen()
        guard.say("leads")
        log("leads")
        ends.append(begin())

    def wait_and_begin_or_end() -> None:
        try:
            wait_and_begin()
        except Exception as error:  # nobody would lead; the supervisor starts this process again
            log("leading failed", fault=type(error).__name__, at=place_of(error), reason=_reason(error))
            os._exit(1)

    threading.Thread(target=wait_and_begin_or_end, daemon=True).start()

    def stop() -> None:
        stopping.set()
        for end in ends:
            end()

    return stop


def end_without_the_lead() -> None:
    """End this process: another may lead by now."""
    log("lead lost", what_is_done="this process ends and starts again")
    os._exit(1)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, NodeError) else ""
