"""Read a written Basic Text SR, and hold it against the notice that it tells and the images that it is of."""

from collections.abc import Sequence

from pydicom import Dataset

from node.dicom.basic_text_sr import TITLE, sentences
from node.dicom.required_attributes import CODE, OF_EVERY_RESULT, REFERENCE, Required, verify_required
from node.dicom.strict_reading import Item, Reader, explicit_elements, read_file_meta
from node.dicom.verification import expect, malformed_is_an_error
from node.domain.notice import Notice

_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.11"
_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence",)
_SERIES = (*_EVIDENCE, "ReferencedSeriesSequence")
_CONTENT = ("ContentSequence",)

REQUIRED = (
    # A report has no frame of reference.
    *(one for one in OF_EVERY_RESULT if one.module != "Frame of Reference"),
    Required(
        module="SR Document Series",
        clause="C.17.1",
        type_1=("Modality", "SeriesInstanceUID", "SeriesNumber"),
        type_2=("ReferencedPerformedProcedureStepSequence",),
    ),
    Required(module="General Equipment", clause="C.7.5.1", type_2=("Manufacturer",)),
    Required(
        module="SR Document General",
        clause="C.17.2",
        type_1=("InstanceNumber", "CompletionFlag", "VerificationFlag", "ContentDate", "ContentTime", *_EVIDENCE),
        type_2=("PerformedProcedureCodeSequence",),
    ),
    Required(module="SR Document General", clause="C.17.2", within=_EVIDENCE, type_1=("StudyInstanceUID",)),
    Required(module="SR Document General", clause="C.17.2", within=_SERIES, type_1=("SeriesInstanceUID",)),
    Required(
        module="SR Document General", clause="C.17.2", within=(*_SERIES, "ReferencedSOPSequence"), type_1=REFERENCE
    ),
    Required(
        module="SR Document Content",
        clause="C.17.3",
        type_1=("ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", *_CONTENT),
    ),
    Required(module="SR Document Content", clause="C.17.3", within=("ConceptNameCodeSequence",), type_1=CODE),
    Required(
        module="SR Document Content",
        clause="C.17.3",
        within=_CONTENT,
        type_1=("RelationshipType", "ValueType", "ConceptNameCodeSequence"),
    ),
)


def verify_basic_text_sr(written: bytes, notice: Notice, source: Sequence[Dataset]) -> None:
    """Check that a report, read anew, says what the notice says, of the images it is about, and claims no more.

    Whose it is checks ``verify_identity``.

    Raises
    ------
    VerificationError
        Something differs; the reason names it.
    """
    with malformed_is_an_error():
        meta, start = read_file_meta(written)
        report = Reader(written, explicit_elements).item(start, len(written))
        verify_required(report, REQUIRED)
        classes = {report.text("SOPClassUID"), meta.text("MediaStorageSOPClassUID")}
        expect(classes == {_CLASS_UID}, "The SOP Class is not Basic Text SR.")
        same = meta.text("MediaStorageSOPInstanceUID") == report.text("SOPInstanceUID")
        expect(same, "The file names another instance.")
        expect(meta.text("TransferSyntaxUID") == _EXPLICIT_VR_LITTLE_ENDIAN, "The Transfer Syntax is another one.")
        expect(report.text("VerificationFlag") == "UNVERIFIED", "It says that somebody verified it.")
        expect(report.text("CompletionFlag") == "COMPLETE", "It says that it is not complete.")
        _verify_uids(report, notice, source)
        _verify_content(report, notice)
        _verify_evidence(report, notice, source)


def _verify_uids(report: Item, notice: Notice, source: Sequence[Dataset]) -> None:
    own = {report.text("SOPInstanceUID"), report.text("SeriesInstanceUID")}
    taken = {notice.study_instance_uid, notice.series_instance_uid, *(str(one.SOPInstanceUID) for one in source)}
    expect(len(own - taken) == 2, "The report has not UIDs of its own.")


def _verify_content(report: Item, notice: Notice) -> None:
    expect(_concept(report) == TITLE, "The title is another one.")
    told = {_concept(item): item.text("TextValue") for item in report.items("ContentSequence") if _is_told(item)}
    meant = sentences(notice)
    expect(list(told) == list(meant), "It has not the sentences that it should have.")
    for concept, text in meant.items():
        expect(told[concept] == text, f"{concept[2]} is another one.")


def _is_told(item: Item) -> bool:
    return item.text("RelationshipType") == "CONTAINS"


def _concept(item: Item) -> tuple[str, str, str]:
    code = item.item("ConceptNameCodeSequence")
    return code.text("CodeValue"), code.text("CodingSchemeDesignator"), code.text("CodeMeaning")


def _verify_evidence(report: Item, notice: Notice, source: Sequence[Dataset]) -> None:
    study = report.item(_EVIDENCE[0])
    series = study.item("ReferencedSeriesSequence")
    expect(study.text("StudyInstanceUID") == notice.study_instance_uid, "Its evidence is of another study.")
    expect(series.text("SeriesInstanceUID") == notice.series_instance_uid, "Its evidence is of another series.")
    named = {
        (one.text("ReferencedSOPInstanceUID"), one.text("ReferencedSOPClassUID"))
        for one in series.items("ReferencedSOPSequence")
    }
    meant = {(str(one.SOPInstanceUID), str(one.SOPClassUID)) for one in source}
    expect(named == meant, "Its evidence is not the images of the series.")
