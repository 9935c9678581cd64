"""Seeded faults in RT Structure Sets: each is caught by its reason, whatever part of the object it is in."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, RTPlanStorage

from node.dicom.required_attributes import Required
from node.dicom.required_rtstruct import REQUIRED
from node.dicom.verify_rtstruct import verify_rtstruct
from node.domain.errors import VerificationError
from node.domain.profiles import RoiName
from tests.builders import grid, written
from tests.rtstruct_case import (
    DEFINITIONS,
    KIDNEY_L,
    NAMES,
    PREDECESSOR_UID,
    RIGHT,
    SEGMENTATION_UID,
    Case,
    Change,
    case,
    contours_of,
    filled,
    points_of,
    put,
)


def vertex_moved_by(*offset_mm: float) -> Change:
    """Give a fault that moves the topmost vertex of a contour of the box."""

    def change(dataset: Dataset) -> None:
        contour = contours_of(dataset, 1)[0]
        points = points_of(contour)
        points[np.argmin(points[:, 1])] += offset_mm
        put(contour, points)

    return change


def point_outside_the_image(dataset: Dataset) -> None:
    contour = contours_of(dataset, 2)[0]
    points = points_of(contour)
    # The first pixel's centre is at -31.5; pixels are 0.8 wide.
    points[np.argmin(points[:, 0]), 0] = -31.5 - 0.81
    put(contour, points)


def repeated_first_point(dataset: Dataset) -> None:
    contour = contours_of(dataset)[0]
    points = points_of(contour)
    put(contour, np.concatenate([points, points[:1]]))


def added(times: int) -> Change:
    """Give a fault that lists a contour again."""

    def change(dataset: Dataset) -> None:
        for number in range(times):
            again = Dataset()
            again.update(contours_of(dataset, 1)[0])
            again.ContourNumber = 900 + number
            dataset.ROIContourSequence[1].ContourSequence.append(again)

    change.__name__ = f"contour_there_{times + 1}_times"
    return change


def mixed_types(dataset: Dataset) -> None:
    contours_of(dataset)[1].ContourGeometricType = "CLOSEDPLANAR_XOR"


def open_contour(dataset: Dataset) -> None:
    contours_of(dataset)[1].ContourGeometricType = "OPEN_PLANAR"


def contour_number_twice(dataset: Dataset) -> None:
    contours_of(dataset)[1].ContourNumber = 1


def contour_without_image(dataset: Dataset) -> None:
    del contours_of(dataset)[1].ContourImageSequence


def contour_with_an_offset(dataset: Dataset) -> None:
    contours_of(dataset)[1].ContourOffsetVector = [0, 0, 3]


def image_of_another_class(dataset: Dataset) -> None:
    for contour in contours_of(dataset):
        contour.ContourImageSequence[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def two_images_of_a_contour(dataset: Dataset) -> None:
    contour = contours_of(dataset)[0]
    contour.ContourImageSequence.append(contours_of(dataset)[1].ContourImageSequence[0])


def name_of_65_characters(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ROIName = "K" * 65


def label_of_17_characters(dataset: Dataset) -> None:
    dataset.StructureSetLabel = "torso-organs run1"


def observation_label_of_17_characters(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[0].ROIObservationLabel = "K" * 17


def description_of_1025_characters(dataset: Dataset) -> None:
    dataset.StructureSetDescription = "x" * 1025


def uid_with_a_letter(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "1.2.x"


def uid_of_65_characters(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "1." + "2" * 63


def number_that_is_none(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].add_new("ROIVolume", "LO", "big")


def roi_number_twice(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[1].ROINumber = 1


def observation_number_twice(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[1].ObservationNumber = 1


def two_observations_of_one(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[1].ReferencedROINumber = 1


def image_listed_twice(dataset: Dataset) -> None:
    images(dataset)[1].ReferencedSOPInstanceUID = images(dataset)[0].ReferencedSOPInstanceUID


def foreign_image_listed(dataset: Dataset) -> None:
    images(dataset)[1].ReferencedSOPInstanceUID = "2.25.99"


def images(dataset: Dataset) -> list[Dataset]:
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    return list(study.RTReferencedSeriesSequence[0].ContourImageSequence)


def foreign_definition_source(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].DefinitionSourceSequence[0].ReferencedSOPInstanceUID = "2.25.99"


def definition_source_of_another_class(dataset: Dataset) -> None:
    source = dataset.StructureSetROISequence[0].DefinitionSourceSequence[0]
    source.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


def foreign_predecessor(dataset: Dataset) -> None:
    dataset.PredecessorStructureSetSequence[0].ReferencedSOPInstanceUID = "2.25.99"


def no_predecessor(dataset: Dataset) -> None:
    del dataset.PredecessorStructureSetSequence


def foreign_reference(dataset: Dataset) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "2.25.99"
    dataset.ReferencedImageSequence = [reference]


def swapped_side_names(dataset: Dataset) -> None:
    left, right = dataset.StructureSetROISequence[:2]
    left.ROIName, right.ROIName = right.ROIName, left.ROIName


def swapped_side_codes(dataset: Dataset) -> None:
    left, right = (one.RTROIIdentificationCodeSequence[0] for one in dataset.RTROIObservationsSequence[:2])
    left.SegmentedPropertyTypeModifierCodeSequence, right.SegmentedPropertyTypeModifierCodeSequence = (
        right.SegmentedPropertyTypeModifierCodeSequence,
        left.SegmentedPropertyTypeModifierCodeSequence,
    )


def lost_side_code(dataset: Dataset) -> None:
    del (
        dataset.RTROIObservationsSequence[0]
        .RTROIIdentificationCodeSequence[0]
        .SegmentedPropertyTypeModifierCodeSequence
    )


def another_code(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0].CodeValue = "64033007"


def another_category(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[0].SegmentedPropertyCategoryCodeSequence[0].CodeValue = "85756007"


def another_interpreted_type(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[1].RTROIInterpretedType = "PTV"


def another_colour(dataset: Dataset) -> None:
    dataset.ROIContourSequence[1].ROIDisplayColor = [3, 2, 1]


def manual(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[1].ROIGenerationAlgorithm = "MANUAL"


def approved(dataset: Dataset) -> None:
    dataset.ApprovalStatus = "APPROVED"


def another_modality(dataset: Dataset) -> None:
    dataset.Modality = "SEG"


def series_of_the_images(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = case().manifest.series_instance_uid


def another_class(dataset: Dataset) -> None:
    dataset.SOPClassUID = RTPlanStorage


def contour_of_the_empty_structure(dataset: Dataset) -> None:
    dataset.ROIContourSequence[3].ContourSequence = [contours_of(dataset)[0]]


def empty_contour_sequence(dataset: Dataset) -> None:
    dataset.ROIContourSequence[3].ContourSequence = []


def source_of(dataset: Dataset, region: int = 0) -> Dataset:
    item: Dataset = dataset.StructureSetROISequence[region].DefinitionSourceSequence[0]
    return item


def swapped_segments(dataset: Dataset) -> None:
    source_of(dataset, 0).ReferencedSegmentNumber, source_of(dataset, 1).ReferencedSegmentNumber = 2, 1


def no_segment(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[1].DefinitionSourceSequence


def segment_twice(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[1].DefinitionSourceSequence.append(source_of(dataset, 1))


def segment_of_nothing(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[3].DefinitionSourceSequence = [source_of(dataset)]


def segments_of_a_label_map(dataset: Dataset) -> None:
    for region in range(3):
        source_of(dataset, region).ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"


def observation_label_of_the_other_side(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[0].ROIObservationLabel = "Kid_R"


def description_of_the_other_side(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ROIDescription = "Kidney_R: shortened"


def meaning_of_the_other_side(dataset: Dataset) -> None:
    kind = dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning = "Right"


def meaning_of_another_organ(dataset: Dataset) -> None:
    dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0].CodeMeaning = "Heart"


def another_volume(dataset: Dataset) -> None:
    volume = dataset.StructureSetROISequence[0].ROIVolume
    dataset.StructureSetROISequence[0].ROIVolume = f"{float(volume) * 1.0001:.8g}"


def negative_volume(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ROIVolume = "-1"


def reviewed(dataset: Dataset) -> None:
    dataset.ReviewerName = "Roe^Richard"


def uid_with_a_leading_zero(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "1.02.3"


def series_of_the_study(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = dataset.StudyInstanceUID


def called_as_an_image(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = case().manifest.grid.planes[0].sop_instance_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def date_that_is_none(dataset: Dataset) -> None:
    dataset.StructureSetDate = "20260230"


def time_that_is_none(dataset: Dataset) -> None:
    dataset.StructureSetTime = "126000"


def point_twice(dataset: Dataset) -> None:
    contour = contours_of(dataset, 1)[0]
    points = points_of(contour)
    put(contour, np.insert(points, 1, points[1], axis=0))


def spike_to(*offset_mm: float) -> Change:
    """Give a fault that draws a line of no width from a point of a contour of the box and back."""

    def change(dataset: Dataset) -> None:
        contour = contours_of(dataset, 1)[0]
        points = points_of(contour)
        put(contour, np.insert(points, 1, [points[0] + offset_mm, points[0]], axis=0))

    change.__name__ = f"spike_to_{offset_mm}"
    return change


def contour_without_a_pixel(dataset: Dataset) -> None:
    contour = Dataset()
    contour.update(contours_of(dataset, 1)[0])
    # Not across a row of pixel centres.
    put(contour, points_of(contour)[0] + np.array([[0.0, 0.0, 0.0], [0.05, 0.0, 0.0], [0.05, 0.05, 0.0]]))
    contour.ContourNumber = 900
    dataset.ROIContourSequence[1].ContourSequence.append(contour)


def excluding_nothing(dataset: Dataset) -> None:
    for contour in contours_of(dataset, 1):
        contour.ContourGeometricType = "CLOSEDPLANAR_XOR"


FAULTS: list[tuple[Change, str]] = [
    (swapped_segments, "Kid_L does not name its own segment"),
    (no_segment, "Kid_R does not name its own segment"),
    (segment_twice, "Kid_R does not name its own segment"),
    (segment_of_nothing, "Spleen does not name its own segment"),
    (segments_of_a_label_map, "Segmentation of another class"),
    (observation_label_of_the_other_side, "Kid_L has the observation label of something else"),
    (description_of_the_other_side, "Kid_L has the description of something else"),
    (meaning_of_the_other_side, "Kid_L has another code"),
    (meaning_of_another_organ, "Kid_L has another code"),
    (another_volume, "Kid_L has another volume"),
    (negative_volume, "Kid_L has another volume"),
    (reviewed, "ReviewerName does not belong"),
    (uid_with_a_leading_zero, "UID is malformed"),
    (series_of_the_study, "UIDs of its own"),
    (called_as_an_image, "UIDs of its own"),
    (date_that_is_none, "StructureSetDate has a value that is no DA"),
    (time_that_is_none, "StructureSetTime has a value that is no TM"),
    (point_twice, "Kid_R has a contour that repeats a point"),
    (spike_to(0.0, -0.5, 0.0), "Kid_R has a contour that goes out and back"),
    (spike_to(4.0, 3.0, 0.0), "Kid_R has a contour that goes out and back"),
    (contour_without_a_pixel, "Kid_R has a contour that holds no pixel"),
    (excluding_nothing, "Kid_R has contours that are to exclude, of which none does"),
    (vertex_moved_by(0.0, -1.5, 0.0), "Kid_R differs from the label map in"),
    (vertex_moved_by(0.0, 0.0, 0.011), "Kid_R has a contour 0.011 mm off the image"),
    (point_outside_the_image, "Body has a point outside the image"),
    (repeated_first_point, "repeats its first point"),
    (added(1), "Kid_R differs from the label map"),
    (added(2), "Kid_R has contours that overlap without excluding"),
    (mixed_types, "several geometric types"),
    (open_contour, "several geometric types"),
    (contour_number_twice, "Contour Number twice"),
    (contour_without_image, "without ContourImageSequence"),
    (contour_with_an_offset, "more than belongs to it"),
    (image_of_another_class, "image of another class"),
    (two_images_of_a_contour, "several images"),
    (name_of_65_characters, "ROIName has a value of 65 characters"),
    (label_of_17_characters, "StructureSetLabel has a value of 17 characters"),
    (observation_label_of_17_characters, "ROIObservationLabel has a value of 17 characters"),
    (description_of_1025_characters, "StructureSetDescription has a value of 1025 characters"),
    (uid_with_a_letter, "SeriesInstanceUID has a value that is no UI"),
    (uid_of_65_characters, "SeriesInstanceUID has a value of 65 characters"),
    (number_that_is_none, "ROIVolume has a value that is no DS"),
    (roi_number_twice, "do not go together"),
    (observation_number_twice, "do not go together"),
    (two_observations_of_one, "do not go together"),
    (image_listed_twice, "referenced images"),
    (foreign_image_listed, "referenced images"),
    (foreign_definition_source, "DefinitionSourceSequence refers to an object that is not of this result"),
    (definition_source_of_another_class, "DefinitionSourceSequence refers to an object"),
    (foreign_predecessor, "PredecessorStructureSetSequence refers to an object"),
    (no_predecessor, "does not name its predecessor"),
    (foreign_reference, "ReferencedImageSequence refers to an object"),
    (swapped_side_names, "Kid_R carries the code of the other side"),
    (swapped_side_codes, "Kid_L carries the code of the other side"),
    (lost_side_code, "Kid_L has another code"),
    (another_code, "Kid_L has another code"),
    (another_category, "Kid_L has another code"),
    (another_interpreted_type, "Kid_R has another interpreted type"),
    (another_colour, "Kid_R has another colour"),
    (manual, "Kid_R is not said to be AUTOMATIC"),
    (approved, "not UNAPPROVED"),
    (another_modality, "Modality"),
    (series_of_the_images, "UIDs of its own"),
    (another_class, "no RT Structure Set"),
    (contour_of_the_empty_structure, "Spleen differs from the label map"),
    (empty_contour_sequence, "Spleen has an empty Contour Sequence"),
]


@pytest.mark.parametrize("geometric_type", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
@pytest.mark.parametrize("tilt_mm", [0.0, 0.7])
def test_a_sound_set_passes(geometric_type: str, tilt_mm: float) -> None:
    sound = Case(grid(orientation="oblique", tilt_mm=tilt_mm), geometric_type)

    sound.verify(sound.written)


@pytest.mark.parametrize(("change", "reason"), FAULTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_fault_is_caught(change: Change, reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        case().verify(case().changed(change))


def named(attributes: Sequence[tuple[Required, str]]) -> list[ParameterSet]:
    return [pytest.param(one, keyword, id=".".join((*one.within, keyword))) for one, keyword in attributes]


OF_TYPE_1 = [(one, keyword) for one in REQUIRED for keyword in one.type_1]
OF_TYPE_2 = [(one, keyword) for one in REQUIRED for keyword in one.type_2]


@pytest.mark.parametrize(("required", "keyword"), named([*OF_TYPE_1, *OF_TYPE_2]))
def test_a_required_attribute_that_is_missing_is_caught(required: Required, keyword: str) -> None:
    def missing(dataset: Dataset) -> None:
        del inner(dataset, required.within)[keyword]

    with pytest.raises(VerificationError, match=f"{keyword} is missing"):
        case().verify(case().changed(missing))


@pytest.mark.parametrize(("required", "keyword"), named(OF_TYPE_1))
def test_an_attribute_of_type_1_that_is_empty_is_caught(required: Required, keyword: str) -> None:
    def empty(dataset: Dataset) -> None:
        inner(dataset, required.within)[keyword].value = None

    with pytest.raises(VerificationError, match=f"{keyword} (is empty|has a value that)"):
        case().verify(case().changed(empty))


def inner(dataset: Dataset, within: Sequence[str]) -> Dataset:
    for keyword in within:
        dataset = dataset[keyword].value[0]
    return dataset


def test_file_meta_information_of_another_object_is_caught() -> None:
    own = str(dcmread(io.BytesIO(case().written)).SOPInstanceUID).encode()
    other = own[:-1] + (b"1" if own.endswith(b"2") else b"2")

    with pytest.raises(VerificationError, match="File Meta Information names another object"):
        case().verify(case().written.replace(own, other, 1))


def test_a_hole_that_is_lost_is_caught_also_where_contours_exclude() -> None:
    def lost_hole(dataset: Dataset) -> None:
        # The core is drawn last.
        del dataset.ROIContourSequence[0].ContourSequence[-1]

    with pytest.raises(VerificationError, match="Kid_L differs from the label map"):
        case("CLOSEDPLANAR_XOR").verify(case("CLOSEDPLANAR_XOR").changed(lost_hole))


def test_nested_contours_that_do_not_say_that_they_exclude_are_caught_for_readers_fill_them() -> None:
    def nested(dataset: Dataset) -> None:
        for contour in contours_of(dataset):
            contour.ContourGeometricType = "CLOSED_PLANAR"

    with pytest.raises(VerificationError, match="Kid_L has contours that overlap without excluding"):
        case("CLOSEDPLANAR_XOR").verify(case("CLOSEDPLANAR_XOR").changed(nested))


def test_another_encoding_is_caught() -> None:
    dataset = dcmread(io.BytesIO(case().written))
    buffer = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(buffer, implicit_vr=False, little_endian=True)

    with pytest.raises(VerificationError, match="not in Implicit VR Little Endian"):
        case().verify(buffer.getvalue())


def test_a_definition_that_contradicts_itself_is_caught() -> None:
    wrong = replace(KIDNEY_L, modifier=RIGHT)

    with pytest.raises(VerificationError, match="other side"):
        case().verify(case().changed(swapped_side_codes), (wrong, *DEFINITIONS[1:]))


def test_a_name_of_the_other_side_is_caught() -> None:
    names = (replace(NAMES[0], name="Kid_R"), replace(NAMES[1], name="Kid_L"), *NAMES[2:])
    swapped = case().changed(swapped_side_names)

    with pytest.raises(VerificationError, match="the other side"):
        verify_rtstruct(
            swapped, case().label_map, DEFINITIONS, case().manifest, names, SEGMENTATION_UID, PREDECESSOR_UID
        )


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (NAMES[:3], "The ROIs are not those"),
        (NAMES[1:], "Kidney_L has voxels and was given no name"),
        ((NAMES[0], replace(NAMES[1], name="Kid_L"), *NAMES[2:]), "each once"),
        ((*NAMES, RoiName(structure="Liver", name="Liver")), "each once"),
    ],
    ids=["unnamed empty one", "unnamed", "twice", "of nothing"],
)
def test_names_that_do_not_fit_are_caught(names: Sequence[RoiName], reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        verify_rtstruct(
            case().written, case().label_map, DEFINITIONS, case().manifest, names, SEGMENTATION_UID, PREDECESSOR_UID
        )


def test_names_that_differ_in_case_alone_are_caught_though_they_were_given() -> None:
    def rename(dataset: Dataset) -> None:
        dataset.StructureSetROISequence[1].ROIName = dataset.RTROIObservationsSequence[1].ROIObservationLabel = "kid_L"

    names = (NAMES[0], replace(NAMES[1], name="kid_L"), *NAMES[2:])

    with pytest.raises(VerificationError, match="but for upper and lower case"):
        verify_rtstruct(
            case().changed(rename),
            case().label_map,
            DEFINITIONS,
            case().manifest,
            names,
            SEGMENTATION_UID,
            PREDECESSOR_UID,
        )


def test_without_a_segmentation_none_may_be_named() -> None:
    with pytest.raises(VerificationError, match="DefinitionSourceSequence refers to an object"):
        verify_rtstruct(
            case().written, case().label_map, DEFINITIONS, case().manifest, NAMES, predecessor_uid=PREDECESSOR_UID
        )


@pytest.mark.parametrize(
    "coordinate", [b"1e1", b"+12", b"1.2.3", b"1-2", b".5", b"5.", b"-", b"nan", b"1_0", b" 10", b"", b"0x1f"]
)
def test_a_coordinate_that_is_no_plain_number_is_caught(coordinate: bytes) -> None:
    sound = case().written
    at = sound.index(b"\\", sound.index(b"CLOSED_PLANAR")) + 1
    until = sound.index(b"\\", at + 12)
    # In the place of two or more numbers, so that it can be as long as they were.
    filled = coordinate + b"\\" + b"1" * (until - at - len(coordinate) - 1)

    with pytest.raises(VerificationError, match=r"no number|longer than 16 bytes"):
        case().verify(sound[:at] + filled + sound[until:])


def test_every_move_of_a_vertex_that_changes_a_pixel_is_caught() -> None:
    random = np.random.default_rng(20260102)
    sound = dcmread(io.BytesIO(case().written))
    caught = 0
    for _ in range(120):
        contours = contours_of(sound, int(random.integers(3)))
        contour = contours[int(random.integers(len(contours)))]
        before = points_of(contour)
        angle, pixels = random.uniform(0, 2 * np.pi), random.uniform(1, 3)
        after = before.copy()
        after[random.integers(len(after)), :2] += pixels * np.array([0.8 * np.cos(angle), 1.5 * np.sin(angle)])
        if (filled(contour, np.round(after, 3)) != filled(contour, before)).any():
            put(contour, after)
            with pytest.raises(VerificationError, match=r"differs from the label map|outside the image"):
                case().verify(written(sound))
            put(contour, before)
            caught += 1

    case().verify(written(sound))
    assert caught >= 60


def test_contours_that_cancel_each_other_are_caught() -> None:
    def add_two(dataset: Dataset) -> None:
        for number in (901, 902):
            again = Dataset()
            again.update(contours_of(dataset)[0])
            again.ContourNumber = number
            dataset.ROIContourSequence[0].ContourSequence.append(again)

    sound = case("CLOSEDPLANAR_XOR")

    with pytest.raises(VerificationError, match="Kid_L has contours that cancel each other"):
        sound.verify(sound.changed(add_two))


def test_which_segment_is_named_is_not_asked_where_no_numbers_are_given() -> None:
    several = case().changed(segment_twice)

    def verify(faulty: bytes) -> None:
        verify_rtstruct(
            faulty, case().label_map, DEFINITIONS, case().manifest, NAMES, SEGMENTATION_UID, PREDECESSOR_UID
        )

    verify(case().changed(swapped_segments))
    with pytest.raises(VerificationError, match="Kid_R names several segments"):
        verify(several)


def test_a_line_as_short_as_rounding_leaves_it_passes() -> None:
    case().verify(case().changed(spike_to(0.0, -0.1, 0.0)))
