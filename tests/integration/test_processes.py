"""The supervisor: children that die, hang, cannot start, or find their set-up wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from node.adapters.processes import SETUP_FAULT, Supervisor
from node.adapters.pulse import PulseWatch, read_ending

FOR_EVER = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]


class Watched:
    """A supervisor at work in a thread, and what it logged."""

    def __init__(self, pulses: dict[str, Path] | None = None, **commands: list[str]) -> None:
        self.deaths: list[dict[str, Any]] = []
        self.hung: list[dict[str, Any]] = []
        self.supervisor = Supervisor(commands, log=self._note, pulses=pulses or {}, stall_s=1.0)
        self.status: int | None = None
        self.thread = threading.Thread(target=self._run)

    def _note(self, event: str, **fields: Any) -> None:
        noted = {"process died": self.deaths, "process hangs": self.hung}
        noted.get(event, []).append(fields)

    def _run(self) -> None:
        self.status = self.supervisor.run()

    def wait_for(self, count: int) -> list[Any]:
        """Wait until that many deaths were logged; gives each status."""
        until = time.monotonic() + 20
        while len(self.deaths) < count:
            assert time.monotonic() < until, self.deaths
            time.sleep(0.02)
        return [one["status"] for one in self.deaths]

    def __enter__(self) -> "Watched":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


def says(*statuses: int, folder: Path) -> list[str]:
    """Give a command that ends with the first status when it is first started, and so on, the last for ever."""
    program = (
        "import pathlib, sys; file = pathlib.Path(sys.argv[1]); count = int(file.read_text()) if file.exists() else 0;"
        "file.write_text(str(count + 1)); statuses = sys.argv[2:]; sys.exit(int(statuses[min(count, len(statuses)-1)]))"
    )
    return [sys.executable, "-S", "-c", program, str(folder / "count"), *map(str, statuses)]


def test_a_set_up_that_is_wrong_at_the_first_start_ends_all(tmp_path: Path) -> None:
    with Watched(receiver=FOR_EVER, contourer=says(SETUP_FAULT, folder=tmp_path)) as watched:
        watched.thread.join(20)

        assert watched.status == SETUP_FAULT


def test_a_set_up_that_goes_wrong_later_leaves_the_others_at_work(tmp_path: Path) -> None:
    with Watched(receiver=FOR_EVER, contourer=says(1, SETUP_FAULT, folder=tmp_path)) as watched:
        assert watched.wait_for(2) == [1, SETUP_FAULT]
        assert watched.thread.is_alive()
        assert {one["role"] for one in watched.deaths} == {"contourer"}

    assert watched.status == 0


def test_a_process_that_cannot_be_started_is_tried_again() -> None:
    with Watched(receiver=FOR_EVER, contourer=["/nowhere/program"]) as watched:
        assert watched.wait_for(2) == ["No such file or directory"] * 2
        assert watched.thread.is_alive()


AT_WORK = """
import ctypes, os, pathlib, signal, sys, time
from node.adapters.processes import leave_traces
from node.adapters.pulse import Pulse
leave_traces()
path = pathlib.Path(sys.argv[1])
pulse = Pulse(path)
started = path.with_suffix(".started")
if started.exists():
    time.sleep(1000)
