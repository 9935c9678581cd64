"""The Storage SCP: takes C-STORE and C-ECHO from the network and hands each instance on as it comes.

Decodes nothing, decides nothing: ``begin`` gives where an instance's bytes go and the answer to it, ``observer`` hears
what happens. Two transports carry the bytes: `spooling`, ours, and pynetdicom's own, to fall back to.
"""

import queue
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from pydicom import Dataset
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation

from node.adapters.association_request import fault_of_request
from node.adapters.doors import allow_descriptors, open_door, port_faults
from node.adapters.lobby import Entrant, Lobby
from node.adapters.receptions import Faulty, HearReport, ReportReception, report_command, store_command
from node.adapters.scp_settings import (
    VERIFICATION_CLASS,
    ReceiverSettings,
    application_entity,
    offer_reports,
    offered_syntaxes,
    prepare_pynetdicom,
)
from node.adapters.spooling import SpoolingSocket, take_over
from node.adapters.spooling_check import fault_of_spooling
from node.dicom.command import Command
from node.dicom.commitment import COMMITMENT_CLASS_UID
from node.domain.arrival import (
    Arrival,
    AssociationEnding,
    Caller,
    ReceiverObserver,
    Reception,
    StoreAnswer,
    Unobserved,
)
from node.domain.errors import place_of
from node.domain.peers import Admission, AssociationPolicy, Call, Rejection, admit, classes_for, peer_of, printable

# PS3.4 B.2.3, "Cannot understand": a fault of ours; the association goes on.
UNABLE_TO_PROCESS = 0xC001

LONGEST_IN_LOG = 80
MOST_UNTOLD_REJECTIONS = 1000

_log = structlog.get_logger(__name__)


