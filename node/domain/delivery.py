"""One object on its way out: where to, and what the destination said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from node.domain.jobs import DeliveryState

# How a destination is asked whether it keeps what it took; empty: it is not.
Confirm = Literal["", "commitment", "find"]

# What a route names in place of a destination: results go back to whoever sent the images.
SENDER = "sender"

_NOTICE = "notice"

StoreOutcome = Literal["stored", "stored with warning", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddress:
    """A DICOM application entity that takes objects."""

    # What the configuration calls it.
    name: str
    ae_title: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReceipt:
    """The answer of a destination to one C-STORE request."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    outcome: StoreOutcome
    # Status (0000,0900), PS3.4 B.2.3.
    status: int
    # What the status means.
    reason: str
    # The destination's own words (0000,0902). Shown in ``status``, never logged: they might name the patient.
    error_comment: str = ""
    # Refused, but for a cause that may pass: the same object may be taken later.
    worth_retrying: bool
    took_s: float


# PS3.4 Table B.2-1 and PS3.7 C.5: what a destination's status means, and the Failure or Warning Reason of
# STOW-RS (PS3.18 I.2.2). Ranges by their first digits.
STATUS_MEANINGS = {
    "0000": "stored",
    "0105": "no such attribute",
    "0106": "invalid attribute value",
    "0110": "processing failure",
    "0111": "it has that instance already",
    "0117": "invalid SOP instance",
    "0122": "SOP class not supported",
    "0124": "not authorised",
    "0210": "duplicate invocation",
    "0211": "unrecognised operation",
    "0212": "mistyped argument",
    "0213": "resource limitation",
    "A7": "out of resources",
    "A9": "data set does not match its SOP class",
    "B000": "stored, with elements coerced",
    "B006": "stored, with elements discarded",
    "B007": "stored, though it does not match its SOP class",
    "B": "stored with a warning",
    "C": "cannot understand",
}
# Refusals whose cause may pass without anybody changing the object: resources, a fault, a permission, a mixed-up
# message.
WORTH_RETRYING = ("A7", "0110", "0124", "0210", "0213")
# PS3.7 C.4: warnings outside Bxxx. And 0111, a failure there (C.5.7): what we send again is the same instance, byte for
# byte, so who has it has what we wanted it to have.
WARNINGS = ("B", "0001", "0107", "0116", "0111")


class Meaning(TypedDict):
    """What a status says of an object."""

    outcome: StoreOutcome
    status: int
    reason: str
    worth_retrying: bool


def meaning_of(status: int) -> Meaning:
    """Say what a status of C-STORE means, and whether the same object is worth another try."""
    digits = f"{status:04X}"
    words = next((text for start, text in STATUS_MEANINGS.items() if digits.startswith(start)), "unknown status")
    outcome: StoreOutcome = (
        "stored" if status == 0 else "stored with warning" if digits.startswith(WARNINGS) else "refused"
    )
    return {
        "outcome": outcome,
        "status": status,
        "reason": f"{words} (0x{digits})",
        "worth_retrying": outcome == "refused" and digits.startswith(WORTH_RETRYING),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What a destination says of a request for Storage Commitment (PS3.4 table J.3-2)."""

    transaction_uid: str
    # SOP Instance UIDs that it commits itself to keep.
    committed: tuple[str, ...]
    # SOP Instance UID -> Failure Reason (0008,1197) of those that it does not.
    failed: Mapping[str, int]


# PS3.3 C.14.1.1.
FAILURE_REASONS = {
    0x0110: "processing failure",
    0x0112: "it does not have the object",
    0x0119: "it knows another SOP class of the object",
    0x0122: "it does not commit itself to that SOP class",
    0x0131: "duplicate transaction UID",
    0x0213: "out of resources",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPlan:
    """What is to be done beside sending, for one destination."""

    # Which destination gets what this one did not take for so long; empty: none.
    fail_over: str = ""
    fail_over_after_s: float = 0.0
    confirm: Confirm = ""


def to_sender(calling_ae_title: str) -> str:
    """Name the destination that is the sender of a series."""
    return f"{SENDER}/{calling_ae_title}"


def sender_of(destination: str) -> str | None:
    """Give the AE title of a destination that is the sender of a series; None of any other."""
    kind, slash, calling_ae_title = destination.partition("/")
    return calling_ae_title if kind == SENDER and slash else None


def notice_key(of: str, digest: str) -> str:
    """Give what stands for a job in the deliveries of a negative result: of a job, or of a series without one."""
    return f"{of}/{_NOTICE}-{digest}"


def told_of(job: str) -> str | None:
    """Give the job, or the series, of which a delivery tells that nothing came of it; None of any other delivery."""
    of, slash, last = job.rpartition("/")
    return of if slash and last.startswith(f"{_NOTICE}-") else None


def is_under_way(delivery: Mapping[str, Any]) -> bool:
    """Tell whether a delivery has a try before it: to send, or to ask whether what was sent is kept."""
    match delivery["state"]:
        case DeliveryState.QUEUED | DeliveryState.WAITING:
            return True
        case DeliveryState.DELIVERED:
            return delivery["next_attempt_at"] is not None and delivery["confirmed_at"] is None
        case _:
            return False


def is_proven(delivery: Mapping[str, Any]) -> bool:
    """Tell whether a destination has everything, by the proof that was asked of it."""
    is_asked = bool(delivery["confirmation"])
    return delivery["state"] == DeliveryState.DELIVERED and (delivery["confirmed_at"] is not None or not is_asked)


def failed_of(report: CommitmentReport, asked: Sequence[str]) -> dict[str, str]:
    """Give, by SOP Instance UID, why a destination does not keep objects that it was asked to; those it keeps: nothing.

    What a report says nothing of is not kept: PS3.4 J.3.3 wants every object in it.
    """
    said = {uid: f"{FAILURE_REASONS.get(code, 'unknown reason')} (0x{code:04X})" for uid, code in report.failed.items()}
    return {uid: said.get(uid, "not in its report") for uid in asked if uid not in report.committed}
