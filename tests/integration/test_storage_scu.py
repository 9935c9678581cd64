"""Sending to destinations that take, refuse, reject, abort, are silent or are not there."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from node.adapters.storage_scu import DELIVERED_CLASSES, echo, store, store_best
from node.domain.delivery import PeerAddress
from node.domain.errors import InputError, PeerError
from tests.builders import uid, with_file_meta
from tests.fakes import (
    BASIC_TEXT_SR,
    EXPLICIT,
    IMPLICIT,
    LABEL_MAP_SEGMENTATION,
    RLE,
    RT_STRUCTURE_SET,
    SEGMENTATION,
    FakeDestination,
    free_port,
)


def object_file(folder: Path, sop_class_uid: str, name: str = "one", transfer_syntax_uid: UID | None = None) -> Path:
    """Write an object of that class; RT Structure Sets in Implicit VR with a Contour Data of 80 000 bytes."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Διονύσιος^Ζωή"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid(name, "series")
    with_file_meta(dataset, sop_class_uid, uid(name, sop_class_uid))
    if sop_class_uid == RT_STRUCTURE_SET:
        contour, roi = Dataset(), Dataset()
        contour.ContourData = ["-123.45"] * 10_000
        roi.ContourSequence = [contour]
        dataset.ROIContourSequence = [roi]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    if transfer_syntax_uid:
        dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    path = folder / f"{name}-{sop_class_uid}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def data_set_bytes(path: Path) -> bytes:
    """Give the bytes behind the File Meta Information."""
    written = path.read_bytes()
    length_of_meta = int.from_bytes(written[140:144], "little")
    return written[144 + length_of_meta :]


def test_objects_arrive_byte_for_byte_in_their_own_transfer_syntax(tmp_path: Path) -> None:
    files = [*(object_file(tmp_path, one) for one in (RT_STRUCTURE_SET, SEGMENTATION, BASIC_TEXT_SR))]
    files.append(label_map_file(tmp_path))
    classes = [RT_STRUCTURE_SET, SEGMENTATION, BASIC_TEXT_SR, LABEL_MAP_SEGMENTATION]

    with FakeDestination(sop_classes=classes, transfer_syntaxes=[EXPLICIT, IMPLICIT, RLE]) as tps:
        receipts = store(tps.address, files, calling_ae_title="DELINEATE")

    assert [one.outcome for one in receipts] == ["stored", "stored", "stored", "stored"]
    assert [one.transfer_syntax_uid for one in receipts] == [IMPLICIT, EXPLICIT, EXPLICIT, RLE]
    assert tps.received_bytes == [data_set_bytes(path) for path in files]
    assert tps.callers == ["DELINEATE"]
    assert set(DELIVERED_CLASSES) == {one.sop_class_uid for one in receipts}


def test_a_destination_that_takes_implicit_vr_only_gets_the_same_content(tmp_path: Path) -> None:
    path = object_file(tmp_path, SEGMENTATION)

    with FakeDestination(transfer_syntaxes=[IMPLICIT]) as tps:
        (receipt,) = store(tps.address, [path], calling_ae_title="DELINEATE")

    assert (receipt.outcome, receipt.transfer_syntax_uid) == ("stored", IMPLICIT)
    assert tps.received[0] == dcmread(path)


def test_structures_are_never_sent_in_explicit_vr(tmp_path: Path) -> None:
    files = [object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)]

    with FakeDestination(transfer_syntaxes=[EXPLICIT]) as tps:
        structures, segmentation = store(tps.address, files, calling_ae_title="DELINEATE")

    assert (structures.outcome, structures.status) == ("refused", 0x0122)
    assert "RT Structure Set Storage in Implicit VR Little Endian" in structures.reason
    assert segmentation.outcome == "stored"


