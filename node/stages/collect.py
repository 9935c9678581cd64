"""Collect: what is dropped into a hot folder goes the way of what is sent by C-STORE, instance by instance.

A drop is taken by a rename, read, and each file of it removed when what it held is durable in the inbox. It may stop at
any instruction: what was taken is found again and read again; an instance that is in the inbox already stays one.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain
from typing import assert_never

from node.dicom.directory import comparable
from node.domain.arrival import ReceiverObserver
from node.domain.drops import Look, Names, Settling, is_dicomdir, look
from node.domain.errors import InputError, NodeError, place_of
from node.stages.ports import Batch, HotFolder, Log, TakenFile
from node.stages.unpack import (
    LARGEST_DICOMDIR_BYTES,
    Later,
    Litter,
    LooseFiles,
    Outcome,
    Rejected,
    TakenIn,
    Unpacker,
    WholeDrop,
    missing_from,
)

# A file whose reading brought the process down so often is put aside. The supervisor pauses ever longer between, for
# minutes in all: a machine that lacks memory for a while puts nothing aside.
MOST_STARTS = 10
# Disk or database may be there again; nobody else says when.
PAUSE_S = 30.0
# The files that a medium's directory names are waited for so long after the last of the others came ...
MEDIUM_WAITS_S = 60.0
# ... if the directory is no larger: it is read again at every look.
_LARGEST_WAITED_FOR_BYTES = 1 << 22
# What is unchanged for so long, and yet is not taken, is told.
HELD_UP_FOR_LONG_S = 60.0


class Collector:
    """Empties a hot folder.

    Parameters
    ----------
    stable_s
        How long nothing in a drop may have changed before it is taken.
    rescan_s
        How often to look though nothing was heard of.
    note
        Keeps a text for ``status``.
    now
        Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        folder: HotFolder,
        unpacker: Unpacker,
        observer: ReceiverObserver,
        ae_title: str,
        stable_s: float,
        rescan_s: float,
        note: Callable[[str], None],
        now: Callable[[], float],
        log: Log,
    ) -> None:
        self._folder = folder
        self._unpacker = unpacker
        self._observer = observer
        self._ae_title = ae_title
        self._stable_s = stable_s
        self._rescan_s = rescan_s
        self._note = note
        self._now = now
        self._log = log
        self._settling: Mapping[Names, Settling] = {}
        # Drop -> when to read it again.
        self._paused: dict[str, float] = {}
        # What was said of a subject and still holds: each is said once.
        self._said: set[tuple[str, str]] = set()

    def tick(self, tick_at: float) -> float:
        """Look once, take what is ready and read what was taken; gives when to look again.

        Parameters
        ----------
        tick_at
            Seconds on a clock that is never set.
        """
        rescan_at = tick_at + self._rescan_s
        try:
            found = look(self._folder.lying(), self._settling, tick_at, stable_s=self._stable_s)
            self._settling = found.settling
            self._take_ready(found, tick_at)
            batches = self._folder.batches()
        except OSError as error:
            self._say("the folder", f"it cannot be used ({error.strerror}); it is tried again and again")
            return rescan_at
        self._say_no_more("the folder")
        # A batch may have been moved back by hand.
        self._paused = {batch.drop: self._paused[batch.drop] for batch in batches if batch.drop in self._paused}
        for batch in batches:
            if self._paused.get(batch.drop, 0.0) <= tick_at:
                self._read(batch, tick_at)
        return min([rescan_at, *self._paused.values(), *([found.look_again_at] if found.look_again_at else [])])

    # Taking ----------------------------------------------------------------------------------------------------------

    def _take_ready(self, found: Look, tick_at: float) -> None:
        held = {names: one.held_up_by for names, one in found.settling.items() if one.held_up_by}
        for names in (*found.ready_wholes, *found.ready_files):
            writer = next(filter(None, map(self._folder.held_by_a_writer, names)), "")
            if writer:
                held[names] = f"a file of it {writer}"
        for names in found.ready_wholes:
            if self._lacks_files(found.settling[names], tick_at):
                held[names] = "its DICOMDIR names files that are not there yet"
        left: dict[str, str] = {}
        for names in found.ready_wholes:
            if names not in held:
                left |= self._folder.take(names, "whole")
        files = tuple(chain.from_iterable(names for names in found.ready_files if names not in held))
        if files:
            left |= self._folder.take(files, "files")
        held |= {names: f"it {left[name]}" for names in found.settling for name in names if name in left}
        self._say_what_is_held({why for names, why in held.items() if self._is_long(found.settling[names], tick_at)})

    def _lacks_files(self, medium: Settling, tick_at: float) -> bool:
        """Tell whether files that a DICOMDIR names may still come: drives pause for longer than programs do."""
        if tick_at - medium.unchanged_since >= MEDIUM_WAITS_S:
            return False
        there = frozenset(comparable(entry.parts) for entry in medium.entries)
        for entry in medium.entries:
            if is_dicomdir(entry.parts[-1]) and entry.size <= _LARGEST_WAITED_FOR_BYTES:
                with suppress(InputError, OSError), self._folder.open(entry.parts) as file:
                    if missing_from(file.read(_LARGEST_WAITED_FOR_BYTES), entry.parts[:-1], there):
                        return True
        return False

    def _say_what_is_held(self, reasons: set[str]) -> None:
        for why in sorted(reasons):
            self._say("a drop", f"nothing in it changes, and yet it is not taken: {why}")
        if not reasons:
            self._say_no_more("a drop")

    def _is_long(self, settling: Settling, tick_at: float) -> bool:
        return tick_at - settling.unchanged_since >= HELD_UP_FOR_LONG_S

    # Reading ---------------------------------------------------------------------------------------------------------

    def _read(self, batch: Batch, tick_at: float) -> None:
        try:
            batch.begin()
            waits_for = self._read_files(batch)
        except (NodeError, OSError) as error:
            waits_for = error.reason if isinstance(error, NodeError) else f"it cannot be read ({error.strerror})"
        if waits_for:
            with suppress(OSError):  # then it is only counted as one more start
                batch.pause()
            self._paused[batch.drop] = tick_at + PAUSE_S
            self._say(batch.drop, f"{waits_for}; it is tried again and again")
        else:
            self._paused.pop(batch.drop, None)
            self._say_no_more(batch.drop)

    def _read_files(self, batch: Batch) -> str:
        """Bring a batch into the inbox; gives why some of it must wait, empty where it is finished."""
        kind = WholeDrop if batch.whole else LooseFiles
        drop = kind(batch.drop, self._ae_title, self._observer, self._now)
        self._put_aside_what_ends_us(batch)
        self._check_directories(batch)
        counts: Counter[str] = Counter()
        waits_for = ""
        for taken in batch.files():
            outcome = self._outcome(batch, taken, drop)
            match outcome:
                case TakenIn():
                    taken.remove()
                    counts["instances"] += outcome.instances
                case Litter():
                    taken.remove()
                    counts["litter"] += 1
                case Rejected():
                    self._reject(batch, taken, outcome.reason)
                    counts["rejected"] += 1
                case Later():
                    waits_for = waits_for or outcome.reason
                case _:
                    assert_never(outcome)
            if batch.starts and not isinstance(outcome, Later):
                batch.pause()  # there is progress: what ends the process now begins to be counted
        if not waits_for:
            drop.end()
            batch.finish()
        if counts or not waits_for:
            self._log("drop read", drop=batch.drop, **counts)
        return waits_for

    def _outcome(self, batch: Batch, taken: TakenFile, drop: LooseFiles) -> Outcome:
        try:
            return self._unpacker.unpack(taken, drop)
        except Exception as error:  # the stage's loop: one file must not hold up the others
            self._log("reading failed", drop=batch.drop, fault=type(error).__name__, at=place_of(error))
            return Rejected(f"a fault of the node, {type(error).__name__}: report it, with the node's log")

    def _put_aside_what_ends_us(self, batch: Batch) -> None:
        """Reject the first file where it was always the first that was read, and nothing was done after it."""
        if batch.starts > MOST_STARTS:
            for taken in batch.files()[:1]:
                self._reject(batch, taken, f"reading it ended the node's process {MOST_STARTS} times")

    def _reject(self, batch: Batch, taken: TakenFile, reason: str) -> None:
        taken.reject(f"Not taken in: {reason}.")
        self._log("file rejected", drop=batch.drop, number=taken.number, reason=reason)
        self._note(f"rejected: {reason}")

    def _check_directories(self, batch: Batch) -> None:
        """Compare each DICOMDIR with the files, before anything is removed; what is none is left to be rejected."""
        files = batch.files()
        there = frozenset(comparable(taken.parts) for taken in files)
        for taken in files:
            if not is_dicomdir(taken.parts[-1]) or taken.kind != "file":
                continue
            try:
                with taken.open() as file:
                    said = missing_from(file.read(LARGEST_DICOMDIR_BYTES), taken.parts[:-1], there)
            except InputError:
                continue
            if said:
                taken.note(f"{said}.")
                self._note(said)
            taken.set_aside()

    # Saying ----------------------------------------------------------------------------------------------------------

    def _say(self, subject: str, text: str) -> None:
        if (subject, text) not in self._said:
            self._said.add((subject, text))
            self._log("hot folder waits", subject=subject, reason=text)
            self._note(f"waits: {text}")

    def _say_no_more(self, subject: str) -> None:
        self._said = {said for said in self._said if said[0] != subject}
