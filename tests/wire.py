"""The DICOM upper layer as bytes (PS3.8 9.3), for callers that a library would be too polite or too slow to be.

Everything that is sent is built here as ``bytes`` by functions that check nothing: tests, attacks and benches say what
no library says, at the speed of one ``sendall``. Nothing is read but what a caller must know: the acceptor's maximum
length, the accepted contexts, and the status of a response.

>>> with Connection(port) as caller:
...     accepted = caller.associate([Context(1, CT_IMAGE_STORAGE, (EXPLICIT_LITTLE,))])
...     caller.send(store_message(1, CT_IMAGE_STORAGE, sop_instance_uid, data_set, accepted.maximum_length))
...     assert caller.status() == 0x0000
"""

import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS_UID = "2.25.190522219313712361012364817635283746151"

# PDU types (PS3.8 9.3.1).
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

# Message control header of a PDV (PS3.8 E.2).
DATA_SET, COMMAND, LAST = 0, 1, 2

# Command Field (PS3.7 E.1).
C_STORE_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ, C_CANCEL_RQ, N_ACTION_RQ = 0x0001, 0x0020, 0x0021, 0x0030, 0x0FFF, 0x0130
# Command Data Set Type (PS3.7 E.1): anything but this says that a data set follows.
NO_DATA_SET = 0x0101
DATA_SET_FOLLOWS = 0x0001

# linux/in.h; not in Python's ``socket`` before 3.14.
IP_BIND_ADDRESS_NO_PORT = 24

# What a PDV takes of its PDU beside the fragment: its length, context and control header.
PDV_HEADER_BYTES = 6
# PS3.8 D.1: a maximum length of 0 sets no bound; then we send PDUs of this size.
UNBOUNDED_PDU_BYTES = 131_072


@dataclass(frozen=True, slots=True)
class Context:
    """A proposed presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an acceptor answered: its maximum length, and the transfer syntax of each context that it took."""

    maximum_length: int
    contexts: Mapping[int, str]


class PeerEnded(ConnectionError):  # noqa: N818 - it names what the peer did
    """The peer closed, reset, aborted or rejected where an answer was due; ``how`` says which."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


# PDUs ----------------------------------------------------------------------------------------------------------------


def pdu(pdu_type: int, body: bytes, *, length: int | None = None) -> bytes:
    """Build a PDU; ``length`` may lie."""
    return struct.pack(">BxL", pdu_type, len(body) if length is None else length) + body


def associate_request(
    contexts: Sequence[Context],
    *,
    called: str = "DELINEATE",
    calling: str = "WIRE",
    maximum_length: int = 16_384,
    length: int | None = None,
) -> bytes:
    """Build an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    user = b"".join(
        (
            _item(0x51, struct.pack(">L", maximum_length)),
            _item(0x52, IMPLEMENTATION_CLASS_UID.encode()),
            _item(0x55, b"WIRE"),
        )
    )
    items = [_item(0x10, APPLICATION_CONTEXT.encode()), *map(_proposed, contexts), _item(0x50, user)]
    return pdu(ASSOCIATE_RQ, associate_head(called, calling) + b"".join(items), length=length)


def associate_head(called: str, calling: str) -> bytes:
    """Build what an A-ASSOCIATE-RQ holds before its items; the titles may hold anything."""
    return struct.pack(">HH16s16s32x", 1, 0, *(title.encode("utf-8").ljust(16)[:16] for title in (called, calling)))


def _proposed(context: Context) -> bytes:
    syntaxes = b"".join(_item(0x40, uid.encode()) for uid in context.transfer_syntaxes)
    return _item(
        0x20, struct.pack(">Bxxx", context.context_id) + _item(0x30, context.abstract_syntax.encode()) + syntaxes
    )


def _item(item_type: int, body: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(body)) + body


def release_request() -> bytes:
    """Build an A-RELEASE-RQ."""
    return pdu(RELEASE_RQ, bytes(4))


