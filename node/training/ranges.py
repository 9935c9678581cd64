"""What the training cases tell of each organ's size and brightness: the limits within which a contour is believed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from node.inference.package import Gate
from node.training.prepared import Prepared

# A structure smaller than this part of the smallest contoured one, or so many times larger than the largest, is none.
_SMALLER, _LARGER = 0.5, 1.6
# Means may lie so many of the cases' deviations beyond their lowest and highest, or as far as the organ's own voxels
# deviate: an outline that is a little off takes some of what lies beside it.
_FARTHER = 2.0
# Where this part of the cases or more has the organ at an end of the scan, its size is the scan's.
_CUT = 0.1
# Fewer cases tell nothing.
_LEAST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganRange:
    """An organ over the training cases in which it was contoured."""

    organ: str
    cases: int
    # Cases in which it reaches the first or last slice.
    cut: int
    # Smallest, median, largest.
    volume_cm3: tuple[float, float, float]
    # Lowest and highest mean scanner value, and its standard deviation between cases.
    mean_value: tuple[float, float]
    deviation: float
    # Standard deviation of the voxels within a case, median of the cases.
    spread: float


def ranges_of(cases: Sequence[Prepared], organs: Sequence[str]) -> tuple[OrganRange, ...]:
    """Measure every organ; one that is contoured nowhere is left out."""
    found = (_range(organ, value, cases) for value, organ in enumerate(organs, start=1))
    return tuple(each for each in found if each is not None)


def gates_of(ranges: Iterable[OrganRange]) -> tuple[Gate, ...]:
    """Give the limits within which a package believes a structure."""
    gates = []
    for each in ranges:
        if each.cases < _LEAST:
            continue
        is_cut = each.cut >= _CUT * each.cases
        low, _, high = each.volume_cm3
        margin = max(_FARTHER * each.deviation, each.spread)
        sizes = "" if is_cut else f"{low:.1f} to {high:.1f} cm3 and "
        gates.append(
            Gate(
                structure=each.organ,
                at_least_cm3=None if is_cut else round(_SMALLER * low, 2),
                at_most_cm3=None if is_cut else round(_LARGER * high, 1),
                mean_value_between=(round(each.mean_value[0] - margin), round(each.mean_value[1] + margin)),
                because=f"In {each.cases} training cases it had {sizes}a mean of {each.mean_value[0]:.0f} to "
                f"{each.mean_value[1]:.0f}.",
            )
        )
    return tuple(gates)


def _range(organ: str, value: int, cases: Sequence[Prepared]) -> OrganRange | None:
    volumes, means, spreads, cut = [], [], [], 0
    for prepared in cases:
        mask = np.asarray(prepared.labels) == value
        if organ not in prepared.case.contoured or not mask.any():
            continue
        volumes.append(float(mask.sum() * np.prod(prepared.spacing_mm) / 1000))
        inside = np.asarray(prepared.image[0])[mask]
        means.append(float(inside.mean()))
        spreads.append(float(inside.std()))
        cut += bool(mask[0].any() or mask[-1].any())
    if not volumes:
        return None
    return OrganRange(
        organ=organ,
        cases=len(volumes),
        cut=cut,
        volume_cm3=(min(volumes), float(np.median(volumes)), max(volumes)),
        mean_value=(min(means), max(means)),
        deviation=float(np.std(means)),
        spread=float(np.median(spreads)),
    )
