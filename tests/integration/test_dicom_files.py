"""DICOM files as they lie on disk: whole, cut off, foreign, in folders and in archives."""

import contextlib
import errno
import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from node.adapters import dicom_files
from node.adapters.dicom_files import Skipped, dataset_loader, find_instances, read_file
from node.dicom.pixels import read_volume
from node.domain.errors import InputError, ResourceError
from node.domain.instance import ReceivedInstance
from node.domain.series import Complete, CompletionPolicy, SeriesFacts, assess
from tests.builders import ct_series, default_voxels, grid, save_series, written

STACK = grid(slices=4, rows=6, columns=9)


def ct() -> Dataset:
    return ct_series(grid(slices=1))[0]


def file_of(folder: Path, content: bytes, name: str = "a.dcm") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def reason_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_file(path)
    return caught.value.reason


def found(*inputs: Path, unpack_into: Path) -> tuple[list[ReceivedInstance], dict[str, str]]:
    results = list(find_instances(inputs, unpack_into))
    instances = [one for one in results if isinstance(one, ReceivedInstance)]
    return instances, {one.path.name: one.reason for one in results if isinstance(one, Skipped)}


def test_a_file_gives_its_instance_with_its_time_and_name(tmp_path: Path) -> None:
    path = file_of(tmp_path, written(ct()), "slice.dcm")
    os.utime(path, (1_700_000_000, 1_700_000_000.5))

    instance = read_file(path)

    assert instance.received_at == 1_700_000_000.5
    assert instance.file_name == "slice.dcm"
    assert len(instance.planes) == 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_the_pixel_digest_is_of_the_value_and_not_of_its_wrapping(tmp_path: Path, syntax: UID) -> None:
    plain = read_file(file_of(tmp_path, written(ct())))
    buffer = io.BytesIO()
    dataset = dcmread(io.BytesIO(written(ct())))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(buffer, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)

    wrapped = read_file(file_of(tmp_path, buffer.getvalue(), "b.dcm"))

    assert wrapped.pixel_digest == plain.pixel_digest


def test_big_endian_and_fragments_are_digested(tmp_path: Path) -> None:
    big, fragments = ct(), ct()
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    buffer = io.BytesIO()
    big.save_as(buffer, implicit_vr=False, little_endian=False)
    fragments.compress(RLELossless, generate_instance_uid=False)

    digests = {
        read_file(file_of(tmp_path, content)).pixel_digest for content in (buffer.getvalue(), written(fragments))
    }

    assert len(digests) == 2
    assert all(len(digest) == 64 for digest in digests)


def test_one_other_pixel_is_another_digest(tmp_path: Path) -> None:
    other = ct()
    other.PixelData = other.PixelData[:-2] + b"\x00\x00"

    one = read_file(file_of(tmp_path, written(ct())))

    assert read_file(file_of(tmp_path, written(other), "b.dcm")).pixel_digest != one.pixel_digest


def test_an_instance_without_pixel_data_has_no_digest(tmp_path: Path) -> None:
    dataset = ct()
    del dataset.PixelData

    instance = read_file(file_of(tmp_path, written(dataset)))

    assert instance.pixel_digest == ""
    assert instance.not_an_image == "Pixel Data is missing"


def test_what_follows_pixel_data_does_not_count(tmp_path: Path) -> None:
    padded = ct()
    padded.add_new(0xFFFCFFFC, "OB", bytes(64))

    one, other = file_of(tmp_path, written(ct())), file_of(tmp_path, written(padded), "b.dcm")

    assert read_file(one).pixel_digest == read_file(other).pixel_digest


def compressed() -> bytes:
    dataset = ct()
    dataset.compress(RLELossless, generate_instance_uid=False)
    return written(dataset)


def directory() -> bytes:
    dataset = ct()
    dataset.SOPClassUID = MediaStorageDirectoryStorage
    return written(dataset)


def without_syntax() -> bytes:
    whole = written(ct())
    return whole.replace(b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a DICOM file"),
        (b"%PDF-1.7 ...", "not a DICOM file"),
        (b"x" * 4000, "not a DICOM file"),
        (written(ct())[:100], "not a DICOM file"),
        (written(ct())[:-100], "cut off: 1920 bytes of Pixel Data, of which 1820 are there"),
        (compressed()[:-4], "cut off: Pixel Data in fragments without their end"),
        (directory(), "a DICOMDIR, which only lists other files"),
        (without_syntax(), "Transfer Syntax UID is missing from the file meta information"),
        (
            b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" * 10,
            "a bare DICOM data set without file meta information; convert it to a DICOM file first",
        ),
    ],
)
def test_what_is_no_whole_dicom_file_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason_of(file_of(tmp_path, content)) == reason


def test_a_file_cut_off_anywhere_gives_a_reason_or_less_than_an_image(tmp_path: Path) -> None:
    whole = written(ct())

    for length in range(0, len(whole), 97):
        path = file_of(tmp_path, whole[:length])
        with contextlib.suppress(InputError):
            instance = read_file(path)
            assert instance.planes == ()  # cut between two elements, before Pixel Data


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_header_raises_nothing_but_input_errors(tmp_path: Path, seed: int) -> None:
    content = bytearray(written(ct()))
    for step in range(1, 40):
        content[200 + (seed * 7919 + step * 104729) % 1500] = (seed * 31 + step * 17) % 256

    path = file_of(tmp_path, bytes(content))

    with contextlib.suppress(InputError):
        read_file(path)


def test_a_file_without_preamble_but_with_meta_information_is_read(tmp_path: Path) -> None:
    assert len(read_file(file_of(tmp_path, written(ct())[132:])).planes) == 1


