"""Associations that we open: to a destination, with TLS or without, and in plain words why there is none."""

import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, _config, evt

from node.domain.delivery import PeerAddress
from node.domain.errors import PeerError, UnreachableError
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsLine:
    """How we speak TLS to one destination."""

    context: ssl.SSLContext
    # That its certificate must bear.
    server_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How we call."""

    calling_ae_title: str
    # Longest wait for a connection, for the association, and for each answer.
    timeout_s: float = 30.0
    tls: TlsLine | None = None


class Caller:
    """One call to one destination.

    Parameters
    ----------
    handlers
        pynetdicom's events -> what hears them.
    """

    def __init__(self, destination: PeerAddress, line: Line, handlers: Sequence[tuple[Any, Any]] = ()) -> None:
        self._destination = destination
        self._line = line
        self._handlers = list(handlers)
        self._timeout_s = line.timeout_s
        self._connected = False
        self.peer = f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
        self._entity = AE(ae_title=line.calling_ae_title)
        self._entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._entity.connection_timeout = self._timeout_s
        self._entity.acse_timeout = self._timeout_s
        self._entity.dimse_timeout = self._timeout_s
        self._entity.network_timeout = self._timeout_s

    @contextmanager
    def association(self, contexts: list[Any]) -> Iterator[Any]:
        """Open an association; release it at the end, abort it on an error.

        Raises
        ------
        UnreachableError
            There is none, and why; a C-ECHO would have none either.
        PeerError
            The destination takes none of the presentation contexts.
        """
        association = self._open(contexts)
        keep_answers(association)
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()

    def status_of(self, response: Any, started: float, timeout_s: float) -> int:
        """Give the status of a response; pynetdicom hands out an empty one where none came."""
        if "Status" in response:
            return int(response.Status)
        waited_s = time.monotonic() - started
        if waited_s >= timeout_s:
            raise PeerError(f"{self.peer} did not answer within {waited_s:.0f} s.")
        raise PeerError(f"{self.peer} aborted the association, or stopped reading, instead of answering.")

    def _open(self, contexts: list[Any]) -> Any:
        # Hands files out as they are instead of decoding and encoding them.
        _config.STORE_SEND_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"
        started = time.monotonic()
        tls = self._line.tls
        try:
            association = self._entity.associate(
                self._destination.host,
                self._destination.port,
                contexts=contexts,
                ae_title=self._destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, self._on_connection), *self._handlers],
                tls_args=None if tls is None else (tls.context, tls.server_name),
            )
        except socket.gaierror as error:
            raise UnreachableError(
                f"{self.peer}: the host name cannot be resolved.", "Mend the destination's host, or the name service."
            ) from error
        if not association.is_established:
            raise self._why_not(association, time.monotonic() - started)
        return association

    def _on_connection(self, event: Any) -> None:
        self._connected = True
        connection = event.assoc.dul.socket.socket
        # The last, small PDU of an object must not wait for the acknowledgement of the one before it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pynetdicom sends without a bound: a peer that stops reading would hold its thread, and us in abort(), for
        # ever. Of the connection's own timeouts this one leaves receiving as pynetdicom wants it: struct timeval.
        seconds, fraction = divmod(self._timeout_s, 1)
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(fraction * 1e6))
        )

    def _why_not(self, association: Any, waited_s: float) -> PeerError:
        """Say in plain words why there is no association."""
        if not self._connected:
            return UnreachableError(f"{self.peer} cannot be reached: {self._connection_fault(waited_s)}.")
        if association.is_rejected:
            answer = association.acceptor.primitive
            return UnreachableError(
                f"{self.peer} rejected the association: {answer.reason_str} ({answer.result_str}).",
                "Compare the AE titles in our configuration with those that the destination knows.",
            )
        if association.rejected_contexts:
            refused = ", ".join(sorted({class_name(one.abstract_syntax) for one in association.rejected_contexts}))
            return PeerError(
                f"{self.peer} accepts no presentation context for {refused}.",
                "Let the destination accept it, or leave it out of the route's outputs.",
            )
        if waited_s >= self._timeout_s:
            return UnreachableError(f"{self.peer} did not answer the association request within {waited_s:.0f} s.")
        return UnreachableError(f"{self.peer} aborted the association request.")

    def _connection_fault(self, waited_s: float) -> str:
        """Connect once more to learn the cause, which pynetdicom writes to its log only."""
        if waited_s >= self._timeout_s:
            return f"no answer within {waited_s:.0f} s"
        address, tls = (self._destination.host, self._destination.port), self._line.tls
        try:
            with socket.create_connection(address, timeout=min(self._timeout_s, 5.0)) as connection:
                if tls is not None:
                    tls.context.wrap_socket(connection, server_hostname=tls.server_name).close()
        except TimeoutError:
            return "no answer"
        except ssl.SSLCertVerificationError as error:
            return f"its certificate is not accepted ({error.verify_message})"
        except ssl.SSLError as error:
            return f"no TLS connection ({(error.reason or str(error)).lower().replace('_', ' ')})"
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return "the connection failed, though a second one was taken"


def keep_answers(association: Any) -> None:
    """Let an association's own thread take requests only, and whoever waits for an answer only answers.

    pynetdicom pauses that thread while an answer is waited for, but on a busy machine it may be past the place where it
    looks whether it is to pause; then it takes the answer, drops it, and the wait ends with the timeout.
    """
    association.dimse.msg_queue = _Messages(association)


class _Messages(queue.Queue[Any]):
    """What was received and is not taken yet: pairs of presentation context and DIMSE primitive, or of None."""

    def __init__(self, own: threading.Thread) -> None:
        super().__init__()
        self._own = own

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first message that is for the calling thread."""
        until = None if timeout is None else time.monotonic() + timeout
        with self.not_empty:
            while (place := self._first()) is None:
                left = None if until is None else until - time.monotonic()
                if not block or (left is not None and left <= 0):
                    raise queue.Empty
                self.not_empty.wait(left)
            message = self.queue[place]
            del self.queue[place]
            return message

    def _first(self) -> int | None:
        wants_requests = threading.current_thread() is self._own
        for place, (_, message) in enumerate(self.queue):
            if (message is not None and message.is_valid_request) == wants_requests:
                return place
        return None


def class_name(sop_class_uid: str) -> str:
    """Name a SOP class; pydicom does not know all that we make."""
    return _NAMES.get(sop_class_uid, UID(sop_class_uid).name)


_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