class Receiver:
    """Listens from ``start`` to ``stop``.

    Parameters
    ----------
    begin
        Receives one instance; called from the association's thread, several at a time.
    clock
        Seconds since the epoch, for the observer.
    hear_report
        Hears what destinations say of Storage Commitment; without it nobody may.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        *,
        begin: Callable[[Arrival], Reception],
        observer: ReceiverObserver,
        clock: Callable[[], float] = time.time,
        hear_report: HearReport | None = None,
        log: Any = _log,
    ) -> None:
        self._settings = settings
        self._log = log
        self._begin = begin
        self._observer = observer
        self._clock = clock
        self.hear_report = hear_report
        self._entity: Any = None
        self._lobby: Lobby | None = None
        self._listeners: list[socket.socket] = []
        self._rejections: queue.Queue[tuple[Caller, str, float] | None] = queue.Queue(MOST_UNTOLD_REJECTIONS)
        # By pynetdicom's own object; from the request to the end of its threads.
        self._connections: dict[Any, _Connection] = {}

    @property
    def name(self) -> str:
        """Give the name of this process."""
        return self._settings.name

    @property
    def port(self) -> int:
        """Give the first port that is listened on; only between ``start`` and ``stop``."""
        return self.ports[0]

    @property
    def ports(self) -> list[int]:
        """Give every port that is listened on: the unencrypted one first."""
        return [int(one.getsockname()[1]) for one in self._listeners]

    def start(self) -> None:
        """Listen.

        Raises
        ------
        SetupError
            The port or the address cannot be had.
        """
        settings = self._settings
        prepare_pynetdicom()
        threading.Thread(target=self._tell_rejections, name="rejections", daemon=True).start()
        self._entity = application_entity(settings)
        transport = settings.transport
        if transport == "spooling" and (fault := fault_of_spooling(check_receiver)) is not None:
            self._log.warning(
                "transport falls back", fault=fault, now="stock", what_it_means="receiving is several times slower"
            )
            transport = "stock"
        if transport == "stock" and settings.shares_ports and not settings.is_first:
            self._log.warning("not listening", why="the stock transport cannot share a port: the first receiver has it")
            return
        if transport == "stock":
            self._start_stock()
        else:
            self._start_lobby()
        self._log.info(
            "listening",
            ae_title=settings.association.ae_title,
            host=settings.host,
            ports=self.ports,
            transport=transport,
        )

    def stop(self) -> None:
        """Abort what is open and stop listening; what was answered with success is durable."""
        if self._entity is None:
            return
        if self._lobby is not None:
            self._lobby.stop()
        self._entity.shutdown()
        for connection in list(self._connections.values()):
            self._sweep(connection, at_the_end=True)
        self._entity = None
        self._rejections.put(None)
        self._log.info("stopped listening", ae_title=self._settings.association.ae_title)

    # The two transports ----------------------------------------------------------------------------------------------

    def _doors(self) -> list[tuple[int, ssl.SSLContext | None]]:
        doors: list[tuple[int, ssl.SSLContext | None]] = []
        if self._settings.port is not None:
            doors.append((self._settings.port, None))
        if self._settings.tls is not None:
            doors.append((self._settings.tls.port, self._settings.tls.context))
        return doors

    def _start_lobby(self) -> None:
        settings = self._settings
        allow_descriptors(settings.maximum_waiting + 10 * settings.association.maximum_associations + 200)
        doors = []
        for port, context in self._doors():
            door = open_door(settings.host, port, tls=context, is_shared=settings.shares_ports)
            self._listeners.append(door.listener)
            doors.append(door)
        self._lobby = Lobby(
            doors,
            request_timeout_s=settings.association_timeout_s,
            maximum_waiting=settings.maximum_waiting,
            decide=self._decide,
            fault_of=fault_of_request,
            enter=self._enter,
            turned_away=self._on_turned_away,
            tick=self._sweep_all,
        )
        self._lobby.start()

    def _start_stock(self) -> None:
        for port, context in self._doors():
            with port_faults(self._settings.host, port):
                server = self._entity.start_server(
                    (self._settings.host, port),
                    block=False,
                    ssl_context=context,
                    evt_handlers=[*self._event_handlers(), (evt.EVT_CONN_OPEN, self._on_stock_connection)],
                )
            self._listeners.append(server.socket)

    def _enter(self, entrant: Entrant) -> None:
        """Give a connection that asked for an association to pynetdicom."""
        association = Association(self._entity, "acceptor")
        transport = SpoolingSocket(association, entrant.connection, entrant.request, limits=self._settings.limits)
        take_over(association, transport)
        acceptor = association.acceptor
        acceptor.maximum_length = self._entity.maximum_pdu_size
        acceptor.ae_title = self._entity.ae_title
        acceptor.address_info = AddressInformation.from_tuple(entrant.connection.getsockname()[:2])
        acceptor.implementation_class_uid = self._entity.implementation_class_uid
        acceptor.implementation_version_name = self._entity.implementation_version_name
        association.requestor.address_info = AddressInformation.from_tuple((entrant.call.address, entrant.port))
        # The limits of the transport are ours.
        association.network_timeout = None
        for event, handler in self._event_handlers():
            association.bind(event, handler)
        self._connections[association] = _Connection(self, association, entrant.call, transport)
        try:
            association.start()
        except RuntimeError:  # no thread can be had
            self._log.error("association not started", address=entrant.call.address)
            self._sweep(self._connections[association], at_the_end=True)

    def _on_stock_connection(self, event: Any) -> None:
        # Responses are small: with Nagle's algorithm each would wait for the peer's delayed acknowledgement.
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _sweep_all(self) -> None:
        for connection in list(self._connections.values()):
            self._sweep(connection, at_the_end=False)

    def _sweep(self, connection: "_Connection", *, at_the_end: bool) -> None:
        """Let go of an association whose threads have ended; where one of them has, help the other."""
        association = connection.association
        if association.ident is not None and not association.is_alive():
            association.dul.kill_dul()
        if at_the_end or connection.has_ended:
            self._connections.pop(association, None)
            self._end(connection, "aborted")
            if connection.transport is not None:
                connection.transport.close()

    # What pynetdicom tells --------------------------------------------------------------------------------------------

    def _event_handlers(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        return [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ESTABLISHED, self._on_established),
            (evt.EVT_RELEASED, lambda event: self._on_end(event, "released")),
            (evt.EVT_ABORTED, lambda event: self._on_end(event, "aborted")),
            # Also where pynetdicom tells of no abort: nothing stays open that has no connection.
            (evt.EVT_CONN_CLOSE, lambda event: self._on_end(event, "aborted")),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_EVENT_REPORT, self._on_report),
        ]

    def _on_requested(self, event: Any) -> None:
        """Offer what this caller may send, of what it asks for: copying all contexts for each call would cost more."""
        association = event.assoc
        connection = self._connections.get(association)
        if connection is None:  # the stock transport: nobody has looked at the call yet
            connection = self._connections[association] = _Connection(self, association, _call_of(association), None)
            decision = self._decide(connection.call)
            if decision is not None:
                del self._connections[association]
                self._on_turned_away(connection.call, decision.reason)
                association.acse.send_reject(decision.result, decision.source, decision.diagnostic)
                association.kill()
                return
        peer = peer_of(connection.call, self._settings.association.peers)
        classes = classes_for(peer, self._settings.storage_classes)
        # Only what is asked for: pynetdicom compares and checks each with each.
        asked: dict[str, set[str]] = {}
        for one in association.requestor.primitive.presentation_context_definition_list:
            asked.setdefault(str(one.abstract_syntax), set()).update(map(str, one.transfer_syntax))
        association.acceptor.supported_contexts = [
            build_context(VERIFICATION_CLASS),
            *(build_context(uid, offered_syntaxes(asked[uid])) for uid in sorted(set(asked) & set(classes))),
        ]
        if self.hear_report is not None:
            offer_reports(association)

    def _decide(self, call: Call) -> Rejection | None:
        calls = [one.call for one in self._connections.values() if one.is_alive and one.call is not call]
        decision = admit(call, self._settings.association, calls)
        return None if isinstance(decision, Admission) else decision

    def _on_turned_away(self, call: Call, reason: str) -> None:
        caller = Caller(
            association_id="",
            calling_ae_title=call.calling_ae_title,
            called_ae_title=call.called_ae_title,
            address=call.address,
        )
        self._log.warning("association rejected", reason=reason, calling=call.calling_ae_title, address=call.address)
        if call.calling_ae_title:  # else a port scan or a health check: the log is enough
            with suppress(queue.Full):  # a flood of them: also then
                self._rejections.put_nowait((caller, reason, self._clock()))

    def _tell_rejections(self) -> None:
        """Tell the observer apart from the lobby, which must not wait for a database."""
        while (rejection := self._rejections.get()) is not None:
            self._guarded("association_rejected", *rejection)

    def _on_established(self, event: Any) -> None:
        connection = self._connections[event.assoc]
        connection.established()
        self._log.info("association opened", **_fields(connection.caller))
        self._guarded("association_opened", connection.caller, self._clock())
        connection.open()

    def _on_end(self, event: Any, ending: AssociationEnding) -> None:
        connection = self._connections.get(event.assoc)
        if connection is not None:
            self._end(connection, ending)

    def _end(self, connection: "_Connection", ending: AssociationEnding) -> None:
        if not connection.is_open:
            return
        connection.is_open = False
        if connection.transport is None:
            self._connections.pop(connection.association, None)
        why = {"reason": connection.broken_because} if connection.broken_because else {}
        self._log.info("association ended", ending=ending, **why, **_fields(connection.caller))
        self._guarded("association_ended", connection.caller, ending, self._clock())

    def _on_echo(self, event: Any) -> int:
        self._log.info("echo answered", **_fields(self._connections[event.assoc].caller))
        return 0x0000

    def _on_store(self, event: Any) -> Dataset:
        """Receive an instance that pynetdicom holds in memory: the stock transport's way."""
        connection, command = self._connections[event.assoc], store_command(event.request)
        reception = connection.begin(event.context.context_id, command)
        reception.write(event.request.DataSet.getvalue())
        return _response(connection.finish(command, reception))

    def _on_report(self, event: Any) -> tuple[Dataset, None]:
        """Receive a report that pynetdicom holds in memory: the stock transport's way."""
        connection, command = self._connections[event.assoc], report_command(event.request)
        reception = connection.begin(event.context.context_id, command)
        reception.write(event.request.EventInformation.getvalue())
        return _response(connection.finish(command, reception)), None

    def finish(self, caller: Caller, reception: Reception, sop_instance_uid: str) -> StoreAnswer:
        """Answer whatever happens: an exception here would leave the sender to guess."""
        try:
            answer = reception.finish()
        except Exception as error:
            # Neither the message nor the local variables: they may hold parts of the data set.
            self._log.error("receiving failed", error=type(error).__name__, at=place_of(error), **_fields(caller))
            reception.abandon()
            answer = _FAULT
        if answer.stored is not None:
            self._guarded("instance_stored", caller, answer.stored, self._clock())
        else:
            self._log.warning(
                "instance refused",
                status=f"{answer.status:04X}",
                reason=answer.error_comment,
                sop_instance=printable(sop_instance_uid)[:LONGEST_IN_LOG],
                **_fields(caller),
            )
            self._guarded("instance_refused", caller, answer, self._clock())
        return answer

    def _guarded(self, event: str, caller: Caller, *told: Any) -> None:
        """Tell the observer; that it fails does not change where an instance is, nor who may call."""
        try:
            getattr(self._observer, event)(caller, *told)
        except Exception as error:
            self._log.error("observer failed", error=type(error).__name__, at=place_of(error), **_fields(caller))

    def begin(self, caller: Caller, arrival: Arrival) -> Reception:
        """Begin to receive; a fault of ours is answered when the data set has come."""
        try:
            return self._begin(arrival)
        except Exception as error:
            self._log.error("receiving failed", error=type(error).__name__, at=place_of(error), **_fields(caller))
            return Faulty(_FAULT)


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


