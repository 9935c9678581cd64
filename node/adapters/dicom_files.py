"""DICOM files: one by one, or found in folders and archives."""

import hashlib
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from zlib import error as ZlibError  # noqa: N812 - a class with a lower-case name

import pydicom
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.dicom import UNREADABLE
from node.dicom.headers import HEADER_TAGS, received_instance
from node.dicom.identity import INHERITED
from node.domain.errors import InputError, ResourceError
from node.domain.instance import ReceivedInstance

# PS3.3 F: a directory of files, itself no composite instance.
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"

_ZIP_MAGIC = b"PK\x03\x04"
_PREAMBLE_LENGTH = 128
# (0002,0000) or (0002,0001) without a preamble before it: some writers forget the preamble.
_META_GROUP_STARTS = {b"\x02\x00\x00\x00", b"\x02\x00\x01\x00"}
_UNDEFINED_LENGTH = 0xFFFFFFFF
_CHUNK = 1 << 20
_PIXEL_DATA_TAGS = {0x7FE00008, 0x7FE00009, 0x7FE00010}


# What a report about instances says of them.
_REPORTED = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    *INHERITED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that gave no instance, and why."""

    path: Path
    reason: str
    # The series that it says it belongs to; empty where that cannot be read.
    series_instance_uid: str = ""


def read_file(path: Path) -> ReceivedInstance:
    """Read one file's header and digest its pixel data, without holding the pixel data in memory.

    ``received_at`` is the file's modification time, ``file_name`` its name.

    Raises
    ------
    InputError
        Not DICOM, cut off, or without the UIDs that an instance needs.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb") as file:
        received_at = path.stat().st_mtime
        try:
            _check_prefix(file)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=HEADER_TAGS)
            _check_is_instance(dataset)
            pixel_digest = _pixel_digest(file, dataset)
        except UNREADABLE as error:
            raise InputError(f"not readable as DICOM: {type(error).__name__}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            # pydicom's own, where a sequence ends early; the system's have a number.
            raise InputError("not readable as DICOM: it ends in the middle of a sequence") from error
    return received_instance(dataset, pixel_digest=pixel_digest, received_at=received_at, file_name=path.name)


def dataset_loader(folder: Path, files: Mapping[str, str]) -> Callable[[str], Dataset]:
    """Give the function that reads the whole dataset of an instance, for `node.dicom.pixels.read_volume`.

    Parameters
    ----------
    files
        SOP Instance UID to file name in ``folder``, as in a manifest; an absolute name stands for itself.
    """

    def load(sop_instance_uid: str) -> Dataset:
        try:
            return pydicom.dcmread(folder / files[sop_instance_uid], force=True)
        except (*UNREADABLE, OSError) as error:
            if _is_of_the_disk(error, folder):
                reason = f"The file of instance {sop_instance_uid} cannot be read: {error.strerror}."  # type: ignore[union-attr]
                raise ResourceError(reason, "Mount, or bring back, what is gone.") from error
            raise InputError(f"Instance {sop_instance_uid} is not readable: {type(error).__name__}.") from error

    return load


def _is_of_the_disk(error: Exception, folder: Path) -> bool:
    """Tell whether a disk or a share fails, or the whole folder is gone, so that the images may be whole still."""
    if not isinstance(error, OSError) or error.errno is None:  # pydicom's own have no number
        return False
    return not isinstance(error, FileNotFoundError) or not folder.is_dir()


def read_headers(paths: Sequence[Path]) -> list[Dataset]:
    """Read of every file whose it is and which instance; those that cannot be read are left out."""
    headers: list[Dataset] = []
    for path in paths:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_REPORTED))
            _check_is_instance(header)
        except (InputError, *UNREADABLE, OSError):
            continue
        headers.append(header)
    return headers


