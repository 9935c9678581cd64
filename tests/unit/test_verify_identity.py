"""A result that says it is another patient's, or of another study, is caught."""

from collections.abc import Callable
from io import BytesIO

import pytest
from pydicom import Dataset, config

from node.dicom.rtstruct import rtstruct
from node.dicom.segmentation import segmentation
from node.dicom.verify_identity import verify_acquisition, verify_identity
from node.domain.contours import build_structures
from node.domain.errors import VerificationError
from tests.builders import (
    GREEK,
    JAPANESE,
    Identity,
    ball_and_box,
    ct_series,
    definition,
    enhanced_ct,
    grid,
    manifest_of,
    provenance,
    write_and_read,
    written,
)

DEFINITIONS = [definition("All", 1, 2, 3)]


def results(source: list[Dataset]) -> list[Dataset]:
    manifest = manifest_of(source)
    label_map = ball_and_box(manifest.grid)
    structures = rtstruct(build_structures(label_map, DEFINITIONS), manifest, source, provenance())
    segments = segmentation(label_map, DEFINITIONS, manifest, source, provenance())
    return [write_and_read(structures), write_and_read(segments)]


@pytest.mark.parametrize("identity", [Identity(), JAPANESE, GREEK])
def test_the_patient_of_the_images_passes(identity: Identity) -> None:
    source = ct_series(grid(), identity=identity)

    for result in results(source):
        verify_identity(written(result), source)


def test_a_value_that_results_cannot_hold_is_empty_and_passes() -> None:
    source = ct_series(grid())
    with config.disable_value_validation():
        for header in source:
            header.PatientID = "P" * 65

    for result in results(source):
        assert result.PatientID == ""
        verify_identity(written(result), source)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "P-0002"),
        ("PatientName", "Doe^John"),
        ("PatientBirthDate", "19010101"),
        ("PatientID", ""),
        ("StudyID", "another"),
        ("AccessionNumber", "another"),
        ("StudyInstanceUID", "2.25.7"),
        ("SpecificCharacterSet", "ISO_IR 192"),
        ("IssuerOfPatientID", "ELSEWHERE"),
        ("StudyDescription", "Another"),
        ("PatientWeight", "80"),
        ("TimezoneOffsetFromUTC", "+0900"),
    ],
)
def test_another_patient_or_study_is_caught_and_not_named(keyword: str, value: str) -> None:
    source = ct_series(grid())

    for result in results(source):
        setattr(result, keyword, value)
        with pytest.raises(VerificationError, match=keyword) as caught:
            verify_identity(written(result), source)
        assert not value or value not in caught.value.reason


def test_a_value_that_breaks_its_vr_is_caught_where_the_images_have_none() -> None:
    source = ct_series(grid())
    for header in source:
        header.PatientSex = ""

    for result in results(source):
        result.PatientSex = "MALE"
        with pytest.raises(VerificationError, match="PatientSex"):
            verify_identity(written(result), source)


@pytest.mark.parametrize("name", ["iso_ir 100", "ISO-IR 100", "ISO 2022 IR 100", ["", "ISO 2022 IR 87"]])
@pytest.mark.filterwarnings("ignore:.*encoding.*:UserWarning")
def test_a_character_set_called_otherwise_than_by_the_standard_passes(name: str | list[str]) -> None:
    source = ct_series(grid())
    with config.disable_value_validation():
        for header in source:
            header.SpecificCharacterSet = name

    for result in results(source):
        verify_identity(written(result), source)


def test_what_is_no_object_is_caught() -> None:
    with pytest.raises(VerificationError):
        verify_identity(BytesIO(b"nothing").getvalue(), ct_series(grid()))


def lossy(result: Dataset) -> None:
    result.LossyImageCompression = "01"


def another_thickness(result: Dataset) -> None:
    result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = "1"


@pytest.mark.parametrize("multi_frame", [False, True])
@pytest.mark.parametrize("thickness", ["3", "5", None])
def test_slices_as_the_images_have_them_pass(thickness: str | None, multi_frame: bool) -> None:
    source = [enhanced_ct(grid())] if multi_frame else ct_series(grid())
    for header in source:
        measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0] if multi_frame else header
        measures.SliceThickness = thickness
        header.LossyImageCompression = "01"

    _, segments = results(source)

    verify_acquisition(written(segments), source, manifest_of(source).grid)


@pytest.mark.parametrize(
    ("change", "reason"), [(lossy, "Lossy Image Compression"), (another_thickness, "Slice Thickness")]
)
def test_another_compression_or_thickness_is_caught(change: Callable[[Dataset], None], reason: str) -> None:
    source = ct_series(grid())
    _, segments = results(source)
    change(segments)

    with pytest.raises(VerificationError, match=reason):
        verify_acquisition(written(segments), source, manifest_of(source).grid)


def test_a_mask_of_lossy_images_that_is_not_marked_is_caught() -> None:
    source = ct_series(grid())
    _, segments = results(source)
    source[2].LossyImageCompression = "01"

    with pytest.raises(VerificationError, match="Lossy Image Compression"):
        verify_acquisition(written(segments), source, manifest_of(source).grid)