def check_receiver(begin: Callable[[Arrival], Reception]) -> Receiver:
    """Start a receiver on the loopback interface, for `fault_of_spooling`."""
    policy = AssociationPolicy(ae_title="CHECK")
    settings = ReceiverSettings(host="127.0.0.1", port=0, association=policy, transport="unchecked")
    receiver = Receiver(settings, begin=begin, observer=Unobserved(), log=structlog.wrap_logger(None, [_drop]))
    receiver.start()
    return receiver


class _Connection:
    """One association, for both its transport and pynetdicom's handlers."""

    def __init__(self, receiver: Receiver, association: Any, call: Call, transport: SpoolingSocket | None) -> None:
        self._receiver = receiver
        self.association = association
        self.call = call
        self.transport = transport
        self.caller = Caller(
            association_id=f"{receiver.name}/{uuid.uuid4().hex}",
            calling_ae_title=call.calling_ae_title,
            called_ae_title=call.called_ae_title,
            address=call.address,
        )
        # Told to the observer as opened, and not yet as ended.
        self.is_open = False
        self.broken_because = ""
        # Presentation context -> abstract and transfer syntax.
        self._syntaxes: dict[int, tuple[str, str]] = {}

    @property
    def is_alive(self) -> bool:
        """Tell whether both of pynetdicom's threads run."""
        return bool(self.association.is_alive() and self.association.dul.is_alive())

    @property
    def has_ended(self) -> bool:
        """Tell whether both of pynetdicom's threads have run and ended."""
        threads = (self.association, self.association.dul)
        return self.association.ident is not None and not any(one.is_alive() for one in threads)

    def established(self) -> None:
        """Take note of what was agreed."""
        self.is_open = True
        self._syntaxes = {
            one.context_id: (_text(one.abstract_syntax), _text(one.transfer_syntax[0]))
            for one in self.association.accepted_contexts
        }

    def open(self) -> None:
        """Begin to read messages."""
        if self.transport is not None:
            reports = (number for number, (uid, _) in self._syntaxes.items() if uid == COMMITMENT_CLASS_UID)
            self.transport.open(self, frozenset(self._syntaxes), frozenset(reports))

    def begin(self, context_id: int, command: Command) -> Reception:
        """Receive the data set of a C-STORE, or of a report."""
        abstract_syntax, transfer_syntax = self._syntaxes[context_id]
        hear = self._receiver.hear_report
        if abstract_syntax == COMMITMENT_CLASS_UID and hear is not None:
            return ReportReception(hear, transfer_syntax_uid=transfer_syntax, event_type=command.event_type)
        arrival = Arrival(
            affected_sop_class_uid=command.affected_sop_class_uid,
            affected_sop_instance_uid=command.affected_sop_instance_uid,
            abstract_syntax_uid=abstract_syntax,
            transfer_syntax_uid=transfer_syntax,
            calling_ae_title=self.caller.calling_ae_title,
            called_ae_title=self.caller.called_ae_title,
            association_id=self.caller.association_id,
        )
        return self._receiver.begin(self.caller, arrival)

    def finish(self, command: Command, reception: Reception) -> StoreAnswer:
        """Answer what began, when its data set has come."""
        if isinstance(reception, ReportReception):
            return reception.finish()
        return self._receiver.finish(self.caller, reception, command.affected_sop_instance_uid)

    def broken(self, reason: str) -> None:
        """Remember why we abort, for the log."""
        self.broken_because = reason


_FAULT = StoreAnswer(status=UNABLE_TO_PROCESS, error_comment="A fault of the node: send again later")


def _call_of(association: Any) -> Call:
    requested = association.requestor.primitive
    return Call(
        calling_ae_title=printable(_text(requested.calling_ae_title))[:LONGEST_IN_LOG],
        called_ae_title=printable(_text(requested.called_ae_title))[:LONGEST_IN_LOG],
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
