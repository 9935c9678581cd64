"""What senders do: each pattern writes a `Sending` from a source of chance."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from sending import Sending, keyed, moved, multi_frame, slices, uniform

COUNT = 40


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One way of sending, and what is promised of it."""

    name: str
    write: Callable[[random.Random], Sending]
    # Of these columns: at most 3 s after the last instance, always.
    quick: frozenset[str] = frozenset()
    # False where nothing that can be known, not even habits, tells that more comes.
    knowable: bool = True
    # Another way in which the sender sent its earlier series.
    learned_from: Callable[[random.Random], Sending] | None = None


def one_association(chance: random.Random) -> Sending:
    """Send everything in one association."""
    sending = Sending(slices=slices())
    sending.send(range(COUNT), "a", uniform(chance, 0.02, 0.2))
    sending.end("a")
    return sending


def three_series(chance: random.Random) -> Sending:
    """Send ours first, then two others in the same association."""
    sending = Sending(slices=slices())
    sending.send(range(COUNT), "a", uniform(chance, 0.02, 0.2))
    sending.send_elsewhere(120, "a", uniform(chance, 0.02, 0.2))
    sending.end("a")
    return sending


def interleaved(chance: random.Random) -> Sending:
    """Send three series in turn in one association, ours getting one to four slices each time."""
    sending = Sending(slices=slices())
    index = 0
    while index < COUNT:
        block = range(index, min(COUNT, index + chance.randint(1, 4)))
        sending.send(block, "a", uniform(chance, 0.02, 0.2))
        sending.send_elsewhere(chance.randint(2, 8), "a", uniform(chance, 0.02, 0.2))
        index = block.stop
    sending.end("a")
    return sending


def blocks(chance: random.Random) -> Sending:
    """Send two series by turns in one association, in blocks of 20 of ours and 40 of the other."""
    sending = Sending(slices=slices())
    for start in range(0, COUNT, 20):
        sending.send(range(start, start + 20), "a", uniform(chance, 0.02, 0.2))
        sending.send_elsewhere(40, "a", uniform(chance, 0.02, 0.2))
    sending.end("a")
    return sending


def parallel(chance: random.Random) -> Sending:
    """Send over four associations at once."""
    sending = Sending(slices=slices())
    for index in range(COUNT):
        sending.send([index], "abcd"[chance.randrange(4) if index > 3 else index], uniform(chance, 0.01, 0.1))
    for name in "abcd":
        sending.end(name, after_s=chance.uniform(0.02, 0.2))
    return sending


def kept_open(chance: random.Random) -> Sending:
    """Release the association two minutes after the last slice."""
    sending = Sending(slices=slices())
    sending.send(range(COUNT), "a", uniform(chance, 0.02, 0.2))
    sending.end("a", after_s=120.0)
    return sending


def out_of_order(chance: random.Random) -> Sending:
    """Send the slices in any order in one association."""
    sending = Sending(slices=slices())
    sending.send(_shuffled(chance), "a", uniform(chance, 0.02, 0.2))
    sending.end("a")
    return sending


def per_image(longest_s: float) -> Callable[[random.Random], Sending]:
    """Send every image in an association of its own."""

    def write(chance: random.Random) -> Sending:
        sending = Sending(slices=slices())
        for index in range(COUNT):
            sending.send([index], str(index), uniform(chance, 0.05, longest_s))
            sending.end(str(index))
        return sending

    return write


def batches(pause_s: float, *, shuffled: bool = False, of: int = 10) -> Callable[[random.Random], Sending]:
    """Send a batch of slices per association, with pauses between."""

    def write(chance: random.Random) -> Sending:
        sending = Sending(slices=slices())
        order = _shuffled(chance) if shuffled else list(range(COUNT))
        for start in range(0, COUNT, of):
            sending.at += chance.uniform(0.7, 1.0) * pause_s if start else 0.0
            sending.send(order[start : start + of], str(start), uniform(chance, 0.02, 0.2))
            sending.end(str(start))
        return sending

    return write


