"""The receiver on loopback: pynetdicom and DCMTK as senders, honest and otherwise."""

import io
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, _config, build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from structlog.testing import capture_logs

from node.adapters.inbox import Inbox
from node.adapters.scp_settings import ReceiverSettings
from node.adapters.spooling import TransportLimits
from node.adapters.storage_scp import Receiver
from node.dicom.storage import IMAGE_CLASSES, TRANSFER_SYNTAXES
from node.domain.arrival import Arrival, Reception
from node.domain.errors import SetupError
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.domain.peers import AssociationPolicy, Peer
from node.stages.receive import begin
from tests.builders import ct_series, grid, save_series, with_file_meta, written
from tests.fakes import FakeObserver
from tests.real_data import unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A receiver that listens, its inbox and what it told."""

    receiver: Receiver
    inbox: Inbox
    folder: Path
    observer: FakeObserver

    def stored(self) -> list[Path]:
        """Give every stored file."""
        series = list(self.inbox.stamps())
        return [self.inbox.path(uid, name) for uid in series for name in self.inbox.file_names(uid)]

    def everything(self) -> list[str]:
        """Name every file that the inbox or its surroundings hold."""
        above = self.folder.parent
        return sorted(str(one.relative_to(above)) for one in above.rglob("*") if one.is_file())


@pytest.fixture(params=["spooling", "stock"])
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Running]]:
    """Give a function that starts a receiver, on each of the two transports; stopped at the end."""
    started: list[Receiver] = []

    def run(receive: Callable[[Arrival], Reception] | None = None, **settings: Any) -> Running:
        folder = tmp_path / "node" / "inbox"
        inbox, observer = Inbox(folder, minimum_free_gb=0), FakeObserver()
        policy = {name: settings.pop(name) for name in AssociationPolicy.__slots__ if name in settings}
        wanted = ReceiverSettings(
            host="127.0.0.1",
            port=0,
            association=AssociationPolicy(ae_title="DELINEATE", **policy),
            transport=request.param,
        )
        receiver = Receiver(
            replace(wanted, **settings), begin=receive or partial(begin, inbox=inbox), observer=observer
        )
        receiver.start()
        started.append(receiver)
        return Running(receiver=receiver, inbox=inbox, folder=folder, observer=observer)

    yield run
    for receiver in started:
        receiver.stop()


@pytest.fixture
def node(start: Callable[..., Running]) -> Running:
    """Give a running receiver."""
    return start()


def associate(port: int, *contexts: tuple[str, Sequence[str]], called: str = "DELINEATE", **settings: Any) -> Any:
    """Open an association as SCANNER."""
    entity = AE(ae_title="SCANNER")
    return entity.associate(
        "127.0.0.1",
        port,
        ae_title=called,
        contexts=[build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in contexts],
        **settings,
    )


def send(port: int, datasets: Sequence[Dataset | Path], *, syntax: str = ExplicitVRLittleEndian) -> list[Dataset]:
    """Send CT instances in one association, release it, and give the answers."""
    association = associate(port, (CTImageStorage, [syntax]))
    assert association.is_established
    answers = [association.send_c_store(one) for one in datasets]
    association.release()
    return answers


def data_set_of(path: Path) -> bytes:
    """Give the bytes behind the File Meta Information."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def image() -> Dataset:
    """Build one CT instance."""
    return ct_series(grid(slices=3))[0]


def test_a_series_is_stored_and_told(node: Running) -> None:
    datasets = ct_series(grid(slices=5))

    answers = send(node.receiver.port, datasets)

    assert [one.Status for one in answers] == [0] * 5
    assert all("ErrorComment" not in one for one in answers)
    assert {str(dcmread(path).SOPInstanceUID) for path in node.stored()} == {one.SOPInstanceUID for one in datasets}
    assert node.observer.wait_for_ends(1) == ["released"]
    (caller,) = node.observer.opened
    assert (caller.calling_ae_title, caller.called_ae_title, caller.address) == ("SCANNER", "DELINEATE", "127.0.0.1")
    assert re.fullmatch("receiver/[0-9a-f]{32}", caller.association_id)
    assert [one for one, _ in node.observer.stored] == [caller] * 5
    assert node.observer.ended == [(caller, "released")]


def test_an_echo_is_answered(node: Running) -> None:
    association = associate(node.receiver.port, ("1.2.840.10008.1.1", ["1.2.840.10008.1.2"]))

    assert association.send_c_echo().Status == 0
    association.release()


