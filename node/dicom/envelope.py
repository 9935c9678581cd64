"""Read the outside of an encoded data set: its identifiers, and whether it is all there.

Walks the data elements without decoding them. pydicom cannot do this at the door: it returns a value shorter than its
length without a word, and recurses into nested sequences. This walk keeps its own stack and names what is missing.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from pydicom.uid import UID

from node.domain.errors import InputError

SOP_CLASS_UID = 0x0008_0016
SOP_INSTANCE_UID = 0x0008_0018
STUDY_INSTANCE_UID = 0x0020_000D
SERIES_INSTANCE_UID = 0x0020_000E
SAMPLES_PER_PIXEL = 0x0028_0002
NUMBER_OF_FRAMES = 0x0028_0008
ROWS = 0x0028_0010
COLUMNS = 0x0028_0011
BITS_ALLOCATED = 0x0028_0100
PIXEL_DATA = 0x7FE0_0010

# PS3.5 7.5: items and delimiters have no VR in any transfer syntax.
_ITEM = 0xFFFE_E000
_ITEM_DELIMITATION = 0xFFFE_E00D
_SEQUENCE_DELIMITATION = 0xFFFE_E0DD
_UNDEFINED_LENGTH = 0xFFFF_FFFF
# PS3.5 7.1.2: these VRs have two reserved bytes and a 32-bit length.
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))

# Far above any single instance; stops a small data set from inflating until memory is gone.
LARGEST_INFLATED_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What the outside says. UIDs are as sent, without padding; empty where absent."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    # Bytes of native Pixel Data that are there, and that Rows, Columns, Bits Allocated, Samples per Pixel and Number
    # of Frames ask for; None where there is no native Pixel Data or an attribute is absent.
    pixel_bytes: int | None
    pixel_bytes_expected: int | None


def read_envelope(data_set: bytes, transfer_syntax_uid: str) -> Envelope:
    """Walk the whole data set once.

    Raises
    ------
    InputError
        The data set is empty, ends inside an element, or is not encoded in its transfer syntax (PS3.5 7.1, 7.5, A).
    """
    syntax = UID(transfer_syntax_uid)
    if syntax.is_deflated:
        data_set = _inflated(data_set)
    walk = _Walk(data_set, little_endian=syntax.is_little_endian)
    elements = {one.tag: one for one in walk.elements(implicit_vr=syntax.is_implicit_VR)}
    if not elements:
        raise InputError("The data set is empty")
    pixels = elements.get(PIXEL_DATA)
    native = pixels is not None and pixels.length is not None
    return Envelope(
        sop_class_uid=walk.text(elements.get(SOP_CLASS_UID)),
        sop_instance_uid=walk.text(elements.get(SOP_INSTANCE_UID)),
        study_instance_uid=walk.text(elements.get(STUDY_INSTANCE_UID)),
        series_instance_uid=walk.text(elements.get(SERIES_INSTANCE_UID)),
        pixel_bytes=pixels.length if pixels is not None else None,
        pixel_bytes_expected=walk.native_pixel_bytes(elements) if native else None,
    )


def series_of(data_set: bytes, transfer_syntax_uid: str) -> str:
    """Read the Series Instance UID of a data set that may be damaged behind it; empty where it cannot be read."""
    syntax = UID(transfer_syntax_uid)
    try:
        if syntax.is_deflated:
            data_set = _inflated(data_set)
        walk = _Walk(data_set, little_endian=syntax.is_little_endian)
        for element in walk.elements(implicit_vr=syntax.is_implicit_VR):
            if element.tag == SERIES_INSTANCE_UID:
                return walk.text(element)
    except (InputError, ValueError):
        pass
    return ""


def name_of(tag: int) -> str:
    """Write a tag as the standard does: ``(7FE0,0010)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    # Where the value begins, and its length in bytes; None: undefined length.
    start: int
    length: int | None


