"""Fixtures shared by all tests."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import settings

from node.adapters.database import open_database, open_server
from tests.environments import UnavailableError, environment
from tests.peer_readers import REQUIREMENTS
from tests.postgres import Server, programs, running_server
from tests.small_disk import SmallDisk, small_disk

# They need torch, and run where that is: see tests/parity/test_learning.py.
if importlib.util.find_spec("torch") is None:
    collect_ignore = ["learning"]

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Give a PostgreSQL server of our own; skip, saying so, where it is not installed; fail in CI."""
    found = programs()
    if found is None:
        message = "not installed: PostgreSQL's server (Debian's package postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with running_server(found) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def open_node_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], sa.Engine]]:
    """Give what opens one new database, as often as it is called: once for SQLite, once for PostgreSQL."""
    opened: list[sa.Engine] = []
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else ""

    def open_it() -> sa.Engine:
        opened.append(open_server(url) if url else open_database(tmp_path / "node.sqlite"))
        return opened[-1]

    yield open_it
    for one in opened:
        one.dispose()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Give a disk of 16 MB of our own; skip, saying so, where nothing can be mounted; fail in CI."""
    with ExitStack() as mounted:
        try:
            small = mounted.enter_context(small_disk(tmp_path / "disk", megabytes=16))
        except PermissionError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield small


@pytest.fixture(autouse=True)
def _log_as_at_start() -> Iterator[None]:
    """Undo what a command that ran in this process did to the log."""
    yield
    structlog.reset_defaults()
