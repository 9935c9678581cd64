"""From Implicit to Explicit VR Little Endian, where that loses nothing.

Element by element over the bytes: read as data sets, the contours of a large structure set would take a gigabyte.
"""

import io
import struct

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.strict_reading import implicit_elements, items, read_file_meta, vr_of

# PS3.5 7.1.2: these VRs have 32 bits for their length, all others 16.
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_LONGEST = 0xFFFE
_TAG_AND_VR, _SHORT, _LONG = struct.Struct("<HH2s"), struct.Struct("<H"), struct.Struct("<2xL")
# PS3.5 7.5: an item of a sequence.
_ITEM = struct.Struct("<HHL")
_ITEM_TAG = (0xFFFE, 0xE000)


class _UnfitError(Exception):
    """A value has no place in Explicit VR under its own VR."""


def in_explicit_vr(written: bytes) -> bytes | None:
    """Give a file of ours in Implicit VR Little Endian in Explicit VR; None where a value is too long for its VR.

    Such a value would have to become UN (PS3.5 6.2.2), which planning systems cannot load: a Contour Data of more than
    some 2,700 points.

    Raises
    ------
    VerificationError
        The file is malformed.
    """
    _, start = read_file_meta(written)
    try:
        data_set = _explicit(written, start, len(written))
    except _UnfitError:
        return None
    meta = dcmread(io.BytesIO(written[:start])).file_meta
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return b"".join((written[:128], b"DICM", buffer.getvalue(), data_set))


def _explicit(data: bytes, first: int, last: int) -> bytes:
    """Encode the elements between two offsets anew."""
    encoded: list[bytes] = []
    for tag, start, stop in implicit_elements(data, first, last):
        vr = vr_of(tag)
        value = _sequence(data, start, stop) if vr == "SQ" else data[start:stop]
        encoded += (_header(tag, vr, len(value)), value)
    return b"".join(encoded)


def _sequence(data: bytes, first: int, last: int) -> bytes:
    encoded: list[bytes] = []
    for bounds in items(data, first, last):
        content = _explicit(data, *bounds)
        encoded += (_ITEM.pack(*_ITEM_TAG, len(content)), content)
    return b"".join(encoded)


def _header(tag: int, vr: str, length: int) -> bytes:
    # "US or SS": which one, only another element tells; none of ours has any.
    if len(vr) != 2 or (vr not in _LONG_VRS and length > _LONGEST):
        raise _UnfitError
    start = _TAG_AND_VR.pack(tag >> 16, tag & 0xFFFF, vr.encode())
    return start + (_LONG if vr in _LONG_VRS else _SHORT).pack(length)
