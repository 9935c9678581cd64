"""How the Storage SCP presents itself, and pynetdicom's application entity made of that."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydicom.uid import UID
from pynetdicom import AE, _config, build_context

from node.adapters.spooling import TransportLimits
from node.dicom.commitment import COMMITMENT_CLASS_UID
from node.dicom.storage import STORAGE_CLASSES, TRANSFER_SYNTAXES
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.domain.peers import AssociationPolicy

VERIFICATION_CLASS = "1.2.840.10008.1.1"

# "unchecked" is for the check itself.
Transport = Literal["spooling", "stock", "unchecked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsDoor:
    """A further port, for encrypted connections only."""

    port: int
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """How the receiver presents itself."""

    host: str
    # 0: any free port; ``Receiver.port`` then tells which. None: no unencrypted port.
    port: int | None
    association: AssociationPolicy
    tls: TlsDoor | None = None
    # Of this process: its associations' identifiers begin with it.
    name: str = "receiver"
    # Several processes listen on the same ports, and the system deals the connections out.
    shares_ports: bool = False
    # Of several, the one that also listens where ports cannot be shared.
    is_first: bool = True
    transport: Transport = "spooling"
    # SOP Class UID -> name of what is taken.
    storage_classes: Mapping[str, str] = field(default_factory=lambda: STORAGE_CLASSES)
    # What we let peers send in one PDU. Large, because each PDU costs a look; 0 would be no bound.
    maximum_pdu_bytes: int = 128 * 1024
    # From a connection to its A-ASSOCIATE-RQ, TLS handshake included.
    association_timeout_s: float = 10.0
    # Connections that have not asked for an association.
    maximum_waiting: int = 500
    # For the bytes of one message; modalities keep associations open for minutes between messages.
    limits: TransportLimits = field(default_factory=TransportLimits)


def prepare_pynetdicom() -> None:
    """Set what pynetdicom keeps for the whole process."""
    # Its default handlers format every message and PDU for the log, whether or not anybody reads it.
    _config.LOG_HANDLER_LEVEL = "none"
    # It would abort the association over one malformed UID in a command; ``begin`` refuses that one instance.
    _config.VALIDATORS["UI"] = lambda _uid: (True, "")


def offered_syntaxes(asked: set[str]) -> list[str]:
    """Give what we take of the transfer syntaxes asked for, best first; all of ours where that is none of them."""
    return [uid for uid in TRANSFER_SYNTAXES if uid in asked] or list(TRANSFER_SYNTAXES)


def offer_reports(association: Any) -> None:
    """Let a caller report on Storage Commitment if it asks to be its SCP.

    PS3.4 J.3.3 and PS3.7 D.3.3.4: who keeps opens the association, and proposes the role of SCP for itself.
    """
    role = association.requestor.role_selection.get(UID(COMMITMENT_CLASS_UID))
    if role is not None and role.scp_role:
        context = build_context(COMMITMENT_CLASS_UID, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
        context.scu_role, context.scp_role = False, True
        association.acceptor.supported_contexts = [*association.acceptor.supported_contexts, context]


def application_entity(settings: ReceiverSettings) -> Any:
    """Make the application entity that accepts; who may call is not its decision."""
    entity = AE(ae_title=settings.association.ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    # Who may call is decided in `domain.peers`, and before pynetdicom counts.
    entity.maximum_associations = 100_000
    entity.maximum_pdu_size = settings.maximum_pdu_bytes
    entity.acse_timeout = settings.association_timeout_s
    entity.network_timeout = settings.limits.idle_timeout_s
    entity.add_supported_context(VERIFICATION_CLASS)
    return entity
