"""Fixtures shared by all tests."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests.environments import UnavailableError, environment
from tests.peer_readers import REQUIREMENTS

# The oldest that the extra `openvino` takes.
OPENVINO = ("onnxruntime-ep-openvino==1.8.1",)

# A busy machine is no fault: how long an example takes is nothing that a test may fail for.
settings.register_profile("delineate", deadline=None)
settings.load_profile("delineate")


@pytest.fixture
def needs_program() -> Callable[..., None]:
    """Skip, saying so, where one of the named programs of other projects is not installed; fail in CI."""

    def check(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            message = f"not installed: {', '.join(missing)} (README.md names their packages)"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)

    return check


@pytest.fixture(scope="session")
def readers() -> Path:
    """Give the programs of an environment with readers from PyPI; skip, saying why, without it; fail in CI."""
    return _environment("readers", REQUIREMENTS)


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put OpenVINO's plugin where this process imports from; skip, saying why, without it; fail in CI."""
    (packages,) = (_environment("openvino", OPENVINO).parent / "lib").glob("python*/site-packages")
    monkeypatch.syspath_prepend(str(packages))


def _environment(name: str, requirements: Sequence[str]) -> Path:
    try:
        return environment(name, requirements)
    except UnavailableError as error:
        message = f"what the test needs is not there: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(autouse=True)
def _log_as_at_start() -> Iterator[None]:
    """Undo what a command that ran in this process did to the log."""
    yield
    structlog.reset_defaults()
