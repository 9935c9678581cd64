"""Attacks with well-formed PDUs whose messages are wrong, and with data sets that are too much."""

import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress

from scripts.attacks.scene import (
    PDU_BYTES,
    Outcome,
    Reaction,
    Scene,
    each,
    element,
    reaction_on,
    tally,
)
from tests.wire import (
    C_CANCEL_RQ,
    C_FIND_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA_SET,
    DEFLATED_LITTLE,
    LAST,
    N_ACTION_RQ,
    NO_DATA_SET,
    P_DATA,
    Connection,
    Context,
    command_set,
    echo_message,
    fragments,
    pdu,
    pdv,
    request,
    store_message,
    store_request,
)

UNDEFINED = 0xFFFFFFFF
DEEP = 20_000
# SQ of undefined length in (7FE1,1002), an item of undefined length in it, and what ends both.
OPENED = struct.pack("<HH2sHL", 0x7FE1, 0x1002, b"SQ", 0, UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
CLOSED = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def data_set_before_command(scene: Scene) -> Outcome:
    """A data set without command: aborted."""
    return each(scene, scene.associated, [fragments(1, DATA_SET, scene.image.data_set, PDU_BYTES)] * 3)


def interleaved_commands(scene: Scene) -> Outcome:
    """Two commands before the first has its data set; a command within a data set: answered or ended."""
    command = fragments(1, COMMAND, store_request(CT_IMAGE_STORAGE, scene.image.sop_instance_uid), PDU_BYTES)
    data_set = fragments(1, DATA_SET, scene.image.data_set, PDU_BYTES)
    begun = pdu(P_DATA, pdv(1, DATA_SET, scene.image.data_set[:100]))
    torn = pdu(P_DATA, pdv(1, COMMAND, b"\0\0") + pdv(3, COMMAND | LAST, b"\0\0"))
    messages = [command + command + data_set, command + begun + command, command + echo_message(3) + data_set, torn]
    return each(scene, scene.associated, messages)


def other_context(scene: Scene) -> Outcome:
    """A data set on another presentation context than its command: answered or ended, never stored."""
    command = fragments(1, COMMAND, store_request(CT_IMAGE_STORAGE, scene.image.sop_instance_uid), PDU_BYTES)
    return _never_stored(
        each(scene, scene.associated, [command + fragments(3, DATA_SET, scene.image.data_set, PDU_BYTES)] * 3)
    )


def unknown_context(scene: Scene) -> Outcome:
    """Messages on contexts that were never accepted, 0, even and 255: answered or ended, never stored."""
    return _never_stored(each(scene, scene.associated, [scene.store(context_id=one) for one in (0, 2, 5, 127, 255)]))


def _never_stored(outcome: Outcome) -> Outcome:
    if not outcome.answered:
        return outcome
    return Outcome(connections=outcome.connections, faults=(f"{outcome.answered} were answered with success",))


def incomplete_commands(scene: Scene) -> Outcome:
    """Commands without UIDs or fields, cut off, empty, or no commands at all: refused or ended."""
    uid = scene.image.sop_instance_uid
    whole = store_request(CT_IMAGE_STORAGE, uid)
    commands = [
        request(C_STORE_RQ, sop_class_uid=CT_IMAGE_STORAGE),
        request(C_STORE_RQ, sop_class_uid="", sop_instance_uid=uid),
        request(C_STORE_RQ, sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=""),
        request(C_STORE_RQ, sop_class_uid="1.2.3.4", sop_instance_uid=uid),
        request(0x7FFF, sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=uid),
        request(C_STORE_RQ | 0x8000, sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=uid),
        command_set({0x0100: struct.pack("<H", C_STORE_RQ)}),
        command_set({0x0100: b""}),
        command_set({}),
        whole[:-7],
        b"",
        b"\0" * 200,
        b"\xff" * 200,
        scene.image.data_set[:500],
    ]
    data_set = fragments(1, DATA_SET, scene.image.data_set, PDU_BYTES)
    return _never_stored(
        each(scene, scene.associated, [fragments(1, COMMAND, one, PDU_BYTES) + data_set for one in commands])
    )


def wrong_group_lengths(scene: Scene) -> Outcome:
    """Commands with another group length than theirs, or none: stored, refused or ended, for all is said."""
    whole = store_request(CT_IMAGE_STORAGE, scene.image.sop_instance_uid)
    commands = [whole[12:], *(whole[:8] + struct.pack("<L", said) + whole[12:] for said in (0, 1, 20, 0xFFFFFFFF))]
    data_set = fragments(1, DATA_SET, scene.image.data_set, PDU_BYTES)
    return each(scene, scene.associated, [fragments(1, COMMAND, one, PDU_BYTES) + data_set for one in commands])


def store_without_data_set(scene: Scene) -> Outcome:
    """A C-STORE that says that no data set follows, and one whose data set is empty: refused or ended."""
    none = request(
        C_STORE_RQ,
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid=scene.image.sop_instance_uid,
        data_set_type=NO_DATA_SET,
    )
    return _never_stored(
        each(scene, scene.associated, [fragments(1, COMMAND, none, PDU_BYTES), scene.store(b""), scene.store(b"\0")])
    )


def uids_that_are_paths(scene: Scene) -> Outcome:
    """UIDs `../../x`, absolute, with NULs, dots and line breaks, in command and data set: refused, no file outside."""
    uids = ("../../x", "/tmp/x", "1.2/../../x", "1.2\0.3", "..", ".", "1.2\n.3", "1.2.3\\x", "1" * 64 + "/../x", "ü.1")
    return _never_stored(
        each(scene, scene.associated, [scene.store(_named(scene, one), sop_instance_uid=one) for one in uids])
    )


def long_uids(scene: Scene) -> Outcome:
    """300 C-STOREs with UIDs of 70 characters in one association: each refused, none stored."""
    uids = [f"2.25.{10**64 + number}" for number in range(300)]
    return _never_stored(
        _in_one_association(scene, [scene.store(_named(scene, one), sop_instance_uid=one) for one in uids])
    )


def _named(scene: Scene, uid: str) -> bytes:
    """Give the attackers' data set with another SOP Instance UID, of any length and kind."""
    was = scene.image.sop_instance_uid.encode()
    now = uid.encode("utf-8")
    padded = (now + b"\0" * (len(now) % 2), was + b"\0" * (len(was) % 2))
    new, old = (element(0x0008, 0x0018, b"UI", value) for value in padded)
    assert old in scene.image.data_set
    return scene.image.data_set.replace(old, new, 1)


def other_services(scene: Scene) -> Outcome:
    """C-FIND, C-MOVE, C-GET, N-ACTION and N-CREATE at a storage SCP: refused or ended, none hangs."""
    query = element(0x0008, 0x0052, b"CS", b"STUDY ") + element(0x0020, 0x000D, b"UI", b"")
    return each(
        scene,
        scene.associated,
        [
            fragments(1, COMMAND, request(one, sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid="1.2.3"), PDU_BYTES)
            + fragments(1, DATA_SET, query, PDU_BYTES)
            for one in (C_FIND_RQ, C_MOVE_RQ, 0x0010, N_ACTION_RQ, 0x0140, 0x0100)
        ],
    )


def cancel_flood(scene: Scene) -> Outcome:
    """5,000 C-CANCELs for nothing, then an echo: answered or ended."""
    cancel = command_set(
        {
            0x0100: struct.pack("<H", C_CANCEL_RQ),
            0x0120: struct.pack("<H", 7),
            0x0800: struct.pack("<H", NO_DATA_SET),
        }
    )
    flood = fragments(1, COMMAND, cancel, PDU_BYTES) * 5000 + echo_message(3)
    return each(scene, scene.associated, [flood])


def without_waiting(scene: Scene) -> Outcome:
    """100 C-STOREs sent before the first is answered, though no window was agreed: answered or ended."""
    return _in_one_association(scene, [scene.store() * 100], answers=100)


def _in_one_association(scene: Scene, messages: Sequence[bytes], *, answers: int = 1) -> Outcome:
    """Send messages one after the other and wait for the answers of each; opens a new association where it ends."""
    reactions: list[Reaction] = []
    caller = None
    for message in messages:
        with suppress(OSError):
            caller = caller or scene.associated()
            caller.send(message)
        for _ in range(answers):
            reactions.append(reaction_on(caller, scene.patience_s) if caller is not None else Reaction.ENDED)
            if caller is not None and reactions[-1] is Reaction.ENDED:
                caller.close()
                caller = None
    if caller is not None:
        caller.close()
    seen = tally(reactions)
    return Outcome(
        connections=1,
        messages=len(reactions),
        answered=seen.answered,
        refused=seen.refused,
        held=seen.held,
        faults=seen.faults,
    )


def deep_sequences(scene: Scene) -> Outcome:
    """Sequences nested 20,000 deep, closed and not: answered, whatever the answer."""
    nested = OPENED * DEEP
    return each(
        scene, scene.associated, [scene.store(scene.image.data_set + one) for one in (nested + CLOSED * DEEP, nested)]
    )


def many_elements(scene: Scene) -> Outcome:
    """A million elements of no length, and as many items: answered, memory does not grow."""
    elements = element(0x7FE1, 0x1001, b"LO", b"") * 1_000_000
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 1_000_000
    sequence = element(0x7FE1, 0x1002, b"SQ", items)
    return each(scene, scene.associated, [scene.store(scene.image.data_set + one) for one in (elements, sequence)])


def element_of_200_mb(scene: Scene) -> Outcome:
    """One private element of 200 MB, and one that says 4 GB: answered or ended, memory does not grow."""
    size = scene.scale.endless_mb * 500_000
    large = element(0x7FE1, 0x1001, b"OB", bytes(size))
    lying = element(0x7FE1, 0x1001, b"OB", bytes(1000), length=0xFFFFFFF0)
    return each(scene, scene.associated, [scene.store(scene.image.data_set + one) for one in (large, lying)])


def deflate_bomb(scene: Scene) -> Outcome:
    """A data set of 1 MB that inflates to 1 GB: answered or ended, memory does not grow."""
    size = scene.scale.bomb_mb << 20
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    megabyte = bytes(1 << 20)
    bomb = [deflate.compress(scene.image.data_set + element(0x7FE1, 0x1001, b"OB", b"", length=size))]
    bomb += [deflate.compress(megabyte) for _ in range(scene.scale.bomb_mb)]
    bomb.append(deflate.flush())
    message = store_message(1, CT_IMAGE_STORAGE, scene.image.sop_instance_uid, b"".join(bomb), PDU_BYTES)

    def deflated() -> Connection:
        return scene.associated([Context(1, CT_IMAGE_STORAGE, (DEFLATED_LITTLE,))])

    return each(scene, deflated, [message] * 2)


BEHAVIOURS: Sequence[Callable[[Scene], Outcome]] = (
    data_set_before_command,
    interleaved_commands,
    other_context,
    unknown_context,
    incomplete_commands,
    wrong_group_lengths,
    store_without_data_set,
    uids_that_are_paths,
    long_uids,
    other_services,
    cancel_flood,
    without_waiting,
    deep_sequences,
    many_elements,
    element_of_200_mb,
    deflate_bomb,
)
