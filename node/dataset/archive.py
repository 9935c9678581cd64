"""What lies in an archive: series of images and structure sets, whatever the folders and files are called.

Only a few elements of each header are read, so an archive of a million files is known in some hundred megabytes; the
images of a series are read when their turn comes.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from node.adapters.dicom_files import Skipped, dataset_loader, files_below, read_header
from node.dataset.splitting import Patients
from node.dicom.archived_structures import STRUCTURE_SET_CLASSES, StructureSetFacts, structure_set_facts
from node.dicom.headers import MULTI_FRAME_CLASSES, SINGLE_FRAME_CLASSES
from node.domain.errors import InputError

# Told how many of how many files are read.
Progress = Callable[[int, int], None]

# What says whose an object is, and who made it: none of it may be found in a training set.
_IDENTITIES = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansOfRecord",
    "OperatorsName",
    "ReviewerName",
)
_KEYWORDS = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    *_IDENTITIES,
)
_IMAGES = SINGLE_FRAME_CLASSES | MULTI_FRAME_CLASSES


@dataclass(slots=True, kw_only=True)
class ArchivedSeries:
    """A series of images, as its files say."""

    uid: str
    study_instance_uid: str
    patient_id: str
    modality: str
    files: list[Path] = field(default_factory=list)
    images: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedStructureSet:
    """A structure set and its file."""

    facts: StructureSetFacts
    path: Path


@dataclass(slots=True, kw_only=True)
class Archive:
    """All that was found."""

    series: dict[str, ArchivedSeries] = field(default_factory=dict)
    # By SOP Instance UID.
    structure_sets: dict[str, ArchivedStructureSet] = field(default_factory=dict)
    patients: Patients = field(default_factory=Patients)
    # SOP Instance UID of an image -> Series Instance UID.
    series_of: dict[str, str] = field(default_factory=dict)
    # Names, identifiers and dates, for `Privacy`.
    identities: set[str] = field(default_factory=set)
    # Why files are neither images nor structure sets -> how many.
    no_use: Counter[str] = field(default_factory=Counter)
    # SOP Instance UIDs of several structure sets, and why none of them counts.
    doubtful: dict[str, str] = field(default_factory=dict)
    files: int = 0


def survey(folder: Path, progress: Progress) -> Archive:
    """Read what lies in a folder and all that is below it.

    Raises
    ------
    InputError
        The folder does not exist, or nothing in it is DICOM.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Name the folder of the archive.")
    archive = Archive()
    found = files_below(folder)
    for number, path in enumerate(found):
        progress(number, len(found))
        if isinstance(path, Skipped):
            archive.no_use["folder not opened"] += 1
            continue
        archive.files += 1
        try:
            _add(archive, path)
        except InputError as error:
            archive.no_use[error.reason] += 1
        except OSError as error:
            archive.no_use[f"not opened: {error.strerror or type(error).__name__}"] += 1
    progress(len(found), len(found))
    for uid in archive.doubtful:
        archive.structure_sets.pop(uid, None)
    if not archive.series and not archive.structure_sets:
        raise InputError(
            f"{folder} holds no series of images and no structure set ({archive.files} files).",
            "Name the folder of the archive; archives in ZIP must be unpacked.",
        )
    return archive


def whole(path: Path) -> Dataset:
    """Read a whole object.

    Raises
    ------
    InputError
        It cannot be read.
    """
    return dataset_loader(path.parent, {"": path.name})("")


def _add(archive: Archive, path: Path) -> None:
    header = read_header(path, _KEYWORDS)
    sop_class_uid = _text(header, "SOPClassUID")
    if sop_class_uid in STRUCTURE_SET_CLASSES:
        _add_structure_set(archive, path)
    elif sop_class_uid in _IMAGES:
        _add_image(archive, header, path)
    else:
        raise InputError("another DICOM object than an image or a structure set")
    archive.identities |= {value for keyword in _IDENTITIES if (value := _text(header, keyword))}


def _add_image(archive: Archive, header: Dataset, path: Path) -> None:
    uid, series, study = (_text(header, each) for each in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))
    if not uid or not series or not study:
        raise InputError("an image without the UIDs that tell series and studies apart")
    found = archive.series.get(series)
    if found is None:
        found = archive.series[series] = ArchivedSeries(
            uid=series,
            study_instance_uid=study,
            patient_id=_text(header, "PatientID"),
            modality=_text(header, "Modality"),
        )
    found.files.append(path)
    found.images.add(uid)
    archive.series_of[uid] = series
    archive.patients.add(_text(header, "PatientID"), study)


def _add_structure_set(archive: Archive, path: Path) -> None:
    dataset = whole(path)
    facts = structure_set_facts(dataset)
    uid = facts.sop_instance_uid
    known = archive.structure_sets.get(uid)
    if known is None:
        archive.structure_sets[uid] = ArchivedStructureSet(facts=facts, path=path)
    elif path.read_bytes() != known.path.read_bytes():
        archive.doubtful[uid] = "its SOP Instance UID stands for several contents"
    archive.patients.add(facts.patient_id, facts.study_instance_uid)


def linked(archive: Archive) -> tuple[Mapping[str, Sequence[ArchivedStructureSet]], Mapping[str, str]]:
    """Tell which structure sets are of which series.

    Returns
    -------
    Series Instance UID -> its structure sets; SOP Instance UID of a structure set -> why it is of none.
    """
    of_series: dict[str, list[ArchivedStructureSet]] = {}
    of_none = dict(archive.doubtful)
    for uid, one in archive.structure_sets.items():
        named = {archive.series_of[image] for image in one.facts.drawn_on if image in archive.series_of}
        named = named or {series for series in one.facts.series if series in archive.series}
        if len(named) == 1:
            of_series.setdefault(named.pop(), []).append(one)
        elif named:
            of_none[uid] = f"it is drawn on images of {len(named)} series"
        elif not one.facts.drawn_on and not one.facts.series:
            of_none[uid] = "it names no image and no series"
        else:
            of_none[uid] = "the images that it names are not in the archive"
    return of_series, of_none


def _text(header: Dataset, keyword: str) -> str:
    try:
        value = header.get(keyword)
    except (ValueError, TypeError, LookupError, AttributeError):
        return ""
    return "" if value is None else str(value).strip(" \0")
