"""The account of an evaluation: every organ over patients, every case, and what could not be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from node import __version__
from node.evaluation import intervals
from node.evaluation.intervals import Bootstrap, Estimate
from node.evaluation.pairs import USUAL, CaseResult, OrganResult, Pair, Progress, Tolerances, all_compared, no_progress

SCHEMA_VERSION = 1

# Of `Measures`, what is summed up over patients.
MEASURES = (
    "dice",
    "surface_dice",
    "hd95_mm",
    "mean_surface_distance_mm",
    "added_path_mm",
    "added_path_share",
    "volume_difference_cm3",
    "volume_difference_percent",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """A reference or a result that has no counterpart, or cannot be used, and why."""

    what: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganSummary:
    """One organ over all patients whose reference has it."""

    organ: str
    tolerance_mm: float
    # Patients whose reference has it.
    patients: int
    # Cases whose result lacks it; these count with Dice 0, and have no distances.
    missing: int
    # Cases whose result has it and whose reference has not; these count for nothing.
    extra: int
    # By the names of `MEASURES`; None where nobody has it.
    measures: Mapping[str, Estimate | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came out."""

    cases: tuple[CaseResult, ...]
    organs: tuple[OrganSummary, ...]
    # Over organs, each with the same weight: measure -> mean and its interval.
    over_organs: Mapping[str, tuple[float, tuple[float, float] | None]]
    unmatched: tuple[Unmatched, ...] = ()

    @property
    def patients(self) -> int:
        """Count the patients."""
        return len({case.patient for case in self.cases})

    def as_json(self) -> dict[str, Any]:
        """Give JSON values; what is not defined is null."""
        return {
            "schema_version": SCHEMA_VERSION,
            "made_by": f"Delineate {__version__}",
            "bootstrap": {
                "over": "patients",
                "resamples": intervals.RESAMPLES,
                "seed": intervals.SEED,
                "level": intervals.LEVEL,
            },
            "patients": self.patients,
            "organs": [_summary_json(each) for each in self.organs],
            "over_organs": {
                name: {"mean": mean, "mean_interval": interval} for name, (mean, interval) in self.over_organs.items()
            },
            "cases": [each.as_json() for each in self.cases],
            "unmatched": [asdict(each) for each in self.unmatched],
        }


def evaluate(
    pairs: Iterable[Pair],
    tolerances: Tolerances = USUAL,
    progress: Progress = no_progress,
    unmatched: Sequence[Unmatched] = (),
) -> Report:
    """Measure every pair and sum up over patients."""
    return summed_up(tuple(all_compared(pairs, tolerances, progress)), tolerances, unmatched)


def summed_up(
    cases: Sequence[CaseResult], tolerances: Tolerances = USUAL, unmatched: Sequence[Unmatched] = ()
) -> Report:
    """Sum up cases that were measured; of several cases of one patient the mean counts once."""
    bootstrap = Bootstrap(sorted({case.patient for case in cases}))
    organs = tuple(dict.fromkeys(found.organ for case in cases for found in case.organs if found.measures is not None))
    extra = [found.organ for case in cases for found in case.organs if found.verdict == "extra"]
    values = {organ: {name: by_patient(cases, organ, name) for name in MEASURES} for organ in organs}
    summaries = tuple(
        OrganSummary(
            organ=organ,
            tolerance_mm=tolerances.of(organ),
            patients=len({case.patient for case in cases for found in case.organs if _counts(found, organ)}),
            missing=sum(found.verdict == "missing" for case in cases for found in case.organs if found.organ == organ),
            extra=extra.count(organ),
            measures={name: bootstrap.estimate(values[organ][name]) for name in MEASURES},
        )
        for organ in organs
    )
    over_organs = {name: bootstrap.mean_of([values[organ][name] for organ in organs]) for name in MEASURES}
    return Report(
        cases=tuple(cases),
        organs=summaries,
        over_organs={name: found for name, found in over_organs.items() if found is not None},
        unmatched=tuple(unmatched),
    )


def _counts(found: OrganResult, organ: str) -> bool:
    return found.organ == organ and found.measures is not None


def by_patient(cases: Sequence[CaseResult], organ: str, name: str) -> dict[str, float]:
    """Give a measure of an organ for every patient that has it; of several cases the mean."""
    found: dict[str, list[float]] = {}
    for case in cases:
        for each in case.organs:
            value = getattr(each.measures, name) if _counts(each, organ) else None
            if value is not None:
                found.setdefault(case.patient, []).append(value)
    return {patient: float(np.mean(values)) for patient, values in found.items()}


def _summary_json(summary: OrganSummary) -> dict[str, Any]:
    return {
        "organ": summary.organ,
        "tolerance_mm": summary.tolerance_mm,
        "patients": summary.patients,
        "missing": summary.missing,
        "extra": summary.extra,
        **{name: asdict(found) if found is not None else None for name, found in summary.measures.items()},
    }
