"""What attackers have in common: connections to the target, and what they saw of its reaction."""

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum

from scripts.attacks.images import CT, ct_contexts, ct_image
from scripts.attacks.target import PATIENT, Target
from tests.wire import (
    ASSOCIATE_AC,
    CT_IMAGE_STORAGE,
    P_DATA,
    RELEASE_RP,
    Connection,
    Context,
    store_message,
)

# Taken by every acceptor; what an attack sends well-formed is cut to this.
PDU_BYTES = 16_384
CALLING = "ATTACKER"
# Of which the honest sender, and what it sets in motion, may need more or less at any moment.
FEW_DESCRIPTORS = 6
# Another than the honest sender's: what a receiver allows each address, attackers may use up for theirs alone.
ADDRESS = "127.0.0.66"


class Reaction(Enum):
    """What the receiver did."""

    ANSWERED = "answered with success"
    REFUSED = "refused with another status; the association goes on"
    ENDED = "ended: a rejection, an abort, or the end of the connection"
    HELD = "nothing: the connection stays open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What attackers saw."""

    connections: int
    answered: int = 0
    # Messages or connections that were refused or ended.
    refused: int = 0
    held: int = 0
    # What was sent over the connections, where that is more than one thing each.
    messages: int = 0
    # What must not happen, and did.
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of it."""

    # Connections of the biggest crowd that only stands there, and of those that come one after the other.
    crowd: int
    passers_by: int
    resets: int
    aborts: int
    # What is called endless.
    endless_mb: int
    bomb_mb: int
    # Requests without reading an answer.
    unread: int


FULL = Scale(crowd=2000, passers_by=10_000, resets=1000, aborts=500, endless_mb=400, bomb_mb=1024, unread=16_000)
QUICK = Scale(crowd=300, passers_by=300, resets=100, aborts=40, endless_mb=300, bomb_mb=300, unread=5000)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where attackers act."""

    target: Target
    scale: Scale
    address: str = ADDRESS
    image: CT = field(default_factory=lambda: ct_image(32, patient_name=PATIENT))

    def elsewhere(self, number: int) -> "Scene":
        """Give the same scene with the attackers at one of 200 other addresses."""
        return replace(self, address=f"127.0.1.{number % 200 + 1}")

    def connect(self) -> Connection:
        """Open a TCP connection."""
        return Connection(self.target.port, address=self.address, timeout_s=10.0)

    def associated(self, contexts: Sequence[Context] | None = None) -> Connection:
        """Open an association that is as it should be, up to there."""
        caller = self.connect()
        try:
            caller.associate(contexts or ct_contexts(), calling=CALLING)
        except OSError:
            caller.close()
            raise
        return caller

    def store(
        self, data_set: bytes | None = None, *, sop_instance_uid: str | None = None, context_id: int = 1
    ) -> bytes:
        """Encode a C-STORE, of the attackers' image where nothing else is said."""
        uid = self.image.sop_instance_uid if sop_instance_uid is None else sop_instance_uid
        return store_message(
            context_id, CT_IMAGE_STORAGE, uid, self.image.data_set if data_set is None else data_set, PDU_BYTES
        )

    def descriptors(self) -> int:
        """Give how many file descriptors the receiver has open; 0 where it has ended."""
        signs = self.target.vital_signs()
        return 0 if signs is None else signs.descriptors

    def held_after(self, before: int, within_s: float) -> int:
        """Wait until the receiver has hardly more descriptors open than before; gives how many more it has."""
        deadline = time.monotonic() + within_s
        while (more := self.descriptors() - before) > FEW_DESCRIPTORS and time.monotonic() < deadline:
            time.sleep(0.2)
        return more if more > FEW_DESCRIPTORS else 0

    @property
    def patience_s(self) -> float:
        """Give how long the receiver may keep a connection from which nothing whole comes any more."""
        return self.target.longest_patience_s


@contextmanager
def many(opens: Callable[[], Connection], count: int) -> Iterator[list[Connection]]:
    """Open connections as far as they are let, and close them in the end."""
    opened: list[Connection] = []
    try:
        for _ in range(count):
            # A connection that is refused is no attack; how many there are is counted.
            with suppress(OSError):
                opened.append(opens())
        yield opened
    finally:
        for one in opened:
            one.close()


def each(scene: Scene, opens: Callable[[], Connection], messages: Sequence[bytes]) -> Outcome:
    """Send each message on a connection of its own; every one must be answered or ended."""
    with ThreadPoolExecutor(32) as pool:
        return tally(pool.map(lambda message: _one(scene, opens, message), messages))


def _one(scene: Scene, opens: Callable[[], Connection], message: bytes) -> Reaction:
    try:
        with opens() as caller:
            caller.send(message)
            return reaction_on(caller, scene.patience_s)
    except OSError:
        return Reaction.ENDED


def tally(reactions: Iterable[Reaction]) -> Outcome:
    """Count reactions of a connection each; one that is held is a fault."""
    seen = list(reactions)
    held = seen.count(Reaction.HELD)
    return Outcome(
        connections=len(seen),
        answered=seen.count(Reaction.ANSWERED),
        refused=seen.count(Reaction.REFUSED) + seen.count(Reaction.ENDED),
        held=held,
        faults=(f"{held} connections were neither answered nor ended",) if held else (),
    )


def reaction_on(caller: Connection, within_s: float) -> Reaction:
    """Wait for the next thing that the receiver does."""
    caller.socket.settimeout(within_s)
    try:
        pdu_type = caller.peek()
        if pdu_type == P_DATA:
            return Reaction.ANSWERED if caller.status() == 0x0000 else Reaction.REFUSED
        caller.receive(pdu_type)
    except TimeoutError:
        return Reaction.HELD
    except OSError:
        return Reaction.ENDED
    return Reaction.ANSWERED if pdu_type in (ASSOCIATE_AC, RELEASE_RP) else Reaction.ENDED


def until_ended(callers: Sequence[Connection], within_s: float) -> Outcome:
    """Wait until the receiver has ended all of these; those that it keeps are a fault."""
    poll = select.poll()
    waiting = {one.socket.fileno(): one.socket for one in callers if one.socket.fileno() >= 0}
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
    deadline = time.monotonic() + within_s
    while waiting and time.monotonic() < deadline:
        for descriptor, _ in poll.poll(200):
            if _has_ended(waiting[descriptor]):
                poll.unregister(descriptor)
                del waiting[descriptor]
    held = len(waiting)
    return Outcome(
        connections=len(callers),
        refused=len(callers) - held,
        held=held,
        faults=(f"{held} connections were held for more than {within_s:.0f} s",) if held else (),
    )


def _has_ended(one: socket.socket) -> bool:
    try:
        return not one.recv(65_536)
    except ConnectionError:
        return True
    except OSError:
        return False


def pour(caller: Connection, portion: bytes, limit_mb: float) -> float:
    """Send a portion again and again until the receiver ends the connection; gives the MB that it took.

    A receiver that stops reading without ending it is left after the connection's timeout.
    """
    limit, sent = limit_mb * 1e6, 0
    with suppress(OSError):
        while sent < limit:
            caller.send(portion)
            sent += len(portion)
    return sent / 1e6


def element(group: int, number: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """Encode an element in Explicit VR Little Endian (PS3.5 7.1.2); ``length`` may lie."""
    said = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHL", group, number, vr, 0, said) + value
    return struct.pack("<HH2sH", group, number, vr, said) + value