def read_header(path: Path, keywords: Sequence[str]) -> Dataset:
    """Read some elements of a file's header.

    Raises
    ------
    InputError
        Not DICOM, or damaged.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb") as file:
        try:
            _check_prefix(file)
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(keywords))
            _check_is_instance(header)
        except UNREADABLE as error:
            raise InputError(f"not readable as DICOM: {type(error).__name__}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise InputError("not readable as DICOM: it ends in the middle of a sequence") from error
    return header


def find_instances(inputs: Sequence[Path], unpack_into: Path) -> Iterator[ReceivedInstance | Skipped]:
    """Read every DICOM file among files, folders with all that is below them, and ZIP archives.

    ``file_name`` of the instances is the absolute path, for they may come from several folders.

    Parameters
    ----------
    unpack_into
        An empty folder for the contents of archives; the caller removes it.

    Raises
    ------
    InputError
        One of ``inputs`` does not exist.
    ResourceError
        The disk lacks room for an archive's contents.
    """
    archives = 0
    for given in inputs:
        if not given.exists():
            raise InputError(f"{given} does not exist.", "Name a DICOM file, a folder or a ZIP archive.")
        for path in files_below(given):
            if isinstance(path, Skipped):
                yield path
            elif _is_archive(path):
                folder = unpack_into / f"{archives:04d}"
                archives += 1
                yield from _found_in_archive(path, folder)
            else:
                yield _found(path, shown_as=path)


def files_below(given: Path) -> list[Path | Skipped]:
    """Give the files in a folder and all that is below it, in the order of their names, and folders that stay shut.

    Links to folders are followed, each folder is entered once: archives are often folders of links.
    """
    if not given.is_dir():
        return [given]
    found: list[Path | Skipped] = []

    def shut(error: OSError) -> None:
        found.append(Skipped(path=Path(error.filename), reason=f"folder not opened: {error.strerror}"))

    entered: set[Path] = set()
    for folder, below, names in os.walk(given, onerror=shut, followlinks=True):
        real = Path(folder).resolve()
        if real in entered:
            below.clear()
            continue
        entered.add(real)
        below.sort()
        found += [path for name in sorted(names) if (path := Path(folder, name)).is_file()]
    return found


def _found(path: Path, shown_as: Path) -> ReceivedInstance | Skipped:
    try:
        return replace(read_file(path), file_name=str(path.absolute()))
    except InputError as error:
        return Skipped(path=shown_as, reason=error.reason, series_instance_uid=_series_of(path))
    except OSError as error:
        return Skipped(path=shown_as, reason=error.strerror or type(error).__name__)


def _series_of(path: Path) -> str:
    """Read to which series a damaged file belongs, as far as that can still be read."""
    try:
        header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
        return str(header.get("SeriesInstanceUID") or "")
    except (*UNREADABLE, OSError):
        return ""


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    except OSError:
        return False  # reading it as DICOM will say why


def _found_in_archive(archive: Path, folder: Path) -> Iterator[ReceivedInstance | Skipped]:
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_room(archive, sum(member.file_size for member in members), folder)
            for index, member in enumerate(members):
                # The member's own name never becomes a path: '../../x' or '/etc/x' cannot lead out of the folder.
                yield _found_in_member(opened, member, folder / f"{index:06d}.dcm")
    except zipfile.BadZipFile as error:
        yield Skipped(path=archive, reason=f"damaged ZIP archive: {error}")


def _found_in_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> ReceivedInstance | Skipped:
    shown_as = Path(opened.filename or "") / member.filename
    try:
        with opened.open(member) as source, target.open("wb") as file:
            # Bounded: zipfile gives no more than the size that the directory states.
            shutil.copyfileobj(source, file, _CHUNK)
    except (zipfile.BadZipFile, EOFError, ZlibError):
        return Skipped(path=shown_as, reason="damaged in the ZIP archive")
    except NotImplementedError as error:
        return Skipped(path=shown_as, reason=f"not unpacked: {error}")
    except RuntimeError:
        return Skipped(path=shown_as, reason="encrypted in the ZIP archive; unpack it and name the folder")
    return _found(target, shown_as)


def _check_room(archive: Path, size: int, folder: Path) -> None:
    free = _free_bytes(folder)
    if size > free // 2:
        raise ResourceError(
            f"{archive.name} unpacks to {size / 1e9:.1f} GB; {folder} has {free / 1e9:.1f} GB free.",
            "Free disk space, or unpack the archive elsewhere and name the folder.",
        )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _check_prefix(file: BinaryIO) -> None:
    """Leave the file at its start where it is a DICOM file, with or without its preamble."""
    start = file.read(_PREAMBLE_LENGTH + 4)
    file.seek(0)
    if start[_PREAMBLE_LENGTH:] == b"DICM" or start[:4] in _META_GROUP_STARTS:
        return
    if start[:2] == b"\x08\x00":
        # Its transfer syntax would be a guess.
        raise InputError("a bare DICOM data set without file meta information; convert it to a DICOM file first")
    raise InputError("not a DICOM file")


def _check_is_instance(dataset: Dataset) -> None:
    meta = dataset.file_meta
    if meta.get("MediaStorageSOPClassUID") == _MEDIA_STORAGE_DIRECTORY:
        raise InputError("a DICOMDIR, which only lists other files")
    if not meta.get("TransferSyntaxUID"):
        raise InputError("Transfer Syntax UID is missing from the file meta information")


def _pixel_digest(file: BinaryIO, dataset: Dataset) -> str:
    """Digest the value of Pixel Data, or its fragments, as it lies in the file; empty where there is none."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == DeflatedExplicitVRLittleEndian:
        file.seek(0)
        whole = pydicom.dcmread(file, force=True)
        return hashlib.sha256(whole.PixelData).hexdigest() if "PixelData" in whole else ""
    order = "<" if syntax.is_little_endian else ">"
    length = _length_of_pixel_data(file, explicit=not syntax.is_implicit_VR, order=order)
    if length is None:
        return ""
    digest = hashlib.sha256()
    if length == _UNDEFINED_LENGTH:
        _digest_fragments(digest, file)
    else:
        _digest(digest, file, length)
    return digest.hexdigest()


def _length_of_pixel_data(file: BinaryIO, *, explicit: bool, order: str) -> int | None:
    """Read the head of the element that pydicom stopped before; None at the end of the file.

    PS3.5 7.1: tag, then VR, two reserved bytes and length, or only the length in Implicit VR.
    """
    head = file.read(12 if explicit else 8)
    if len(head) < 8:
        return None
    group, element = struct.unpack_from(order + "HH", head)
    if (group << 16 | element) not in _PIXEL_DATA_TAGS:
        return None
    return int(struct.unpack_from(order + "L", head, len(head) - 4)[0])


def _digest_fragments(digest: "hashlib._Hash", file: BinaryIO) -> None:
    """Digest items up to the sequence delimiter: PS3.5 A.4, always little endian."""
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise InputError("cut off: Pixel Data in fragments without their end")
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            return
        if (group, element) != (0xFFFE, 0xE000):
            raise InputError("damaged: Pixel Data in fragments holds something else")
        digest.update(head)
        _digest(digest, file, length)


def _digest(digest: "hashlib._Hash", file: BinaryIO, length: int) -> None:
    left = length
    while left and (chunk := file.read(min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    if left:
        raise InputError(f"cut off: {length} bytes of Pixel Data, of which {length - left} are there")
