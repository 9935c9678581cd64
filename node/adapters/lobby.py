"""The lobby: listens, and keeps connections until each has asked for an association.

One thread waits for all of them, however many: a connection that says nothing costs a descriptor, not two threads and
a place among the associations. What has asked properly is handed on together with its A-ASSOCIATE-RQ.
"""

import errno
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from node.adapters.doors import Door
from node.domain.peers import Call, Rejection, printable

# PS3.8 9.3.2: of an A-ASSOCIATE-RQ, type, reserved and length; then version, reserved, called and calling AE title.
_HEADER_LENGTH = 6
_A_ASSOCIATE_RQ = 0x01
_CALLED, _CALLING = slice(10, 26), slice(26, 42)
_SHORTEST_REQUEST = 74
# 128 presentation contexts with 60 transfer syntaxes each need a fifth of it.
LARGEST_REQUEST = 1024 * 1024
# Of all connections that wait, together.
MOST_WAITING_BYTES = 32 * 1024 * 1024

_TICK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A connection that has asked for an association and was not rejected."""

    connection: socket.socket
    # The whole A-ASSOCIATE-RQ, PS3.8 9.3.2.
    request: bytes
    call: Call
    port: int


@dataclass(eq=False, slots=True, kw_only=True)
class _Waiting:
    connection: socket.socket
    address: str
    port: int
    until: float
    handshaking: bool
    received: bytearray = field(default_factory=bytearray)


class Lobby:
    """Accepts connections from ``start`` to ``stop``.

    Parameters
    ----------
    request_timeout_s
        From the connection to the last byte of its A-ASSOCIATE-RQ, TLS handshake included.
    maximum_waiting
        Connections that have not asked yet; beyond them the longest waiting is closed.
    decide
        Says whether a call is rejected; None: it may enter.
    fault_of
        Says what is wrong with an A-ASSOCIATE-RQ; None: nothing.
    enter
        Takes over a connection.
    turned_away
        Hears of every connection that ends here: its address, or its call where it said that much, and why. Must not
        wait, nor raise.
    tick
        Called a few times a second; must not wait, nor raise.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        *,
        request_timeout_s: float,
        maximum_waiting: int,
        decide: Callable[[Call], Rejection | None],
        fault_of: Callable[[bytes], str | None],
        enter: Callable[[Entrant], None],
        turned_away: Callable[[Call, str], None],
        tick: Callable[[], None],
    ) -> None:
        self._doors = doors
        self._request_timeout_s = request_timeout_s
        self._maximum_waiting = maximum_waiting
        self._decide, self._fault_of, self._enter = decide, fault_of, enter
        self._turned_away, self._tick = turned_away, tick
        self._selector = selectors.DefaultSelector()
        # In the order in which they came, hence of their deadlines.
        self._waiting: dict[_Waiting, None] = {}
        self._waiting_bytes = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lobby", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        for door in self._doors:
            door.listener.setblocking(False)
            self._selector.register(door.listener, selectors.EVENT_READ, door)
        self._thread.start()

    def stop(self) -> None:
        """Close the doors, and what still waits."""
        self._stopping.set()
        self._thread.join()
        for waiting in list(self._waiting):
            self._forget(waiting)
            waiting.connection.close()
        for door in self._doors:
            door.listener.close()
        self._selector.close()

    def _run(self) -> None:
        next_tick = 0.0
        while not self._stopping.is_set():
            for key, _ in self._selector.select(_TICK_S):
                if isinstance(key.data, Door):
                    self._accept(key.data)
                elif key.data in self._waiting:  # not closed a moment ago to make room
                    self._go_on_guarded(key.data)
            now = time.monotonic()
            self._close_overdue(now)
            if now >= next_tick:
                self._tick()
                next_tick = now + _TICK_S

    def _accept(self, door: Door) -> None:
        try:
            connection, name = door.listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._make_room("no descriptor was left for another connection")
            return
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if door.tls is not None:
                connection = door.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError:  # reset meanwhile
            connection.close()
            return
        if len(self._waiting) >= self._maximum_waiting:
            self._make_room(f"{self._maximum_waiting} connections wait without having asked for an association")
        waiting = _Waiting(
            connection=connection,
            address=str(name[0]),
            port=int(name[1]),
            until=time.monotonic() + self._request_timeout_s,
            handshaking=door.tls is not None,
        )
        self._waiting[waiting] = None
        self._selector.register(connection, selectors.EVENT_READ, waiting)

    def _go_on_guarded(self, waiting: _Waiting) -> None:
        """Go on with one connection; whatever goes wrong with it, the others are still waited for."""
        try:
            self._go_on(waiting)
        except Exception as error:
            if waiting in self._waiting:
                self._forget(waiting)
            waiting.connection.close()
            self._turned_away(_call(waiting), f"a fault of ours: {type(error).__name__}")

    def _go_on(self, waiting: _Waiting) -> None:
        try:
            if waiting.handshaking:
                waiting.connection.do_handshake()  # type: ignore[attr-defined]
                waiting.handshaking = False
            complete = self._read(waiting)
        except (ssl.SSLWantReadError, BlockingIOError):
            self._listen_for(waiting, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._listen_for(waiting, selectors.EVENT_WRITE)
        except ssl.SSLError as error:
            self._turn_away(waiting, f"TLS handshake failed: {error.reason or type(error).__name__}")
        except OSError:
            self._turn_away(waiting, "it closed the connection")
        else:
            if complete:
                self._show_in(waiting)

    def _listen_for(self, waiting: _Waiting, event: int) -> None:
        self._selector.modify(waiting.connection, event, waiting)

    def _read(self, waiting: _Waiting) -> bool:
        """Read what there is of the request, never beyond it; tells whether it is whole."""
        while (missing := _missing(waiting.received)) > 0:
            piece = waiting.connection.recv(min(missing, 65_536))
            if not piece:
                raise ConnectionResetError
            waiting.received += piece
            self._waiting_bytes += len(piece)
            if (fault := _fault(waiting.received)) is not None:
                self._turn_away(waiting, fault)
                return False
            if self._waiting_bytes > MOST_WAITING_BYTES:
                self._turn_away(waiting, "too much was sent by connections without an association")
                return False
        return True

    def _show_in(self, waiting: _Waiting) -> None:
        call = _call(waiting)
        rejection = _fault_of_titles(waiting.received) or self._decide(call)
        if rejection is not None:
            with suppress(OSError):
                # PS3.8 9.3.4.
                waiting.connection.send(
                    bytes((3, 0, 0, 0, 0, 4, 0, rejection.result, rejection.source, rejection.diagnostic))
                )
            self._turn_away(waiting, rejection.reason)
            return
        if (fault := self._fault_of(bytes(waiting.received))) is not None:
            with suppress(OSError):
                # PS3.8 9.3.8: A-ABORT by the service provider, invalid PDU parameter value.
                waiting.connection.send(bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 6)))
            self._turn_away(waiting, fault)
            return
        self._forget(waiting)
        waiting.connection.setblocking(True)
        self._enter(
            Entrant(connection=waiting.connection, request=bytes(waiting.received), call=call, port=waiting.port)
        )

    def _close_overdue(self, now: float) -> None:
        while self._waiting and (oldest := next(iter(self._waiting))).until <= now:
            self._turn_away(oldest, f"it did not ask for an association within {self._request_timeout_s:g} s")

    def _make_room(self, why: str) -> None:
        if self._waiting:
            self._turn_away(next(iter(self._waiting)), why)
        else:
            time.sleep(0.05)  # descriptors are held by associations: wait for one to end

    def _turn_away(self, waiting: _Waiting, why: str) -> None:
        self._forget(waiting)
        with suppress(OSError):
            waiting.connection.shutdown(socket.SHUT_RDWR)
        waiting.connection.close()
        self._turned_away(_call(waiting), why)

    def _forget(self, waiting: _Waiting) -> None:
        del self._waiting[waiting]
        self._waiting_bytes -= len(waiting.received)
        with suppress(KeyError, ValueError):
            self._selector.unregister(waiting.connection)


