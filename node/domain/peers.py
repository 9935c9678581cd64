"""Who may open an association, and what it may send: a pure decision before anything of a caller is trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An entry of the allow-list."""

    name: str
    # Calling AE title; "*" and "?" as in file names.
    ae_title: str
    # Networks or single addresses (``10.1.2.0/24``, ``10.1.2.3``, ``fd00::/8``) that it may call from; empty: any.
    addresses: tuple[str, ...] = ()
    # SOP Class UIDs that it may send; empty: all that we take.
    storage_classes: frozenset[str] = frozenset()
    # Associations of this peer at the same time.
    maximum_associations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationPolicy:
    """Whom we take calls from."""

    ae_title: str
    require_called_ae_title: bool = False
    maximum_associations: int = 50
    # Of one address at the same time: one peer that runs wild leaves room for the others.
    maximum_associations_per_address: int = 25
    # Empty: everybody.
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a caller says of itself in its A-ASSOCIATE-RQ, and where it calls from."""

    calling_ae_title: str
    called_ae_title: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The call may become an association; ``peer`` is None where there is no allow-list."""

    peer: Peer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """The call is answered with an A-ASSOCIATE-RJ, PS3.8 Table 9-21."""

    result: int
    source: int
    diagnostic: int
    # For our own log and status, in the words of somebody who has to mend it.
    reason: str


def admit(call: Call, policy: AssociationPolicy, open_calls: Sequence[Call]) -> Admission | Rejection:
    """Decide about a call, given the associations that are open now."""
    if policy.require_called_ae_title and call.called_ae_title != policy.ae_title:
        return Rejection(result=1, source=1, diagnostic=7, reason=f"it calls {call.called_ae_title!r}, not us")
    peer = peer_of(call, policy.peers)
    if policy.peers and peer is None:
        return Rejection(result=1, source=1, diagnostic=3, reason=_why_unknown(call, policy.peers))
    for limit, there, whose in _limits(call, peer, policy, open_calls):
        if there >= limit:
            return Rejection(result=2, source=3, diagnostic=2, reason=f"{whose} has {there} associations open")
    return Admission(peer=peer)


def peer_of(call: Call, peers: Sequence[Peer]) -> Peer | None:
    """Give the first entry that fits both the calling AE title and the address."""
    return next((peer for peer in peers if _is_titled(call, peer) and _is_at(call.address, peer.addresses)), None)


def classes_for(peer: Peer | None, taken: Mapping[str, str]) -> Mapping[str, str]:
    """Give what of the classes that we take (UID to name) a peer may send."""
    if peer is None or not peer.storage_classes:
        return taken
    return {uid: name for uid, name in taken.items() if uid in peer.storage_classes}


def _limits(
    call: Call, peer: Peer | None, policy: AssociationPolicy, open_calls: Sequence[Call]
) -> list[tuple[int, int, str]]:
    """Give each limit with the number that is open and whose it is."""
    same_address = sum(one.address == call.address for one in open_calls)
    limits = [
        (policy.maximum_associations, len(open_calls), "the node"),
        (policy.maximum_associations_per_address, same_address, "its address"),
    ]
    if peer is not None and peer.maximum_associations is not None:
        same_peer = sum(peer_of(one, policy.peers) is peer for one in open_calls)
        limits.append((peer.maximum_associations, same_peer, f"peer {peer.name}"))
    return limits


def _is_titled(call: Call, peer: Peer) -> bool:
    return fnmatchcase(call.calling_ae_title, peer.ae_title)


def _is_at(address: str, networks: Sequence[str]) -> bool:
    if not networks:
        return True
    try:
        caller = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # An IPv4 caller of a socket that listens on both comes as ::ffff:10.1.2.3.
    caller = getattr(caller, "ipv4_mapped", None) or caller
    return any(caller in ip_network(network, strict=False) for network in networks)


def _why_unknown(call: Call, peers: Sequence[Peer]) -> str:
    if any(_is_titled(call, peer) for peer in peers):
        return "its AE title is on the list of peers, its address is not"
    return "its AE title is not on the list of peers"


def printable(text: str) -> str:
    """Replace what is no printable ASCII: a title or an identifier of a stranger, on its way into a log."""
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text)
