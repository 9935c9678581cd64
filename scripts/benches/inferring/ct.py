"""A CT that is made up: a body in air with soft tissue, bone and lungs whose edges are smooth."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inferring.cases import Scan

# Voxels between the points that noise is drawn at.
_COARSE = 6


def draw(scan: Scan) -> NDArray[np.float32]:
    """Draw whole Hounsfield units, ``[slice, row, column]``, with detail of 5 to 20 voxels and a little noise."""
    coarse = [-(-size // _COARSE) + 1 for size in scan.shape]
    rng = np.random.default_rng(20261121)
    fine, large = (ndimage.gaussian_filter(rng.standard_normal(coarse), sigma) for sigma in (0.7, 2.5))
    tissue = 40 + 60 * fine / fine.std() + 250 * np.clip(large / large.std(), -3, 3)
    zooms = [size / points for size, points in zip(scan.shape, coarse, strict=True)]
    values = np.empty(scan.shape, dtype=np.float32)
    ndimage.zoom(tissue.astype(np.float32), zooms, output=values, order=1, mode="nearest", grid_mode=True)
    _, rows, columns = (np.linspace(-1, 1, size) for size in scan.shape)
    outside = (rows[:, None] / 0.75) ** 2 + (columns / 0.9) ** 2 > 1
    values[:, outside] = -1000
    for index in range(len(values)):
        values[index] += rng.standard_normal(values.shape[1:], dtype=np.float32) * 10
    return np.rint(values, out=values)


def write(scan: Scan, folder: Path) -> Path:
    """Write a scan as ``[slice, row, column]`` float32, where it is not yet, and give its file."""
    file = folder / f"{'x'.join(str(size) for size in scan.shape)}.npy"
    if not file.exists():
        np.save(file, draw(scan))
    return file