def abort() -> bytes:
    """Build an A-ABORT of the service user."""
    return pdu(ABORT, bytes(4))


def pdv(context_id: int, control: int, fragment: bytes, *, length: int | None = None) -> bytes:
    """Build a presentation data value item (PS3.8 9.3.5.1); ``length`` may lie."""
    return struct.pack(">LBB", len(fragment) + 2 if length is None else length, context_id, control) + fragment


def fragments(context_id: int, control: int, message: bytes, maximum_length: int) -> bytes:
    """Build the P-DATA-TF PDUs of a command set or a data set, one PDV each, none longer than the maximum."""
    step = (maximum_length or UNBOUNDED_PDU_BYTES) - PDV_HEADER_BYTES
    last = max(len(message) - 1, 0) // step * step
    parts: list[bytes] = []
    for start in range(0, last + 1, step):
        fragment = message[start : start + step]
        header = control | LAST if start == last else control
        # One join of all parts: an instance is copied once.
        parts += (
            struct.pack(">BxLLBB", P_DATA, len(fragment) + PDV_HEADER_BYTES, len(fragment) + 2, context_id, header),
            fragment,
        )
    return b"".join(parts)


# Messages ------------------------------------------------------------------------------------------------------------


def command_set(elements: Mapping[int, bytes]) -> bytes:
    """Build a command set with its group length (PS3.7 6.3.1); keys are element numbers of group 0000."""
    encoded = b"".join(
        struct.pack("<HHL", 0, number, len(elements[number])) + elements[number] for number in sorted(elements)
    )
    return struct.pack("<HHLL", 0, 0, 4, len(encoded)) + encoded


def request(
    command_field: int,
    *,
    sop_class_uid: str,
    sop_instance_uid: str | None = None,
    message_id: int = 1,
    data_set_type: int = DATA_SET_FOLLOWS,
) -> bytes:
    """Build the command set of a composite request (PS3.7 9.3)."""
    elements = {
        0x0002: _ui(sop_class_uid),
        0x0100: struct.pack("<H", command_field),
        0x0110: struct.pack("<H", message_id),
        0x0700: struct.pack("<H", 0),
        0x0800: struct.pack("<H", data_set_type),
    }
    if sop_instance_uid is not None:
        elements[0x1000] = _ui(sop_instance_uid)
    return command_set(elements)


def store_request(sop_class_uid: str, sop_instance_uid: str, message_id: int = 1) -> bytes:
    """Build the command set of a C-STORE request."""
    return request(C_STORE_RQ, sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, message_id=message_id)


def store_message(
    context_id: int, sop_class_uid: str, sop_instance_uid: str, data_set: bytes, maximum_length: int
) -> bytes:
    """Build a whole C-STORE request as P-DATA-TF PDUs."""
    command = store_request(sop_class_uid, sop_instance_uid)
    return fragments(context_id, COMMAND, command, maximum_length) + fragments(
        context_id, DATA_SET, data_set, maximum_length
    )


def echo_message(context_id: int, message_id: int = 1) -> bytes:
    """Build a whole C-ECHO request as one P-DATA-TF PDU."""
    command = request(C_ECHO_RQ, sop_class_uid=VERIFICATION, message_id=message_id, data_set_type=NO_DATA_SET)
    return fragments(context_id, COMMAND, command, UNBOUNDED_PDU_BYTES)


def _ui(uid: str) -> bytes:
    value = uid.encode("utf-8")
    return value + b"\0" * (len(value) % 2)


# A connection --------------------------------------------------------------------------------------------------------


