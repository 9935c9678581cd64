"""The frames of a written Segmentation: where each lies, and its pixels, one at a time."""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rle.utils import decode_pixel_data

from node.dicom.encoded import PIXEL_DATA, Element, Elements, elements, fragments, items
from node.dicom.required_segmentation import CONTENT, DERIVATION, POSITION
from node.dicom.verification import OFF_PLANE_MM, Images, expect
from node.dicom.verify_attributes import PER_FRAME_GROUPS, verify_required, verify_values
from node.domain.errors import VerificationError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

# (segment, plane index) of a frame; segment 0 where the pixels themselves tell the segment.
Place = tuple[int, int]

DERIVATION_IMAGE, FRAME_CONTENT, PLANE_POSITION = 0x00089124, 0x00209111, 0x00209113
SEGMENT_IDENTIFICATION, REFERENCED_SEGMENT = 0x0062000A, 0x0062000B
SOURCE_IMAGE, REFERENCED_INSTANCE, REFERENCED_FRAME = 0x00082112, 0x00081155, 0x00081160
IMAGE_POSITION, DIMENSION_INDEX_VALUES = 0x00200032, 0x00209157
SHARED_GROUPS = 0x52009229

UNDEFINED_LENGTH = b"\xff\xff\xff\xff"


class Places:
    """Where the frames lie, by their functional groups.

    Frames share most of what they say: groups of the same bytes are read once.
    """

    def __init__(self, written: bytes, found: Elements, images: Images) -> None:
        self._written, self._images = written, images
        self._planes: dict[tuple[bytes, bytes], int] = {}
        self._segments: dict[bytes, int] = {}
        # Plane index by its place in the dimension of planes, and the other way round.
        self._ranks: dict[int, int] = {}
        # Which frame lies there, counted from 0.
        self.of_frames: dict[Place, int] = {}
        shared = self._only_item(found[SHARED_GROUPS])
        self._shared_segment = self._segment(shared) if SEGMENT_IDENTIFICATION in shared else 0
        for start, stop in items(written, found[PER_FRAME_GROUPS]):
            self._add(elements(written, start, stop))
        expect(len(set(self._ranks.values())) == len(self._ranks), "Two planes have the same dimension index.")

    def _add(self, groups: Elements) -> None:
        segment = self._segment(groups) if SEGMENT_IDENTIFICATION in groups else self._shared_segment
        shown = f"Segment {segment}" if segment else "The label map"
        plane = self._plane(groups, shown)
        expect((segment, plane) not in self.of_frames, f"{shown} has two frames for one image.")
        self._verify_dimensions(groups, segment, plane)
        self.of_frames[segment, plane] = len(self.of_frames)

    def _segment(self, groups: Elements) -> int:
        raw = self._bytes(groups[SEGMENT_IDENTIFICATION])
        if raw not in self._segments:
            number = self._only_item(groups[SEGMENT_IDENTIFICATION])[REFERENCED_SEGMENT]
            (self._segments[raw],) = struct.unpack("<H", self._bytes(number))
        return self._segments[raw]

    def _plane(self, groups: Elements, shown: str) -> int:
        present = [groups.get(tag) for tag in (DERIVATION_IMAGE, PLANE_POSITION)]
        derivation, position = (b"" if one is None else self._bytes(one) for one in present)
        if (derivation, position) not in self._planes:
            self._planes[derivation, position] = self._read_plane(groups, shown)
        return self._planes[derivation, position]

    def _read_plane(self, groups: Elements, shown: str) -> int:
        verify_required(self._written, groups, [DERIVATION, POSITION])
        verify_values(self._written, groups)
        source = self._only_item(self._only_item(groups[DERIVATION_IMAGE])[SOURCE_IMAGE])
        frame = source.get(REFERENCED_FRAME)
        plane = self._images.index_of(
            self._text(source[REFERENCED_INSTANCE]), None if frame is None else int(self._text(frame)), shown
        )
        position = self._only_item(groups[PLANE_POSITION])[IMAGE_POSITION]
        position_lps_mm = np.array(self._text(position).split("\\"), dtype=np.float64)
        away_mm = np.abs(position_lps_mm - self._images.grid.planes[plane].position_lps_mm).max()
        expect(away_mm <= OFF_PLANE_MM, f"A frame lies {away_mm:.3f} mm away from the image that it names.")
        return plane

    def _verify_dimensions(self, groups: Elements, segment: int, plane: int) -> None:
        """Expect the segment, where frames have one, and what stands for the plane (PS3.3 C.8.20.2.4)."""
        content = groups.get(FRAME_CONTENT)
        values = self._only_item(content).get(DIMENSION_INDEX_VALUES) if content is not None else None
        if values is None:
            verify_required(self._written, groups, [CONTENT])
            raise VerificationError("A frame has no dimension index.")
        index = struct.unpack(f"<{(values.stop - values.start) // 4}L", self._bytes(values))
        wanted = (segment, index[-1]) if segment else (index[-1],)
        expect(
            index == wanted and self._ranks.setdefault(plane, index[-1]) == index[-1],
            "The dimension index of a frame is not that of its segment and plane.",
        )

    def _only_item(self, sequence: Element) -> Elements:
        ((start, stop),) = items(self._written, sequence)
        return elements(self._written, start, stop)

    def _bytes(self, element: Element) -> bytes:
        return self._written[element.start : element.stop]

    def _text(self, element: Element) -> str:
        return self._bytes(element).decode("ascii").strip(" \0")