class _Walk:
    """The encoded bytes with what is needed to read numbers from them."""

    def __init__(self, data_set: bytes, *, little_endian: bool) -> None:
        order = "<" if little_endian else ">"
        self._bytes = data_set
        self._tag_and_long = Struct(f"{order}HHL")
        self._short = Struct(f"{order}H")
        self._long = Struct(f"{order}L")

    def elements(self, *, implicit_vr: bool) -> Iterator[_Element]:
        """Yield the elements of the top level, each proven to be there to its last byte."""
        position = 0
        while position < len(self._bytes):
            element, unknown = self._element_at(position, implicit_vr)
            yield element
            if element.length is None:
                # PS3.5 6.2.2: a UN of undefined length is encoded in Implicit VR.
                position = self._end_of_undefined(element, implicit_vr or unknown)
            else:
                position = element.start + element.length

    def text(self, element: _Element | None) -> str:
        """Give a value as text without its padding, PS3.5 6.2; empty where there is none."""
        if element is None or not element.length:
            return ""
        value = self._bytes[element.start : element.start + element.length]
        return value.decode("ascii", errors="replace").strip("\0 ")

    def native_pixel_bytes(self, elements: dict[int, _Element]) -> int | None:
        """Give the length that native Pixel Data needs (PS3.5 8.1.1); None where it cannot be told."""
        numbers = [self._unsigned(elements.get(tag)) for tag in (ROWS, COLUMNS, BITS_ALLOCATED, SAMPLES_PER_PIXEL)]
        frames = self.text(elements.get(NUMBER_OF_FRAMES)) or "1"
        # PS3.5 6.2: IS has at most 12 characters; Python refuses to convert some thousands.
        if None in numbers or not frames.isdecimal() or len(frames) > 12:
            return None
        bits = int(frames)
        for number in numbers:
            bits *= number or 0
        return (bits + 7) // 8

    def _unsigned(self, element: _Element | None) -> int | None:
        if element is None or element.length != 2:
            return None
        return int(self._short.unpack_from(self._bytes, element.start)[0])

    def _element_at(self, position: int, implicit_vr: bool) -> tuple[_Element, bool]:
        """Read one header and prove that its value is there; also tell whether its VR is UN."""
        self._need(position, 8, "an element's header")
        group, number, length = self._tag_and_long.unpack_from(self._bytes, position)
        tag, start, vr = group << 16 | number, position + 8, b""
        if not implicit_vr and group != 0xFFFE:
            vr = self._bytes[position + 4 : position + 6]
            if not (vr.isalpha() and vr.isupper()):
                raise InputError(f"{name_of(tag)} has no VR: not the transfer syntax that was agreed")
            if vr in _LONG_VRS:
                self._need(position, 12, name_of(tag))
                (length,), start = self._long.unpack_from(self._bytes, position + 8), position + 12
            else:
                (length,) = self._short.unpack_from(self._bytes, position + 6)
        if length == _UNDEFINED_LENGTH:
            return _Element(tag, start, None), vr == b"UN"
        self._need(start, length, name_of(tag))
        return _Element(tag, start, length), False

    def _end_of_undefined(self, outer: _Element, implicit_vr: bool) -> int:
        """Give the position behind the delimiter of an element of undefined length, however deep it nests."""
        # For each open sequence or item: the delimiter that ends it, and the VR encoding inside.
        open_until = [(_SEQUENCE_DELIMITATION, implicit_vr)]
        position = outer.start
        while open_until:
            delimiter, implicit_inside = open_until[-1]
            if position >= len(self._bytes):
                raise InputError(f"Data set ends inside {name_of(outer.tag)}, before its delimiter")
            element, unknown = self._element_at(position, implicit_inside)
            if element.tag == delimiter:
                open_until.pop()
            elif element.tag in (_ITEM_DELIMITATION, _SEQUENCE_DELIMITATION):
                raise InputError(f"A delimiter inside {name_of(outer.tag)} ends nothing")
            elif element.length is None:
                inner = _ITEM_DELIMITATION if element.tag == _ITEM else _SEQUENCE_DELIMITATION
                open_until.append((inner, implicit_inside or unknown))
            position = element.start + (element.length or 0)
        return position

    def _need(self, start: int, length: int, what: str) -> None:
        there = len(self._bytes) - start
        if there < length:
            raise InputError(f"Data set ends inside {what}: {max(there, 0)} of {length} bytes")


def _inflated(deflated: bytes) -> bytes:
    """Undo the deflate of PS3.5 A.5: a raw stream, maybe with one byte of padding behind it."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data_set = inflate.decompress(deflated, LARGEST_INFLATED_BYTES)
    except zlib.error as error:
        raise InputError("The deflated data set cannot be inflated") from error
    if inflate.eof:
        return data_set
    if len(data_set) >= LARGEST_INFLATED_BYTES:
        raise InputError(f"Data set inflates to more than {LARGEST_INFLATED_BYTES} bytes")
    raise InputError(f"The deflated data set ends early: {len(deflated)} bytes")
