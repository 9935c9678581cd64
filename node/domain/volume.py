"""Voxel values on a grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Grid


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Scanner values after Rescale Slope and Intercept (HU for CT), ``[slice, row, column]``, float32."""

    voxels: NDArray[np.float32]
    grid: Grid

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise ValueError(f"voxels {self.voxels.shape} do not fit the grid {self.grid.shape}")


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """One label value per voxel, 0 is background, ``[slice, row, column]``, uint8 or uint16, on the source grid."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    grid: Grid

    def __post_init__(self) -> None:
        if self.labels.shape != self.grid.shape:
            raise ValueError(f"labels {self.labels.shape} do not fit the grid {self.grid.shape}")