def _missing(received: bytearray) -> int:
    if len(received) < _HEADER_LENGTH:
        return _HEADER_LENGTH - len(received)
    return _HEADER_LENGTH + int.from_bytes(received[2:6], "big") - len(received)


def _fault(received: bytearray) -> str | None:
    if received[0] != _A_ASSOCIATE_RQ:
        return "what it said is no A-ASSOCIATE-RQ"
    if len(received) >= _HEADER_LENGTH:
        length = _HEADER_LENGTH + int.from_bytes(received[2:6], "big")
        if not _SHORTEST_REQUEST <= length <= LARGEST_REQUEST:
            return f"its A-ASSOCIATE-RQ of {length} bytes is out of all bounds"
    return None


def _fault_of_titles(received: bytearray) -> Rejection | None:
    """PS3.8 Table 9-11: titles are 16 characters of the default repertoire, and not only spaces."""
    for place, diagnostic, name in ((_CALLED, 7, "called"), (_CALLING, 3, "calling")):
        title = received[place]
        text = title.strip(b"\0 ").decode("ascii", errors="replace")
        if not (text and text.isascii() and text.isprintable()) or "\\" in text:
            return Rejection(result=1, source=1, diagnostic=diagnostic, reason=f"its {name} AE title is none")
    return None


def _call(waiting: _Waiting) -> Call:
    """Read the titles by their fixed places; what is no printable ASCII is replaced, for it goes into logs."""
    return Call(
        calling_ae_title=_title(waiting.received[_CALLING]),
        called_ae_title=_title(waiting.received[_CALLED]),
        address=waiting.address,
    )


def _title(field_of_pdu: Any) -> str:
    return printable(bytes(field_of_pdu).decode("ascii", errors="replace").strip("\0 "))
