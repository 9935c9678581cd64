"""Encoded data sets, read in place: Explicit VR Little Endian with lengths, as our results are written.

Beside pydicom, which takes most of a second to read a few thousand functional groups, and which forgives what a check
must see.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PIXEL_DATA = 0x7FE00010

_ITEM = 0xFFFEE000
_SEQUENCE_DELIMITATION = 0xFFFEE0DD
_UNDEFINED_LENGTH = 0xFFFFFFFF
# PS3.5 7.1.2: these have two reserved bytes and a length of 32 bits.
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_HEADER = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<L")
_ITEM_HEADER = struct.Struct("<HHL")


@dataclass(frozen=True, slots=True)
class Element:
    """Where the value of an element lies in the bytes."""

    vr: bytes
    start: int
    stop: int


Elements = dict[int, Element]


def elements(written: bytes, start: int, stop: int) -> Elements:
    """Give the elements of a data set or an item by tag.

    Pixel Data may have undefined length: it is the last element (PS3.5 7.3), so its value ends with the bytes.

    Raises
    ------
    ValueError
        An element has no VR, no length, or ends beyond the data set, or the order of tags is not kept.
    """
    found: Elements = {}
    at, before = start, -1
    while at < stop:
        try:
            group, number, vr, length = _HEADER.unpack_from(written, at)
            tag, at = group << 16 | number, at + 8
            if vr in _LONG_VRS:
                (length,) = _LENGTH.unpack_from(written, at)
                at += 4
        except struct.error as error:
            raise ValueError("the data set ends inside an element's header") from error
        if length == _UNDEFINED_LENGTH and tag == PIXEL_DATA:
            length = stop - at
        if tag <= before or not vr.isalpha() or length % 2 or at + length > stop:
            raise ValueError(f"element ({group:04X},{number:04X}) is damaged")
        found[tag] = Element(vr, at, at + length)
        at, before = at + length, tag
    return found


def items(written: bytes, sequence: Element) -> Iterator[tuple[int, int]]:
    """Yield where the content of each item of a sequence lies.

    Raises
    ------
    ValueError
        An item has no length, or ends beyond the sequence.
    """
    at = sequence.start
    while at < sequence.stop:
        tag, length = _item_header(written, at)
        at += 8
        if tag != _ITEM or at + length > sequence.stop:
            raise ValueError("an item is damaged")
        yield at, at + length
        at += length


def fragments(written: bytes, pixel_data: Element) -> list[tuple[int, int]]:
    """Give where each fragment of encapsulated Pixel Data lies, without the Basic Offset Table (PS3.5 A.4).

    Raises
    ------
    ValueError
        A fragment ends beyond the bytes, the delimiter is missing, or the table gives other offsets.
    """
    found = []
    at = pixel_data.start
    while True:
        tag, length = _item_header(written, at)
        at += 8
        if tag == _SEQUENCE_DELIMITATION and length == 0 and at == pixel_data.stop:
            break
        if tag != _ITEM or length % 2 or at + length > pixel_data.stop:
            raise ValueError("a fragment is damaged")
        found.append((at, at + length))
        at += length
    (table, *frames) = found
    offsets = [start - 8 - table[1] for start, _ in frames]
    if written[slice(*table)] not in (b"", struct.pack(f"<{len(offsets)}L", *offsets)):
        raise ValueError("the Basic Offset Table is wrong")
    return frames


def _item_header(written: bytes, at: int) -> tuple[int, int]:
    try:
        group, number, length = _ITEM_HEADER.unpack_from(written, at)
    except struct.error as error:
        raise ValueError("the data set ends inside an item's header") from error
    return group << 16 | number, length
