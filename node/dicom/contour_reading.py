"""Read the contours of a written ROI from its bytes, all numbers at once.

Shares no code with the writer. A coordinate is what PS3.5 table 6.2-1 calls fixed point: digits, with a dot and digits
behind it or not, with a minus before it or not; nothing else passes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag

from node.dicom.strict_reading import LONGEST, elements, items
from node.dicom.verification import expect
from node.domain.errors import VerificationError
from node.domain.scanlines import Points

_CONTOUR_IMAGE_SEQUENCE = 0x3006_0016
_CONTOUR_GEOMETRIC_TYPE = 0x3006_0042
_NUMBER_OF_CONTOUR_POINTS = 0x3006_0046
_CONTOUR_NUMBER = 0x3006_0048
_CONTOUR_DATA = 0x3006_0050
_ALWAYS = (
    _CONTOUR_IMAGE_SEQUENCE,
    _CONTOUR_GEOMETRIC_TYPE,
    _NUMBER_OF_CONTOUR_POINTS,
    _CONTOUR_NUMBER,
    _CONTOUR_DATA,
)
_GEOMETRIC_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_BACKSLASH, _DOT, _MINUS, _ZERO = (np.uint8(one) for one in b"\\.-0")
_POWERS = 10.0 ** np.arange(17)


@dataclass(frozen=True, slots=True)
class WrittenContours:
    """The contours of one ROI, one after the other."""

    geometric_type: str
    # Plane of the grid that each lies on, shape (contours,).
    planes: NDArray[np.intp]
    # Points of each, shape (contours,).
    counts: NDArray[np.intp]
    # Shape (points, 3).
    points_lps_mm: Points


def read_contours(data: bytes, first: int, last: int, plane_of: Callable[[bytes], int], name: str) -> WrittenContours:
    """Read the items of Contour Sequence between two offsets.

    Parameters
    ----------
    plane_of
        Told the value of Contour Image Sequence.
    name
        Name of the ROI, for the reason.

    Raises
    ------
    VerificationError
        There is no contour, one is no closed polygon of at least 3 points, its first point is repeated, or the types of
        contours are mixed.
    """
    contours = [_fields(data, *bounds, name) for bounds in items(data, first, last)]
    expect(bool(contours), f"{name} has an empty Contour Sequence.")
    images, types, counts, numbers, texts = zip(*contours, strict=True)
    geometric_type = types[0].decode("ascii").rstrip()
    expect(geometric_type in _GEOMETRIC_TYPES, f"{name} has a contour that is no closed polygon.")
    expect(len(set(types)) == 1, f"{name} has contours of several geometric types.")
    expect(len({_whole(number, name) for number in numbers}) == len(numbers), f"{name} has a Contour Number twice.")
    counted = np.array([_whole(count, name) for count in counts], dtype=np.intp)
    coordinates, behind = decimal_numbers(b"\\".join(texts), name)
    # Each contour has as many numbers as it says: its text ends where the last of them does.
    told = bool((counted >= 3).all()) and 3 * int(counted.sum()) == len(coordinates)
    lengths = np.array([len(text) for text in texts])
    expect(
        told and np.array_equal(behind[3 * np.cumsum(counted) - 1], np.cumsum(lengths + 1)),
        f"{name} has a contour that is no polygon.",
    )
    points = coordinates.reshape(-1, 3)
    ends = np.cumsum(counted)
    repeated = (points[ends - 1] == points[ends - counted]).all(axis=1)
    expect(not repeated.any(), f"{name} has a contour that repeats its first point.")
    planes = np.array([plane_of(image) for image in images], dtype=np.intp)
    return WrittenContours(geometric_type, planes, counted, points)


def decimal_numbers(text: bytes, name: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Read the numbers between backslashes, each to the nearest that there is.

    Returns
    -------
    The numbers, and where each one's backslash ends.

    Raises
    ------
    VerificationError
        One is no number in fixed point, or longer than a DS may be.
    """
    longest = LONGEST["DS"]
    # A backslash before the first number as well, and one behind the last.
    characters = np.frombuffer(b"\\" + text + b"\\", dtype=np.uint8)
    is_digit = characters - _ZERO < 10
    marks = np.flatnonzero(~is_digit)
    kinds = characters[marks]
    is_border, is_dot = kinds == _BACKSLASH, kinds == _DOT
    borders, dots, minuses = marks[is_border], marks[is_dot], marks[kinds == _MINUS]
    lengths = np.diff(borders) - 1
    expect(int(lengths.max()) <= longest, f"{name} has a coordinate longer than {longest} bytes.")
    number_of_dot = np.cumsum(is_border)[is_dot] - 1
    sound = (
        lengths.min() > 0
        and len(borders) + len(minuses) + len(dots) == len(marks)
        and (characters[minuses - 1] == _BACKSLASH).all()
        and is_digit[minuses + 1].all()
        and is_digit[dots - 1].all()
        and is_digit[dots + 1].all()
        and (np.diff(number_of_dot) > 0).all()
    )
    expect(bool(sound), f"{name} has a coordinate that is no number.")
    decimals = np.zeros(len(lengths), dtype=np.intp)
    decimals[number_of_dot] = borders[number_of_dot + 1] - dots - 1
    whole = _digits(text.translate(None, b".-"), longest)
    # Both are whole and, with up to 15 digits, exact: the quotient is the nearest number.
    signed = np.where(characters[borders[:-1] + 1] == _MINUS, -whole, whole)
    return np.asarray(signed / _POWERS[decimals], dtype=np.float64), borders[1:]


def _digits(text: bytes, longest: int) -> NDArray[np.float64]:
    """Read unsigned whole numbers between backslashes, digit by digit from the last."""
    characters = np.frombuffer(b"\\" * longest + text + b"\\", dtype=np.uint8)
    ends = np.flatnonzero(characters == _BACKSLASH)[longest:]
    lengths = np.diff(ends, prepend=longest - 1) - 1
    whole = np.zeros(len(ends))
    for place in range(int(lengths.max())):
        digit = characters[ends - (place + 1)] - _ZERO
        whole += (digit * (lengths > place)) * _POWERS[place]
    return whole


def _fields(data: bytes, first: int, last: int, name: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Give image, type, count, number and coordinates of a contour, as written but for the padding of coordinates."""
    found = list(elements(data, first, last))
    tags = tuple(tag for tag, _, _ in found)
    if tags != _ALWAYS:
        missing = ", ".join(keyword_for_tag(tag) for tag in _ALWAYS if tag not in tags)
        expect(not missing, f"{name} has a contour without {missing}.")
        raise VerificationError(f"{name} has a contour with more than belongs to it.")
    image, geometric_type, count, number, text = (data[start:end] for _, start, end in found)
    return image, geometric_type, count, number, text[:-1] if text.endswith(b" ") else text


def _whole(text: bytes, name: str) -> int:
    digits = text.rstrip(b" ")
    if not digits.isdigit() or len(text) > LONGEST["IS"]:
        raise VerificationError(f"{name} has a count that is no whole number.")
    return int(digits)
