"""From Implicit to Explicit VR Little Endian, where that loses nothing."""

import io

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.strict_reading import implicit_elements, items, read_file_meta, vr_of

# PS3.5 7.1.2: these VRs have 32 bits for their length, all others 16.
_LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_LONGEST = 0xFFFE


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
    if _has_too_long_a_value(written, start, len(written)):
        return None
    dataset = pydicom.dcmread(io.BytesIO(written))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def _has_too_long_a_value(data: bytes, first: int, last: int) -> bool:
    for tag, start, stop in implicit_elements(data, first, last):
        vr = vr_of(tag)
        if vr == "SQ":
            if any(_has_too_long_a_value(data, *bounds) for bounds in items(data, start, stop)):
                return True
        elif stop - start > _LONGEST and not any(one in _LONG_VRS for one in vr.split(" or ")):
            return True
    return False
