"""What stands before a data set, and what a DICOMDIR names."""

import io
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.directory import referenced_files
from node.dicom.file_meta import is_uid, read_file_meta
from node.domain.errors import InputError
from tests.builders import ct_series, grid, written
from tests.real_data import unpacked

CT_IMAGE, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def image() -> Dataset:
    return ct_series(grid(slices=3))[0]


def test_the_meta_information_gives_the_instance_and_where_its_data_set_begins() -> None:
    dataset = image()
    dataset.file_meta.SourceApplicationEntityTitle = "CT1"
    file = written(dataset)

    meta = read_file_meta(file)

    assert (meta.sop_class_uid, meta.transfer_syntax_uid, meta.source_ae_title) == (CT_IMAGE, EXPLICIT, "CT1")
    assert meta.sop_instance_uid == dataset.SOPInstanceUID
    # (0008,0005) Specific Character Set, the first element of the data set.
    assert file[meta.length : meta.length + 6] == b"\x08\x00\x05\x00CS"


def test_a_file_without_preamble_is_read_all_the_same() -> None:
    file = written(image())

    meta = read_file_meta(file[132:])

    assert meta.length == read_file_meta(file).length - 132


def test_a_wrong_group_length_does_no_harm() -> None:
    file = written(image())
    wrong = file[:140] + b"\x02\x00\x00\x00" + file[144:]

    assert read_file_meta(wrong) == read_file_meta(file)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "an empty file"),
        (b"hello, world", "not a DICOM file"),
        (b"\x89PNG" + bytes(200), "not a DICOM file"),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", "a bare DICOM data set without file meta information"),
        (bytes(128) + b"DICM", r"no valid SOP Class UID \(0002,0002\)"),
        (bytes(128) + b"DICM" + b"\x02\x00\x02\x00UI", r"cut off"),
        # Meta information in Implicit VR.
        (bytes(128) + b"DICM" + b"\x02\x00\x00\x00\x04\x00\x00\x00", r"no valid SOP Class UID"),
    ],
)
def test_what_is_no_dicom_file_is_refused_with_the_reason(head: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_file_meta(head)


def test_meta_information_that_is_cut_off_anywhere_is_refused() -> None:
    file = written(image())
    end = file.index(EXPLICIT.encode() + b"\0")

    for length in range(132, end):
        with pytest.raises(InputError, match=r"cut off|no valid"):
            read_file_meta(file[:length])


def test_a_missing_transfer_syntax_is_not_guessed() -> None:
    # (0002,0010) becomes (0002,0099), which nobody knows.
    file = written(image()).replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x99\x00UI")

    with pytest.raises(InputError, match=r"no valid Transfer Syntax UID \(0002,0010\)"):
        read_file_meta(file)


def test_a_name_in_the_place_of_a_uid_is_none() -> None:
    assert is_uid("1.2.840.10008.1.2")
    assert not any(map(is_uid, ["", "Doe^Jane", "1." + "2" * 63, "../1.2", "1..2", "42"]))


@pytest.mark.real_data
def test_the_files_of_every_transfer_syntax_begin_where_pydicom_says() -> None:
    read = 0
    for path in unpacked("transfer-syntax-samples").rglob("*.dcm"):
        file = path.read_bytes()
        expected = dcmread(io.BytesIO(file), stop_before_pixels=True, force=True).file_meta
        if not {"MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"} <= {
            one.keyword for one in expected if one.value
        }:
            continue  # made to be odd: refused, as the tests above say

        meta = read_file_meta(file)

        assert meta.transfer_syntax_uid == expected.TransferSyntaxUID
        assert meta.sop_instance_uid == expected.MediaStorageSOPInstanceUID
        read += 1
    assert read > 10


def test_a_dicomdir_names_its_files_from_where_it_lies(tmp_path: Path) -> None:
    medium = FileSet()
    for dataset in ct_series(grid(slices=3)):
        medium.add(dataset)
    medium.write(tmp_path)

    named = referenced_files((tmp_path / "DICOMDIR").read_bytes())

    there = {path.relative_to(tmp_path).parts for path in tmp_path.rglob("*") if path.is_file()}
    assert named == there - {("DICOMDIR",)}
    assert len(there) == 4


def test_a_damaged_dicomdir_says_so() -> None:
    dataset = Dataset()
    dataset.PatientName = "Doe^Jane"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=False, little_endian=True, implicit_vr=False)

    for damaged in (buffer.getvalue(), b"", b"DICOMDIR" * 100):
        with pytest.raises(InputError, match="DICOMDIR"):
            referenced_files(damaged)