def reconstructing(*, chunks: bool) -> Callable[[random.Random], Sending]:
    """Push slices while they are reconstructed, with a stall of up to 25 s somewhere."""

    def write(chance: random.Random) -> Sending:
        sending = Sending(slices=slices())
        stall = chance.randrange(8, COUNT - 8)
        for index in range(COUNT):
            name = str(index // 8) if chunks else "a"
            before = chance.uniform(18.0, 25.0) if index == stall - stall % (8 if chunks else 1) else 0.0
            if chunks and index % 8 == 0 and index:
                sending.end(str(index // 8 - 1))
            sending.at += before
            sending.send([index], name, uniform(chance, 0.3, 1.2))
        sending.end(str((COUNT - 1) // 8) if chunks else "a")
        return sending

    return write


def paused(pause_s: float, *, associations: int) -> Callable[[random.Random], Sending]:
    """Pause once in the middle of the series."""

    def write(chance: random.Random) -> Sending:
        sending = Sending(slices=slices())
        middle = chance.randrange(5, COUNT - 5)
        second = "b" if associations == 2 else "a"
        sending.send(range(middle), "a", uniform(chance, 0.02, 0.2))
        if associations == 2:
            sending.end("a")
        sending.at += pause_s * chance.uniform(0.8, 1.0)
        sending.send(range(middle, COUNT), second, uniform(chance, 0.02, 0.2))
        sending.end(second)
        return sending

    return write


def aborted(after_s: float) -> Callable[[random.Random], Sending]:
    """Abort in the middle, and send all again from the start."""

    def write(chance: random.Random) -> Sending:
        sending = Sending(slices=slices())
        sending.send(range(chance.randrange(5, COUNT - 5)), "a", uniform(chance, 0.02, 0.2))
        sending.end("a", "aborted")
        sending.at += after_s
        sending.send(range(COUNT), "b", uniform(chance, 0.02, 0.2))
        sending.end("b")
        return sending

    return write


def missing(chance: random.Random) -> Sending:
    """Lose one slice of the middle for ever."""
    sending = Sending(slices=slices(), becomes_whole=False)
    lost = chance.randrange(3, COUNT - 3)
    sending.send([index for index in range(COUNT) if index != lost], "a", uniform(chance, 0.02, 0.2))
    sending.end("a")
    return sending


def two_slabs(chance: random.Random) -> Sending:
    """Send two slabs of different spacing in one series: no volume."""
    half = COUNT // 2
    heights = [2.0 * index if index < half else 2.0 * half + 5.0 * (index - half) for index in range(COUNT)]
    sending = Sending(slices=slices(change=lambda index, one: moved(one, heights[index])), becomes_whole=False)
    sending.send(range(COUNT), "a", uniform(chance, 0.02, 0.2))
    sending.end("a")
    return sending


def with_archive(write: Callable[[random.Random], Sending]) -> Callable[[random.Random], Sending]:
    """Let an archive that holds the whole series be asked."""

    def written(chance: random.Random) -> Sending:
        sending = write(chance)
        sending.archive_count = COUNT
        return sending

    return written


def stating(count: int) -> Callable[[random.Random], Sending]:
    """State Images in Acquisition in every image."""

    def write(chance: random.Random) -> Sending:
        sending = one_association(chance)
        sending.slices = slices(change=lambda _, one: replace(one, images_in_acquisition=count))
        return sending

    return write


def step_and_shoot(chance: random.Random) -> Sending:
    """Send every rotation of 8 images, an acquisition that states its 8, in an association of its own."""
    sending = batches(4.0, of=8)(chance)
    sending.slices = slices(
        change=lambda index, one: replace(keyed(one, AcquisitionNumber=str(index // 8)), images_in_acquisition=8)
    )
    return sending


def four_phases(*, chunks: bool) -> Callable[[random.Random], Sending]:
    """Send four temporal positions of ten planes."""

    def write(chance: random.Random) -> Sending:
        sending = batches(10.0, of=10)(chance) if chunks else one_association(chance)
        sending.slices = slices(
            change=lambda index, one: keyed(moved(one, 2.0 * (index % 10)), TemporalPositionIdentifier=str(index // 10))
        )
        return sending

    return write


def one_object(chance: random.Random) -> Sending:
    """Send one multi-frame object."""
    sending = Sending(slices=multi_frame())
    sending.send([0], "a", uniform(chance, 0.5, 1.0))
    sending.end("a")
    return sending


def _shuffled(chance: random.Random) -> list[int]:
    order = list(range(COUNT))
    chance.shuffle(order)
    return order


LEARNED, EVIDENT, COUNTED = frozenset({"learned"}), frozenset({"learned", "settle"}), frozenset({"cold", "learned"})
ALL = frozenset({"cold", "settle", "learned"})

PATTERNS = (
    Pattern(name="one association", write=one_association, quick=EVIDENT),
    Pattern(name="three series in one association, ours first", write=three_series),
    Pattern(name="interleaved series in one association", write=interleaved, quick=EVIDENT),
    Pattern(name="the same in long blocks", write=blocks),
    Pattern(name="out of order, one association", write=out_of_order, quick=EVIDENT),
    Pattern(name="4 parallel associations", write=parallel, quick=LEARNED),
    Pattern(name="association kept open for 2 min", write=kept_open),
    Pattern(name="one association per image", write=per_image(0.6), quick=LEARNED),
    Pattern(name="per image, gaps of up to 4 s", write=per_image(4.0)),
    Pattern(name="batches, pauses of 3 s", write=batches(3.0)),
    Pattern(name="batches, pauses of 20 s", write=batches(20.0)),
    Pattern(name="batches out of order, pauses of 6 s", write=batches(6.0, shuffled=True)),
    Pattern(name="pushed while reconstructing, 25 s stall", write=reconstructing(chunks=False), quick=LEARNED),
    Pattern(name="the same, an association per chunk", write=reconstructing(chunks=True)),
    Pattern(name="pause of 40 s, one association", write=paused(40.0, associations=1), quick=LEARNED),
    Pattern(name="pause of 40 s, two associations", write=paused(40.0, associations=2)),
    Pattern(name="pause of 90 s, two associations", write=paused(90.0, associations=2)),
    Pattern(name="abort, sent again after 30 s", write=aborted(30.0)),
    Pattern(name="abort, sent again after 300 s", write=aborted(300.0), knowable=False),
    Pattern(
        name="used to one association, now two, 20 s apart",
        write=paused(20.0, associations=2),
        learned_from=one_association,
        knowable=False,
    ),
    Pattern(name="one slice missing for ever", write=missing),
    Pattern(name="two slabs of different spacing", write=two_slabs),
    Pattern(name="4 phases, one association", write=four_phases(chunks=False), quick=EVIDENT),
    Pattern(name="4 phases, an association each, 10 s apart", write=four_phases(chunks=True)),
    Pattern(name="one multi-frame object", write=one_object, quick=ALL),
    Pattern(name="images state their number", write=stating(COUNT), quick=ALL),
    Pattern(name="images state a larger number", write=stating(2 * COUNT)),
    Pattern(name="step and shoot, each rotation counted", write=step_and_shoot),
    Pattern(name="archive's count: batches, pauses of 20 s", write=with_archive(batches(20.0)), quick=ALL),
    Pattern(name="archive's count: kept open for 2 min", write=with_archive(kept_open), quick=ALL),
    Pattern(name="archive's count: abort, again after 300 s", write=with_archive(aborted(300.0)), quick=ALL),
    Pattern(name="archive's count: one slice missing for ever", write=with_archive(missing)),
)
