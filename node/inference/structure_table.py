"""Structures as a manifest and ``conf/structures.toml`` describe them, as values."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from node.domain.errors import SetupError
from node.domain.structures import Code, InterpretedType, StructureDefinition
from node.domain.tg263 import nearest
from node.inference.tables import Table, keys

MEND_TABLE = "Mend conf/structures.toml, or install Delineate again."

# AAPM TG-263: at most 16 characters; letters, digits, underscore; ~ for partial, ^ for custom, - and + in targets.
_STRUCTURE_NAME = re.compile(r"[A-Za-z0-9_~^+-]{1,16}")
# Laterality, PS3.16 CID 244.
_SIDES = {"7771000": "L", "24028007": "R"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStructure:
    """What ``conf/structures.toml`` says of a structure; a model package adds in which label values it is."""

    colour_rgb: tuple[int, int, int]
    category: Code
    type: Code
    # Its laterality.
    modifier: Code | None
    interpreted_type: InterpretedType
    always_cut: bool


def parse_structures(text: str, where: str = "structures.toml") -> dict[str, KnownStructure]:
    """Read the table of structures.

    Raises
    ------
    SetupError
        It is no TOML, a key is unknown or missing, a name is there twice or a side contradicts its name.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{where} is not valid TOML: {error}", MEND_TABLE) from error
    table = Table(raw, where, ("defaults", "sides", "structures"), MEND_TABLE)
    sides = table.table("sides", ("left", "right", "both"))
    names: list[str] = list(table.take("structures", dict))
    if len({name.casefold() for name in names}) != len(names):
        raise table.wrong("structures", "holds a name twice (upper and lower case count as the same)")
    defaults = table.table("defaults", ("category", "interpreted_type"))
    rows = table.table("structures", names)
    return {name: _known(name, rows.table(name, _KEYS), defaults, sides) for name in names}


_KEYS = ("type", "side", "category", "interpreted_type", "colour_rgb", "always_cut")


def _known(name: str, row: Table, defaults: Table, sides: Table) -> KnownStructure:
    if not _STRUCTURE_NAME.fullmatch(name):
        raise row.wrong("name", "has more than 16 characters, or others than TG-263 allows")
    known = KnownStructure(
        colour_rgb=_colour(row),
        category=_listed_code(row if "category" in row else defaults, "category"),
        type=_listed_code(row, "type"),
        modifier=_listed_code(sides, row.text("side")) if "side" in row else None,
        interpreted_type=_interpreted_type(row if "interpreted_type" in row else defaults),
        always_cut=row.boolean("always_cut") if "always_cut" in row else False,
    )
    if name.endswith(("_L", "_R")) and known.modifier is None:
        raise row.wrong("side", "is missing: the name ends in one")
    _check_side(name, known.modifier, row)
    return known


def definition_of(table: Table, known: Mapping[str, KnownStructure]) -> StructureDefinition:
    """Read one ``[[structures]]`` entry of a manifest; what it leaves out is taken from what is known of its name.

    Raises
    ------
    SetupError
        A value is wrong, or is neither given nor known.
    """
    name = table.match("name", _STRUCTURE_NAME, "at most 16 letters, digits, '_', '~', '^', '+', '-' (TG-263)")
    given = {key: read(table) for key, read in _READERS.items() if key in table}
    if "type" in given:
        # The table's side belongs to the table's type: another type may have a side of its own.
        given.setdefault("modifier", None)
    row = known.get(name)
    if row is None and (missing := [key for key in _READERS if key not in given and key not in _OPTIONAL]):
        near = nearest(name, known)
        hint = f"; is {near!r} meant?" if near else ""
        raise table.wrong(
            "name", f"{name!r} is not in conf/structures.toml{hint or '.'} Without it give {', '.join(missing)} here"
        )
    values = ({key: getattr(row, key) for key in keys(KnownStructure)} if row else _OPTIONAL) | given
    _check_side(name, values["modifier"], table)
    return StructureDefinition(name=name, label_values=table.integers("label_values"), **values)


_OPTIONAL: dict[str, Any] = {"modifier": None, "always_cut": False}


def _check_side(name: str, modifier: Code | None, table: Table) -> None:
    stated = _SIDES.get(modifier.value, "") if modifier is not None else ""
    if name.endswith(("_L", "_R")) and stated and stated != name[-1]:
        raise table.wrong("name", f"{name!r} has the code of the other side")


def _colour(table: Table) -> tuple[int, int, int]:
    colour = table.integers("colour_rgb")
    if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        raise table.wrong("colour_rgb", "must be three whole numbers from 0 to 255")
    return colour[0], colour[1], colour[2]


def _interpreted_type(table: Table) -> InterpretedType:
    interpreted_type = table.text("interpreted_type", may_be_empty=True)
    if interpreted_type not in get_args(InterpretedType):
        raise table.wrong("interpreted_type", f"must be one of {', '.join(filter(None, get_args(InterpretedType)))}")
    return cast(InterpretedType, interpreted_type)


def _code(table: Table, key: str) -> Code:
    code = table.table(key, keys(Code))
    return Code(value=code.text("value"), scheme=code.text("scheme"), meaning=code.text("meaning"))


def _listed_code(table: Table, key: str) -> Code:
    parts = table.texts(key)
    if len(parts) != 3:
        raise table.wrong(key, "must be scheme, value and meaning of a code")
    return Code(scheme=parts[0], value=parts[1], meaning=parts[2])


_READERS: dict[str, Callable[[Table], Any]] = {
    "colour_rgb": _colour,
    "category": lambda table: _code(table, "category"),
    "type": lambda table: _code(table, "type"),
    "modifier": lambda table: _code(table, "modifier"),
    "interpreted_type": _interpreted_type,
    "always_cut": lambda table: table.boolean("always_cut"),
}
