"""Profiles of receivers on disk: ``conf/profiles/<name>.toml``, or a file of the operator's own."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from node.domain.errors import SetupError
from node.domain.profiles import REPLACEMENT, SHORTEST_NAME, Profile, is_profile_path
from node.domain.structures import HoleEncoding
from node.resources import shipped

REMEDY = "Mend the keys named; conf/profiles/generic.toml explains every key."


def profile_names() -> tuple[str, ...]:
    """List the profiles that come with Delineate, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load_profile(name_or_path: str) -> Profile:
    """Read a profile.

    Parameters
    ----------
    name_or_path
        The name of one that comes with Delineate, or the path of a file: what ends in ``.toml`` or holds a slash.

    Raises
    ------
    SetupError
        There is no such profile, or its file is wrong; every fault is named.
    """
    path = _path(name_or_path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"The profile {path} is not valid TOML: {error}.", "Mend that line.") from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SetupError(f"The profile {path} cannot be read: {why}.", "Mend the path, or the file.") from error
    if faults := _faults_of(values):
        raise SetupError(f"The profile {path} is wrong:\n" + "\n".join(f"  {fault}" for fault in faults), REMEDY)
    return Profile(name=path.stem, **values)


def _faults_of(values: Mapping[str, Any]) -> list[str]:
    faults = [f"{key}: missing" for key in _REQUIRED if key not in values]
    for key, value in values.items():
        if key not in _KEYS:
            faults.append(f"{key}: unknown key{_nearest(key, tuple(_KEYS))}")
            continue
        try:
            _KEYS[key].validate_python(value, strict=True)
        except ValidationError as error:
            faults += [_fault(key, details["msg"], value) for details in error.errors()]
    return faults


def _folder() -> Path:
    return shipped("conf") / "profiles"


def _path(name_or_path: str) -> Path:
    if is_profile_path(name_or_path):
        return Path(name_or_path)
    names = profile_names()
    if name_or_path in names:
        return _folder() / f"{name_or_path}.toml"
    raise SetupError(
        f"There is no profile {name_or_path!r}{_nearest(name_or_path, names)}",
        'Take one of them, or give the path of a file of your own, e.g. "/etc/delineate/ours.toml".',
    )


def _characters(value: str) -> str:
    if REPLACEMENT not in value:
        raise ValueError(f"must hold {REPLACEMENT!r}, which replaces what is not there")
    if wrong := [each for each in value if not (each.isascii() and each.isprintable()) or each == "\\"]:
        raise ValueError(f"must be printable ASCII without backslash, not {' '.join(map(repr, wrong))}")
    return value


_REQUIRED = ("title",)

# What a file leaves out has the default of `Profile`.
_KEYS: dict[str, TypeAdapter[Any]] = {
    "title": TypeAdapter(Annotated[str, Field(min_length=1)]),
    # PS3.5 table 6.2-1: LO has at most 64 characters, SH 16.
    "name_length": TypeAdapter(Annotated[int, Field(ge=SHORTEST_NAME, le=64)]),
    "name_characters": TypeAdapter(Annotated[str, AfterValidator(_characters)]),
    "mark_cut": TypeAdapter(bool),
    # A label has room for a run number of four digits and some of the model's name.
    "label_length": TypeAdapter(Annotated[int, Field(ge=8, le=16)]),
    "holes": TypeAdapter(HoleEncoding),
    # Six decimals leave a DS eight digits before the point.
    "decimals": TypeAdapter(Annotated[int, Field(ge=2, le=6)]),
    "minimum_points": TypeAdapter(Annotated[int, Field(ge=3, le=100)]),
    "empty_structures": TypeAdapter(Literal["omit", "list"]),
}


def _fault(key: str, message: str, value: object) -> str:
    said = message.removeprefix("Value error, ")
    return f"{key}: {said[0].lower()}{said[1:]} (it is {value!r})"


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" — did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
