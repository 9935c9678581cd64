"""What tests, attacks and benches put on the wire is DICOM, as far as they mean it to be."""

import struct

from pynetdicom.pdu import A_ASSOCIATE_RQ

from tests.wire import (
    CT_IMAGE_STORAGE,
    DATA_SET,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LAST,
    Context,
    associate_request,
    command_set,
    fragments,
    status_of,
)


def pdus_of(stream: bytes) -> list[bytes]:
    """Cut a stream of P-DATA-TF PDUs into their bodies."""
    bodies = []
    while stream:
        pdu_type, length = struct.unpack_from(">BxL", stream)
        assert pdu_type == 0x04
        bodies.append(stream[6 : 6 + length])
        stream = stream[6 + length :]
    return bodies


def test_a_request_reads_as_what_it_proposes() -> None:
    request = A_ASSOCIATE_RQ()

    request.decode(
        associate_request(
            [Context(5, CT_IMAGE_STORAGE, (EXPLICIT_LITTLE, IMPLICIT_LITTLE))], called="THERE", calling="HERE"
        )
    )

    (context,) = request.presentation_context
    assert (request.called_ae_title, request.calling_ae_title) == ("THERE", "HERE")
    assert (context.context_id, context.abstract_syntax) == (5, CT_IMAGE_STORAGE)
    assert context.transfer_syntax == [EXPLICIT_LITTLE, IMPLICIT_LITTLE]


def test_fragments_are_as_long_as_the_acceptor_takes_and_the_last_says_so() -> None:
    message = bytes(range(256)) * 10

    bodies = pdus_of(fragments(3, DATA_SET, message, 1000))

    assert [len(body) for body in bodies] == [1000, 1000, 578]
    assert [body[4] for body in bodies] == [3, 3, 3]
    assert [body[5] for body in bodies] == [0, 0, LAST]
    assert b"".join(body[6:] for body in bodies) == message


def test_a_message_that_fills_its_pdus_has_no_empty_one_behind_it() -> None:
    assert len(pdus_of(fragments(3, DATA_SET, bytes(2 * 994), 1000))) == 2
    assert len(pdus_of(fragments(3, DATA_SET, b"", 1000))) == 1


def test_the_status_is_read_from_a_response() -> None:
    response = command_set({0x0100: b"\x01\x80", 0x0900: b"\x00\xa7", 0x0902: b"disk low"})

    assert status_of(response) == 0xA700
