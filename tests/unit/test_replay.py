"""The replay itself: its promises hold for a few seeds, and it notices where they are broken."""

import importlib
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

from node.domain.series import CompletionPolicy

FOLDER = Path(__file__).parent.parent.parent / "scripts" / "replays"


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("replay")


def test_every_promise_holds_for_every_pattern(
    replay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = replay.main(["--seeds", "1", "--json", str(tmp_path / "rows.json")])

    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert status == 0, [row for row in rows if not row["holds"]]
    assert {row["rule"] for row in rows} == {"silence 60 s", "silence 5 s", "release", "cold", "settle", "learned"}
    assert len(rows) == 6 * len(replay.PATTERNS)
    assert sum(row["early"] for row in rows if row["rule"] == "silence 5 s") > 10
    assert "one association per image" in capsys.readouterr().out


def test_a_rule_that_is_too_early_against_the_evidence_is_noticed(replay: ModuleType) -> None:
    pattern = next(one for one in replay.PATTERNS if one.name.startswith("abort, sent again after 30 s"))
    hasty = replay.silence(5.0)

    sending = pattern.write(random.Random(1))
    against = sending.speaks_against(sending.arrivals[-1][0] - 20.0, CompletionPolicy().quiet_period_s)

    assert hasty(sending).early
    assert against == "abort"
    run = replay.Run(seconds=3.0, early=True, against=against)
    assert not replay._row(pattern, "cold", [run]).holds


def test_a_rule_that_is_too_slow_is_noticed(replay: ModuleType) -> None:
    pattern = next(one for one in replay.PATTERNS if one.name == "one association")

    assert replay._row(pattern, "learned", [replay.Run(seconds=3.0)]).holds
    assert not replay._row(pattern, "learned", [replay.Run(seconds=3.0), replay.Run(seconds=3.1)]).holds
    assert not replay._row(pattern, "learned", [replay.Run(seconds=None)]).holds
    assert replay._row(pattern, "silence 60 s", [replay.Run(seconds=60.0, early=True)]).holds
