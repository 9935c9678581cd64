"""A label map that is hard to contour: noisy organs, hollow ones, islands, thin nerves, single voxels, 1-pixel holes.

Synthetic, no anatomy. Deterministic: the same number of structures and slices gives the same voxels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.grid import Grid, Plane
from node.domain.structures import Code, StructureDefinition
from node.domain.volume import LabelMap

SLICES, ROWS, COLUMNS = 300, 512, 512
PIXEL_SPACING_MM, SLICE_SPACING_MM = (0.977, 0.977), 1.5
# So much of the voxels would belong to structures if organs were not hollow: 15 % do.
FILLED = 0.19

ORGAN = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")
TISSUE = Code(value="85756007", scheme="SCT", meaning="Tissue")

Labels = NDArray[np.uint8]


def phantom_grid(slices: int = SLICES) -> Grid:
    """Give an axial stack of 512 × 512 pixels off the origin."""
    return Grid(
        planes=tuple(
            Plane(
                sop_instance_uid=f"2.25.7{index + 1:04d}",
                frame_number=None,
                position_lps_mm=(-249.6, -231.2, -412.5 + SLICE_SPACING_MM * index),
                orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                pixel_spacing_mm=PIXEL_SPACING_MM,
                rows=ROWS,
                columns=COLUMNS,
            )
            for index in range(slices)
        )
    )


def definitions(structures: int) -> tuple[StructureDefinition, ...]:
    """Give structures 1 to n, one label value each."""
    return tuple(
        StructureDefinition(
            name=f"Structure_{value:03d}",
            label_values=(value,),
            colour_rgb=(value * 67 % 256, value * 151 % 256, value * 29 % 256),
            category=ORGAN,
            type=TISSUE,
            modifier=None,
            interpreted_type="ORGAN",
        )
        for value in range(1, structures + 1)
    )


def phantom(structures: int, slices: int = SLICES) -> LabelMap:
    """Draw ``structures`` of four kinds in turn, organ, hollow organ, tube, two islands, and the four oddities last.

    At least 5 structures and 30 slices.
    """
    labels = np.zeros((slices, ROWS, COLUMNS), dtype=np.uint8)
    random = np.random.default_rng(20260101)
    large = structures - 4
    # A cubic arrangement of places, each with room for one structure of the size that fills the wanted share.
    places = _places(large, slices, random)
    volume = FILLED * labels.size / large
    for value, centre in enumerate(places, start=1):
        _draw(labels, value, centre, volume, kind=value % 4, random=random)
    _nerve(labels, structures - 3)
    _single_voxels(labels, structures - 2)
    _diagonal_contacts(labels, structures - 1)
    _punched_plate(labels, structures)
    return LabelMap(labels=labels, grid=phantom_grid(slices))


def _places(count: int, slices: int, random: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    across = int(np.ceil(count ** (1 / 3)))
    cells = np.array(list(np.ndindex(across, across, across)), dtype=np.float64)[:count]
    margin = np.array([slices // 15, 30, 30])
    for cell in cells:
        yield (cell + 0.5 + random.uniform(-0.05, 0.05, 3)) / across * ((slices, ROWS, COLUMNS) - 2 * margin) + margin


def _draw(
    labels: Labels, value: int, centre: NDArray[np.float64], volume: float, *, kind: int, random: np.random.Generator
) -> None:
    # Half axes of an ellipsoid of that many voxels, flattened along the slices, as these are thicker.
    mean = (volume * 3 / (4 * np.pi)) ** (1 / 3)
    axes = mean * np.array([0.75, 1.05, 1.27]) * random.uniform(0.9, 1.1, 3)
    if kind == 2:
        axes = mean * np.array([1.5, 0.75, 0.75])
    low = np.maximum(np.floor(centre - axes * 1.4 - 2), 0).astype(int)
    high = np.minimum(np.ceil(centre + axes * 1.4 + 3), labels.shape).astype(int)
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    offsets = [np.arange(first, last) - middle for first, last, middle in zip(low, high, centre, strict=True)]
    scaled = [offset / axis for offset, axis in zip(offsets, axes, strict=True)]
    radius = np.sqrt(
        scaled[0][:, None, None] ** 2 + scaled[1][None, :, None] ** 2 + scaled[2][None, None, :] ** 2
    ) + _noise(tuple(high - low), random)
    inside = radius < 1
    if kind == 1:
        inside &= radius > 0.6
    if kind == 3:
        inside &= np.abs(scaled[2])[None, None, :] > 0.25
    labels[box][inside & (labels[box] == 0)] = value


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float64]:
    """Give a bumpy field of standard deviation 0.05, correlated over about eight voxels."""
    noise = ndimage.gaussian_filter(random.standard_normal(shape), 4.0)
    return np.asarray(noise * 0.05 / noise.std())


def _nerve(labels: Labels, value: int) -> None:
    """Wind a tube of 3 × 3 pixels through most slices, along the edge of the image."""
    for index in range(10, len(labels) - 10):
        row, column = 8 + round(4 * np.sin(index / 15)), 60 + index
        labels[index, row - 1 : row + 2, column - 1 : column + 2] = value


def _single_voxels(labels: Labels, value: int) -> None:
    labels[5:-10:10, 20, 480:500:6] = value
    labels[0, 0, 0] = labels[-1, -1, -1] = value


def _diagonal_contacts(labels: Labels, value: int) -> None:
    # The slices 40 to 60 of 300.
    middle = slice(len(labels) * 2 // 15, len(labels) // 5)
    for offset in range(12):
        labels[middle, ROWS - 20 + offset, 20 + offset] = value
        labels[middle, ROWS - 20 + offset, 60 - offset] = value


def _punched_plate(labels: Labels, value: int) -> None:
    # The slices 100 to 130 of 300.
    middle = slice(len(labels) // 3, len(labels) * 13 // 30)
    labels[middle, ROWS - 20 : ROWS - 4, 100:140] = value
    labels[middle, ROWS - 18 : ROWS - 6 : 4, 103:137:4] = 0
