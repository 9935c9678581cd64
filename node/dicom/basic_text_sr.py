"""Notice -> Basic Text SR (PS3.3 A.35.1): a title, and four sentences; by no template.

Explicit VR Little Endian. The title is a code of our own: no published one says that an automatic contouring came to
nothing, and that of a diagnostic report would claim too much.
"""

from collections.abc import Mapping, Sequence

from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, BasicTextSRStorage, ExplicitVRLittleEndian

import node
from node.dicom import wording
from node.dicom.identity import date_and_time, derived_uid, file_meta_of, inherit, moment
from node.domain.errors import InputError
from node.domain.notice import Notice

# Where the results of other runs stand: above the numbers that scanners give.
SERIES_NUMBER = 7999

# Value, scheme, meaning.
Concept = tuple[str, str, str]
SCHEME = "99DELINEATE"
TITLE: Concept = ("NOCONTOURS", SCHEME, "No automatic contours")
CONCLUSION: Concept = ("121077", "DCM", "Conclusion")
FINDING: Concept = ("121071", "DCM", "Finding")
RECOMMENDATION: Concept = ("121075", "DCM", "Recommendation")
COMMENT: Concept = ("121106", "DCM", "Comment")
# PS3.16 TID 1004, which tells a device that observes; its rows, without its name.
_OBSERVER_TYPE: Concept = ("121005", "DCM", "Observer Type")
_DEVICE: Concept = ("121007", "DCM", "Device")
_DEVICE_UID: Concept = ("121012", "DCM", "Device Observer UID")
_DEVICE_NAME: Concept = ("121013", "DCM", "Device Observer Name")
_DEVICE_MANUFACTURER: Concept = ("121014", "DCM", "Device Observer Manufacturer")
_DEVICE_MODEL: Concept = ("121015", "DCM", "Device Observer Model Name")


def basic_text_sr(notice: Notice, source: Sequence[Dataset]) -> FileDataset:
    """Build a Basic Text SR, ready for ``save_as``; equal arguments give equal bytes.

    Parameters
    ----------
    source
        Headers of the series' instances; all become evidence, and the first says whose they are.

    Raises
    ------
    InputError
        There is no header.
    """
    if not source:
        raise InputError("No image of the series can be read.")
    first = source[0]
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    inherit(dataset, first, notice.study_instance_uid)
    _add_series_and_equipment(dataset, notice)
    _add_document(dataset, notice, first, source)
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [_code(TITLE)]
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentSequence = [*_observer(notice), *(_text("CONTAINS", *each) for each in sentences(notice).items())]
    dataset.file_meta = file_meta_of(dataset, ExplicitVRLittleEndian)
    return dataset


def sentences(notice: Notice) -> Mapping[Concept, str]:
    """Give what the report says, under what heading, in plain ASCII."""
    return {
        CONCLUSION: wording.plain(notice.conclusion),
        FINDING: wording.plain(notice.reason),
        RECOMMENDATION: wording.plain(notice.what_to_do),
        COMMENT: wording.plain(node.DISCLAIMER),
    }


def device_uid(station_name: str) -> UID:
    """Give the UID of a node, by its AE title."""
    return derived_uid("device", station_name)


def _add_series_and_equipment(dataset: Dataset, notice: Notice) -> None:
    """SR Document Series (C.17.1), General Equipment (C.7.5.1), SOP Common (C.12.1)."""
    dataset.SOPClassUID = BasicTextSRStorage
    dataset.SOPInstanceUID = derived_uid("SR instance", notice.job, notice.reason)
    dataset.SeriesInstanceUID = derived_uid("SR series", notice.job, notice.reason)
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = f"No contours ({wording.SHORT_DISCLAIMER})"
    dataset.Modality = "SR"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.Manufacturer = wording.MANUFACTURER
    dataset.ManufacturerModelName = wording.MANUFACTURER
    dataset.StationName = wording.fitted(notice.station_name, wording.SH)
    dataset.SoftwareVersions = wording.fitted(f"Delineate {notice.software_version}", wording.LO)
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "Delineate"
    dataset.CodingSchemeIdentificationSequence = [scheme]


def _add_document(dataset: Dataset, notice: Notice, first: Dataset, source: Sequence[Dataset]) -> None:
    """SR Document General (C.17.2); nobody has verified it, and nobody ever will under this UID."""
    date, time = date_and_time(moment(notice.decided_at, first))
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.SeriesDate, dataset.SeriesTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time
    dataset.InstanceNumber = 1
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PerformedProcedureCodeSequence = []
    author = Dataset()
    author.ObserverType = "DEV"
    author.StationName = dataset.StationName
    author.DeviceUID = device_uid(notice.station_name)
    author.Manufacturer, author.ManufacturerModelName = dataset.Manufacturer, dataset.ManufacturerModelName
    author.InstitutionName = None
    author.InstitutionCodeSequence = []
    dataset.AuthorObserverSequence = [author]
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(notice, source)]


def _evidence(notice: Notice, source: Sequence[Dataset]) -> Dataset:
    """Hierarchical SOP Instance Reference Macro (table C.17-3)."""
    references = []
    for header in sorted(source, key=lambda one: str(one.SOPInstanceUID)):
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        references.append(reference)
    series = Dataset()
    series.ReferencedSOPSequence = references
    series.SeriesInstanceUID = notice.series_instance_uid
    study = Dataset()
    study.ReferencedSeriesSequence = [series]
    study.StudyInstanceUID = notice.study_instance_uid
    return study


def _observer(notice: Notice) -> list[Dataset]:
    kind = _content("HAS OBS CONTEXT", "CODE", _OBSERVER_TYPE)
    kind.ConceptCodeSequence = [_code(_DEVICE)]
    uid = _content("HAS OBS CONTEXT", "UIDREF", _DEVICE_UID)
    uid.UID = device_uid(notice.station_name)
    said = {
        _DEVICE_NAME: notice.station_name,
        _DEVICE_MANUFACTURER: wording.MANUFACTURER,
        _DEVICE_MODEL: f"Delineate {notice.software_version}",
    }
    return [kind, uid, *(_text("HAS OBS CONTEXT", concept, wording.plain(text)) for concept, text in said.items())]


def _text(relationship: str, concept: Concept, text: str) -> Dataset:
    item = _content(relationship, "TEXT", concept)
    item.TextValue = text
    return item


def _content(relationship: str, value_type: str, concept: Concept) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [_code(concept)]
    return item


def _code(concept: Concept) -> Dataset:
    """Code Sequence Macro (table 8.8-1)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept
    return item
