"""Write the beginning of a Part 10 file: preamble and File Meta Information; the data set follows as received."""

import struct

from node.domain.arrival import Arrival, Fragment
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def file_meta(arrival: Arrival) -> bytes:
    """Give preamble and File Meta Information (PS3.10 7.1) of an arrival.

    A UID that is none is left out, so that a refused file can still be opened.
    """
    meta = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _uid_element(0x0002, arrival.affected_sop_class_uid),
            _uid_element(0x0003, arrival.affected_sop_instance_uid),
            _uid_element(0x0010, arrival.transfer_syntax_uid),
            _uid_element(0x0012, IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
            _element(0x0016, b"AE", _ae_title(arrival.calling_ae_title)),
            _element(0x0018, b"AE", _ae_title(arrival.called_ae_title)),
        )
    )
    group_length = _element(0x0000, b"UL", struct.pack("<L", len(meta)))
    return b"".join((b"\0" * 128, b"DICM", group_length, meta))


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """Encode one element of group 0002 in Explicit VR Little Endian (PS3.5 7.1.2), padded to even length."""
    padded = value + (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sHL", 0x0002, number, vr, 0, len(padded)) + padded
    return struct.pack("<HH2sH", 0x0002, number, vr, len(padded)) + padded


def _uid_element(number: int, uid: str) -> bytes:
    value = uid.encode("ascii", errors="replace")
    clean = 0 < len(value) <= 64 and value.replace(b".", b"").isdigit()
    return _element(number, b"UI", value) if clean else b""


def _ae_title(title: str) -> bytes:
    return title.encode("ascii", errors="replace")[:16]


def start_of_data_set(file: Fragment) -> int:
    """Give where the data set begins in a file that begins as `file_meta` writes it."""
    # Preamble (128), DICM (4), File Meta Information Group Length: 8 bytes of header, 4 of value.
    return 144 + int.from_bytes(file[140:144], "little")
