"""The Storage SCP: takes C-STORE and C-ECHO from the network and hands each arrival on as a value.

Decodes nothing, decides nothing: ``handle`` gives the answer to each arrival, ``observer`` hears what happens.
"""

import errno
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, evt

from node.domain.arrival import Arrival, AssociationEnding, Caller, ReceiverObserver, StoreAnswer
from node.domain.errors import SetupError, place_of
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

VERIFICATION_CLASS = "1.2.840.10008.1.1"

# What can be contoured, or is taken because scanners send it in the same study: SOP Class UID -> name.
STORAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image Storage",
    # Never contoured. Scanners send dose reports and screen shots in the same study: refused, they would fail the
    # transfer at the sender, who alone would know; taken, they are declined in `status` with the reason.
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}

# What pydicom decodes with the decoders we install, best first: of several offered in one presentation context we take
# the first of these. Uncompressed before lossless before lossy, so that no sender is made to lose anything.
TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian (retired)",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.5": "RLE Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14, SV 1)",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless, Non-Hierarchical (Process 14)",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 (Lossless Only)",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 (Lossless Only)",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 with RPCL Options (Lossless Only)",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Lossy (Near-Lossless)",
    "1.2.840.10008.1.2.4.51": "JPEG Extended (Process 2 & 4)",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline (Process 1)",
}

# PS3.4 B.2.3, "Cannot understand": a fault of ours; the association goes on.
UNABLE_TO_PROCESS = 0xC001

