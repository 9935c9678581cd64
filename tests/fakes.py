"""Fakes of what lies outside: a destination that behaves as told, and ears for the receiver."""

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import Verification

from node.domain.arrival import AssociationEnding, Caller, StoreAnswer, StoredInstance
from node.domain.delivery import PeerAddress

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"


def free_port() -> int:
    """Give a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class FakeDestination:
    """A Storage SCP in this process that keeps what it receives and answers as told.

    >>> with FakeDestination() as tps:
    ...     store(tps.address, files, calling_ae_title="DELINEATE")
    >>> tps.received[0].SOPInstanceUID

    Everything may be changed while it runs: ``tps.status = 0xA700``, ``tps.delay_s = 5``, ``tps.go_down()``.
    """

    def __init__(
        self,
        *,
        ae_title: str = "TPS",
        port: int = 0,
        sop_classes: Sequence[str] = (RT_STRUCTURE_SET, SEGMENTATION),
        transfer_syntaxes: Sequence[str] = (EXPLICIT, IMPLICIT),
        require_called_ae_title: bool = False,
        handlers: Sequence[tuple[Any, Any]] = (),
    ) -> None:
        # The status of every answer to C-STORE, and its Error Comment.
        self.status = 0x0000
        self.error_comment = ""
        # Waits this long before each answer.
        self.delay_s = 0.0
        # Aborts the association instead of answering.
        self.aborts = False
        # While cleared, reads nothing more of an object once it has begun, as a frozen process does.
        self.reading = threading.Event()
        self.reading.set()
        # Every dataset stored with success or a warning, with file_meta, in the order of arrival.
        self.received: list[Dataset] = []
        # The encoded data sets of the same, as they came over the wire.
        self.received_bytes: list[bytes] = []
        # Every C-STORE asked for, whatever the answer: SOP Instance UIDs.
        self.asked: list[str] = []
        # Calling AE title of every association.
        self.callers: list[str] = []
        self._lock = threading.Lock()
        self._handlers = list(handlers)
        self._entity = AE(ae_title=ae_title)
        self._entity.require_called_aet = require_called_ae_title
        self._entity.add_supported_context(Verification)
        for sop_class in sop_classes:
            self._entity.add_supported_context(UID(sop_class), [UID(one) for one in transfer_syntaxes])
        # Taken once, so that a destination that comes back is the same.
        self._port = port or free_port()
        self._server: Any = None

    @property
    def address(self) -> PeerAddress:
        """Give the address to send to; stays the same while the destination is down."""
        return PeerAddress(name="tps", ae_title=self._entity.ae_title, host="127.0.0.1", port=self._port)

    def go_up(self) -> None:
        """Listen."""
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_ESTABLISHED, self._on_established),
            (evt.EVT_PDU_RECV, self._on_pdu),
            *self._handlers,
        ]
        self._server = self._entity.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)

    def go_down(self) -> None:
        """Stop listening: connections are refused."""
        if self._server is not None:
            self._entity.shutdown()
            self._server = None

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[Dataset]:
        """Wait until that many datasets are there; gives them, or fails."""
        until = time.monotonic() + timeout_s
        while len(self.received) < count:
            assert time.monotonic() < until, f"{len(self.received)} of {count} objects came within {timeout_s} s"
            time.sleep(0.02)
        return self.received

    def __enter__(self) -> Self:
        self.go_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_down()

    def _on_established(self, event: Any) -> None:
        with self._lock:
            self.callers.append(str(event.assoc.requestor.ae_title).strip())

    def _on_pdu(self, event: Any) -> None:
        # Called by the thread that reads from the connection.
        if isinstance(event.pdu, P_DATA_TF):
            self.reading.wait(60.0)

    def _on_store(self, event: Any) -> Dataset:
        with self._lock:
            self.asked.append(str(event.request.AffectedSOPInstanceUID))
        time.sleep(self.delay_s)
        if self.aborts:
            event.assoc.abort()
        if self.status == 0 or self.status & 0xF000 == 0xB000:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            with self._lock:
                self.received.append(dataset)
                self.received_bytes.append(event.request.DataSet.getvalue())
        answer = Dataset()
        answer.Status = self.status
        if self.error_comment:
            answer.ErrorComment = self.error_comment
        return answer


@dataclass
class FakeObserver:
    """Remembers what the receiver told."""

    opened: list[Caller] = field(default_factory=list)
    stored: list[tuple[Caller, StoredInstance]] = field(default_factory=list)
    refused: list[tuple[Caller, StoreAnswer]] = field(default_factory=list)
    ended: list[tuple[Caller, AssociationEnding]] = field(default_factory=list)
    rejected: list[tuple[Caller, str]] = field(default_factory=list)

    def association_opened(self, caller: Caller, now: float) -> None:
        """Remember a new association."""
        self.opened.append(caller)

    def instance_stored(self, caller: Caller, stored: StoredInstance, now: float) -> None:
        """Remember a durable instance."""
        self.stored.append((caller, stored))

    def instance_refused(self, caller: Caller, answer: StoreAnswer, now: float) -> None:
        """Remember a refused instance."""
        self.refused.append((caller, answer))

    def association_ended(self, caller: Caller, ending: AssociationEnding, now: float) -> None:
        """Remember how an association ended."""
        self.ended.append((caller, ending))

    def association_rejected(self, caller: Caller, reason: str, now: float) -> None:
        """Remember an association that was never opened."""
        self.rejected.append((caller, reason))

    def wait_for_ends(self, count: int, timeout_s: float = 10.0) -> list[AssociationEnding]:
        """Wait until that many associations have ended; gives how."""
        until = time.monotonic() + timeout_s
        while len(self.ended) < count:
            assert time.monotonic() < until, f"{len(self.ended)} of {count} associations ended within {timeout_s} s"
            time.sleep(0.02)
        return [ending for _, ending in self.ended]
