"""How many voxels a written RT Structure Set gets wrong, by two fillings that share no code.

Everything is read from the file and from the images' headers; slices are found by the points' own coordinates, for
not every writer names the image.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from node.domain.grid import Grid
from node.domain.scanlines import rasterise
from node.domain.structures import Contour
from writing.scene import Scene

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Read:
    """What two readers found changed, in voxels, and how many points there are."""

    by_rows: int
    by_columns: int
    points: int


def read_back(path: Path, scene: Scene) -> Read:
    """Count the voxels that differ from the label map, structure by structure.

    ``by_rows`` fills with ``node.domain.scanlines``: a pixel is inside where its row crosses the contours an odd number
    of times left of it. ``by_columns`` fills with code of this file only: where its column does above it.

    Raises
    ------
    ValueError
        A structure is missing.
    """
    grid, labels = scene.manifest.grid, scene.label_map.labels
    contours_of = _contours(path, grid)
    by_rows = by_columns = points = 0
    for definition in scene.definitions:
        if definition.name not in contours_of:
            raise ValueError(f"{path.name} holds no {definition.name}")
        contours = contours_of[definition.name]
        (value,) = definition.label_values
        by_rows += _changed(rasterise(contours, grid), labels, value)
        by_columns += _changed(_filled_by_columns(contours, grid), labels, value)
        points += sum(len(contour.points_lps_mm) for contour in contours)
    return Read(by_rows=by_rows, by_columns=by_columns, points=points)


def _changed(filled: Mask, labels: NDArray[np.unsignedinteger], value: int) -> int:
    return sum(int(np.count_nonzero(image != (wanted == value))) for image, wanted in zip(filled, labels, strict=True))


def _contours(path: Path, grid: Grid) -> Mapping[str, Sequence[Contour]]:
    """Read the contours of each ROI, each on the plane that is nearest."""
    dataset = dcmread(path)
    heights = np.array([plane.position_lps_mm[2] for plane in grid.planes])
    names = {int(item.ROINumber): str(item.ROIName) for item in dataset.StructureSetROISequence}
    contours_of = {}
    for region in dataset.ROIContourSequence:
        contours = []
        for item in region.get("ContourSequence") or ():
            points = np.array(item.ContourData, dtype=np.float64).reshape(-1, 3)
            nearest = int(np.argmin(np.abs(heights - points[0, 2])))
            contours.append(Contour(slice_index=nearest, points_lps_mm=points))
        contours_of[names[int(region.ReferencedROINumber)]] = contours
    return contours_of


def _filled_by_columns(contours: Sequence[Contour], grid: Grid) -> Mask:
    """Fill an axial grid: each edge toggles, in every column that it crosses, all pixels below the crossing."""
    filled = np.zeros(grid.shape, dtype=np.bool_)
    edges_on: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for contour in contours:
        edges_on[contour.slice_index].append(np.concatenate(list(_edges(contour, grid))))
    for index, edges in edges_on.items():
        filled[index] = _image(np.concatenate(edges), *grid.shape[1:])
    return filled


def _edges(contour: Contour, grid: Grid) -> Iterator[NDArray[np.float64]]:
    """Give each edge as left column, its row, right column, its row."""
    first_x, first_y, _ = grid.planes[contour.slice_index].position_lps_mm
    between_rows, between_columns = grid.pixel_spacing_mm
    column = (contour.points_lps_mm[:, 0] - first_x) / between_columns
    row = (contour.points_lps_mm[:, 1] - first_y) / between_rows
    edges = np.stack([column, row, np.roll(column, -1), np.roll(row, -1)], axis=1)
    leftwards = edges[:, 0] > edges[:, 2]
    yield edges[~leftwards]
    yield edges[leftwards][:, [2, 3, 0, 1]]


def _image(edges: NDArray[np.float64], rows: int, columns: int) -> Mask:
    toggled = np.zeros((rows + 1, columns), dtype=np.bool_)
    # A column is crossed where the left end is at most as far, and the right end further.
    first = np.clip(np.ceil(edges[:, 0]), 0, columns).astype(int)
    last = np.clip(np.ceil(edges[:, 2]), 0, columns).astype(int)
    for column in range(first.min(initial=columns), last.max(initial=0)):
        left, top, right, bottom = edges[(first <= column) & (column < last)].T
        below = np.ceil(top + (column - left) / (right - left) * (bottom - top))
        np.logical_xor.at(toggled[:, column], np.clip(below, 0, rows).astype(int), True)
    return np.logical_xor.accumulate(toggled, axis=0)[:rows]
