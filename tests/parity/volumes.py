"""Synthetic images with texture at every scale and no symmetry: a swapped or flipped axis changes every voxel."""

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.parity.cases import Axes, Case

Image = NDArray[np.float32]


def seed(name: str) -> int:
    """Give a number that depends on the name alone (`hash` differs from one process to the next)."""
    return zlib.crc32(name.encode())


def image(case: Case) -> Image:
    """Draw the image of a case: ``[channel, z, y, x]``, whole numbers from -1024 to 3071 as float32."""
    channels = [_channel(case, number) for number in range(len(case.channels))]
    return np.stack(channels)


def textured(shape: Axes, number: int) -> Image:
    """Draw a field of about -1024..3071 with coarse and fine detail and a ramp that differs along each axis."""
    rng = np.random.default_rng(number)
    coarse, fine = (ndimage.gaussian_filter(rng.standard_normal(shape), sigma) for sigma in (5.0, 1.2))
    z, y, x = np.meshgrid(*(np.linspace(0, 1, size) for size in shape), indexing="ij")
    values = 40 + 350 * coarse / coarse.std() + 120 * fine / fine.std() + 300 * z - 200 * y**2 + 150 * x**3
    clipped: Image = np.clip(np.rint(values), -1024, 3071).astype(np.float32)
    return clipped


def _channel(case: Case, number: int) -> Image:
    values = textured(case.shape, seed(f"{case.name} {number}"))
    if case.channels[number] != "CT":
        values = np.abs(values) + 1  # an intensity of MR or PET; zero is left to what lies outside
    if case.background == "textured":
        return values
    inside = _inside(case.shape, narrower_by=number)
    if case.background == "zero border and holes":
        inside &= ~_hole(case.shape)
    values[values == 0] = 1
    return np.where(inside, values, np.float32(0))


def _inside(shape: Axes, narrower_by: int) -> NDArray[np.bool_]:
    """A box off the centre, whose six margins all differ; that of another channel is moved on two axes."""
    z, y, x = shape
    inside = np.zeros(shape, bool)
    inside[3 - narrower_by : z - 2, 4 : y - 7 - narrower_by, 6 : x - 1] = True
    return inside


def _hole(shape: Axes) -> NDArray[np.bool_]:
    hole = np.zeros(shape, bool)
    hole[tuple(slice(size // 2, size // 2 + 6) for size in shape)] = True
    return hole
