"""Python environments for programs of other projects, whose dependencies do not go together with ours.

Each is made once, in the folder that ``DELINEATE_TEST_CACHE`` names (default: ``.cache`` in the checkout), with the
exact versions asked for and without what these would draw in.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Written last: an environment without it is unfinished.
STAMP = "complete"


class UnavailableError(Exception):
    """An environment cannot be made here; the message says why."""


def environment(name: str, requirements: Sequence[str]) -> Path:
    """Give the ``bin`` folder of an environment with exactly these packages, made at the first call.

    Raises
    ------
    UnavailableError
        The packages cannot be installed, usually because PyPI cannot be reached.
    """
    digest = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("DELINEATE_TEST_CACHE", ROOT / ".cache")) / "environments" / f"{name}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Tests that run beside each other share one; in place, for an environment cannot be moved.
    with folder.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / STAMP).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", *requirements])
            (folder / STAMP).touch()
    return folder / "bin"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
        raise UnavailableError(f"{Path(command[0]).name} failed: {said[-1]}")
