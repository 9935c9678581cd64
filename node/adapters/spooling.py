"""A transport for pynetdicom that takes C-STORE past it: from the socket to where it is kept, and the answer back.

pynetdicom goes on seeing every PDU that decides about the association: its request, release, abort, C-ECHO. A C-STORE
message it does not see: decoding and encoding one costs it more than everything else that we do with an instance, and
joining the fragments costs it memory. What comes is read here, in large pieces, and bounded: in size, in time, and in
what may follow what.

Of pynetdicom 3.0 this relies on, and `spooling_check` proves at the start: that its reactor asks `ready` and `recv` of
its socket for PDUs; that the queues of its service providers may be replaced before it runs; that C-ECHO is served by
its service class' ``SCP``; that a PDU of unknown type makes it abort.
"""

import os
import select
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from node.adapters.waking import WAIT_S, ServingQueue, WakingQueue
from node.dicom.command import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    IS_COMMAND,
    IS_LAST,
    N_EVENT_REPORT_RQ,
    P_DATA,
    PDU_HEADER,
    PDV_HEADER,
    Command,
    encode_echo_request,
    encode_event_report_response,
    encode_store_response,
    p_data_tf,
    read_command,
)
from node.domain.arrival import Reception, StoreAnswer

# PS3.8 9.3.6, 9.3.8.
_RELEASE_RQ, _RELEASE_RP, _ABORT = 0x05, 0x06, 0x07
# A command is some hundred bytes.
LONGEST_COMMAND = 16 * 1024
# Larger than what we announce, for peers that do not listen; what is larger still is no P-DATA-TF.
LARGEST_PDU = 16 * 1024 * 1024
BUFFER_BYTES = 256 * 1024
# An unknown PDU type: pynetdicom aborts the association and tells everybody (PS3.8 9.2.2, Evt19).
_INVALID_PDU = b"\xff\0\0\0\0\0"

# Then the reactor looks whether it should stop, also while an object of gigabytes comes.
_PIECES_AT_ONCE = 1000
# The system takes 1,024 in one call.
_PIECES_PER_WRITE = 256
# Data transfer. Not while our answer to a release is due: what a peer sends after that would break pynetdicom's order.
_MAY_READ = "Sta6"
_CLOSING = "Sta13"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """How long a peer may take, and how much it may send."""

    # Without any message.
    idle_timeout_s: float = 600.0
    # For a message, plus one second for every `slowest_bytes_per_s` that have come of it.
    message_timeout_s: float = 60.0
    slowest_bytes_per_s: float = 4096.0
    # A data set that is longer than this is not even counted to its end.
    largest_message_bytes: int = 4 * 2**30


class Owner(Protocol):
    """Whom a connection belongs to."""

    def begin(self, context_id: int, command: Command) -> Reception:
        """Receive the data set of a C-STORE, or of a report; never raises."""
        ...

    def finish(self, command: Command, reception: Reception) -> StoreAnswer:
        """Answer what began, when its data set has come; never raises."""
        ...

    def broken(self, reason: str) -> None:
        """Hear why we abort the association."""
        ...


class _ViolationError(Exception):
    """The peer did what no peer may; the text says what."""


