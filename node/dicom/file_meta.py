"""Read the File Meta Information that stands before the data set of a DICOM file (PS3.10 7.1)."""

import re
import struct
from dataclasses import dataclass

from node.domain.errors import InputError

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"

_PREAMBLE_LENGTH = 128
_PREFIX = b"DICM"
_META_GROUP = b"\x02\x00"
# (0002,0000) or (0002,0001) without a preamble before it: some writers forget the preamble.
_META_STARTS = (b"\x02\x00\x00\x00", b"\x02\x00\x01\x00")
# PS3.5 7.1.2: of the VRs that occur in group 0002 these have two reserved bytes and a 32-bit length.
_LONG_VRS = (b"OB", b"OW", b"UN", b"UT", b"SQ", b"UR", b"UC")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_LONGEST_UID = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """What stands before a data set; the UIDs are digits and dots, at most 64 characters."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    # Source Application Entity Title (0002,0016); empty where absent.
    source_ae_title: str
    # Bytes before the data set.
    length: int


def is_uid(text: str) -> bool:
    """Tell whether a text is a UID (PS3.5 9.1), and nothing that a file system could read as more.

    Leading zeros in a component pass: some scanners write them, and they are harmless in a file name.
    """
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def read_file_meta(head: bytes) -> FileMeta:
    """Read the File Meta Information at the start of a file, with or without the preamble before it.

    Parameters
    ----------
    head
        The first bytes of the file, as many as the meta information needs at least.

    Raises
    ------
    InputError
        No DICOM file, or its meta information is cut off, not in Explicit VR Little Endian, or lacks a UID.
    """
    elements, length = _elements(head, _start(head))
    values = {number: value.decode("ascii", errors="replace").strip("\0 ") for number, value in elements.items()}
    for number, name in ((0x0002, "SOP Class"), (0x0003, "SOP Instance"), (0x0010, "Transfer Syntax")):
        if not is_uid(values.get(number, "")):
            raise InputError(f"its file meta information has no valid {name} UID (0002,{number:04X})", _REMEDY)
    return FileMeta(
        sop_class_uid=values[0x0002],
        sop_instance_uid=values[0x0003],
        transfer_syntax_uid=values[0x0010],
        source_ae_title=values.get(0x0016, ""),
        length=length,
    )


_REMEDY = "Convert it to a DICOM file with file meta information (PS3.10), and drop it again."


def _start(head: bytes) -> int:
    if head[_PREAMBLE_LENGTH : _PREAMBLE_LENGTH + 4] == _PREFIX:
        return _PREAMBLE_LENGTH + 4
    if head[:4] in _META_STARTS:
        return 0
    if not head:
        raise InputError("an empty file")
    if head[:2] == b"\x08\x00":
        # Its transfer syntax would be a guess.
        raise InputError("a bare DICOM data set without file meta information", _REMEDY)
    raise InputError("not a DICOM file")


def _elements(head: bytes, start: int) -> tuple[dict[int, bytes], int]:
    """Give the values of group 0002 by element number, and where the group ends.

    The group ends where its elements do: Group Length (0002,0000) is wrong in too many files.
    """
    elements: dict[int, bytes] = {}
    position = start
    while head[position : position + 2] == _META_GROUP and head[position + 4 : position + 6].isalpha():
        number, vr, length = struct.unpack_from("<H2sH", head.ljust(position + 8), position + 2)
        value_at = position + 8
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from("<L", head.ljust(value_at + 4), value_at)
            value_at += 4
        if value_at + length > len(head):
            raise InputError("its file meta information is cut off")
        elements[number] = head[value_at : value_at + length]
        position = value_at + length
    return elements, position
