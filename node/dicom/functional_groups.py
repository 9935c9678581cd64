"""Per-frame Functional Groups of a Segmentation (PS3.3 C.7.6.16), encoded: a few thousand items that differ little.

pydicom takes a millisecond to build and to write one such item. What the frames of one plane share, and what those of
one segment share, is encoded once.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

FRAME_CONTENT = Tag("FrameContentSequence")
SEGMENT_IDENTIFICATION = Tag("SegmentIdentificationSequence")

# PS3.5 7.5: Item (FFFE,E000), then its length.
_ITEM = struct.Struct("<HHL")


class FunctionalGroups:
    """Items for the frames of any segment, made from those of one segment's frame on each plane.

    Parameters
    ----------
    by_plane
        The functional groups of a frame of segment 1 on each plane, by the plane's index.
    """

    def __init__(self, by_plane: Mapping[int, Dataset]) -> None:
        self._parts = {index: _parts(groups) for index, groups in by_plane.items()}
        first = next(iter(by_plane.values()))
        # Where there is one segment only, the shared groups identify it; in a label map the pixels do.
        self._identified = SEGMENT_IDENTIFICATION in first
        self._content_head = _encoded([first[FRAME_CONTENT]])[: -4 * len(_dimensions(first))]
        self._identification: dict[int, bytes] = {}

    def encoded(self, frames: Iterable[tuple[int, int]]) -> bytes:
        """Give the value of the sequence: an item for each frame, given as (segment, plane index)."""
        return b"".join(map(self._item, frames))

    def _item(self, frame: tuple[int, int]) -> bytes:
        segment, index = frame
        before, dimensions, after = self._parts[index]
        if len(dimensions) > 1:  # PS3.3 C.8.20.2.4: the segment is the first dimension
            dimensions = (segment, *dimensions[1:])
        values = struct.pack(f"<{len(dimensions)}L", *dimensions)
        groups = b"".join((before, self._content_head, values, after, self._identifying(segment)))
        return _ITEM.pack(0xFFFE, 0xE000, len(groups)) + groups

    def _identifying(self, segment: int) -> bytes:
        if not self._identified:
            return b""
        if segment not in self._identification:
            identification, groups = Dataset(), Dataset()
            identification.ReferencedSegmentNumber = segment
            groups.SegmentIdentificationSequence = [identification]
            self._identification[segment] = _encoded(groups)
        return self._identification[segment]


def _parts(groups: Dataset) -> tuple[bytes, Sequence[int], bytes]:
    """Give what comes before Frame Content, the Dimension Index Values in it, and what comes after it."""
    before = [element for element in groups if element.tag < FRAME_CONTENT]
    after = [element for element in groups if FRAME_CONTENT < element.tag < SEGMENT_IDENTIFICATION]
    return _encoded(before), _dimensions(groups), _encoded(after)


def _dimensions(groups: Dataset) -> Sequence[int]:
    values = groups.FrameContentSequence[0].DimensionIndexValues
    return (values,) if isinstance(values, int) else tuple(values)


def _encoded(elements: Iterable[Any]) -> bytes:
    dataset = Dataset()
    for element in elements:
        dataset.add(element)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()