class SpoolingSocket(AssociationSocket):  # type: ignore[misc]
    """The connection of one association.

    Every method but ``open`` and ``wake`` is for pynetdicom's reactor thread.

    Parameters
    ----------
    request
        The A-ASSOCIATE-RQ that was read already.
    """

    def __init__(
        self, association: Association, connection: socket.socket, request: bytes, *, limits: TransportLimits
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._limits = limits
        self._owner: Owner | None = None
        # Presentation contexts that we accepted.
        self._contexts: frozenset[int] = frozenset()
        # Of these, those in which reports of Storage Commitment come, and no instances.
        self._report_contexts: frozenset[int] = frozenset()
        # Closed by one thread while another wakes: without the lock that would write into whatever has the number next.
        self._wake_lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiter = select.poll()
        self._waiter.register(self._wake, select.POLLIN)
        self._waiter.register(connection, select.POLLIN)
        self._waker = select.poll()
        self._waker.register(self._wake, select.POLLIN)
        self._encrypted = isinstance(connection, ssl.SSLSocket)
        _bound_waiting(connection, limits.message_timeout_s)
        # Whole PDUs for pynetdicom.
        self._given = bytearray(request)
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        # Bytes that were received and not looked at: from start to end.
        self._start = self._end = 0
        # Bytes left of the P-DATA-TF, and of the PDV in it, that we are in.
        self._pdu_left = self._pdv_left = 0
        self._control = 0
        # Of the message that is coming: its presentation context, its command, and where its data set goes.
        self._context_id: int | None = None
        self._command = bytearray()
        self._awaits_data_set = False
        self._reception: Reception | None = None
        # Of its data set: in the buffer, not written yet.
        self._pieces: list[memoryview] = []
        self._store: Command | None = None
        self._message_bytes = 0
        self._began_at: float | None = None
        self._quiet_since = time.monotonic()
        self._broken = False

    def open(self, owner: Owner, contexts: frozenset[int], report_contexts: frozenset[int] = frozenset()) -> None:
        """Begin to read: the association is established, its presentation contexts are those."""
        self._owner, self._contexts, self._report_contexts = owner, contexts, report_contexts
        self._quiet_since = time.monotonic()
        self.wake()

    def wake(self) -> None:
        """Let the reactor look at its queues now; it does so by itself where it is the one that put something there."""
        if threading.get_ident() == self.assoc.dul.ident:
            return
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    @property
    def ready(self) -> bool:
        """Wait a moment; tell whether there is a PDU for pynetdicom."""
        if self._given:
            return True
        if not self.event_queue.empty():
            return False  # to be dealt with first, and without waiting
        state = self.assoc.dul.state_machine.current_state
        if self.socket is None or self._broken:
            return False
        if self._owner is None or state != _MAY_READ:
            self._wait_to_close() if state == _CLOSING else self._pause(self._waker)
            return False
        try:
            for _ in range(_PIECES_AT_ONCE):
                if self._given or not (self._advance() or self._fill()):
                    break
        except _ViolationError as violation:
            self._break(str(violation))
        except OSError:
            self.close()
        return bool(self._given)

    def recv(self, nr_bytes: int) -> bytearray:
        """Give the next bytes of a PDU for pynetdicom."""
        piece = self._given[:nr_bytes]
        del self._given[:nr_bytes]
        return piece

    def close(self) -> None:
        """Close the connection, and keep nothing of what had not come to its end."""
        super().close()
        self.abandon()

    def abandon(self) -> None:
        """Let go of everything; does nothing the second time."""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.abandon()
        self._pieces.clear()
        # Now, not when the collector comes for pynetdicom's circle of references: hundreds that end at once add up.
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        with self._wake_lock:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1

    # Reading ---------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Write what lies in the buffer, at once: each system call costs more than the bytes."""
        if self._pieces and self._reception is not None:
            self._reception.write(*self._pieces)
        self._pieces.clear()

    def _fill(self) -> bool:
        """Receive what there is, or wait a moment for it; tells whether anything came."""
        self._write()
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == BUFFER_BYTES:
            left = self._end - self._start
            self._view[:left] = self._view[self._start : self._end]
            self._start, self._end = 0, left
        count = self._receive()
        now = time.monotonic()
        if count:
            self._end += count
            self._message_bytes += count
        self._check_pace(now)
        return count > 0

    def _receive(self) -> int:
        assert self.socket is not None
        room = self._view[self._end :]
        if self._encrypted:
            if not self.socket.pending() and not self._pause(self._waiter):
                return 0
            try:
                count = self.socket.recv_into(room)
            except (ssl.SSLWantReadError, TimeoutError):
                return 0
        else:
            try:
                count = self.socket.recv_into(room, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._pause(self._waiter):
                    return 0
                count = self.socket.recv_into(room, 0, socket.MSG_DONTWAIT)
            # Stock DCMTK sends with Nagle's algorithm: it waits for our acknowledgement, which Linux delays by 40 ms.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not count:
            raise ConnectionResetError
        return int(count)

    def _pause(self, waiter: Any) -> bool:
        """Wait for the peer or for ``wake``; tells whether the peer is there to be read."""
        events = dict(waiter.poll(WAIT_S * 1000))
        if self._wake in events:
            with suppress(OSError):
                os.eventfd_read(self._wake)
            del events[self._wake]
        return bool(events)

    def _wait_to_close(self) -> None:
        """After a release or an abort: drop what still comes, for a moment, so that the peer reads our last words."""
        try:
            if not self._pause(self._waiter) or not self._receive():
                return
        except (OSError, _ViolationError):
            self.close()

    def _check_pace(self, now: float) -> None:
        limits = self._limits
        if self._start == self._end and self._context_id is None and not self._pdu_left:
            self._began_at, self._message_bytes = None, 0
            if now - self._quiet_since > limits.idle_timeout_s:
                raise _ViolationError(f"no message for {limits.idle_timeout_s:g} s")
            return
        if self._began_at is None:
            self._began_at = now
        allowed_s = limits.message_timeout_s + self._message_bytes / limits.slowest_bytes_per_s
        if now - self._began_at > allowed_s:
            raise _ViolationError(f"a message did not end within {allowed_s:.0f} s")
        if self._message_bytes > limits.largest_message_bytes:
            raise _ViolationError("a message does not end")

    # Looking at what was read ----------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Take the next whole thing out of the buffer; False where that needs more bytes."""
        if self._pdv_left:
            return self._take_fragment()
        if self._pdu_left:
            return self._take_pdv_header()
        return self._take_pdu_header()

    def _take_pdu_header(self) -> bool:
        if self._end - self._start < PDU_HEADER.size:
            return False
        kind, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        if kind == P_DATA:
            if not PDV_HEADER.size <= length <= LARGEST_PDU:
                raise _ViolationError(f"a P-DATA-TF of {length} bytes")
            self._start += PDU_HEADER.size
            self._pdu_left = length
            return True
        if kind not in (_RELEASE_RQ, _RELEASE_RP, _ABORT) or length != 4:
            raise _ViolationError(f"a PDU of type {kind:02X} and {length} bytes within an association")
        whole = PDU_HEADER.size + length
        if self._end - self._start < whole:
            return False
        self._given += self._view[self._start : self._start + whole]
        self._start += whole
        return True

    def _take_pdv_header(self) -> bool:
        if self._end - self._start < PDV_HEADER.size:
            return False
        length, context_id, control = PDV_HEADER.unpack_from(self._buffer, self._start)
        # The length counts context and control header (2), the PDU also the length itself (4).
        if not 2 <= length <= self._pdu_left - 4 or 0 < self._pdu_left - 4 - length < PDV_HEADER.size:
            raise _ViolationError(f"a PDV of {length} bytes in {self._pdu_left} bytes of P-DATA-TF")
        self._start += PDV_HEADER.size
        self._pdu_left -= 4 + length
        self._pdv_left = length - 2
        self._control = control & (IS_COMMAND | IS_LAST)
        self._check_order(context_id)
        if not self._pdv_left:
            self._end_fragment()
        return True

    def _check_order(self, context_id: int) -> None:
        """PS3.8 Annex E: a command, then its data set if it has one, in one presentation context; nothing between."""
        if context_id not in self._contexts:
            raise _ViolationError(f"a message in presentation context {context_id}, which was not accepted")
        if self._context_id is None:
            self._context_id = context_id
        if context_id != self._context_id:
            raise _ViolationError("a message changes its presentation context")
        if bool(self._control & IS_COMMAND) == self._awaits_data_set:
            raise _ViolationError(
                "a command within a data set" if self._awaits_data_set else "a data set without command"
            )

    def _take_fragment(self) -> bool:
        count = min(self._pdv_left, self._end - self._start)
        if not count:
            return False
        piece = self._view[self._start : self._start + count]
        if self._control & IS_COMMAND:
            if len(self._command) + count > LONGEST_COMMAND:
                raise _ViolationError(f"a command of more than {LONGEST_COMMAND} bytes")
            self._command += piece
        else:
            self._pieces.append(piece)
            if len(self._pieces) >= _PIECES_PER_WRITE:
                self._write()
        self._start += count
        self._pdv_left -= count
        if not self._pdv_left:
            self._end_fragment()
        return True

    def _end_fragment(self) -> None:
        if not self._control & IS_LAST:
            return
        if self._control & IS_COMMAND:
            self._end_command()
        else:
            self._answer()

    def _end_command(self) -> None:
        assert self._owner is not None
        assert self._context_id is not None
        command = read_command(self._command)
        wanted = N_EVENT_REPORT_RQ if self._context_id in self._report_contexts else C_STORE_RQ
        if command.field == wanted and command.has_data_set:
            self._store = command
            self._reception = self._owner.begin(self._context_id, command)
            self._awaits_data_set = True
        elif command.field == C_CANCEL_RQ and not command.has_data_set:
            self._forget_message()  # nothing that we do takes so long
        elif command.field == C_ECHO_RQ and not command.has_data_set:
            # Not as it came: what pynetdicom cannot decode in it would end its thread.
            self._given += b"".join(p_data_tf(self._context_id, encode_echo_request(command)))
            self._forget_message()
        else:
            raise _ViolationError(f"command {command.field:04X}, which a Storage SCP is not asked")

    def _answer(self) -> None:
        """Finish an instance, or a report, and answer, before anything else is read."""
        assert self._owner is not None
        assert self.socket is not None
        assert self._store is not None
        assert self._reception is not None
        assert self._context_id is not None
        self._write()
        command, reception, context_id = self._store, self._reception, self._context_id
        self._reception = None
        encode = encode_store_response if command.field == C_STORE_RQ else encode_event_report_response
        response = encode(command, self._owner.finish(command, reception))
        largest = self.assoc.requestor.maximum_length or 0
        for pdu in p_data_tf(context_id, response, largest=largest):
            self.socket.sendall(pdu)
        self._forget_message()

    def _forget_message(self) -> None:
        self._context_id, self._awaits_data_set = None, False
        self._command.clear()
        self._message_bytes = 0
        self._began_at = None
        self._quiet_since = time.monotonic()

    def _break(self, reason: str) -> None:
        self._broken = True
        self._given += _INVALID_PDU
        if self._reception is not None:
            self._reception.abandon()
            self._reception = None
        self._pieces.clear()
        if self._owner is not None:
            self._owner.broken(reason)


def _bound_waiting(connection: socket.socket, timeout_s: float) -> None:
    """A peer that does not read our answers must not hold a thread for ever."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(timeout_s)
    else:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout_s) or 1, 0))


def take_over(association: Association, connection: SpoolingSocket) -> None:
    """Join an association that has not started to its connection, and let its threads wake each other."""
    messages = ServingQueue(association)
    association.dimse.msg_queue = messages
    association.dul.to_user_queue = WakingQueue(messages.stir)
    association.dul.to_provider_queue = WakingQueue(connection.wake)
    association.set_socket(connection)
