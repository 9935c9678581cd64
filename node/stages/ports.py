"""What the stages need of the world, as small protocols. Adapters satisfy them without importing them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from node.dicom.file_meta import FileMeta
from node.domain.arrival import Arrival, Fragment, InstanceIdentity, Readable, Reception, StoredInstance
from node.domain.drops import Entry, Names
from node.domain.evidence import ArchiveAnswer
from node.domain.habits import Lesson
from node.domain.jobs import DeliveryState, JobState, Priority
from node.domain.series import AssociationFact

# --- receive ---


class Part(Protocol):
    """An instance that is being written; gone after ``store``, ``reject`` or ``discard``."""

    def write(self, *fragments: Fragment) -> None:
        """Append to the encoded data set.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        ...

    def data_set(self) -> Readable:
        """Give the encoded data set as written so far; until the part is gone."""
        ...

    def store(self, identity: InstanceIdentity) -> StoredInstance:
        """Make the instance durable: on return it survives a power cut.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        ...

    def reject(self, reason: str) -> None:
        """Keep a refused data set beside the reason, for a person to look at.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        ...

    def discard(self) -> None:
        """Keep nothing; does nothing where it is gone already."""
        ...


class Inbox(Protocol):
    """Where received instances become durable."""

    def has_room_for(self, byte_count: int) -> bool:
        """Tell whether that many bytes can be stored and the free disk stays above the minimum."""
        ...

    def takes_more_of(self, series_uid: str, most: int) -> bool:
        """Tell whether a series has fewer instances than that."""
        ...

    def open(self, arrival: Arrival) -> Part:
        """Begin to write an instance.

        Raises
        ------
        ResourceError
            The disk did not take it.
        """
        ...


# --- collect ---


# Opens the reception of the instance in a file, whose sender's title is given.
Begin = Callable[[FileMeta, str], Reception]


class TakenFile(Protocol):
    """One file that was taken out of a hot folder."""

    number: int
    parts: tuple[str, ...]

    @property
    def kind(self) -> Literal["file", "link", "other"]:
        """Tell what it is, without following it."""
        ...

    def stamp(self) -> tuple[int, ...]:
        """Give figures that change when it is written to."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open it for reading."""
        ...

    def remove(self) -> None:
        """Remove it: what it held is durable in the inbox."""
        ...

    def reject(self, reason: str) -> None:
        """Move it to where people find it, with the reason."""
        ...

    def note(self, text: str, beside: str = "") -> None:
        """Leave a note about it for people."""
        ...

    def set_aside(self) -> None:
        """Let it go with the end of its batch."""
        ...


class Batch(Protocol):
    """What was taken out of a hot folder in one go."""

    drop: str
    whole: bool
    starts: int

    def begin(self) -> None:
        """Note, durably enough, that reading it begins."""
        ...

    def pause(self) -> None:
        """Note that reading it ended in order, though not all could be taken in."""
        ...

    def files(self) -> Sequence[TakenFile]:
        """Give everything in it that is no folder."""
        ...

    def finish(self) -> None:
        """Remove what is empty."""
        ...


class HotFolder(Protocol):
    """A hot folder as the collector sees it."""

    def lying(self) -> Mapping[str, frozenset[Entry]]:
        """Give every file below each name in it; raises OSError where it cannot be read."""
        ...

    def held_by_a_writer(self, name: str) -> str:
        """Say why a file or folder is not to be taken yet; empty where nothing speaks against it."""
        ...

    def open(self, parts: Sequence[str]) -> AbstractContextManager[BinaryIO]:
        """Open something that lies there for reading; raises OSError."""
        ...

    def take(self, names: Names, kind: Literal["whole", "files"]) -> Mapping[str, str]:
        """Move drops into a batch; gives what could not be moved, with the reason; raises OSError."""
        ...

    def batches(self) -> Sequence[Batch]:
        """Give what was taken and is not finished."""
        ...


class Member(Protocol):
    """One file in an archive."""

    number: int
    size: int
    parts: tuple[str, ...]

    def pieces(self) -> Iterator[bytes]:
        """Give its content; raises InputError where it is damaged."""
        ...


# --- assemble, contour, deliver ---

Row = Mapping[str, Any]
# Adds work to the transaction that it is given.
Enqueue = Callable[[Any], None]
# Called with the event's name and its fields.
Log = Callable[..., None]


