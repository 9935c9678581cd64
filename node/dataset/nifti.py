"""NIfTI-1 files of images and label maps: the arrays of a training set and where they lie in the patient.

Inside, all is as everywhere in this project: ``[slice, row, column]`` and patient LPS millimetres. NIfTI's own RAS
frame and ``[x, y, z]`` order are met here only. The library comes with the extra ``train``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError, SetupError

NEEDS_EXTRA = "Install it: pip install 'delineate[train]'."

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
    try:
        image = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path} cannot be read as NIfTI: {error}", "Give a NIfTI file (.nii, .nii.gz).") from error
    if voxels.ndim != 3:
        raise InputError(f"{path} has {voxels.ndim} axes, not 3", "Give one image per file.")
    present = nibabel.orientations.io_orientation(image.affine)
    wanted = nibabel.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nibabel.orientations.ornt_transform(present, wanted)
    affine = _FLIP @ image.affine @ nibabel.orientations.inv_ornt_aff(turn, voxels.shape)
    turned = nibabel.orientations.apply_orientation(voxels, turn)
    return Image(voxels=np.ascontiguousarray(turned.transpose(2, 1, 0)), affine_lps_mm=affine)


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


def _nibabel() -> Any:
    try:
        import nibabel  # noqa: PLC0415 - of the extra
        import nibabel.filebasedimages  # noqa: PLC0415
        import nibabel.orientations  # noqa: PLC0415
    except ImportError as error:
        raise SetupError("Reading and writing NIfTI needs nibabel, which is not installed.", NEEDS_EXTRA) from error
    return nibabel
