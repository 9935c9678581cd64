"""The report of a negative result: what is in it, whose it is, and that a fault in it is found before it is sent."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom import Dataset, dcmread

from node.dicom.basic_text_sr import basic_text_sr
from node.dicom.verify_basic_text_sr import verify_basic_text_sr
from node.dicom.verify_identity import verify_identity
from node.domain.errors import InputError, VerificationError
from node.domain.notice import Notice
from tests.builders import Identity, ct_series, grid, uid, written

GREEK = Identity(patient_name="Διονύσιος^Ζωή", specific_character_set="ISO_IR 126")
SOURCE = ct_series(grid(slices=4), identity=GREEK)
NOTICE = Notice(
    job="1.2.3/ffff/m/1",
    study_instance_uid=str(SOURCE[0].StudyInstanceUID),
    series_instance_uid=str(SOURCE[0].SeriesInstanceUID),
    model="body-bones",
    reason="The images can’t be contoured: planes 2 and 3 are 7.5 mm apart, the others 2.5 mm.",
    what_to_do="Send a complete series.",
    decided_at=1_700_000_000.0,
    station_name="DELINEATE",
    software_version="1.0",
)


def report() -> Dataset:
    return basic_text_sr(NOTICE, SOURCE)


def said(dataset: Dataset) -> list[str]:
    return [str(item.TextValue) for item in dataset.ContentSequence if item.RelationshipType == "CONTAINS"]


def test_it_says_what_came_of_it_why_what_to_do_and_what_it_is_worth() -> None:
    conclusion, reason, what_to_do, notice = said(dcmread(io.BytesIO(written(report()))))

    assert conclusion == f"No contours were made by body-bones of series {NOTICE.series_instance_uid}."
    assert reason == "The images cant be contoured: planes 2 and 3 are 7.5 mm apart, the others 2.5 mm."
    assert what_to_do == "Send a complete series."
    assert "not a medical device" in notice


def test_it_is_of_the_patient_and_study_of_the_images_and_names_each_as_evidence() -> None:
    read = dcmread(io.BytesIO(written(report())))

    assert (read.PatientName, read.PatientID) == (SOURCE[0].PatientName, SOURCE[0].PatientID)
    assert read.StudyInstanceUID == SOURCE[0].StudyInstanceUID
    (study,) = read.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    named = {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedSOPSequence}
    assert named == {str(one.SOPInstanceUID) for one in SOURCE}
    verify_identity(written(report()), SOURCE)


def test_nobody_has_verified_it_and_a_device_says_it() -> None:
    read = report()

    assert (read.VerificationFlag, read.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
    (author,) = read.AuthorObserverSequence
    assert (author.ObserverType, author.StationName) == ("DEV", "DELINEATE")


def test_made_again_it_is_the_same_object_byte_for_byte() -> None:
    assert written(report()) == written(basic_text_sr(NOTICE, SOURCE))


def test_another_job_or_reason_is_another_object() -> None:
    others = [replace(NOTICE, job="1.2.3/ffff/m/2"), replace(NOTICE, reason="Another.")]

    uids = {str(basic_text_sr(one, SOURCE).SOPInstanceUID) for one in (NOTICE, *others)}

    assert len(uids) == 3


def test_without_an_image_there_is_nobody_to_report_to() -> None:
    with pytest.raises(InputError, match="No image"):
        basic_text_sr(NOTICE, [])


def test_a_report_as_it_was_written_holds() -> None:
    verify_basic_text_sr(written(report()), NOTICE, SOURCE)


FAULTS: dict[str, Callable[[Dataset], None]] = {
    "verified": lambda one: setattr(one, "VerificationFlag", "VERIFIED"),
    "not complete": lambda one: setattr(one, "CompletionFlag", "PARTIAL"),
    "Finding is another": lambda one: setattr(one.ContentSequence[-3], "TextValue", "All is well."),
    "sentences": lambda one: one.ContentSequence.pop(),
    "another study": lambda one: setattr(
        one.CurrentRequestedProcedureEvidenceSequence[0], "StudyInstanceUID", uid("another")
    ),
    "not the images": lambda one: (
        one.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence.pop()
    ),
    "UIDs of its own": lambda one: setattr(one, "SeriesInstanceUID", NOTICE.series_instance_uid),
    "SeriesNumber is missing": lambda one: delattr(one, "SeriesNumber"),
    "title": lambda one: setattr(one.ConceptNameCodeSequence[0], "CodeMeaning", "Contours"),
}


@pytest.mark.parametrize("words", FAULTS)
def test_every_fault_is_found_before_it_is_sent(words: str) -> None:
    faulty = report()
    FAULTS[words](faulty)

    with pytest.raises(VerificationError, match=words):
        verify_basic_text_sr(written(faulty), NOTICE, SOURCE)


def test_a_report_that_is_cut_off_is_found() -> None:
    with pytest.raises(VerificationError):
        verify_basic_text_sr(written(report())[:-20], NOTICE, SOURCE)
