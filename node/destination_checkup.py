"""What `delineate check` tries of the destinations: whether each takes what the configuration wants of it."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from node.adapters.confirmation_scu import takes_commitment, takes_find
from node.adapters.stow import probe
from node.config import Config
from node.delivering import Destinations, web_destination
from node.destination_section import Destination
from node.domain.delivery import SENDER
from node.domain.errors import NodeError, PeerError
from node.domain.routing import matches


def attempts_at_destinations(config: Config) -> Iterator[tuple[str, Callable[[], str]]]:
    """Give what is to be tried: its subject, and what says what it found, or raises NodeError or OSError."""
    for one in config.destinations:
        yield f"destination {one.name}", partial(_destination, config, one)
        if one.commitment:
            yield f"reports of {one.name}", partial(_reports_are_heard, config, one)
    for route in config.routes:
        if SENDER in route.destinations:
            yield f"senders of route {route.name}", partial(_sender_is_known, config)


def _destination(config: Config, peer: Destination) -> str:
    carrier = Destinations(config)
    if peer.folder is not None:
        remedy = "Make it, or mount it, and let the node write to it. Results wait for it until then."
        write_and_rename(peer.folder, remedy)
        return f"{peer.folder} can be written to"
    remedy = (
        "Start it; correct its address here; make our AE title known to it, or give the secret that it wants; look for "
        "a firewall between. Results wait for it until then."
    )
    try:
        if peer.stow is not None:
            return _web(peer, config.delivery.timeout_s)
        carrier.probe(peer.name)
        said = [f"{peer.ae_title} at {peer.host}:{peer.port} answers C-ECHO{' over TLS' * peer.tls}"]
        if peer.commitment:
            takes_commitment(peer.address(), carrier.line(peer))
            said.append("takes Storage Commitment")
        if peer.confirm == "find":
            takes_find(peer.address(), carrier.line(peer))
            said.append("takes C-FIND")
    except PeerError as error:
        raise NodeError(error.reason, remedy) from error
    return ", ".join(said)


def _web(peer: Destination, timeout_s: float) -> str:
    status = probe(web_destination(peer), timeout_s=timeout_s)
    if status == 404:
        remedy = "Give as stow what stands before /studies in the addresses of its DICOMweb service."
        raise NodeError(f"{peer.stow} answers, but knows no studies there (HTTP status 404).", remedy)
    return f"{peer.stow} answers with HTTP status {status}"


def _reports_are_heard(config: Config, peer: Destination) -> str:
    """Tell whether a destination that is to commit itself may call us back."""
    if config.peers and not any(matches(one.ae_title, peer.ae_title or "") for one in config.peers):
        raise NodeError(
            f"{peer.ae_title} is none of the [[peers]], so its reports on Storage Commitment are rejected unless they "
            "come at once.",
            "Add a [[peers]] entry with its AE title.",
        )
    return "its reports on Storage Commitment are taken"


def _sender_is_known(config: Config) -> str:
    """Tell who can get results back."""
    known = [one.ae_title for one in config.destinations if one.ae_title is not None]
    known += [one.ae_title for one in config.peers if one.host is not None and one.port is not None]
    if not known:
        raise NodeError(
            "results are to go back to the sender, and nothing tells where any sender listens.",
            "Add host and port to [[peers]] entries, or [[destinations]] entries with the senders' AE titles.",
        )
    return f"results go back to {', '.join(dict.fromkeys(known))}; those of any other sender wait"


def write_and_rename(folder: Path, remedy: str) -> None:
    """Try what putting a file into a folder needs; nothing of it stays."""
    try:
        with tempfile.TemporaryDirectory(prefix=".delineate-", dir=folder) as tried:
            file = Path(tried, "a")
            file.touch()
            file.rename(Path(tried, "b"))
    except OSError as error:
        raise NodeError(f"{folder} cannot be used: {error.strerror}.", remedy) from error
