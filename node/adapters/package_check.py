"""What the folder of a model package must not hold, whoever made it.

A package is copied from clinic to clinic: nothing in it may run by itself, nothing may tell of a patient, and nothing
may lead elsewhere. Archives are refused unopened, whatever is in them, but NumPy's own (``.npz``).
"""

import io
import re
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from node.domain.errors import SetupError

# What PyTorch, joblib and others write by pickling; loading a pickle runs what is in it.
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pth", ".pt", ".ckpt", ".joblib", ".dill")
# PROTO and a protocol of binary pickles; older ones have no mark and are known by their suffix alone.
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_ARCHIVE_MARKS = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf",
    b"\x28\xb5\x2f\xfd",
)
# At 257, of a tar file.
_TAR = b"ustar"

# PS3.10 7.1: 128 bytes and "DICM". Without them, a data set begins with an element of group 0002 or 0008: explicit VR
# has two capitals after the tag, implicit VR a length that is small.
_DICOM_PREFIX = b"DICM"
_DATA_SET = re.compile(rb"[\x02\x08]\x00[\x00-\x20]\x00(?:[A-Z]{2}|[\x00-\x7f]\x00\x00\x00)", re.DOTALL)

# Of a NIfTI-1 header: its size, and where what programs write of patient and scan is (data_type, db_name, descrip,
# aux_file, intent_name). Behind the header an extension may hold a whole DICOM header.
_NIFTI_SIZES = (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c")
_NIFTI_MARKS = (b"n+1\x00", b"ni1\x00")
_NIFTI_TEXTS = (slice(4, 14), slice(14, 32), slice(148, 228), slice(228, 252), slice(328, 344))

_TEXT_SUFFIXES = (".json", ".csv", ".tsv", ".xml", ".yaml", ".yml")
_PATIENT_KEYS = re.compile(rb"(?i)patient.{0,3}(name|id\b|birth)|\b0010,?\s?(0010|0020|0030)\b")

# As much of a file as is looked at.
_HEAD_BYTES = 1024
_TEXT_BYTES = 4_000_000


def refuse_ways_out(folder: Path) -> str:
    """Refuse links that lead out of the folder, and what is neither file nor folder; says how many files there are.

    Raises
    ------
    SetupError
        With the names.
    """
    home = folder.resolve()
    entries = sorted(folder.rglob("*"))
    out = [each for each in entries if each.is_symlink() and not each.resolve().is_relative_to(home)]
    if out:
        raise SetupError(
            f"Links lead out of the model package: {_named(out, folder)}.", "Put the files themselves there."
        )
    strange = [each for each in entries if not each.is_file() and not each.is_dir()]
    if strange:
        raise SetupError(f"Neither files nor folders: {_named(strange, folder)}.", "Remove them.")
    return f"{len(_files(folder))} files, no link leads out"


def refuse_programs(folder: Path) -> str:
    """Refuse what runs when it is loaded, and what nobody can look into.

    Raises
    ------
    SetupError
        With the names.
    """
    _refuse(
        folder,
        _is_pickle,
        "Pickled Python objects, which run what is in them when they are loaded",
        "Remove them: the node needs none. `delineate model import` makes an ONNX file of a checkpoint.",
    )
    _refuse(
        folder,
        _is_archive,
        "Archives, into which this check does not look",
        "Unpack what belongs to the package, and remove the rest.",
    )
    return "no pickle, no archive"


def refuse_patients(folder: Path) -> str:
    """Refuse DICOM, NIfTI files with texts of patient or scan, and tables with keys of patients.

    Raises
    ------
    SetupError
        With the names of the files, never with what they say.
    """
    remedy = "Remove it: a package is copied from clinic to clinic. A golden test holds arrays and no names."
    _refuse(folder, _is_dicom, "DICOM", remedy)
    _refuse(folder, _is_telling_nifti, "NIfTI with texts or an extension in its header", remedy)
    _refuse(folder, _names_patients, "Names, identifiers or birth dates of patients, by their keys", remedy)
    return "no DICOM, no keys of patients"


def unused_files(folder: Path, used: Collection[str]) -> list[str]:
    """List files that nothing in the package names, but texts for its reader."""
    return [
        name
        for each in _files(folder)
        if (name := str(each.relative_to(folder))) not in used
        and each.suffix.lower() not in (".md", ".txt")
        and not each.name.startswith(("LICENSE", "LICENCE", "NOTICE"))
    ]


def size_of(folder: Path) -> int:
    """Give the bytes of all files in a folder."""
    return sum(each.stat().st_size for each in _files(folder))


def _refuse(folder: Path, is_such: Callable[[Path], bool], what: str, remedy: str) -> None:
    found = [each for each in _files(folder) if is_such(each)]
    if found:
        raise SetupError(f"{what}: {_named(found, folder)}.", remedy)


def _files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


def _named(paths: list[Path], folder: Path) -> str:
    shown = ", ".join(str(each.relative_to(folder)) for each in paths[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5} more"


def _head(path: Path, size: int = _HEAD_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise SetupError(f"{path.name} cannot be read: {error.strerror}.", "Mend its permissions.") from error


def _is_pickle(path: Path) -> bool:
    head = _head(path)
    if path.suffix.lower() in _PICKLE_SUFFIXES or _PICKLE.match(head):
        return True
    if head.startswith(b"\x93NUMPY"):
        return _holds_objects(head)
    return zipfile.is_zipfile(path) and any(_is_pickled_member(*each) for each in _members(path))


def _is_pickled_member(name: str, head: bytes) -> bool:
    if head.startswith(b"\x93NUMPY"):
        return _holds_objects(head)
    return name.lower().endswith(_PICKLE_SUFFIXES) or _PICKLE.match(head) is not None


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for each in archive.infolist():
                with archive.open(each) as member:
                    yield each.filename, member.read(_HEAD_BYTES)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise SetupError(f"The archive {path.name} cannot be looked into: {error}.", "Remove it.") from error


def _holds_objects(head: bytes) -> bool:
    """Tell an array of Python objects, which are pickled, by its header."""
    file = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return bool(read(file)[2].hasobject)
    except ValueError:
        # A header that nobody understands is no plain array's.
        return True


def _is_archive(path: Path) -> bool:
    head = _head(path)
    if zipfile.is_zipfile(path):
        return any(not member.startswith(b"\x93NUMPY") for _, member in _members(path))
    return head.startswith(_ARCHIVE_MARKS) or head[257:262] == _TAR


def _is_dicom(path: Path) -> bool:
    head = _head(path)
    return head[128:132] == _DICOM_PREFIX or _DATA_SET.match(head) is not None


def _is_telling_nifti(path: Path) -> bool:
    head = _head(path)
    if head[:4] not in _NIFTI_SIZES or head[344:348] not in _NIFTI_MARKS:
        return False
    return any(head[text].strip(b"\x00 ") for text in _NIFTI_TEXTS) or head[348:349] not in (b"", b"\x00")


def _names_patients(path: Path) -> bool:
    return path.suffix.lower() in _TEXT_SUFFIXES and _PATIENT_KEYS.search(_head(path, _TEXT_BYTES)) is not None
