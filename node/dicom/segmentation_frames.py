"""The frames of a Segmentation: which there are, and their Pixel Data, one plane at a time."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

from node.dicom.fractions import fractions
from node.dicom.rle import rle_frame
from node.domain.masks import BACKGROUND, Mask, Masks, members
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap, Probabilities

# Segment and plane index of a frame, in the order of the frames.
Places = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What is to be written."""

    # Which planes have a frame, shape (slices,).
    filled: Mask
    # Whether two segments have a voxel in common; None: probabilities, of which that cannot be said.
    overlap: bool | None
    # Draws the frames over the filled planes in the given order, segment after segment: where they are, and the value
    # of Pixel Data, which is not copied as it may be large.
    draw: Callable[[Sequence[int]], tuple[Places, io.BytesIO]]


def binary_frames(label_map: LabelMap, definitions: Sequence[StructureDefinition]) -> Frames:
    """Give one bit for each voxel of each segment (PS3.3 C.8.20.2, BINARY)."""
    values = [definition.label_values for definition in definitions]
    present = _present(label_map.labels, values)

    def draw(order: Sequence[int]) -> tuple[Places, io.BytesIO]:
        places = [(number, plane) for number, planes in enumerate(present, start=1) for plane in order if planes[plane]]
        return places, _packed(members(label_map.labels[plane], values[number - 1]) for number, plane in places)

    named = [value for of_segment in values for value in set(of_segment)]
    return Frames(filled=np.logical_or.reduce(present), overlap=len(set(named)) < len(named), draw=draw)


def labelmap_frames(label_map: LabelMap, definitions: Sequence[StructureDefinition]) -> Frames:
    """Give the Segment Number of each voxel, 0 where it has none (PS3.3 C.8.20.2, LABELMAP), RLE Lossless."""
    labels = label_map.labels
    table = np.zeros(np.iinfo(labels.dtype).max + 1, dtype=np.uint8 if len(definitions) < 256 else np.uint16)
    for number, definition in enumerate(definitions, start=1):
        wanted = [value for value in definition.label_values if BACKGROUND < value < len(table)]
        table[wanted] = number

    def draw(order: Sequence[int]) -> tuple[Places, io.BytesIO]:
        frames = [rle_frame(_looked_up(table, labels[plane])) for plane in order]
        return [(0, plane) for plane in order], io.BytesIO(encapsulate(frames))

    present = _present(labels, [definition.label_values for definition in definitions])
    return Frames(filled=np.logical_or.reduce(present), overlap=False, draw=draw)


def fractional_frames(
    label_map: LabelMap, definitions: Sequence[StructureDefinition], probabilities: Probabilities
) -> Frames:
    """Give the probability of each voxel for each segment (PS3.3 C.8.20.2, FRACTIONAL), RLE Lossless."""
    masks, shape = Masks(label_map), label_map.grid.shape
    # Encoded at once: only then it is known which frames there are.
    encoded = {
        (number, plane): rle_frame(pixels)
        for number, definition in enumerate(definitions, start=1)
        if (mask := masks.of(definition)) is not None
        for plane, pixels in fractions(mask, definition.label_values, probabilities, shape)
    }
    filled = np.zeros(label_map.grid.shape[0], dtype=np.bool_)
    filled[[plane for _, plane in encoded]] = True

    def draw(order: Sequence[int]) -> tuple[Places, io.BytesIO]:
        rank = {plane: position for position, plane in enumerate(order)}
        places = sorted(encoded, key=lambda place: (place[0], rank[place[1]]))
        return places, io.BytesIO(encapsulate([encoded[place] for place in places]))

    return Frames(filled=filled, overlap=None if len(definitions) > 1 else False, draw=draw)


def _present(labels: NDArray[Any], values_of_segment: Sequence[Sequence[int]]) -> list[Mask]:
    """Tell for each segment which planes hold a voxel of it."""
    wanted = [{value for value in values if value != BACKGROUND} for values in values_of_segment]
    present = [np.zeros(len(labels), dtype=np.bool_) for _ in wanted]
    for index, plane in enumerate(labels):
        found = _values(plane)
        for planes, values in zip(present, wanted, strict=True):
            planes[index] = not values.isdisjoint(found)
    return present


def _values(plane: NDArray[Any]) -> set[int]:
    """Give the values that a plane holds: those at which a run of equal pixels begins, which are few."""
    flat = plane.reshape(-1)
    begins = flat[1:][flat[1:] != flat[:-1]]
    return {int(flat[0]), *np.unique(begins).tolist()}


def _looked_up(table: NDArray[Any], plane: NDArray[Any]) -> NDArray[Any]:
    # numpy widens indices to 64 bit first, which takes ten times as long.
    return np.asarray(cv2.LUT(plane, table) if plane.dtype == np.uint8 else np.take(table, plane))


def _packed(masks: Iterator[Mask]) -> io.BytesIO:
    """Give the bits of all frames one after the other, the first in the lowest bit of a byte (PS3.5 8.1.1)."""
    packed = io.BytesIO()
    rest = np.zeros(0, dtype=np.bool_)
    for mask in masks:
        # A frame whose size is no multiple of 8 ends within a byte, where the next begins.
        bits = np.concatenate((rest, mask.reshape(-1))) if len(rest) else mask.reshape(-1)
        whole = len(bits) // 8 * 8
        packed.write(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    packed.write(np.packbits(rest, bitorder="little").tobytes())
    packed.write(b"\0" * (packed.tell() % 2))
    packed.seek(0)
    return packed
