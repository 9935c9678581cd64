"""Read the contours of a written ROI from its bytes, all numbers at once.

Shares no code with the writer. A coordinate is what PS3.5 table 6.2-1 calls fixed point: digits, with a dot and digits
behind it or not, with a minus before it or not; nothing else passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag

from node.dicom.strict_reading import LONGEST, implicit_elements, items
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
# A strip narrower than the coordinates tell apart becomes a line: so long may it be, which nobody sees.
LEFT_BY_ROUNDING_MM = 0.15
Floats = NDArray[np.float64]

_GEOMETRIC_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
# Tag and length of an element (PS3.5 7.1.3), the tag's two parts as one number.
_unpack_header = Struct("<LL").unpack_from
_ENCODED_TAGS = [tag >> 16 | (tag & 0xFFFF) << 16 for tag in _ALWAYS]
_BACKSLASH, _DOT, _MINUS = (np.uint8(one) for one in b"\\.-")
# Of the eight characters in a word: what makes digits numbers, what lifts all but numbers to the highest bit, that bit.
_ZEROS, _ABOVE_NINE, _HIGH_BITS = (np.uint64(byte * 0x0101010101010101) for byte in (0x30, 0x76, 0x80))
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
        There is no contour, one is no closed polygon of at least 3 points, its first point is repeated, a point is
        there twice in a row, a line goes out and back at once, or the types of contours are mixed.
    """
    contours = [_fields(data, *bounds, name) for bounds in items(data, first, last)]
    expect(bool(contours), f"{name} has an empty Contour Sequence.")
    images, types, counts, numbers, padded = zip(*contours, strict=True)
    geometric_type = types[0].decode("ascii").rstrip()
    expect(geometric_type in _GEOMETRIC_TYPES, f"{name} has a contour that is no closed polygon.")
    expect(len(set(types)) == 1, f"{name} has contours of several geometric types.")
    expect(len(set(_whole_numbers(numbers, name))) == len(numbers), f"{name} has a Contour Number twice.")
    counted = np.array(_whole_numbers(counts, name), dtype=np.intp)
    texts = [text[:-1] if text.endswith(b" ") else text for text in padded]
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
    _verify_lines(points, counted, name)
    planes = np.array([plane_of(image) for image in images], dtype=np.intp)
    return WrittenContours(geometric_type, planes, counted, points)


def _verify_lines(points: Points, counts: NDArray[np.intp], name: str) -> None:
    """Raise VerificationError where a line stays on a point, or goes out and back at once."""
    ends = np.cumsum(counts)
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = ends - counts
    expect(not len(_same(points, following)), f"{name} has a contour that repeats a point.")
    tips = following[_same(points, following[following])]
    lengths_mm = np.linalg.norm(points[tips] - points[following[tips]], axis=1)
    expect(lengths_mm.max(initial=0) <= LEFT_BY_ROUNDING_MM, f"{name} has a contour that goes out and back at once.")


def _same(points: Points, others: NDArray[np.intp]) -> NDArray[np.intp]:
    """Give which points are where their others are; numbers that were written alike were read alike."""
    # One axis rules out nearly all.
    alike = np.flatnonzero(points[others, 0] == points[:, 0])
    return np.asarray(alike[(points[others[alike]] == points[alike]).all(axis=1)], dtype=np.intp)


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
    lead = LONGEST["DS"]
    # One backslash behind the last number, and as many before the first as may be looked back.
    padded = b"\\" * lead + text + b"\\"
    characters = np.frombuffer(padded, dtype=np.uint8)
    is_dot = characters == _DOT
    borders = np.flatnonzero(is_dot | (characters == _BACKSLASH))[lead - 1 :]
    # Digits stand between two borders: those of a number in one stretch, or in two with a dot between.
    starts, ends = borders[:-1] + 1, borders[1:]
    behind_dot, before_dot = is_dot[borders[:-1]], is_dot[ends]
    last = np.flatnonzero(~before_dot)
    expect(
        int(np.diff(ends[last], prepend=lead - 1).max()) - 1 <= lead,
        f"{name} has a coordinate longer than {lead} bytes.",
    )
    signed = (characters[starts] == _MINUS) & ~behind_dot
    lengths = ends - starts - signed
    digits, sound = _digits(padded, ends, lengths)
    sound &= (lengths > 0) & ~(behind_dot & before_dot)
    expect(bool(sound.all()), f"{name} has a coordinate that is no number.")
    has_decimals = behind_dot[last]
    first = last - has_decimals
    scale = _POWERS[np.where(has_decimals, lengths[last], 0)]
    # Both are whole and, with up to 15 digits, exact: the quotient is the nearest number.
    sizes = np.where(has_decimals, digits[first] * scale + digits[last], digits[last]) / scale
    return np.where(signed[first], -sizes, sizes), ends[last] - lead + 1


def _digits(text: bytes, ends: NDArray[np.intp], lengths: NDArray[np.intp]) -> tuple[Floats, NDArray[np.bool_]]:
    """Read up to 16 digits before each end; and tell where they are digits."""
    numbers, sound = _eight_digits(text, ends, np.minimum(lengths, 8))
    if int(lengths.max()) > 8:
        above, also = _eight_digits(text, ends - 8, np.clip(lengths - 8, 0, 8))
        numbers, sound = above * np.uint64(10**8) + numbers, sound & also
    return numbers.astype(np.float64), sound


def _eight_digits(
    text: bytes, ends: NDArray[np.intp], lengths: NDArray[np.intp]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Read up to 8 digits before each end as one word, its highest byte the last digit."""
    words_at = np.ndarray((len(text) - 7,), dtype="<u8", buffer=text, strides=(1,))
    # What is before the digits is 0.
    nothing = np.uint64(64) - np.uint64(8) * lengths.astype(np.uint64)
    word = (words_at[ends - 8] ^ _ZEROS) >> nothing << nothing
    sound = ((word + _ABOVE_NINE) | word) & _HIGH_BITS == 0
    # Neighbours become tens and units, these hundreds, these the whole.
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    word = (word * np.uint64(10_000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    return word, sound


def _fields(data: bytes, first: int, last: int, name: str) -> tuple[bytes, ...]:
    """Give image, type, count, number and coordinates of a contour, as written."""
    values = []
    at = first
    for wanted in _ENCODED_TAGS:
        tag, length = _unpack_header(data, at)
        start = at + 8
        at = start + length
        if tag != wanted or at > last:
            raise _wrong_fields(data, first, last, name)
        values.append(data[start:at])
    if at != last:
        raise _wrong_fields(data, first, last, name)
    return tuple(values)


def _wrong_fields(data: bytes, first: int, last: int, name: str) -> VerificationError:
    tags = [tag for tag, _, _ in implicit_elements(data, first, last)]
    missing = ", ".join(keyword_for_tag(tag) for tag in _ALWAYS if tag not in tags)
    if missing:
        return VerificationError(f"{name} has a contour without {missing}.")
    return VerificationError(f"{name} has a contour with more than belongs to it.")


def _whole_numbers(texts: Sequence[bytes], name: str) -> list[int]:
    digits = [text.rstrip(b" ") for text in texts]
    sound = all(map(bytes.isdigit, digits)) and max(map(len, texts)) <= LONGEST["IS"]
    expect(sound, f"{name} has a count that is no whole number.")
    return list(map(int, digits))
