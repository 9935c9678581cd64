"""The rules of a manifest that follow the network: ``[[post]]``, in their order, on the series' own grid.

Neighbours share a face, in space as in the plane, unless a rule says otherwise. Every rule works in the box around its
labels.
"""

import math
from collections.abc import Iterable, Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.volume import LabelMap
from node.inference.package import DropSmall, FillHolesInPlane, KeepLargest, KeepSeeded, PostRule, Relabel

Labels = NDArray[np.uint8] | NDArray[np.uint16]
Box = tuple[slice, ...]

_PART = 1 << 22


def postprocess(label_map: LabelMap, rules: Sequence[PostRule], slice_axis: int = 0) -> LabelMap:
    """Apply rules to a copy of a label map, in their order.

    Parameters
    ----------
    slice_axis
        The axis of the label map across the planes of rules that work in planes: that of the network's slices, so
        that a sagittal series is treated as an axial one.
    """
    labels = label_map.labels.copy()
    remaining = labels
    for rule in rules:
        boxes = ndimage.find_objects(remaining)
        box = _around(boxes[value - 1] for value in rule.labels if value <= len(boxes))
        if box is not None:
            _apply(rule, np.moveaxis(remaining[box], slice_axis, 0), _spacing_mm(label_map, slice_axis))
            # No rule labels a voxel outside the box of what was there.
            remaining = remaining[_around(boxes) or ...]
    return LabelMap(labels=labels, grid=label_map.grid)


def mask_of(labels: Labels, values: Sequence[int]) -> NDArray[np.bool_]:
    """Tell for each voxel whether it carries one of the values."""
    mask = np.zeros(labels.shape, dtype=bool)
    for first, last in _runs(sorted(set(values))):
        # Unsigned numbers wrap: one comparison tests both ends of the run.
        mask |= labels - labels.dtype.type(first) <= last - first
    return mask


def _apply(rule: PostRule, labels: Labels, spacing_mm: tuple[float, float, float]) -> None:
    match rule:
        case KeepLargest():
            _keep_largest(labels, rule)
        case FillHolesInPlane():
            _fill_holes_in_plane(labels, rule, spacing_mm[1] * spacing_mm[2])
        case KeepSeeded():
            _keep_seeded(labels, rule)
        case DropSmall():
            _drop_small(labels, rule, math.prod(spacing_mm))
        case Relabel():
            labels[mask_of(labels, rule.labels)] = rule.becomes
        case _:
            assert_never(rule)


def _spacing_mm(label_map: LabelMap, slice_axis: int) -> tuple[float, float, float]:
    """Give the spacing across the planes, then within them."""
    spacing = list(label_map.grid.spacing_mm)
    across = spacing.pop(slice_axis)
    return across, spacing[0], spacing[1]


def _keep_largest(labels: Labels, rule: KeepLargest) -> None:
    touching = None if rule.neighbours == 6 else np.ones((3, 3, 3), dtype=bool)
    pieces, sizes = _pieces(mask_of(labels, rule.labels), touching)
    stays = sizes >= rule.and_from_fraction * sizes[1:].max()
    stays[0] = True
    labels[~stays[pieces]] = 0


def _keep_seeded(labels: Labels, rule: KeepSeeded) -> None:
    pieces, sizes = _pieces(mask_of(labels, rule.labels))
    stays = np.zeros(len(sizes), dtype=bool)
    stays[pieces[mask_of(labels, rule.seeds)]] = True
    stays[0] = True
    labels[~stays[pieces]] = rule.becomes


def _drop_small(labels: Labels, rule: DropSmall, voxel_volume_mm3: float) -> None:
    pieces, sizes = _pieces(mask_of(labels, rule.labels))
    stays = sizes * voxel_volume_mm3 >= rule.at_least_cm3 * 1000
    stays[0] = True
    labels[~stays[pieces]] = rule.becomes


def _fill_holes_in_plane(labels: Labels, rule: FillHolesInPlane, pixel_area_mm2: float) -> None:
    for plane in labels:
        mask = mask_of(plane, rule.labels)
        # What lies outside the box is outside: a rim of background joins everything that reaches the box's edge.
        gaps, sizes = _pieces(np.pad(~mask, 1, constant_values=True))
        hole = np.ones(len(sizes), dtype=bool)
        hole[[0, gaps[0, 0]]] = False
        if rule.at_most_mm2 is not None:
            hole &= sizes * pixel_area_mm2 <= rule.at_most_mm2
        plane[hole[gaps[1:-1, 1:-1]]] = rule.becomes


def _pieces(
    mask: NDArray[np.bool_], touching: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the connected pieces of a mask from 1; gives them with the count of voxels of each number, 0 included."""
    pieces, count = ndimage.label(mask, touching)
    sizes = np.zeros(count + 1, dtype=np.int64)
    flat = pieces.ravel()
    # bincount copies to 64 bits: part by part, so that the copy stays small.
    for start in range(0, flat.size, _PART):
        sizes += np.bincount(flat[start : start + _PART], minlength=count + 1)
    return pieces, sizes


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Give the first and last of each run of consecutive numbers."""
    firsts = [value for value in values if value - 1 not in values]
    lasts = [value for value in values if value + 1 not in values]
    return list(zip(firsts, lasts, strict=True))


def _around(boxes: Iterable[Box | None]) -> Box | None:
    """Give the box around boxes; None where there is none."""
    found = [box for box in boxes if box is not None]
    if not found:
        return None
    return tuple(
        slice(min(box[axis].start for box in found), max(box[axis].stop for box in found)) for axis in range(3)
    )
