"""The rules of a manifest that follow the network: ``[[post]]``, in their order, on the series' own grid.

Neighbours share a face, in space as in the plane. Every rule works in the box around its labels.
"""

from collections.abc import Sequence
from typing import assert_never, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.volume import LabelMap
from node.inference.package import DropSmall, FillHolesInPlane, KeepLargest, KeepSeeded, PostRule, Relabel

Labels = NDArray[np.uint8] | NDArray[np.uint16]
Box = tuple[slice, ...]


def postprocess(label_map: LabelMap, rules: Sequence[PostRule]) -> LabelMap:
    """Apply rules to a copy of a label map, in their order."""
    labels = label_map.labels.copy()
    for rule in rules:
        box = _box(labels, rule.labels)
        if box is not None:
            _apply(rule, labels[box], label_map)
    return LabelMap(labels=labels, grid=label_map.grid)


def _apply(rule: PostRule, labels: Labels, label_map: LabelMap) -> None:
    match rule:
        case KeepLargest():
            _keep_largest(labels, rule)
        case FillHolesInPlane():
            between_rows, between_columns = label_map.grid.pixel_spacing_mm
            _fill_holes_in_plane(labels, rule, between_rows * between_columns)
        case KeepSeeded():
            _keep_seeded(labels, rule)
        case DropSmall():
            _drop_small(labels, rule, label_map.grid.voxel_volume_mm3)
        case Relabel():
            labels[_mask(labels, rule.labels)] = rule.becomes
        case _:
            assert_never(rule)


def _keep_largest(labels: Labels, rule: KeepLargest) -> None:
    pieces, sizes = _pieces(_mask(labels, rule.labels))
    # The first of equal sizes stays: the same scan gives the same result.
    stays = np.zeros(len(sizes), dtype=bool)
    stays[[0, 1 + int(np.argmax(sizes[1:]))]] = True
    labels[~stays[pieces]] = 0


def _keep_seeded(labels: Labels, rule: KeepSeeded) -> None:
    pieces, sizes = _pieces(_mask(labels, rule.labels))
    stays = np.zeros(len(sizes), dtype=bool)
    stays[pieces[_mask(labels, rule.seeds)]] = True
    stays[0] = True
    labels[~stays[pieces]] = rule.becomes


def _drop_small(labels: Labels, rule: DropSmall, voxel_volume_mm3: float) -> None:
    pieces, sizes = _pieces(_mask(labels, rule.labels))
    stays = sizes * voxel_volume_mm3 >= rule.at_least_cm3 * 1000
    stays[0] = True
    labels[~stays[pieces]] = rule.becomes


def _fill_holes_in_plane(labels: Labels, rule: FillHolesInPlane, pixel_area_mm2: float) -> None:
    for plane in labels:
        mask = _mask(plane, rule.labels)
        # What lies outside the box is outside: a rim of background joins everything that reaches the box's edge.
        gaps, sizes = _pieces(np.pad(~mask, 1, constant_values=True))
        hole = np.ones(len(sizes), dtype=bool)
        hole[[0, gaps[0, 0]]] = False
        if rule.at_most_mm2 is not None:
            hole &= sizes * pixel_area_mm2 <= rule.at_most_mm2
        plane[hole[gaps[1:-1, 1:-1]]] = rule.becomes


def _pieces(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the connected pieces of a mask from 1; gives them with the count of voxels of each number, 0 included."""
    pieces, count = ndimage.label(mask)
    return pieces, np.bincount(pieces.ravel(), minlength=count + 1)


def _mask(labels: Labels, values: tuple[int, ...]) -> NDArray[np.bool_]:
    chosen = np.zeros(np.iinfo(labels.dtype).max + 1, dtype=bool)
    chosen[list(values)] = True
    return np.asarray(chosen[labels])


def _box(labels: Labels, values: tuple[int, ...]) -> Box | None:
    """Give the box around the voxels that carry one of the values; None where there is none."""
    boxes = ndimage.find_objects(_mask(labels, values).view(np.uint8), max_label=1)
    return cast(Box | None, boxes[0])
