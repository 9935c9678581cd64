"""The supervisor: children that die, cannot start, or find their set-up wrong."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

from node.adapters.processes import SETUP_FAULT, Supervisor

FOR_EVER = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]


class Watched:
    """A supervisor at work in a thread, and what it logged."""

    def __init__(self, **commands: list[str]) -> None:
        self.events: list[dict[str, Any]] = []
        self.supervisor = Supervisor(commands, log=lambda event, **fields: self.events.append(fields))
        self.status: int | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.status = self.supervisor.run()

    def wait_for(self, count: int) -> list[Any]:
        """Wait until that many deaths were logged; gives each status."""
        until = time.monotonic() + 20
        while len(self.events) < count:
            assert time.monotonic() < until, self.events
            time.sleep(0.02)
        return [one["status"] for one in self.events]

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
        assert {one["role"] for one in watched.events} == {"contourer"}

    assert watched.status == 0


def test_a_process_that_cannot_be_started_is_tried_again() -> None:
    with Watched(receiver=FOR_EVER, contourer=["/nowhere/program"]) as watched:
        assert watched.wait_for(2) == ["No such file or directory"] * 2
        assert watched.thread.is_alive()
