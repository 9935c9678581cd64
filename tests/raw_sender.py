"""A Storage SCU on a bare socket: sends the bytes of a file as they are, and what no library would let it send.

>>> instance = Instance.read(path)
>>> with RawAssociation(node.address, [(instance.sop_class_uid, [instance.transfer_syntax_uid])]) as association:
...     answer = association.store(instance)
"""

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.filereader import dcmread, read_file_meta_info

from node.domain.delivery import PeerAddress

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
# PS3.7 E.1: Command Data Set Type (0000,0800); any value but this means that a data set follows.
NO_DATA_SET = 0x0101
PREAMBLE_LENGTH = 132


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A data set as it is encoded, and what is said of it in the command."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a Part 10 file; its data set stays encoded as it is.

        The command says what the file meta information says; where that is silent, the data set.
        """
        meta = read_file_meta_info(path)
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        return cls(
            sop_class_uid=str(meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID", "")),
            sop_instance_uid=str(meta.get("MediaStorageSOPInstanceUID") or header.get("SOPInstanceUID", "")),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
            data_set=data_set_of(path),
        )


def data_set_of(path: Path) -> bytes:
    """Give the bytes behind the file meta information; its group length is not trusted."""
    content = path.read_bytes()
    at = PREAMBLE_LENGTH if content[128:132] == b"DICM" else 0
    while content[at : at + 2] == b"\x02\x00":
        long = content[at + 4 : at + 6] in (b"OB", b"UN")
        length = content[at + 8 : at + 12] if long else content[at + 6 : at + 8]
        at += (12 if long else 8) + int.from_bytes(length, "little")
    return content[at:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back."""

    message_id: int
    status: int
    error_comment: str


class RejectedError(Exception):
    """The association was rejected."""


