"""One object on its way out: where to, and what the destination said."""

from dataclasses import dataclass
from typing import Literal

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
