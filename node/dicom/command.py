"""Commands as bytes: what a Storage SCP reads of a request, and the responses that it writes (PS3.7 6.3, 9.3)."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from node.domain.arrival import StoreAnswer

# PS3.8 9.3.5: type and length of a PDU.
P_DATA = 0x04
PDU_HEADER = struct.Struct(">BxL")
# PS3.8 9.3.5.1 and E.2: length, presentation context, message control header.
PDV_HEADER = struct.Struct(">LBB")
IS_COMMAND, IS_LAST = 1, 2
# PS3.7 E.1: Command Field. What a Storage SCP is asked, and what an SCU of Storage Commitment is told.
C_STORE_RQ, C_STORE_RSP, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x8001, 0x0030, 0x0FFF
N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
_NO_DATA_SET = 0x0101
_VERIFICATION_CLASS = "1.2.840.10008.1.1"
# PS3.7 6.3.1: commands are Implicit VR Little Endian, elements of group 0000.
_ELEMENT = struct.Struct("<HHL")
_AFFECTED_SOP_CLASS_UID, _COMMAND_FIELD, _MESSAGE_ID, _MESSAGE_ID_RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _OFFENDING_ELEMENT, _ERROR_COMMENT = 0x0800, 0x0900, 0x0901, 0x0902
_AFFECTED_SOP_INSTANCE_UID, _EVENT_TYPE_ID = 0x1000, 0x1002


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a command set says that decides about its data set; texts as sent, without padding."""

    field: int
    message_id: int
    has_data_set: bool
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    # Of an N-EVENT-REPORT; 0 of others.
    event_type: int = 0


def read_command(encoded: bytes | bytearray) -> Command:
    """Read a command set as far as deciding needs it; a damaged one reads as an unknown command."""
    values: dict[int, bytes] = {}
    position = 0
    while position + _ELEMENT.size <= len(encoded):
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group == 0:
            values[element] = bytes(encoded[position : position + length])
        position += length
    return Command(
        field=_number(values.get(_COMMAND_FIELD), otherwise=0),
        message_id=_number(values.get(_MESSAGE_ID), otherwise=0),
        has_data_set=_number(values.get(_DATA_SET_TYPE), otherwise=_NO_DATA_SET) != _NO_DATA_SET,
        affected_sop_class_uid=_text(values.get(_AFFECTED_SOP_CLASS_UID)),
        affected_sop_instance_uid=_text(values.get(_AFFECTED_SOP_INSTANCE_UID)),
        event_type=_number(values.get(_EVENT_TYPE_ID), otherwise=0),
    )


def _number(value: bytes | None, *, otherwise: int) -> int:
    return otherwise if value is None or len(value) != 2 else int.from_bytes(value, "little")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("ascii", errors="replace").strip("\0 ")


def encode_echo_request(command: Command) -> bytes:
    """Encode the command set of a C-ECHO-RQ, PS3.7 9.3.5.1."""
    elements = (
        (_AFFECTED_SOP_CLASS_UID, _padded(_VERIFICATION_CLASS, b"\0")),
        (_COMMAND_FIELD, C_ECHO_RQ.to_bytes(2, "little")),
        (_MESSAGE_ID, command.message_id.to_bytes(2, "little")),
        (_DATA_SET_TYPE, _NO_DATA_SET.to_bytes(2, "little")),
    )
    return _encoded(elements)


def encode_store_response(command: Command, answer: StoreAnswer) -> bytes:
    """Encode the command set of a C-STORE-RSP, PS3.7 9.3.1.2."""
    offending = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in answer.offending_elements)
    elements = (
        (_AFFECTED_SOP_CLASS_UID, _padded(command.affected_sop_class_uid, b"\0")),
        (_COMMAND_FIELD, C_STORE_RSP.to_bytes(2, "little")),
        (_MESSAGE_ID_RESPONDED_TO, command.message_id.to_bytes(2, "little")),
        (_DATA_SET_TYPE, _NO_DATA_SET.to_bytes(2, "little")),
        (_STATUS, answer.status.to_bytes(2, "little")),
        (_OFFENDING_ELEMENT, offending),
        (_ERROR_COMMENT, _padded(answer.error_comment, b" ")),
        (_AFFECTED_SOP_INSTANCE_UID, _padded(command.affected_sop_instance_uid, b"\0")),
    )
    return _encoded(elements)


def encode_event_report_response(command: Command, answer: StoreAnswer) -> bytes:
    """Encode the command set of an N-EVENT-REPORT-RSP, PS3.7 10.3.1.2."""
    elements = (
        (_AFFECTED_SOP_CLASS_UID, _padded(command.affected_sop_class_uid, b"\0")),
        (_COMMAND_FIELD, N_EVENT_REPORT_RSP.to_bytes(2, "little")),
        (_MESSAGE_ID_RESPONDED_TO, command.message_id.to_bytes(2, "little")),
        (_DATA_SET_TYPE, _NO_DATA_SET.to_bytes(2, "little")),
        (_STATUS, answer.status.to_bytes(2, "little")),
        (_ERROR_COMMENT, _padded(answer.error_comment, b" ")),
        (_AFFECTED_SOP_INSTANCE_UID, _padded(command.affected_sop_instance_uid, b"\0")),
        (_EVENT_TYPE_ID, command.event_type.to_bytes(2, "little")),
    )
    return _encoded(elements)


def _encoded(elements: Iterable[tuple[int, bytes]]) -> bytes:
    encoded = b"".join(_ELEMENT.pack(0, element, len(value)) + value for element, value in elements if value)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(encoded)) + encoded


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", errors="replace")
    return value + padding * (len(value) % 2)


def p_data_tf(context_id: int, command: bytes, *, largest: int = 0) -> Iterator[bytes]:
    """Encode a command as P-DATA-TF, in several where the peer takes only small ones; 0: any."""
    size = max(largest - PDV_HEADER.size, 1) if largest else len(command)
    for start in range(0, len(command), size):
        piece = command[start : start + size]
        control = IS_COMMAND | (IS_LAST if start + size >= len(command) else 0)
        yield (
            PDU_HEADER.pack(P_DATA, PDV_HEADER.size + len(piece))
            + PDV_HEADER.pack(2 + len(piece), context_id, control)
            + piece
        )
