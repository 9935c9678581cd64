"""Measure results against references, one case after the other, and sum up over patients.

What training calls, too: give label maps as `pair_of_label_maps`, no file is needed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.tg263 import place_of_side
from node.evaluation.metrics import TOLERANCE_MM, Measures, compare, dice

Mask = NDArray[np.bool_]
# Gives a mask on the grid of its pair when it is asked for: one organ is in memory at a time. Raises InputError.
Masked = Callable[[], Mask]
# Told what is done, how much of it, and of how much.
Progress = Callable[[str, int, int], None]

Verdict = Literal["compared", "missing", "extra", "left out"]

# Where the own side agrees better than this, nobody looks at the other.
_SURE_OF_SIDE = 0.5


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A reference and a result of one case, organ by organ on one grid."""

    case: str
    # Tells patients apart, and need say nothing else of them.
    patient: str
    grid: Grid
    reference: Mapping[str, Masked]
    result: Mapping[str, Masked]
    # Organs of one of the two that must not be compared -> why.
    left_out: Mapping[str, str] = field(default_factory=dict)
    # How the grid came about, and what else a reader must know.
    notes: tuple[str, ...] = ()
    # An empty mask of these in the reference says that the organ is not there; of others, that nobody contoured it.
    surely_contoured: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganResult:
    """What became of one organ of one case."""

    organ: str
    verdict: Verdict
    measures: Measures | None = None
    # Why it is missing, extra or left out, or what to know of it.
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give JSON values."""
        measures = self.measures.as_json() if self.measures is not None else None
        return {"organ": self.organ, "verdict": self.verdict, "reason": self.reason, "measures": measures}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of one case."""

    case: str
    patient: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    organs: tuple[OrganResult, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Give JSON values."""
        return {
            "case": self.case,
            "patient": self.patient,
            "shape": list(self.shape),
            "spacing_mm": [round(each, 6) for each in self.spacing_mm],
            "organs": [each.as_json() for each in self.organs],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """Of surface Dice and added path length."""

    usual_mm: float = TOLERANCE_MM
    # Organ -> its own.
    of_organs_mm: Mapping[str, float] = field(default_factory=dict)

    def of(self, organ: str) -> float:
        """Give the tolerance of an organ."""
        return self.of_organs_mm.get(organ, self.usual_mm)


USUAL = Tolerances()


def no_progress(_doing: str, _done: int, _of: int) -> None:
    """Show nothing."""


def pair_of_label_maps(
    case: str,
    *,
    patient: str,
    grid: Grid,
    reference: NDArray[Any],
    result: NDArray[Any],
    organs: Sequence[str],
    contoured: Collection[str] | None = None,
) -> Pair:
    """Make a pair of two label maps, ``[slice, row, column]``, in which organs have the values 1, 2, ...

    Parameters
    ----------
    contoured
        Organs that the reference was contoured for; others are no reference, whatever the label map says. None: those
        with a voxel.
    """
    wanted = organs if contoured is None else [organ for organ in organs if organ in contoured]
    values = {organ: value for value, organ in enumerate(organs, start=1)}
    return Pair(
        case=case,
        patient=patient,
        grid=grid,
        reference={organ: partial(np.equal, reference, values[organ]) for organ in wanted},
        result={organ: partial(np.equal, result, values[organ]) for organ in organs},
        left_out={organ: "not contoured in the reference" for organ in organs if organ not in wanted},
        surely_contoured=frozenset(contoured or ()),
    )


def compared(pair: Pair, tolerances: Tolerances = USUAL, progress: Progress = no_progress) -> CaseResult:
    """Measure every organ of a case that the reference has."""
    every = list(dict.fromkeys([*pair.reference, *pair.result, *pair.left_out]))
    results = []
    warnings: list[str] = []
    for number, organ in enumerate(every):
        progress(f"{pair.case}: {organ}", number, len(every))
        found = _organ(pair, organ, tolerances.of(organ))
        results.append(found)
        warnings += _wrong_side(pair, found)
    return CaseResult(
        case=pair.case,
        patient=pair.patient,
        shape=pair.grid.shape,
        spacing_mm=pair.grid.spacing_mm,
        # An organ that neither has is nothing to tell.
        organs=tuple(each for each in results if each.verdict != "left out" or each.reason),
        notes=pair.notes,
        warnings=tuple(warnings),
    )


def all_compared(
    pairs: Iterable[Pair], tolerances: Tolerances = USUAL, progress: Progress = no_progress
) -> Iterator[CaseResult]:
    """Measure one pair after the other."""
    for pair in pairs:
        yield compared(pair, tolerances, progress)


def _organ(pair: Pair, organ: str, tolerance_mm: float) -> OrganResult:
    if organ in pair.left_out:
        return OrganResult(organ=organ, verdict="left out", reason=pair.left_out[organ])
    try:
        reference = _mask(pair.reference, organ, "reference")
        result = _mask(pair.result, organ, "result")
    except InputError as error:
        return OrganResult(organ=organ, verdict="left out", reason=error.reason)
    has_result = result is not None and bool(result.any())
    if reference is None or (organ not in pair.surely_contoured and not reference.any()):
        if has_result:
            return OrganResult(organ=organ, verdict="extra", reason="the result has it, the reference has not")
        return OrganResult(organ=organ, verdict="left out")
    if result is None:
        result = np.zeros(reference.shape, dtype=np.bool_)
    measures = compare(reference, result, pair.grid, tolerance_mm)
    if measures.reference_cm3 and not has_result:
        return OrganResult(organ=organ, verdict="missing", measures=measures, reason="the result has none of it")
    return OrganResult(organ=organ, verdict="compared", measures=measures, reason=measures.reason)


def _mask(masks: Mapping[str, Masked], organ: str, whose: str) -> Mask | None:
    if organ not in masks:
        return None
    try:
        return masks[organ]()
    except InputError as error:
        raise InputError(f"in the {whose} {error.reason}", error.remedy) from error


def _wrong_side(pair: Pair, found: OrganResult) -> list[str]:
    """Warn where the result agrees better with the reference's organ of the other side."""
    other = other_side(found.organ)
    own = found.measures.dice if found.measures is not None else None
    if (
        other is None
        or own is None
        or own > _SURE_OF_SIDE
        or found.verdict != "compared"
        or other not in pair.reference
    ):
        return []
    try:
        swapped = dice(pair.reference[other](), pair.result[found.organ]())
    except InputError:
        return []
    if swapped is None or swapped <= own:
        return []
    return [
        f"{found.organ} of the result agrees better with {other} of the reference (Dice {swapped:.2f}) than with"
        f" {found.organ} ({own:.2f}): are left and right swapped?"
    ]


def other_side(organ: str) -> str | None:
    """Give the name of an organ's counterpart; None where the name states no side as TG-263 does."""
    place = place_of_side(organ)
    if place is None or organ[place] not in ("L", "R"):
        return None
    return organ[: place.start] + ("R" if organ[place] == "L" else "L") + organ[place.stop :]
