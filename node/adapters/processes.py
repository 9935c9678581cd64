"""Processes: a supervisor that keeps its children alive, and children that never outlive it."""

import ctypes
import faulthandler
import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal

from node.adapters.pulse import PulseWatch
from node.domain.errors import SetupError

# A child's exit status for a fault that a restart cannot mend; also the command line's.
SETUP_FAULT = 2
# No exit status: what the processes share is gone, and all are to be started anew.
BEGIN_ANEW = -1

Look = Literal["fine", "wait", "anew"]
_LOOK_EVERY_S = 1.0

# A child that dies again and again is restarted ever later, up to this.
_LONGEST_PAUSE_S = 30.0
# A child that lived so long starts afresh with the shortest pause.
_STEADY_AFTER_S = 60.0
_STOP_WITHIN_S = 10.0
# Between asking a process that hangs where it is, and ending it.
_TRACE_WITHIN_S = 1.0
# Asks for it; nothing here or in the libraries uses this signal.
_TRACE = signal.SIGUSR1
# Where the system pipes core dumps into a program (systemd-coredump, apport), no limit holds but this one, by which the
# kernel tells that such a program itself crashes; a file of one byte it does not begin.
_NO_CORE_DUMP = 1
# PR_SET_PDEATHSIG of <linux/prctl.h>.
_SET_PARENT_DEATH_SIGNAL = 1


@dataclass(kw_only=True)
class _Child:
    name: str
    command: Sequence[str]
    pulse: PulseWatch | None = None
    # Since when its pulse is known to stand still for too long.
    hangs_since: float | None = None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    starts: int = 0
    start_at: float = 0.0
    pause_s: float = 0.5


