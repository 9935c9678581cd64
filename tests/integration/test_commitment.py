"""Storage Commitment with SCPs that report at once, later, on our association or on one of theirs; and C-FIND."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role, evt

from node.adapters.calling import Line
from node.adapters.confirmation_scu import missing_of, request_commitment, takes_commitment
from node.adapters.scp_settings import ReceiverSettings, Transport
from node.adapters.storage_scp import Receiver
from node.adapters.storage_scu import store
from node.dicom.commitment import COMMITMENT_CLASS_UID, COMMITMENT_INSTANCE_UID
from node.domain.arrival import Unobserved
from node.domain.delivery import CommitmentReport, PeerAddress
from node.domain.errors import PeerError, UnreachableError
from node.domain.peers import AssociationPolicy
from tests.acceptance.test_peers import orthanc, require
from tests.builders import uid
from tests.fakes import RT_STRUCTURE_SET, SEGMENTATION, FakeDestination, free_port
from tests.integration.test_storage_scu import object_file

LINE = Line(calling_ae_title="DELINEATE", timeout_s=10.0)
OBJECTS = {"1.2.1": RT_STRUCTURE_SET, "1.2.2": SEGMENTATION}
TRANSACTION = "2.25.4711"


class Archive:
    """An SCP of Storage Commitment that answers as told."""

    def __init__(self, *, action_status: int = 0x0000, failed: Sequence[str] = ()) -> None:
        self.action_status = action_status
        self.failed = failed
        # Of the node, to report on an association of its own; None: on ours.
        self.calls_back: int | None = None
        self.reports = True
        self.answered: list[int] = []
        self.asked: list[Dataset] = []
        self._entity = AE(ae_title="ARCHIVE")
        self._entity.add_supported_context(COMMITMENT_CLASS_UID)
        self._port = free_port()

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=self._port)

    @contextmanager
    def at_work(self) -> Iterator["Archive"]:
        handlers = [(evt.EVT_N_ACTION, self._on_action)]
        self._entity.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            self._entity.shutdown()

    def _on_action(self, event: Any) -> tuple[int, None]:
        self.asked.append(event.action_information)
        if self.action_status == 0 and self.reports:
            threading.Thread(target=self._report, args=(event.assoc, event.action_information)).start()
        return self.action_status, None

    def _report(self, association: Any, asked: Dataset) -> None:
        if self.calls_back is None:
            time.sleep(0.2)  # until the answer to the request has left
            self.answered.append(tell(association, report_of(asked, self.failed)))
            return
        role = build_role(COMMITMENT_CLASS_UID, scp_role=True)
        back = AE(ae_title="ARCHIVE").associate(
            "127.0.0.1", self.calls_back, [build_context(COMMITMENT_CLASS_UID)], ext_neg=[role]
        )
        self.answered.append(tell(back, report_of(asked, self.failed)))
        back.release()


def report_of(asked: Dataset, failed: Sequence[str]) -> Dataset:
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    items = list(asked.ReferencedSOPSequence)
    report.ReferencedSOPSequence = [one for one in items if one.ReferencedSOPInstanceUID not in failed]
    lacking = [one for one in items if one.ReferencedSOPInstanceUID in failed]
    for one in lacking:
        one.FailureReason = 0x0112
    if lacking:
        report.FailedSOPSequence = lacking
    return report


def tell(association: Any, report: Dataset, event_type: int | None = None) -> int:
    kind = event_type or (2 if "FailedSOPSequence" in report else 1)
    status, _ = association.send_n_event_report(report, kind, UID(COMMITMENT_CLASS_UID), UID(COMMITMENT_INSTANCE_UID))
    return int(status.Status)


# Asking --------------------------------------------------------------------------------------------------------------


def test_a_report_on_the_same_association_is_heard() -> None:
    with Archive(failed=["1.2.2"]).at_work() as archive:
        report = request_commitment(archive.address, TRANSACTION, OBJECTS, LINE, wait_s=10.0)

    assert report == CommitmentReport(transaction_uid=TRANSACTION, committed=("1.2.1",), failed={"1.2.2": 0x0112})
    assert archive.answered == [0x0000]
    (asked,) = archive.asked
    assert {one.ReferencedSOPInstanceUID: one.ReferencedSOPClassUID for one in asked.ReferencedSOPSequence} == OBJECTS


def test_without_a_report_at_once_there_is_none_and_no_fault() -> None:
    archive = Archive()
    archive.reports = False

    with archive.at_work():
        assert request_commitment(archive.address, TRANSACTION, OBJECTS, LINE, wait_s=0.2) is None


def test_a_refusal_is_said_with_its_status() -> None:
    with Archive(action_status=0x0110).at_work() as archive, pytest.raises(PeerError, match="0x0110"):
        request_commitment(archive.address, TRANSACTION, OBJECTS, LINE, wait_s=1.0)


def test_who_takes_no_storage_commitment_is_told_apart_from_who_is_not_there() -> None:
    with FakeDestination() as tps, pytest.raises(PeerError, match="Storage Commitment") as caught:
        takes_commitment(tps.address, LINE)
    assert not isinstance(caught.value, UnreachableError)

    with pytest.raises(UnreachableError):
        takes_commitment(Archive().address, LINE)


# Hearing --------------------------------------------------------------------------------------------------------------


@contextmanager
def receiver(heard: list[CommitmentReport], transport: Transport = "spooling", knows: bool = True) -> Iterator[int]:
    """Run our receiver; gives its port."""

    def hear(report: CommitmentReport) -> bool:
        heard.append(report)
        return knows

    def begin(_: Any) -> Any:
        raise AssertionError("no instance is sent")

    settings = ReceiverSettings(
        host="127.0.0.1", port=0, association=AssociationPolicy(ae_title="DELINEATE"), transport=transport
    )
    running = Receiver(settings, begin=begin, observer=Unobserved(), hear_report=hear)
    running.start()
    try:
        yield running.port
    finally:
        running.stop()


@pytest.mark.parametrize("transport", ["spooling", "stock"])
def test_a_destination_that_calls_back_is_heard_as_the_scp_that_it_is(transport: Transport) -> None:
    heard: list[CommitmentReport] = []

    with receiver(heard, transport) as port, Archive(failed=["1.2.1"]).at_work() as archive:
        archive.calls_back = port
        assert request_commitment(archive.address, TRANSACTION, OBJECTS, LINE, wait_s=0.1) is None
        until = time.monotonic() + 30
        while not archive.answered and time.monotonic() < until:
            time.sleep(0.02)

    assert archive.answered == [0x0000]
    assert heard == [CommitmentReport(transaction_uid=TRANSACTION, committed=("1.2.2",), failed={"1.2.1": 0x0112})]


def calling_back(port: int, *, scp_role: bool = True) -> Any:
    roles = [build_role(COMMITMENT_CLASS_UID, scp_role=True)] if scp_role else []
    return AE(ae_title="ARCHIVE").associate("127.0.0.1", port, [build_context(COMMITMENT_CLASS_UID)], ext_neg=roles)


def some_report() -> Dataset:
    report = Dataset()
    report.TransactionUID = TRANSACTION
    report.ReferencedSOPSequence = []
    return report


def test_a_report_that_nobody_asked_for_is_refused() -> None:
    with receiver([], knows=False) as port:
        association = calling_back(port)
        assert tell(association, some_report()) == 0x0110
        association.release()


@pytest.mark.parametrize("transport", ["spooling", "stock"])
def test_a_report_that_makes_no_sense_is_refused_and_the_association_goes_on(transport: Transport) -> None:
    heard: list[CommitmentReport] = []

    with receiver(heard, transport) as port:
        association = calling_back(port)
        assert tell(association, some_report(), event_type=77) == 0x0212
        without_transaction = some_report()
        del without_transaction.TransactionUID
        without_transaction.FailedSOPSequence = [Dataset()]
        assert tell(association, without_transaction) == 0x0212
        assert tell(association, some_report()) == 0x0000
        association.release()

    assert len(heard) == 1


def test_who_does_not_ask_to_be_the_scp_may_not_report() -> None:
    with receiver([]) as port:
        assert not calling_back(port, scp_role=False).is_established


def test_where_no_destination_is_to_commit_itself_nobody_may_report() -> None:
    settings = ReceiverSettings(host="127.0.0.1", port=0, association=AssociationPolicy(ae_title="DELINEATE"))
    running = Receiver(settings, begin=lambda _: pytest.fail("nothing is sent"), observer=Unobserved())
    running.start()
    try:
        assert not calling_back(running.port).is_established
    finally:
        running.stop()


# Peers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.peers
def test_orthanc_commits_itself_to_what_it_has_and_is_asked_and_heard_by_us(tmp_path: Path) -> None:
    require("Orthanc")
    heard: list[CommitmentReport] = []
    files = [object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)]

    with receiver(heard) as port:
        modality = {"node": ["DELINEATE", "127.0.0.1", port]}
        with orthanc(tmp_path, {"DicomModalities": modality}) as (orthanc_port, _):
            address = PeerAddress(name="orthanc", ae_title="TPS", host="127.0.0.1", port=orthanc_port)
            kept = store(address, files, calling_ae_title="DELINEATE")
            objects = {one.sop_instance_uid: one.sop_class_uid for one in kept}
            never_sent = {uid("never sent"): SEGMENTATION}
            at_once = request_commitment(address, TRANSACTION, {**objects, **never_sent}, LINE, wait_s=0.5)
            until = time.monotonic() + 30
            while not heard and time.monotonic() < until:
                time.sleep(0.05)

    assert at_once is None  # Orthanc calls back
    (report,) = heard
    assert set(report.committed) == set(objects)
    assert report.failed == {uid("never sent"): 0x0112}


@pytest.mark.peers
def test_orthanc_finds_what_it_has_and_nothing_else(tmp_path: Path) -> None:
    require("Orthanc")
    sent, missing = object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION, name="other")

    with orthanc(tmp_path) as (port, _):
        address = PeerAddress(name="orthanc", ae_title="TPS", host="127.0.0.1", port=port)
        store(address, [sent], calling_ae_title="DELINEATE")

        assert missing_of(address, [sent], LINE) == ()
        assert missing_of(address, [sent, missing], LINE) == (uid("other", SEGMENTATION),)


def test_who_takes_no_query_is_named(tmp_path: Path) -> None:
    with FakeDestination() as tps, pytest.raises(PeerError, match="accepts no presentation context"):
        missing_of(tps.address, [object_file(tmp_path, SEGMENTATION)], LINE)


def test_who_hangs_holds_us_no_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mute = PeerAddress(name="mute", ae_title="MUTE", host="127.0.0.1", port=listener.getsockname()[1])
        with pytest.raises(UnreachableError):
            takes_commitment(mute, Line(calling_ae_title="DELINEATE", timeout_s=0.5))
