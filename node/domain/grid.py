"""Where pixels are in the patient: planes, and stacks of them.

The only module that may pair Pixel Spacing with directions. Frame: patient LPS, millimetres, points ``(x, y, z)``.
Arrays are ``[slice, row, column]``; indices name pixel *centres*.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from node.domain.errors import InputError

Vector = tuple[float, float, float]
Cosines = tuple[float, float, float, float, float, float]

# Writers round direction cosines to as few as 4 decimals; a vector off by more than this is not a unit vector.
COSINE_TOLERANCE = 2e-3

# Twice the height of a tall patient: whole-body coronal MR is below, a spacing in wrong units is above.
WIDEST_PLANE_MM = 4000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One image plane as its instance (and frame) states it.

    PS3.3 C.7.6.2.1.1: the centre of pixel (row r, column c) lies at
    ``position + c · pixel_spacing[1] · orientation[:3] + r · pixel_spacing[0] · orientation[3:]``.
    """

    sop_instance_uid: str
    # 1-based frame of a multi-frame instance; None for a single-frame instance.
    frame_number: int | None
    # Image Position (Patient): the centre of the first pixel.
    position_lps_mm: Vector
    # Image Orientation (Patient): direction of increasing column index, then of increasing row index.
    orientation: Cosines
    # Pixel Spacing: (between adjacent rows, between adjacent columns).
    pixel_spacing_mm: tuple[float, float]
    rows: int
    columns: int

    @property
    def normal(self) -> NDArray[np.float64]:
        """Give the unit normal: row direction × column direction."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)

    @property
    def distance_mm(self) -> float:
        """Give the signed distance of the plane from the origin along its normal."""
        return float(np.dot(self.normal, self.position_lps_mm))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """An ordered stack of parallel planes of equal size.

    Planes need neither be equidistant nor lie straight above each other (gantry tilt): every point is computed from
    its own plane's position, never from an averaged affine.

    Raises
    ------
    InputError
        Planes differ in orientation, spacing or size, or the orientation is not two orthogonal unit vectors.
    """

    planes: tuple[Plane, ...]

    def __post_init__(self) -> None:
        if not self.planes:
            raise InputError("There is no image plane.")
        first = self.planes[0]
        row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
        unit = abs(np.linalg.norm(row) - 1) < COSINE_TOLERANCE and abs(np.linalg.norm(column) - 1) < COSINE_TOLERANCE
        if not unit or abs(np.dot(row, column)) > COSINE_TOLERANCE:
            raise InputError(f"Image Orientation (Patient) {first.orientation} is not two orthogonal unit vectors.")
        if min(first.pixel_spacing_mm) <= 0:
            raise InputError(f"Pixel Spacing {first.pixel_spacing_mm} is not positive.")
        widest_mm = max(first.rows * first.pixel_spacing_mm[0], first.columns * first.pixel_spacing_mm[1])
        if widest_mm > WIDEST_PLANE_MM:
            width = f"{widest_mm / 1000:.1f} m"
            raise InputError(f"A plane would be {width} wide: Pixel Spacing {first.pixel_spacing_mm} cannot be right.")
        for plane in self.planes[1:]:
            if (plane.rows, plane.columns) != (first.rows, first.columns):
                raise InputError("The planes differ in Rows or Columns.")
            if not np.allclose(plane.orientation, first.orientation, atol=1e-3):
                raise InputError("The planes differ in Image Orientation (Patient).")
            if not np.allclose(plane.pixel_spacing_mm, first.pixel_spacing_mm, rtol=1e-3):
                raise InputError("The planes differ in Pixel Spacing.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Give (slices, rows, columns)."""
        return len(self.planes), self.planes[0].rows, self.planes[0].columns

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Give (between rows, between columns)."""
        return self.planes[0].pixel_spacing_mm

    @cached_property
    def normal(self) -> NDArray[np.float64]:
        """Give the unit normal of the first plane, row direction × column direction."""
        return self.planes[0].normal

    @cached_property
    def distances_mm(self) -> NDArray[np.float64]:
        """Give each plane's signed distance along the common normal, shape (slices,)."""
        return np.array([plane.position_lps_mm for plane in self.planes]) @ self.normal

    @cached_property
    def slice_spacing_mm(self) -> float:
        """Give the median distance between neighbouring planes along the normal; 0 for a single plane."""
        return float(np.median(np.abs(np.diff(self.distances_mm)))) if len(self.planes) > 1 else 0.0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Give (between slices along the normal, between rows, between columns)."""
        return (self.slice_spacing_mm, *self.pixel_spacing_mm)

    @cached_property
    def voxel_volume_mm3(self) -> float:
        """Give the volume of one voxel; shear by gantry tilt does not change it."""
        return float(np.prod(self.spacing_mm))

    @cached_property
    def tilt_mm(self) -> float:
        """Give how far neighbouring planes are shifted in their own plane, the largest step; 0 for a straight stack."""
        steps = np.diff(np.array([plane.position_lps_mm for plane in self.planes]), axis=0)
        if not len(steps):
            return 0.0
        in_plane = steps - np.outer(steps @ self.normal, self.normal)
        return float(np.linalg.norm(in_plane, axis=1).max())

    @cached_property
    def positions_lps_mm(self) -> NDArray[np.float64]:
        """Give the centre of each plane's first pixel, shape (slices, 3)."""
        return np.array([plane.position_lps_mm for plane in self.planes], dtype=np.float64)

    @cached_property
    def steps_mm(self) -> NDArray[np.float64]:
        """Give each plane's way from one row to the next and from one column to the next, shape (slices, 2, 3), LPS."""
        cosines = np.array([plane.orientation for plane in self.planes], dtype=np.float64).reshape(-1, 2, 3)
        spacings = np.array([plane.pixel_spacing_mm for plane in self.planes], dtype=np.float64)
        return cosines[:, ::-1] * spacings[:, :, np.newaxis]

    def points_lps_mm(
        self, slice_index: int | NDArray[np.intp], rows: ArrayLike, columns: ArrayLike
    ) -> NDArray[np.float64]:
        """Give the patient coordinates of (fractional) pixel indices.

        PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, with the position and orientation of the plane itself.

        Parameters
        ----------
        slice_index
            One plane, or shape (n,), the plane of each point.
        rows, columns
            Shape (n,), in pixels, 0 at the centre of the first pixel.

        Returns
        -------
        Shape (n, 3), LPS, mm.
        """
        position, steps = self.positions_lps_mm[slice_index], self.steps_mm[slice_index]
        across = np.asarray(columns, dtype=np.float64)[:, np.newaxis] * steps[..., 1, :]
        down = np.asarray(rows, dtype=np.float64)[:, np.newaxis] * steps[..., 0, :]
        return np.asarray(position + across + down, dtype=np.float64)

    def within(self, slices: slice, rows: slice, columns: slice) -> "Grid":
        """Give the grid of a box of this one; starts and stops are stated, none of them negative."""
        corners = self.points_lps_mm(
            np.arange(len(self.planes)), np.full(len(self.planes), rows.start), np.full(len(self.planes), columns.start)
        )
        planes = [
            replace(
                plane,
                position_lps_mm=(float(corner[0]), float(corner[1]), float(corner[2])),
                rows=rows.stop - rows.start,
                columns=columns.stop - columns.start,
            )
            for plane, corner in zip(self.planes, corners, strict=True)
        ]
        return Grid(planes=tuple(planes[slices]))

    def axis_directions(self) -> NDArray[np.float64]:
        """Give the unit directions of increasing slice, row and column index, shape (3, 3), one per row, LPS.

        The slice direction is the normal, signed by the order of the planes; tilt is left out.
        """
        first = self.planes[0]
        sign = -1.0 if len(self.planes) > 1 and self.distances_mm[-1] < self.distances_mm[0] else 1.0
        return np.array([sign * self.normal, first.orientation[3:], first.orientation[:3]], dtype=np.float64)


def ordered_along_normal(planes: Sequence[Plane]) -> tuple[Plane, ...]:
    """Order planes by their position along the first plane's normal, never by Instance Number or arrival.

    The normal is row direction × column direction, so an axial head-first stack runs from feet to head.
    """
    if not planes:
        return ()
    normal = planes[0].normal
    return tuple(
        sorted(planes, key=lambda plane: (float(np.dot(normal, plane.position_lps_mm)), plane.sop_instance_uid))
    )