class Connection:
    """A TCP connection to a port of this machine, and the few answers that a caller reads from it.

    Parameters
    ----------
    address
        Where it calls from: all of 127.0.0.0/8 is this machine.
    """

    def __init__(self, port: int, *, address: str = "127.0.0.1", timeout_s: float = 30.0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(timeout_s)
        # Else ``bind`` takes a port for itself alone, and ten thousand connections a minute are more than there are.
        self.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        try:
            self.socket.bind((address, 0))
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(message)

    def associate(self, contexts: Sequence[Context], *, called: str = "DELINEATE", calling: str = "WIRE") -> Accepted:
        """Open an association.

        Raises
        ------
        PeerEnded
            It was rejected or aborted, or the connection ended.
        """
        self.send(associate_request(contexts, called=called, calling=calling))
        return read_accept(self.receive(ASSOCIATE_AC))

    def status(self) -> int:
        """Wait for a response and give its Status (0000,0900)."""
        command = b""
        while True:
            body = self.receive(P_DATA)
            position = 0
            while position < len(body):
                length, _, control = struct.unpack_from(">LBB", body, position)
                command += body[position + PDV_HEADER_BYTES : position + 4 + length]
                position += 4 + length
                if control & LAST:
                    return status_of(command)

    def release(self) -> None:
        """Release in order: ask, wait for the answer, close."""
        self.send(release_request())
        self.receive(RELEASE_RP)
        self.close()

    def peek(self) -> int:
        """Wait for the next PDU and give its type, leaving it to be received.

        Raises
        ------
        PeerEnded
            The connection ended.
        TimeoutError
            Nothing came within the timeout.
        """
        try:
            first = self.socket.recv(1, socket.MSG_PEEK)
        except ConnectionError as error:
            raise PeerEnded("reset") from error
        if not first:
            raise PeerEnded("closed")
        return first[0]

    def receive(self, expected: int) -> bytes:
        """Wait for one PDU and give its body.

        Raises
        ------
        PeerEnded
            Another PDU came, or the connection ended.
        TimeoutError
            Nothing came within the timeout.
        """
        pdu_type, length = struct.unpack(">BxL", self._exactly(6))
        body = self._exactly(length)
        if pdu_type != expected:
            raise PeerEnded(
                {ASSOCIATE_RJ: "rejected", ABORT: "aborted"}.get(pdu_type, f"sent a PDU of type {pdu_type}")
            )
        return body

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            try:
                some = self.socket.recv(count - len(received))
            except ConnectionError as error:
                raise PeerEnded("reset") from error
            if not some:
                raise PeerEnded("closed")
            # DCMTK writes a response in two pieces with Nagle's algorithm on: the second waits until the first is
            # acknowledged, which would take this side's delayed acknowledgement, 40 ms. Sends what is due at once.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            received += some
        return received

    def close(self) -> None:
        """Close."""
        self.socket.close()

    def reset(self) -> None:
        """End with a TCP reset, as a program that dies or an impatient firewall does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_accept(body: bytes) -> Accepted:
    """Read the body of an A-ASSOCIATE-AC (PS3.8 9.3.3)."""
    maximum_length, contexts = 0, {}
    for item_type, item in _items(body[68:]):
        if item_type == 0x21 and item[2] == 0:
            contexts[item[0]] = next(sub.rstrip(b"\0").decode() for kind, sub in _items(item[4:]) if kind == 0x40)
        elif item_type == 0x50:
            maximum_length = next((int.from_bytes(sub) for kind, sub in _items(item) if kind == 0x51), 0)
    return Accepted(maximum_length, contexts)


def _items(encoded: bytes) -> list[tuple[int, bytes]]:
    items, position = [], 0
    while position < len(encoded):
        item_type, length = struct.unpack_from(">BxH", encoded, position)
        items.append((item_type, encoded[position + 4 : position + 4 + length]))
        position += 4 + length
    return items


def status_of(command: bytes) -> int:
    """Give Status (0000,0900) of the command set of a response."""
    position = 0
    while position < len(command):
        group, element, length = struct.unpack_from("<HHL", command, position)
        if (group, element) == (0x0000, 0x0900):
            return int.from_bytes(command[position + 8 : position + 8 + length], "little")
        position += 8 + length
    raise PeerEnded("sent a response without a status")
