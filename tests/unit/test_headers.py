"""From header to facts: what is taken, what is no image, and what is refused."""

import io
from dataclasses import replace

import pytest
from pydicom import DataElement, Dataset, config, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage

from node.dicom.headers import HEADER_TAGS, ROUTING_KEYWORDS, functional_group, received_instance
from node.domain.errors import InputError
from node.domain.instance import Concatenation, ReceivedInstance
from node.domain.volumes import SPLITTING_KEYS
from tests.builders import GREEK, JANE, ct_series, enhanced_ct, grid, write_and_read, written


def read(dataset: Dataset) -> ReceivedInstance:
    return received_instance(dataset, pixel_digest="digest", received_at=12.5, file_name="a.dcm")


def ct() -> Dataset:
    return ct_series(grid(slices=1))[0]


def test_a_ct_slice_gives_its_plane_and_identity() -> None:
    stack = grid(slices=3, orientation="oblique")
    dataset = write_and_read(ct_series(stack, patient_position="FFS")[2])

    instance = read(dataset)

    assert instance.planes == (stack.planes[2],)
    assert instance.not_an_image is None
    assert instance.sop_instance_uid == stack.planes[2].sop_instance_uid
    assert instance.frame_of_reference_uid == dataset.FrameOfReferenceUID
    assert instance.modality == "CT"
    assert instance.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert instance.instance_number == 3
    assert (instance.pixel_digest, instance.received_at, instance.file_name) == ("digest", 12.5, "a.dcm")


def test_attributes_are_what_routes_may_ask_for_and_nothing_empty() -> None:
    dataset = ct()
    dataset.ProtocolName = ""
    dataset.file_meta.SourceApplicationEntityTitle = "CONSOLE"
    dataset.file_meta.SendingApplicationEntityTitle = "CT1"
    dataset.file_meta.ReceivingApplicationEntityTitle = "DELINEATE"

    attributes = read(write_and_read(dataset)).attributes

    assert attributes == {
        "Modality": "CT",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SOPClassName": "CT Image Storage",
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "Manufacturer": "Builder",
        "ManufacturerModelName": "Model 1",
        "BodyPartExamined": "ABDOMEN",
        "SeriesDescription": "Abdomen 3.0",
        "PatientPosition": "HFS",
        "SliceThickness": "1",
        "CallingAETitle": "CT1",
        "CalledAETitle": "DELINEATE",
    }
    assert set(attributes) <= set(ROUTING_KEYWORDS)


def test_the_source_ae_stands_in_where_no_sending_ae_is_known() -> None:
    dataset = ct()
    dataset.file_meta.SourceApplicationEntityTitle = "CT2"

    assert read(dataset).attributes["CallingAETitle"] == "CT2"


def test_no_field_holds_the_patient() -> None:
    text = repr(read(ct_series(grid(slices=1), identity=GREEK)[0])) + repr(read(ct()))

    assert all(secret not in text for secret in ("Doe", "Jane", "P-0001", "Διονύσιος", "19700101"))


def test_a_malformed_value_of_the_patient_is_not_warned_of_for_the_warning_would_show_it(
    recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(ct()).replace(b"19700101", b"7. May 1")

    read(dcmread(io.BytesIO(file)))

    assert [str(one.message) for one in recwarn] == []
    assert caplog.messages == []


def test_the_patient_digest_tells_patients_apart_but_not_paddings() -> None:
    jane, padded, other = ct(), ct(), ct_series(grid(slices=1), identity=replace(JANE, patient_id="P-0002"))[0]
    padded.PatientName = "Doe^Jane^^^"
    padded.PatientID = "P-0001 "

    assert read(jane).patient_digest == read(padded).patient_digest
    assert read(jane).patient_digest != read(other).patient_digest


def test_an_absent_patient_is_no_error() -> None:
    dataset = ct()
    del dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate

    assert len(read(dataset).patient_digest) == 32


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_an_instance_without_a_uid_is_refused(keyword: str, value: str | None) -> None:
    dataset = ct()
    setattr(dataset, keyword, value)
    if value is None:
        delattr(dataset, keyword)

    with pytest.raises(InputError, match=r"Instance UID|Class UID"):
        read(dataset)


@pytest.mark.parametrize("value", ["../../etc/passwd", "1.2." + "3" * 64, "1..2", "1.2a"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_uid_is_refused(value: str) -> None:
    dataset = ct()
    dataset.SOPInstanceUID = value

    with pytest.raises(InputError, match="is no UID"):
        read(dataset)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "Secondary Capture Image Storage is no CT, MR or PET image"),
        ({"SOPClassUID": EncapsulatedPDFStorage}, "Encapsulated PDF Storage is no CT, MR or PET image"),
        ({"SOPClassUID": "1.2.3.4"}, "1.2.3.4 is no CT, MR or PET image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic of several slices in one image"),
        ({"SamplesPerPixel": 3}, "3 samples per pixel instead of 1"),
        ({"ImagePositionPatient": None}, "Image Position (Patient) is missing"),
        ({"ImageOrientationPatient": []}, "Image Orientation (Patient) is missing"),
        ({"PixelSpacing": ""}, "Pixel Spacing is missing"),
        ({"Rows": None}, "Rows is missing"),
        ({"NumberOfFrames": 2}, "2 frames in a class that allows one"),
    ],
)
def test_what_is_no_image_plane_says_why(changes: dict[str, object], reason: str) -> None:
    dataset = ct()
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)

    instance = read(dataset)

    assert instance.planes == ()
    assert instance.not_an_image == reason


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("ImagePositionPatient", [1, 2], r"Image Position \(Patient\) holds 2 values instead of 3"),
        ("PixelSpacing", ["1.5"], "Pixel Spacing holds 1 values instead of 2"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1], "holds 5 values instead of 6"),
    ],
)
def test_a_geometry_of_the_wrong_length_is_refused(keyword: str, value: list[float], reason: str) -> None:
    dataset = ct()
    setattr(dataset, keyword, value)

    with pytest.raises(InputError, match=reason):
        read(dataset)