def test_a_compressed_object_is_never_decompressed_on_the_way(tmp_path: Path) -> None:
    path = object_file(tmp_path, SEGMENTATION, transfer_syntax_uid=JPEG2000Lossless)
    structures = object_file(tmp_path, RT_STRUCTURE_SET)

    with FakeDestination() as tps:
        compressed, taken = store(tps.address, [path, structures], calling_ae_title="DELINEATE")

    assert compressed.outcome == "refused"
    assert "JPEG 2000" in compressed.reason
    assert taken.outcome == "stored"


def test_a_class_that_the_destination_does_not_take_does_not_hold_up_the_others(tmp_path: Path) -> None:
    files = [object_file(tmp_path, SEGMENTATION), object_file(tmp_path, RT_STRUCTURE_SET)]

    with FakeDestination(sop_classes=[RT_STRUCTURE_SET]) as tps:
        segmentation, structures = store(tps.address, files, calling_ae_title="DELINEATE")

    assert (segmentation.outcome, segmentation.status, segmentation.worth_retrying) == ("refused", 0x0122, False)
    assert "no presentation context for Segmentation Storage" in segmentation.reason
    assert structures.outcome == "stored"


def test_a_destination_that_takes_none_of_our_classes_is_told_their_names(tmp_path: Path) -> None:
    with (
        FakeDestination(sop_classes=["1.2.840.10008.5.1.4.1.1.2"]) as tps,
        pytest.raises(PeerError, match="accepts no presentation context for Label Map Segmentation Storage"),
    ):
        store(tps.address, [label_map_file(tmp_path)], calling_ae_title="DELINEATE")


def label_map_file(folder: Path) -> Path:
    """Write 2 frames of 3 × 4 pixels, RLE."""
    path = object_file(folder, LABEL_MAP_SEGMENTATION)
    dataset = dcmread(path)
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 3, 4, 2
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = LABELS
    dataset["PixelData"].VR = "OB"
    dataset.compress(RLELossless)
    dataset.save_as(path)
    return path


LABELS = bytes(range(24))


@pytest.mark.parametrize("transfer_syntax", [RLE, EXPLICIT, IMPLICIT])
def test_a_label_map_is_sent_where_it_is_taken_and_decompressed_where_rle_is_not(
    tmp_path: Path, transfer_syntax: str
) -> None:
    structures, binary = object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)
    labels = label_map_file(tmp_path)
    classes = [RT_STRUCTURE_SET, SEGMENTATION, LABEL_MAP_SEGMENTATION]

    with FakeDestination(sop_classes=classes, transfer_syntaxes=[transfer_syntax, IMPLICIT]) as tps:
        receipts = store_best(tps.address, [[structures, labels], [structures, binary]], calling_ae_title="DELINEATE")

    assert [one.sop_class_uid for one in receipts] == [RT_STRUCTURE_SET, LABEL_MAP_SEGMENTATION]
    assert [one.outcome for one in receipts] == ["stored", "stored"]
    assert receipts[1].transfer_syntax_uid == transfer_syntax
    assert tps.received[1].pixel_array.tobytes() == LABELS
    assert tps.received[1].SOPInstanceUID == receipts[1].sop_instance_uid == dcmread(labels).SOPInstanceUID


def test_who_takes_no_label_map_gets_the_offer_without_one_and_nothing_twice(tmp_path: Path) -> None:
    structures, binary = object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)
    others = object_file(tmp_path, RT_STRUCTURE_SET, name="others")
    labels = label_map_file(tmp_path)

    with FakeDestination(sop_classes=[RT_STRUCTURE_SET, SEGMENTATION]) as tps:
        receipts = store_best(tps.address, [[structures, labels], [others, binary]], calling_ae_title="DELINEATE")

    assert [one.outcome for one in receipts] == ["stored", "stored"]
    assert tps.asked == [str(dcmread(path).SOPInstanceUID) for path in (others, binary)]


