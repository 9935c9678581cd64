"""How the arrays of training images lay in the patient."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from node.convert.refusals import refused

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))


def chosen_orientation(orientation: str | None, example: Path | None) -> str | None:
    """Give what a person stated, or what an image of the training tells; None for neither.

    Raises
    ------
    SetupError
        Both are given, or the image cannot be read.
    """
    if example is None:
        return orientation
    if orientation is not None:
        raise refused("--orientation and --example are both given", "Leave one of them out.")
    return orientation_of(example)


def orientation_of(image: Path) -> str:
    """Read the directions in which column, row and slice index of an image grow, e.g. "LAS"; the nearest of each axis.

    Raises
    ------
    SetupError
        It is no image of three axes.
    """
    import SimpleITK  # noqa: PLC0415 - comes with nnU-Net

    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(image))
        reader.ReadImageInformation()
        direction = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)
    except RuntimeError as error:
        raise refused(f"{image} is no image that SimpleITK reads", "Give one of the images of imagesTr.") from error
    if direction.shape != (3, 3):
        raise refused(f"{image} has {reader.GetDimension()} axes", "Give a 3-D image.")
    return letters(direction)


def letters(direction: NDArray[np.float64]) -> str:
    """Name the columns of a direction matrix, which are unit vectors in LPS, by the nearest axes of the patient."""
    nearest = np.abs(direction).argmax(axis=0)
    if sorted(nearest) != [0, 1, 2]:
        raise refused("The image lies so obliquely that its axes are none of the patient's", "Give --orientation.")
    return "".join(_LETTERS[axis][0 if direction[axis, column] > 0 else 1] for column, axis in enumerate(nearest))
