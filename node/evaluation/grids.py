"""Grids to measure on: of an affine, of a Segmentation's frames, of the planes that contours are drawn on.

Planes of these have no instance; all that reads contours or frames onto a grid works on them as on images.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.dicom import UNREADABLE
from node.dicom.archived_structures import DrawnContour
from node.dicom.headers import functional_group
from node.domain.errors import InputError
from node.domain.grid import Cosines, Grid, Plane, Vector

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

# Voxels are at one place if their centres are no further apart: writers round to 2 decimals or more.
SAME_PLACE_MM = 0.1
# Planes that are not this part of their distance from where regular ones lie are irregular.
IRREGULAR_SHARE = 0.05
# Contours on planes nearer to each other are on one: of a plane's points as written.
_ONE_PLANE_MM = 0.2
# So many times as large a grid may become to hold both.
_MOST_GROWTH = 4
# Around the outermost points, so that outlines do not touch the border.
_MARGIN_MM = 5.0

_GIVE_IMAGES = "Name the folder of the images with --images."


def grid_of_affine(affine_lps_mm: Floats, shape: Sequence[int]) -> Grid:
    """Give the grid of a regular array, shape (slices, rows, columns).

    Parameters
    ----------
    affine_lps_mm
        Shape (4, 4): from (column, row, slice, 1) to (x, y, z, 1), patient LPS, mm, voxel centres.

    Raises
    ------
    InputError
        Its columns and rows are not at right angles.
    """
    across, down, up = affine_lps_mm[:3, :3].T
    origins = affine_lps_mm[:3, 3] + np.outer(np.arange(shape[0]), up)
    return _grid(origins, across, down, shape[1], shape[2])


def regular_grid(shape: Sequence[int], spacing_mm: Sequence[float]) -> Grid:
    """Give an axial grid of a shape (slices, rows, columns) and a spacing between these, for who has no more."""
    return grid_of_affine(np.diag([*spacing_mm[::-1], 1.0]), shape)


def grid_of_frames(dataset: Dataset) -> Grid:
    """Give the grid of a Segmentation's own frames, with the planes between them that have none.

    Raises
    ------
    InputError
        A frame does not say where it lies, or they are not planes of one regular stack.
    """
    try:
        places = [_place(dataset, number) for number in range(1, int(dataset.get("NumberOfFrames") or 1) + 1)]
        rows, columns = int(dataset.Rows), int(dataset.Columns)
    except UNREADABLE as error:
        raise InputError(f"the geometry of the Segmentation is damaged ({type(error).__name__})") from error
    _, across, down = places[0]
    if any(not np.allclose(place[1:], (across, down), atol=1e-3) for place in places):
        raise InputError("the frames of the Segmentation are not parallel, or differ in Pixel Spacing", _GIVE_IMAGES)
    normal = np.cross(across, down) / np.linalg.norm(np.cross(across, down))
    positions = np.array([position for position, _, _ in places])
    order = np.argsort(positions @ normal)
    positions = positions[order]
    positions = positions[np.diff(positions @ normal, prepend=-np.inf) > _ONE_PLANE_MM]
    if len(positions) == 1:
        # With a neighbour on either side it is as thick as it says.
        positions = positions + np.outer([-1, 0, 1], normal * _thickness_mm(dataset))
    return _grid(_completed(positions, normal), across, down, rows, columns)


def grid_of_contours(contours: Iterable[DrawnContour], spacing_mm: float) -> Grid:
    """Give a grid of the planes that contours lie on, with those between them, as large as all contours together.

    Parameters
    ----------
    spacing_mm
        Between rows and between columns.

    Raises
    ------
    InputError
        The contours are not on parallel planes at regular distances, or on one plane only.
    """
    drawn = [each.points_lps_mm for each in contours if len(each.points_lps_mm) >= 3]
    if not drawn:
        raise InputError("nothing is drawn")
    normal = _common_normal(drawn)
    distances = np.sort([float(np.median(points @ normal)) for points in drawn])
    distances = distances[np.diff(distances, prepend=-np.inf) > _ONE_PLANE_MM]
    if len(distances) < 2:
        raise InputError("all contours lie on one plane: nobody knows how thick it is", _GIVE_IMAGES)
    across = np.array([1.0, 0, 0]) if abs(normal[0]) < 0.9 else np.array([0, 1.0, 0])
    across -= (across @ normal) * normal
    across /= np.linalg.norm(across)
    down = np.cross(normal, across)
    points = np.concatenate(drawn) @ np.stack([across, down], axis=1)
    low = np.floor((points.min(axis=0) - _MARGIN_MM) / spacing_mm) * spacing_mm
    columns, rows = np.ceil((points.max(axis=0) + _MARGIN_MM - low) / spacing_mm).astype(int) + 1
    origins = _completed(np.outer(distances, normal), normal) + low @ np.stack([across, down])
    return _grid(origins, across * spacing_mm, down * spacing_mm, int(rows), int(columns))


def covering(grid: Grid, points_lps_mm: Floats) -> Grid:
    """Add rows, columns and regular planes on every side of a grid until all points, shape (n, 3), lie within.

    Raises
    ------
    InputError
        It would grow beyond all measure: the points are of another place.
    """
    places = indices_of(points_lps_mm, grid)
    before = np.maximum(np.ceil(-0.5 - places.min(axis=0)), 0).astype(int)
    behind = np.maximum(np.ceil(places.max(axis=0) + 0.5 - np.array(grid.shape)), 0).astype(int)
    if not (before.any() or behind.any()):
        return grid
    shape = np.array(grid.shape) + before + behind
    if np.prod(shape) > _MOST_GROWTH * np.prod(grid.shape):
        raise InputError(
            "reference and result lie far from each other: they are not of the same images",
            "Give files of the same images, in the same patient coordinates.",
        )
    steps = np.diff(grid.positions_lps_mm, axis=0)
    down, across = grid.steps_mm[0]
    origins = np.concatenate(
        [
            grid.positions_lps_mm[0] - np.outer(np.arange(before[0], 0, -1), steps[0]),
            grid.positions_lps_mm,
            grid.positions_lps_mm[-1] + np.outer(np.arange(1, behind[0] + 1), steps[-1]),
        ]
    )
    return _grid(origins - before[1] * down - before[2] * across, across, down, int(shape[1]), int(shape[2]))


def corners_lps_mm(grid: Grid) -> Floats:
    """Give the centres of the corner voxels of a grid, shape (8, 3)."""
    _, rows, columns = grid.shape
    row, column = np.array([0, 0, rows - 1, rows - 1]), np.array([0, columns - 1, 0, columns - 1])
    return np.concatenate([grid.points_lps_mm(index, row, column) for index in (0, len(grid.planes) - 1)])


def brought(mask: Mask, source: Grid, target: Grid) -> Mask:
    """Give of each voxel of a grid what the nearest voxel of another says; outside of that there is nothing."""
    if _is_same(source, target):
        return mask
    brought_to = np.zeros(target.shape, dtype=np.bool_)
    present = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not len(present[0]):
        return brought_to
    rows, columns = (each.ravel() for each in np.indices(target.shape[1:]))
    for index in range(len(target.planes)):
        places = indices_of(target.points_lps_mm(index, rows, columns), source)
        nearest = np.rint(places).astype(np.intp)
        hit = np.ones(len(nearest), dtype=np.bool_)
        for axis, found in enumerate(present):
            hit &= (nearest[:, axis] >= found[0]) & (nearest[:, axis] <= found[-1])
        brought_to[index].reshape(-1)[hit] = mask[tuple(nearest[hit].T)]
    return brought_to


def are_same_points(source: Grid, target: Grid) -> bool:
    """Tell whether the voxels of one grid are voxels of another, as far as that reaches, whatever way axes run."""
    slices, rows, columns = source.shape
    every = np.repeat(np.arange(slices), 3)
    row, column = np.tile([0, rows - 1, 0], slices), np.tile([0, 0, columns - 1], slices)
    places = indices_of(source.points_lps_mm(every, row, column), target)
    off_mm = (places - np.rint(places)) * target.spacing_mm
    if np.linalg.norm(off_mm, axis=1).max() > SAME_PLACE_MM:
        return False
    # Of larger voxels the centres may all be hit, and of smaller ones the corners.
    here = np.array([0, 0, 0, min(1, slices - 1)])
    first, below, beside, above = indices_of(source.points_lps_mm(here, [0, 1, 0, 0], [0, 0, 1, 0]), target)
    steps = np.abs(np.stack([below - first, beside - first, above - first]))
    return bool(np.allclose(steps.max(axis=1), 1, atol=0.1) and np.allclose(steps.sum(axis=1), 1, atol=0.1))


def indices_of(points_lps_mm: Floats, grid: Grid) -> Floats:
    """Give fractional (slice, row, column) of points, shape (n, 3); beyond the ends as if planes went on."""
    distances = grid.distances_mm
    if len(distances) < 2:
        raise InputError("The grid has one plane: volumes and surfaces need at least two.", "Give the whole series.")
    sign = 1.0 if distances[-1] > distances[0] else -1.0
    wanted = sign * (points_lps_mm @ grid.normal)
    below = np.clip(np.searchsorted(sign * distances, wanted) - 1, 0, len(distances) - 2)
    share = (wanted - sign * distances[below]) / (sign * (distances[below + 1] - distances[below]))
    origin = (
        grid.positions_lps_mm[below] * (1 - share)[:, np.newaxis]
        + grid.positions_lps_mm[below + 1] * share[:, np.newaxis]
    )
    in_plane = (points_lps_mm - origin) @ np.linalg.pinv(grid.steps_mm[0])
    return np.column_stack([below + share, in_plane])


def _is_same(source: Grid, target: Grid) -> bool:
    if source.shape != target.shape:
        return False
    _, rows, columns = source.shape
    every = np.arange(len(source.planes))
    corners = [([row], [column]) for row in (0, rows - 1) for column in (0, columns - 1)]
    away = [source.points_lps_mm(every, *one) - target.points_lps_mm(every, *one) for one in corners]
    return bool(np.linalg.norm(away, axis=-1).max() <= SAME_PLACE_MM)


def _place(dataset: Dataset, number: int) -> tuple[Floats, Floats, Floats]:
    """Give position, way to the next column and way to the next row of a frame."""
    position = functional_group(dataset, number, "PlanePositionSequence")
    orientation = functional_group(dataset, number, "PlaneOrientationSequence")
    measures = functional_group(dataset, number, "PixelMeasuresSequence")
    if position is None or orientation is None or measures is None:
        raise InputError(f"frame {number} of the Segmentation does not say where it lies", _GIVE_IMAGES)
    cosines = np.array(orientation.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(each) for each in measures.PixelSpacing)
    first = np.array(position.ImagePositionPatient, dtype=np.float64)
    return first, cosines[0] * between_columns, cosines[1] * between_rows


def _thickness_mm(dataset: Dataset) -> float:
    measures = functional_group(dataset, 1, "PixelMeasuresSequence")
    thickness_mm = float((measures and (measures.get("SpacingBetweenSlices") or measures.get("SliceThickness"))) or 0)
    if not thickness_mm > 0:
        raise InputError("the Segmentation has one plane and does not say how thick it is", _GIVE_IMAGES)
    return thickness_mm


def _completed(positions: Floats, normal: Floats) -> Floats:
    """Add the planes that are missing between ordered ones; the shortest gap is the distance of neighbours.

    Raises
    ------
    InputError
        A gap is no whole number of these.
    """
    if len(positions) < 2:
        raise InputError("there is one plane: nobody knows how thick it is", _GIVE_IMAGES)
    gaps = np.diff(positions @ normal)
    steps = np.rint(gaps / gaps.min())
    apart = float(gaps.sum() / steps.sum())
    if np.abs(gaps - steps * apart).max() > IRREGULAR_SHARE * apart:
        raise InputError(
            f"its planes lie {gaps.min():.2f} to {gaps.max():.2f} mm apart, at no regular distances", _GIVE_IMAGES
        )
    known = np.concatenate([[0.0], np.cumsum(steps)])
    every = np.arange(int(known[-1]) + 1)
    return np.stack([np.interp(every, known, positions[:, axis]) for axis in range(3)], axis=1)


def _common_normal(drawn: Sequence[Floats]) -> Floats:
    """Give the unit normal of the planes that polygons lie on, towards the head where it can.

    Raises
    ------
    InputError
        They lie on no parallel planes.
    """
    scatter = np.zeros((3, 3))
    for points in drawn:
        away = points - points.mean(axis=0)
        scatter += away.T @ away
    normal = np.linalg.eigh(scatter)[1][:, 0]
    # What is axial but for rounding is axial.
    normal = np.where(np.abs(normal) < 1e-4, 0.0, normal)
    normal /= np.linalg.norm(normal) * np.sign(normal[np.argmax(np.abs(normal))])
    off = max(float(np.ptp(points @ normal)) for points in drawn)
    if off > 2 * SAME_PLACE_MM:
        raise InputError(f"its contours are up to {off:.2f} mm off parallel planes", _GIVE_IMAGES)
    return np.asarray(normal, dtype=np.float64)


def _grid(origins: Floats, across: Floats, down: Floats, rows: int, columns: int) -> Grid:
    """Give the grid of planes, given by their first pixels, shape (slices, 3), and the ways to the next."""
    widths = float(np.linalg.norm(down)), float(np.linalg.norm(across))
    x, y, z = across / widths[1]
    u, v, w = down / widths[0]
    cosines: Cosines = (float(x), float(y), float(z), float(u), float(v), float(w))
    planes = [
        Plane(
            sop_instance_uid="",
            frame_number=None,
            position_lps_mm=_vector(origin),
            orientation=cosines,
            pixel_spacing_mm=widths,
            rows=rows,
            columns=columns,
        )
        for origin in origins
    ]
    return Grid(planes=tuple(planes))


def _vector(point: Floats) -> Vector:
    x, y, z = point
    return float(x), float(y), float(z)
