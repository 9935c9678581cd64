"""The benches run, and publish what they promise."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.running import run
from tests.parity.environment import reference_python

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


def test_the_bench_of_jobs_compares_the_engine_with_the_bare_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    results = tmp_path / "bench.json"

    done = run([sys.executable, ROOT / "scripts/benches/jobs.py", "--quick", "--json", results])

    # Whether the bound holds cannot be told from one run of this size.
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads(results.read_text(encoding="utf-8"))
    assert [row["unit"] for row in rows] == ["series/min", "ms", "ms", "% of a core"]
    assert [row["bound"] for row in rows] == [None, None, 1.05, None]
    assert all(row["ours"] > 0 for row in rows)


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


@pytest.mark.timeout(900)
def test_the_bench_of_inference_compares_ours_with_nnunet_and_monai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference_python()
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    results = tmp_path / "bench.json"

    quick = ["--quick", "--parts", "beside", "--repetitions", "1"]
    done = run([sys.executable, ROOT / "scripts/benches/inference.py", *quick, "--json", results], timeout_s=850)

    if "The peers cannot be installed" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(done.stderr)
    # Whether the bounds hold cannot be told from one run of this size.
    assert done.returncode in (0, 1), done.stderr
    rows = {(row["name"], row["peer_name"]): row for row in json.loads(results.read_text(encoding="utf-8"))}
    assert rows["5 classes: beside the network, CPU", "nnU-Net"]["bound"] == 0.1
    assert rows["5 classes: peak memory", "nnU-Net"]["bound"] == 0.5
    assert rows["5 classes: network, CPU", "MONAI"]["peer"] > 0
    # One voxel of this scan is 6.5 in a million.
    assert rows["5 classes: labels that differ from nnU-Net's with float32 sums", None]["ours"] < 30
    assert rows["5 classes: labels that differ from nnU-Net's with float16 sums", None]["ours"] > 30
    assert rows["5 classes: classes that the labels have", None]["ours"] > 2


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_torch_runs_the_network_that_the_bench_of_the_gpu_runs(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = reference_python()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "scripts/benches"))))

    ours = run([python, "-m", "inferring.on_device", "tiny", precision, "cpu", tmp_path, "1"])
    torch = run([python, "-m", "inferring.torch_on_device", "tiny", precision, "cpu", tmp_path])

    assert ours.returncode == torch.returncode == 0, ours.stderr + torch.stderr
    assert json.loads(ours.stdout)["patches"] == 2
    scores = [np.load(tmp_path / f"scores {engine} {precision}.npy") for engine in ("ours", "torch")]
    assert np.abs(scores[0] - scores[1]).max() < (1e-4 if precision == "float32" else 0.05) * scores[1].std()


def test_the_bench_of_evaluation_compares_ours_and_other_tools_with_known_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    results = tmp_path / "bench.json"

    quick = ["--quick", "--without-monai"]
    done = run([sys.executable, ROOT / "scripts/benches/evaluate.py", *quick, "--json", results])

    if "Other tools cannot be installed" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(done.stderr)
    # Nothing of this depends on the machine: the bounds must hold.
    assert done.returncode == 0, done.stderr
    rows = json.loads(results.read_text(encoding="utf-8"))
    worst = {row["peer_name"]: 0.0 for row in rows if row["name"].startswith("mean surface distance")}
    for row in rows:
        if row["name"].startswith("mean surface distance"):
            off = row["ours"] if row["peer_name"] is None else row["peer"]
            worst[row["peer_name"]] = max(worst[row["peer_name"]], off)
    assert worst[None] < 3
    assert all(off > 10 for tool, off in worst.items() if tool is not None)
    assert worst.keys() >= {None, "surface-distance", "MedPy", "SimpleITK"}
