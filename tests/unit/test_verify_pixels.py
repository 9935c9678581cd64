"""Pixels against what they are to be: every bit and number counts, also where frames begin within a word."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from node.dicom.verify_pixels import bits_above, changed_bits, changed_numbers, stored_bits
from node.domain.errors import VerificationError
from node.domain.row_changes import RowChanges
from node.domain.volume import LabelMap
from tests.builders import definition, grid

# (segment, plane), in another order than that of the planes: 65 frames, more than go together.
PLACES = [(segment, plane) for segment in (1, 2, 3, 4, 5) for plane in reversed(range(13))]
DEFINITIONS = {number: definition(f"S{number}", number) for number in (1, 2, 3, 4)} | {5: definition("Both", 1, 2)}

Bits = NDArray[np.bool_]


def case(seed: int, rows: int, columns: int) -> tuple[LabelMap, Bits]:
    """Give noise in 13 slices, and the frames of its segments."""
    labels = np.random.default_rng(seed).integers(0, 5, (13, rows, columns), dtype=np.uint8)
    frames = [np.isin(labels[plane], DEFINITIONS[segment].label_values) for segment, plane in PLACES]
    return LabelMap(labels=labels, grid=grid(slices=13, rows=rows, columns=columns)), np.array(frames)


def packed(frames: Bits) -> bytes:
    stored = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    return stored + b"\0" * (len(stored) % 2)


def changed(label_map: LabelMap, stored: bytes) -> dict[int, int]:
    changes = RowChanges(label_map)
    wanted = {number: changes.of(one) for number, one in DEFINITIONS.items()}
    size = label_map.labels[0].size
    # Behind two bytes of something else.
    words = stored_bits(b"\xff\xff" + stored, (2, 2 + len(stored)), len(PLACES), size)
    return {
        number: count for number, count in changed_bits(words, PLACES, wanted, label_map.labels.shape).items() if count
    }


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 20), st.sets(st.integers(0, 65 * 180 - 1), max_size=4))
def test_as_many_bits_are_told_to_differ_as_do(seed: int, rows: int, columns: int, flipped: set[int]) -> None:
    label_map, frames = case(seed, rows, columns)
    wrong = sorted({index % frames.size for index in flipped})
    frames.reshape(-1)[wrong] ^= True

    told = changed(label_map, packed(frames))

    segments = [PLACES[index // (rows * columns)][0] for index in wrong]
    assert told == {segment: segments.count(segment) for segment in segments}


def test_bits_behind_the_last_frame_are_caught() -> None:
    label_map, frames = case(0, 3, 5)
    stored = bytearray(packed(frames))
    stored[-1] |= 0x80

    with pytest.raises(VerificationError, match="more than its frames"):
        changed(label_map, bytes(stored))


@pytest.mark.parametrize("frames", [1, 63, 64, 65, 128])
def test_fractions_are_above_a_limit_in_the_words_that_bits_would_be_in(frames: int) -> None:
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, 3, 5), dtype=np.uint8)

    words = list(bits_above(iter(pixels), 127, 15))

    stored = packed(pixels > 127)
    expected = stored_bits(stored, (0, len(stored)), frames, 15)
    assert [one.tolist() for one in words] == [one.tolist() for one in expected]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from(["u1", "u2"]))
def test_as_many_numbers_are_told_to_differ_as_do(seed: int, flip: bool, dtype: str) -> None:
    label_map, _ = case(seed, 4, 7)
    # Labels 1 and 3 are one segment, 4 is none; the last plane has no frame.
    number_of = np.zeros(256, dtype=np.uint16)
    number_of[[1, 2, 3]] = 2, 1, 2
    label_map.labels[-1] = 4
    pixels: NDArray[Any] = number_of[label_map.labels].astype(dtype)
    if flip:
        pixels[5, 3, 6], label_map.labels[5, 3, 6], label_map.labels[-1, 0, 0] = 1, 3, 2

    told = changed_numbers(enumerate(pixels[:-1]), RowChanges(label_map), label_map.labels, number_of)

    assert told == ({1: 2, 2: 1} if flip else {})
