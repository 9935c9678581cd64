"""A folder as a destination: whole files under UIDs, nothing overwritten, what fails is tried again."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from node.adapters.result_folder import PREFIXES, store_in_folder
from node.adapters.storage_scu import DELIVERED_CLASSES
from node.domain.errors import InputError, PeerError
from tests.builders import uid, with_file_meta, written

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def result(folder: Path, sop_class: str = RT_STRUCTURE_SET, *, label: str = "first") -> Path:
    dataset = Dataset()
    dataset.PatientName = "Doe^Jane"
    dataset.StructureSetLabel = label
    path = folder / f"{sop_class}-{label}.dcm"
    path.write_bytes(written(with_file_meta(dataset, sop_class, uid("result", sop_class))))
    return path


def test_every_object_becomes_a_file_named_by_its_uid(shelf: Path, tmp_path: Path) -> None:
    files = [result(tmp_path, RT_STRUCTURE_SET), result(tmp_path, SEGMENTATION)]

    receipts = store_in_folder("shelf", shelf, files)

    assert sorted(path.name for path in shelf.iterdir()) == [
        f"RTSTRUCT.{uid('result', RT_STRUCTURE_SET)}.dcm",
        f"SEG.{uid('result', SEGMENTATION)}.dcm",
    ]
    assert [path.read_bytes() for path in sorted(shelf.iterdir())] == [path.read_bytes() for path in files]
    assert [(one.outcome, one.status, one.sop_class_uid) for one in receipts] == [
        ("stored", 0x0000, RT_STRUCTURE_SET),
        ("stored", 0x0000, SEGMENTATION),
    ]
    assert [one.sop_instance_uid for one in receipts] == [str(dcmread(path).SOPInstanceUID) for path in files]


def test_everything_that_the_node_delivers_has_a_name() -> None:
    assert set(PREFIXES) == set(DELIVERED_CLASSES)


def test_the_same_object_again_is_the_same_file(shelf: Path, tmp_path: Path) -> None:
    path = result(tmp_path)
    store_in_folder("shelf", shelf, [path])
    (before,) = [one.stat() for one in shelf.iterdir()]

    (receipt,) = store_in_folder("shelf", shelf, [path])

    (after,) = [one.stat() for one in shelf.iterdir()]
    assert receipt.outcome == "stored"
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_file_of_that_name_is_not_overwritten(shelf: Path, tmp_path: Path) -> None:
    store_in_folder("shelf", shelf, [result(tmp_path, label="reviewed")])
    (there,) = shelf.iterdir()
    content = there.read_bytes()

    (receipt,) = store_in_folder("shelf", shelf, [result(tmp_path, label="again")])

    assert (receipt.outcome, receipt.worth_retrying, receipt.status) == ("refused", False, 0x0111)
    assert "not overwritten" in receipt.reason
    assert there.read_bytes() == content


def test_a_folder_that_is_gone_is_not_made_but_waited_for(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="is not there"):
        store_in_folder("shelf", tmp_path / "unmounted", [result(tmp_path)])

    assert not (tmp_path / "unmounted").exists()


def test_a_full_disk_leaves_nothing_and_is_tried_again(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = result(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(PeerError, match="No space left on device"):
            store_in_folder("shelf", shelf, [path])

    assert list(shelf.iterdir()) == []
    assert store_in_folder("shelf", shelf, [path])[0].outcome == "stored"


def test_a_file_has_its_name_only_when_it_is_whole_and_durable(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noting_fsync(descriptor: int) -> None:
        done.append(f"fsync, {sum(one.suffix == '.dcm' for one in shelf.iterdir())} there")
        fsync(descriptor)

    def noting_rename(self: Path, target: Any) -> Path:
        done.append("rename")
        assert self.name.startswith(".")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "rename", noting_rename)

    store_in_folder("shelf", shelf, [result(tmp_path)])

    assert done == ["fsync, 0 there", "rename", "fsync, 1 there"]


def test_a_result_that_is_gone_is_not_blamed_on_the_folder(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store_in_folder("shelf", shelf, [tmp_path / "gone.dcm"])


def test_what_is_not_ours_is_refused_without_a_name_made_of_it(shelf: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.dcm"
    note.write_bytes(b"hello")
    image = result(tmp_path, "1.2.840.10008.5.1.4.1.1.2")

    for path in (note, image):
        with pytest.raises(InputError, match="not one of our DICOM files"):
            store_in_folder("shelf", shelf, [path])
    assert list(shelf.iterdir()) == []


def test_the_transfer_syntax_in_the_receipt_is_that_of_the_file(shelf: Path, tmp_path: Path) -> None:
    dataset = dcmread(result(tmp_path))
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = tmp_path / "implicit.dcm"
    dataset.save_as(path, implicit_vr=True, little_endian=True)

    assert store_in_folder("shelf", shelf, [path])[0].transfer_syntax_uid == ImplicitVRLittleEndian
