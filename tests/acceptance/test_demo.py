"""What a newcomer sees first: it works, twice, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.acceptance.running import run_delineate


def processes_of(folder: Path) -> list[str]:
    """Name the processes whose command line or working folder lies in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if str(folder) in " ".join([*(process.info["cmdline"] or []), process.info["cwd"] or ""]):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def test_the_demonstration_tells_its_story_and_draws_its_picture_also_a_second_time(tmp_path: Path) -> None:
    for _ in range(2):
        picture = tmp_path / "contours.png"
        done = run_delineate("demo", "--keep", str(tmp_path / "kept"), "--picture", str(picture))

        assert done.returncode == 0, done.stdout + done.stderr
        for words in (
            "Received",
            "90 CT images",
            "Judged whole",
            "Body",
            "Bone",
            "Delivered RTSTRUCT and SEG",
            "Seconds",
        ):
            assert words in done.stdout
        assert "not a medical device" in done.stdout
        assert "contours.png" in done.stdout.replace("\n", "")
        with Image.open(picture) as drawn:
            assert min(drawn.size) > 600
        picture.unlink()
        assert processes_of(tmp_path) == []


@pytest.mark.parametrize("moment_s", [1.0, 4.0, 9.0])
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, moment_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "node", "demo", "--keep", str(tmp_path / "kept")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        text=True,
    )
    time.sleep(moment_s)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)

    # Before Python has begun the signal itself ends the process; a shell calls both 130.
    assert process.returncode in (0, 130, -signal.SIGINT), said
    assert "Traceback" not in said
    assert processes_of(tmp_path) == []


def test_a_killed_demonstration_takes_its_node_along(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "node", "demo", "--keep", str(tmp_path / "kept")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    log = tmp_path / "kept" / "node.log"
    while not (log.exists() and "listening" in log.read_text()):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)

    until = time.monotonic() + 30
    while left := processes_of(tmp_path):
        assert time.monotonic() < until, left
        time.sleep(0.2)
