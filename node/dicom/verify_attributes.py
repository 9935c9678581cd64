"""Check an encoded data set: attributes that must be there, lengths of values, UIDs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from pydicom.datadict import tag_for_keyword

from node.dicom.encoded import PIXEL_DATA, Element, Elements, elements, items
from node.dicom.required_segmentation import Required
from node.dicom.verification import expect
from node.domain.errors import VerificationError

PER_FRAME_GROUPS = 0x52009230

# Longest values (PS3.5 table 6.2-1), in characters. Of LO and SH only ASCII is judged: in other character sets a
# character takes more than a byte.
LONGEST: Mapping[bytes, int] = {
    b"CS": 16,
    b"DA": 8,
    b"DS": 16,
    b"DT": 26,
    b"IS": 12,
    b"LO": 64,
    b"SH": 16,
    b"TM": 16,
    b"UI": 64,
}
# PS3.5 9.1: components without leading zeros.
_UID = re.compile(rb"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


def verify_required(written: bytes, found: Elements, required: Sequence[Required]) -> None:
    """Raise VerificationError unless every attribute is there, and those of type 1 with a value."""
    for one in required:
        for keyword in one.type_2:
            expect(_tag(keyword) in found, _lacks(keyword, one))
        for keyword in one.type_1:
            _value(found, keyword, one)
        for keyword, inside in one.items.items():
            for start, stop in items(written, _value(found, keyword, one)):
                verify_required(written, elements(written, start, stop), [inside])


def verify_values(written: bytes, found: Elements) -> None:
    """Raise VerificationError where a value is longer than its VR allows, or a UID is none; at every level.

    Per-frame Functional Groups and Pixel Data are left to whoever reads their frames.
    """
    for element in _every(written, found):
        longest = LONGEST.get(element.vr)
        if longest is None:
            continue
        for value in written[element.start : element.stop].split(b"\\"):
            text = value.strip(b" \0")
            fits = len(text) <= longest or (element.vr in (b"LO", b"SH") and not _is_ascii(text))
            expect(fits, f"A value of VR {element.vr.decode()} is longer than {longest} characters.")
            expect(element.vr != b"UI" or not text or _UID.fullmatch(text) is not None, "A UID is malformed.")


def _value(found: Elements, keyword: str, required: Required) -> Element:
    element = found.get(_tag(keyword))
    if element is None or element.start == element.stop:
        raise VerificationError(_lacks(keyword, required))
    return element


def _every(written: bytes, found: Elements) -> Iterator[Element]:
    for tag, element in found.items():
        if tag in (PER_FRAME_GROUPS, PIXEL_DATA):
            continue
        if element.vr != b"SQ":
            yield element
            continue
        for start, stop in items(written, element):
            yield from _every(written, elements(written, start, stop))


def _is_ascii(text: bytes) -> bool:
    # ISO 2022 announces its character sets with an escape, in bytes that are ASCII themselves.
    return text.isascii() and b"\x1b" not in text


@lru_cache(maxsize=1024)
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


def _lacks(keyword: str, required: Required) -> str:
    return f"{keyword} is missing (PS3.3 {required.clause})."
