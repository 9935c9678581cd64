"""Structures slice by slice, as pieces to be traced."""

from collections.abc import Iterator, Sequence

import numpy as np

from node.domain.masks import CroppedMask, Masks, union
from node.domain.structures import StructureDefinition
from node.domain.tracing import GAP, Field, Piece
from node.domain.volume import Box, Probabilities

# A sheet of this many pixels stays in the processor's cache, and is many times what one call of a library costs.
SHEET_PIXELS = 1_000_000
# Probabilities are asked for by boxes of no more than this many voxels, 16 MB, or by slices.
SLAB_VOXELS = 4_000_000


def sheets(
    masks: Masks, definitions: Sequence[StructureDefinition], probabilities: Probabilities | None
) -> Iterator[list[Piece]]:
    """Give all pieces of all structures, in order, as many at a time as fit a sheet: all with a field, or none."""
    sheet: list[Piece] = []
    height = width = 0
    for number, definition in enumerate(definitions):
        for piece in _pieces(number, definition, masks, probabilities):
            rows, columns = piece.inside.shape
            height, width = height + rows + GAP, max(width, columns + 2)
            unlike = sheet and (piece.field is None) != (sheet[-1].field is None)
            if unlike or (sheet and height * width > SHEET_PIXELS):
                yield sheet
                sheet, height, width = [], rows + GAP, columns + 2
            sheet.append(piece)
    if sheet:
        yield sheet


def _pieces(
    number: int, definition: StructureDefinition, masks: Masks, probabilities: Probabilities | None
) -> Iterator[Piece]:
    parts = masks.on_slices(definition)
    if probabilities is None:
        yield from (_piece(number, part, None) for part in parts)
        return
    for slab in _slabs(parts):
        box = _bordered(slab, masks.shape)
        sure = probabilities.of(definition.label_values, box)
        # None: of these label values the model says nothing.
        yield from (_piece(number, part, None if sure is None else _with_border(sure, box, part)) for part in slab)


def _piece(number: int, part: CroppedMask, field: Field | None) -> Piece:
    slice_index, row, column = part.origin
    return Piece(structure=number, slice_index=slice_index, row=row, column=column, inside=part.mask[0], field=field)


def _slabs(parts: Iterator[CroppedMask]) -> Iterator[list[CroppedMask]]:
    slab: list[CroppedMask] = []
    for part in parts:
        box = union([one.box for one in (*slab, part)])
        if slab and np.prod([side.stop - side.start for side in box]) > SLAB_VOXELS:
            yield slab
            slab = []
        slab.append(part)
    if slab:
        yield slab


def _bordered(slab: Sequence[CroppedMask], shape: tuple[int, int, int]) -> Box:
    """Give the box of a slab and one pixel around on its slices, as far as the image goes."""
    slices, *sides = union([part.box for part in slab])
    rows, columns = (
        slice(max(side.start - 1, 0), min(side.stop + 1, size)) for side, size in zip(sides, shape[1:], strict=True)
    )
    return slices, rows, columns


def _with_border(sure: Field, box: Box, part: CroppedMask) -> Field:
    """Cut a part and one pixel around from the probabilities of a box; beyond the image nothing is sure."""
    slice_index, row, column = part.origin
    rows, columns = part.mask.shape[1] + 2, part.mask.shape[2] + 2
    field = np.zeros((rows, columns), dtype=np.float32)
    top, left = row - 1 - box[1].start, column - 1 - box[2].start
    cut = sure[slice_index - box[0].start, max(top, 0) : top + rows, max(left, 0) : left + columns]
    field[max(-top, 0) :, max(-left, 0) :][: cut.shape[0], : cut.shape[1]] = cut
    return field