def all_of(enqueues: Sequence[Enqueue]) -> Enqueue:
    """Add several pieces of work to one transaction."""

    def enqueue(transaction: Any) -> None:
        for one in enqueues:
            one(transaction)

    return enqueue


class SeriesFolder(Protocol):
    """The inbox as the assembler sees it."""

    def stamps(self) -> Mapping[str, str]:
        """Give every series with at least one durable instance, with a text that changes when one is added."""
        ...

    def file_names(self, series_uid: str) -> Sequence[str]:
        """Name the durable instances of a series."""
        ...

    def path(self, series_uid: str, file_name: str) -> Path:
        """Give where an instance is stored."""
        ...


class SeriesLedger(Protocol):
    """The ledger as the assembler sees it."""

    def series(self, series_uid: str) -> Row | None:
        """Give one series' row, or None."""
        ...

    def associations_of(self, series_uid: str) -> tuple[AssociationFact, ...]:
        """Give every association that sent to a series."""
        ...

    def refused_of(self, series_uid: str) -> Mapping[str, str]:
        """Give the reason of every refusal of a series' instances, by SOP Instance UID."""
        ...

    def removed_images(self, series_uid: str) -> tuple[float, Sequence[str]] | None:
        """Give when images of a series were removed, and their SOP Instance UIDs; None where all came again."""
        ...

    def first_identity(self, series_uid: str) -> str:
        """Give whose the series was when it was first contoured; empty where it never was."""
        ...

    def note_event(self, kind: str, subject: str, text: str) -> None:
        """Keep something that a person should find in ``status``."""
        ...

    def latest_association(self) -> int:
        """Give the number of the latest association with a series."""
        ...

    def series_sent_since(self, association: int) -> Sequence[str]:
        """Name the series to which an association later than that number sent."""
        ...

    def other_series_of(self, association_id: str, series_uid: str) -> Sequence[str]:
        """Name the other series to which an association sent."""
        ...

    def lessons_of(self, calling_ae_title: str) -> Sequence[Lesson]:
        """Give what the latest series of a sender taught."""
        ...

    def learn(self, lessons: Sequence[Lesson]) -> None:
        """Keep what a series taught of its senders, in place of what it taught before."""
        ...

    def note_series(self, series_uid: str, facts: Row) -> None:
        """Write what is known of a series now."""
        ...

    def accept_series(
        self,
        series_uid: str,
        facts: Row,
        manifests: Sequence[Row],
        jobs: Sequence[Row],
        enqueue: Enqueue,
        superseded: Mapping[str, str],
    ) -> None:
        """Write a complete series, its volumes' manifests and their jobs, and enqueue these, in one transaction."""
        ...

    def jobs_of(self, series_uid: str) -> Sequence[Row]:
        """Give every job of a series."""
        ...

    def series_asked_for(self) -> Collection[str]:
        """Name the growing series that a person wants judged at once."""
        ...

    def series_of_study(self, study_uid: str) -> Sequence[Row]:
        """Give the series of a study."""
        ...

    def studies_that_wait(self) -> Sequence[str]:
        """Name the studies with a series that waits for another."""
        ...

    def manifest(self, series_uid: str, fingerprint: str) -> Row:
        """Give the body of a manifest."""
        ...

    def settle_together(
        self, facts: Mapping[str, Row], jobs: Sequence[Row], enqueue: Enqueue, superseded: Mapping[str, str]
    ) -> None:
        """Write what became of series that models take together, and their jobs, in one transaction."""
        ...


class Archives(Protocol):
    """Archives that can be asked how many instances a series has; asking never holds up the caller."""

    def knows(self, calling_ae_titles: Sequence[str]) -> bool:
        """Tell whether there is an archive to ask about series of these senders."""
        ...

    def ask(self, calling_ae_titles: Sequence[str], study_uid: str, series_uid: str, had: int) -> None:
        """Begin to ask, unless it is being asked; ``had``: instances that are here now."""
        ...

    def answer(self, series_uid: str) -> ArchiveAnswer | None:
        """Give the latest answer, or None."""
        ...


