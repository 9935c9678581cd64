"""The volumes of a series: mostly one, but 4-D, multi-phase, multi-echo or dual-energy series hold several.

Two rules: a series that is one regular stack is never broken, whatever its instances say of acquisitions (scanners
number them within one volume); and a key splits only where that makes several regular stacks out of an irregular whole.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np

from node.domain.instance import ReceivedInstance
from node.domain.stack import (
    LeftOut,
    Obstacle,
    Stack,
    choose_stack,
    described,
    grouped_by_geometry,
    no_images,
    why_mixed,
    why_no_image,
    why_no_images,
)

# What tells images apart that lie at the same place, in the order they are tried: keyword -> name. For multi-frame
# instances the frame's functional groups say it (`node.dicom.headers`). Frame of Reference and geometry come before.
SPLITTING_KEYS: Mapping[str, str] = {
    "ImageType": "Image Type",
    "TemporalPositionIdentifier": "Temporal Position Identifier",
    "TriggerTime": "Trigger Time",
    "EchoNumbers": "Echo Numbers",
    "DiffusionBValue": "Diffusion b-value",
    "KVP": "KVP",
    "AcquisitionNumber": "Acquisition Number",
}
# More than these are a film, not volumes that somebody wants contoured.
MOST_VOLUMES = 20
# Stacks told apart by a value share at least this part of the shortest; slabs beside each other are no volumes.
_SHARED = 0.5
# Splitting by one key, and each part by another.
_DEEPEST = 2

Part = tuple[ReceivedInstance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundVolume:
    """One regular stack, and what tells it from the others of the series; empty where it is the only one."""

    stack: Stack
    told_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoVolume:
    """A part of a split series that is no volume, and why."""

    reason: str
    told_by: str
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """The volumes of a series, at least one, in the order of what tells them apart, and what is none."""

    found: tuple[FoundVolume, ...]
    declined: tuple[NoVolume, ...] = ()
    # Instances of no volume that are no image planes at all.
    no_images: tuple[LeftOut, ...] = ()

    @property
    def is_even(self) -> bool:
        """Tell whether every part is a volume, all of the same number of planes."""
        return not self.declined and len({len(one.stack.planes) for one in self.found}) == 1


Choose = Callable[[Iterable[ReceivedInstance]], Stack | Obstacle]


def find_volumes(
    instances: Iterable[ReceivedInstance], *, minimum_slices: int, spacing_tolerance: float
) -> Volumes | Obstacle:
    """Find the volumes among all instances of a series, whatever their order.

    Multi-frame instances are a volume each, or each concatenation of them. The others are one stack, or are split by
    Frame of Reference, geometry or one of `SPLITTING_KEYS`, or by two of these.

    Parameters
    ----------
    minimum_slices, spacing_tolerance
        As for `choose_stack`.
    """
    ordered = tuple(sorted(instances, key=lambda one: (one.sop_instance_uid, one.pixel_digest, one.file_name)))
    choose = partial(choose_stack, minimum_slices=minimum_slices, spacing_tolerance=spacing_tolerance)
    images = tuple(one for one in ordered if why_no_image(one) is None)
    mixed = why_mixed(ordered)
    if mixed:
        return Obstacle(reason=mixed)
    judged = [one for told_by, part in _objects(images) for one in _judge_object(part, told_by, choose)]
    found = tuple(one for one in judged if isinstance(one, FoundVolume))
    if not found:
        reason = _first_reason(judged) if judged else why_no_images(ordered)
        return Obstacle(reason=reason)
    if len(found) > MOST_VOLUMES:
        return Obstacle(reason=f"{len(found)} volumes in one series; at most {MOST_VOLUMES} are contoured")
    declined = tuple(one for one in judged if isinstance(one, NoVolume))
    return Volumes(found=found, declined=declined, no_images=tuple(no_images(ordered)))


def are_whole_by_themselves(instances: Iterable[ReceivedInstance]) -> bool:
    """Tell whether every image is a multi-frame instance, or in a concatenation of which every part is there."""
    images = [one for one in instances if why_no_image(one) is None]
    if not images or not all(one.is_multi_frame for one in images):
        return False
    parts = [one.concatenation for one in images if one.concatenation is not None]
    return not _why_not_whole(images) and all(part.total is not None for part in parts)


def _first_reason(judged: Sequence[FoundVolume | NoVolume]) -> str:
    reasons = [one.reason for one in judged if isinstance(one, NoVolume)]
    more = f", and so {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return reasons[0] + more


# Multi-frame objects


def _objects(images: Part) -> list[tuple[str, Part]]:
    """Take the images apart that are whole by themselves: each multi-frame object, each concatenation, all others."""
    objects: dict[str, list[ReceivedInstance]] = {}
    for one in images:
        objects.setdefault(_object_of(one), []).append(one)
    if len(objects) == 1:
        return [("", images)]
    return [(told_by, tuple(part)) for told_by, part in sorted(objects.items())]


def _object_of(image: ReceivedInstance) -> str:
    if not image.is_multi_frame:
        return "single frames"
    if image.concatenation is not None:
        return f"Concatenation UID {image.concatenation.uid}"
    return f"instance {image.sop_instance_uid}"


def _judge_object(part: Part, told_by: str, choose: Choose) -> list[FoundVolume | NoVolume]:
    lacking = _why_not_whole(part)
    if lacking:
        return [_no_volume(lacking, told_by, part)]
    return _Splitter(choose).judge(part, told_by, _WAYS, splits=_DEEPEST)


def _why_not_whole(images: Iterable[ReceivedInstance]) -> str:
    """Say which part of a concatenation is not there."""
    concatenations: dict[str, dict[int, int | None]] = {}
    for one in images:
        if one.concatenation is not None:
            concatenations.setdefault(one.concatenation.uid, {})[one.concatenation.number] = one.concatenation.total
    for numbers in concatenations.values():
        total = max([*numbers, *(total for total in numbers.values() if total is not None)])
        lacking = [number for number in range(1, min(total, 10_000) + 1) if number not in numbers]
        if lacking:
            return f"part {lacking[0]} of {total} of a concatenation is missing"
    return ""


# Splitting


@dataclass(frozen=True, slots=True)
class _Splitter:
    choose: Choose

    def judge(self, part: Part, told_by: str, ways: Sequence["_Way"], *, splits: int) -> list[FoundVolume | NoVolume]:
        """Give the one stack of a part, or the stacks of the best way to split it, or why it is none."""
        whole = self.choose(part)
        if isinstance(whole, Stack):
            return [FoundVolume(stack=whole, told_by=told_by)]
        best: list[FoundVolume | NoVolume] = [_no_volume(whole.reason, told_by, part)]
        for number, way in enumerate(ways if splits else ()):
            judged = [
                one
                for name, smaller in way(part)
                for one in self.judge(smaller, _joined(told_by, name), ways[number + 1 :], splits=splits - 1)
            ]
            if _stacks(judged) > 1 and _planes_in_stacks(judged) > _planes_in_stacks(best):
                best = judged
            if not any(isinstance(one, NoVolume) for one in best):
                break
        return best


def _joined(told_by: str, name: str) -> str:
    return f"{told_by}, {name}" if told_by else name


def _no_volume(reason: str, told_by: str, part: Part) -> NoVolume:
    uids = dict.fromkeys(one.sop_instance_uid for one in part)
    return NoVolume(reason=reason, told_by=told_by, sop_instance_uids=tuple(uids))


def _stacks(judged: Iterable[FoundVolume | NoVolume]) -> int:
    return sum(isinstance(one, FoundVolume) for one in judged)


def _planes_in_stacks(judged: Iterable[FoundVolume | NoVolume]) -> int:
    return sum(len(one.stack.planes) for one in judged if isinstance(one, FoundVolume))


_Way = Callable[[Part], Sequence[tuple[str, Part]]]


def _by_frame_of_reference(part: Part) -> Sequence[tuple[str, Part]]:
    parts: dict[str, list[ReceivedInstance]] = {}
    for one in part:
        parts.setdefault(one.frame_of_reference_uid or "none", []).append(one)
    return _several([(f"Frame of Reference {uid}", tuple(smaller)) for uid, smaller in sorted(parts.items())])


def _by_geometry(part: Part) -> Sequence[tuple[str, Part]]:
    groups = grouped_by_geometry(part)
    wanted = [{(one.plane.sop_instance_uid, one.plane.frame_number) for one in group.slices} for group in groups]
    parts = [
        (described(group), _with_planes(part, lambda one, index, taken=taken: _place(one, index) in taken))  # type: ignore[misc]
        for group, taken in zip(groups, wanted, strict=True)
    ]
    return _several(parts)


def _by_value(part: Part, keyword: str) -> Sequence[tuple[str, Part]]:
    values = {_value(one, index, keyword) for one in part for index in range(len(one.planes))}
    parts = [
        (
            f"{SPLITTING_KEYS[keyword]} {value or 'none'}",
            _with_planes(part, lambda one, index, value=value: _value(one, index, keyword) == value),  # type: ignore[misc]
        )
        for value in sorted(values, key=_in_order)
    ]
    return _several(parts) if parts and _share_a_place([smaller for _, smaller in parts]) else []


_WAYS: tuple[_Way, ...] = (
    _by_frame_of_reference,
    _by_geometry,
    *(partial(_by_value, keyword=keyword) for keyword in SPLITTING_KEYS),
)


def _several(parts: list[tuple[str, Part]]) -> list[tuple[str, Part]]:
    """Give the parts where there are several, not all of one plane: those are no stacks."""
    planes = sum(len(one.planes) for _, part in parts for one in part)
    return parts if 1 < len(parts) < planes else []


def _place(image: ReceivedInstance, index: int) -> tuple[str, int | None]:
    return image.sop_instance_uid, image.planes[index].frame_number


def _value(image: ReceivedInstance, index: int, keyword: str) -> str:
    return image.plane_keys[index].get(keyword, "") if image.plane_keys else ""


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _with_planes(part: Part, wanted: Callable[[ReceivedInstance, int], bool]) -> Part:
    """Take the planes that are wanted, with their instances; an instance may keep some of its frames."""
    taken = []
    for one in part:
        indices = [index for index in range(len(one.planes)) if wanted(one, index)]
        if indices:
            keys = tuple(one.plane_keys[index] for index in indices) if one.plane_keys else ()
            planes = tuple(one.planes[index] for index in indices)
            taken.append(one if len(indices) == len(one.planes) else replace(one, planes=planes, plane_keys=keys))
    return tuple(taken)


def _share_a_place(parts: Sequence[Part]) -> bool:
    """Tell whether all parts overlap along the normal by a good part of the shortest."""
    normal = parts[0][0].planes[0].normal
    ranges = []
    for part in parts:
        positions = [plane.position_lps_mm for plane in chain.from_iterable(one.planes for one in part)]
        distances = np.array(positions) @ normal
        ranges.append((float(distances.min()), float(distances.max())))
    shared = min(end for _, end in ranges) - max(start for start, _ in ranges)
    return shared >= _SHARED * min(end - start for start, end in ranges)
