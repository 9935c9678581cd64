"""What ``delineate model`` prints, for people and for scripts, and its exit status."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from node.cli import app
from node.domain.errors import SetupError
from node.inference.golden import axial_grid
from node.inference.memory import bytes_for
from node.inference.predictor import Room
from tests.model_packages import NAME, install, install_parts, labels_of, scan
from tests.unit.test_measuring import installed
from tests.unit.test_segment import PACKAGE


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["model", *arguments], catch_exceptions=False)


def told(result: Result) -> Any:
    return json.loads(result.stdout)


def test_every_package_is_listed_with_what_keeps_it_from_loading(tmp_path: Path) -> None:
    install(tmp_path / "ours")
    broken = install(tmp_path / "theirs").rename(tmp_path / "theirs" / "renamed")

    result = run("list", "--model-dir", str(tmp_path / "ours"), "--model-dir", str(broken.parent), "--json")

    listed = {one["name"]: one for one in told(result)}
    assert result.exit_code == 1
    assert sorted(listed) == ["body-bones", NAME, "renamed"]
    assert listed[NAME]["loadable"]
    assert (listed[NAME]["version"], listed[NAME]["modalities"], listed[NAME]["structures"]) == ("1.2", ["CT"], 2)
    assert listed[NAME]["size_bytes"] == sum(each.stat().st_size for each in (tmp_path / "ours" / NAME).iterdir())
    assert listed["renamed"]["reason"] == f"The model package in folder 'renamed' calls itself '{NAME}'."


def test_packages_that_load_are_a_success() -> None:
    result = run("list")

    assert result.exit_code == 0
    assert re.search(r"^body-bones +1\.0\.0 .* ok", result.stdout, re.MULTILINE)


def test_the_models_of_a_node_are_listed_too(tmp_path: Path) -> None:
    install(tmp_path / "models")
    (tmp_path / "node.toml").write_text(f'[node]\nmodel_dirs = ["{tmp_path / "models"}"]\n')

    result = run("list", "--config", str(tmp_path / "node.toml"), "--json")

    assert [one["name"] for one in told(result)] == ["body-bones", NAME]


def test_a_package_is_shown_as_it_describes_itself(tmp_path: Path) -> None:
    package = install(tmp_path)

    result = run("show", NAME, "--model-dir", str(tmp_path))

    lines = [line.strip() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert f"{NAME} 1.2" in lines
    assert "Knows two densities." in lines
    assert "orientation LPS, spacing as it is × as it is × as it is mm" in lines
    assert any(line.startswith("Liver") and line.endswith("10200004 SCT Liver; labels 2") for line in lines)
    assert any(re.fullmatch(r"graph\.onnx, SHA-256 [0-9a-f]{64}", line) for line in lines)
    assert f"{package / 'MODEL_CARD.md'}: read it" in lines


def test_a_package_of_parts_shows_each_and_its_region(tmp_path: Path) -> None:
    install_parts(tmp_path)

    lines = [line.strip() for line in run("show", NAME, "--model-dir", str(tmp_path)).stdout.splitlines()]

    assert "the box around liver, and 3 × 3 × 2.5 mm; found by a network of its own" in lines
    assert lines.index("Region") < lines.index("Part body") < lines.index("Part liver") < lines.index("Structures")
    assert "labels 1" in lines
    assert "labels 2, over those of body and before" in lines


def test_a_package_of_parts_is_listed_with_them(tmp_path: Path) -> None:
    install_parts(tmp_path)

    listed = {one["name"]: one for one in told(run("list", "--model-dir", str(tmp_path), "--json"))}
    printed = run("list", "--model-dir", str(tmp_path)).stdout

    assert (listed[NAME]["parts"], listed[NAME]["region"]) == (["body", "liver"], ["liver"])
    assert (listed["body-bones"]["parts"], listed["body-bones"]["region"]) == ([], [])
    assert re.search(rf"^{NAME} .* 2 +3 +0\.0 MB", printed, re.MULTILINE)


def test_a_package_is_shown_to_scripts_with_its_memory(tmp_path: Path) -> None:
    install(tmp_path)

    shown = told(run("show", NAME, "--model-dir", str(tmp_path), "--json"))

    assert [each["name"] for each in shown["structures"]] == ["Body", "Liver"]
    # The image and three scores of 4 bytes for 300 · 512 · 512 voxels.
    assert shown["memory"].startswith("at least 1.3 GB for a scan of 512×512×300")
    assert shown["card"].endswith(f"{NAME}/MODEL_CARD.md")


def test_a_package_is_verified_by_its_name_or_its_folder(tmp_path: Path) -> None:
    folder = install(tmp_path)

    by_name = run("verify", NAME, "--model-dir", str(tmp_path))
    by_folder = run("verify", str(folder), "--json")

    assert by_name.exit_code == by_folder.exit_code == 0
    assert "ok   golden test: 0 of 1008 voxels" in by_name.stdout
    assert all(finding["holds"] for finding in told(by_folder))


def test_what_is_measured_of_a_package_is_told_and_shown(tmp_path: Path) -> None:
    installed(tmp_path)

    measured = run("measure", str(tmp_path / NAME))
    shown = run("show", NAME, "--model-dir", str(tmp_path))

    assert measured.exit_code == 0
    assert f"added {tmp_path / NAME / 'graph.f16.onnx'}" in measured.stdout
    line = (
        r"\d+ of 1024 voxels differ from CPUExecutionProvider, float32, .* on float16, rounded after every operator, "
    )
    assert re.search(line, measured.stdout)
    assert re.search(line, shown.stdout)
    assert "graph.f16.onnx (copy in float16, for CUDA), SHA-256 " in shown.stdout


def test_a_package_that_fails_ends_with_1_and_says_what_to_do(tmp_path: Path) -> None:
    install(tmp_path, labels=np.maximum(labels_of(scan()), 1).astype(np.uint8))

    result = run("verify", NAME, "--model-dir", str(tmp_path))

    assert result.exit_code == 1
    assert "FAIL golden test: 576 of 1008 voxels have another label" in result.stdout
    assert "what to do: Do not use it." in result.stdout


def test_a_folder_without_a_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"holds no model\.toml"):
        run("verify", str(tmp_path))


def test_the_shipped_package_is_right() -> None:
    result = run("verify", "body-bones")

    assert result.exit_code == 0
    assert result.stdout.count("\nok ") + 1 == len(result.stdout.splitlines())


def test_the_memory_of_a_network_without_a_window_counts_image_scores_and_the_network() -> None:
    room = Room(host=1, device=None, network=1000, label_values=1)

    # PACKAGE has 3 classes and keeps the spacing.
    assert bytes_for(PACKAGE, axial_grid((5, 7, 11), (3.0, 1.5, 1.25)), room) == 4 * (1 + 3) * 5 * 7 * 11 + 1000