_REMEDIES = {
    errno.EADDRINUSE: "Give another node.port, or stop the program that listens there (ss -ltnp names it).",
    errno.EACCES: "Ports below 1024 need root: give another node.port, 11112 for one.",
    errno.EADDRNOTAVAIL: "Give an address of this machine as node.host, or 0.0.0.0 for all.",
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """How the receiver presents itself."""

    ae_title: str
    host: str
    # 0: any free port; ``Receiver.port`` then tells which.
    port: int
    # Reject associations that call another AE title than ours.
    require_called_ae_title: bool = False
    maximum_associations: int = 50
    # SOP Class UID -> name of what is taken.
    storage_classes: Mapping[str, str] = field(default_factory=lambda: STORAGE_CLASSES)
    # What we let peers send in one PDU. Large, because each PDU costs a pass through pynetdicom; 0 would be no bound.
    maximum_pdu_bytes: int = 128 * 1024
    # A connection that does not associate, and an answer in an association's negotiation.
    acse_timeout_s: float = 30.0
    # Silence within an association; modalities keep them open for minutes between images.
    network_timeout_s: float = 600.0


class Receiver:
    """Listens from ``start`` to ``stop``.

    Parameters
    ----------
    handle
        Answers one arrival; called from the association's thread, several at a time.
    clock
        Seconds since the epoch, for the observer.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        *,
        handle: Callable[[Arrival], StoreAnswer],
        observer: ReceiverObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._handle = handle
        self._observer = observer
        self._clock = clock
        # Open associations by pynetdicom's own object.
        self._callers: dict[Any, Caller] = {}
        self._server: Any = None
        self._entity: Any = None

    @property
    def port(self) -> int:
        """Give the port that is listened on; only between ``start`` and ``stop``."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen.

        Raises
        ------
        SetupError
            The port or the address cannot be had.
        """
        settings = self._settings
        # Its default handlers format every message and PDU for the log, whether or not anybody reads it.
        _config.LOG_HANDLER_LEVEL = "none"
        # It would abort the association over one malformed UID in a command; ``handle`` refuses that one instance.
        _config.VALIDATORS["UI"] = lambda _uid: (True, "")
        self._entity = _application_entity(settings)
        try:
            self._server = self._entity.start_server(
                (settings.host, settings.port), block=False, evt_handlers=self._event_handlers()
            )
        except OSError as error:
            raise SetupError(
                f"The node cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}.",
                _REMEDIES.get(error.errno or 0, "Mend node.host or node.port."),
            ) from error
        _log.info("listening", ae_title=settings.ae_title, host=settings.host, port=self.port)

    def stop(self) -> None:
        """Abort what is open and stop listening; what was answered with success is durable."""
        if self._entity is not None:
            self._entity.shutdown()
            self._entity = None
            _log.info("stopped listening", ae_title=self._settings.ae_title)

    def _event_handlers(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        return [
            (evt.EVT_CONN_OPEN, self._on_connection),
            (evt.EVT_ESTABLISHED, self._on_established),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_RELEASED, lambda event: self._on_end(event, "released")),
            (evt.EVT_ABORTED, lambda event: self._on_end(event, "aborted")),
            # Also where pynetdicom tells of no abort: nothing stays open that has no connection.
            (evt.EVT_CONN_CLOSE, lambda event: self._on_end(event, "aborted")),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
        ]

    def _on_connection(self, event: Any) -> None:
        # Responses are small: with Nagle's algorithm each would wait for the peer's delayed acknowledgement.
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_established(self, event: Any) -> None:
        caller = self._callers[event.assoc] = _caller(event.assoc)
        _log.info("association opened", **_fields(caller))
        self._observer.association_opened(caller, self._clock())

    def _on_rejected(self, event: Any) -> None:
        caller = _caller(event.assoc)
        rejection = event.assoc.acceptor.primitive
        reason = str(getattr(rejection, "reason_str", "")) or "no reason given"
        _log.warning("association rejected", reason=reason, **_fields(caller))
        self._observer.association_rejected(caller, reason, self._clock())

    def _on_end(self, event: Any, ending: AssociationEnding) -> None:
        caller = self._callers.pop(event.assoc, None)
        if caller is not None:
            _log.info("association ended", ending=ending, **_fields(caller))
            self._observer.association_ended(caller, ending, self._clock())

    def _on_echo(self, event: Any) -> int:
        _log.info("echo answered", **_fields(self._callers[event.assoc]))
        return 0x0000

    def _on_store(self, event: Any) -> Dataset:
        caller = self._callers[event.assoc]
        request, context = event.request, event.context
        arrival = Arrival(
            affected_sop_class_uid=_text(request.AffectedSOPClassUID),
            affected_sop_instance_uid=_text(request.AffectedSOPInstanceUID),
            abstract_syntax_uid=_text(context.abstract_syntax),
            transfer_syntax_uid=_text(context.transfer_syntax),
            data_set=request.DataSet.getvalue(),
            calling_ae_title=caller.calling_ae_title,
            called_ae_title=caller.called_ae_title,
            association_id=caller.association_id,
        )
        return _response(self._answer(caller, arrival))

    def _answer(self, caller: Caller, arrival: Arrival) -> StoreAnswer:
        """Answer whatever happens: an exception here would leave the sender to guess."""
        try:
            answer = self._handle(arrival)
        except Exception as error:
            # Neither the message nor the local variables: they may hold parts of the data set.
            _log.error("receiving failed", error=type(error).__name__, at=place_of(error), **_fields(caller))
            answer = StoreAnswer(status=UNABLE_TO_PROCESS, error_comment="A fault of the node: send again later")
        try:
            self._tell(caller, arrival, answer)
        except Exception as error:
            # The instance is where the answer says it is; that the observer fails does not change it.
            _log.error("observer failed", error=type(error).__name__, at=place_of(error), **_fields(caller))
        return answer

    def _tell(self, caller: Caller, arrival: Arrival, answer: StoreAnswer) -> None:
        if answer.stored is not None:
            self._observer.instance_stored(caller, answer.stored, self._clock())
            return
        _log.warning(
            "instance refused",
            status=f"{answer.status:04X}",
            reason=answer.error_comment,
            sop_instance=arrival.affected_sop_instance_uid,
            **_fields(caller),
        )
        self._observer.instance_refused(caller, answer, self._clock())


def _application_entity(settings: ReceiverSettings) -> Any:
    entity = AE(ae_title=settings.ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.require_called_aet = settings.require_called_ae_title
    entity.maximum_associations = settings.maximum_associations
    entity.maximum_pdu_size = settings.maximum_pdu_bytes
    entity.acse_timeout = settings.acse_timeout_s
    entity.network_timeout = settings.network_timeout_s
    entity.add_supported_context(VERIFICATION_CLASS)
    for sop_class in settings.storage_classes:
        entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    return entity


def _caller(association: Any) -> Caller:
    requested = association.requestor.primitive
    return Caller(
        association_id=uuid.uuid4().hex,
        calling_ae_title=_text(requested.calling_ae_title),
        called_ae_title=_text(requested.called_ae_title),
        address=str(association.requestor.address),
    )


def _fields(caller: Caller) -> dict[str, str]:
    return {"association": caller.association_id, "calling": caller.calling_ae_title, "address": caller.address}


def _response(answer: StoreAnswer) -> Dataset:
    response = Dataset()
    response.Status = answer.status
    if answer.error_comment:
        response.ErrorComment = answer.error_comment
    if answer.offending_elements:
        response.OffendingElement = list(answer.offending_elements)
    return response


def _text(value: object) -> str:
    return "" if value is None else str(value).strip("\0 ")
