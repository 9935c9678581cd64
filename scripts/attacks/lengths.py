"""Attacks with lengths and numbers: PDUs, items and PDVs that announce what is not there, or never end."""

from collections.abc import Sequence

from scripts.attacks.images import ct_contexts
from scripts.attacks.scene import CALLING, PDU_BYTES, Outcome, Reaction, Scene, each, pour, reaction_on, tally
from tests.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA_SET,
    EXPLICIT_LITTLE,
    LAST,
    P_DATA,
    RELEASE_RP,
    Connection,
    Context,
    associate_head,
    associate_request,
    echo_message,
    fragments,
    pdu,
    pdv,
    release_request,
    store_request,
)

PORTION = bytes(1 << 20)


def first_pdu_of_4_gb(scene: Scene) -> Outcome:
    """A first PDU of 0xFFFFFFFF bytes, and bytes without end: ended early, memory does not grow."""
    return _poured(scene, [pdu(one, b"", length=0xFFFFFFFF) for one in (ASSOCIATE_RQ, P_DATA)], associate=False)


def request_of_1_gb(scene: Scene) -> Outcome:
    """An A-ASSOCIATE-RQ that announces 1 GB, begun as it should be: ended early."""
    begun = associate_request(ct_contexts(), calling=CALLING, length=1 << 30)
    return _poured(scene, [begun], associate=False)


def p_data_of_4_gb(scene: Scene) -> Outcome:
    """A P-DATA-TF of 0xFFFFFFFF bytes within an association, far above the maximum length: ended early."""
    header = pdu(P_DATA, b"", length=0xFFFFFFFF)
    return _poured(scene, [header, header + pdv(1, DATA_SET, b"", length=0xFFFFFFF0)], associate=True)


def endless_data_set(scene: Scene) -> Outcome:
    """A data set whose last fragment never comes: ended at the largest object, nothing left on disk."""
    command = fragments(1, COMMAND, store_request(CT_IMAGE_STORAGE, scene.image.sop_instance_uid), PDU_BYTES)
    return _poured(
        scene, [command], associate=True, portion=_fragments_without_end(DATA_SET, scene.image.data_set[:1000])
    )


def endless_command_set(scene: Scene) -> Outcome:
    """A command set whose last fragment never comes: ended early, memory does not grow."""
    return _poured(scene, [b""], associate=True, portion=_fragments_without_end(COMMAND, b""))


def _fragments_without_end(control: int, first: bytes) -> bytes:
    return pdu(P_DATA, pdv(1, control, first.ljust(PDU_BYTES - 6, b"\0"))) * 64


def _poured(scene: Scene, messages: Sequence[bytes], *, associate: bool, portion: bytes = PORTION) -> Outcome:
    reactions, swallowed = [], 0.0
    for message in messages:
        with scene.associated() if associate else scene.connect() as caller:
            caller.send(message)
            taken_mb = pour(caller, portion, scene.scale.endless_mb)
            swallowed = max(swallowed, taken_mb)
            ended = taken_mb < scene.scale.endless_mb
            reactions.append(Reaction.ENDED if ended else Reaction.HELD)
    outcome = tally(reactions)
    if outcome.held:
        fault = f"it went on to take {swallowed:.0f} MB"
        return Outcome(connections=len(messages), held=outcome.held, refused=outcome.refused, faults=(fault,))
    return outcome


def empty_pdus(scene: Scene) -> Outcome:
    """PDUs of length 0 of every type, before and within an association: answered or ended."""
    return _both(scene, [pdu(one, b"") for one in range(1, 8)])


def unknown_pdus(scene: Scene) -> Outcome:
    """PDU types that do not exist, before and within an association: aborted (PS3.8 9.2, AA-8)."""
    return _both(scene, [pdu(one, bytes(10)) for one in (0x00, 0x08, 0x42, 0x80, 0xFF)])


def pdus_of_the_other_side(scene: Scene) -> Outcome:
    """Answers where a request is due, A-ASSOCIATE-AC and -RJ, A-RELEASE-RP, A-ABORT: ended."""
    accept = pdu(ASSOCIATE_AC, associate_head("DELINEATE", CALLING))
    reject = pdu(ASSOCIATE_RJ, bytes((0, 1, 1, 1)))
    return _both(scene, [accept, reject, pdu(RELEASE_RP, bytes(4)), pdu(ABORT, bytes(4))])


def before_the_association(scene: Scene) -> Outcome:
    """P-DATA and A-RELEASE-RQ before any association: ended."""
    return each(scene, scene.connect, [echo_message(3), scene.store(), release_request()] * 3)


def second_request(scene: Scene) -> Outcome:
    """A second A-ASSOCIATE-RQ within an association, alone and inside a message: aborted."""
    request = associate_request(ct_contexts(), calling=CALLING)
    begun = scene.store()[:-500]
    return each(scene, scene.associated, [request, request * 3, begun + request, release_request() + request])


