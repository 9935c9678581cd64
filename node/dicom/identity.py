"""Whose result it is: UIDs, and what a result inherits from the series it was drawn on.

Nothing is invented. A value that breaks its VR in the source is left empty, never mended: a shortened identifier is
another identifier.
"""

import copy
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone

from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from node.domain.errors import InputError
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.domain.series import SeriesManifest
from node.domain.structures import Provenance

# Patient (PS3.3 C.7.1.1) and General Study (C.7.2.1): type 2, present with or without a value.
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)

# Type 3 of the same modules and of Patient Study (C.7.2.2), where the source has a value.
TYPE_3 = (
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "PatientComments",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "TimezoneOffsetFromUTC",
)

# Patient Identity Removed is only allowed to say YES together with one of the methods.
DEIDENTIFICATION = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")

# All that a result inherits.
INHERITED = (*TYPE_2, *TYPE_3, *DEIDENTIFICATION)

# Enumerated values (PS3.3 C.7.1.1).
PATIENT_SEXES = ("M", "F", "O")

TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
TIMEZONE_OFFSET = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")


def derived_uid(*parts: str) -> UID:
    """Give the UID that stands for these texts: the same texts, the same UID, on every machine.

    2.25 and a UUID as an integer (PS3.5 B.2): version 8 of RFC 9562, made of SHA-256.
    """
    # The lengths keep ("ab", "c") and ("a", "bc") apart.
    digest = hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode())
    number = int.from_bytes(digest.digest()[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return UID(f"2.25.{number}")


def result_uid(kind: str, manifest: SeriesManifest, provenance: Provenance, form: str = "") -> UID:
    """Give the UID of one thing (``kind``) of the result of one manifest, one model package and one run.

    Parameters
    ----------
    form
        Tells the forms of one thing apart that were made for different receivers.
    """
    return derived_uid(
        manifest.fingerprint,
        manifest.series_instance_uid,
        provenance.model_digest,
        str(provenance.run_number),
        provenance.software_version,
        *(one.fingerprint for one in provenance.channels[1:]),
        *((kind, form) if form else (kind,)),
    )


def file_meta_of(dataset: Dataset, transfer_syntax_uid: UID) -> FileMetaDataset:
    """Give the File Meta Information (PS3.10 7.1) of an object of ours."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax_uid
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def headers_by_uid(manifest: SeriesManifest, source: Sequence[Dataset]) -> Mapping[str, Dataset]:
    """Give the header of every instance of the manifest by its SOP Instance UID, in the order of the planes.

    Raises
    ------
    InputError
        An instance of the manifest is missing.
    """
    given = {str(header.SOPInstanceUID): header for header in source}
    wanted = dict.fromkeys(plane.sop_instance_uid for plane in manifest.grid.planes)
    missing = [uid for uid in wanted if uid not in given]
    if missing:
        raise InputError(f"{len(missing)} of {len(wanted)} instances are missing, the first is {missing[0]}.")
    return {uid: given[uid] for uid in wanted}


def inherit(result: Dataset, header: Dataset, study_instance_uid: str) -> None:
    """Write the Patient, General Study and Patient Study attributes of the source, and its Specific Character Set.

    Names keep the bytes they had: the character set is the source's own. So every other text of the result must be
    ASCII (``node.dicom.wording``).
    """
    if header.get("SpecificCharacterSet"):
        result.SpecificCharacterSet = header.SpecificCharacterSet
    result.StudyInstanceUID = study_instance_uid
    for keyword in TYPE_2:
        element = valid_element(header, keyword)
        if element is None:
            setattr(result, keyword, None)
        else:
            result.add(_of_known_length(element))
    removed = [element for keyword in DEIDENTIFICATION if (element := valid_element(header, keyword)) is not None]
    for element in removed if len(removed) > 1 else []:
        result.add(_of_known_length(element))
    for keyword in TYPE_3:
        element = valid_element(header, keyword)
        if element is not None:
            result.add(_of_known_length(element))


def left_empty(header: Dataset) -> tuple[str, ...]:
    """Name the attributes of patient and study whose value in the source breaks its VR: results have none."""
    return tuple(
        keyword
        for keyword in (*TYPE_2, *TYPE_3)
        if _has_value(header, keyword) and valid_element(header, keyword) is None
    )


def _has_value(header: Dataset, keyword: str) -> bool:
    """Tell whether the header has a value, be it one that cannot be read as its VR."""
    value = header.get_item(keyword).value if keyword in header else None
    return bool(value.strip(b" \0") if isinstance(value, bytes) else value)


def valid_element(header: Dataset, keyword: str) -> DataElement | None:
    """Give the element if the header has it with a value that obeys its VR, else None."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in header:
        return None
    try:
        element = header[tag]
        empty = element.is_empty or (element.VR == "SQ" and not element.value)
        return None if empty or not _obeys(element) else element
    except (ValueError, TypeError, NotImplementedError, LookupError, BytesLengthException):
        # Bytes that cannot be read as their VR.
        return None


def moment(at: float, header: Dataset) -> datetime:
    """Give a time (seconds since the epoch) in the zone of the source's other times; this machine's where it is silent.

    Timezone Offset From UTC (PS3.3 C.12.1.1.8) holds for every time of an object, so ours must be in the same.
    """
    stated = TIMEZONE_OFFSET.fullmatch(str(header.get("TimezoneOffsetFromUTC", "")).strip())
    if stated is None:
        return datetime.fromtimestamp(at).astimezone()
    sign, hours, minutes = stated.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return datetime.fromtimestamp(at, timezone(-offset if sign == "-" else offset))


def date_and_time(when: datetime) -> tuple[str, str]:
    """Give DA and TM."""
    return when.strftime("%Y%m%d"), when.strftime("%H%M%S.%f")


def _of_known_length(element: DataElement) -> DataElement:
    """Give an element of its own, in which every sequence and item has its length, whatever the source's have."""
    result = copy.deepcopy(element)
    within = [result]
    while within:
        one = within.pop()
        one.is_undefined_length = False
        for item in one.value if one.VR == "SQ" else ():
            item.is_undefined_length_sequence_item = False
            within.extend(item)
    return result


def _obeys(element: DataElement) -> bool:
    if element.VR == "SQ":
        return all(_obeys(inner) for item in element.value for inner in item if not inner.is_empty)
    if element.VM > 1 and not element.tag.is_private and dictionary_VM(element.tag) == "1":
        return False
    values = element.value if element.VM > 1 else [element.value]
    return all(_value_obeys(element, str(value)) for value in values)


def _value_obeys(element: DataElement, value: str) -> bool:
    if "\N{REPLACEMENT CHARACTER}" in value:
        return False  # bytes that are not of the source's character set; written, they would be another name
    if element.keyword == "PatientSex":
        return value in PATIENT_SEXES
    if element.keyword == "TimezoneOffsetFromUTC":
        return TIMEZONE_OFFSET.fullmatch(value.strip()) is not None
    if element.VR == "DA":
        return _is_date(value)
    if element.VR == "TM":
        return TIME.fullmatch(value.strip()) is not None
    validate_value(element.VR, value, RAISE)
    return True


def _is_date(value: str) -> bool:
    if re.fullmatch(r"\d{8}", value) is None:
        return False
    date(int(value[:4]), int(value[4:6]), int(value[6:]))
    return True
