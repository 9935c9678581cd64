"""Fixtures shared by all tests."""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
import structlog


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


@pytest.fixture(autouse=True)
def _log_as_at_start() -> Iterator[None]:
    """Undo what a command that ran in this process did to the log."""
    yield
    structlog.reset_defaults()