class SetbackLedger(Protocol):
    """The ledger as far as a job can be set back."""

    def move_job(self, job: str, state: JobState, **facts: Any) -> None:
        """Change a job's state."""
        ...

    def postpone_job(self, job: str, facts: Row, enqueue: Enqueue) -> None:
        """Let a job wait, and enqueue its next attempt, in one transaction."""
        ...


class JobLedger(SetbackLedger, Protocol):
    """The ledger as the contouring stage sees it; raises TransitionError where a job is in its hands no more."""

    def job(self, job: str) -> Row | None:
        """Give one job's row, or None."""
        ...

    def begin_job(self, job: str, attempt: int) -> None:
        """Take a job into this worker's hands; from now on it changes by this worker only while it stays there."""
        ...

    def manifest(self, series_uid: str, fingerprint: str) -> Row:
        """Give the body of a manifest."""
        ...

    def note_progress(self, job: str, progress: str) -> None:
        """Write what a worker is doing just now."""
        ...

    def is_contoured(self, job: str, attempt: int) -> bool:
        """Tell whether that try at a job goes on; False where somebody took the job back, or over."""
        ...

    def finish_job(
        self,
        job: str,
        facts: Row,
        outputs: Sequence[Row],
        offers: Mapping[str, Sequence[Sequence[str]]],
        enqueue: Enqueue,
    ) -> None:
        """Write a job's outputs and what is offered to each destination, and enqueue it, in one transaction."""
        ...


class SteeringLedger(Protocol):
    """The ledger as a person's wishes need it."""

    def all_jobs(self) -> Sequence[Row]:
        """Give every job."""
        ...

    def series(self, series_uid: str) -> Row | None:
        """Give one series' row, or None."""
        ...

    def outputs(self, job: str) -> Sequence[Row]:
        """Give the objects that a job made."""
        ...

    def deliveries_of(self, job: str) -> Sequence[Row]:
        """Give the deliveries of a job."""
        ...

    def reports_of(self, of: str) -> Sequence[Row]:
        """Give the deliveries of reports that nothing came of a job."""
        ...

    def move_job(
        self, job: str, state: JobState, *, enqueue: Enqueue | None = None, at_attempt: int | None = None, **facts: Any
    ) -> None:
        """Change a job's state, where it is at that attempt still, and enqueue with it; raises TransitionError."""
        ...

    def move_delivery(
        self,
        job: str,
        destination: str,
        state: DeliveryState,
        facts: Row,
        enqueue: Enqueue | None,
        *,
        at_attempt: int | None = None,
    ) -> None:
        """Change a delivery's state likewise."""
        ...

    def add_jobs(self, jobs: Sequence[Row], superseded: Mapping[str, str], enqueue: Enqueue) -> None:
        """Write new jobs and those that they supersede, and enqueue, in one transaction."""
        ...

    def ask_for_verdict(self, series_uid: str) -> bool:
        """Note that a growing series is to be judged at once; gives False where it is none."""
        ...


class Queue(Protocol):
    """The durable queue: gives functions that enqueue within a ledger's transaction."""

    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0, priority: int = Priority.ROUTINE) -> Enqueue:
        """Enqueue the contouring of a job; the smaller priority goes first."""
        ...

    def deliver(
        self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0, via: str | None = None
    ) -> Enqueue:
        """Enqueue one try of a delivery, at another destination where ``via`` names one."""
        ...


class Pulse(Protocol):
    """Tells whoever watches this process that it still moves."""

    def beat(self, doing: str, job: str = "", attempt: int = 0) -> None:
        """Say what is done from now on, of a try at a job."""
        ...

    def rest(self) -> None:
        """Say that nothing is done."""
        ...


class Slot(Protocol):
    """The time of a device that runs one job at a time, whichever process asks."""

    def take(self) -> bool:
        """Take it, waiting a moment; gives False where another process has it still."""
        ...

    def give_back(self) -> None:
        """Let the next process have it."""
        ...


class ResultStore(Protocol):
    """Where finished objects are kept."""

    def require_room(self) -> None:
        """Raise StorageError where the disk is too low for results."""
        ...

    def write(self, job: str, name: str, written: bytes) -> Row:
        """Store bytes durably; gives ``path`` (relative to the data folder) and ``sha256``."""
        ...

    def remove(self, path: str) -> None:
        """Remove what ``write`` stored at that path."""
        ...
