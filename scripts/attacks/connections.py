"""Attacks with connections: many, silent, slow, torn off. None of them says anything that must be understood."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from scripts.attacks.images import ct_contexts
from scripts.attacks.scene import CALLING, PDU_BYTES, Outcome, Scene, each, many, until_ended
from tests.wire import (
    COMMAND,
    CT_IMAGE_STORAGE,
    P_DATA,
    Connection,
    abort,
    associate_request,
    echo_message,
    fragments,
    pdu,
    pdv,
    store_request,
)


def silent_10(scene: Scene) -> Outcome:
    """10 connections that say nothing: ended after the association's timeout, the others served meanwhile."""
    return _silent(scene, 10)


def silent_300(scene: Scene) -> Outcome:
    """300 connections that say nothing: as 10."""
    return _silent(scene, 300)


def silent_crowd(scene: Scene) -> Outcome:
    """2,000 connections that say nothing: as 10."""
    return _silent(scene, scene.scale.crowd)


def _silent(scene: Scene, count: int) -> Outcome:
    with many(scene.connect, count) as callers:
        return until_ended(callers, scene.patience_s)


def three_bytes_then_silence(scene: Scene) -> Outcome:
    """50 connections that stop inside the PDU header: ended."""
    return _stalled(scene, scene.connect, associate_request(ct_contexts())[:3], count=50)


def stalled_request(scene: Scene) -> Outcome:
    """10 connections that stop inside the A-ASSOCIATE-RQ: ended."""
    return _stalled(scene, scene.connect, associate_request(ct_contexts(), calling=CALLING)[:-20], count=10)


def stalled_in_p_data(scene: Scene) -> Outcome:
    """10 associations that stop inside a P-DATA-TF PDU: ended after the message's timeout, nothing left on disk."""
    return _stalled(scene, scene.associated, scene.store()[:-200], count=10)


def stalled_before_data_set(scene: Scene) -> Outcome:
    """10 associations that stop between command and data set: ended after the message's timeout."""
    command = store_request(CT_IMAGE_STORAGE, scene.image.sop_instance_uid)
    return _stalled(scene, scene.associated, fragments(1, COMMAND, command, PDU_BYTES), count=10)


def stalled_between_fragments(scene: Scene) -> Outcome:
    """10 associations that stop between two PDUs of a data set: ended after the message's timeout."""
    command = store_request(CT_IMAGE_STORAGE, scene.image.sop_instance_uid)
    begun = fragments(1, COMMAND, command, PDU_BYTES) + pdu(P_DATA, pdv(1, 0, scene.image.data_set[:500]))
    return _stalled(scene, scene.associated, begun, count=10)


def _stalled(scene: Scene, opens: Callable[[], Connection], message: bytes, *, count: int) -> Outcome:
    with many(opens, count) as callers:
        for one in callers:
            with suppress(OSError):
                one.send(message)
        return until_ended(callers, scene.patience_s)


def one_byte_per_second(scene: Scene) -> Outcome:
    """10 requests and 10 P-DATA that come one byte a second: ended, for a PDU as a whole has a time to arrive."""
    request, message = associate_request(ct_contexts(), calling=CALLING), scene.store()
    with many(scene.connect, 10) as strangers, many(scene.associated, 10) as callers:
        deadline, position = time.monotonic() + scene.patience_s, 0
        ended: set[int] = set()
        while time.monotonic() < deadline and len(ended) < len(strangers) + len(callers):
            for number, one in enumerate((*strangers, *callers)):
                stream = request if number < len(strangers) else message
                try:
                    one.send(stream[position : position + 1])
                except OSError:
                    ended.add(number)
            position += 1
            time.sleep(1.0)
        everybody = len(strangers) + len(callers)
        held = everybody - len(ended)
        faults = (f"{held} connections were held for more than {scene.patience_s:.0f} s",) if held else ()
        return Outcome(connections=everybody, refused=len(ended), held=held, faults=faults)


def idle_associations(scene: Scene) -> Outcome:
    """10 associations that say nothing after an echo: kept for the idle timeout, the others served meanwhile."""
    with many(scene.associated, 10) as callers:
        for one in callers:
            one.send(echo_message(3))
            one.status()
        ended = until_ended(callers, scene.patience_s)
        if "idle_timeout_s" in scene.target.timeouts:
            return ended
        # No timeout that one could wait for: being held is as it should be.
        return Outcome(connections=len(callers), answered=len(callers))


