"""The benches run, and publish what they promise."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.running import run

ROOT = Path(__file__).parents[2]


@pytest.mark.peers
def test_the_bench_of_receiving_compares_ours_with_every_peer(
    tmp_path: Path, needs_program: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_program("storescp", "Orthanc")
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    results = tmp_path / "bench.json"

    done = run(
        [
            sys.executable,
            ROOT / "scripts/benches/receive.py",
            "--quick",
            "--associations",
            "2",
            "--json",
            results,
        ]
    )

    # Whether the bounds hold cannot be told from one run.
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads(results.read_text(encoding="utf-8"))
    received = {row["peer_name"]: row for row in rows if row["name"] == "2 associations: received"}
    assert {"storescp", "Orthanc", "pynetdicom"} <= received.keys()
    assert received["storescp"]["bound"] == 0.9
    assert received["Orthanc"]["bound"] == 3.0
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in received.values())
    assert [row["name"] for row in rows if row["unit"] == "MiB"] == [
        "peak memory after 60 instances",
        "growth up to 600",
        "growth by 8 of 32 MB",
    ]


def test_without_its_peers_the_bench_of_receiving_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PATH", str(tmp_path))

    done = run([sys.executable, ROOT / "scripts/benches/receive.py", "--quick"])

    assert done.returncode == 2
    assert "apt-get install dcmtk orthanc" in done.stderr


@pytest.mark.peers
def test_the_bench_of_outputs_compares_ours_with_every_peer(
    tmp_path: Path, needs_program: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_program("plastimatch")
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    results = tmp_path / "bench.json"
    size = ["--structures", "9", "--slices", "30", "--repetitions", "1"]

    done = run([sys.executable, ROOT / "scripts/benches/outputs.py", *size, "--json", results])

    if "rt-utils cannot be installed" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(done.stderr)
    # Whether the bounds hold cannot be told from one run of this size.
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads(results.read_text(encoding="utf-8"))
    bounds = {row["name"]: row["bound"] for row in rows if row["peer_name"] in ("rt-utils", "highdicom", None)}
    assert bounds["9 ROIs: CPU"] == 0.3
    assert bounds["9 ROIs: memory added"] == 0.5
    assert bounds["9 ROIs: file"] == 0.35
    assert bounds["9 ROIs: check / writing"] == 0.2
    assert bounds["9 segments, LABELMAP: CPU"] == 1.2
    changed = {row["peer_name"]: row for row in rows if row["name"].startswith("9 ROIs: voxels changed, by rows")}
    assert changed["rt-utils"]["ours"] == 0
    assert changed["rt-utils"]["peer"] > 1000
    assert changed.keys() == {"rt-utils", "plastimatch"}
