"""Where each frame of a written Segmentation lies, by its functional groups."""

import struct
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from node.dicom.required_attributes import verify_required
from node.dicom.required_segmentation import FRAME, PLANE
from node.dicom.strict_reading import Item, Reader, explicit_elements, items, tag_of
from node.dicom.verification import OFF_PLANE_MM, Images, expect
from node.domain.errors import VerificationError
from node.domain.grid import Grid, Plane
from node.domain.series import SeriesManifest

# (segment, plane index) of a frame; segment 0 where the pixels themselves tell the segment.
Place = tuple[int, int]

PER_FRAME_GROUPS = tag_of("PerFrameFunctionalGroupsSequence")
FRAME_CONTENT, DIMENSION_INDEX_VALUES = tag_of("FrameContentSequence"), tag_of("DimensionIndexValues")
SEGMENT_IDENTIFICATION = tag_of("SegmentIdentificationSequence")

# Each group is there once: what all frames say and what each says of itself could contradict (PS3.3 C.7.6.16.1.1).
_OF_PLANE = frozenset(map(tag_of, ("PixelMeasuresSequence", "PlaneOrientationSequence")))
_OF_EACH = frozenset((FRAME_CONTENT, *map(tag_of, ("DerivationImageSequence", "PlanePositionSequence"))))


class _Layout(NamedTuple):
    """Where in a frame's groups lie its Dimension Index Values, and the group that identifies its segment.

    The values are the last of Frame Content, the group is the last of all. What is before, between and behind are whole
    elements, their headers included: if the bytes of such a part are known, so is what they say.
    """

    values: int
    behind_values: int
    identification: int


class Places:
    """The frames of a Segmentation.

    They share most of what they say: parts of the same bytes are read once.
    """

    def __init__(self, written: bytes, data_set: Item, reader: Reader, manifest: SeriesManifest) -> None:
        self._written, self._reader, self._images = written, reader, Images(manifest.grid)
        self._sop_class_uid = manifest.sop_class_uid
        # By the length of the groups: how such groups were laid out last.
        self._layouts: dict[int, _Layout] = {}
        self._planes: dict[tuple[_Layout, bytes, bytes], int] = {}
        self._segments: dict[tuple[_Layout, bytes], int] = {}
        # Place of each plane in the dimension of planes.
        self._ranks: dict[int, int] = {}
        # Which frame lies there, counted from 0.
        self.of_frames: dict[Place, int] = {}
        shared = data_set.item("SharedFunctionalGroupsSequence")
        self._shared_segment = _segment(shared) if shared.has("SegmentIdentificationSequence") else 0
        _verify_groups(shared, _OF_PLANE | {SEGMENT_IDENTIFICATION})
        # How far a corner of each plane is off by what all frames state at once; None: each frame states its own.
        self._off_mm = None
        if not shared.sequences.keys().isdisjoint(_OF_PLANE):
            _verify_plane(shared, manifest.grid.planes[0], manifest.grid)
            self._off_mm = _off_mm(manifest.grid)
        self._allowed = _OF_EACH.union(
            () if self._shared_segment else (SEGMENT_IDENTIFICATION,), _OF_PLANE if self._off_mm is None else ()
        )
        for bounds in items(written, *data_set.left[PER_FRAME_GROUPS]):
            self._add(*bounds)

    def verify_counted(self) -> None:
        """Raise VerificationError unless the planes are numbered from 1 as they lie, one way or the other.

        So PS3.3 C.7.6.17 has it; viewers show frames in this order.
        """
        ranks = [self._ranks[plane] for plane in sorted(self._ranks)]
        counted = list(range(1, len(ranks) + 1))
        expect(
            ranks in (counted, counted[::-1]), "The dimension index of planes does not count them from 1 as they lie."
        )

    def _add(self, start: int, stop: int) -> None:
        groups = self._written[start:stop]
        layout = self._layouts.get(len(groups))
        told = self._known(groups, layout) if layout is not None else None
        segment, plane, index = told or self._read(start, stop)
        place = segment, plane
        if place in self.of_frames:
            raise VerificationError(f"{_shown(segment)} has two frames for one image.")
        # The segment, where frames have one, and what stands for the plane (PS3.3 C.8.20.2.4).
        expect(
            index == ((segment, index[-1]) if segment else (index[-1],))
            and self._ranks.setdefault(plane, index[-1]) == index[-1],
            "The dimension index of a frame is not that of its segment and plane.",
        )
        self.of_frames[place] = len(self.of_frames)

    def _known(self, groups: bytes, layout: _Layout) -> tuple[int, int, tuple[int, ...]] | None:
        """Give segment, plane and dimension index of groups of which every part was read before."""
        values, behind, identification = layout
        plane = self._planes.get((layout, groups[:values], groups[behind:identification]))
        segment = self._segments.get((layout, groups[identification:]))
        if plane is None or segment is None:
            return None
        return segment, plane, _numbers(groups[values:behind])

    def _read(self, start: int, stop: int) -> tuple[int, int, tuple[int, ...]]:
        """Give segment, plane and dimension index of groups, and remember what their parts say."""
        item = self._reader.item(start, stop)
        verify_required(item, FRAME)
        _verify_groups(item, self._allowed)
        segment = _segment(item) if item.has("SegmentIdentificationSequence") else self._shared_segment
        plane = self._plane(item, _shown(segment))
        index = _numbers(item.item("FrameContentSequence").values[DIMENSION_INDEX_VALUES])
        layout = self._layout(start, stop)
        if layout is not None:
            groups = self._written[start:stop]
            values, behind, identification = self._layouts[len(groups)] = layout
            self._planes[layout, groups[:values], groups[behind:identification]] = plane
            self._segments[layout, groups[identification:]] = segment
        return segment, plane, index

    def _layout(self, start: int, stop: int) -> _Layout | None:
        """Give how groups are laid out; None if it is another way than ours, which costs time, but hides nothing."""
        groups = explicit_elements(self._written, start, stop)
        (content,) = [bounds for tag, *bounds in groups if tag == FRAME_CONTENT]
        (inner,) = items(self._written, *content)
        tag, values, behind = explicit_elements(self._written, *inner)[-1]
        if tag != DIMENSION_INDEX_VALUES:
            return None
        identified = groups[-1][0] == SEGMENT_IDENTIFICATION
        # Behind the group before it.
        identification = groups[-2][2] if identified else stop
        return _Layout(values - start, behind - start, identification - start)

    def _plane(self, groups: Item, shown: str) -> int:
        source = groups.item("DerivationImageSequence").item("SourceImageSequence")
        frames: list[int | None] = [*source.numbers("ReferencedFrameNumber")] or [None]
        expect(
            len(frames) == 1 and source.text("ReferencedSOPClassUID") == self._sop_class_uid,
            f"{shown} names an image of another class, or several frames.",
        )
        plane = self._images.index_of(source.text("ReferencedSOPInstanceUID"), frames[0], shown)
        position_lps_mm = groups.item("PlanePositionSequence").decimals("ImagePositionPatient")
        away_mm = np.abs(np.subtract(position_lps_mm, self._images.grid.planes[plane].position_lps_mm)).max()
        expect(away_mm <= OFF_PLANE_MM, f"A frame lies {away_mm:.3f} mm away from the image that it names.")
        if self._off_mm is None:
            _verify_plane(groups, self._images.grid.planes[plane], self._images.grid)
        else:
            off_mm = self._off_mm[plane]
            expect(off_mm <= OFF_PLANE_MM, f"A corner of a frame is {off_mm:.3f} mm off by what all frames share.")
        return plane


