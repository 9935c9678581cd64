"""Read which files a DICOMDIR names (PS3.3 F.3.2.2, PS3.10 8): an index, itself no image."""

from io import BytesIO

import pydicom

from node.dicom import UNREADABLE
from node.domain.errors import InputError


def referenced_files(written: bytes) -> frozenset[tuple[str, ...]]:
    """Give the files that a DICOMDIR names, as parts of their path from its own folder, in capitals.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        records = pydicom.dcmread(BytesIO(written)).DirectoryRecordSequence
        named = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
        return frozenset(comparable([one] if isinstance(one, str) else list(one)) for one in named)
    except (*UNREADABLE, OSError) as error:
        raise InputError(f"a DICOMDIR that cannot be read: {type(error).__name__}") from error


def comparable(parts: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Give a path as it is compared: File IDs are capitals (PS3.10 8.5); copies often are not, or end in ``;1``."""
    return tuple(part.partition(";")[0].rstrip(".").upper() for part in parts)
