"""Mutations: what an honest sender says, with bits flipped, lengths changed, pieces cut, doubled and spliced.

Deterministic: the same seed and number give the same bytes.
"""

import random
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from socket import SHUT_WR

from scripts.attacks.images import ct_contexts
from scripts.attacks.scene import CALLING, Outcome, Reaction, Scene, reaction_on, tally
from tests.wire import Connection, associate_request, echo_message, release_request

# As long as an honest answer may take on a busy machine; a connection that is held so long counts as hung.
PATIENCE_S = 10.0
AT_ONCE = 6
# Of mutated data sets, sent one after the other in an association that is as it should be.
PER_ASSOCIATION = 50
# Of ten mutations: whole conversations from the request on, P-DATA within an association, and data sets.
SHARES = (2, 2, 6)

_SIZES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(whole: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    """Change bytes in one to four places; most of the changes are near the beginning, where the structure is."""
    changed = bytearray(whole)
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        source.choice(_MUTATORS)(changed, others, source)
    return bytes(changed)


def _place(changed: bytearray, source: random.Random) -> int:
    reach = len(changed) if source.random() < 0.3 else min(len(changed), 700)
    return source.randrange(reach) if reach else 0


def _flip(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    if changed:
        changed[_place(changed, source)] ^= 1 << source.randrange(8)


def _overwrite(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    place = _place(changed, source)
    count = source.choice((1, 2, 4, 16))
    changed[place : place + count] = source.randbytes(count)


def _resize(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    """Write a number where a length might be, in either byte order and width."""
    form = source.choice(("<H", ">H", "<L", ">L"))
    value = source.choice(_SIZES) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
    place = _place(changed, source) & ~1
    changed[place : place + struct.calcsize(form)] = struct.pack(form, value)


def _resize_an_element(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    """Change the length of something that looks like an element: two capital letters and what follows."""
    places = [at for at in range(4, min(len(changed) - 4, 1500)) if changed[at : at + 2].isalpha()]
    if places:
        place = source.choice(places) + source.choice((2, 4))
        changed[place : place + 2] = struct.pack("<H", source.choice(_SIZES) & 0xFFFF)


def _truncate(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    del changed[_place(changed, source) :]


def _cut(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    place = _place(changed, source)
    del changed[place : place + source.choice((1, 2, 4, 6, 8, 12, 100))]


def _double(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    place, again = _place(changed, source), _place(changed, source)
    changed[again:again] = changed[place : place + source.choice((1, 4, 8, 12, 100, 1000))]


def _insert(changed: bytearray, _: Sequence[bytes], source: random.Random) -> None:
    place = _place(changed, source)
    changed[place:place] = source.randbytes(source.choice((1, 2, 8, 100)))


def _splice(changed: bytearray, others: Sequence[bytes], source: random.Random) -> None:
    other = source.choice(others)
    changed[_place(changed, source) :] = other[source.randrange(len(other)) :]


_MUTATORS: Sequence[Callable[[bytearray, Sequence[bytes], random.Random], None]] = (
    _flip,
    _flip,
    _overwrite,
    _resize,
    _resize,
    _resize_an_element,
    _truncate,
    _cut,
    _double,
    _insert,
    _splice,
)


def fuzz(scene: Scene, count: int, seed: int) -> Outcome:
    """Mutated requests, P-DATA and data sets, several connections at a time: each answered or ended.

    From many addresses: else most of it would end at what a receiver allows each.
    """
    parts = [count * share // sum(SHARES) for share in SHARES]
    recorded = [
        associate_request(ct_contexts(), calling=CALLING),
        echo_message(3),
        scene.store(),
        release_request(),
    ]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        conversations = pool.map(lambda n: [_conversation(scene.elsewhere(n), recorded, seed, n)], range(parts[0]))
        messages = pool.map(lambda n: [_message(scene.elsewhere(n), recorded, seed, n)], range(parts[1]))
        starts = range(0, parts[2], PER_ASSOCIATION)
        data_sets = pool.map(
            lambda n: _data_sets(
                scene.elsewhere(n // PER_ASSOCIATION), seed, range(n, min(n + PER_ASSOCIATION, parts[2]))
            ),
            starts,
        )
        of_data_sets = [reaction for some in data_sets for reaction in some]
        seen = tally([*of_data_sets, *(reaction for some in (*conversations, *messages) for reaction in some)])
    finally:
        # Whoever presses Ctrl-C need not wait for the rest.
        pool.shutdown(cancel_futures=True)
    ended = of_data_sets.count(Reaction.ENDED)
    unanswered = (f"{ended} associations were ended where a data set was to be refused",) if ended else ()
    return Outcome(
        connections=parts[0] + parts[1] + len(starts),
        messages=seen.connections,
        answered=seen.answered,
        refused=seen.refused,
        held=seen.held,
        faults=(*seen.faults, *unanswered),
    )


def _conversation(scene: Scene, recorded: Sequence[bytes], seed: int, number: int) -> Reaction:
    """Say all that an honest sender says, mutated somewhere; half of the mutations are in the request."""
    source = random.Random(f"conversation {seed} {number}")
    request, *rest = recorded
    whole = b"".join(rest)
    if source.random() < 0.5:
        said = mutated(request, recorded, source) + whole
    else:
        said = mutated(request + whole, recorded, source)
    return _say(scene.connect, said)


def _message(scene: Scene, recorded: Sequence[bytes], seed: int, number: int) -> Reaction:
    """Send a mutated echo or store, and a whole one after it, within an association that is as it should be."""
    source = random.Random(f"message {seed} {number}")
    return _say(scene.associated, mutated(source.choice(recorded[1:]), recorded, source) + recorded[1])


def _say(opens: Callable[[], Connection], said: bytes) -> Reaction:
    """Send and close our half: the receiver must end its own, whatever it waits for."""
    try:
        with opens() as caller:
            # The receiver may end the connection while it is still being spoken to.
            with suppress(OSError):
                caller.send(said)
                caller.socket.shutdown(SHUT_WR)
            first = last = reaction_on(caller, PATIENCE_S)
            while last in (Reaction.ANSWERED, Reaction.REFUSED):
                last = reaction_on(caller, PATIENCE_S)
            return Reaction.HELD if last is Reaction.HELD else first
    except OSError:
        return Reaction.ENDED


def _data_sets(scene: Scene, seed: int, numbers: range) -> list[Reaction]:
    """Send mutated data sets in C-STOREs that are as they should be; every one must be answered."""
    reactions = []
    caller: Connection | None = None
    for number in numbers:
        source = random.Random(f"data set {seed} {number}")
        said = scene.store(mutated(scene.image.data_set, [scene.image.data_set], source))
        try:
            caller = caller or scene.associated()
            caller.send(said)
            reactions.append(reaction_on(caller, PATIENCE_S))
        except OSError:
            reactions.append(Reaction.ENDED)
        if caller is not None and reactions[-1] is Reaction.ENDED:
            caller.close()
            caller = None
    if caller is not None:
        caller.close()
    return reactions
