"""Which models contour a series, and where the results go: a pure decision with its reasons."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

OutputKind = Literal["rtstruct", "seg"]

# How a Segmentation holds its segments (PS3.3 C.8.20.2, Segmentation Type (0062,0001)).
SegmentationEncoding = Literal["binary", "labelmap", "fractional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One ``[[routes]]`` entry of the configuration.

    ``when`` maps a DICOM keyword (or CallingAETitle, CalledAETitle) to patterns, any of which must match the whole
    value: ``*`` and ``?`` as in file names, case ignored. All keywords must match. ``unless`` likewise excludes.
    """

    name: str
    when: Mapping[str, tuple[str, ...]]
    unless: Mapping[str, tuple[str, ...]]
    models: tuple[str, ...]
    outputs: tuple[OutputKind, ...]
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCheck:
    """Whether one route takes a series; ``reasons`` names every condition that failed (empty: it matches)."""

    route: Route
    reasons: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Tell whether every condition held."""
        return not self.reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The first matching route, with the check of every route."""

    route: Route
    checks: tuple[RouteCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """No route takes the series, and why each does not."""

    reason: str
    checks: tuple[RouteCheck, ...]


def decide(routes: Sequence[Route], attributes: Mapping[str, str]) -> Accepted | Declined:
    """Choose the first route, in their order, whose conditions all hold.

    Parameters
    ----------
    attributes
        DICOM keyword (or CallingAETitle, CalledAETitle) to its value as text; an absent or empty one matches nothing.
    """
    checks = tuple(check(route, attributes) for route in routes)
    for one in checks:
        if one.matches:
            return Accepted(route=one.route, checks=checks)
    return Declined(reason=_why_declined(checks), checks=checks)


def check(route: Route, attributes: Mapping[str, str]) -> RouteCheck:
    """Test every condition of one route, and name each that fails."""
    wanted = (_why_not_wanted(keyword, patterns, attributes) for keyword, patterns in route.when.items())
    excluded = (_why_excluded(keyword, patterns, attributes) for keyword, patterns in route.unless.items())
    return RouteCheck(route=route, reasons=tuple(reason for reason in (*wanted, *excluded) if reason))


def _why_declined(checks: Sequence[RouteCheck]) -> str:
    if not checks:
        return "No route is configured."
    each = "; ".join(f"route '{one.route.name}': {', '.join(one.reasons)}" for one in checks)
    return f"No route takes the series: {each}."


def _why_not_wanted(keyword: str, patterns: Sequence[str], attributes: Mapping[str, str]) -> str:
    value = attributes.get(keyword, "")
    choice = " or ".join(f"'{pattern}'" for pattern in patterns)
    if not value:
        return f"{keyword} is absent, the route wants {choice}"
    if any(matches(pattern, value) for pattern in patterns):
        return ""
    return f"{keyword} is '{value}', the route wants {choice}"


def _why_excluded(keyword: str, patterns: Sequence[str], attributes: Mapping[str, str]) -> str:
    value = attributes.get(keyword, "")
    for pattern in patterns:
        if value and matches(pattern, value):
            return f"{keyword} is '{value}', the route excludes '{pattern}'"
    return ""


def matches(pattern: str, value: str) -> bool:
    """Tell whether a pattern with ``*`` and ``?`` matches the whole value, case ignored."""
    # Not fnmatch: its [] would surprise in a protocol name such as 'Head [5mm]'.
    return _expression(pattern).fullmatch(value) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    expression = "".join(parts.get(character) or re.escape(character) for character in pattern)
    return re.compile(expression, re.IGNORECASE | re.DOTALL)
