"""The pulse of a process: what it does just now, in a file that tells its supervisor that it still moves.

The process writes at every step of its work and empties the file when it rests. The supervisor looks whether the file
changes, which needs nothing of the process: native code that keeps the interpreter for itself, a stopped process and
one that waits for ever look the same. What was written last outlives every death.
"""

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

# One write in the same place, never longer: nothing of a longer text before stays behind it.
_BYTES = 1024
_LONGEST_DOING = 200
# Between two looks. After more the supervisor stood still, too: a frozen container, a machine without memory.
_LONGEST_BLINK_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a process does: a step of a try at a job; of no job, if that is empty."""

    doing: str
    job: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a process ended in the middle of a try at a job."""

    job: str
    attempt: int
    reason: str


class Pulse:
    """The process's side.

    Parameters
    ----------
    path
        Its file; made anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._stopped = False

    def beat(self, doing: str, job: str = "", attempt: int = 0) -> None:
        """Say what is done from now on."""
        written = json.dumps(asdict(Beat(doing=doing[:_LONGEST_DOING], job=job, attempt=attempt))).encode()
        with self._lock:
            if not self._stopped:
                os.pwrite(self._file, written.ljust(_BYTES), 0)

    def rest(self) -> None:
        """Say that nothing is done: from now on any silence is right."""
        os.ftruncate(self._file, 0)

    def stop(self) -> None:
        """Rest for good: this process ends because it was told to, whatever a thread of it still does."""
        with self._lock:
            self._stopped = True
        self.rest()


class PulseWatch:
    """The supervisor's side."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        self._since = 0.0
        self._looked_at = 0.0

    def forget(self) -> None:
        """Begin anew, before a process starts: what its predecessor wrote is none of its doing."""
        self._path.unlink(missing_ok=True)

    def silent_s(self, now: float) -> float:
        """Give for how long the process did not move, seen at ``now``, a steady clock; 0 while it rests.

        By the times of these looks, not those of the file: a clock that is put right must not end a process.
        """
        try:
            found = self._path.stat()
        except OSError:  # not there yet; or a disk that fails, which must not end the supervisor, too
            return 0.0
        stamp = (found.st_mtime_ns, found.st_size)
        blinked = now - self._looked_at > _LONGEST_BLINK_S
        self._looked_at = now
        if not found.st_size or stamp != self._stamp or blinked:
            self._stamp, self._since = stamp, now
        return now - self._since

    def note_ending(self, how: str) -> Beat | None:
        """Keep, for the next process, how this one ended in the middle of a job; gives what it was at.

        Raises
        ------
        OSError
            The disk did not take it.
        """
        beat = _read_beat(self._path)
        if beat is not None and beat.job:
            ending = Ending(job=beat.job, attempt=beat.attempt, reason=f"{how} while at: {beat.doing}.")
            unfinished = self._path.with_suffix(".ending.part")
            with unfinished.open("w", encoding="utf-8") as file:
                json.dump(asdict(ending), file)
                file.flush()
                # A power cut would else leave an empty file, which the next process could not read.
                os.fsync(file.fileno())
            unfinished.replace(ending_path(self._path))
        return beat


def _read_beat(path: Path) -> Beat | None:
    try:
        written = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Beat(**json.loads(written)) if written else None


def ending_path(pulse: Path) -> Path:
    """Give where the ending of the process with that pulse is kept."""
    return pulse.with_suffix(".ending")


def read_ending(pulse: Path) -> Ending | None:
    """Give how the predecessor of the process with that pulse ended, if in the middle of a job."""
    try:
        return Ending(**json.loads(ending_path(pulse).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
