"""A place of its own for nnU-Net, TotalSegmentator and torch, which the node does without.

The packages of ``requirements.txt`` beside this file are installed without their dependencies: what timm, torchvision
and the rest would bring is 5 GB, for nothing that inference touches. Torch comes as the build without CUDA, from
wherever pip is configured to look or else from PyTorch's own index. ``python -m tests.parity.environment`` makes it
ahead of the tests.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import NoReturn

import pytest

from tests.environments import UnavailableError
from tests.real_data import ROOT

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
TORCH = "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# One thread: two that wait for each other on a busy machine take five times as long, and sums come out in one order.
# Empty, not absent: Python would then compile 15 s of source again in every process.
SURROUNDINGS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "nnUNet_def_n_proc": "1",
    "PYTHONDONTWRITEBYTECODE": "",
}


def reference_python() -> Path:
    """Give the interpreter that can import nnU-Net.

    Skips the test, saying so, where the packages cannot be had. In CI (``CI=true``) that fails the test.
    """
    try:
        return prepared_python()
    except UnavailableError as error:
        _absent(str(error))


def prepared_python() -> Path:
    """Give the interpreter that can import nnU-Net; makes it once, below ``DELINEATE_TEST_CACHE``.

    Raises
    ------
    UnavailableError
        The packages cannot be had.
    """
    folder = _cache() / f"nnunet-{_key()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Test processes beside each other share one, for it takes minutes and 1.6 GB.
    with folder.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}")
            shutil.rmtree(partial, ignore_errors=True)
            try:
                _make(partial)
            except subprocess.CalledProcessError as error:
                raise UnavailableError(f"no environment for nnU-Net: {_last_line(error.stderr)}") from error
            partial.rename(folder)
    return folder / "bin" / "python"


def run_module(name: str, *arguments: str | Path, timeout_s: float = 600) -> str:
    """Run ``python -m name`` of this checkout in that place and give what it printed; its complaint fails the test."""
    command = [reference_python(), "-m", name, *arguments]
    surroundings = {**os.environ, **SURROUNDINGS}
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def _make(folder: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    install = [sys.executable, "-m", "pip", f"--python={folder / 'bin' / 'python'}", "install", "--no-deps", "--quiet"]
    _run([*install, "--no-compile", "-r", str(REQUIREMENTS)])
    try:
        _run([*install, "--no-compile", TORCH])
    except subprocess.CalledProcessError:
        _run([*install, "--no-compile", "--index-url", TORCH_INDEX, TORCH])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _key() -> str:
    """A changed pin or another Python is another place."""
    made_of = f"{REQUIREMENTS.read_text()} {TORCH} {sys.version} {_cache()}"
    return hashlib.sha256(made_of.encode()).hexdigest()[:12]


def _cache() -> Path:
    return Path(os.environ.get("DELINEATE_TEST_CACHE", ROOT / ".cache" / "test-data")).absolute()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("ERROR")]
    return lines[-1] if lines else text[-300:]


def _absent(message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


if __name__ == "__main__":
    prepared_python()
