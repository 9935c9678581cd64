"""Read a data set that this node wrote, in Implicit or Explicit VR Little Endian, believing no length and no value.

pydicom reads what it can: it returns a value that is cut off, and numbers without their text. Here each element must
end where its item ends, tags must rise, and values must obey their VR (PS3.5 6.2, 7.1, 7.5).
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from struct import Struct

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.valuerep import PN_DELIMS, STANDARD_VR, TEXT_VR_DELIMS

from node.dicom.verification import expect
from node.domain.errors import VerificationError

# Tag and length, 8 bytes, of an element or item.
_unpack_header = Struct("<HHL").unpack_from
# The same with a VR (PS3.5 7.1.2), of which the length has two bytes, or with two reserved ones before four.
_unpack_explicit_header = Struct("<HH2sH").unpack_from
_unpack_length = Struct("<L").unpack_from
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_ANY_VR = frozenset(vr.value.encode() for vr in STANDARD_VR)
_UNDEFINED_LENGTH = 0xFFFF_FFFF
# Group Length of group 0002, before its value.
_FILE_META_START = b"DICM\x02\x00\x00\x00UL\x04\x00"
PIXEL_DATA = 0x7FE0_0010
_ITEM = 0xFFFE_E000
_SPECIFIC_CHARACTER_SET = 0x0008_0005
# Ours go six deep; a damaged length must not be followed for ever.
_DEEPEST = 16

DISORDER = "The written object is malformed: its elements are not in order."
CUT = "The written object is malformed: an element ends beyond what holds it."

# Longest value in characters (PS3.5 table 6.2-1); of PN, each component group.
LONGEST = {
    "AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "DT": 26, "IS": 12, "LO": 64, "LT": 10240, "PN": 64, "SH": 16,
    "ST": 1024, "TM": 16, "UI": 64,
}  # fmt: skip
# Text in the data set's character set, and those of them that never have several values.
_OF_CHARACTER_SET = ("LO", "LT", "PN", "SH", "ST")
_SINGLE = ("LT", "ST")
# After these a text is in the first character set again (PS3.5 6.1.2.5.3).
_DELIMITERS = TEXT_VR_DELIMS | PN_DELIMS | {ord("\\"), ord("=")}
_FORM = {
    # Leading zeros pass: some scanners write them, and what they named must be named so.
    "UI": re.compile(r"[0-9]+(\.[0-9]+)*"),
    "CS": re.compile(r"[A-Z0-9_ ]*"),
    "DA": re.compile(r"\d{8}|"),
    "TM": re.compile(r"(([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?)?"),
    "DS": re.compile(r" *[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|"),
    "IS": re.compile(r" *[+-]?\d+|"),
}


@dataclass(slots=True)
class Item:
    """A data set or an item of a sequence, by tag."""

    values: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, list["Item"]] = field(default_factory=dict)
    # Where elements lie that were to be left as they are.
    left: dict[int, tuple[int, int]] = field(default_factory=dict)

    def text(self, keyword: str) -> str:
        """Give a value without its padding.

        Raises
        ------
        LookupError, ValueError
            It is not there, or not ASCII.
        """
        return self.values[tag_of(keyword)].decode("ascii").rstrip("\0 ")

    def number(self, keyword: str) -> int:
        """Give a value of IS, or of US."""
        value = self.values[tag_of(keyword)]
        if vr_of(tag_of(keyword)).startswith("US"):
            expect(len(value) == 2, f"{keyword} is not one number.")
            return int.from_bytes(value, "little")
        return int(value)

    def numbers(self, keyword: str) -> list[int]:
        """Give the values of IS; none where it is not there."""
        return [int(text) for text in self.values[tag_of(keyword)].split(b"\\")] if self.has(keyword) else []

    def decimals(self, keyword: str) -> list[float]:
        """Give the values of DS."""
        return [float(text) for text in self.values[tag_of(keyword)].split(b"\\")]

    def items(self, keyword: str) -> list["Item"]:
        """Give the items of a sequence; none where it is not there."""
        return self.sequences.get(tag_of(keyword), [])

    def item(self, keyword: str) -> "Item":
        """Give the only item of a sequence."""
        items = self.items(keyword)
        expect(len(items) == 1, f"{keyword} has {len(items)} items instead of one.")
        return items[0]

    def has(self, keyword: str) -> bool:
        """Tell whether an element is there, empty or not."""
        tag = tag_of(keyword)
        return tag in self.values or tag in self.sequences or tag in self.left

    def is_empty(self, keyword: str) -> bool:
        """Tell whether an element that is there has no value or no item."""
        tag = tag_of(keyword)
        first, last = self.left.get(tag, (0, 0))
        value = self.values.get(tag, b"")
        # What pads a text is a number elsewhere.
        value = value.strip(b"\0 ") if vr_of(tag) in LONGEST else value
        return not (value or self.sequences.get(tag) or first < last)

    def all_items(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], "Item"]]:
        """Give this one and every item below it, with the keywords of the sequences that lead there."""
        yield path, self
        for tag, items in self.sequences.items():
            for item in items:
                yield from item.all_items((*path, keyword_for_tag(tag)))


# Tag, start and end of the value of each element between two offsets, in the order of their tags.
Found = list[tuple[int, int, int]]
Elements = Callable[[bytes, int, int], Found]


@lru_cache(maxsize=1024)
def tag_of(keyword: str) -> int:
    """Give the tag as a number; LookupError where there is none."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    return tag


