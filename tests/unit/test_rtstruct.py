"""RT Structure Sets, as a receiver reads them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config
from pydicom.uid import ImplicitVRLittleEndian

from node.dicom.contour_encoding import decimal_strings
from node.dicom.rtstruct import SegmentReference, rtstruct
from node.domain.contours import build_structures
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.profiles import RoiName
from node.domain.structures import Omitted, Structure, StructureSet
from tests.builders import (
    GREEK,
    JANE,
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

SEGMENTATION = SegmentReference(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
    sop_instance_uid="2.25.77",
    segment_numbers={"Body": 1, "Liver with a name of more than sixteen characters": 2},
)
DEFINITIONS = [
    definition("Body", 1, 2, 3, interpreted_type="EXTERNAL"),
    definition("Liver with a name of more than sixteen characters", 1, 2),
    definition("Rind", 1),
    definition("Nowhere", 9),
]


def built(stack: Grid, datasets: list[Dataset] | None = None, identity: Identity = JANE) -> Dataset:
    """Build the set of the ball and the box, headers in reverse order."""
    source = datasets or ct_series(stack, identity=identity)
    manifest = manifest_of(source)
    structure_set = build_structures(ball_and_box(manifest.grid), DEFINITIONS)
    return rtstruct(structure_set, manifest, source[::-1], provenance(), segmentation=SEGMENTATION)


def test_equal_arguments_give_equal_bytes() -> None:
    assert written(built(grid())) == written(built(grid()))


def test_the_file_is_implicit_little_endian() -> None:
    meta = write_and_read(built(grid())).file_meta

    assert meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert meta.MediaStorageSOPInstanceUID == built(grid()).SOPInstanceUID


def test_it_belongs_to_the_study_and_frame_of_reference_of_the_source_in_a_series_of_its_own() -> None:
    source = ct_series(grid())

    result = write_and_read(built(grid(), source))

    assert result.Modality == "RTSTRUCT"
    assert result.StudyInstanceUID == source[0].StudyInstanceUID
    assert result.FrameOfReferenceUID == source[0].FrameOfReferenceUID
    assert result.SeriesInstanceUID != source[0].SeriesInstanceUID
    assert (result.PatientName, result.PatientID) == (source[0].PatientName, source[0].PatientID)


def test_every_image_of_the_series_is_referenced_once() -> None:
    stack = grid()

    result = write_and_read(built(stack))

    (frame_of_reference,) = result.ReferencedFrameOfReferenceSequence
    (study,) = frame_of_reference.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    referenced = [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence]
    assert referenced == [plane.sop_instance_uid for plane in stack.planes]


def test_each_contour_names_the_image_that_it_lies_on() -> None:
    stack = grid(orientation="oblique", tilt_mm=0.7)
    planes = {plane.sop_instance_uid: plane for plane in stack.planes}

    result = write_and_read(built(stack))

    for region in result.ROIContourSequence:
        for contour in region.ContourSequence:
            plane = planes[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            assert np.abs((points - plane.position_lps_mm) @ plane.normal).max() < 0.002


def test_contours_on_a_multi_frame_image_name_its_frames() -> None:
    result = write_and_read(built(grid(), [enhanced_ct(grid())]))

    frames = [
        item.ContourImageSequence[0].ReferencedFrameNumber for item in result.ROIContourSequence[0].ContourSequence
    ]
    series = result.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert set(frames) <= set(range(1, 7))
    assert list(series.ContourImageSequence[0].ReferencedFrameNumber) == [1, 2, 3, 4, 5, 6]


def test_written_coordinates_are_those_of_the_contours() -> None:
    manifest = manifest_of(ct_series(grid(orientation="oblique")))
    structure_set = build_structures(ball_and_box(manifest.grid), DEFINITIONS)

    result = write_and_read(built(grid(orientation="oblique")))

    for structure, region in zip(structure_set.structures, result.ROIContourSequence, strict=True):
        for contour, item in zip(structure.contours, region.ContourSequence, strict=True):
            np.testing.assert_array_equal(np.array(item.ContourData, dtype=float), contour.points_lps_mm.ravel())


def test_regions_carry_name_origin_code_and_type() -> None:
    result = write_and_read(built(grid()))

    body, liver, rind = result.StructureSetROISequence
    assert [item.ROINumber for item in (body, liver, rind)] == [1, 2, 3]
    assert [item.ROIName for item in (body, liver, rind)] == [one.name for one in DEFINITIONS[:3]]
    assert liver.ROIGenerationAlgorithm == "AUTOMATIC"
    assert liver.ROIGenerationDescription == "torso-organs 1.2.0"
    assert liver.DefinitionSourceSequence[0].ReferencedSegmentNumber == 2
    external, organ, _ = result.RTROIObservationsSequence
    assert (external.RTROIInterpretedType, organ.RTROIInterpretedType) == ("EXTERNAL", "ORGAN")
    assert organ.ROIObservationLabel == "Liver with a na~"
    code = organ.RTROIIdentificationCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("10200004", "SCT", "Liver")
    assert code.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert organ.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"


def test_it_says_that_it_is_unapproved_research_and_what_is_missing() -> None:
    result = write_and_read(built(grid()))

    assert result.ApprovalStatus == "UNAPPROVED"
    assert result.Manufacturer == "Delineate"
    assert result.SoftwareVersions[0] == "Delineate 0.1.0"
    assert result.StructureSetLabel == "torso-organs r1"
    assert "not a medical device" in result.StructureSetDescription
    assert "Nowhere (The model found no voxel of it in this series)" in result.StructureSetDescription
    assert "research use" in result.SeriesDescription


def test_every_value_obeys_its_vr(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = built(grid(orientation="oblique"), identity=GREEK)

    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    values = [element.value for element in write_and_read(dataset).iterall()]

    assert len(values) > 200


def test_a_set_without_structures_is_refused() -> None:
    source = ct_series(grid())
    nothing = StructureSet(structures=(), omitted=(Omitted(name="Liver", reason="Not there."),))

    with pytest.raises(InputError, match="None of the model's structures"):
        rtstruct(nothing, manifest_of(source), source, provenance())


def test_without_a_segmentation_no_region_names_one() -> None:
    source = ct_series(grid())
    manifest = manifest_of(source)
    structure_set = build_structures(ball_and_box(manifest.grid), DEFINITIONS)

    result = rtstruct(structure_set, manifest, source, provenance())

    assert all("DefinitionSourceSequence" not in item for item in result.StructureSetROISequence)


NAMES = [
    RoiName(structure="Body", name="BODY", reason="the receiver's own name for it"),
    RoiName(structure="Liver with a name of more than sixteen characters", name="Liver", reason="longer than 16"),
    RoiName(structure="Rind", name="Rind"),
]


def named(**options: object) -> Dataset:
    """Build the set under other names, as a receiver would see it."""
    source = ct_series(grid())
    manifest = manifest_of(source)
    structure_set = build_structures(ball_and_box(manifest.grid), DEFINITIONS)
    return write_and_read(rtstruct(structure_set, manifest, source, provenance(), NAMES, **options))  # type: ignore[arg-type]


def test_regions_have_the_names_they_are_given_and_tell_their_own() -> None:
    result = named()

    body, liver, rind = result.StructureSetROISequence
    assert [item.ROIName for item in (body, liver, rind)] == ["BODY", "Liver", "Rind"]
    assert body.ROIDescription == "Body: the receiver's own name for it"
    assert liver.ROIDescription == "Liver with a name of more than sixteen characters: longer than 16"
    assert "ROIDescription" not in rind
    assert result.RTROIObservationsSequence[1].ROIObservationLabel == "Liver"


def test_the_description_tells_every_rename_and_omission() -> None:
    said = named().StructureSetDescription

    assert "Omitted: Nowhere (The model found no voxel of it in this series)." in said
    assert "Renamed: Body to BODY (the receiver's own name for it); Liver with a name" in said
    assert "to Liver (longer than 16)." in said


def test_names_that_are_not_one_for_each_structure_are_an_error() -> None:
    source = ct_series(grid())
    structure_set = build_structures(ball_and_box(grid()), DEFINITIONS)

    with pytest.raises(ValueError, match="shorter"):
        rtstruct(structure_set, manifest_of(source), source, provenance(), NAMES[:2])


def test_a_name_that_cannot_be_written_is_kept_in_the_description() -> None:
    source = ct_series(grid())
    manifest = manifest_of(source)
    structure_set = build_structures(ball_and_box(manifest.grid), [definition("Rippe ß", 1), definition("rippe ss", 2)])

    result = write_and_read(rtstruct(structure_set, manifest, source, provenance()))

    assert [item.ROIName for item in result.StructureSetROISequence] == ["Rippe ss", "rippe ss_2"]
    assert "Renamed: Rippe ss to Rippe ss" in result.StructureSetDescription


def test_a_structure_without_contours_is_listed_without_any() -> None:
    source = ct_series(grid())
    manifest = manifest_of(source)
    found = build_structures(ball_and_box(manifest.grid), DEFINITIONS[:1]).structures
    empty = Structure(definition=DEFINITIONS[3], contours=(), volume_cm3=0.0)

    result = write_and_read(
        rtstruct(StructureSet(structures=(*found, empty), omitted=()), manifest, source, provenance())
    )

    region, contours, observation = (
        result.StructureSetROISequence[1],
        result.ROIContourSequence[1],
        result.RTROIObservationsSequence[1],
    )
    assert (region.ROIName, region.ROIVolume) == ("Nowhere", 0)
    assert region.ROINumber == contours.ReferencedROINumber == observation.ReferencedROINumber == 2
    assert "ContourSequence" not in contours
    assert list(contours.ROIDisplayColor) == list(DEFINITIONS[3].colour_rgb)


def test_contours_that_exclude_say_so() -> None:
    source = ct_series(grid())
    manifest = manifest_of(source)
    structure_set = build_structures(ball_and_box(manifest.grid), DEFINITIONS[:2])
    first, second = structure_set.structures
    excluding = replace(first, geometric_type="CLOSEDPLANAR_XOR")

    result = write_and_read(
        rtstruct(StructureSet(structures=(excluding, second), omitted=()), manifest, source, provenance())
    )

    types = [{item.ContourGeometricType for item in region.ContourSequence} for region in result.ROIContourSequence]
    assert types == [{"CLOSEDPLANAR_XOR"}, {"CLOSED_PLANAR"}]


def test_two_forms_of_a_result_are_two_instances_in_two_series() -> None:
    plain, eclipse, again = named(), named(form="eclipse+labelmap"), named(form="eclipse+labelmap")

    assert plain.SOPInstanceUID != eclipse.SOPInstanceUID == again.SOPInstanceUID
    assert plain.SeriesInstanceUID != eclipse.SeriesInstanceUID == again.SeriesInstanceUID
    assert plain.SOPInstanceUID == write_and_read(built(grid())).SOPInstanceUID


def test_the_label_is_as_short_as_the_receiver_wants_it() -> None:
    assert named(label_length=10).StructureSetLabel == "torso-~ r1"


def test_a_rerun_names_its_predecessor() -> None:
    (reference,) = named(predecessor_uid="2.25.41").PredecessorStructureSetSequence

    assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.481.3"
    assert reference.ReferencedSOPInstanceUID == "2.25.41"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.0, -0.0, 10.0, -7.0], b"0\\0\\10\\-7\\"),
        ([0.5, -0.05, 12.0, 100.25], b"0.5\\-0.05\\12\\100.25\\"),
        ([-412.5, 1234.001, 0.001], b"-412.5\\1234.001\\0.001\\"),
        ([-12345678.123456], b"-12345678.123456\\"),
        ([1 / 3, -2 / 3], b"0.333333\\-0.666667\\"),
    ],
)
def test_decimal_strings_are_the_shortest_that_give_the_number_back(values: list[float], text: bytes) -> None:
    written_text, ends = decimal_strings(np.array(values))

    assert written_text == text
    assert [text[end - 1 : end] for end in ends] == [b"\\"] * len(values)


@settings(deadline=None)
@given(st.lists(st.integers(-(10**10), 10**10), min_size=1), st.integers(0, 6))
def test_every_rounded_coordinate_comes_back_exactly_and_fits_a_ds(whole: list[int], decimals: int) -> None:
    values = np.array(whole) / 10.0**decimals

    texts = decimal_strings(values)[0].split(b"\\")[:-1]

    assert [float(text) for text in texts] == values.tolist()
    assert all(len(text) <= 16 for text in texts)
