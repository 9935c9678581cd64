"""Read the outside of an encoded data set: its identifiers, and whether it is all there.

Walks the data elements without decoding them. pydicom cannot do this at the door: it returns a value shorter than its
length without a word, and recurses into nested sequences. This walk keeps its own stack, names what is missing, and
holds a few hundred bytes at a time, whatever the size: values are skipped, a deflated data set is inflated in pieces.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Protocol

from pydicom.uid import UID

from node.domain.arrival import Fragment, Readable
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

_KEPT = frozenset(
    (
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        SAMPLES_PER_PIXEL,
        NUMBER_OF_FRAMES,
        ROWS,
        COLUMNS,
        BITS_ALLOCATED,
    )
)
# Of a longer value the beginning is enough to refuse it.
_LONGEST_KEPT = 128

# Far above any single instance; stop a small or twisted data set from holding a processor for minutes.
LARGEST_INFLATED_BYTES = 2**31
DEEPEST_NESTING = 1_000
MOST_ELEMENTS = 2_000_000
_INFLATE_AT_ONCE = 2**18
_BEGINNING = 16 * 1024


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


def read_envelope(data_set: Readable, transfer_syntax_uid: str) -> Envelope:
    """Walk the whole data set once.

    Raises
    ------
    InputError
        The data set is empty, ends inside an element, is not encoded in its transfer syntax (PS3.5 7.1, 7.5, A), or
        is made of more elements or levels than any image.
    """
    walk, implicit_vr = _walk(data_set, transfer_syntax_uid)
    elements = {one.tag: one for one in walk.elements(implicit_vr=implicit_vr) if one.tag in _ASKED_FOR}
    if not walk.seen:
        raise InputError("The data set is empty")
    pixels = elements.get(PIXEL_DATA)
    native = pixels is not None and pixels.length is not None
    return Envelope(
        sop_class_uid=_text(elements.get(SOP_CLASS_UID)),
        sop_instance_uid=_text(elements.get(SOP_INSTANCE_UID)),
        study_instance_uid=_text(elements.get(STUDY_INSTANCE_UID)),
        series_instance_uid=_text(elements.get(SERIES_INSTANCE_UID)),
        pixel_bytes=pixels.length if pixels is not None else None,
        pixel_bytes_expected=walk.native_pixel_bytes(elements) if native else None,
    )


def series_of(data_set: Readable, transfer_syntax_uid: str) -> str:
    """Read the Series Instance UID of a data set that may be damaged behind it; empty where it cannot be read."""
    try:
        walk, implicit_vr = _walk(data_set, transfer_syntax_uid)
        for element in walk.elements(implicit_vr=implicit_vr):
            if element.tag == SERIES_INSTANCE_UID:
                return _text(element)
    except InputError:
        pass
    return ""


def name_of(tag: int) -> str:
    """Write a tag as the standard does: ``(7FE0,0010)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _walk(data_set: Readable, transfer_syntax_uid: str) -> tuple["_Walk", bool]:
    syntax = UID(transfer_syntax_uid)
    if not syntax.is_transfer_syntax:
        raise InputError("Its transfer syntax is not known")
    source = _Inflating(data_set) if syntax.is_deflated else _Bytes(data_set)
    return _Walk(source, little_endian=syntax.is_little_endian), syntax.is_implicit_VR


def _text(element: "_Element | None") -> str:
    """Give a value as text without its padding, PS3.5 6.2; empty where there is none."""
    return "" if element is None else element.value.decode("ascii", errors="replace").strip("\0 ")


class _Source(Protocol):
    """Bytes that are taken or skipped in order; fewer than asked for where they end."""

    def take(self, count: int) -> bytes: ...

    def skip(self, count: int) -> int: ...


class _Bytes:
    def __init__(self, data_set: Readable) -> None:
        self._bytes, self._end, self._position = data_set, len(data_set), 0
        # Where almost all elements of an image lie: taken out once, not for each of them.
        self._beginning = bytes(data_set[0:_BEGINNING])

    def take(self, count: int) -> bytes:
        start, end = self._position, self._position + count
        if end <= len(self._beginning):
            self._position = end
            return self._beginning[start:end]
        self._position = min(end, self._end)
        return bytes(self._bytes[start : self._position])

    def skip(self, count: int) -> int:
        start, self._position = self._position, min(self._position + count, self._end)
        return self._position - start


class _Inflating:
    """A deflated data set, PS3.5 A.5: a raw stream, maybe with one byte of padding behind it."""

    def __init__(self, deflated: Readable) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflated, self._position = deflated, 0
        self._waiting: Fragment = b""
        self._inflated = 0
        self._piece = b""

    def take(self, count: int) -> bytes:
        while len(self._piece) < count and (more := self._next()):
            self._piece += more
        taken, self._piece = self._piece[:count], self._piece[count:]
        return taken

    def skip(self, count: int) -> int:
        left = count
        while left:
            if not self._piece:
                self._piece = self._next()
                if not self._piece:
                    break
            passed = min(left, len(self._piece))
            self._piece = self._piece[passed:]
            left -= passed
        return count - left

    def _next(self) -> bytes:
        """Inflate some more; empty at the proper end of the stream."""
        while not self._inflate.eof:
            if not self._waiting:
                self._waiting = self._deflated[self._position : self._position + _INFLATE_AT_ONCE]
                self._position += len(self._waiting)
            if not self._waiting:
                raise InputError("The deflated data set ends early")
            try:
                piece = self._inflate.decompress(self._waiting, _INFLATE_AT_ONCE)
            except zlib.error as error:
                raise InputError("The deflated data set cannot be inflated") from error
            self._waiting = self._inflate.unconsumed_tail
            self._inflated += len(piece)
            if self._inflated > LARGEST_INFLATED_BYTES:
                raise InputError(f"Data set inflates to more than {LARGEST_INFLATED_BYTES} bytes")
            if piece:
                return piece
        return b""


