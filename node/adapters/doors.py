"""Doors: sockets that listen, and the system's limits to them."""

import errno
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from node.domain.errors import SetupError

_REMEDIES = {
    errno.EADDRINUSE: "Give another node.port, or stop the program that listens there (ss -ltnp names it).",
    errno.EACCES: "Ports below 1024 need root: give another node.port, 11112 for one.",
    errno.EADDRNOTAVAIL: "Give an address of this machine as node.host, or 0.0.0.0 for all.",
}

# Connections that the system keeps until we accept them.
_BACKLOG = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A socket that listens; with a TLS context, for encrypted connections only."""

    listener: socket.socket
    tls: ssl.SSLContext | None = None


def open_door(host: str, port: int, *, tls: ssl.SSLContext | None, is_shared: bool = False) -> Door:
    """Listen on an address and a port; 0: any free one. A shared one may be opened by several processes.

    Raises
    ------
    SetupError
        They cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with port_faults(host, port):
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=is_shared)
    return Door(listener=listener, tls=tls)


@contextmanager
def port_faults(host: str, port: int) -> Iterator[None]:
    """Turn the system's refusal of a port into words for the operator."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"The node cannot listen on {host}, port {port}: {error.strerror or error}.",
            _REMEDIES.get(error.errno or 0, "Mend node.host or node.port."),
        ) from error


def allow_descriptors(wanted: int) -> None:
    """Raise our own limit of open files, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard)
        )
