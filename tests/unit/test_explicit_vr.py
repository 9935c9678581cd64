"""A structure set in Explicit VR is the same one, and one whose contours do not fit stays as it is."""

import io

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ImplicitVRLittleEndian

from node.dicom.explicit_vr import in_explicit_vr
from node.dicom.rtstruct import rtstruct
from node.domain.contours import build_structures
from node.domain.errors import VerificationError
from tests.builders import Identity, ball_and_box, ct_series, definition, grid, manifest_of, provenance, written
from tests.fakes import EXPLICIT

GREEK = Identity(patient_name="Διονύσιος^Ζωή", specific_character_set="ISO_IR 126")


def structure_set() -> bytes:
    source = ct_series(grid(slices=4), identity=GREEK)
    manifest = manifest_of(source)
    structures = build_structures(ball_and_box(manifest.grid), [definition("Ball", 1), definition("Box", 2)])
    return written(rtstruct(structures, manifest, source, provenance()))


def test_every_value_is_the_same_also_a_name_in_its_own_characters() -> None:
    implicit = structure_set()

    explicit = in_explicit_vr(implicit)

    assert explicit is not None
    before, after = dcmread(io.BytesIO(implicit)), dcmread(io.BytesIO(explicit))
    assert (after.file_meta.TransferSyntaxUID, before.file_meta.TransferSyntaxUID) == (EXPLICIT, ImplicitVRLittleEndian)
    assert after == before
    assert str(after.PatientName) == "Διονύσιος^Ζωή"
    assert after.ROIContourSequence[0].ContourSequence[0]["ContourData"].VR == "DS"


def test_pydicom_writes_the_same_bytes() -> None:
    implicit = structure_set()

    dataset = dcmread(io.BytesIO(implicit))
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    buffer = io.BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)

    assert in_explicit_vr(implicit) == buffer.getvalue()


@pytest.mark.parametrize(("points", "fits"), [(2700, True), (2800, False)])
def test_contours_that_would_become_unknown_stay_as_they_are(points: int, fits: bool) -> None:
    dataset = dcmread(io.BytesIO(structure_set()))
    contour: Dataset = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = ["-123.45"] * 3 * points

    assert (in_explicit_vr(written(dataset)) is not None) == fits


def test_a_file_that_is_cut_off_is_found() -> None:
    with pytest.raises(VerificationError):
        in_explicit_vr(structure_set()[:-30])
