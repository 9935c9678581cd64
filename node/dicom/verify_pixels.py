"""Hold the pixels of a written Segmentation against what its segments are to hold.

No segment is drawn for that: bits are compared in words, of which few are to be anything but 0, and numbers where they
change along the rows.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rle.utils import decode_pixel_data

from node.dicom.strict_reading import items
from node.dicom.verification import expect
from node.dicom.verify_frames import Place
from node.domain.errors import VerificationError
from node.domain.masks import BACKGROUND
from node.domain.row_changes import Labels, RowChanges, Rows
from node.domain.row_changes import Places as Changes

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
# Little endian words of 64 bits, the first pixel in the lowest bit.
Words = NDArray[np.uint64]
Indices = NDArray[np.intp]

_UNDEFINED_LENGTH = b"\xff\xff\xff\xff"
# Sequence Delimitation Item (PS3.5 A.4).
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
# So many frames of any size are whole words.
_TOGETHER = 64
_ALL_BITS = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def stored_bits(written: bytes, bounds: tuple[int, int], frames: int, size: int) -> Iterator[Words]:
    """Yield the bits of frames of one bit for each pixel, 64 frames at a time, 0 behind the last.

    Frames follow each other without a gap (PS3.5 8.1.1).
    """
    _verify_length(bounds, -(-frames * size // 8))
    # 64 frames have as many words as one has pixels.
    for first in range(*bounds, size * 8):
        part = np.frombuffer(written, dtype=np.uint8, count=min(size * 8, bounds[1] - first), offset=first)
        words = np.zeros(size, dtype="<u8")
        words.view(np.uint8)[: len(part)] = part
        yield words


def bits_above(frames: Iterable[Pixels], limit: int, size: int) -> Iterator[Words]:
    """Yield which pixels are above a limit, as ``stored_bits`` does."""
    above = np.zeros((_TOGETHER, size), dtype=np.bool_)
    frame = -1
    for frame, pixels in enumerate(frames):
        np.greater(pixels.reshape(-1), limit, out=above[frame % _TOGETHER])
        if frame % _TOGETHER == _TOGETHER - 1:
            yield np.packbits(above, bitorder="little").view("<u8")
    above[(frame + 1) % _TOGETHER :] = False
    if (frame + 1) % _TOGETHER:
        yield np.packbits(above, bitorder="little").view("<u8")


def stored_numbers(
    written: bytes, bounds: tuple[int, int], frames: int, shape: tuple[int, int], bits: int
) -> Iterator[Pixels]:
    """Yield the pixels of frames of 8 or 16 bit, ``[row, column]``, native or RLE Lossless, whichever they are."""
    start, stop = bounds
    dtype = np.dtype(f"<u{bits // 8}")
    size = shape[0] * shape[1] * dtype.itemsize
    if written[start - 4 : start] != _UNDEFINED_LENGTH:
        _verify_length(bounds, frames * size)
        for first in range(start, start + frames * size, size):
            yield np.frombuffer(written, dtype=dtype, count=size // dtype.itemsize, offset=first).reshape(shape)
        return
    encoded = _fragments(written, start, stop)
    expect(len(encoded) == frames, "Pixel data has another number of frames.")
    for first, last in encoded:
        yield np.frombuffer(_decoded(written[first:last], shape, bits), dtype=dtype).reshape(shape)


def changed_bits(
    stored: Iterable[Words], places: Sequence[Place], wanted: Mapping[int, Changes], shape: tuple[int, int, int]
) -> Counter[int]:
    """Count for each segment the voxels that are not those that it is to hold.

    Parameters
    ----------
    places
        Of the frames, in their order. Where a plane has none, the segment has no voxel on it (PS3.3 C.8.20.2).
    wanted
        Where the filling of each segment changes.
    shape
        Of the grid.
    """
    size = shape[1] * shape[2]
    first, behind, changed = _runs(places, wanted, shape)
    indices, words = _words(first, behind)
    for batch, got in enumerate(stored):
        own = slice(*np.searchsorted(indices, (batch * size, (batch + 1) * size)))
        got[indices[own] - batch * size] ^= words[own]
        if np.count_nonzero(got):
            differ = np.unpackbits(got.view(np.uint8), bitorder="little").reshape(_TOGETHER, size).sum(axis=1)
            of_frames = places[batch * _TOGETHER : (batch + 1) * _TOGETHER]
            expect(not differ[len(of_frames) :].any(), "Pixel data holds more than its frames.")
            for (segment, _), count in zip(of_frames, differ.tolist(), strict=False):
                changed[segment] += count
    return changed


def changed_numbers(
    frames: Iterable[tuple[int, Pixels]], changes: RowChanges, labels: Labels, number_of: NDArray[np.uint16]
) -> Counter[int]:
    """Count for each segment the voxels that are not those that it is to hold, where pixels are Segment Numbers.

    Parameters
    ----------
    frames
        Plane index and pixels. Where a plane has none, all are background.
    changes
        Those of the labels.
    number_of
        Segment Number by label.
    """
    changed: Counter[int] = Counter()
    read = None
    without = set(range(len(labels)))
    for plane, pixels in frames:
        without.discard(plane)
        read = Rows(pixels.shape, pixels.dtype) if read is None else read
        told, of_labels = read.changes(pixels), changes.on_slice[plane]
        before, behind = number_of[of_labels.before], number_of[of_labels.behind]
        kept = before != behind
        if not (np.array_equal(told.places, of_labels.places[kept]) and np.array_equal(told.behind, behind[kept])):
            changed += _differing(pixels, number_of[labels[plane]])
    for plane in without:
        if number_of[changes.on_slice[plane].behind].any():
            changed += _differing(np.zeros_like(labels[plane]), number_of[labels[plane]])
    del changed[BACKGROUND]
    return changed


def _differing(pixels: Pixels, wanted: NDArray[np.uint16]) -> Counter[int]:
    """Count each number where it is in one of two images only."""
    differ = pixels != wanted
    return Counter(pixels[differ].tolist()) + Counter(wanted[differ].tolist())


def _runs(
    places: Sequence[Place], wanted: Mapping[int, Changes], shape: tuple[int, int, int]
) -> tuple[Indices, Indices, Counter[int]]:
    """Give where runs of bits start and where they end, in all frames as one; and how many bits have no frame."""
    _, rows, columns = shape
    frame_of = np.full((max(wanted, default=0) + 1, shape[0]), -1)
    for frame, place in enumerate(places):
        frame_of[place] = frame
    none = np.empty(0, dtype=np.intp)
    first, behind, lost = [none], [none], Counter[int]()
    for segment, changes in wanted.items():
        start, stop = changes[::2], changes[1::2]
        line = start // (columns + 1)
        frame = frame_of[segment][line // rows]
        there = frame >= 0
        # Without the place behind each row, and in the frame instead of the plane.
        moved = (frame - line // rows) * (rows * columns) - line
        first.append((start + moved)[there])
        behind.append((stop + moved)[there])
        lost[segment] += int((stop - start)[~there].sum())
    order = np.argsort(np.concatenate(first), kind="stable")
    return np.concatenate(first)[order], np.concatenate(behind)[order], lost


def _words(first: Indices, behind: Indices) -> tuple[Indices, Words]:
    """Give the words that are not 0, by their indices, of runs of bits in order."""
    low, high = first >> 6, (behind - 1) >> 6
    counts = high - low + 1
    ends = np.cumsum(counts)
    begins = ends - counts
    indices = np.repeat(low - begins, counts) + np.arange(len(first) and ends[-1])
    words = np.full(len(indices), _ALL_BITS)
    words[begins] = _ALL_BITS << (first & 63).astype(np.uint64)
    words[ends - 1] &= _ALL_BITS >> (63 - ((behind - 1) & 63)).astype(np.uint64)
    # Several runs may lie in one word.
    own = np.flatnonzero(np.diff(indices, prepend=-1))
    return indices[own], np.bitwise_or.reduceat(words, own) if len(own) else words


def _fragments(written: bytes, start: int, stop: int) -> list[tuple[int, int]]:
    """Give where each fragment of encapsulated Pixel Data lies, without the Basic Offset Table (PS3.5 A.4)."""
    inner = stop - len(_DELIMITER)
    expect(inner >= start and written[inner:stop] == _DELIMITER, "Pixel data is cut short, or something follows it.")
    table, *frames = items(written, start, inner)
    offsets = [first - 8 - table[1] for first, _ in frames]
    expect(
        written[slice(*table)] in (b"", struct.pack(f"<{len(offsets)}L", *offsets)), "The Basic Offset Table is wrong."
    )
    expect(all((last - first) % 2 == 0 for first, last in frames), "A frame has an odd length.")
    return frames


def _decoded(frame: bytes, shape: tuple[int, int], bits: int) -> Any:
    try:
        return decode_pixel_data(frame, version=2, rows=shape[0], columns=shape[1], bits_allocated=bits)
    except BaseException as error:
        # Written in Rust: when the decoder panics, what arrives here is no Exception; its class has no name to import.
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        raise VerificationError("A frame cannot be decoded.") from error


def _verify_length(bounds: tuple[int, int], length: int) -> None:
    start, stop = bounds
    expect(stop - start >= length, "Pixel data is cut short.")
    expect(stop - start == length + length % 2, "Pixel data holds more than its frames.")
