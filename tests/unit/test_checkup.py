"""``delineate check`` tells what TG-263 would have otherwise in a model's names, and does not fail for it."""

import contextlib
import sqlite3
from pathlib import Path

from node.adapters.profile_store import load_profile
from node.checkup import Finding, check
from node.config import load, parse
from tests.fakes import free_port
from tests.unit.test_model_store import install
from tests.unit.test_package import MANIFEST


def findings(folder: Path, manifest: str, profile: str = "generic", **node: str) -> dict[str, Finding]:
    install(folder / "models", manifest=manifest)
    config = parse(
        {
            "node": {"data_dir": str(folder), "port": free_port(), "model_dirs": [str(folder / "models")], **node},
            "destinations": [{"name": "results", "folder": str(folder), "profile": profile}],
            "routes": [{"name": "ct", "models": ["liver-ct"], "destinations": ["results"]}],
        }
    )
    return {finding.subject: finding for finding in check(config)}


def test_a_name_that_breaks_the_rules_is_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST.replace('"Kidney_L"', '"Kidney_Left"'))["names of model liver-ct"]

    assert found.holds
    assert found.said == (
        "Kidney_Left spells its side otherwise than _L or _R and is not in the table of structures; spelt most "
        "alike there: 'Kidney_L'"
    )
    assert "model.toml" in found.what_to_do


def test_names_by_the_rules_are_not_worth_a_word(tmp_path: Path) -> None:
    assert "names of model liver-ct" not in findings(tmp_path, MANIFEST)


def test_names_that_collide_fail_the_model(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST.replace('"Kidney_L"', '"LIVER"'))

    assert not found["model liver-ct"].holds
    assert "holds a name twice" in found["model liver-ct"].said
    assert "names of model liver-ct" not in found


def test_what_holds_and_needs_nothing_says_nothing_to_do(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST)

    assert [one.subject for one in found.values() if one.holds and one.what_to_do] == []


def test_the_profile_of_each_destination_is_tried(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST, profile="eclipse")["profile eclipse"]

    assert found.holds
    assert found.said == load_profile("eclipse").title


def test_a_profile_that_is_not_there_fails_and_the_nearest_is_named(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST, profile="eclips")["profile eclips"]

    assert not found.holds
    assert "'eclipse'" in found.said


def test_an_own_profile_is_found_from_wherever_the_node_is_started(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text('title = "Ours"')
    configuration = tmp_path / "node.toml"
    configuration.write_text("[[destinations]]\nname = 'tps'\nfolder = '/'\nprofile = 'ours.toml'")

    with contextlib.chdir(tmp_path):
        (destination,) = load(configuration).destinations

    assert load_profile(destination.profile).title == "Ours"


def test_a_database_of_another_version_fails(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "delineate.sqlite")) as database:
        database.execute("CREATE TABLE output (job TEXT, kind TEXT)")

    found = findings(tmp_path, MANIFEST)["database"]

    assert not found.holds
    assert "another version of Delineate" in found.said
    assert "node.data_dir" in found.what_to_do


def test_the_device_that_is_asked_for_is_tried_and_what_is_missing_named(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST, device="openvino")["device"]

    assert not found.holds
    assert found.said.startswith("device = 'openvino', precision = 'f32'; cuda")
    assert "openvino cannot be used: the package onnxruntime-ep-openvino is not installed" in found.said
    assert "Install the extra 'openvino'" in found.what_to_do


def test_the_device_is_told_with_its_precision(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST, device="cpu")["device"]

    assert found.holds
    assert found.said.startswith("device = 'cpu', precision = 'f32'; ")
    assert "openvino" not in found.said
