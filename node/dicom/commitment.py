"""Storage Commitment Push Model as data sets: the request of PS3.4 table J.3-1, the report of table J.3-2."""

from collections.abc import Mapping

from pydicom import Dataset

from node.dicom import UNREADABLE
from node.domain.delivery import CommitmentReport
from node.domain.errors import VerificationError

COMMITMENT_CLASS_UID = "1.2.840.10008.1.20.1"
# PS3.4 J.3.5: the well-known instance.
COMMITMENT_INSTANCE_UID = "1.2.840.10008.1.20.1.1"
# PS3.4 J.3.2: Action Type ID; J.3.3: Event Type IDs.
REQUEST_COMMITMENT = 1
_ALL_COMMITTED, _SOME_FAILED = 1, 2
# PS3.3 C.14.1.1: where the report gives no reason.
_PROCESSING_FAILURE = 0x0110


def commitment_request(transaction_uid: str, objects: Mapping[str, str]) -> Dataset:
    """Give the Action Information of a request.

    Parameters
    ----------
    objects
        SOP Instance UID -> SOP Class UID.
    """
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [_reference(uid, class_uid) for uid, class_uid in objects.items()]
    return request


def _reference(sop_instance_uid: str, sop_class_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def read_report(event_information: Dataset, event_type: int) -> CommitmentReport:
    """Read the Event Information of a report.

    Raises
    ------
    VerificationError
        It is none, or names no transaction.
    """
    if event_type not in (_ALL_COMMITTED, _SOME_FAILED):
        raise VerificationError(f"An event of type {event_type} is no report of Storage Commitment.")
    try:
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or _PROCESSING_FAILURE)
            for item in event_information.get("FailedSOPSequence") or []
        }
        committed = [
            str(item.ReferencedSOPInstanceUID) for item in event_information.get("ReferencedSOPSequence") or []
        ]
        return CommitmentReport(
            transaction_uid=str(event_information.TransactionUID), committed=tuple(committed), failed=failed
        )
    except UNREADABLE as error:
        raise VerificationError(f"The report is malformed: {type(error).__name__}.") from error