_ASKED_FOR = _KEPT | {PIXEL_DATA}


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    # Bytes of its value; None: undefined length.
    length: int | None
    # Kept of a few elements only.
    value: bytes = b""


class _Walk:
    """Passes over encoded elements; each is proven to be there to its last byte before the next is looked at."""

    def __init__(self, source: _Source, *, little_endian: bool) -> None:
        order = "<" if little_endian else ">"
        self._source = source
        self._tag_and_long = Struct(f"{order}HHL")
        self._short = Struct(f"{order}H")
        self._long = Struct(f"{order}L")
        # Elements passed so far, at every level.
        self.seen = 0

    def elements(self, *, implicit_vr: bool) -> Iterator[_Element]:
        """Yield the elements of the top level."""
        while (header := self._header(implicit_vr, may_end=True)) is not None:
            tag, length, unknown = header
            if length is None:
                yield _Element(tag, None)
                # PS3.5 6.2.2: a UN of undefined length is encoded in Implicit VR.
                self._pass_undefined(tag, implicit_vr or unknown)
            else:
                kept = self._take(min(length, _LONGEST_KEPT), tag, length) if tag in _KEPT else b""
                self._skip(length - len(kept), tag, length)
                yield _Element(tag, length, kept)

    def native_pixel_bytes(self, elements: dict[int, _Element]) -> int | None:
        """Give the length that native Pixel Data needs (PS3.5 8.1.1); None where it cannot be told."""
        numbers = [self._unsigned(elements.get(tag)) for tag in (ROWS, COLUMNS, BITS_ALLOCATED, SAMPLES_PER_PIXEL)]
        frames = _text(elements.get(NUMBER_OF_FRAMES)) or "1"
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
        return int(self._short.unpack(element.value)[0])

    def _header(self, implicit_vr: bool, *, may_end: bool = False) -> tuple[int, int | None, bool] | None:
        """Read tag and length (None: undefined), and whether the VR is UN; None where the data set ends here."""
        head = self._source.take(8)
        if len(head) < 8:
            if may_end and not head:
                return None
            raise _ends_inside("an element's header", len(head), 8)
        self.seen += 1
        if self.seen > MOST_ELEMENTS:
            raise InputError(f"The data set has more than {MOST_ELEMENTS} elements")
        group, number, length = self._tag_and_long.unpack(head)
        tag, vr = group << 16 | number, b""
        if not implicit_vr and group != 0xFFFE:
            vr = head[4:6]
            if not (vr.isalpha() and vr.isupper()):
                raise InputError(f"{name_of(tag)} has no VR: not the transfer syntax that was agreed")
            if vr in _LONG_VRS:
                (length,) = self._long.unpack(self._take(4, tag, 4))
            else:
                (length,) = self._short.unpack_from(head, 6)
        return (tag, None, vr == b"UN") if length == _UNDEFINED_LENGTH else (tag, length, False)

    def _pass_undefined(self, outer: int, implicit_vr: bool) -> None:
        """Pass over the value of an element of undefined length, however deep it nests."""
        # For each open sequence or item: the delimiter that ends it, and the VR encoding inside.
        open_until = [(_SEQUENCE_DELIMITATION, implicit_vr)]
        while open_until:
            delimiter, implicit_inside = open_until[-1]
            header = self._header(implicit_inside, may_end=True)
            if header is None:
                raise InputError(f"Data set ends inside {name_of(outer)}, before its delimiter")
            tag, length, unknown = header
            if tag == delimiter:
                open_until.pop()
            elif tag in (_ITEM_DELIMITATION, _SEQUENCE_DELIMITATION):
                raise InputError(f"A delimiter inside {name_of(outer)} ends nothing")
            elif length is None:
                inner = _ITEM_DELIMITATION if tag == _ITEM else _SEQUENCE_DELIMITATION
                open_until.append((inner, implicit_inside or unknown))
                if len(open_until) > DEEPEST_NESTING:
                    raise InputError(f"{name_of(outer)} nests deeper than {DEEPEST_NESTING} levels")
            self._skip(length or 0, tag, length or 0)

    def _take(self, count: int, tag: int, length: int) -> bytes:
        taken = self._source.take(count)
        if len(taken) < count:
            raise _ends_inside(name_of(tag), len(taken), length)
        return taken

    def _skip(self, count: int, tag: int, length: int) -> None:
        passed = self._source.skip(count)
        if passed < count:
            raise _ends_inside(name_of(tag), length - count + passed, length)


def _ends_inside(what: str, there: int, wanted: int) -> InputError:
    return InputError(f"Data set ends inside {what}: {there} of {wanted} bytes")