def test_who_takes_nothing_but_label_maps_gets_the_label_map(tmp_path: Path) -> None:
    structures, binary = object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)
    labels = label_map_file(tmp_path)

    with FakeDestination(sop_classes=[LABEL_MAP_SEGMENTATION]) as tps:
        receipts = store_best(tps.address, [[structures, labels], [structures, binary]], calling_ae_title="DELINEATE")

    assert [one.outcome for one in receipts] == ["refused", "stored"]
    assert [one.SOPInstanceUID for one in tps.received] == [dcmread(labels).SOPInstanceUID]


@pytest.mark.parametrize(
    ("status", "outcome", "worth_retrying", "reason"),
    [
        (0xA700, "refused", True, "out of resources (0xA700)"),
        (0xA701, "refused", True, "out of resources (0xA701)"),
        (0x0110, "refused", True, "processing failure (0x0110)"),
        (0x0124, "refused", True, "not authorised (0x0124)"),
        (0xA900, "refused", False, "data set does not match its SOP class (0xA900)"),
        (0xC123, "refused", False, "cannot understand (0xC123)"),
        (0x0117, "refused", False, "invalid SOP instance (0x0117)"),
        (0xB000, "stored with warning", False, "stored, with elements coerced (0xB000)"),
    ],
)
def test_the_receipt_says_what_the_destination_said(
    tmp_path: Path, status: int, outcome: str, worth_retrying: bool, reason: str
) -> None:
    path = object_file(tmp_path, SEGMENTATION)

    with FakeDestination() as tps:
        tps.status, tps.error_comment = status, "disk"
        (receipt,) = store(tps.address, [path], calling_ae_title="DELINEATE")

    assert (receipt.status, receipt.outcome, receipt.worth_retrying) == (status, outcome, worth_retrying)
    assert receipt.reason == reason
    assert receipt.error_comment == "disk"


def test_a_destination_that_is_down_is_named_with_the_cause() -> None:
    nobody = PeerAddress(name="tps", ae_title="TPS", host="127.0.0.1", port=free_port())

    with pytest.raises(PeerError, match=r"tps \(TPS at 127\.0\.0\.1:\d+\) cannot be reached: connection refused"):
        echo(nobody, calling_ae_title="DELINEATE", timeout_s=2)


def test_a_host_without_an_address_is_named() -> None:
    nowhere = PeerAddress(name="tps", ae_title="TPS", host="no-such-host.invalid", port=104)

    with pytest.raises(PeerError, match="host name cannot be resolved"):
        echo(nowhere, calling_ae_title="DELINEATE", timeout_s=2)


def test_a_wrong_called_ae_title_is_named() -> None:
    with FakeDestination(require_called_ae_title=True) as tps:
        wrong = PeerAddress(name="tps", ae_title="OTHER", host="127.0.0.1", port=tps.address.port)

        with pytest.raises(PeerError, match="Called AE title not recognised") as raised:
            echo(wrong, calling_ae_title="DELINEATE")

    assert "AE titles" in raised.value.remedy


def test_a_destination_that_takes_nothing_of_ours_is_named(tmp_path: Path) -> None:
    path = object_file(tmp_path, SEGMENTATION)

    with FakeDestination(sop_classes=[]) as tps, pytest.raises(PeerError, match="Segmentation Storage"):
        store(tps.address, [path], calling_ae_title="DELINEATE")


def test_an_abort_instead_of_an_answer_is_an_error_to_retry(tmp_path: Path) -> None:
    path = object_file(tmp_path, SEGMENTATION)

    with FakeDestination() as tps:
        tps.aborts = True

        with pytest.raises(PeerError, match="aborted the association"):
            store(tps.address, [path], calling_ae_title="DELINEATE")


def test_a_destination_that_never_answers_a_store_does_not_hold_us(tmp_path: Path) -> None:
    path = object_file(tmp_path, SEGMENTATION)

    with FakeDestination() as tps:
        tps.delay_s = 3

        with pytest.raises(PeerError, match="did not answer within"):
            store(tps.address, [path], calling_ae_title="DELINEATE", timeout_s=0.5)