class RawAssociation:
    """One association from its request to its release.

    Parameters
    ----------
    contexts
        SOP class and transfer syntaxes of each presentation context, in order.
    tls
        Speak TLS in this way; the server must be who its certificate says.
    """

    def __init__(
        self,
        address: PeerAddress,
        contexts: Sequence[tuple[str, Sequence[str]]],
        *,
        calling: str = "SCANNER",
        called: str = "DELINEATE",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # SOP class and transfer syntax of each accepted context -> its number.
        self.accepted: dict[tuple[str, str], int] = {}
        # SOP class of each context that was not accepted -> result (PS3.8 Table 9-18).
        self.refused: dict[str, int] = {}
        # What the peer takes in one PDU.
        self.peer_maximum_pdu = 0
        self._socket = socket.create_connection((address.host, address.port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=address.host)
        self._message_id = 0
        self._socket.sendall(_associate_request(contexts, calling, called))
        kind, answer = self._receive_pdu()
        if kind != 0x02:
            self._socket.close()
            raise RejectedError(f"PDU {kind:02X}: {answer.hex()}")
        self._read_acceptance(answer, contexts)

    def store(self, instance: Instance, *, message_id: int | None = None) -> Response:
        """Send one instance and wait for the answer."""
        self.send(instance, message_id=message_id)
        return self.response()

    def send(self, instance: Instance, *, message_id: int | None = None) -> None:
        """Send one instance without waiting."""
        context = self.accepted[instance.sop_class_uid, instance.transfer_syntax_uid]
        self._message_id = self._message_id + 1 if message_id is None else message_id
        self._send_command(context, instance, self._message_id)
        self._send_pdvs(context, instance.data_set, is_command=False)

    def echo(self) -> Response:
        """Ask for an answer."""
        self._message_id += 1
        elements = (
            (0x0002, _uid(VERIFICATION)),
            (0x0100, _number(C_ECHO_RQ)),
            (0x0110, _number(self._message_id)),
            (0x0800, _number(NO_DATA_SET)),
        )
        context = next(number for (sop_class, _), number in self.accepted.items() if sop_class == VERIFICATION)
        self._send_pdvs(context, _command(elements), is_command=True)
        return self.response()

    def response(self) -> Response:
        """Wait for the next response."""
        command = b""
        while True:
            kind, body = self._receive_pdu()
            if kind != 0x04:
                raise ConnectionError(f"PDU {kind:02X} instead of a response")
            command += body[6:]
            if body[5] & 2:
                break
        elements = dict(_elements(command))
        return Response(
            message_id=int.from_bytes(elements[0x0120], "little"),
            status=int.from_bytes(elements[0x0900], "little"),
            error_comment=elements.get(0x0902, b"").decode().rstrip("\0 "),
        )

    def release(self) -> None:
        """Release the association and close the connection."""
        self._socket.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        kind, _ = self._receive_pdu()
        self._socket.close()
        assert kind == 0x06, f"PDU {kind:02X} instead of the answer to a release"

    def send_half(self, instance: Instance) -> None:
        """Begin to send an instance and stop in the middle of a PDU."""
        context = self.accepted[instance.sop_class_uid, instance.transfer_syntax_uid]
        self._send_command(context, instance, self._message_id + 1)
        half = instance.data_set[: len(instance.data_set) // 2]
        self._socket.sendall(b"\x04\0" + (len(instance.data_set) + 6).to_bytes(4, "big"))
        self._socket.sendall((len(instance.data_set) + 2).to_bytes(4, "big") + bytes((context, 2)) + half)

    def vanish(self) -> None:
        """Reset the connection without a word."""
        _reset(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self._socket.close()

    def _send_command(self, context: int, instance: Instance, message_id: int) -> None:
        elements = (
            (0x0002, _uid(instance.sop_class_uid)),
            (0x0100, _number(C_STORE_RQ)),
            (0x0110, _number(message_id)),
            (0x0700, _number(0)),
            (0x0800, _number(0)),
            (0x1000, _uid(instance.sop_instance_uid)),
        )
        self._send_pdvs(context, _command(elements), is_command=True)

    def _send_pdvs(self, context: int, content: bytes, *, is_command: bool) -> None:
        most = (self.peer_maximum_pdu or 1 << 20) - 6
        pieces = [content[start : start + most] for start in range(0, len(content), most)] or [b""]
        for number, piece in enumerate(pieces, start=1):
            header = int(is_command) | 2 * (number == len(pieces))
            pdv = (len(piece) + 2).to_bytes(4, "big") + bytes((context, header)) + piece
            self._socket.sendall(b"\x04\0" + len(pdv).to_bytes(4, "big") + pdv)

    def _receive_pdu(self) -> tuple[int, bytes]:
        head = self._receive(6)
        return head[0], self._receive(int.from_bytes(head[2:6], "big"))

    def _receive(self, length: int) -> bytes:
        received = b""
        while len(received) < length:
            chunk = self._socket.recv(length - len(received))
            if not chunk:
                raise ConnectionError("the connection was closed")
            received += chunk
        return received

    def _read_acceptance(self, answer: bytes, contexts: Sequence[tuple[str, Sequence[str]]]) -> None:
        for kind, body in _items(answer[68:]):
            if kind == 0x21 and body[2] != 0:
                self.refused[contexts[body[0] // 2][0]] = body[2]
            elif kind == 0x21:
                ((_, syntax),) = _items(body[4:])
                self.accepted[contexts[body[0] // 2][0], syntax.decode().rstrip("\0")] = body[0]
            elif kind == 0x50:
                self.peer_maximum_pdu = int.from_bytes(dict(_items(body))[0x51], "big")


def knock(address: PeerAddress) -> None:
    """Open a connection and reset it, as health checks do."""
    _reset(socket.create_connection((address.host, address.port), timeout=30))


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _associate_request(contexts: Sequence[tuple[str, Sequence[str]]], calling: str, called: str) -> bytes:
    """Encode an A-ASSOCIATE-RQ: PS3.8 9.3.2."""
    body = b"\0\x01\0\0" + called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    body += _item(0x10, APPLICATION_CONTEXT.encode())
    for index, (sop_class, syntaxes) in enumerate(contexts):
        inner = _item(0x30, sop_class.encode()) + b"".join(_item(0x40, one.encode()) for one in syntaxes)
        body += _item(0x20, bytes((2 * index + 1, 0, 0, 0)) + inner)
    body += _item(0x50, _item(0x51, (16384).to_bytes(4, "big")) + _item(0x52, b"2.25.1"))
    return b"\x01\0" + len(body).to_bytes(4, "big") + body


def _item(kind: int, content: bytes) -> bytes:
    return bytes((kind, 0)) + len(content).to_bytes(2, "big") + content


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        length = int.from_bytes(content[2:4], "big")
        yield content[0], content[4 : 4 + length]
        content = content[4 + length :]


def _command(elements: Sequence[tuple[int, bytes]]) -> bytes:
    """Encode a command set: PS3.7 6.3.1, Implicit VR Little Endian, with its group length."""
    body = b"".join(_element(number, value) for number, value in elements)
    return _element(0x0000, len(body).to_bytes(4, "little")) + body


def _element(number: int, value: bytes) -> bytes:
    return b"\0\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    while command:
        length = int.from_bytes(command[4:8], "little")
        yield int.from_bytes(command[2:4], "little"), command[8 : 8 + length]
        command = command[8 + length :]


def _uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def _number(value: int) -> bytes:
    return value.to_bytes(2, "little")
