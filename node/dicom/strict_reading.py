"""Read a data set that this node wrote, in Implicit VR Little Endian, believing no length and no value.

pydicom reads what it can: it returns a value that is cut off, and numbers without their text. Here each element must
end where its item ends, tags must rise, and values must obey their VR (PS3.5 6.2, 7.1.3, 7.5).
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from node.dicom.verification import expect
from node.domain.errors import VerificationError

# Tag and length, 8 bytes, of an element or item.
_unpack_header = Struct("<HHL").unpack_from
# The same with a VR (PS3.5 7.1.2), of which the length has two bytes.
_unpack_explicit_header = Struct("<HH2sH").unpack_from
# Group Length of group 0002, before its value.
_FILE_META_START = b"DICM\x02\x00\x00\x00UL\x04\x00"
_ITEM = 0xFFFE_E000
_SPECIFIC_CHARACTER_SET = 0x0008_0005
# Ours go six deep; a damaged length must not be followed for ever.
_DEEPEST = 16

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
        if dictionary_VR(tag_of(keyword)) == "US":
            expect(len(value) == 2, f"{keyword} is not one number.")
            return int.from_bytes(value, "little")
        return int(value)

    def numbers(self, keyword: str) -> list[int]:
        """Give the values of IS; none where it is not there."""
        return [int(text) for text in self.values[tag_of(keyword)].split(b"\\")] if self.has(keyword) else []

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
        return not (self.values.get(tag, b"").strip(b"\0 ") or self.sequences.get(tag) or first < last)

    def all_items(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], "Item"]]:
        """Give this one and every item below it, with the keywords of the sequences that lead there."""
        yield path, self
        for tag, items in self.sequences.items():
            for item in items:
                yield from item.all_items((*path, keyword_for_tag(tag)))


@lru_cache(maxsize=1024)
def tag_of(keyword: str) -> int:
    """Give the tag as a number; LookupError where there is none."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    return tag


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
    meta = Item()
    before, first = 0x0002_0000, 144
    while first < end:
        group, element, vr, length = _unpack_explicit_header(data, first)
        tag, start = group << 16 | element, first + 8
        if vr == b"OB":
            # Two reserved bytes were taken for the length.
            length, start = int.from_bytes(data[first + 8 : first + 12], "little"), first + 12
        first = start + length
        expect(before < tag <= 0x0002_FFFF and vr == _vr_of(tag).encode(), "Its file meta information is malformed.")
        expect(first <= end, CUT)
        before = tag
        meta.values[tag] = data[start:first]
        _check(tag, vr.decode(), data[start:first], convert_encodings(""))
    return meta, end


def read_item(data: bytes, first: int, last: int, leave: Collection[int] = ()) -> Item:
    """Read the elements between two offsets, and the items of their sequences.

    Raises
    ------
    VerificationError
        An element breaks its bounds, its order or its VR; of which ValueError and others may say so too.
    """
    return _read_item(data, first, last, leave, convert_encodings(""), 0)


def _read_item(data: bytes, first: int, last: int, leave: Collection[int], encodings: list[str], depth: int) -> Item:
    expect(depth <= _DEEPEST, "The written object is malformed: its sequences are too deep.")
    item = Item()
    for tag, start, end in elements(data, first, last):
        vr = _vr_of(tag)
        if tag in leave:
            item.left[tag] = start, end
        elif vr == "SQ":
            item.sequences[tag] = [
                _read_item(data, *bounds, leave, encodings, depth + 1) for bounds in items(data, start, end)
            ]
        else:
            item.values[tag] = data[start:end]
            if tag == _SPECIFIC_CHARACTER_SET:
                encodings = convert_encodings([one.strip() for one in data[start:end].decode("ascii").split("\\")])
            _check(tag, vr, data[start:end], encodings)
    return item


def elements(data: bytes, first: int, last: int) -> list[tuple[int, int, int]]:
    """Give tag, start and end of the value of each element between two offsets, in the order of their tags."""
    found = []
    before = -1
    while first < last:
        tag, start, end = _header(data, first, last)
        if tag <= before:
            raise VerificationError("The written object is malformed: its elements are not in order.")
        found.append((tag, start, end))
        before, first = tag, end
    return found


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


@lru_cache(maxsize=1024)
def _vr_of(tag: int) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


def _check(tag: int, vr: str, value: bytes, encodings: list[str]) -> None:
    """Raise VerificationError unless a value obeys its VR."""
    if vr == "UN" and not tag >> 16 & 1:
        raise VerificationError(f"{_name(tag)} is an attribute that the standard does not know.")
    if len(value) % 2:
        raise VerificationError(f"{_name(tag)} has an odd length.")
    if vr not in LONGEST:
        return
    text = decode_bytes(value, encodings, _DELIMITERS) if vr in _OF_CHARACTER_SET else value.decode("ascii")
    for one in [text] if vr in _SINGLE else text.split("\\"):
        _check_one(tag, vr, one.rstrip("\0 " if vr == "UI" else " "))


def _check_one(tag: int, vr: str, text: str) -> None:
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise VerificationError(f"{_name(tag)} has bytes that are not of its character set.")
    longest = max(map(len, text.split("="))) if vr == "PN" else len(text)
    if longest > LONGEST[vr]:
        raise VerificationError(f"{_name(tag)} has a value of {longest} characters; {vr} holds {LONGEST[vr]}.")
    # The source's own character set, as the source calls it.
    form = None if tag == _SPECIFIC_CHARACTER_SET else _FORM.get(vr)
    if form is not None and form.fullmatch(text) is None:
        raise VerificationError(f"{_name(tag)} has a value that is no {vr}.")


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