@pytest.mark.parametrize("value", [b"1.5\\abcd", b"1.5\\inf ", b"nan\\0.8 "])
@pytest.mark.filterwarnings("ignore")
def test_a_geometry_that_is_no_number_is_refused(value: bytes) -> None:
    file = written(ct())
    assert file.count(b"1.5\\0.8 ") == 1

    dataset = dcmread(io.BytesIO(file.replace(b"1.5\\0.8 ", value)))

    with pytest.raises(InputError, match="Pixel Spacing"):
        read(dataset)


@pytest.mark.parametrize("value", ["", None])
def test_a_missing_frame_of_reference_is_none_and_never_made_up(value: str | None) -> None:
    dataset = ct()
    dataset.FrameOfReferenceUID = value

    assert read(dataset).frame_of_reference_uid is None


def test_padding_around_image_type_does_not_matter() -> None:
    dataset = ct()
    dataset.ImageType = ["DERIVED ", "PRIMARY", "LOCALIZER "]

    assert read(dataset).image_type == ("DERIVED", "PRIMARY", "LOCALIZER")


def test_an_image_without_pixels_is_no_image() -> None:
    instance = received_instance(ct(), pixel_digest="", received_at=0.0, file_name="a.dcm")

    assert (instance.planes, instance.not_an_image) == ((), "Pixel Data is missing")


def test_an_enhanced_ct_gives_a_plane_for_each_frame() -> None:
    stack = grid(slices=4, orientation="sagittal")
    dataset = write_and_read(enhanced_ct(stack))

    instance = read(dataset)

    assert [one.frame_number for one in instance.planes] == [1, 2, 3, 4]
    assert [one.position_lps_mm for one in instance.planes] == [one.position_lps_mm for one in stack.planes]
    assert {one.orientation for one in instance.planes} == {stack.planes[0].orientation}
    assert {one.pixel_spacing_mm for one in instance.planes} == {(1.5, 0.8)}


def test_a_macro_of_the_frame_goes_before_the_shared_one() -> None:
    dataset = enhanced_ct(grid(slices=3))
    own = Dataset()
    own.PixelSpacing = ["2", "3"]
    dataset.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = Sequence([own])

    assert [one.pixel_spacing_mm for one in read(dataset).planes] == [(1.5, 0.8), (2.0, 3.0), (1.5, 0.8)]
    assert functional_group(dataset, 1, "FrameVOILUTSequence") is None


def test_localizer_frames_are_no_planes() -> None:
    dataset = enhanced_ct(grid(slices=3))
    frame_type = Dataset()
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    dataset.PerFrameFunctionalGroupsSequence[0].CTImageFrameTypeSequence = Sequence([frame_type])

    assert [one.frame_number for one in read(dataset).planes] == [2, 3]

    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.CTImageFrameTypeSequence = Sequence([frame_type])
    assert read(dataset).not_an_image == "localizer"


def test_an_enhanced_image_without_its_groups_says_so() -> None:
    cut, unplaced = enhanced_ct(grid(slices=3)), enhanced_ct(grid(slices=3))
    cut.PerFrameFunctionalGroupsSequence = cut.PerFrameFunctionalGroupsSequence[:2]
    del unplaced.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence

    assert read(cut).not_an_image == "functional groups for 2 of 3 frames"
    assert read(unplaced).not_an_image == "Image Position (Patient) is missing in frame 2"


