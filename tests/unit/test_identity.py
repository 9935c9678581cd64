"""A result belongs to its patient, study and series; nothing is invented, nothing is mended."""

from dataclasses import replace

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID

from node.dicom import wording
from node.dicom.identity import derived_uid, headers_by_uid, inherit, left_empty, moment, result_uid
from node.domain.errors import InputError
from node.domain.profiles import RoiName
from node.domain.structures import ChannelImage, Omitted
from tests.builders import (
    GERMAN,
    GREEK,
    JANE,
    JAPANESE,
    Identity,
    ct_series,
    grid,
    manifest_of,
    provenance,
    write_and_read,
)

NOT_A_DATE = "ba6d74f4-8a35-38e8-b696-a8cb0d1e2f3a"


def inherited(header: Dataset) -> Dataset:
    """Give what a result inherits from a header, as read back from a file."""
    result = Dataset()
    inherit(result, header, manifest_of([header]).study_instance_uid)
    result.file_meta = header.file_meta
    result.SOPClassUID, result.SOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return write_and_read(result)


def header(identity: Identity = JANE) -> Dataset:
    return write_and_read(ct_series(grid(slices=1), identity=identity)[0])


def raw(keyword: str, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)


def test_equal_parts_give_equal_uids_and_others_give_others() -> None:
    uids = [derived_uid("ab", "c"), derived_uid("a", "bc"), derived_uid("abc"), derived_uid("ab", "c", "")]

    assert derived_uid("ab", "c") == uids[0]
    assert len(set(uids)) == 4


@pytest.mark.parametrize("part", ["", "x", "å", "1.2.3" * 40])
def test_a_derived_uid_is_valid(part: str) -> None:
    uid = derived_uid(part)

    assert uid.is_valid
    assert uid.startswith("2.25.")
    assert len(uid) <= 64


def test_a_uid_never_stands_for_two_results() -> None:
    manifest = manifest_of(ct_series(grid()))
    other_series = manifest_of(ct_series(grid(series="other"), series="other"))

    uids = {
        result_uid("instance", manifest, provenance()),
        result_uid("series", manifest, provenance()),
        result_uid("instance", other_series, provenance()),
        result_uid("instance", manifest, provenance(run_number=2)),
        result_uid("instance", manifest, provenance(model_digest="f" * 64)),
    }

    assert len(uids) == 5


@pytest.mark.parametrize("identity", [JANE, GERMAN, GREEK, JAPANESE], ids=lambda one: one.study)
def test_a_name_keeps_its_bytes_and_its_character_set(identity: Identity) -> None:
    source = header(identity)

    result = inherited(source)

    assert result.get("SpecificCharacterSet") == source.SpecificCharacterSet
    assert result.get_item("PatientName").value.strip() == header(identity).get_item("PatientName").value.strip()
    assert str(result.PatientName) == identity.patient_name


def test_attributes_that_the_source_lacks_are_present_and_empty() -> None:
    source = header()
    for keyword in ("PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "AccessionNumber", "PatientID"):
        del source[keyword]

    result = inherited(source)

    for keyword in ("PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "AccessionNumber", "PatientID"):
        assert result[keyword].is_empty


@pytest.mark.filterwarnings("ignore:.*value.*:UserWarning")
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("PatientBirthDate", "DA", NOT_A_DATE),
        ("PatientBirthDate", "DA", "19701332"),
        ("StudyDate", "DA", "20240101-20240201"),
        ("StudyTime", "TM", "256161"),
        ("PatientSex", "CS", "UNKNOWN"),
        ("StudyID", "SH", "IBSI_1_STS_042_MR_T1"),
        ("AccessionNumber", "SH", "A\\B"),
        ("PatientID", "LO", "x" * 65),
    ],
)
def test_a_value_that_breaks_its_vr_is_left_empty(keyword: str, vr: str, value: str) -> None:
    source = header()
    source[Tag(keyword)] = raw(keyword, vr, value.encode() + b" " * (len(value) % 2))

    result = inherited(source)

    assert result[keyword].is_empty


def test_optional_values_come_along_where_they_are_valid() -> None:
    source = header()
    source.PatientAge, source.PatientWeight, source.IssuerOfPatientID = "054Y", "71.5", "Hospital"
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = "X-1", "Elsewhere"
    source.OtherPatientIDsSequence = [other]

    result = inherited(source)

    assert (result.PatientAge, result.PatientWeight, result.IssuerOfPatientID) == ("054Y", 71.5, "Hospital")
    assert result.OtherPatientIDsSequence[0].PatientID == "X-1"


def test_the_first_day_of_the_calendar_is_a_date_as_anonymisers_write_it() -> None:
    source = header()
    source.PatientBirthDate = "00010101"

    assert inherited(source).PatientBirthDate == "00010101"


def test_optional_values_that_break_their_vr_are_told_also_where_they_cannot_be_read() -> None:
    source = header()
    for keyword, vr, value in (
        ("PatientAge", "AS", b"54Y "),
        ("PatientWeight", "DS", b"none"),
        ("PatientSize", "DS", b"  "),
    ):
        source[Tag(keyword)] = raw(keyword, vr, value)

    assert left_empty(source) == ("PatientAge", "PatientWeight")
    assert "PatientWeight" not in inherited(source)


def test_identity_said_to_be_removed_needs_the_method() -> None:
    with_method, without = header(), header()
    with_method.PatientIdentityRemoved, with_method.DeidentificationMethod = "YES", "Names removed"
    without.PatientIdentityRemoved = "YES"

    assert inherited(with_method).DeidentificationMethod == "Names removed"
    assert "PatientIdentityRemoved" not in inherited(without)


