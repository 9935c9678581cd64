"""What the receiver takes beside instances: reports of Storage Commitment, and what it failed to begin to receive."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pynetdicom.dsutils import decode

from node.dicom import UNREADABLE
from node.dicom.command import C_STORE_RQ, N_EVENT_REPORT_RQ, Command
from node.dicom.commitment import read_report
from node.domain.arrival import Fragment, StoreAnswer
from node.domain.delivery import CommitmentReport
from node.domain.errors import NodeError, VerificationError

# Hears a report; gives whether it is about something that was asked.
HearReport = Callable[[CommitmentReport], bool]

# A report names a handful of objects.
_LONGEST_REPORT = 2**20
# PS3.7 C: processing failure, mistyped argument.
_PROCESSING_FAILURE, _MISTYPED_ARGUMENT = 0x0110, 0x0212
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"


class ReportReception:
    """Receives one report (N-EVENT-REPORT, PS3.4 J.3.3), as a reception of the spooling transport."""

    def __init__(self, hear: HearReport, *, transfer_syntax_uid: str, event_type: int) -> None:
        self._hear = hear
        self._is_implicit = transfer_syntax_uid == _IMPLICIT_VR_LITTLE_ENDIAN
        self._event_type = event_type
        self._information = bytearray()
        self._is_too_long = False

    def write(self, *fragments: Fragment) -> None:
        """Take the next bytes of the Event Information."""
        for fragment in fragments:
            self._is_too_long |= len(self._information) + len(fragment) > _LONGEST_REPORT
            if not self._is_too_long:
                self._information += fragment

    def finish(self) -> StoreAnswer:
        """Answer; never raises."""
        if self._is_too_long:
            return StoreAnswer(status=_MISTYPED_ARGUMENT, error_comment="Too long")
        try:
            information: Dataset = decode(BytesIO(self._information), self._is_implicit, is_little_endian=True)
            report = read_report(information, self._event_type)
        except (VerificationError, *UNREADABLE):
            return StoreAnswer(status=_MISTYPED_ARGUMENT, error_comment="No report of Storage Commitment")
        try:
            is_known = self._hear(report)
        except NodeError:
            # Whoever asked asks anew.
            return StoreAnswer(status=_PROCESSING_FAILURE, error_comment="Cannot be noted just now")
        return StoreAnswer(status=0x0000 if is_known else _PROCESSING_FAILURE, error_comment="")

    def abandon(self) -> None:
        """Keep nothing."""


class Faulty:
    """Stands for an instance that we failed to begin to receive."""

    def __init__(self, answer: StoreAnswer) -> None:
        self._answer = answer

    def write(self, *fragments: Fragment) -> None:
        """Take no note."""

    def finish(self) -> StoreAnswer:
        """Say whose fault it was."""
        return self._answer

    def abandon(self) -> None:
        """Keep nothing."""


def store_command(request: Any) -> Command:
    """Give the command of a C-STORE that pynetdicom decoded."""
    return _command(C_STORE_RQ, request, 0)


def report_command(request: Any) -> Command:
    """Give the command of an N-EVENT-REPORT that pynetdicom decoded."""
    return _command(N_EVENT_REPORT_RQ, request, request.EventTypeID)


def _command(field: int, request: Any, event_type: int) -> Command:
    return Command(
        field=field,
        message_id=request.MessageID,
        has_data_set=True,
        affected_sop_class_uid=_text(request.AffectedSOPClassUID),
        affected_sop_instance_uid=_text(request.AffectedSOPInstanceUID),
        event_type=event_type,
    )


def _text(value: object) -> str:
    return "" if value is None else str(value).strip("\0 ")