def test_we_name_our_implementation_and_bound_the_pdu(node: Running) -> None:
    association = associate(node.receiver.port, (CTImageStorage, [ExplicitVRLittleEndian]))
    acceptor = association.acceptor
    association.release()

    assert acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert acceptor.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    assert acceptor.maximum_length == 131072


def test_what_is_uncompressed_or_lossless_is_preferred_to_what_is_lossy(node: Running) -> None:
    offers = {
        ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"): "1.2.840.10008.1.2.1",
        ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.90"): "1.2.840.10008.1.2.4.90",
        ("1.2.840.10008.1.2.4.50",): "1.2.840.10008.1.2.4.50",
    }
    for offered, taken in offers.items():
        association = associate(node.receiver.port, (CTImageStorage, offered))
        assert [one.transfer_syntax[0] for one in association.accepted_contexts] == [taken]
        association.release()


def test_every_transfer_syntax_we_accept_can_be_decoded() -> None:
    for uid, name in TRANSFER_SYNTAXES.items():
        assert get_decoder(UID(uid)).is_available, name
    for uid, name in IMAGE_CLASSES.items():
        assert UID(uid).name == name


@pytest.mark.real_data
def test_real_images_without_identifiers_are_refused_and_kept(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    path = min(unpacked("totalseg-example").rglob("example_ct_dicom/CT.*"))
    meta = read_file_meta_info(path)

    association = associate(node.receiver.port, (meta.MediaStorageSOPClassUID, [meta.TransferSyntaxUID]))
    answer = association.send_c_store(path)
    association.release()

    assert answer.Status == 0xC000
    assert answer.ErrorComment.endswith("is missing or empty")
    (reason,) = (node.folder / "rejected").glob("*.reason.txt")
    assert answer.ErrorComment in reason.read_text()
    (kept,) = (node.folder / "rejected").glob("*.dcm")
    assert data_set_of(kept) == data_set_of(path)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("escape", ["../../x", "/tmp/x", "..", "1.2/3"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_no_uid_leads_out_of_the_inbox(node: Running, keyword: str, escape: str) -> None:
    dataset = image()
    setattr(dataset, keyword, escape)

    (answer,) = send(node.receiver.port, [dataset])

    assert answer.Status == 0xC000
    assert "is not a UID" in answer.ErrorComment
    assert list(node.inbox.stamps()) == []
    assert len(node.everything()) == 2
    assert all(name.startswith("inbox/rejected/") for name in node.everything())


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID"])
@pytest.mark.filterwarnings("ignore:The value length")
def test_a_uid_of_70_characters_is_refused_and_the_association_goes_on(node: Running, keyword: str) -> None:
    long_one, good = ct_series(grid(slices=3))[:2]
    long_one[keyword]._value = UID("1." + "2" * 68)

    answers = send(node.receiver.port, [long_one, good])

    assert [one.Status for one in answers] == [0xC000, 0]
    assert node.observer.wait_for_ends(1) == ["released"]


def test_the_same_instance_again_is_success_and_no_second_file(node: Running) -> None:
    answers = send(node.receiver.port, [image(), image()])

    assert [one.Status for one in answers] == [0, 0]
    assert len(node.stored()) == 1


def test_an_answer_of_refusal_carries_comment_and_element(node: Running) -> None:
    dataset = image()
    dataset.PixelData = dataset.PixelData[:1000]

    (answer,) = send(node.receiver.port, [dataset])

    assert (answer.Status, answer.ErrorComment) == (0xC000, "Pixel Data is too short: 1000 of 1920 bytes")
    assert answer.OffendingElement == 0x7FE00010
    ((_, told),) = node.observer.refused
    assert told.error_comment == answer.ErrorComment


def test_a_class_that_nobody_stores_gets_no_presentation_context(node: Running) -> None:
    association = associate(
        node.receiver.port,
        (CTImageStorage, [ExplicitVRLittleEndian]),
        (EncapsulatedPDFStorage, [ExplicitVRLittleEndian]),
        (StudyRootQueryRetrieveInformationModelFind, [ExplicitVRLittleEndian]),
    )
    accepted = {one.abstract_syntax for one in association.accepted_contexts}
    association.release()

    assert accepted == {CTImageStorage, EncapsulatedPDFStorage}


def test_a_peer_is_offered_what_it_may_send(start: Callable[..., Running]) -> None:
    ct = Peer(name="ct", ae_title="SCAN*", addresses=("127.0.0.0/8",), storage_classes=frozenset({CTImageStorage}))
    node = start(peers=(ct,))

    association = associate(
        node.receiver.port,
        (CTImageStorage, [ExplicitVRLittleEndian]),
        (EncapsulatedPDFStorage, [ExplicitVRLittleEndian]),
    )
    accepted = {one.abstract_syntax for one in association.accepted_contexts}
    association.release()

    assert accepted == {CTImageStorage}


def test_who_is_not_on_the_list_is_rejected(start: Callable[..., Running]) -> None:
    node = start(peers=(Peer(name="other", ae_title="OTHER"),))

    association = associate(node.receiver.port, (CTImageStorage, [ExplicitVRLittleEndian]))

    assert association.is_rejected
    wait_until(lambda: bool(node.observer.rejected))
    ((_, reason),) = node.observer.rejected
    assert reason == "its AE title is not on the list of peers"


def test_a_wrong_called_ae_title_is_rejected_only_if_asked_for(start: Callable[..., Running]) -> None:
    strict, lenient = start(require_called_ae_title=True), start()
    context = (CTImageStorage, [ExplicitVRLittleEndian])

    assert associate(strict.receiver.port, context, called="OTHER").is_rejected
    assert associate(strict.receiver.port, context).is_established
    assert associate(lenient.receiver.port, context, called="OTHER").is_established

    wait_until(lambda: bool(strict.observer.rejected))
    ((caller, reason),) = strict.observer.rejected
    assert (caller.called_ae_title, reason) == ("OTHER", "it calls 'OTHER', not us")
    assert len(strict.observer.opened) == 1


def test_more_associations_than_the_maximum_are_rejected_until_one_ends(start: Callable[..., Running]) -> None:
    node = start(maximum_associations=2)
    context = (CTImageStorage, [ExplicitVRLittleEndian])
    first, _second = associate(node.receiver.port, context), associate(node.receiver.port, context)

    assert associate(node.receiver.port, context).is_rejected
    first.release()
    node.observer.wait_for_ends(1)
    wait_until(lambda: bool(associate(node.receiver.port, context).is_established))


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until a condition holds, or fail."""
    waited = threading.Event()
    for _ in range(int(timeout_s / 0.05)):
        if condition():
            return
        waited.wait(0.05)
    raise AssertionError("the condition never held")


def test_parallel_associations_are_told_apart(node: Running) -> None:
    halves = [ct_series(grid(slices=6, series=name), series=name) for name in ("one", "two")]
    threads = [threading.Thread(target=send, args=(node.receiver.port, half)) for half in halves]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert node.observer.wait_for_ends(2) == ["released", "released"]
    assert len(node.stored()) == 12
    by_association: dict[str, set[str]] = {}
    for caller, stored in node.observer.stored:
        by_association.setdefault(caller.association_id, set()).add(stored.series_instance_uid)
    assert sorted(map(len, by_association.values())) == [1, 1]


def test_an_abort_is_told_and_keeps_what_was_answered(node: Running) -> None:
    association = associate(node.receiver.port, (CTImageStorage, [ExplicitVRLittleEndian]))
    association.send_c_store(image())

    association.abort()

    assert node.observer.wait_for_ends(1) == ["aborted"]
    assert len(node.stored()) == 1


def test_a_connection_that_breaks_off_is_told_as_aborted_once(node: Running) -> None:
    association = associate(node.receiver.port, (CTImageStorage, [ExplicitVRLittleEndian]))
    association.send_c_store(image())

    association.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    assert node.observer.wait_for_ends(1) == ["aborted"]
    threading.Event().wait(0.3)
    assert len(node.observer.ended) == 1


def test_silence_ends_an_association(start: Callable[..., Running]) -> None:
    node = start(limits=TransportLimits(idle_timeout_s=0.5))

    associate(node.receiver.port, (CTImageStorage, [ExplicitVRLittleEndian]))

    assert node.observer.wait_for_ends(1) == ["aborted"]


def test_stopping_ends_what_is_open_and_frees_the_port(start: Callable[..., Running]) -> None:
    node = start()
    port = node.receiver.port
    associate(port, (CTImageStorage, [ExplicitVRLittleEndian]))

    node.receiver.stop()

    assert node.observer.wait_for_ends(1) == ["aborted"]
    assert start(port=port).receiver.port == port


def test_a_port_in_use_is_a_setup_error_that_names_the_port(node: Running, start: Callable[..., Running]) -> None:
    port = node.receiver.port

    with pytest.raises(SetupError, match=rf"cannot listen on 127\.0\.0\.1, port {port}") as raised:
        start(port=port)

    assert "node.port" in raised.value.remedy


def test_an_address_of_another_machine_is_a_setup_error(start: Callable[..., Running]) -> None:
    with pytest.raises(SetupError, match=r"192\.0\.2\.1") as raised:
        start(host="192.0.2.1")

    assert "node.host" in raised.value.remedy


def test_a_fault_of_ours_is_answered_and_logged_and_the_association_goes_on(start: Callable[..., Running]) -> None:
    def broken(_arrival: Arrival) -> Reception:
        raise ZeroDivisionError("Doe^Jane")

    node = start(broken)
    with capture_logs() as logs:
        answers = send(node.receiver.port, [image(), image()])

    assert [one.Status for one in answers] == [0xC001, 0xC001]
    failed = [line for line in logs if line["event"] == "receiving failed"]
    assert failed[0]["error"] == "ZeroDivisionError"
    assert "test_storage_scp.py" in failed[0]["at"]


def test_a_broken_observer_does_not_change_the_answer(start: Callable[..., Running]) -> None:
    node = start()
    node.observer.stored = None  # type: ignore[assignment]

    (answer,) = send(node.receiver.port, [image()])

    assert answer.Status == 0
    assert len(node.stored()) == 1


def test_no_log_line_names_the_patient(node: Running) -> None:
    bad = image()
    del bad.StudyInstanceUID

    with capture_logs() as logs:
        send(node.receiver.port, [image(), bad])
        node.observer.wait_for_ends(1)

    assert {"association opened", "instance refused", "association ended"} <= {line["event"] for line in logs}
    assert "Doe" not in str(logs)
    assert "P-0001" not in str(logs)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Run a program of DCMTK."""
    return subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.peers
def test_dcmtk_echoes(node: Running, needs_program: Callable[..., None]) -> None:
    needs_program("echoscu")

    assert run("echoscu", "-aec", "DELINEATE", "127.0.0.1", node.receiver.port).returncode == 0


@pytest.mark.peers
@pytest.mark.parametrize("program", [("storescu", "-nh"), ("dcmsend", "-nuc")])
def test_dcmtk_sends_a_series(
    node: Running, tmp_path: Path, needs_program: Callable[..., None], program: tuple[str, str]
) -> None:
    needs_program(program[0])
    datasets = ct_series(grid(slices=5))
    files = save_series(datasets, tmp_path / "series")

    result = run(*program, "-aec", "DELINEATE", "127.0.0.1", node.receiver.port, *files)

    assert result.returncode == 0, result.stderr
    assert node.observer.wait_for_ends(1) == ["released"]
    stored = {str(one.SOPInstanceUID): one for one in map(dcmread, node.stored())}
    assert {uid: one.PixelData for uid, one in stored.items()} == {
        one.SOPInstanceUID: one.PixelData for one in datasets
    }


@pytest.mark.peers
def test_secondary_captures_in_a_study_are_taken_with_the_images(
    node: Running, tmp_path: Path, needs_program: Callable[..., None]
) -> None:
    needs_program("dcmsend")
    series = ct_series(grid(slices=3))
    capture = with_file_meta(dcmread(io.BytesIO(written(image()))), SecondaryCaptureImageStorage, "1.2.3.4")
    files = save_series([series[0], capture, *series[1:]], tmp_path / "study")

    sent = run("dcmsend", "-v", "-aec", "DELINEATE", "127.0.0.1", node.receiver.port, *files)

    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert {str(dcmread(path).SOPClassUID) for path in node.stored()} == {CTImageStorage, SecondaryCaptureImageStorage}
    assert len(node.stored()) == 4
    assert node.observer.refused == []


@pytest.mark.peers
def test_dcmtk_shows_the_reason_of_a_refusal(node: Running, tmp_path: Path, needs_program: Callable[..., None]) -> None:
    needs_program("storescu")
    dataset = image()
    dataset.PixelData = dataset.PixelData[:1000]
    files = save_series([dataset], tmp_path / "bad")

    result = run("storescu", "-d", "-aec", "DELINEATE", "127.0.0.1", node.receiver.port, *files)

    assert "Pixel Data is too short: 1000 of 1920 bytes" in result.stdout + result.stderr
    assert node.stored() == []
