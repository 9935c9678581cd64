"""What delivering needs of the world, as small protocols. Adapters satisfy them without importing them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydicom import Dataset

from node.domain.delivery import CommitmentReport, DeliveryPlan, StoreReceipt
from node.domain.instance import ReceivedInstance
from node.domain.jobs import DeliveryState, JobState
from node.stages.ports import Enqueue, Row


class DeliveryLedger(Protocol):
    """The ledger as the delivering stage sees it."""

    def delivery(self, job: str, destination: str) -> Row | None:
        """Give one delivery's row, or None."""
        ...

    def due_deliveries(self, called: str) -> Sequence[Row]:
        """Give what is to be sent to a destination now, be it in another one's place; the oldest first, some."""
        ...

    def outputs(self, job: str) -> Sequence[Row]:
        """Give the objects that a job made."""
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
        """Change a delivery's state, and enqueue its next try in the same transaction; raises TransitionError."""
        ...

    def ask_commitment(self, job: str, destination: str, transaction_uid: str) -> None:
        """Note, before it is asked for, under which transaction a destination will report on Storage Commitment."""
        ...

    def commitment_reported(self, report: CommitmentReport) -> bool:
        """Note what a destination reports; gives whether that is about something that was asked of it."""
        ...


class OutboxLedger(Protocol):
    """The ledger as the watch over the outbox sees it."""

    def unfinished_deliveries(self) -> Sequence[Row]:
        """Give every delivery that has a try before it."""
        ...

    def release_deliveries(self, releases: Sequence[tuple[Row, Row, Enqueue]]) -> int:
        """Let deliveries have their next try now: row, what changes of it, its task. Gives how many did."""
        ...

    def alarm_delivery(self, job: str, destination: str, text: str) -> None:
        """Tell people, once, that a delivery is overdue."""
        ...


class Carrier(Protocol):
    """Destinations, by their names in the configuration.

    Every method raises SetupError where the configuration has no such destination, or names files that are not there.
    """

    def plan(self, destination: str) -> DeliveryPlan:
        """Give what is to be done beside sending."""
        ...

    def store(self, destination: str, offers: Sequence[Sequence[Path]]) -> Sequence[StoreReceipt]:
        """Send the first of several sets of files that it takes whole, else that of which it takes most.

        Raises
        ------
        UnreachableError
            It cannot be talked to at all.
        PeerError
            It does not take the objects.
        OSError
            A file cannot be read.
        """
        ...

    def probe(self, destination: str) -> None:
        """Find out cheaply whether it can be talked to.

        Raises
        ------
        PeerError
            It cannot.
        """
        ...

    def request_commitment(
        self, destination: str, transaction_uid: str, objects: Mapping[str, str]
    ) -> CommitmentReport | None:
        """Ask it to commit itself to keep objects (SOP Instance UID -> class); gives its report if it comes at once.

        Raises
        ------
        PeerError
            It does not take the request.
        """
        ...

    def missing_of(self, destination: str, files: Sequence[Path]) -> Sequence[str]:
        """Ask it for each object in files; gives the SOP Instance UIDs that it does not know.

        Raises
        ------
        PeerError
            It does not answer.
        OSError
            A file cannot be read.
        """
        ...


class NoticeLedger(Protocol):
    """The ledger as the stage that reports negative results sees it."""

    def jobs_without_result(self, routes: Sequence[str], states: Sequence[JobState], since: float) -> Sequence[Row]:
        """Give the jobs of routes that came to one of these states since then."""
        ...

    def declined_series(self, since: float) -> Sequence[Row]:
        """Give the series that were declined since then."""
        ...

    def deliveries_of(self, job: str) -> Sequence[Row]:
        """Give the deliveries of a job."""
        ...

    def manifest(self, series_uid: str, fingerprint: str) -> Row:
        """Give the body of a manifest."""
        ...

    def add_notice(
        self, key: str, outputs: Sequence[Row], offers: Mapping[str, Sequence[Sequence[str]]], enqueue: Enqueue
    ) -> None:
        """Write a report and what is offered to each destination, and enqueue it, in one transaction."""
        ...


class NoticeFiles(Protocol):
    """The inbox as the stage that reports negative results sees it."""

    def names(self, series_uid: str) -> Sequence[str]:
        """Name the stored instances of a series."""
        ...

    def instance(self, series_uid: str, name: str) -> ReceivedInstance:
        """Read what routing looks at.

        Raises
        ------
        InputError
            It cannot be read.
        """
        ...

    def headers(self, series_uid: str, names: Sequence[str]) -> Sequence[Dataset]:
        """Read what a report needs of every instance; those that cannot be read are left out."""
        ...
