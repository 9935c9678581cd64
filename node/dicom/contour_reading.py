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
_ALWAYS = [
    _CONTOUR_IMAGE_SEQUENCE,
    _CONTOUR_GEOMETRIC_TYPE,
    _NUMBER_OF_CONTOUR_POINTS,
    _CONTOUR_NUMBER,
    _CONTOUR_DATA,
]
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
    # One backslash behind the last number, and as many before the first as may be looked back.
    characters = np.frombuffer(b"\\" * longest + text + b"\\", dtype=np.uint8)
    borders = np.flatnonzero(characters == _BACKSLASH)[longest - 1 :]
    ends, lengths = borders[1:], np.diff(borders) - 1
    expect(int(lengths.max()) <= longest, f"{name} has a coordinate longer than {longest} bytes.")
    sound = lengths > 0
    whole, decimals = np.zeros(len(ends)), np.zeros(len(ends), dtype=np.intp)
    dotted = was_digit = np.zeros(len(ends), dtype=np.bool_)
    # From the last character of all numbers to the first of the longest.
    for place in range(int(lengths.max())):
        character = characters[ends - (place + 1)]
        digit = character - _ZERO
        inside, is_first, is_digit = lengths > place, lengths == place + 1, digit < 10
        is_dot = (character == _DOT) & inside & was_digit & ~is_first & ~dotted
        is_minus = (character == _MINUS) & was_digit & is_first
        sound &= is_digit | is_dot | is_minus | ~inside
        whole += digit * (is_digit & inside) * np.where(dotted, _POWERS[place - 1], _POWERS[place])
        decimals[is_dot] = place
        dotted, was_digit = dotted | is_dot, is_digit
    expect(bool(sound.all()), f"{name} has a coordinate that is no number.")
    # Both are whole and, with up to 15 digits, exact: the quotient is the nearest number.
    signed = np.where(characters[borders[:-1] + 1] == _MINUS, -whole, whole)
    return np.asarray(signed / _POWERS[decimals], dtype=np.float64), ends - longest + 1


def _fields(data: bytes, first: int, last: int, name: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Give image, type, count, number and coordinates of a contour, as written but for the padding of coordinates."""
    found = elements(data, first, last)
    tags = [tag for tag, _, _ in found]
    if tags != _ALWAYS:
        missing = ", ".join(keyword_for_tag(tag) for tag in _ALWAYS if tag not in tags)
        expect(not missing, f"{name} has a contour without {missing}.")
        raise VerificationError(f"{name} has a contour with more than belongs to it.")
    image, geometric_type, count, number, text = [data[start:end] for _, start, end in found]
    return image, geometric_type, count, number, text[:-1] if text.endswith(b" ") else text


def _whole(text: bytes, name: str) -> int:
    digits = text.rstrip(b" ")
    if not digits.isdigit() or len(text) > LONGEST["IS"]:
        raise VerificationError(f"{name} has a count that is no whole number.")
    return int(digits)