class Supervisor:
    """Starts one process per role, ends it when it hangs, and starts it again when it dies.

    Parameters
    ----------
    commands
        Role -> command line.
    log
        Called with the event's name and fields.
    pulses
        Role -> file of its pulse; a role without one is never ended.
    stall_s
        A process whose pulse stands still for longer is ended.
    look
        Looks after what all processes share, about once a second: "fine"; "wait": none is to be started now; "anew":
        all are to be ended, and everything to be begun anew.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        log: Callable[..., None],
        pulses: Mapping[str, Path] = MappingProxyType({}),
        stall_s: float = float("inf"),
        look: Callable[[], Look] = lambda: "fine",
    ) -> None:
        watches = {name: PulseWatch(path) for name, path in pulses.items()}
        self._children = [
            _Child(name=name, command=command, pulse=watches.get(name)) for name, command in commands.items()
        ]
        self._log = log
        self._stall_s = stall_s
        self._look = look
        self._looked_at = float("-inf")
        self._may_start = True
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask ``run`` to end; may be called from a signal handler."""
        self._stop.set()

    def run(self) -> int:
        """Supervise until stopped. Gives 0; SETUP_FAULT if a child first ended with it; BEGIN_ANEW."""
        try:
            while not self._stop.is_set():
                if self._look_after_all(time.monotonic()) == "anew":
                    return BEGIN_ANEW
                for child in self._children:
                    if self._keep_alive(child, time.monotonic()) == SETUP_FAULT:
                        return SETUP_FAULT
                self._stop.wait(0.1)
            return 0
        finally:
            self._end_all()

    def _look_after_all(self, now: float) -> Look:
        if now - self._looked_at < _LOOK_EVERY_S:
            return "fine"
        self._looked_at = now
        found = self._look()
        self._may_start = found == "fine"
        return found

    def _keep_alive(self, child: _Child, now: float) -> int | None:
        if child.process is None:
            if now >= child.start_at and self._may_start:
                self._start(child, now)
            return None
        status = child.process.poll()
        if status is None:
            self._feel_pulse(child, child.process, now)
            return None
        if status == SETUP_FAULT and child.starts == 1:
            return status
        # Also a fault in the set-up, once it has worked: a device or a folder that is gone must not stop the receiver.
        steady = now - child.started_at > _STEADY_AFTER_S
        self._note_ending(child, status)
        _close(child.process)
        child.process = None
        self._start_later(child, now, 0.5 if steady else 2 * child.pause_s, status)
        return None

    def _feel_pulse(self, child: _Child, process: subprocess.Popen[bytes], now: float) -> None:
        silent_s = child.pulse.silent_s(now) if child.pulse is not None else 0.0
        if silent_s <= self._stall_s:
            child.hangs_since = None
        elif child.hangs_since is None:
            child.hangs_since = now
            self._log("process hangs", role=child.name, silent_s=round(silent_s, 1))
            process.send_signal(_TRACE)
        elif now - child.hangs_since > _TRACE_WITHIN_S:
            process.kill()

    def _note_ending(self, child: _Child, status: int) -> None:
        if child.pulse is None:
            return
        hung = child.hangs_since is not None
        how = f"No progress for {self._stall_s:g} s (contouring.stall_s)" if hung else _how_it_ended(status)
        try:
            beat = child.pulse.note_ending(how)
        except (
            OSError,
            ValueError,
            TypeError,
        ) as error:  # a full disk; the engine, too, counts how often it starts a task
            self._log("ending not kept", role=child.name, fault=type(error).__name__)
        else:
            if beat is not None:
                self._log("process ended at work", role=child.name, job=beat.job, how=how, doing=beat.doing)

    def _start(self, child: _Child, now: float) -> None:
        child.hangs_since = None
        try:
            if child.pulse is not None:
                child.pulse.forget()
            # The pipe is never written to: its end tells the child that its supervisor is gone.
            child.process = subprocess.Popen(child.command, stdin=subprocess.PIPE)
        except OSError as error:  # no memory for another process, for one
            self._start_later(child, now, 2 * child.pause_s, error.strerror)
        else:
            child.started_at = now
            child.starts += 1

    def _start_later(self, child: _Child, now: float, pause_s: float, why: int | str | None) -> None:
        child.pause_s = min(pause_s, _LONGEST_PAUSE_S)
        child.start_at = now + child.pause_s
        self._log("process died", role=child.name, status=why, restart_in_s=child.pause_s)

    def _end_all(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for child in self._children:
            # Not yet told to: where memory ran out, a service manager ends us right after the process that took it.
            if child.process is not None and (status := child.process.poll()) is not None:
                self._note_ending(child, status)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_WITHIN_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close(process)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"The process ended (exit status {status})"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else "unknown"
    why = "; so the system ends one when memory runs out" if -status == signal.SIGKILL else ""
    return f"The process ended (signal {-status}, {name}{why})"


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def run_until_told(stop: Callable[[], None], *, supervised: bool) -> None:
    """Block until SIGTERM, SIGINT or (supervised) the supervisor's death; then call ``stop`` and end the process."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    if supervised:
        when_supervisor_is_gone(told.set)
    # Not without end: a signal that the system gives to another thread is only handled when this one wakes.
    while not told.wait(0.5):
        pass
    # A thread in a long computation must not keep the process: its job is done again at the next start.
    threading.Thread(target=_end_soon, daemon=True).start()
    stop()
    with suppress(OSError):  # nobody may be left to read it
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def leave_traces() -> None:
    """Let this process write where it is, files, lines and functions alone, when it crashes or its supervisor asks.

    Both also while native code keeps the interpreter for itself. It leaves no core dump: that would hold images.
    """
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (_NO_CORE_DUMP if most else 0, most))
    faulthandler.enable(all_threads=True)
    faulthandler.register(_TRACE, all_threads=True)


def offer_as_victim() -> None:
    """Let the system, where memory runs out, end this process before any other of the node."""
    with suppress(OSError):  # not every container lets it be written
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def end_with_supervisor() -> None:
    """Let the system end this process when its supervisor is gone, however: one that hangs hears of nothing itself.

    It would hold its lock for ever, and no other node could start on the data folder.
    """
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def when_supervisor_is_gone(tell: Callable[[], None]) -> None:
    """Call ``tell`` when standard input ends: the supervisor holds its other end, however it dies."""

    def wait() -> None:
        # The raw descriptor: a buffered read would hold a lock that the interpreter's end needs.
        while os.read(0, 4096):
            pass
        tell()

    threading.Thread(target=wait, daemon=True).start()


def _end_soon() -> None:
    time.sleep(_STOP_WITHIN_S / 2)
    os._exit(0)


def hold_lock(path: Path, *, wait_s: float, holder: str) -> IO[str]:
    """Take an exclusive lock for the life of the returned file.

    Raises
    ------
    SetupError
        Another process holds it still after ``wait_s``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise SetupError(
                    f"{holder} is already running on {path.parent}.",
                    "Stop the other one, or give this one a data_dir of its own.",
                ) from None
            time.sleep(0.1)
        else:
            return file