def test_the_header_tags_suffice() -> None:
    for dataset in (ct(), enhanced_ct(grid(slices=3))):
        part = Dataset()
        for tag in HEADER_TAGS:
            if tag in dataset:
                part.add(dataset[tag])
        part.file_meta = dataset.file_meta

        assert read(part) == read(dataset)


@pytest.mark.parametrize("value", ["Doe^Jane", "1.2." + "3" * 61, "1.2.3 4"])
def test_a_frame_of_reference_that_is_no_uid_is_refused_without_being_quoted(value: str) -> None:
    dataset = ct()
    dataset.add(DataElement("FrameOfReferenceUID", "UI", value, validation_mode=config.IGNORE))

    with pytest.raises(InputError) as caught:
        read(dataset)

    assert caught.value.reason == f"Frame of Reference UID of {len(value)} characters is no UID."


def test_a_number_cut_in_its_middle_is_an_unreadable_value() -> None:
    damaged = written(ct()).replace(b"US\x02\x00\x18\x00", b"US\x01\x00\x18")  # Rows

    with pytest.raises(InputError):
        read(dcmread(io.BytesIO(damaged)))


def damaged(whole: bytes, keyword_and_vr: bytes, put: bytes) -> Dataset:
    assert whole.count(keyword_and_vr) >= 1
    return dcmread(io.BytesIO(whole.replace(keyword_and_vr, put)))


@pytest.mark.parametrize(
    ("element", "put"),
    [
        (b"\x00\x52\x29\x92SQ", b"\x00\x52\x29\x92UT"),  # Shared Functional Groups Sequence as a text
        (b"\x20\x00\x16\x91SQ", b"\x20\x00\x16\x91WQ"),  # Plane Orientation Sequence of no VR at all
        (b"\x28\x00\x08\x00IS", b"\x28\x00\x08\x00Io"),  # Number of Frames likewise
    ],
)
def test_a_damaged_sequence_is_the_senders_fault_and_not_ours(element: bytes, put: bytes) -> None:
    dataset = damaged(written(enhanced_ct(grid(slices=3))), element, put)

    with pytest.raises(InputError) as caught:
        read(dataset)

    assert "damaged" in caught.value.reason or "readable" in caught.value.reason


def test_what_may_tell_volumes_apart_is_read_from_a_slice() -> None:
    dataset = ct()
    dataset.TemporalPositionIdentifier, dataset.EchoNumbers, dataset.DiffusionBValue = 3, 2, 1000.0
    dataset.TriggerTime = "12.5"

    (keys,) = read(write_and_read(dataset)).plane_keys

    assert keys == {
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "TemporalPositionIdentifier": "3",
        "TriggerTime": "12.5",
        "EchoNumbers": "2",
        "DiffusionBValue": "1000.0",
        "KVP": "120",
        "AcquisitionNumber": "1",
    }
    assert set(keys) == set(SPLITTING_KEYS)


def test_what_may_tell_volumes_apart_is_read_from_each_frame() -> None:
    dataset = enhanced_ct(grid(slices=2))
    for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        groups.FrameContentSequence[0].TemporalPositionIndex = number
        groups.FrameContentSequence[0].FrameAcquisitionNumber = 7
        frame_type, echo = Dataset(), Dataset()
        frame_type.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        echo.EffectiveEchoTime = 4.5 * number
        groups.CTImageFrameTypeSequence = Sequence([frame_type])
        groups.MREchoSequence = Sequence([echo])

    first, second = read(write_and_read(dataset)).plane_keys

    common = {"ImageType": "ORIGINAL\\PRIMARY\\VOLUME\\NONE", "AcquisitionNumber": "7"}
    assert first == {**common, "TemporalPositionIdentifier": "1", "EchoNumbers": "4.5"}
    assert second == {**common, "TemporalPositionIdentifier": "2", "EchoNumbers": "9.0"}


def test_stated_numbers_and_concatenations_are_read() -> None:
    dataset, enhanced = ct(), enhanced_ct(grid(slices=3))
    dataset.ImagesInAcquisition, dataset.NumberOfSeriesRelatedInstances = 60, 61
    enhanced.ConcatenationUID, enhanced.InConcatenationNumber, enhanced.InConcatenationTotalNumber = "1.2.77", 2, 3

    single, frames = read(write_and_read(dataset)), read(write_and_read(enhanced))

    assert (single.images_in_acquisition, single.series_related_instances) == (60, 61)
    assert (single.concatenation, single.is_multi_frame, single.acquisition_number) == (None, False, "1")
    assert frames.concatenation == Concatenation(uid="1.2.77", number=2, total=3)
    assert frames.is_multi_frame
    assert (frames.images_in_acquisition, frames.series_related_instances) == (None, None)
