"""Which organ a region is, by its name: the clinic's table first, then TG-263. Left and right are never confused.

The table is TOML: an organ, and how it is spelt, whatever the case; ``*``, ``?`` and ``[...]`` stand for parts of a
name. ``[sides]`` adds words of other languages for left and right::

    Parotid_L = ["parotis li*", "OAR parotid left"]
    Parotid_R = ["parotis re*"]
    [sides]
    left = ["lewa"]
    right = ["prawa"]

A region whose name states no side is never one of a sided organ, whatever the table says, nor one of the other side.
"""

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from node.domain.errors import SetupError
from node.domain.tg263 import nearest, place_of_side, side_of

# "LR": it states both, so nobody knows.
Side = Literal["L", "R", "LR", ""]

_REMEDY = "See `delineate dataset build --help`; `delineate dataset names ARCHIVE` prints a table to start from."
_SIDES = "sides"
# Words for the sides that TG-263's English does not have: German, Dutch, French, Italian, Spanish, Portuguese, Latin.
LEFT_WORDS = frozenset({"li", "links", "linke", "linker", "linkes", "lks", "gauche", "gche", "sinistra", "sinistro"})
LEFT_WORDS |= {"sin", "sx", "izquierda", "izquierdo", "izq", "esquerda", "esquerdo", "esq", "sinister", "左"}
RIGHT_WORDS = frozenset({"re", "rechts", "rechte", "rechter", "rechtes", "droite", "droit", "dte", "destra", "destro"})
RIGHT_WORDS |= {"dx", "derecha", "derecho", "der", "direita", "direito", "dir", "dexter", "dex", "右"}
_WORD = re.compile(r"[^\W\d_]+")
_SEPARATORS = re.compile(r"[\s_.()\[\]-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTable:
    """How a clinic spells organs. Empty: by TG-263 alone."""

    # Organ -> patterns.
    spellings: Mapping[str, tuple[str, ...]]
    left_words: frozenset[str] = LEFT_WORDS
    right_words: frozenset[str] = RIGHT_WORDS

    def side(self, name: str) -> Side:
        """Tell which side a name states, in any of the languages; both where it contradicts itself."""
        found = {word for word in map(str.casefold, _WORD.findall(name)) if word in self.left_words | self.right_words}
        sides = {"L" if word in self.left_words else "R" for word in found} | _english_sides(name)
        return "LR" if len(sides) > 1 else "L" if "L" in sides else "R" if sides else ""


NO_TABLE = NameTable(spellings={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What tells the organ of a region."""

    # Those that are wanted.
    organs: tuple[str, ...]
    table: NameTable = NO_TABLE

    def organ_of(self, name: str) -> str | None:
        """Give the organ that a region's name means; None where it is none of them, or might be several."""
        fitting = [organ for organ in self.organs if self._is_listed(name, organ)]
        if not fitting:
            fitting = [organ for organ in self.organs if self._is_spelt_alike(name, organ)]
        return fitting[0] if len(fitting) == 1 else None

    def _is_listed(self, name: str, organ: str) -> bool:
        patterns = self.table.spellings.get(organ, ())
        if not any(fnmatchcase(_plain(name), _plain(pattern)) for pattern in patterns):
            return False
        # An organ without a side may be listed with names that state one: that is the clinic's to say.
        return side_of(organ) in ("", self.table.side(name))

    def _is_spelt_alike(self, name: str, organ: str) -> bool:
        return _key(name) == _key(organ) and self.table.side(name) == side_of(organ)


def read_table(text: str, where: str) -> NameTable:
    """Read the table of names.

    Raises
    ------
    SetupError
        It is no such table, or lists for a sided organ a name that states no side, or the other one.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{where} is not valid TOML: {error}.", _REMEDY) from error
    words = raw.pop(_SIDES, {})
    if not isinstance(words, dict) or set(words) - {"left", "right"}:
        raise SetupError(f"{where}: [{_SIDES}] may hold left and right, lists of words.", _REMEDY)
    left, right = (
        frozenset(map(str.casefold, _listed(words.get(side, []), f"{_SIDES}.{side}", where)))
        for side in ("left", "right")
    )
    table = NameTable(
        spellings={organ: _listed(patterns, organ, where) for organ, patterns in raw.items()},
        left_words=LEFT_WORDS | left,
        right_words=RIGHT_WORDS | right,
    )
    _refuse_wrong_sides(table, where)
    return table


def refuse_unknown(organs: Sequence[str], table: NameTable, known: Collection[str]) -> None:
    """Refuse organs that neither TG-263 nor the clinic's table knows: nothing would ever be found of them.

    Raises
    ------
    SetupError
        With the nearest name that is known.
    """
    for organ in organs:
        if organ not in known and organ not in table.spellings:
            near = nearest(organ, known)
            hint = f"; spelt most alike: {near}" if near else ""
            raise SetupError(
                f"--organ {organ} is none of conf/structures.toml{hint}.", "Correct it, or list it in --names."
            )
    if len(set(organs)) != len(organs):
        raise SetupError("--organ names an organ twice.", "Name each once; of two at one voxel the later one wins.")


def _listed(values: object, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) and each.strip() for each in values):
        raise SetupError(f"{where}: {key} must be a list of names in quotes.", _REMEDY)
    return tuple(values)


def _refuse_wrong_sides(table: NameTable, where: str) -> None:
    for organ, patterns in table.spellings.items():
        wanted = side_of(organ)
        for pattern in patterns:
            stated = table.side(pattern)
            # A pattern may leave the side to the name that it fits.
            is_open = not stated and any(character in pattern for character in "*?[")
            if wanted and stated != wanted and not is_open:
                said = {"": "no side", "L": "the left", "R": "the right", "LR": "both sides"}[stated]
                raise SetupError(
                    f"{where}: {organ} lists {pattern!r}, which states {said}.",
                    f"Take it out; if it does say so in another language, add the word to [{_SIDES}].",
                )


def _english_sides(name: str) -> set[str]:
    """Give the sides that TG-263's reader finds, all of them."""
    sides: set[str] = set()
    while place := place_of_side(name):
        sides.add(side_of(name))
        name = name[: place.start] + " " + name[place.stop :]
    return sides


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _key(name: str) -> str:
    """Give what must be equal for two names to be one: letters without case, side and separators.

    ``~`` (a part of an organ) and ``^`` stay, so that a part is never taken for the whole.
    """
    while place := place_of_side(name):
        name = name[: place.start] + " " + name[place.stop :]
    return _SEPARATORS.sub("", name).casefold()