def test_a_destination_that_stops_reading_in_the_middle_of_an_object_does_not_hold_us(tmp_path: Path) -> None:
    large = dcmread(object_file(tmp_path, SEGMENTATION))
    large.PixelData = bytes(32_000_000)  # more than the connection's buffers hold
    large["PixelData"].VR = "OB"
    large.save_as(tmp_path / "large.dcm", enforce_file_format=True)

    with FakeDestination() as tps:
        tps.reading.clear()
        started = time.monotonic()
        with pytest.raises(PeerError, match="stopped reading"):
            store(tps.address, [tmp_path / "large.dcm"], calling_ae_title="DELINEATE", timeout_s=1)
        took_s = time.monotonic() - started
        tps.reading.set()

    assert took_s < 10


def test_a_port_that_accepts_and_says_nothing_does_not_hold_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = PeerAddress(name="tps", ae_title="TPS", host="127.0.0.1", port=silent.getsockname()[1])

        with pytest.raises(PeerError, match="did not answer the association request"):
            echo(mute, calling_ae_title="DELINEATE", timeout_s=0.5)


def test_a_file_that_is_no_dicom_is_our_own_fault(tmp_path: Path) -> None:
    path = tmp_path / "note.dcm"
    path.write_text("not DICOM")

    with FakeDestination() as tps, pytest.raises(InputError, match=r"note\.dcm"):
        store(tps.address, [path], calling_ae_title="DELINEATE")


def test_a_destination_that_comes_back_is_the_same(tmp_path: Path) -> None:
    path = object_file(tmp_path, SEGMENTATION)

    with FakeDestination() as tps:
        tps.go_down()
        with pytest.raises(PeerError, match="connection refused"):
            store(tps.address, [path], calling_ae_title="DELINEATE", timeout_s=2)
        tps.go_up()
        (receipt,) = store(tps.address, [path], calling_ae_title="DELINEATE")

    assert receipt.outcome == "stored"
    assert echo_fails(tps.address)


def echo_fails(address: PeerAddress) -> bool:
    """Tell whether nobody answers."""
    with contextlib.suppress(PeerError):
        echo(address, calling_ae_title="DELINEATE", timeout_s=1)
        return False
    return True


@pytest.fixture
def dcmtk_destination(tmp_path: Path, needs_program: Callable[..., None]) -> Iterator[tuple[PeerAddress, Path]]:
    """Run DCMTK's storescp; gives its address and the folder it writes to."""
    needs_program("storescp")
    folder = tmp_path / "storescp"
    folder.mkdir()
    address = PeerAddress(name="dcmtk", ae_title="DCMTK", host="127.0.0.1", port=free_port())
    process = subprocess.Popen(["storescp", "-aet", "DCMTK", "-od", str(folder), "--bit-preserving", str(address.port)])
    until = time.monotonic() + 10
    while echo_fails(address) and time.monotonic() < until:
        time.sleep(0.05)
    yield address, folder
    process.terminate()
    process.wait(10)


@pytest.mark.peers
def test_dcmtk_stores_what_we_send_byte_for_byte(tmp_path: Path, dcmtk_destination: tuple[PeerAddress, Path]) -> None:
    address, folder = dcmtk_destination
    files = [object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)]

    receipts = store(address, files, calling_ae_title="DELINEATE")

    assert [one.outcome for one in receipts] == ["stored", "stored"]
    stored = {str(dcmread(path).SOPInstanceUID): path for path in folder.iterdir()}
    for receipt, path in zip(receipts, files, strict=True):
        assert data_set_bytes(stored[receipt.sop_instance_uid]) == data_set_bytes(path)
        assert dcmread(stored[receipt.sop_instance_uid]).file_meta.TransferSyntaxUID == receipt.transfer_syntax_uid
    assert receipts[0].transfer_syntax_uid == ImplicitVRLittleEndian
    assert receipts[1].transfer_syntax_uid == ExplicitVRLittleEndian
