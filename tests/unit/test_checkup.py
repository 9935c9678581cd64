"""``delineate check`` tells what TG-263 would have otherwise in a model's names, and does not fail for it."""

from pathlib import Path

from node.checkup import Finding, check
from node.config import parse
from tests.fakes import free_port
from tests.unit.test_model_store import install
from tests.unit.test_package import MANIFEST


def findings(folder: Path, manifest: str) -> dict[str, Finding]:
    install(folder / "models", manifest=manifest)
    config = parse(
        {
            "node": {"data_dir": str(folder), "port": free_port(), "model_dirs": [str(folder / "models")]},
            "destinations": [{"name": "results", "folder": str(folder)}],
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


def test_the_profiles_that_come_along_are_tried(tmp_path: Path) -> None:
    found = findings(tmp_path, MANIFEST)["profiles"]

    assert found.holds
    assert found.said == "eclipse, generic, monaco, pinnacle, raystation, strict16 can be read"