@lru_cache(maxsize=1024)
def vr_of(tag: int) -> str:
    """Give the VR by the standard, as in "US or SS" where it has several."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


class Reader:
    """Reads items of one object; what it found to obey its VR is not looked at again.

    Parameters
    ----------
    elements_of
        How the elements are encoded: ``implicit_elements`` or ``explicit_elements``.
    leave
        Tags of elements to be left as they are.
    """

    def __init__(self, data: bytes, elements_of: Elements, leave: Collection[int] = ()) -> None:
        self._data, self._elements_of, self._leave = data, elements_of, leave
        self._sound: set[tuple[str, bytes, tuple[str, ...]]] = set()

    def item(self, first: int, last: int) -> Item:
        """Read the elements between two offsets, and the items of their sequences.

        Raises
        ------
        VerificationError
            An element breaks its bounds, its order or its VR; of which ValueError and others may say so too.
        """
        return self._item(first, last, tuple(convert_encodings("")), 0)

    def _item(self, first: int, last: int, encodings: tuple[str, ...], depth: int) -> Item:
        expect(depth <= _DEEPEST, "The written object is malformed: its sequences are too deep.")
        item, data = Item(), self._data
        for tag, start, end in self._elements_of(data, first, last):
            if tag in self._leave:
                item.left[tag] = start, end
                continue
            vr = vr_of(tag)
            if vr == "SQ":
                item.sequences[tag] = [self._item(*bounds, encodings, depth + 1) for bounds in items(data, start, end)]
                continue
            value = item.values[tag] = data[start:end]
            if tag == _SPECIFIC_CHARACTER_SET:
                encodings = tuple(convert_encodings([one.strip() for one in value.decode("ascii").split("\\")]))
                _check(tag, vr, value, encodings)
            elif (vr, value, encodings) not in self._sound:
                _check(tag, vr, value, encodings)
                if vr != "UN":
                    self._sound.add((vr, value, encodings))
        return item


def read_file_meta(data: bytes) -> tuple[Item, int]:
    """Read File Meta Information (PS3.10 7.1), and give where it ends.

    Raises
    ------
    VerificationError
        It is not there, or breaks its bounds, its order or its VRs; of which struct.error and others may say so too.
    """
    expect(
        data[128:144].startswith(_FILE_META_START), "The written object is malformed: it has no file meta information."
    )
    end = 144 + int.from_bytes(data[140:144], "little")
    expect(end <= len(data), CUT)
    meta = Reader(data, explicit_elements).item(144, end)
    expect(all(tag >> 16 == 2 for tag in (*meta.values, *meta.sequences)), "Its file meta information is malformed.")
    return meta, end


def implicit_elements(data: bytes, first: int, last: int) -> Found:
    """Give the elements of a data set or an item in Implicit VR Little Endian (PS3.5 7.1.3)."""
    found = []
    before = -1
    while first < last:
        tag, start, first = _header(data, first, last)
        if tag <= before:
            raise VerificationError(DISORDER)
        found.append((tag, start, first))
        before = tag
    return found


def explicit_elements(data: bytes, first: int, last: int) -> Found:
    """Give the elements of a data set or an item in Explicit VR Little Endian (PS3.5 7.1.2), each of the VR it must be.

    Pixel Data may have undefined length: it is the last element of a data set (PS3.5 7.3).
    """
    found = []
    before = -1
    while first < last:
        group, element, vr, length = _unpack_explicit_header(data, first)
        tag, first = group << 16 | element, first + 8
        if vr in _LONG_VRS:
            (length,) = _unpack_length(data, first)
            first += 4
            if length == _UNDEFINED_LENGTH and tag == PIXEL_DATA:
                length = last - first
        if tag <= before:
            raise VerificationError(DISORDER)
        if first + length > last:
            raise VerificationError(CUT)
        if vr not in _encoded_vrs(tag):
            raise VerificationError(f"{_name(tag)} has another VR than its own.")
        found.append((tag, first, first + length))
        before, first = tag, first + length
    return found


@lru_cache(maxsize=1024)
def _encoded_vrs(tag: int) -> Collection[bytes]:
    """Give the VRs that an element may have; a private one, any."""
    return [vr.encode() for vr in vr_of(tag).split(" or ")] if dictionary_has_tag(tag) else _ANY_VR


def items(data: bytes, first: int, last: int) -> list[tuple[int, int]]:
    """Give start and end of each item of a sequence."""
    found = []
    while first < last:
        tag, start, first = _header(data, first, last)
        if tag != _ITEM:
            raise VerificationError("The written object is malformed: a sequence holds something else than items.")
        found.append((start, first))
    return found


def _header(data: bytes, first: int, last: int) -> tuple[int, int, int]:
    """Give tag, start and end of what begins at an offset; an item has a tag like an element."""
    if last - first < 8:
        raise VerificationError(CUT)
    group, element, length = _unpack_header(data, first)
    end = first + 8 + length
    # An undefined length, which we never write, is longer than any file.
    if end > last:
        raise VerificationError(CUT)
    return group << 16 | element, first + 8, end


def _check(tag: int, vr: str, value: bytes, encodings: Sequence[str]) -> None:
    """Raise VerificationError unless a value obeys its VR."""
    if vr == "UN" and not tag >> 16 & 1:
        raise VerificationError(f"{_name(tag)} is an attribute that the standard does not know.")
    if len(value) % 2:
        raise VerificationError(f"{_name(tag)} has an odd length.")
    if vr not in LONGEST:
        return
    text = decode_bytes(value, list(encodings), _DELIMITERS) if vr in _OF_CHARACTER_SET else value.decode("ascii")
    for one in [text] if vr in _SINGLE else text.split("\\"):
        _check_one(tag, vr, one.rstrip("\0 " if vr == "UI" else " "))


def _check_one(tag: int, vr: str, text: str) -> None:
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise VerificationError(f"{_name(tag)} has bytes that are not of its character set.")
    longest = max(map(len, text.split("="))) if vr == "PN" else len(text)
    if longest > LONGEST[vr]:
        raise VerificationError(f"{_name(tag)} has a value of {longest} characters, longer than {LONGEST[vr]} ({vr}).")
    # The source's own character set, as the source calls it.
    form = None if tag == _SPECIFIC_CHARACTER_SET else _FORM.get(vr)
    if (form is not None and form.fullmatch(text) is None) or (vr == "DA" and not _is_date(text)):
        raise VerificationError(f"{_name(tag)} has a value that is no {vr}.")


def _is_date(digits: str) -> bool:
    """Tell whether there was such a day; no digits are no date, and sound."""
    try:
        return not digits or bool(date(int(digits[:4]), int(digits[4:6]), int(digits[6:])))
    except ValueError:
        return False


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