def test_folders_files_and_archives_are_searched(tmp_path: Path) -> None:
    save_series(ct_series(STACK)[:2], tmp_path / "in" / "deep" / "er")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    with zipfile.ZipFile(tmp_path / "in" / "rest.zip", "w") as archive:
        archive.writestr("folder/", b"")
        archive.writestr("folder/c", written(ct_series(STACK)[2]))
        archive.writestr("folder/readme", b"no image either")
    single = save_series(ct_series(STACK)[3:], tmp_path / "single")[0]
    (tmp_path / "work").mkdir()

    instances, skipped = found(tmp_path / "in", single, unpack_into=tmp_path / "work")

    assert {one.sop_instance_uid for one in instances} == {one.sop_instance_uid for one in STACK.planes}
    assert all(Path(one.file_name).is_absolute() for one in instances)
    assert skipped == {"notes.txt": "not a DICOM file", "readme": "not a DICOM file"}


def test_found_files_become_a_volume(tmp_path: Path) -> None:
    save_series(ct_series(STACK), tmp_path / "in")

    instances, _ = found(tmp_path / "in", unpack_into=tmp_path)
    facts = SeriesFacts(series_instance_uid="1.2", instances=tuple(instances), associations=())
    verdict = assess(facts, 0.0, CompletionPolicy(quiet_period_s=0))
    assert isinstance(verdict, Complete)
    volume = read_volume(dataset_loader(tmp_path, verdict.manifests[0].files), verdict.manifests[0])

    assert volume.voxels.tolist() == default_voxels(STACK).tolist()


def test_a_member_never_leaves_the_folder_for_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../outside.dcm", written(ct()))
        archive.writestr(str(tmp_path / "absolute.dcm"), written(ct()))
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)

    instances, _ = found(tmp_path / "evil.zip", unpack_into=work)

    assert len(instances) == 2
    assert all(Path(one.file_name).is_relative_to(work) for one in instances)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "evil.zip"]


def test_an_archive_that_is_damaged_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("a", written(ct()))
    file_of(tmp_path, (tmp_path / "whole.zip").read_bytes()[:-30], "short.zip")

    _, skipped = found(tmp_path / "short.zip", unpack_into=tmp_path)

    assert list(skipped) == ["short.zip"]
    assert skipped["short.zip"].startswith("damaged ZIP archive")


def test_a_damaged_member_takes_no_other_with_it(tmp_path: Path) -> None:
    first, second = (written(dataset) for dataset in ct_series(STACK)[:2])
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("a", first.replace(b"Doe^Jane", b"Roe^Jane"))
        archive.writestr("b", second)
    changed = (tmp_path / "whole.zip").read_bytes().replace(b"Roe^Jane", b"Roe^Joan")

    instances, skipped = found(file_of(tmp_path, changed, "changed.zip"), unpack_into=tmp_path)

    assert [one.sop_instance_uid for one in instances] == [STACK.planes[1].sop_instance_uid]
    assert skipped == {"a": "damaged in the ZIP archive"}


def test_links_to_folders_are_followed_once_and_circles_end(tmp_path: Path) -> None:
    save_series(ct_series(STACK), tmp_path / "archive" / "series")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").symlink_to(tmp_path / "archive" / "series")
    (tmp_path / "in" / "two").symlink_to(tmp_path / "archive")
    (tmp_path / "archive" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "nowhere").symlink_to(tmp_path / "none")

    instances, skipped = found(tmp_path / "in", unpack_into=tmp_path)

    assert sorted(one.sop_instance_uid for one in instances) == sorted(one.sop_instance_uid for one in STACK.planes)
    assert skipped == {}


def test_a_folder_that_stays_shut_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root opens every folder, so the system's answer is put in its place.
    save_series(ct_series(STACK), tmp_path / "shut")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)

    instances, skipped = found(tmp_path, unpack_into=tmp_path)

    assert instances == []
    assert skipped == {"shut": "folder not opened: Permission denied"}


def test_an_archive_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
    monkeypatch.setattr(dicom_files, "_free_bytes", lambda _: 1 << 20)

    with pytest.raises(ResourceError, match=r"big\.zip unpacks to"):
        list(find_instances([tmp_path / "big.zip"], tmp_path))


def test_what_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(find_instances([tmp_path / "nowhere"], tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_skipped_with_the_reason(tmp_path: Path) -> None:
    path = file_of(tmp_path, written(ct()))
    path.chmod(stat.S_IWUSR)

    _, skipped = found(path, unpack_into=tmp_path)

    assert skipped == {"a.dcm": "Permission denied"}


def test_a_folder_that_vanished_may_come_back(tmp_path: Path) -> None:
    load: Callable[[str], Dataset] = dataset_loader(tmp_path / "not mounted", {"1.2": "1.dcm"})

    with pytest.raises(ResourceError, match=r"instance 1\.2 cannot be read: No such file or directory"):
        load("1.2")


def test_a_file_that_vanished_is_the_senders_turn(tmp_path: Path) -> None:
    load: Callable[[str], Dataset] = dataset_loader(tmp_path, {"1.2": "gone.dcm"})

    with pytest.raises(InputError, match=r"Instance 1\.2"):
        load("1.2")


def test_file_meta_information_of_broken_numbers_is_a_reason_and_no_fault(tmp_path: Path) -> None:
    damaged = written(ct()).replace(b"\x02\x00\x00\x00UL\x04\x00", b"\x02\x00\x00\x00UL\x03\x00")

    assert reason_of(file_of(tmp_path, damaged)).startswith("not readable as DICOM")