def wrong_pdvs(scene: Scene) -> Outcome:
    """PDVs without control header, of length 0 and 1, longer than their PDU, and a P-DATA of none: ended."""
    bodies = [
        pdv(1, 0, b"", length=0),
        pdv(1, 0, b"", length=1),
        b"\0\0\0\1\1",
        pdv(1, COMMAND | LAST, b"", length=2),
        pdv(1, DATA_SET, bytes(100), length=0xFFFFFFFF),
        pdv(1, DATA_SET, bytes(100), length=103),
        pdv(1, DATA_SET, bytes(100)) + b"\0\0",
        pdv(1, 0xFC, bytes(100)),
        b"",
    ]
    return each(scene, scene.associated, [pdu(P_DATA, body) for body in bodies])


def longer_than_agreed(scene: Scene) -> Outcome:
    """P-DATA longer than the maximum that the receiver gave, by one byte and by 8 MB: answered or ended."""
    with scene.connect() as caller:
        largest = caller.associate(ct_contexts(), calling=CALLING).maximum_length or PDU_BYTES
    command = fragments(1, COMMAND, store_request(CT_IMAGE_STORAGE, scene.image.sop_instance_uid), PDU_BYTES)
    longer = [pdu(P_DATA, pdv(1, DATA_SET | LAST, bytes(size))) for size in (largest - 5, 8 << 20)]
    return each(scene, scene.associated, [command + one for one in longer])


def malformed_requests(scene: Scene) -> Outcome:
    """A-ASSOCIATE-RQs without items, with items longer than themselves, other versions, no contexts: ended."""
    head = associate_head("DELINEATE", CALLING)
    whole = associate_request(ct_contexts(), calling=CALLING)
    bodies = [
        b"",
        head,
        head[:40],
        head + b"\x10\0\xff\xff" + b"1.2",
        head + b"\x20\0\x00\x01\x01",
        head + b"\x20\0\x00\x04\x01\0\0\0",
        head + b"\x50\0\x00\x04\x51\0\xff\xff",
        head + b"\x50\0\x00\x08\x51\0\x00\x04" + bytes(4),
        head + bytes(60_000),
        b"\0\0" + whole[8:],
        b"\xff\xff" + whole[8:],
        whole[6:] + b"\x99\0\0\5hello",
        whole[6:] + b"\x10\0\0\0" * 10_000,
    ]
    return each(scene, scene.connect, [pdu(ASSOCIATE_RQ, body) for body in bodies] + [associate_request([])])


def crowded_request(scene: Scene) -> Outcome:
    """128 presentation contexts with 60 transfer syntaxes each, twice the same ids, even ids: answered or ended."""
    syntaxes = (*(f"1.2.840.10008.1.2.4.{number}" for number in range(200, 259)), EXPLICIT_LITTLE)
    crowd = [Context(number, CT_IMAGE_STORAGE, syntaxes) for number in range(1, 256, 2)]
    even = [Context(number, CT_IMAGE_STORAGE, syntaxes[-1:]) for number in range(256)]
    same = [Context(1, CT_IMAGE_STORAGE, syntaxes[-1:])] * 500
    none = [Context(1, CT_IMAGE_STORAGE, ()), Context(3, "", (EXPLICIT_LITTLE,)), Context(5, "x" * 9000, ("y" * 9000,))]
    return each(scene, scene.connect, [associate_request(one) for one in (crowd, even, same, none)])


def absurd_titles(scene: Scene) -> Outcome:
    """AE titles of spaces, NULs, line breaks, escape sequences, paths: answered or rejected, none forges the log."""
    titles = (
        " " * 16, "\0" * 16, "A\nFORGED line", "\r\nFORGED", "\x1b[31mRED", "äöüß€", "../../etc/x", "%s%n%d{}", "\\",
        '"};DROP', "\u2028FORGED",
    )  # fmt: skip

    def once(title: str) -> Reaction:
        try:
            with scene.connect() as caller:
                caller.associate(ct_contexts(), called=title, calling=title)
                # Refused, so that a log line tells of it.
                caller.send(scene.store(b"x"))
                return reaction_on(caller, scene.patience_s)
        except OSError:
            return Reaction.ENDED

    return tally(map(once, titles))


def _both(scene: Scene, messages: Sequence[bytes]) -> Outcome:
    """Send each message to a receiver that has not been called yet, and within an association."""

    def once(message: bytes, caller: Connection) -> Reaction:
        with caller:
            caller.send(message)
            # What is within the bounds of the protocol goes unanswered; its end shows that it was understood.
            caller.send(release_request())
            return reaction_on(caller, scene.patience_s)

    reactions = []
    for opens in (scene.connect, scene.associated):
        for message in messages:
            try:
                reactions.append(once(message, opens()))
            except OSError:
                reactions.append(Reaction.ENDED)
    return tally(reactions)


BEHAVIOURS = (
    first_pdu_of_4_gb,
    request_of_1_gb,
    p_data_of_4_gb,
    endless_data_set,
    endless_command_set,
    empty_pdus,
    unknown_pdus,
    pdus_of_the_other_side,
    before_the_association,
    second_request,
    wrong_pdvs,
    longer_than_agreed,
    malformed_requests,
    crowded_request,
    absurd_titles,
)
