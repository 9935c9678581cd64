"""Encode the contours of a structure as items of Contour Sequence (PS3.3 C.8.8.6), in Implicit VR Little Endian.

pydicom would make an object of every item and of every number: seconds for a large set. Here the coordinates of a whole
structure become text at once.
"""

from collections.abc import Sequence
from itertools import pairwise
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.tag import Tag

from node.domain.structures import Structure

# Tag and length of an element or item (PS3.5 7.1.3, 7.5.1).
_HEADER = Struct("<HHL")
_NUMBER_OF_CONTOUR_POINTS = 0x3006, 0x0046
_CONTOUR_NUMBER = 0x3006, 0x0048
_CONTOUR_DATA = 0x3006, 0x0050
_ITEM = 0xFFFE, 0xE000

# So many decimals and 8 digits before them fill a DS: sign, digits, dot, decimals (PS3.5 table 6.2-1).
MOST_DECIMALS = 6

_SEPARATOR, _DOT, _MINUS, _ZERO = (np.uint8(one) for one in b"\\.-0")


def encoded_contours(structure: Structure, image_sequences: Sequence[bytes]) -> bytes:
    """Give the items of a structure's Contour Sequence; contours are numbered from 1.

    Parameters
    ----------
    image_sequences
        The value of Contour Image Sequence for each plane of the grid.
    """
    if not structure.contours:
        return b""
    points = np.concatenate([contour.points_lps_mm for contour in structure.contours])
    text, ends = decimal_strings(points.ravel())
    counts = [len(contour.points_lps_mm) for contour in structure.contours]
    # Where the text of each contour ends, behind the backslash that follows it.
    borders = [0, *ends[3 * np.cumsum(counts) - 1].tolist()]
    geometric_type = encoded_element("ContourGeometricType", structure.geometric_type.encode())
    before = {
        index: encoded_element("ContourImageSequence", image_sequences[index]) + geometric_type
        for index in {contour.slice_index for contour in structure.contours}
    }
    items = []
    for number, (contour, count, (first, last)) in enumerate(
        zip(structure.contours, counts, pairwise(borders), strict=True), start=1
    ):
        content = (
            before[contour.slice_index]
            + _element(_NUMBER_OF_CONTOUR_POINTS, b"%d" % count)
            + _element(_CONTOUR_NUMBER, b"%d" % number)
            + _element(_CONTOUR_DATA, text[first : last - 1])
        )
        items.append(encoded_item(content))
    return b"".join(items)


def decimal_strings(values: NDArray[np.float64]) -> tuple[bytes, NDArray[np.intp]]:
    """Write numbers as DS, each followed by a backslash: with the fewest decimals that give it back exactly.

    Contours are rounded, so a few decimals always do. Numbers with more than `MOST_DECIMALS` are rounded to as many.

    Parameters
    ----------
    values
        Shape (n,), n > 0; below 10**8 in size, or the text is longer than a DS may be.

    Returns
    -------
    The text, and where each number's backslash ends, shape (n,).
    """
    decimals, whole = _whole_numbers(values)
    rest: NDArray[Any] = np.abs(whole).astype(np.uint32 if np.abs(whole).max() < 2**32 else np.uint64)
    digits = max(len(str(int(rest.max()))), decimals + 1)
    # One column for each number: minus, digits with a dot between, backslash; then what is not needed falls out.
    characters = np.empty((digits + 2 + (decimals > 0), len(values)), dtype=np.uint8)
    kept = np.empty(characters.shape, dtype=np.bool_)
    characters[0], kept[0] = _MINUS, whole < 0
    characters[-1], kept[-1] = _SEPARATOR, True
    row = len(characters) - 2
    needed = np.zeros(len(values), dtype=np.bool_)
    for place in range(digits):
        if place == decimals > 0:
            characters[row], kept[row] = _DOT, needed
            row -= 1
        quotient = rest // 10
        digit = (rest - quotient * 10).astype(np.uint8)
        np.add(digit, _ZERO, out=characters[row])
        if place < decimals:
            needed |= digit != 0
            kept[row] = needed
        else:
            kept[row] = True if place == decimals else rest > 0
        rest = quotient
        row -= 1
    return characters.T[kept.T].tobytes(), np.cumsum(kept.sum(axis=0, dtype=np.intp))


def _whole_numbers(values: NDArray[np.float64]) -> tuple[int, NDArray[np.int64]]:
    """Give the number of decimals, and the values in units of the last one."""
    for decimals in range(MOST_DECIMALS + 1):
        scale = 10.0**decimals
        whole = np.rint(values * scale)
        # Both are whole, so the quotient is the number nearest to the decimal that will be written.
        if np.array_equal(whole / scale, values):
            break
    return decimals, whole.astype(np.int64)


def encoded_element(keyword: str, value: bytes) -> bytes:
    """Encode an element (PS3.5 7.1.3)."""
    tag = Tag(keyword)
    return _element((tag.group, tag.element), value)


def encoded_item(content: bytes) -> bytes:
    """Encode an item of a sequence, of explicit length (PS3.5 7.5.1)."""
    return _HEADER.pack(*_ITEM, len(content)) + content


def _element(tag: tuple[int, int], value: bytes) -> bytes:
    padded = value + b" " if len(value) % 2 else value
    return _HEADER.pack(*tag, len(padded)) + padded
