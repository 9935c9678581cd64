"""One instance on its way in: what the sender said, what we answer, and what happened on the wire."""

from dataclasses import dataclass
from typing import Literal, Protocol

AssociationEnding = Literal["released", "aborted"]

# Some of the bytes of an encoded data set.
Fragment = bytes | bytearray | memoryview


class Readable(Protocol):
    """Bytes that are taken out by slices, wherever they lie."""

    def __len__(self) -> int:
        """Give their number."""
        ...

    def __getitem__(self, place: slice, /) -> Fragment:
        """Give those from ``start`` to ``stop``; the step is 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is said of one instance before its data set comes: by a C-STORE request, or by a file's meta information.

    Nothing in it has been checked. The names of the first four are those of the command's elements in PS3.7 9.3.1.1 or
    of the association's.
    """

    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    # Abstract syntax of the presentation context; the SOP class where there was no association.
    abstract_syntax_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str
    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceIdentity:
    """The identifiers in a data set, checked: digits and dots, at most 64 characters, safe as file names."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInstance:
    """Where an instance is in the inbox; durable."""

    series_instance_uid: str
    sop_instance_uid: str
    # The file's name within its series folder.
    file_name: str
    # The identical data set was there before; nothing was written.
    was_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAnswer:
    """What a C-STORE response says (PS3.7 9.3.1.2)."""

    status: int
    # Error Comment (0000,0902), LO: at most 64 characters, no patient. Empty for success.
    error_comment: str = ""
    # Offending Element (0000,0901).
    offending_elements: tuple[int, ...] = ()
    # Set where the status is success.
    stored: StoredInstance | None = None
    # Of a refused instance, where both could be read: its series lacks it until it comes again.
    lacking: "LackingInstance | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LackingInstance:
    """An instance that was refused: its series is not whole without it."""

    series_instance_uid: str
    sop_instance_uid: str


class Reception(Protocol):
    """One instance on its way in: ``write`` any number of times, then ``finish`` or ``abandon``, once."""

    def write(self, *fragments: Fragment) -> None:
        """Take the next bytes of the encoded data set, without File Meta Information; never raises."""
        ...

    def finish(self) -> StoreAnswer:
        """Answer; on success the instance survives a power cut."""
        ...

    def abandon(self) -> None:
        """Keep nothing: the rest will not come."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who opened an association."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    # IP address of the peer.
    address: str


class ReceiverObserver(Protocol):
    """Hears what happens at the receiver. Called from the association's thread; ``now`` is seconds since the epoch.

    One association: ``association_opened``, any number of ``instance_stored`` and ``instance_refused``,
    ``association_ended``. ``association_rejected`` stands alone.
    """

    def association_opened(self, caller: Caller, now: float) -> None:
        """Take note of a new association."""
        ...

    def instance_stored(self, caller: Caller, stored: StoredInstance, now: float) -> None:
        """Take note of a durable instance before the sender hears of it; must be cheap."""
        ...

    def instance_refused(self, caller: Caller, answer: StoreAnswer, now: float) -> None:
        """Take note of an instance that gets another answer than success."""
        ...

    def association_ended(self, caller: Caller, ending: AssociationEnding, now: float) -> None:
        """Take note of the end of an association."""
        ...

    def association_rejected(self, caller: Caller, reason: str, now: float) -> None:
        """Take note of an association that was never opened, and why."""
        ...


class Unobserved:
    """A `ReceiverObserver` that takes no note."""

    def association_opened(self, caller: Caller, now: float) -> None:
        """Ignore it."""

    def instance_stored(self, caller: Caller, stored: StoredInstance, now: float) -> None:
        """Ignore it."""

    def instance_refused(self, caller: Caller, answer: StoreAnswer, now: float) -> None:
        """Ignore it."""

    def association_ended(self, caller: Caller, ending: AssociationEnding, now: float) -> None:
        """Ignore it."""

    def association_rejected(self, caller: Caller, reason: str, now: float) -> None:
        """Ignore it."""
