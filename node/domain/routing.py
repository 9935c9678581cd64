"""Which models contour a series, and where the results go: a pure decision with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OutputKind = Literal["rtstruct", "seg"]


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
