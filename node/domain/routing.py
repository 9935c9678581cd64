"""Which models contour a series, and where the results go: a pure decision with its reasons."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from node.domain.errors import SetupError

OutputKind = Literal["rtstruct", "seg"]

# How a Segmentation holds its segments (PS3.3 C.8.20.2, Segmentation Type (0062,0001)).
SegmentationEncoding = Literal["binary", "labelmap", "fractional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChannel:
    """What tells the image of one channel: one ``[[routes.channels]]`` entry, with conditions as a route has them."""

    # As the model calls it.
    name: str
    when: Mapping[str, tuple[str, ...]]
    unless: Mapping[str, tuple[str, ...]]


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
    # Destinations hear also where no contours were made, and why.
    negative_results: bool = False
    # Of models that take several images of one place, in their order; none for those that take one.
    channels: tuple[RouteChannel, ...] = ()
    # Jobs of a STAT route go before those of all others.
    priority: Literal["routine", "stat"] = "routine"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCheck:
    """Whether one route takes a series; ``reasons`` names every condition that failed (empty: it matches)."""

    route: Route
    reasons: tuple[str, ...]
    # Of a route with channels: those whose conditions hold; more than one is a fault of the rules.
    channels: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        """Tell whether every condition held."""
        return not self.reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The first matching route, with the check of every route."""

    route: Route
    # Which of the route's channels the series is; empty of a route without.
    channel: str = ""
    checks: tuple[RouteCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """No route takes the series, and why each does not; or the first that does takes it for several channels."""

    reason: str
    checks: tuple[RouteCheck, ...]

    @property
    def ambiguous(self) -> bool:
        """Tell whether a route would take it, but does not know for which channel."""
        return any(len(one.channels) > 1 for one in self.checks)


def decide(routes: Sequence[Route], attributes: Mapping[str, str]) -> Accepted | Declined:
    """Choose the first route, in their order, whose conditions all hold.

    Parameters
    ----------
    attributes
        DICOM keyword (or CallingAETitle, CalledAETitle) to its value as text; an absent or empty one matches nothing.
    """
    checks = tuple(check(route, attributes) for route in routes)
    for one in checks:
        if len(one.channels) > 1:
            return Declined(reason=_ambiguous(one), checks=checks)
        if one.matches:
            return Accepted(route=one.route, channel="".join(one.channels), checks=checks)
    return Declined(reason=_why_declined(checks), checks=checks)


def would_take(routes: Sequence[Route], attributes: Mapping[str, str]) -> Route | None:
    """Give the first route whose conditions hold, be it for several channels at once; None where there is none."""
    return next((one.route for one in (check(route, attributes) for route in routes) if one.matches), None)


def check(route: Route, attributes: Mapping[str, str]) -> RouteCheck:
    """Test every condition of one route and of its channels, and name each that fails."""
    reasons = _failing(route, attributes)
    if reasons or not route.channels:
        return RouteCheck(route=route, reasons=reasons)
    failing = {channel.name: _failing(channel, attributes) for channel in route.channels}
    fitting = tuple(name for name, each in failing.items() if not each)
    why_none = tuple(f"not {name}: {', '.join(each)}" for name, each in failing.items())
    return RouteCheck(route=route, reasons=() if fitting else why_none, channels=fitting)


def refuse_other_channels(route: Route, model: str, wanted: Sequence[str]) -> None:
    """Refuse a model whose images the route does not tell, or tells in another order.

    Parameters
    ----------
    wanted
        What the model calls its images, in its order; one for a model that takes one.

    Raises
    ------
    SetupError
        With what to write.
    """
    told = tuple(channel.name for channel in route.channels)
    if told == tuple(wanted) or (not told and len(wanted) == 1):
        return
    if len(wanted) == 1:
        raise SetupError(
            f"The model {model} takes one image; route {route.name!r} has {len(told)} channels.",
            f"Give {model} a route of its own, without channels.",
        )
    says = f"its channels are {', '.join(told)}" if told else "it has no channels"
    entries = " and ".join(f'name = "{name}"' for name in wanted)
    raise SetupError(
        f"The model {model} takes {len(wanted)} images of one place ({', '.join(wanted)}); route {route.name!r} does "
        f"not say which series is which: {says}.",
        f"Write {len(wanted)} [[routes.channels]] under the route, in this order: {entries}, each with what tells its "
        'series, such as when = { SeriesDescription = "*t1*" }.',
    )


def _failing(rules: Route | RouteChannel, attributes: Mapping[str, str]) -> tuple[str, ...]:
    who = "the route" if isinstance(rules, Route) else "the channel"
    wanted = (_why_not_wanted(keyword, patterns, attributes, who) for keyword, patterns in rules.when.items())
    excluded = (_why_excluded(keyword, patterns, attributes, who) for keyword, patterns in rules.unless.items())
    return tuple(reason for reason in (*wanted, *excluded) if reason)


def _ambiguous(one: RouteCheck) -> str:
    names = " and as ".join(one.channels)
    return f"Route {one.route.name!r} would take the series as {names}: its rules must tell them apart ('unless')."


def _why_declined(checks: Sequence[RouteCheck]) -> str:
    if not checks:
        return "No route is configured."
    each = "; ".join(f"route '{one.route.name}': {', '.join(one.reasons)}" for one in checks)
    return f"No route takes the series: {each}."


def _why_not_wanted(keyword: str, patterns: Sequence[str], attributes: Mapping[str, str], who: str) -> str:
    value = attributes.get(keyword, "")
    choice = " or ".join(f"'{pattern}'" for pattern in patterns)
    if not value:
        return f"{keyword} is absent, {who} wants {choice}"
    if any(matches(pattern, value) for pattern in patterns):
        return ""
    return f"{keyword} is '{value}', {who} wants {choice}"


def _why_excluded(keyword: str, patterns: Sequence[str], attributes: Mapping[str, str], who: str) -> str:
    value = attributes.get(keyword, "")
    for pattern in patterns:
        if value and matches(pattern, value):
            return f"{keyword} is '{value}', {who} excludes '{pattern}'"
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