def _off_mm(grid: Grid) -> NDArray[np.float64]:
    """Give how far the first plane's orientation and spacing put a corner of each plane off, shape (slices,)."""
    every, (_, rows, columns) = np.arange(len(grid.planes)), grid.shape
    off_mm = np.zeros(len(every))
    for row, column in ((0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
        ways = grid.points_lps_mm(every, [row], [column]) - grid.positions_lps_mm
        off_mm = np.maximum(off_mm, np.linalg.norm(ways - ways[0], axis=1))
    # What is off by just as much as may be must not fall by the last bit.
    return off_mm.round(6)


def _verify_plane(groups: Item, plane: Plane, grid: Grid) -> None:
    """Raise VerificationError unless functional groups state orientation and spacing of a plane of the grid."""
    verify_required(groups, PLANE)
    measures = groups.item("PixelMeasuresSequence")
    cosines = groups.item("PlaneOrientationSequence").decimals("ImageOrientationPatient")
    spacing_mm = measures.decimals("PixelSpacing")
    between = [grid.slice_spacing_mm]
    if measures.has("SpacingBetweenSlices"):
        between = measures.decimals("SpacingBetweenSlices")
    expect(
        len(cosines) == 6
        and len(spacing_mm) == 2
        and np.allclose(cosines, plane.orientation, rtol=0, atol=1e-6)
        and np.allclose(spacing_mm, plane.pixel_spacing_mm, rtol=1e-6)
        and np.allclose(between, grid.slice_spacing_mm, rtol=1e-2),
        "Orientation or spacing of the frames is not that of the images.",
    )


def _verify_groups(groups: Item, allowed: Collection[int]) -> None:
    expect(groups.sequences.keys() <= set(allowed), "A functional group is not where it belongs, or there twice.")


def _segment(groups: Item) -> int:
    return groups.item("SegmentIdentificationSequence").number("ReferencedSegmentNumber")


def _numbers(values: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(values) // 4}L", values)


def _shown(segment: int) -> str:
    return f"Segment {segment}" if segment else "The label map"
