"""What may stand in a training set: nothing that says whose it is.

Names of regions and reasons are texts that people and programs wrote: a name, a number or a date may be in them.
"""

import re
from collections.abc import Collection, Iterable

WITHHELD = "(withheld: it may say whose it is)"

_UID = re.compile(r"\d+(\.\d+){2,}")
# A date in any order, or so many digits that they may be one or a patient's number: no dose has five.
_REVEALING = re.compile(r"\d{5,}|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_PATH = re.compile(r"(?<!\S)/\S+")
_LETTERS = re.compile(r"[^\W_]+")
# A shorter part of a name is in too many words, and must stand alone to count.
_TELLING = 4
_SHORTEST = 2


class Privacy:
    """Judges texts by what is known of those whom an archive is of."""

    def __init__(self, identities: Iterable[str], harmless: Collection[str]) -> None:
        """Know identities (names, identifiers, dates, in whatever form) and names of structures that everybody uses."""
        parts = {part for each in identities for part in _words(each)}
        self._telling = {each for each in parts if len(each) >= _TELLING}
        self._short = {each for each in parts if _SHORTEST <= len(each) < _TELLING}
        self._harmless = {each.casefold() for each in harmless}

    def may_tell(self, name: str) -> bool:
        """Tell whether the name of a region might say whose it is."""
        if name.casefold() in self._harmless:
            return False
        told, words = name.casefold(), _words(name)
        return bool(_REVEALING.search(name) or self._short & words or any(each in told for each in self._telling))

    def reason(self, text: str) -> str:
        """Give a reason without the UIDs and paths in it."""
        return _PATH.sub("(path)", _UID.sub("(UID)", text))


def _words(text: str) -> set[str]:
    return set(_LETTERS.findall(text.casefold()))
