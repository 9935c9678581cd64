"""The spooling transport and the lobby, against callers that no library would be."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from node.adapters import spooling
from node.adapters.inbox import Inbox
from node.adapters.scp_settings import ReceiverSettings
from node.adapters.spooling import TransportLimits
from node.adapters.storage_scp import Receiver
from node.dicom.command import encode_store_response, read_command
from node.domain.arrival import Arrival, Fragment, Reception, StoreAnswer
from node.domain.peers import AssociationPolicy
from node.stages.receive import begin
from tests import wire
from tests.builders import ct_series, grid
from tests.fakes import FakeObserver
from tests.unit.test_receive import encoded

CONTEXTS = (
    wire.Context(1, wire.CT_IMAGE_STORAGE, (wire.EXPLICIT_LITTLE,)),
    wire.Context(3, wire.VERIFICATION, (wire.IMPLICIT_LITTLE,)),
    wire.Context(5, "1.2.840.10008.5.1.4.1.1.4", (wire.EXPLICIT_LITTLE,)),
    # Nobody accepts it.
    wire.Context(7, "1.2.3.4.5", (wire.EXPLICIT_LITTLE,)),
)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A receiver that listens."""

    receiver: Receiver
    folder: Path
    observer: FakeObserver

    def call(self, **settings: Any) -> wire.Connection:
        """Open an association."""
        connection = wire.Connection(self.receiver.port, timeout_s=10)
        connection.associate(CONTEXTS, **settings)
        return connection

    def kept(self) -> list[str]:
        """Name every file in the inbox."""
        return sorted(str(one.relative_to(self.folder)) for one in self.folder.rglob("*") if one.is_file())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Give a function that starts a receiver; stopped at the end."""
    started: list[Receiver] = []

    def run(receive: Callable[[Arrival], Reception] | None = None, **changes: Any) -> Running:
        folder, observer = tmp_path / "inbox", FakeObserver()
        wanted = ReceiverSettings(
            host="127.0.0.1", port=0, association=AssociationPolicy(ae_title="DELINEATE"), transport="unchecked"
        )
        receive = receive or partial(begin, inbox=Inbox(folder, minimum_free_gb=0))
        receiver = Receiver(replace(wanted, **changes), begin=receive, observer=observer)
        receiver.start()
        started.append(receiver)
        return Running(receiver=receiver, folder=folder, observer=observer)

    yield run
    for receiver in started:
        receiver.stop()


@pytest.fixture
def node(start: Callable[..., Running]) -> Running:
    """Give a running receiver."""
    return start()


def image(number: int = 0) -> tuple[str, bytes]:
    """Give the SOP Instance UID and the encoded data set of a CT image."""
    dataset = ct_series(grid(slices=3))[number]
    return str(dataset.SOPInstanceUID), encoded(dataset)


def message(number: int = 0, *, maximum_length: int = 16_384) -> bytes:
    """Give a whole C-STORE request."""
    return wire.store_message(1, wire.CT_IMAGE_STORAGE, *image(number), maximum_length)


def ended(connection: wire.Connection) -> str:
    """Wait until the receiver ends the association; give how."""
    with pytest.raises(wire.PeerEnded) as raised:
        connection.status()
    return str(raised.value)


@pytest.mark.parametrize("maximum_length", [8, 13, 64, 1000, 16_384, 0])
def test_a_data_set_arrives_whole_however_it_is_cut_into_pdus(node: Running, maximum_length: int) -> None:
    with node.call() as caller:
        caller.send(message(maximum_length=maximum_length))
        assert caller.status() == 0x0000
        caller.release()

    (name,) = node.kept()
    assert (node.folder / name).read_bytes().endswith(image()[1])


@given(cuts=st.lists(st.integers(1, 4000), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_data_set_arrives_whole_however_it_is_cut_into_segments(node: Running, cuts: list[int]) -> None:
    whole = message() + wire.echo_message(3) + wire.release_request()
    with node.call() as caller:
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True):
            caller.send(whole[start:end])
            time.sleep(0.002)
        assert (caller.status(), caller.status()) == (0x0000, 0x0000)
        caller.receive(wire.RELEASE_RP)

    (name,) = node.kept()
    assert (node.folder / name).read_bytes().endswith(image()[1])


def test_several_pdvs_in_one_pdu_are_taken_apart(node: Running) -> None:
    uid, data_set = image()
    items = wire.pdv(1, wire.COMMAND | wire.LAST, wire.store_request(wire.CT_IMAGE_STORAGE, uid))
    items += wire.pdv(1, wire.DATA_SET, data_set[:100]) + wire.pdv(1, wire.DATA_SET, b"")
    items += wire.pdv(1, wire.DATA_SET | wire.LAST, data_set[100:])

    with node.call() as caller:
        caller.send(wire.pdu(wire.P_DATA, items))
        assert caller.status() == 0x0000


def test_messages_sent_without_waiting_are_answered_in_order(node: Running) -> None:
    with node.call() as caller:
        caller.send(message(0) + wire.echo_message(3) + message(1) + message(2) + wire.release_request())

        assert [caller.status() for _ in range(4)] == [0x0000] * 4
        caller.receive(wire.RELEASE_RP)

    assert len(node.kept()) == 3
    assert node.observer.wait_for_ends(1) == ["released"]


def test_the_answer_names_what_it_answers_and_why() -> None:
    command = read_command(wire.store_request("1.2.3", "1.2.3.45", message_id=517))

    encoded_response = encode_store_response(
        command, StoreAnswer(status=0xC000, error_comment="odd", offending_elements=(0x00080018, 0x7FE00010))
    )

    # PS3.7 9.3.1.2, Implicit VR Little Endian, even lengths; computed by hand.
    assert encoded_response.hex(" ") == (
        "00 00 00 00 04 00 00 00 62 00 00 00 "
        "00 00 02 00 06 00 00 00 31 2e 32 2e 33 00 "
        "00 00 00 01 02 00 00 00 01 80 "
        "00 00 20 01 02 00 00 00 05 02 "
        "00 00 00 08 02 00 00 00 01 01 "
        "00 00 00 09 02 00 00 00 00 c0 "
        "00 00 01 09 08 00 00 00 08 00 18 00 e0 7f 10 00 "
        "00 00 02 09 04 00 00 00 6f 64 64 20 "
        "00 00 00 10 08 00 00 00 31 2e 32 2e 33 2e 34 35"
    )


def test_an_answer_is_cut_for_a_peer_that_takes_only_small_pdus(node: Running) -> None:
    with wire.Connection(node.receiver.port) as caller:
        caller.send(wire.associate_request(CONTEXTS, maximum_length=50))
        caller.receive(wire.ASSOCIATE_AC)
        caller.send(message())

        lengths = [len(caller.receive(wire.P_DATA)) for _ in range(3)]

    assert max(lengths) <= 50


VIOLATIONS = {
    "an unknown PDU": (wire.pdu(0x09, b"1234"), "a PDU of type 09"),
    "a second request": (wire.associate_request(CONTEXTS), "a PDU of type 01"),
    "a P-DATA-TF of nothing": (wire.pdu(wire.P_DATA, b""), "a P-DATA-TF of 0 bytes"),
    "a P-DATA-TF of 4 GB": (wire.pdu(wire.P_DATA, b"1234", length=0xFFFFFFFF), "a P-DATA-TF of 4294967295 bytes"),
    "a PDV longer than its PDU": (
        wire.pdu(wire.P_DATA, wire.pdv(1, wire.COMMAND, b"x", length=1000)),
        "a PDV of 1000 bytes in 7 bytes",
    ),
    "a PDV of context only": (wire.pdu(wire.P_DATA, wire.pdv(1, wire.COMMAND, b"", length=1)), "a PDV of 1 bytes"),
    "bytes behind the PDV": (wire.pdu(wire.P_DATA, wire.pdv(1, wire.COMMAND, b"x") + b"ab"), "a PDV of 3 bytes in 9"),
    "a context that was not accepted": (wire.pdu(wire.P_DATA, wire.pdv(7, 3, b"x")), "context 7, which was not"),
    "a data set without command": (wire.pdu(wire.P_DATA, wire.pdv(1, 0, b"x")), "a data set without command"),
    "a command within a data set": (
        wire.fragments(1, wire.COMMAND, wire.store_request(wire.CT_IMAGE_STORAGE, "1.2.3"), 0)
        + wire.pdu(wire.P_DATA, wire.pdv(1, wire.DATA_SET, b"half"))
        + wire.echo_message(1),
        "a command within a data set",
    ),
    "a data set in another context": (
        wire.fragments(1, wire.COMMAND, wire.store_request(wire.CT_IMAGE_STORAGE, "1.2.3"), 0)
        + wire.pdu(wire.P_DATA, wire.pdv(5, wire.DATA_SET, b"half")),
        "changes its presentation context",
    ),
    "a command without end": (wire.fragments(1, wire.COMMAND, bytes(20_000), 0), "a command of more than 16384 bytes"),
    "a query": (
        wire.fragments(1, wire.COMMAND, wire.request(wire.C_FIND_RQ, sop_class_uid=wire.CT_IMAGE_STORAGE), 0),
        "command 0020, which a Storage SCP is not asked",
    ),
    "garbage for a command": (wire.fragments(1, wire.COMMAND, b"\xff" * 64, 0), "command 0000"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_who_breaks_the_rules_is_aborted_with_one_line_and_nothing_is_kept(node: Running, name: str) -> None:
    sent, reason = VIOLATIONS[name]
    with capture_logs() as logs, node.call() as caller, node.call() as honest:
        caller.send(sent)

        assert ended(caller) == "aborted"
        assert honest_goes_on(honest)
        node.observer.wait_for_ends(1)

    (line,) = [line for line in logs if line.get("ending") == "aborted" and "reason" in line]
    assert reason in line["reason"]
    assert len(node.kept()) == 1  # of the honest one


def honest_goes_on(caller: wire.Connection) -> bool:
    """Send an instance on another association."""
    caller.send(message())
    return caller.status() == 0x0000


@pytest.mark.parametrize(
    "half", [b"\x04\0\0", message()[:200], message()[:-1], wire.fragments(1, wire.COMMAND, b"x" * 40, 0)[:-1]]
)
def test_who_stops_in_the_middle_is_aborted_when_its_time_is_up(start: Callable[..., Running], half: bytes) -> None:
    node = start(limits=TransportLimits(message_timeout_s=1.0))
    with node.call() as caller:
        caller.send(half)

        assert ended(caller) == "aborted"

    assert node.kept() == []


def test_who_sends_a_byte_now_and_then_is_aborted_when_its_time_is_up(start: Callable[..., Running]) -> None:
    node = start(limits=TransportLimits(message_timeout_s=1.0))

    def trickle(caller: wire.Connection) -> None:
        for byte in message():
            caller.send(bytes([byte]))
            time.sleep(0.05)

    with node.call() as caller, pytest.raises((wire.PeerEnded, ConnectionError)):
        trickle(caller)

    assert node.kept() == []


def test_a_long_transfer_has_the_time_that_its_length_asks_for(start: Callable[..., Running]) -> None:
    node = start(limits=TransportLimits(message_timeout_s=1.0, slowest_bytes_per_s=1000.0))
    whole = message()
    with node.call() as caller:
        for start_at in range(0, len(whole), 400):
            caller.send(whole[start_at : start_at + 400])
            time.sleep(1.5 / (len(whole) / 400))

        assert caller.status() == 0x0000


def test_a_data_set_without_end_ends(start: Callable[..., Running]) -> None:
    node = start(limits=TransportLimits(largest_message_bytes=1_000_000))
    endless = wire.pdu(wire.P_DATA, wire.pdv(1, wire.DATA_SET, bytes(100_000)))
    command = wire.fragments(1, wire.COMMAND, wire.store_request(wire.CT_IMAGE_STORAGE, "1.2.3"), 0)

    with node.call() as caller, pytest.raises((wire.PeerEnded, ConnectionError)):
        caller.send(command + endless * 100)

    node.observer.wait_for_ends(1)
    assert node.kept() == []


@pytest.mark.parametrize("end", ["close", "reset", "abort"])
def test_who_leaves_in_the_middle_leaves_nothing(node: Running, end: str) -> None:
    for _ in range(20):
        caller = node.call()
        caller.send(message()[:-100])
        if end == "abort":
            caller.send(wire.abort())
        caller.reset() if end == "reset" else caller.close()

    assert node.observer.wait_for_ends(20) == ["aborted"] * 20
    wait_until(lambda: node.kept() == [])
    wait_until(lambda: threading.active_count() < 10)


def test_who_does_not_read_the_answers_holds_up_itself_only(start: Callable[..., Running]) -> None:
    node = start(limits=TransportLimits(message_timeout_s=1.0))
    deaf = node.call()
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.socket.settimeout(0.5)
    echoes = wire.echo_message(3) * 500_000
    with pytest.raises((TimeoutError, ConnectionError)):
        deaf.send(echoes)

    with node.call() as caller:
        assert honest_goes_on(caller)
    deaf.close()
    node.observer.wait_for_ends(2)


def test_an_idle_association_costs_next_to_nothing(node: Running) -> None:
    callers = [node.call() for _ in range(8)]
    before = time.process_time()
    time.sleep(1.0)

    used_s = time.process_time() - before

    assert used_s < 0.2  # pynetdicom's own polling takes more than that for each two of them
    for caller in callers:
        caller.release()


# The lobby -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"\x01\0\0", wire.associate_request(CONTEXTS)[:-1]])
def test_who_does_not_ask_in_time_is_closed(start: Callable[..., Running], said: bytes) -> None:
    node = start(association_timeout_s=0.5)
    with capture_logs() as logs, wire.Connection(node.receiver.port) as silent:
        silent.send(said)

        with pytest.raises(wire.PeerEnded):
            silent.peek()
        wait_until(lambda: any(line["event"] == "association rejected" for line in logs))

    (line,) = [line for line in logs if line["event"] == "association rejected"]
    assert line["reason"] == "it did not ask for an association within 0.5 s"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "what it said is no A-ASSOCIATE-RQ"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "what it said is no A-ASSOCIATE-RQ"),
        (message(), "what it said is no A-ASSOCIATE-RQ"),
        (wire.pdu(1, b"", length=0xFFFFFFFF), "its A-ASSOCIATE-RQ of 4294967301 bytes is out of all bounds"),
        (wire.pdu(1, b"", length=10), "its A-ASSOCIATE-RQ of 16 bytes is out of all bounds"),
    ],
)
def test_who_speaks_something_else_is_closed_at_once(node: Running, said: bytes, reason: str) -> None:
    with capture_logs() as logs, wire.Connection(node.receiver.port) as stranger:
        stranger.send(said)
        with pytest.raises(wire.PeerEnded):
            stranger.peek()
        wait_until(lambda: any(line["event"] == "association rejected" for line in logs))

    assert [line["reason"] for line in logs if line["event"] == "association rejected"] == [reason]


def test_silent_connections_take_nobodys_place(start: Callable[..., Running]) -> None:
    node = start(maximum_waiting=20)
    silent = [wire.Connection(node.receiver.port) for _ in range(60)]
    before = threading.active_count()

    with node.call() as caller:
        assert honest_goes_on(caller)
        assert threading.active_count() <= before + 2

    still_open = [is_open(one) for one in silent]
    # Those that waited longest went first, one more for the caller.
    assert still_open == [False] * 41 + [True] * 19
    for one in silent:
        one.close()


def is_open(connection: wire.Connection) -> bool:
    """Tell whether the other side has not closed."""
    connection.socket.settimeout(0.01)
    try:
        return connection.socket.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize("title", ["Ünfall", " ", "\x1b[31m\n\x07", "A\\B"])
def test_titles_that_are_none_are_rejected_and_do_no_harm_in_the_log(node: Running, title: str) -> None:
    with capture_logs() as logs:
        for titles in ({"calling": title}, {"called": title}):
            with wire.Connection(node.receiver.port) as caller, pytest.raises(wire.PeerEnded, match="rejected"):
                caller.associate(CONTEXTS, **titles)
        wait_until(lambda: len(logs) == 2)

    assert all(line["calling"].isascii() and line["calling"].isprintable() for line in logs)


BAD_CONTEXTS = {
    "none": [],
    "an even number": [wire.Context(2, wire.CT_IMAGE_STORAGE, (wire.EXPLICIT_LITTLE,))],
    "no transfer syntax": [wire.Context(1, wire.CT_IMAGE_STORAGE, ())],
    "no abstract syntax": [wire.Context(1, "", (wire.EXPLICIT_LITTLE,))],
    "a syntax that is no UID": [wire.Context(1, wire.CT_IMAGE_STORAGE, ("no uid",))],
}


@pytest.mark.parametrize("name", BAD_CONTEXTS)
def test_a_request_that_cannot_be_negotiated_is_aborted_at_once_or_answered(node: Running, name: str) -> None:
    before = threading.active_count()
    with wire.Connection(node.receiver.port, timeout_s=3) as caller:
        caller.send(wire.associate_request(BAD_CONTEXTS[name]))

        assert caller.peek() in (wire.ABORT, wire.ASSOCIATE_AC)

    wait_until(lambda: threading.active_count() <= before)


def test_associating_takes_no_turn_of_waiting(node: Running) -> None:
    def associated_s() -> float:
        before = time.perf_counter()
        node.call().release()
        return time.perf_counter() - before

    # Two turns of 0.1 s each would be lost if nobody woke the reactor.
    assert min(associated_s() for _ in range(5)) < 0.1


def test_nobody_is_let_in_beyond_the_limits(start: Callable[..., Running]) -> None:
    node = start(association=AssociationPolicy(ae_title="DELINEATE", maximum_associations_per_address=2))
    first, _second = node.call(), node.call()
    with wire.Connection(node.receiver.port) as third, pytest.raises(wire.PeerEnded, match="rejected"):
        third.associate(CONTEXTS)
    with wire.Connection(node.receiver.port, address="127.0.0.2") as neighbour:
        neighbour.associate(CONTEXTS)

    first.release()

    wait_until(lambda: gets_in(node))


def gets_in(node: Running) -> bool:
    """Try to open an association."""
    try:
        node.call().release()
    except wire.PeerEnded:
        return False
    return True


def test_a_fault_with_one_connection_is_not_that_of_the_others(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, capture_logs() as logs, wire.Connection(node.receiver.port) as caller:
        # As if no descriptor were left.
        patched.setattr(os, "eventfd", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        caller.send(wire.associate_request(CONTEXTS))
        with pytest.raises(wire.PeerEnded):
            caller.peek()
        wait_until(lambda: any("a fault of ours" in str(line.get("reason")) for line in logs))

    assert gets_in(node)


def test_an_observer_that_waits_keeps_nobody_out(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(node.observer, "association_rejected", lambda *_: go_on.wait(20))
    with wire.Connection(node.receiver.port) as caller, pytest.raises(wire.PeerEnded, match="rejected"):
        caller.associate(CONTEXTS, called=" ")

    assert gets_in(node)
    go_on.set()


# The check at the start ----------------------------------------------------------------------------------------------


def test_the_transport_is_proven_at_the_start(start: Callable[..., Running]) -> None:
    with capture_logs() as logs:
        start(transport="spooling")

    # A receiver of a test before may still say something.
    assert [line["transport"] for line in logs if "transport" in line] == ["spooling"]


def test_a_transport_that_does_not_work_here_is_replaced_and_said(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if another pynetdicom asked its socket in another way.
    monkeypatch.setattr(spooling.SpoolingSocket, "recv", lambda self, count: bytearray(count))

    with capture_logs() as logs:
        node = start(transport="spooling")

    (fall_back,) = [line for line in logs if line["event"] == "transport falls back"]
    assert (fall_back["log_level"], fall_back["now"]) == ("warning", "stock")
    assert fall_back["fault"]
    with node.call() as caller:
        caller.send(message())
        assert caller.status() == 0x0000


@dataclass
class Counting:
    """Receives nothing, and counts the largest piece."""

    sizes: list[int] = field(default_factory=list)

    def write(self, *fragments: Fragment) -> None:
        """Count."""
        self.sizes += map(len, fragments)

    def finish(self) -> StoreAnswer:
        """Refuse."""
        return StoreAnswer(status=0xA700)

    def abandon(self) -> None:
        """Keep nothing."""


def test_no_piece_is_larger_than_the_buffer_whatever_the_instance(start: Callable[..., Running]) -> None:
    counting = Counting()
    node = start(lambda _arrival: counting)
    with node.call() as caller:
        caller.send(wire.store_message(1, wire.CT_IMAGE_STORAGE, "1.2.3", bytes(20_000_000), 131_072))
        assert caller.status() == 0xA700

    assert sum(counting.sizes) == 20_000_000
    assert max(counting.sizes) <= spooling.BUFFER_BYTES


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until a condition holds, or fail."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "the condition never held"
        time.sleep(0.02)
