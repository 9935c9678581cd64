"""A small storm over a whole node: what `scripts/storm` does for half an hour, for half a minute."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.running import run

ROOT = Path(__file__).parents[2]


@pytest.mark.peers
@pytest.mark.timeout(600)
def test_kills_while_senders_send_and_destinations_flap_lose_and_double_nothing(
    tmp_path: Path, needs_program: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_program("storescu")
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    told = tmp_path / "storm.json"
    small = ["--kills", "4", "--pause", "2", "--senders", "2"]

    done = run([sys.executable, "-m", "scripts.storms", *small, "--json", told], cwd=ROOT, timeout_s=580)

    storm = json.loads(told.read_text(encoding="utf-8"))
    assert storm["faults"] == [], done.stdout
    assert done.returncode == 0
    assert storm["figures"]["blows"] == 4
    assert storm["figures"]["results at tps"] >= 2


def test_several_machines_on_one_file_are_refused() -> None:
    done = run([sys.executable, "-m", "scripts.storms", "--machines", "2"], cwd=ROOT)

    assert done.returncode == 2
    assert "--engine postgresql" in done.stderr
