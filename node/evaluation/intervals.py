"""How sure a mean over patients is: percentile bootstrap over patients (Efron 1979), always with the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 20240229
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of one measure over patients; intervals are (low, high), None where one patient alone tells nothing of others."""

    # Patients of whom it is defined.
    patients: int
    mean: float
    mean_interval: tuple[float, float] | None
    median: float
    median_interval: tuple[float, float] | None


class Bootstrap:
    """Draws patients with replacement, the same ones for every measure and organ."""

    def __init__(self, patients: Sequence[str]) -> None:
        self._patients = tuple(patients)
        count = len(self._patients)
        self._drawn = np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count)) if count else None

    def estimate(self, values: Mapping[str, float]) -> Estimate | None:
        """Estimate a measure that some of the patients have; None where nobody has."""
        if not values:
            return None
        own = self._of_all(values)
        interval = median_interval = None
        if len(values) > 1:
            drawn = self._drawn_of(own)
            interval, median_interval = _interval(_means(drawn)), _interval(_medians(drawn))
        return Estimate(
            patients=len(values),
            mean=float(np.nanmean(own)),
            mean_interval=interval,
            median=float(np.nanmedian(own)),
            median_interval=median_interval,
        )

    def mean_of(self, organs: Sequence[Mapping[str, float]]) -> tuple[float, tuple[float, float] | None] | None:
        """Estimate the mean over organs of the mean over patients, every organ with the same weight."""
        present = [self._of_all(values) for values in organs if values]
        if not present:
            return None
        mean = float(np.mean([np.nanmean(own) for own in present]))
        if len({patient for values in organs for patient in values}) < 2:
            return mean, None
        return mean, _interval(_means(np.stack([_means(self._drawn_of(own)) for own in present], axis=1)))

    def _of_all(self, values: Mapping[str, float]) -> Floats:
        return np.array([values.get(patient, np.nan) for patient in self._patients], dtype=np.float64)

    def _drawn_of(self, own: Floats) -> Floats:
        """Give a row of values for each resample; NaN where a patient has none. Inside only, never in a result."""
        return np.asarray(own[self._drawn], dtype=np.float64)


def _means(drawn: Floats) -> Floats:
    counts = np.count_nonzero(~np.isnan(drawn), axis=1)
    sums = np.nansum(drawn, axis=1)
    means: Floats = np.divide(sums, counts, out=np.full(len(drawn), np.nan), where=counts > 0)
    return means


def _medians(drawn: Floats) -> Floats:
    # A resample may hold nobody who has the measure.
    some = ~np.isnan(drawn).all(axis=1)
    medians = np.full(len(drawn), np.nan)
    medians[some] = np.nanmedian(drawn[some], axis=1)
    return medians


def _interval(estimates: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
