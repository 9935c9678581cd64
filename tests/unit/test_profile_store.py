"""A profile is understood whole or refused with everything that is wrong with it."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from node.adapters.profile_store import load_profile, profile_names
from node.config import parse
from node.domain.errors import SetupError
from node.domain.profiles import Profile
from node.domain.structures import Drawing
from node.resources import shipped
from node.service import forms_of

FOLDER = shipped("conf") / "profiles"


def own(folder: Path, text: str) -> str:
    path = folder / "ours.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_profiles_that_come_along_are_listed() -> None:
    assert profile_names() == ("eclipse", "generic", "monaco", "pinnacle", "raystation", "strict16")


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_comes_along_can_be_loaded_and_says_that_nobody_tried_it(name: str) -> None:
    profile = load_profile(name)

    assert profile.name == name
    assert name == "generic" or "not tried with" in profile.title


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_comes_along_states_all_it_means(name: str) -> None:
    stated = set(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")))
    unstated = {"decimals"} if name == "generic" else set()

    assert stated == {field.name for field in fields(Profile)} - {"name"} - unstated


@pytest.mark.parametrize("name", sorted(set(profile_names()) - {"generic"}))
def test_no_system_gets_names_or_labels_longer_than_tg_263_has_them(name: str) -> None:
    profile = load_profile(name)

    assert (profile.name_length, profile.label_length) == (16, 16)
    assert " " not in profile.name_characters
    assert profile.holes == "keyhole"


def test_generic_explains_every_key_right_above_it_and_holds_the_defaults() -> None:
    lines = (FOLDER / "generic.toml").read_text(encoding="utf-8").splitlines()

    for key in (field.name for field in fields(Profile) if field.name != "name"):
        (place,) = (number for number, line in enumerate(lines) if re.match(rf"(# )?{key} = ", line))
        assert lines[place - 1].startswith("# ")
    generic = load_profile("generic")
    assert generic == Profile(name="generic", title=generic.title)


def test_a_profile_of_the_operators_own_is_read_from_its_path_and_named_after_its_file(tmp_path: Path) -> None:
    path = own(tmp_path, 'title = "Ours"\nholes = "xor"\ndecimals = 2\nminimum_points = 4\nempty_structures = "list"')

    profile = load_profile(path)

    assert (profile.name, profile.title, profile.empty_structures) == ("ours", "Ours", "list")
    assert profile.name_length == 64
    assert profile.drawing == Drawing(holes="xor", decimals=2, minimum_points=4)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(SetupError, match="no profile 'eclypse' — did you mean 'eclipse'"):
        load_profile("eclypse")
    with pytest.raises(SetupError, match="no profile 'x'; known are eclipse, generic, monaco"):
        load_profile("x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('title = ""', "title: string should have at least 1 character (it is '')"),
        ("name_length = 12", "name_length: input should be greater than or equal to 16 (it is 12)"),
        ("name_length = 65", "name_length: input should be less than or equal to 64 (it is 65)"),
        ("name_length = 16.0", "name_length: input should be a valid integer (it is 16.0)"),
        ("name_length = true", "name_length: input should be a valid integer (it is True)"),
        ('name_characters = "~"', "name_characters: must hold '_'"),
        ('name_characters = "_ä"', "name_characters: must be printable ASCII without backslash, not 'ä'"),
        ('name_characters = "_\\\\"', "name_characters: must be printable ASCII without backslash"),
        ("mark_cut = 1", "mark_cut: input should be a valid boolean (it is 1)"),
        ("label_length = 17", "label_length: input should be less than or equal to 16 (it is 17)"),
        ('holes = "nested"', "holes: input should be 'keyhole' or 'xor' (it is 'nested')"),
        ("decimals = 1", "decimals: input should be greater than or equal to 2 (it is 1)"),
        ("minimum_points = 2", "minimum_points: input should be greater than or equal to 3 (it is 2)"),
        ('empty_structures = "draw"', "empty_structures: input should be 'omit' or 'list' (it is 'draw')"),
        ('hole = "xor"', "hole: unknown key — did you mean 'holes'?"),
        ('name = "ours"', "name: unknown key"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, said: str) -> None:
    title = "" if text.startswith("title") else 'title = "Ours"\n'

    with pytest.raises(SetupError, match=re.escape(said)):
        load_profile(own(tmp_path, title + text))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as raised:
        load_profile(own(tmp_path, 'lable_length = 12\nholes = "no"\ndecimals = "3"'))

    told = raised.value.reason.splitlines()[1:]
    assert [line.strip().split(":")[0] for line in told] == ["title", "lable_length", "holes", "decimals"]


@pytest.mark.parametrize(
    ("raw", "said"), [(b"title = ", "not valid TOML"), (b"\xff\xfe", "cannot be read"), (None, "cannot be read")]
)
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, raw: bytes | None, said: str) -> None:
    path = tmp_path / "ours.toml"
    if raw is not None:
        path.write_bytes(raw)

    with pytest.raises(SetupError, match=said):
        load_profile(str(path))


def test_two_profiles_of_one_name_do_not_serve_two_destinations(tmp_path: Path) -> None:
    (tmp_path / "eclipse.toml").write_text('title = "Ours"', encoding="utf-8")
    folders = [
        {"name": name, "folder": str(tmp_path / name), "profile": profile}
        for name, profile in (("tps", "eclipse"), ("old", str(tmp_path / "eclipse.toml")))
    ]

    with pytest.raises(SetupError, match="Two different profiles are called 'eclipse'"):
        forms_of(parse({"destinations": folders}))
