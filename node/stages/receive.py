"""Receive one instance: check what the sender says, make it durable, answer.

Success is said only for what survives a power cut. What is refused is kept beside the reason, unless the disk is low.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from node.dicom.envelope import (
    PIXEL_DATA,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Envelope,
    name_of,
    read_envelope,
    series_of,
)
from node.dicom.file_meta import is_uid
from node.domain.arrival import Arrival, Fragment, InstanceIdentity, LackingInstance, Readable, StoreAnswer
from node.domain.errors import InputError, ResourceError
from node.stages.ports import Inbox, Part

SUCCESS = 0x0000
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
UNABLE_TO_PROCESS = 0xC001
LARGER_THAN_ALLOWED = 0xC002


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """One status of the C-STORE responses that we give."""

    code: int
    category: Literal["Success", "Refused", "Error"]
    meaning: str
    when: str


# Every status we give, PS3.4 Table B.2-1 and PS3.7 C.5; CONFORMANCE.md is generated from this.
STORE_STATUSES = (
    StoreStatus(
        SUCCESS,
        "Success",
        "Success",
        "The file and its folder are on disk, or the identical data set already was.",
    ),
    StoreStatus(
        SOP_CLASS_NOT_SUPPORTED,
        "Refused",
        "SOP Class not supported",
        "Affected SOP Class UID is not the abstract syntax of the presentation context.",
    ),
    StoreStatus(
        OUT_OF_RESOURCES,
        "Refused",
        "Out of resources",
        "Less disk is free than `minimum_free_gb`, the data folder is gone, or the disk refused the file. Nothing is "
        "kept: send again later.",
    ),
    StoreStatus(
        DOES_NOT_MATCH_SOP_CLASS,
        "Error",
        "Data Set does not match SOP Class",
        "SOP Class UID in the data set is not Affected SOP Class UID.",
    ),
    StoreStatus(
        CANNOT_UNDERSTAND,
        "Error",
        "Cannot understand",
        "A UID is missing or malformed, SOP Instance UID is not Affected SOP Instance UID, the data set is not in its "
        "transfer syntax or ends inside an element, or native Pixel Data is too short.",
    ),
    StoreStatus(
        UNABLE_TO_PROCESS,
        "Error",
        "Cannot understand",
        "A fault of the node itself. Nothing is kept: send again later.",
    ),
    StoreStatus(
        LARGER_THAN_ALLOWED,
        "Error",
        "Cannot understand",
        "The instance is larger than `maximum_object_mb`, or its series has `maximum_series_instances` already. "
        "Nothing is kept; sending again changes nothing.",
    ),
)

# PS3.5 6.2: LO, the VR of Error Comment (0000,0902).
LONGEST_ERROR_COMMENT = 64
# The identifiers of groups 0008 to 0020 lie within the first few thousand bytes of any image.
LONGEST_BEGINNING = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveLimits:
    """What one instance and one series may be at most."""

    maximum_object_bytes: int = 2 * 2**30
    # Instances of one series in the inbox.
    maximum_series_instances: int = 20_000


NO_LIMITS_GIVEN = ReceiveLimits()


def begin(arrival: Arrival, inbox: Inbox, limits: ReceiveLimits = NO_LIMITS_GIVEN) -> "InstanceReception":
    """Begin to receive an instance: its data set comes in fragments, and nothing of it is kept in memory."""
    return InstanceReception(arrival, inbox, limits)


class InstanceReception:
    """One instance on its way into the inbox."""

    def __init__(self, arrival: Arrival, inbox: Inbox, limits: ReceiveLimits) -> None:
        self._arrival, self._inbox, self._limits = arrival, inbox, limits
        # Why nothing more is kept, decided before the end.
        self._refusal: StoreAnswer | None = None
        # What of the data set is remembered although it is refused: enough to say which series lacks it.
        self._beginning = b""
        self._received = 0
        self._part: Part | None = None
        if inbox.has_room_for(0):
            self._open()
        else:
            self._refusal = _refusal(OUT_OF_RESOURCES, "Disk low, nothing was stored: send again later")

    def write(self, *fragments: Fragment) -> None:
        """Take the next bytes of the encoded data set; what was refused already is only counted."""
        for fragment in fragments:
            self._received += len(fragment)
            if len(self._beginning) < LONGEST_BEGINNING:
                self._beginning += bytes(fragment[: LONGEST_BEGINNING - len(self._beginning)])
        if self._part is None:
            return
        if self._received > self._limits.maximum_object_bytes:
            largest_mb = self._limits.maximum_object_bytes // 2**20
            self._refuse(_refusal(LARGER_THAN_ALLOWED, f"Larger than {largest_mb} MB, see maximum_object_mb"))
            return
        try:
            self._part.write(*fragments)
        except ResourceError:
            self._refuse(_disk_refused())

    def finish(self) -> StoreAnswer:
        """Store the instance durably, or say why not."""
        answer = self._refusal or self._stored_or_refused()
        return answer if answer.stored is not None else replace(answer, lacking=self._lacking())

    def abandon(self) -> None:
        """Remove what was written: no success was said for it."""
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _open(self) -> None:
        try:
            self._part = self._inbox.open(self._arrival)
        except ResourceError:
            self._refusal = _disk_refused()

    def _refuse(self, refusal: StoreAnswer) -> None:
        self._refusal = refusal
        self.abandon()

    def _stored_or_refused(self) -> StoreAnswer:
        assert self._part is not None
        part, self._part = self._part, None
        try:
            verdict = examine(self._arrival, part.data_set())
            if isinstance(verdict, StoreAnswer):
                part.reject(verdict.error_comment)
                return verdict
            if not self._inbox.takes_more_of(verdict.series_instance_uid, self._limits.maximum_series_instances):
                part.discard()
                most = self._limits.maximum_series_instances
                return _refusal(LARGER_THAN_ALLOWED, f"Series has {most} instances, see maximum_series_instances")
            return StoreAnswer(status=SUCCESS, stored=part.store(verdict))
        except ResourceError:
            return _disk_refused()
        finally:
            part.discard()

    def _lacking(self) -> LackingInstance | None:
        """Tell which series now lacks which instance, if the data set is whole enough to say."""
        series_uid = series_of(self._beginning, self._arrival.transfer_syntax_uid)
        sop_uid = self._arrival.affected_sop_instance_uid
        if not (is_uid(series_uid) and is_uid(sop_uid)):
            return None
        return LackingInstance(series_instance_uid=series_uid, sop_instance_uid=sop_uid)


def examine(arrival: Arrival, data_set: Readable) -> InstanceIdentity | StoreAnswer:
    """Decide whether an instance can be stored: its checked identifiers, or the answer that refuses it."""
    try:
        envelope = read_envelope(data_set, arrival.transfer_syntax_uid)
    except InputError as error:
        return _refusal(CANNOT_UNDERSTAND, error.reason)
    return next(_faults(arrival, envelope), None) or InstanceIdentity(
        sop_class_uid=envelope.sop_class_uid,
        sop_instance_uid=envelope.sop_instance_uid,
        study_instance_uid=envelope.study_instance_uid,
        series_instance_uid=envelope.series_instance_uid,
    )


def _faults(arrival: Arrival, envelope: Envelope) -> Iterator[StoreAnswer]:
    """Yield what is wrong, the gravest first."""
    if arrival.affected_sop_class_uid != arrival.abstract_syntax_uid:
        yield _refusal(SOP_CLASS_NOT_SUPPORTED, "Affected SOP Class UID is not that of its context")
    for tag, name, uid in (
        (SOP_CLASS_UID, "SOP Class UID", envelope.sop_class_uid),
        (SOP_INSTANCE_UID, "SOP Instance UID", envelope.sop_instance_uid),
        (STUDY_INSTANCE_UID, "Study Instance UID", envelope.study_instance_uid),
        (SERIES_INSTANCE_UID, "Series Instance UID", envelope.series_instance_uid),
    ):
        if not uid:
            yield _refusal(CANNOT_UNDERSTAND, f"{name} {name_of(tag)} is missing or empty", tag)
        elif not is_uid(uid):
            yield _refusal(CANNOT_UNDERSTAND, f"{name} {name_of(tag)} is not a UID", tag)
    if envelope.sop_class_uid != arrival.affected_sop_class_uid:
        yield _refusal(DOES_NOT_MATCH_SOP_CLASS, "SOP Class UID is not the Affected SOP Class UID", SOP_CLASS_UID)
    if envelope.sop_instance_uid != arrival.affected_sop_instance_uid:
        yield _refusal(CANNOT_UNDERSTAND, "SOP Instance UID is not the Affected SOP Instance UID", SOP_INSTANCE_UID)
    there, expected = envelope.pixel_bytes, envelope.pixel_bytes_expected
    if there is not None and expected is not None and there < expected:
        yield _refusal(CANNOT_UNDERSTAND, f"Pixel Data is too short: {there} of {expected} bytes", PIXEL_DATA)


def _refusal(status: int, comment: str, *offending_elements: int) -> StoreAnswer:
    return StoreAnswer(
        status=status, error_comment=comment[:LONGEST_ERROR_COMMENT], offending_elements=offending_elements
    )


def _disk_refused() -> StoreAnswer:
    return _refusal(OUT_OF_RESOURCES, "The disk refused the file: send again later")
