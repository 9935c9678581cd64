"""The receiver survives what a hostile network has: some of what `scripts/attack` does, in small."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.acceptance.running import run

ROOT = Path(__file__).parents[2]

BEHAVIOURS = (
    "silent_300",
    "three_bytes_then_silence",
    "stalled_in_p_data",
    "associate_and_reset",
    "aborted_data_sets",
    "first_pdu_of_4_gb",
    "endless_data_set",
    "endless_command_set",
    "second_request",
    "wrong_pdvs",
    "malformed_requests",
    "crowded_request",
    "absurd_titles",
    "other_context",
    "incomplete_commands",
    "uids_that_are_paths",
    "long_uids",
    "other_services",
    "deep_sequences",
    "deflate_bomb",
)


def test_no_attack_harms_the_receiver_or_the_honest_sender_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    results = tmp_path / "attack.json"

    done = run(
        [
            sys.executable,
            *("-m", "scripts.attacks", "--quick", "--mutations", "1000"),
            *("--only", *BEHAVIOURS),
            *("--json", results),
        ],
        cwd=ROOT,
    )

    verdicts = json.loads(results.read_text(encoding="utf-8"))
    assert {one["behaviour"]: one["harm"] for one in verdicts if one["harm"]} == {}, done.stdout
    assert done.returncode == 0
    assert {*BEHAVIOURS, "afterwards"} <= {one["behaviour"] for one in verdicts}
    assert all(one["honest_stored"] > 0 for one in verdicts)


def test_a_receiver_that_does_not_start_was_not_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_at_once = tmp_path / "node"
    ends_at_once.mkdir()
    (ends_at_once / "__init__.py").touch()
    (ends_at_once / "__main__.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(ROOT))))

    done = run([sys.executable, "-m", "scripts.attacks", "--only", "tls_and_http", "--mutations", "0"], cwd=ROOT)

    assert done.returncode == 2
    assert "The receiver did not start (with status 3)" in done.stderr
