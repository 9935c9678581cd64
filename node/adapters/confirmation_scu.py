"""Proof that a destination keeps what it was sent: Storage Commitment (PS3.4 J), or a query for each object (C-FIND).

Storage Commitment Push Model: we ask by N-ACTION, the destination answers by N-EVENT-REPORT, on the same association
or later on one that it opens to our receiver.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import build_context, evt
from pynetdicom.pdu import P_DATA_TF

from node.adapters.calling import Caller, Line
from node.dicom.commitment import (
    COMMITMENT_CLASS_UID,
    COMMITMENT_INSTANCE_UID,
    REQUEST_COMMITMENT,
    commitment_request,
    read_report,
)
from node.domain.delivery import CommitmentReport, PeerAddress
from node.domain.errors import PeerError, VerificationError

STUDY_ROOT_FIND_CLASS = "1.2.840.10008.5.1.4.1.2.2.1"
_IMPLICIT_VR_LITTLE_ENDIAN, _EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_PENDING = (0xFF00, 0xFF01)
# PS3.4 C.6.2.1: one of each level above, and one object.
_UNIQUE_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# PS3.7 C.4.3 and Table 9.1-1: processing failure.
_PROCESSING_FAILURE = 0x0110


def request_commitment(
    destination: PeerAddress,
    transaction_uid: str,
    objects: Mapping[str, str],
    line: Line,
    *,
    wait_s: float,
) -> CommitmentReport | None:
    """Ask a destination to commit itself to keep objects; gives its report if that comes on the same association.

    Parameters
    ----------
    objects
        SOP Instance UID -> SOP Class UID.
    wait_s
        How long the association is kept open for the report.

    Raises
    ------
    UnreachableError
        There is no association with the destination.
    PeerError
        It takes no Storage Commitment, refuses the request, aborts, or is silent.
    """
    heard = _Ear(transaction_uid)
    started = time.monotonic()
    caller = Caller(destination, line, [(evt.EVT_N_EVENT_REPORT, heard.on_report), (evt.EVT_PDU_SENT, heard.on_sent)])
    syntaxes = [_EXPLICIT_VR_LITTLE_ENDIAN, _IMPLICIT_VR_LITTLE_ENDIAN]
    with caller.association([build_context(COMMITMENT_CLASS_UID, syntaxes)]) as association:
        response, _ = association.send_n_action(
            commitment_request(transaction_uid, objects),
            REQUEST_COMMITMENT,
            UID(COMMITMENT_CLASS_UID),
            UID(COMMITMENT_INSTANCE_UID),
        )
        status = caller.status_of(response, started, line.timeout_s)
        if status != 0:
            raise PeerError(f"{caller.peer} answers the request for Storage Commitment with status 0x{status:04X}.")
        until = time.monotonic() + wait_s
        while not heard.has_answered.wait(0.05) and association.is_established and time.monotonic() < until:
            pass
    return heard.report


class _Ear:
    """Hears the report on the association of the request."""

    def __init__(self, transaction_uid: str) -> None:
        self._transaction_uid = transaction_uid
        # Only then may the association be released.
        self.has_answered = threading.Event()
        self.report: CommitmentReport | None = None

    def on_report(self, event: Any) -> tuple[int, None]:
        """Take the report of our transaction; gives the status of the answer."""
        try:
            report = read_report(event.event_information, event.event_type)
        except VerificationError:
            return _PROCESSING_FAILURE, None
        if report.transaction_uid != self._transaction_uid:
            return _PROCESSING_FAILURE, None
        self.report = report
        return 0x0000, None

    def on_sent(self, event: Any) -> None:
        """Take note that the answer to the report has left: it is one small PDU."""
        if self.report is not None and isinstance(event.pdu, P_DATA_TF):
            self.has_answered.set()


def takes_commitment(destination: PeerAddress, line: Line) -> None:
    """Raise PeerError unless a destination takes Storage Commitment; asks it for nothing."""
    with Caller(destination, line).association([build_context(COMMITMENT_CLASS_UID, _IMPLICIT_VR_LITTLE_ENDIAN)]):
        pass


def missing_of(destination: PeerAddress, files: Sequence[Path], line: Line) -> tuple[str, ...]:
    """Ask by C-FIND at image level for the object in each file; gives the SOP Instance UIDs that are not known there.

    Raises
    ------
    UnreachableError
        There is no association with the destination.
    PeerError
        It takes no C-FIND, answers with a failure, aborts, or is silent.
    OSError
        A file cannot be read.
    """
    wanted = [dcmread(path, stop_before_pixels=True, specific_tags=list(_UNIQUE_KEYS)) for path in files]
    caller = Caller(destination, line)
    with caller.association([build_context(STUDY_ROOT_FIND_CLASS, _IMPLICIT_VR_LITTLE_ENDIAN)]) as association:
        return tuple(str(one.SOPInstanceUID) for one in wanted if not _is_found(caller, association, one, line))


def takes_find(destination: PeerAddress, line: Line) -> None:
    """Raise PeerError unless a destination takes C-FIND; asks it for nothing."""
    with Caller(destination, line).association([build_context(STUDY_ROOT_FIND_CLASS, _IMPLICIT_VR_LITTLE_ENDIAN)]):
        pass


def _is_found(caller: Caller, association: Any, wanted: Dataset, line: Line) -> bool:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    for keyword in _UNIQUE_KEYS:
        setattr(identifier, keyword, wanted[keyword].value)
    started = time.monotonic()
    is_found = False
    for status, answer in association.send_c_find(identifier, STUDY_ROOT_FIND_CLASS):
        code = caller.status_of(status, started, line.timeout_s)
        if code not in _PENDING:
            if code != 0:
                raise PeerError(f"{caller.peer} answers C-FIND with status 0x{code:04X}.")
            break
        # Some archives answer with more than was asked for.
        is_found |= answer is not None and answer.get("SOPInstanceUID") == wanted.SOPInstanceUID
        started = time.monotonic()
    return is_found
