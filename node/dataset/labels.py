"""A label map of organs that may lie in each other: of two at one voxel the later one has it, and it is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MOST_ORGANS = 255
# An organ of which others take more is no example of itself.
HIDDEN_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Of one organ, the voxels that another one has."""

    organ: str
    taken_by: str
    voxels: int


@dataclass(slots=True, kw_only=True)
class LabelPainter:
    """Paints one organ after the other, in the order of their label values 1, 2, ..."""

    organs: Sequence[str]
    # ``[slice, row, column]``.
    labels: NDArray[np.uint8]
    # As drawn, before others took some of it.
    voxels: dict[str, int] = field(default_factory=dict)
    overlaps: list[Overlap] = field(default_factory=list)

    def paint(self, organ: str, mask: NDArray[np.bool_]) -> None:
        """Put an organ over those that are there."""
        value = self.organs.index(organ) + 1
        under = np.bincount(self.labels[mask], minlength=value)
        self.voxels[organ] = int(under.sum())
        self.overlaps += [
            Overlap(organ=self.organs[below - 1], taken_by=organ, voxels=int(under[below]))
            for below in range(1, value)
            if under[below]
        ]
        self.labels[mask] = value

    def hidden(self) -> Mapping[str, str]:
        """Name organs that are mostly hidden, and say why: the map is to be painted again without them."""
        left = np.bincount(self.labels.ravel(), minlength=len(self.organs) + 1)
        found = {}
        for organ, drawn in self.voxels.items():
            taken = drawn - int(left[self.organs.index(organ) + 1])
            if taken > HIDDEN_SHARE * drawn:
                by = ", ".join(dict.fromkeys(one.taken_by for one in self.overlaps if one.organ == organ))
                found[organ] = f"{taken / drawn:.0%} of it lies in {by}, which --organ names later"
        return found