pulse.beat("predict 3 of 64 (inference)", "1.2.3/f/m/1", 2)
started.write_text(str(os.getpid()))
"""

VIOLENCE = {
    "SIGSEGV": ("ctypes.string_at(0)", "The process ended (signal 11, SIGSEGV)"),
    "SIGKILL": (
        "os.kill(os.getpid(), signal.SIGKILL)",
        "The process ended (signal 9, SIGKILL; so the system ends one when memory runs out)",
    ),
    "exit": ("os._exit(7)", "The process ended (exit status 7)"),
    "exit in order": ("os._exit(0)", "The process ended (exit status 0)"),
    "native code that keeps the interpreter": (
        "ctypes.PyDLL(None).sleep(1000)",
        "No progress for 1 s (contouring.stall_s)",
    ),
    "waits for ever": ("time.sleep(1000)", "No progress for 1 s (contouring.stall_s)"),
    "SIGSTOP": ("os.kill(os.getpid(), signal.SIGSTOP)", "No progress for 1 s (contouring.stall_s)"),
    "deaf": (
        "[signal.signal(one, signal.SIG_IGN) for one in (signal.SIGTERM, signal.SIGUSR1)]; time.sleep(1000)",
        "No progress for 1 s (contouring.stall_s)",
    ),
}


def at_work(then: str, folder: Path) -> list[str]:
    """Give a command that does something at its first start, in the middle of a job, and waits at the next."""
    return [sys.executable, "-c", AT_WORK + then, str(folder / "contourer.pulse")]


@pytest.mark.parametrize("violence", VIOLENCE)
def test_whatever_ends_a_process_at_work_is_told_to_the_next_one(tmp_path: Path, violence: str) -> None:
    then, how = VIOLENCE[violence]
    pulses = {"contourer": tmp_path / "contourer.pulse"}

    with Watched(pulses, receiver=FOR_EVER, contourer=at_work(then, tmp_path)) as watched:
        watched.wait_for(1)

        assert len(watched.hung) == ("No progress" in how)
    ending = read_ending(pulses["contourer"])
    assert ending is not None
    assert (ending.job, ending.attempt) == ("1.2.3/f/m/1", 2)
    assert ending.reason == f"{how} while at: predict 3 of 64 (inference)."
    assert [one["role"] for one in watched.deaths] == ["contourer"]


def test_where_a_process_hangs_is_written_before_it_is_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    then = "\ndef hang_in_native_code():\n    ctypes.PyDLL(None).sleep(1000)\nhang_in_native_code()"
    pulses = {"contourer": tmp_path / "contourer.pulse"}

    with Watched(pulses, contourer=at_work(then, tmp_path)) as watched:
        watched.wait_for(1)

    assert "in hang_in_native_code" in capfd.readouterr().err


SUPERVISOR = """
import pathlib, sys
from node.adapters.processes import Supervisor
Supervisor({"contourer": sys.argv[1:]}, log=lambda *_, **__: None).run()
"""


@pytest.mark.parametrize("then", ["ctypes.PyDLL(None).sleep(1000)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_process_that_hangs_does_not_outlive_its_supervisor(tmp_path: Path, then: str) -> None:
    bound = "\nfrom node.adapters.processes import end_with_supervisor\nend_with_supervisor()\n"
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, *at_work(bound + then, tmp_path)])
    started = tmp_path / "contourer.started"
    wait_for_file(started)
    hanging = psutil.Process(int(started.read_text()))

    supervisor.kill()
    supervisor.wait()

    until = time.monotonic() + 10
    while (is_alive := hanging.is_running() and hanging.status() != psutil.STATUS_ZOMBIE) and time.monotonic() < until:
        time.sleep(0.02)
    if is_alive:
        hanging.kill()
    assert not is_alive


def test_a_process_that_moves_or_rests_is_left_alone(tmp_path: Path) -> None:
    then = "\nfor step in range(20): time.sleep(0.1); pulse.beat('predict', 'j', 1)\npulse.rest(); time.sleep(1000)"
    pulses = {"contourer": tmp_path / "contourer.pulse"}

    with Watched(pulses, contourer=at_work(then, tmp_path)) as watched:
        time.sleep(4.5)

        assert watched.thread.is_alive()
    assert watched.deaths == watched.hung == []


def test_a_process_that_ends_because_all_is_stopped_has_no_ending(tmp_path: Path) -> None:
    pulses = {"contourer": tmp_path / "contourer.pulse"}

    with Watched(pulses, contourer=at_work("while True: time.sleep(0.1); pulse.beat('x', 'j', 1)", tmp_path)):
        wait_for_file(pulses["contourer"].with_suffix(".started"))

    assert read_ending(pulses["contourer"]) is None


def test_a_death_is_kept_though_all_is_stopped_right_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulses = {"contourer": tmp_path / "contourer.pulse"}
    started = pulses["contourer"].with_suffix(".started")
    watched = Watched(pulses, contourer=at_work("time.sleep(1000)", tmp_path))

    def die_and_stop(*_: object) -> float:
        # In the middle of a look of the supervisor: it has no other one.
        if started.exists() and (pid := started.read_text()):
            os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.2)
            watched.supervisor.stop()
        return 0.0

    monkeypatch.setattr(PulseWatch, "silent_s", die_and_stop)
    with watched:
        watched.thread.join(20)

    assert watched.deaths == []
    ending = read_ending(pulses["contourer"])
    assert ending is not None
    assert "signal 9" in ending.reason


def test_a_pulse_that_cannot_be_read_stops_nobody(tmp_path: Path) -> None:
    pulses = {"contourer": tmp_path / "contourer.pulse"}

    with Watched(pulses, contourer=at_work("path.write_text('{'); os._exit(7)", tmp_path)) as watched:
        assert watched.wait_for(1) == [7]
        assert watched.thread.is_alive()

    assert read_ending(pulses["contourer"]) is None


def test_a_process_that_computes_dumps_no_memory_and_goes_first_where_memory_runs_out() -> None:
    program = (
        "import resource; from node.adapters.processes import leave_traces, offer_as_victim;"
        "leave_traces(); offer_as_victim();"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], open('/proc/self/oom_score_adj').read())"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    # 1: a limit of 0 holds for files alone, and where the system pipes dumps into a program, it would get all.
    assert ran.stdout.split() == ["1", "500"]


def wait_for_file(path: Path) -> None:
    until = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until, path
        time.sleep(0.02)
