"""Strict reading of TOML tables: every key known, every value of the type asked for, every fault named."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from node.domain.errors import SetupError

MEND_MANIFEST = "Mend the model package's manifest."


class Table:
    """One TOML table whose keys are all known and all of the type asked for."""

    def __init__(
        self, raw: Mapping[str, Any], where: str, known: Sequence[str] | None, remedy: str = MEND_MANIFEST
    ) -> None:
        self._raw = raw
        self._where = where
        self._remedy = remedy
        if known is not None:
            self.allow_only(known)

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def wrong(self, key: str, what: str) -> SetupError:
        return SetupError(f"{self._where}: {key} {what}.", self._remedy)

    def allow_only(self, known: Sequence[str]) -> None:
        for key in self._raw:
            if key not in known:
                raise self.wrong(key, f"is unknown{did_you_mean(key, known)}")

    def take(self, key: str, kind: type) -> Any:
        if key not in self._raw:
            raise self.wrong(key, "is missing")
        value = self._raw[key]
        if not isinstance(value, kind):
            raise self.wrong(key, f"must be of type {kind.__name__}, not {type(value).__name__}")
        return value

    def text(self, key: str, may_be_empty: bool = False) -> str:
        value = str(self.take(key, str)).strip()
        if not value and not may_be_empty:
            raise self.wrong(key, "is empty")
        return value

    def match(self, key: str, pattern: re.Pattern[str], allowed: str) -> str:
        value = self.text(key)
        if not pattern.fullmatch(value):
            raise self.wrong(key, f"is {value!r}; allowed: {allowed}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list)
        if not all(isinstance(value, str) and value for value in values):
            raise self.wrong(key, "must be a list of texts")
        return tuple(values)

    def number(self, key: str) -> float:
        value = self.take(key, object)
        if not is_number(value):
            raise self.wrong(key, "must be a number")
        return float(value)

    def positive(self, key: str) -> float:
        value = self.number(key)
        if value <= 0:
            raise self.wrong(key, "must be above 0")
        return value

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        values = self.take(key, list)
        if len(values) != count or not all(is_number(value) for value in values):
            raise self.wrong(key, f"must be {count} numbers")
        return tuple(float(value) for value in values)

    def boolean(self, key: str) -> bool:
        return bool(self.take(key, bool))

    def integer(self, key: str) -> int:
        value = self.take(key, int)
        if isinstance(value, bool):
            raise self.wrong(key, "must be a whole number")
        return int(value)

    def integers(self, key: str) -> tuple[int, ...]:
        values = self.take(key, list)
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            raise self.wrong(key, "must be whole numbers")
        return tuple(values)

    def table(self, key: str, known: Sequence[str]) -> "Table":
        return Table(self.take(key, dict), f"{self._where} [{key}]", known, self._remedy)

    def filled_up(self, common: "Table", tables: Sequence[str]) -> "Table":
        """Give this table with what some tables in it leave out, and the tables of the same name in ``common`` say."""
        filled = {
            key: {**(common.take(key, dict) if key in common else {}), **(self.take(key, dict) if key in self else {})}
            for key in tables
            if key in self or key in common
        }
        return Table({**self._raw, **filled}, self._where, None, self._remedy)

    def tables(self, key: str, known: Sequence[str] | None) -> tuple["Table", ...]:
        if key not in self._raw:
            return ()
        values = self.take(key, list)
        if not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, f"must be tables, [[{key}]]")
        place = f"{self._where} [[{key}]]"
        return tuple(Table(value, f"{place} {n}", known, self._remedy) for n, value in enumerate(values, 1))


def keys(kind: type, without: str = "") -> tuple[str, ...]:
    """Name the fields of a dataclass, which are the keys of its table."""
    return tuple(field.name for field in fields(kind) if field.name != without)


def did_you_mean(key: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """Ask for the nearest known key; empty where none is near."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; is {near[0]!r} meant?" if near else ""


def is_number(value: object) -> bool:
    """Tell a number from a truth value, which Python counts as one."""
    return isinstance(value, int | float) and not isinstance(value, bool)