class BitFrames:
    """Frames of one bit for each pixel, which follow each other without a gap (PS3.5 8.1.1)."""

    def __init__(self, written: bytes, found: Elements, frames: int, size: int) -> None:
        pixels = found[PIXEL_DATA]
        _verify_length(pixels, -(-frames * size // 8))
        self._size = size
        self._packed = np.frombuffer(written, dtype=np.uint8, count=pixels.stop - pixels.start, offset=pixels.start)

    def changed(self, frame: int, mask: NDArray[np.bool_]) -> int:
        """Count the pixels of a frame that are not those of a mask, without unpacking them."""
        first, last = frame * self._size, (frame + 1) * self._size
        got, bits, offset = self._packed[first // 8 : -(-last // 8)], mask.reshape(-1), first % 8
        if offset or last % 8:
            # Without the bits of the frames before and behind.
            own = np.zeros(len(got) * 8, dtype=np.bool_)
            own[offset : offset + self._size] = True
            got = got & np.packbits(own, bitorder="little")
            bits = np.concatenate((np.zeros(offset, dtype=np.bool_), bits))
        wanted = np.packbits(bits, bitorder="little")
        return 0 if np.array_equal(got, wanted) else int(np.bitwise_count(got ^ wanted).sum())


def byte_frames(written: bytes, found: Elements, frames: int, shape: tuple[int, int], bits: int) -> Iterator[Pixels]:
    """Yield the pixels of frames of 8 or 16 bit, ``[row, column]``, native or RLE Lossless, whichever they are."""
    pixels, dtype = found[PIXEL_DATA], np.dtype(f"<u{bits // 8}")
    size = shape[0] * shape[1] * dtype.itemsize
    if written[pixels.start - 4 : pixels.start] != UNDEFINED_LENGTH:
        _verify_length(pixels, frames * size)
        for start in range(pixels.start, pixels.start + frames * size, size):
            yield np.frombuffer(written, dtype=dtype, count=size // dtype.itemsize, offset=start).reshape(shape)
        return
    encoded = fragments(written, pixels)
    expect(len(encoded) == frames, "Pixel data has another number of frames.")
    for start, stop in encoded:
        yield np.frombuffer(_decoded(written[start:stop], shape, bits), dtype=dtype).reshape(shape)


def _decoded(frame: bytes, shape: tuple[int, int], bits: int) -> bytes:
    try:
        return bytes(decode_pixel_data(frame, version=2, rows=shape[0], columns=shape[1], bits_allocated=bits))
    except BaseException as error:
        # Written in Rust: when the decoder panics, what arrives here is no Exception; its class has no name to import.
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        raise VerificationError("A frame cannot be decoded.") from error


def _verify_length(pixels: Element, length: int) -> None:
    expect(pixels.stop - pixels.start >= length, "Pixel data is cut short.")
    expect(pixels.stop - pixels.start == length + length % 2, "Pixel data holds more than its frames.")
