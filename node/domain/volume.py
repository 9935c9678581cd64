"""Voxel values on a grid."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Grid

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Scanner values after Rescale Slope and Intercept (HU for CT), ``[slice, row, column]``, float32."""

    voxels: NDArray[np.float32]
    grid: Grid

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise ValueError(f"voxels {self.voxels.shape} do not fit the grid {self.grid.shape}")

    def within(self, box: Box) -> "Volume":
        """Give a box of the volume, as `Grid.within`; it shares the voxels."""
        return Volume(voxels=self.voxels[box], grid=self.grid.within(*box))


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """One label value per voxel, 0 is background, ``[slice, row, column]``, uint8 or uint16, on the source grid."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    grid: Grid

    def __post_init__(self) -> None:
        if self.labels.shape != self.grid.shape:
            raise ValueError(f"labels {self.labels.shape} do not fit the grid {self.grid.shape}")


class Probabilities(Protocol):
    """How sure a model is of each voxel, for models that tell."""

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32] | None:
        """Give the probability that each voxel of a box of the source grid has one of the label values.

        Returns
        -------
        0 to 1, shape of the box, ``[slice, row, column]``. As the model says it: after post-processing the label map
        may disagree. None where the model knows no probability of one of the values, as post-processing made it: the
        label map is then all there is.
        """
        ...
