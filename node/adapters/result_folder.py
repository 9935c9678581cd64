"""A folder as a destination: finished objects as files, named by their UIDs, whole or not there.

    <folder>/RTSTRUCT.<SOP Instance UID>.dcm
    <folder>/SEG.<SOP Instance UID>.dcm
    <folder>/SR.<SOP Instance UID>.dcm

All in one folder, as programs that watch one expect it. While it is written a file has a name that begins with a dot.
"""

import filecmp
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from node.adapters.durable import sync_shared_folder, write_whole
from node.domain.delivery import StoreReceipt
from node.domain.errors import InputError, PeerError, UnreachableError

PREFIXES = {
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.88.11": "SR",
}
# PS3.7 C.5: what an application entity says of an instance that it has otherwise.
_STORED, _DUPLICATE_SOP_INSTANCE = 0x0000, 0x0111


def store_in_folder(name: str, folder: Path, files: Sequence[Path]) -> tuple[StoreReceipt, ...]:
    """Copy Part 10 files into a folder, byte for byte and durably; gives a receipt for each, in their order.

    A file that is there already with the same bytes is left as it is; one with other bytes is never overwritten.

    Parameters
    ----------
    name
        What the configuration calls the destination.

    Raises
    ------
    UnreachableError
        The folder is not there.
    PeerError
        It does not take a file: disk full, read-only, share gone.
    InputError
        A file is no DICOM file.
    OSError
        A file cannot be read.
    """
    look_for_folder(name, folder)
    return tuple(_store(name, folder, path) for path in files)


def look_for_folder(name: str, folder: Path) -> None:
    """Raise UnreachableError where a folder is not there."""
    # Never made by us: a share that is not mounted would be a folder of this machine.
    if not folder.is_dir():
        raise UnreachableError(f"{name}: the folder {folder} is not there.", "Make it, or mount it.")


def _store(name: str, folder: Path, path: Path) -> StoreReceipt:
    started = time.monotonic()
    try:
        meta = read_file_meta_info(path)
        sop_class_uid, sop_instance_uid = str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID)
        transfer_syntax_uid = str(meta.TransferSyntaxUID)
        target = folder / f"{PREFIXES[sop_class_uid]}.{sop_instance_uid}.dcm"
    except (InvalidDicomError, AttributeError, KeyError) as error:
        raise InputError(f"{path.name} is not one of our DICOM files.") from error
    written = path.read_bytes()
    try:
        there = target.exists()
        differs = there and not filecmp.cmp(path, target, shallow=False)
        if not there:
            write_whole(target, written)
        # Also where it was there: an earlier process may have ended before it could.
        sync_shared_folder(folder)
    except OSError as error:
        raise PeerError(f"{name}: the folder {folder} does not take a file: {error.strerror}.") from error
    return StoreReceipt(
        sop_instance_uid=sop_instance_uid,
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        outcome="refused" if differs else "stored",
        status=_DUPLICATE_SOP_INSTANCE if differs else _STORED,
        reason="another file of that name is there and was not overwritten (0x0111)" if differs else "stored (0x0000)",
        worth_retrying=False,
        took_s=time.monotonic() - started,
    )
