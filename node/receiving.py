"""Join the receiver's adapters to its stage, and what it sees to the ledger."""

from collections.abc import Callable
from functools import partial

from node.adapters.ledger import Ledger
from node.adapters.scp_settings import ReceiverSettings, TlsDoor
from node.adapters.spooling import TransportLimits
from node.adapters.storage_scp import Receiver
from node.adapters.tls import ServerIdentity, server_context
from node.config import Config
from node.delivering import asks_commitment, hear_report
from node.dicom.file_meta import FileMeta
from node.domain.arrival import Arrival, AssociationEnding, Caller, Reception, StoreAnswer, StoredInstance
from node.domain.peers import AssociationPolicy
from node.log import log
from node.opening import Node
from node.stages.receive import ReceiveLimits, begin


def start_receiver(node: Node) -> Callable[[], None]:
    """Listen, in threads; gives what ends it."""
    unfinished = node.inbox.remove_unfinished()
    lost = node.ledger.associations_lost(node.name)
    if unfinished or lost:
        log("receiver ended abruptly before", unfinished_files=unfinished, associations_lost=lost)
    receiver = Receiver(
        receiver_settings(node.config, name=node.name, is_first=node.process == "receiver"),
        begin=partial(begin, inbox=node.inbox, limits=receive_limits(node.config)),
        observer=LedgerObserver(node.ledger),
        hear_report=partial(hear_report, node.ledger) if asks_commitment(node.config) else None,
    )
    receiver.start()
    return receiver.stop


def receive_limits(config: Config) -> ReceiveLimits:
    """Give what is too much to take."""
    return ReceiveLimits(
        maximum_object_bytes=config.receiver.maximum_object_mb * 2**20,
        maximum_series_instances=config.receiver.maximum_series_instances,
    )


def receiver_settings(config: Config, *, name: str = "receiver", is_first: bool = True) -> ReceiverSettings:
    """Give the settings of one receiver; where there are several, each has its share of the associations.

    Raises
    ------
    SetupError
        A file for TLS is missing or is not what it should be.
    """
    section, tls = config.receiver, config.receiver.tls
    tls_door = None
    if tls is not None:
        identity = ServerIdentity(certificate=tls.certificate, key=tls.key, client_ca=tls.client_ca)
        tls_door = TlsDoor(port=tls.port, context=server_context(identity))
    return ReceiverSettings(
        host=config.node.host,
        port=None if tls is not None and tls.only else config.node.port,
        association=AssociationPolicy(
            ae_title=config.node.ae_title,
            require_called_ae_title=section.require_called_ae_title,
            maximum_associations=-(-section.maximum_associations // section.processes),
            maximum_associations_per_address=section.maximum_associations_per_address,
            peers=tuple(peer.peer() for peer in config.peers),
        ),
        tls=tls_door,
        name=name,
        shares_ports=section.processes > 1,
        is_first=is_first,
        transport=section.transport,
        association_timeout_s=section.association_timeout_s,
        maximum_waiting=section.maximum_waiting,
        limits=TransportLimits(
            idle_timeout_s=section.idle_timeout_s,
            message_timeout_s=section.message_timeout_s,
            # What is too large is counted to its end, so that it gets an answer; up to twice as much.
            largest_message_bytes=2 * section.maximum_object_mb * 2**20 + 2**26,
        ),
    )


class LedgerObserver:
    """Writes what the receiver sees into the ledger: once per association and series, never per instance."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sends_to: dict[str, set[str]] = {}

    def association_opened(self, caller: Caller, now: float) -> None:
        """Take note of a new association."""
        self._sends_to[caller.association_id] = set()

    def instance_stored(self, caller: Caller, stored: StoredInstance, now: float) -> None:
        """Note the association as a contributor, before the sender hears of success."""
        series = self._sends_to.setdefault(caller.association_id, set())
        if stored.series_instance_uid not in series:
            self._ledger.association_contributes(
                caller.association_id, caller.calling_ae_title, stored.series_instance_uid, now
            )
            series.add(stored.series_instance_uid)

    def instance_refused(self, caller: Caller, answer: StoreAnswer, now: float) -> None:
        """Keep the refusal for ``status``, and for the series that lacks the instance now."""
        said = f"0x{answer.status:04X}: {answer.error_comment}"
        self._ledger.note_event("instance refused", caller.calling_ae_title, said)
        if answer.lacking is not None:
            lacking = answer.lacking
            self._ledger.instance_refused(lacking.series_instance_uid, lacking.sop_instance_uid, said)

    def association_ended(self, caller: Caller, ending: AssociationEnding, now: float) -> None:
        """Note how the association ended, if it sent anything."""
        if self._sends_to.pop(caller.association_id, None):
            self._ledger.association_ended(caller.association_id, ending, now)

    def association_rejected(self, caller: Caller, reason: str, now: float) -> None:
        """Keep the rejection for ``status``."""
        self._ledger.note_event("association rejected", caller.calling_ae_title, reason)


def begin_file(node: Node, meta: FileMeta, sender: str) -> Reception:
    """Begin to take the instance in a file as if its sender had sent it."""
    arrival = Arrival(
        affected_sop_class_uid=meta.sop_class_uid,
        affected_sop_instance_uid=meta.sop_instance_uid,
        abstract_syntax_uid=meta.sop_class_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        calling_ae_title=sender,
        called_ae_title=node.config.node.ae_title,
        association_id="",
    )
    return begin(arrival, node.inbox, receive_limits(node.config))