def test_nothing_of_the_series_or_the_image_is_inherited() -> None:
    result = inherited(header())

    for keyword in ("SeriesInstanceUID", "SeriesDescription", "SeriesDate", "Manufacturer", "ImagePositionPatient"):
        assert keyword not in result


def test_the_moment_is_in_the_zone_of_the_source() -> None:
    source = header()
    source.TimezoneOffsetFromUTC = "-0330"

    assert moment(provenance().created_at, source).strftime("%Y%m%d %H%M%S %z") == "20231114 184320 -0330"


def test_headers_come_in_the_order_of_the_planes_and_all_of_them() -> None:
    datasets = ct_series(grid(slices=4))
    manifest = manifest_of(datasets)

    assert list(headers_by_uid(manifest, datasets[::-1])) == [str(one.SOPInstanceUID) for one in datasets]
    with pytest.raises(InputError, match="1 of 4 instances are missing"):
        headers_by_uid(manifest, datasets[1:])


def test_words_are_ascii_on_one_line_and_within_their_limit() -> None:
    assert wording.fitted("Größe\\der\n Drüse", 64) == "Grosse/der Druse"
    assert wording.fitted("x" * 65, 64) == "x" * 63 + "~"
    assert wording.fitted("肝臓", 64) == ""


def test_the_label_keeps_its_run_within_a_receivers_limit() -> None:
    assert wording.structure_set_label(provenance(run_number=12)) == "torso-organs r12"
    assert wording.structure_set_label(provenance(run_number=12), limit=10) == "torso~ r12"


def test_names_are_unique_where_case_is_ignored() -> None:
    names = wording.unique_names(["Lung", "lung", "LUNG", "a" * 70, "a" * 70, "肝臓"])

    assert names[:3] == ["Lung", "lung_2", "LUNG_3"]
    assert len({name.lower() for name in names}) == 6
    assert all(0 < len(name) <= 64 for name in names)


def test_the_description_says_what_it_is_worth_and_what_is_missing() -> None:
    omitted = [Omitted(name=f"Organ {number}", reason="Not in the field of view.") for number in range(60)]

    text = wording.description(provenance(), omitted, "Research use; not a medical device.")

    assert text.startswith("Research use; not a medical device. Drawn by Torso organs 1.2.0")
    assert "Omitted: Organ 0 (Not in the field of view); Organ 1" in text
    assert len(text) <= 1024


def test_the_description_counts_what_it_has_no_room_for() -> None:
    omitted = [Omitted(name=f"Organ {number}", reason="Not in the field of view.") for number in range(20)]
    renamed = [RoiName(structure=f"Long {number}", name=f"L {number}", reason="longer than 16") for number in range(20)]

    text = wording.description(provenance(), omitted, "Research use; not a medical device.", renamed)

    assert "Organ 19 (Not in the field of view). Renamed: Long 0 to L 0 (longer than 16)" in text
    told = text.count("(Not in") + text.count("(longer than")
    assert text.endswith(f" and {40 - told} more; see the node's status.")
    assert 960 < len(text) <= 1024


def test_a_description_with_a_title_without_end_still_counts_what_is_missing() -> None:
    title = replace(provenance(), model_title="T" * 2000)

    text = wording.description(title, [Omitted(name="Liver", reason="Not there.")], "Research use.")

    assert text.endswith("~ and 1 more; see the node's status.")
    assert len(text) == 1024


def test_forms_of_a_result_have_uids_of_their_own() -> None:
    manifest = manifest_of(ct_series(grid()))

    uids = {result_uid("instance", manifest, provenance(), form) for form in ("", "eclipse", "raystation")}

    assert len(uids) == 3
    assert result_uid("instance", manifest, provenance()) in uids


def test_uids_are_uids() -> None:
    assert isinstance(derived_uid("a"), UID)


def test_a_name_that_is_not_of_its_character_set_is_left_empty_for_another_would_be_written() -> None:
    source = header(GREEK)
    source[Tag("PatientName")] = raw("PatientName", "PN", b"M\xfcller^J")  # Latin-1, and UTF-8 is declared

    assert inherited(source).PatientName == ""


def taken(channel: str, fingerprint: str, series_uid: str = "1.2.3") -> ChannelImage:
    return ChannelImage(channel=channel, series_instance_uid=series_uid, modality="MR", fingerprint=fingerprint)


def test_another_further_image_gives_another_uid_for_the_result_of_the_same_series() -> None:
    manifest = manifest_of(ct_series(grid(slices=2)))
    alone = provenance()
    first, other = (replace(alone, channels=(taken("T1", "a"), taken("T2", digest))) for digest in ("b", "c"))

    uids = [result_uid("instance", manifest, one) for one in (alone, first, other, first)]

    assert uids[1] == uids[3]
    assert len(set(uids)) == 3


def test_the_description_names_further_series_and_fits_though_there_are_many_with_the_longest_uids() -> None:
    longest = f"1.2.{'3' * 60}"
    images = tuple(taken(f"T{number}", "a", longest[:-1] + str(number)) for number in range(1, 6))

    text = wording.description(replace(provenance(), channels=images), [], "Research use; not a medical device.")

    assert text.endswith(
        f"Made of T1 of this series and T2 of series {images[1].series_instance_uid} and "
        f"T3 of series {images[2].series_instance_uid} and T4 of series "
        f"{images[3].series_instance_uid} and T5 of series {images[4].series_instance_uid}."
    )
    assert len(text) <= 1024