def connect_and_reset(scene: Scene) -> Outcome:
    """1,000 connections that are reset at once, as health checks do: nothing stays."""
    for _ in range(scene.scale.resets):
        with suppress(OSError):
            scene.connect().reset()
    return Outcome(connections=scene.scale.resets)


def associate_and_reset(scene: Scene) -> Outcome:
    """Associations that are reset before they are answered: nothing stays."""
    request = associate_request(ct_contexts(), calling=CALLING)
    for _ in range(scene.scale.resets // 4):
        with suppress(OSError):
            caller = scene.connect()
            caller.send(request)
            caller.reset()
    return Outcome(connections=scene.scale.resets // 4)


def aborted_data_sets(scene: Scene) -> Outcome:
    """500 data sets that end in the middle, by abort, reset or end of stream: no file and no descriptor stays."""
    begun = scene.store()[: -len(scene.image.data_set) // 2]
    refused = 0
    for number in range(scene.scale.aborts):
        try:
            caller = scene.associated()
            caller.send(begun)
            if number % 3 == 0:
                caller.send(abort())
            if number % 3 == 1:
                caller.reset()
            caller.close()
        except OSError:
            refused += 1
    return Outcome(connections=scene.scale.aborts, refused=refused)


def half_closed(scene: Scene) -> Outcome:
    """20 associations whose sender closes its half in the middle of a data set: ended at once."""
    with many(scene.associated, 20) as callers:
        for one in callers:
            with suppress(OSError):
                one.send(scene.store()[:-100])
                one.socket.shutdown(socket.SHUT_WR)
        return until_ended(callers, scene.patience_s)


def never_reading(scene: Scene) -> Outcome:
    """16,000 echoes and stores whose answers are never read: memory does not grow, the receiver lets go in the end."""
    flood = echo_message(3) * 50 + scene.store()
    before = scene.descriptors()
    with many(scene.associated, 4) as callers:
        sent = 0
        for one in callers:
            one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.socket.settimeout(2.0)
            with suppress(OSError):
                for _ in range(scene.scale.unread // (4 * 51)):
                    one.send(flood)
                    sent += 51
        # Who does not read does not see the end: the receiver's own descriptors tell whether it still holds them.
        held = scene.held_after(before, 3 * scene.patience_s)
    if "idle_timeout_s" not in scene.target.timeouts:
        held = 0
    faults = (f"{held} descriptors were held for {3 * scene.patience_s:.0f} s",) if held else ()
    return Outcome(connections=len(callers), held=held, messages=sent, faults=faults)


def connect_storm(scene: Scene) -> Outcome:
    """200 connects at the same moment, then 200 associations, 32 at a time: each answered or rejected, none hangs."""
    storm = [socket.socket() for _ in range(200)]
    for one in storm:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", scene.target.port))
    for one in storm:
        one.close()
    return each(scene, scene.connect, [associate_request(ct_contexts(), calling=CALLING)] * 200)


def tls_and_http(scene: Scene) -> Outcome:
    """TLS and HTTP on the DICOM port, as scanners of networks do: ended."""
    hello = bytes.fromhex("16030100c8010000c40303") + random.Random(1).randbytes(196)
    http = b"GET / HTTP/1.1\r\nHost: delineate\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"
    return each(scene, scene.connect, [hello, http, b"\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"{}\n"] * 4)


def garbage(scene: Scene) -> Outcome:
    """10,000 connections with random bytes, closed at once: memory does not grow."""
    source, refused = random.Random(2), 0
    for _ in range(scene.scale.passers_by):
        try:
            with scene.connect() as caller:
                caller.send(source.randbytes(source.choice((1, 5, 6, 7, 100, 2000))))
        except OSError:
            refused += 1
    return Outcome(connections=scene.scale.passers_by, refused=refused)


BEHAVIOURS = (
    silent_10,
    silent_300,
    silent_crowd,
    three_bytes_then_silence,
    stalled_request,
    stalled_in_p_data,
    stalled_before_data_set,
    stalled_between_fragments,
    one_byte_per_second,
    idle_associations,
    connect_and_reset,
    associate_and_reset,
    aborted_data_sets,
    half_closed,
    never_reading,
    connect_storm,
    tls_and_http,
    garbage,
)
