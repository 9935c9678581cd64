"""Readers of other projects: what voxels they make of our objects, brought onto our grid.

plastimatch comes from Debian; dcmqi, dcmrtstruct2nii and platipy from PyPI, in an environment of their own, for they
want another pydicom than ours.
"""

import subprocess
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Grid

Mask = NDArray[np.bool_]
# From an RT Structure Set, the folder of its images and an empty folder to a MetaImage of each ROI, by its name.
Reader = Callable[[Path, Path, Path], Mapping[str, Path]]

REQUIREMENTS = (
    "dcmqi==1.5.7",
    "dcmrtstruct2nii==5",
    "platipy==0.7.2",
    # What the two of them import, in versions that were tried together.
    "pydicom==2.4.5",
    "simpleitk==2.5.7",
    "scikit-image==0.26.0",
    "numpy==2.4.6",
    "scipy==1.17.1",
    "networkx==3.6.1",
    "pillow==13.0.0",
    "imageio==2.38.1",
    "tifffile==2026.3.3",
    "lazy-loader==0.6",
    "packaging==26.3",
    "termcolor==3.3.0",
)

# NIfTI, which they write, holds axes as RAS and rounded to 32 bit; MetaImage says what we say.
_AS_METAIMAGES = """
import SimpleITK
for path in Path(masks).glob("*.nii*"):
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path).partition(".nii")[0] + ".mha")
    path.unlink()
"""
_DCMRTSTRUCT2NII = f"""
import sys
from pathlib import Path
from dcmrtstruct2nii import dcmrtstruct2nii
rtstruct, images, masks = sys.argv[1:]
dcmrtstruct2nii(rtstruct, images, masks, gzip=False, convert_original_dicom=False)
{_AS_METAIMAGES}
"""
_PLATIPY = f"""
import sys
from pathlib import Path
from platipy.dicom.io.rtstruct_to_nifti import convert_rtstruct
rtstruct, images, masks = sys.argv[1:]
convert_rtstruct(images, rtstruct, prefix="", output_dir=masks)
{_AS_METAIMAGES}
"""


def run(*command: str | Path) -> tuple[int, str]:
    """Give the exit status and all that the program said."""
    result = subprocess.run([str(part) for part in command], capture_output=True, timeout=240, check=False)
    return result.returncode, (result.stdout + result.stderr).decode("utf-8", "replace")


def succeeding(*command: str | Path) -> str:
    """Run a program that must succeed; gives what it said."""
    status, said = run(*command)
    assert status == 0, said[-2000:]
    return said


def plastimatch(rtstruct: Path, images: Path, masks: Path) -> Mapping[str, Path]:
    """Read with plastimatch."""
    succeeding(
        *("plastimatch", "convert", "--input", rtstruct, "--referenced-ct", images),
        *("--output-prefix", masks, "--prefix-format", "mha"),
    )
    return {path.stem: path for path in masks.glob("*.mha")}


def dcmrtstruct2nii(programs: Path) -> Reader:
    """Give dcmrtstruct2nii of an environment."""

    def read(rtstruct: Path, images: Path, masks: Path) -> Mapping[str, Path]:
        succeeding(programs / "python", "-c", _DCMRTSTRUCT2NII, rtstruct, images, masks)
        return {path.stem.removeprefix("mask_"): path for path in masks.glob("*.mha")}

    return read


def platipy(programs: Path) -> Reader:
    """Give platipy of an environment."""

    def read(rtstruct: Path, images: Path, masks: Path) -> Mapping[str, Path]:
        succeeding(programs / "python", "-c", _PLATIPY, rtstruct, images, masks)
        return {path.stem: path for path in masks.glob("*.mha")}

    return read


def dcmqi(programs: Path, segmentation: Path, folder: Path, stack: Grid) -> NDArray[np.integer]:
    """Let dcmqi read a Segmentation whose segments do not overlap; gives the number of each voxel's segment.

    It writes an image of each segment, or one of all, where the Segmentation is a label map.
    """
    command = programs / "segimage2itkimage"
    succeeding(command, "--inputDICOM", segmentation, "--outputDirectory", folder, "--outputType", "mha")
    return np.asarray(sum(on_grid(path, stack) for path in folder.glob("*.mha")))


def dice(one: Mask, other: Mask) -> float:
    """Give the Dice coefficient of two masks that are not both empty."""
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def read_mha(path: Path) -> tuple[NDArray[np.integer], NDArray[np.float64], NDArray[np.float64]]:
    """Read a MetaImage: voxels ``[k, j, i]``, the origin, and the steps along i, j and k as rows, LPS mm."""
    head, _, body = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    fields = dict(line.split(" = ", 1) for line in head.decode().splitlines())
    size = [int(text) for text in fields["DimSize"].split()]
    spacing = np.array(fields["ElementSpacing"].split(), dtype=float)
    directions = np.array(fields["TransformMatrix"].split(), dtype=float).reshape(3, 3)
    kind = {"MET_UCHAR": np.uint8, "MET_SHORT": np.int16, "MET_USHORT": np.uint16}[fields["ElementType"]]
    content = zlib.decompress(body) if fields.get("CompressedData") == "True" else body
    voxels = np.frombuffer(content, dtype=kind).reshape(size[::-1])
    origin = np.array(fields["Offset"].split(), dtype=float)
    return voxels, origin, directions * spacing[:, np.newaxis]


def on_grid(path: Path, stack: Grid) -> NDArray[np.integer]:
    """Take each voxel of the grid from where it stands in the patient; 0 where the MetaImage ends."""
    voxels, origin, steps = read_mha(path)
    slices, rows, columns = stack.shape
    row, column = (index.ravel() for index in np.indices((rows, columns)))
    result = np.zeros(stack.shape, dtype=voxels.dtype)
    for index in range(slices):
        away = stack.points_lps_mm(index, row, column) - origin
        i, j, k = np.rint(away @ np.linalg.inv(steps)).astype(int).T
        place = np.stack([k, j, i], axis=1)
        inside = ((place >= 0) & (place < voxels.shape)).all(axis=1)
        image = result[index].ravel()
        image[inside] = voxels[k[inside], j[inside], i[inside]]
        result[index] = image.reshape(rows, columns)
    return result
