"""A body with two organs that a network learns in a minute, on any grid of patient millimetres."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Centre (x, y, z) and half axes in LPS millimetres, and HU. The lung lies on the patient's right, where x is negative.
BODY = ((0.0, 0.0, 0.0), (62.0, 50.0, 80.0), 40)
ORGANS = {
    "urinary_bladder": ((24.0, 8.0, -14.0), (15.0, 18.0, 16.0), 350),
    "lung_right": ((-26.0, -6.0, 12.0), (17.0, 20.0, 22.0), -500),
}
AIR_HU = -1000


def organs(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], z: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Give HU and labels (1 and 2, as `ORGANS` lists them) of points; the three arrays are broadcast."""
    values = np.where(_inside(BODY, x, y, z), BODY[2], AIR_HU)
    labels = np.zeros(values.shape, dtype=np.uint8)
    for value, organ in enumerate(ORGANS.values(), start=1):
        inside = _inside(organ, x, y, z)
        values[inside], labels[inside] = organ[2], value
    noise = np.random.default_rng(3).normal(0, 12, values.shape)
    return np.rint(values + noise).clip(-1024, 3071).astype(np.int16), labels


def _inside(
    ellipsoid: tuple[tuple[float, float, float], tuple[float, float, float], int],
    *points: NDArray[np.floating[Any]],
) -> NDArray[np.bool_]:
    centre, half_axes, _ = ellipsoid
    radii = sum(((at - middle) / half) ** 2 for at, middle, half in zip(points, centre, half_axes, strict=True))
    return np.asarray(radii <= 1)
