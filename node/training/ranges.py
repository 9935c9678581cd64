"""What the training cases tell of each organ's size and brightness: the limits within which a contour is believed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.inference.package import Gate
from node.training.plan import CT
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
# Of an organ of which the largest piece is less than this, as of both kidneys, other pieces are no crumbs.
_IN_ONE_PIECE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganRange:
    """An organ over the training cases in which it was contoured."""

    organ: str
    cases: int
    # Cases in which it reaches the first or last slice.
    cut: int
    # Smallest, median, largest.
    volume_cm3: tuple[float, float, float]
    # Lowest and highest mean scanner value, and its standard deviation between cases. None where values have no unit:
    # those of another scanner, or sequence, may be any.
    mean_value: tuple[float, float] | None
    deviation: float
    # Standard deviation of the voxels within a case, median of the cases.
    spread: float
    # Share of its largest piece (neighbours share a face), median of the cases.
    largest_piece: float


def ranges_of(cases: Sequence[Prepared], organs: Sequence[str], channel: str) -> tuple[OrganRange, ...]:
    """Measure every organ; one that is contoured nowhere is left out. ``channel`` is the first one's name."""
    found = (_range(organ, value, cases) for value, organ in enumerate(organs, start=1))
    known = (each for each in found if each is not None)
    return tuple(each if channel == CT else replace(each, mean_value=None) for each in known)


def in_one_piece(ranges: Iterable[OrganRange]) -> tuple[str, ...]:
    """Name the organs of which only the largest piece is to be believed."""
    return tuple(each.organ for each in ranges if each.largest_piece >= _IN_ONE_PIECE)


def told_cm3(volume: float) -> str:
    """Write a volume so that a tiny organ's is not 0."""
    return f"{volume:.1f}" if volume >= 1 else f"{volume:.2g}"


def gates_of(ranges: Iterable[OrganRange]) -> tuple[Gate, ...]:
    """Give the limits within which a package believes a structure."""
    gates = []
    for each in ranges:
        if each.cases < _LEAST:
            continue
        is_cut = each.cut >= _CUT * each.cases
        if is_cut and each.mean_value is None:
            continue
        low, _, high = each.volume_cm3
        told = [] if is_cut else [f"{told_cm3(low)} to {told_cm3(high)} cm3"]
        between = None
        if each.mean_value is not None:
            margin = max(_FARTHER * each.deviation, each.spread)
            between = (round(each.mean_value[0] - margin), round(each.mean_value[1] + margin))
            told.append(f"a mean of {each.mean_value[0]:.0f} to {each.mean_value[1]:.0f}")
        gates.append(
            Gate(
                structure=each.organ,
                at_least_cm3=None if is_cut else _rounded(_SMALLER * low),
                at_most_cm3=None if is_cut else _rounded(_LARGER * high),
                mean_value_between=between,
                because=f"In {each.cases} training cases it had {' and '.join(told)}.",
            )
        )
    return tuple(gates)


def _rounded(volume_cm3: float) -> float:
    # By its figures, not by its decimals: of a few voxels nothing would be left.
    return float(f"{volume_cm3:.3g}")


def _range(organ: str, value: int, cases: Sequence[Prepared]) -> OrganRange | None:
    volumes, means, spreads, pieces, cut = [], [], [], [], 0
    for prepared in cases:
        mask = np.asarray(prepared.labels) == value
        if organ not in prepared.case.contoured or not mask.any():
            continue
        volumes.append(float(mask.sum() * np.prod(prepared.spacing_mm) / 1000))
        inside = np.asarray(prepared.image[0])[mask]
        means.append(float(inside.mean()))
        spreads.append(float(inside.std()))
        pieces.append(_largest_piece(mask))
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
        largest_piece=float(np.median(pieces)),
    )


def _largest_piece(mask: NDArray[np.bool_]) -> float:
    """Give the share of the largest piece of a mask that is not empty."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    pieces, _ = ndimage.label(mask[box])
    sizes = np.bincount(pieces.ravel())[1:]
    return float(sizes.max() / sizes.sum())
