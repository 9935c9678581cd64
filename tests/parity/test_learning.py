"""The tests that need torch, which the node does without, in the place where it is."""

import sysconfig

import pytest

from tests.parity.environment import run_module

# The first test makes the place for nnU-Net, or waits for another that does.
pytestmark = pytest.mark.timeout(900)


def test_what_needs_torch_passes_where_torch_is() -> None:
    said = run_module(
        "tests.parity.pytest_there",
        sysconfig.get_path("purelib"),
        *("tests/learning", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="),
    )

    assert " passed" in said
    assert "skipped" not in said
