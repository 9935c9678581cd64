"""NIfTI-1 files of images and label maps: the arrays of a training set and where they lie in the patient.

Inside, all is as everywhere in this project: ``[slice, row, column]`` and patient LPS millimetres. NIfTI's own RAS
frame and ``[x, y, z]`` order are met here only. The library comes with the extra ``train``.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError, SetupError
from node.domain.grid import Grid
from node.domain.stack import ROUNDING_MM

NEEDS_EXTRA = "Install it: pip install 'delineate[train]'."

# What NIfTI says of a voxel's place may be so far off what the images say.
OFF_AFFINE_MM = 0.25

# A smaller voxel is none.
_NO_VOLUME_MM3 = 1e-9
# RAS to LPS and back: the first two axes point the other way.
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Image:
    """An array of voxels and where it lies."""

    # [slice, row, column].
    voxels: NDArray[Any]
    # Shape (4, 4): from (column, row, slice, 1) to (x, y, z, 1), patient LPS, millimetres, voxel centres.
    affine_lps_mm: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Give (between slices, between rows, between columns)."""
        column, row, slice_ = (float(each) for each in np.linalg.norm(self.affine_lps_mm[:3, :3], axis=0))
        return slice_, row, column


def read_nifti(path: Path) -> Image:
    """Read a NIfTI file and turn its axes to LPS: columns grow to the left, rows to the back, slices to the head.

    Of an oblique image each axis is turned to the nearest of the patient's; nothing is resampled.

    Raises
    ------
    InputError
        The file cannot be read, or has not three axes.
    SetupError
        The extra ``train`` is not installed.
    """
    nibabel = _nibabel()
    unreadable = _faults(nibabel)
    try:
        image = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)
    except unreadable as error:
        raise InputError(f"{path} cannot be read as NIfTI: {error}", "Give a NIfTI file (.nii, .nii.gz).") from error
    if voxels.ndim != 3:
        raise InputError(f"{path} has {voxels.ndim} axes, not 3", "Give one image per file.")
    if voxels.dtype.kind not in "biuf":
        raise InputError(f"{path} holds colours or complex numbers", "Give one number for each voxel.")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < _NO_VOLUME_MM3:
        raise InputError(f"{path} does not say where its voxels lie", "Write it with a whole affine.")
    return turned_to_lps(Image(voxels=voxels.transpose(2, 1, 0), affine_lps_mm=_FLIP @ image.affine))


def turned_to_lps(image: Image) -> Image:
    """Turn axes until columns grow to the left, rows to the back, slices to the head, each to the nearest of these.

    nnU-Net learns from the arrays as they are: of a feet-first patient, left would be right.
    """
    nibabel = _nibabel()
    affine = _FLIP @ image.affine_lps_mm
    present = nibabel.orientations.io_orientation(affine)
    wanted = nibabel.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nibabel.orientations.ornt_transform(present, wanted)
    voxels = image.voxels.transpose(2, 1, 0)
    turned = nibabel.orientations.apply_orientation(voxels, turn)
    return Image(
        voxels=np.ascontiguousarray(turned.transpose(2, 1, 0)),
        affine_lps_mm=_FLIP @ affine @ nibabel.orientations.inv_ornt_aff(turn, voxels.shape),
    )


def affine_of(grid: Grid) -> NDArray[np.float64]:
    """Give where the voxels of a stack lie, as NIfTI can say it: axes at right angles, planes at equal distances.

    Returns
    -------
    Shape (4, 4), as `Image.affine_lps_mm`; no corner of a plane is further from it than `OFF_AFFINE_MM`.

    Raises
    ------
    InputError
        The stack is tilted, or too irregular.
    """
    between_slices, between_rows, between_columns = grid.spacing_mm
    slices, rows, columns = grid.shape
    # The nearest axes at right angles: direction cosines are rounded.
    left, _, right = np.linalg.svd(grid.axis_directions())
    axes = left @ right
    if slices > 1:
        between_slices = abs(float(grid.distances_mm[-1] - grid.distances_mm[0])) / (slices - 1)
    steps = np.array([between_slices, between_rows, between_columns])[:, np.newaxis] * axes
    index = np.arange(slices)
    origin = (grid.positions_lps_mm - index[:, np.newaxis] * steps[0]).mean(axis=0)
    off_mm = 0.0
    for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
        stated = grid.points_lps_mm(index, np.full(slices, row), np.full(slices, column))
        regular = origin + index[:, np.newaxis] * steps[0] + row * steps[1] + column * steps[2]
        off_mm = max(off_mm, float(np.linalg.norm(stated - regular, axis=1).max()))
    if off_mm > OFF_AFFINE_MM:
        why = f"gantry tilt of {grid.tilt_mm:.3f} mm each" if grid.tilt_mm > ROUNDING_MM else "irregular"
        raise InputError(
            f"planes lie up to {off_mm:.2f} mm off a straight, regular stack ({why}): NIfTI cannot hold it"
        )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps[::-1].T, origin
    return affine


def write_nifti(path: Path, image: Image) -> None:
    """Write an image; the name says whether it is compressed (.nii.gz). Nothing of a patient is in its header.

    Raises
    ------
    SetupError
        The extra ``train`` is not installed.
    """
    nibabel = _nibabel()
    written = nibabel.Nifti1Image(image.voxels.transpose(2, 1, 0), _FLIP @ image.affine_lps_mm)
    written.header.set_xyzt_units("mm")
    nibabel.save(written, path)


def require_nibabel() -> None:
    """Raise SetupError at once, rather than after a long reading, where the library is missing."""
    _nibabel()


def _faults(nibabel: Any) -> tuple[type[Exception], ...]:
    return (
        OSError,
        ValueError,
        EOFError,
        zlib.error,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.spatialimages.ImageDataError,
    )


def _nibabel() -> Any:
    try:
        import nibabel  # noqa: PLC0415 - of the extra
        import nibabel.filebasedimages  # noqa: PLC0415
        import nibabel.orientations  # noqa: PLC0415
        import nibabel.spatialimages  # noqa: PLC0415
    except ImportError as error:
        raise SetupError("Reading and writing NIfTI needs nibabel, which is not installed.", NEEDS_EXTRA) from error
    return nibabel
