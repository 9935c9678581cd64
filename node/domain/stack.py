"""Which instances of a series form one regular stack of planes, and why the others do not.

``choose_stack`` never depends on the order of its input: it sorts by UID first and by position afterwards.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Plane, ordered_along_normal
from node.domain.instance import ReceivedInstance

# Two planes closer than this are at the same place; writers round positions to 2 decimals or more.
SAME_PLACE_MM = 0.01
# A gap may always differ by this from the others: both its ends are rounded to 0.01 mm.
ROUNDING_MM = 0.02
# Half of what `Grid` allows between any two planes, for here each is compared with one of the middle.
ORIENTATION_TOLERANCE = 5e-4
PIXEL_SPACING_TOLERANCE = 5e-4
# A stack wins over the next largest only if it has this many times as many planes.
CLEAR_MAJORITY = 2
# More odd gaps than this fraction are another spacing, not missing slices.
_FEW_GAPS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An instance of the series that is not part of the volume, and why."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why the instances form no volume (yet)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """An ordered, regular stack with the instances that hold its planes."""

    planes: tuple[Plane, ...]
    # Sorted by SOP Instance UID.
    instances: tuple[ReceivedInstance, ...]
    left_out: tuple[LeftOut, ...]


class Placed(NamedTuple):
    """A plane with the instance that holds it."""

    plane: Plane
    instance: ReceivedInstance


class Kind(NamedTuple):
    """What all planes of a stack share."""

    sop_class_uid: str
    modality: str
    rows: int
    columns: int
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, ...]


class Group(NamedTuple):
    """Planes that may lie in one stack."""

    kind: Kind
    slices: list[Placed]


def choose_stack(
    instances: Iterable[ReceivedInstance], *, minimum_slices: int, spacing_tolerance: float
) -> Stack | Obstacle:
    """Choose the planes of the volume among all instances of a series.

    Left out are instances without an image plane, localizers, repeated images and planes of another orientation,
    size or spacing than a clear majority. Two stacks of comparable size, different images at one place, several
    patients, studies or Frames of Reference, gaps and sideways jumps are obstacles.

    Parameters
    ----------
    minimum_slices
        Fewer planes are not a volume.
    spacing_tolerance
        Largest deviation of one gap from the median gap, as a fraction of it; 0.02 mm are always allowed.
    """
    ordered = sorted(instances, key=lambda one: (one.sop_instance_uid, one.pixel_digest, one.file_name))
    images = [one for one in ordered if why_no_image(one) is None]
    reason = why_no_images(ordered) if not images else why_mixed(ordered) or _why_not_one_frame_of_reference(images)
    if reason:
        return Obstacle(reason=reason)
    groups = grouped_by_geometry(images)
    reason = _why_ambiguous(groups, minimum_slices)
    if reason:
        return Obstacle(reason=reason)
    kept, repeated, reason = _without_repeats(groups[0].slices)
    planes = ordered_along_normal([one.plane for one in kept])
    reason = reason or _why_irregular(planes, minimum_slices, spacing_tolerance)
    if reason:
        return Obstacle(reason=reason)
    return Stack(
        planes=planes,
        instances=tuple({one.plane.sop_instance_uid: one.instance for one in kept}.values()),
        left_out=(*no_images(ordered), *_minority(groups), *repeated),
    )


# Images, or not


def why_no_image(instance: ReceivedInstance) -> str | None:
    """Say why an instance shows no plane in the patient; None where it does."""
    if "LOCALIZER" in instance.image_type:
        return "localizer"
    return instance.not_an_image or (None if instance.planes else "no image plane")


def no_images(instances: Iterable[ReceivedInstance]) -> list[LeftOut]:
    """Name the instances that show no plane in the patient, each with the reason."""
    reasons = ((one.sop_instance_uid, why_no_image(one)) for one in instances)
    return [LeftOut(sop_instance_uid=uid, reason=reason) for uid, reason in reasons if reason]


def why_no_images(instances: Sequence[ReceivedInstance]) -> str:
    """Say why none of the instances shows a plane in the patient."""
    reasons = Counter(left.reason for left in no_images(instances))
    if set(reasons) == {"localizer"}:
        return f"only localizer images ({len(instances)})"
    listed = "; ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items()))
    return f"no image plane in {len(instances)} instance{'s' * (len(instances) != 1)}: {listed}"


def why_mixed(instances: Iterable[ReceivedInstance]) -> str | None:
    """Say that the instances are of several patients or studies, which no splitting mends."""
    instances = tuple(instances)
    for values, name in (
        ({one.patient_digest for one in instances}, "patients"),
        ({one.study_instance_uid for one in instances}, "studies"),
    ):
        if len(values) > 1:
            return f"instances of {len(values)} {name} in one series"
    return None


def _why_not_one_frame_of_reference(images: Sequence[ReceivedInstance]) -> str | None:
    known = {one.frame_of_reference_uid for one in images} - {None}
    if len(known) > 1:
        return f"instances of {len(known)} Frames of Reference in one series"
    missing = sum(one.frame_of_reference_uid is None for one in images)
    if missing:
        return f"Frame of Reference UID is missing in {missing} of {len(images)} images"
    return None


# One stack among several


def grouped_by_geometry(images: Iterable[ReceivedInstance]) -> list[Group]:
    """Group planes that may lie in one stack, the largest group first."""
    exact: dict[Kind, list[Placed]] = {}
    for instance in images:
        for plane in instance.planes:
            exact.setdefault(_kind(plane, instance), []).append(Placed(plane, instance))
    groups: list[Group] = []
    for kind, slices in sorted(exact.items(), key=lambda item: (-len(item[1]), item[0])):
        alike = next((group for group in groups if _alike(group.kind, kind)), None)
        if alike is None:
            groups.append(Group(kind, list(slices)))
        else:
            alike.slices.extend(slices)
    return sorted(groups, key=lambda group: (-len(group.slices), group.kind))


def _kind(plane: Plane, instance: ReceivedInstance) -> Kind:
    return Kind(
        instance.sop_class_uid,
        instance.modality,
        plane.rows,
        plane.columns,
        plane.orientation,
        plane.pixel_spacing_mm,
    )


def _alike(one: Kind, other: Kind) -> bool:
    return one[:4] == other[:4] and _same_orientation(one, other) and _same_spacing(one, other)


def _same_orientation(one: Kind, other: Kind) -> bool:
    pairs = zip(one.orientation, other.orientation, strict=True)
    return all(abs(a - b) <= ORIENTATION_TOLERANCE for a, b in pairs)


def _same_spacing(one: Kind, other: Kind) -> bool:
    pairs = zip(one.pixel_spacing_mm, other.pixel_spacing_mm, strict=True)
    return all(abs(a - b) <= PIXEL_SPACING_TOLERANCE * abs(a) for a, b in pairs)


def _why_ambiguous(groups: Sequence[Group], minimum_slices: int) -> str | None:
    largest = groups[0]
    for other in groups[1:]:
        # An instance in two stacks can neither be taken nor be left out.
        both = {one.instance.sop_instance_uid for one in largest.slices} & {
            one.instance.sop_instance_uid for one in other.slices
        }
        if both:
            return f"the frames of instance {min(both)} form more than one stack: {_other(other.kind, largest.kind)}"
        if len(other.slices) >= minimum_slices and len(largest.slices) < CLEAR_MAJORITY * len(other.slices):
            return f"two stacks of comparable size: {described(largest)}, and {described(other)}"
    return None


def _minority(groups: Sequence[Group]) -> list[LeftOut]:
    reasons = {
        one.instance.sop_instance_uid: f"{_other(group.kind, groups[0].kind)} than the volume"
        for group in groups[1:]
        for one in group.slices
    }
    return [LeftOut(sop_instance_uid=uid, reason=reason) for uid, reason in sorted(reasons.items())]


def _other(kind: Kind, than: Kind) -> str:
    if (kind.sop_class_uid, kind.modality) != (than.sop_class_uid, than.modality):
        return "another kind of image"
    if not _same_orientation(kind, than):
        return "another orientation"
    if (kind.rows, kind.columns) != (than.rows, than.columns):
        return f"another size ({kind.rows} rows × {kind.columns} columns)"
    return f"another pixel spacing ({kind.pixel_spacing_mm[0]:g} \\ {kind.pixel_spacing_mm[1]:g} mm)"


def described(group: Group) -> str:
    """Name a group by number, orientation, size and spacing of its planes."""
    kind = group.kind
    normal = np.abs(np.cross(kind.orientation[:3], kind.orientation[3:]))
    name = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    return (
        f"{len(group.slices)} {name} planes of {kind.rows} rows × {kind.columns} columns "
        f"at {kind.pixel_spacing_mm[0]:g} \\ {kind.pixel_spacing_mm[1]:g} mm"
    )


# One image at one place


def _without_repeats(slices: Sequence[Placed]) -> tuple[list[Placed], list[LeftOut], str | None]:
    """Keep one of the same images at the same place; the third value says where the images there differ."""
    ordered = sorted(slices, key=lambda one: (one.plane.sop_instance_uid, one.plane.frame_number or 0))
    kept: list[Placed] = []
    repeated: list[LeftOut] = []
    clashes: list[str] = []
    for level in _levels(ordered):
        first = level[0]
        reason = _why_not_the_same(level)
        if reason:
            clashes.append(reason)
        kept.append(first)
        repeated += [
            LeftOut(sop_instance_uid=uid, reason=f"repeats instance {first.plane.sop_instance_uid}")
            for uid in (one.plane.sop_instance_uid for one in level[1:])
        ]
    more = f", and so at {len(clashes) - 1} more places" if len(clashes) > 1 else ""
    return kept, list(dict.fromkeys(repeated)), clashes[0] + more if clashes else None


def _levels(slices: Sequence[Placed]) -> list[list[Placed]]:
    """Split into planes at the same distance along the normal, each level in the order given."""
    distances = np.array([one.plane.position_lps_mm for one in slices]) @ slices[0].plane.normal
    order = np.argsort(distances, kind="stable")
    levels_of_order = np.cumsum(np.diff(distances[order], prepend=-np.inf) > SAME_PLACE_MM)
    pairs = zip(levels_of_order.tolist(), order.tolist(), strict=True)
    return [
        [slices[index] for index in sorted(index for _, index in level)]
        for _, level in groupby(pairs, key=lambda pair: pair[0])
    ]


def _why_not_the_same(level: Sequence[Placed]) -> str | None:
    if len(level) == 1:
        return None
    positions = np.array([one.plane.position_lps_mm for one in level])
    apart = float(np.linalg.norm(positions - positions[0], axis=1).max())
    where = _where(level[0].plane)
    if apart > 2 * SAME_PLACE_MM:
        return f"{len(level)} planes side by side at {where}, {apart:.3f} mm apart"
    contents = {(one.instance.pixel_digest, one.plane.frame_number) for one in level}
    if len(contents) > 1:
        return f"{len(contents)} different images at {where}"
    return None


# Regular, or not


def _why_irregular(planes: Sequence[Plane], minimum_slices: int, spacing_tolerance: float) -> str | None:
    if len(planes) < max(minimum_slices, 1):
        return f"only {len(planes)} image plane{'s' * (len(planes) != 1)}; a volume needs {minimum_slices}"
    if len(planes) < 3:
        return None
    normal = planes[0].normal
    steps = np.diff(np.array([plane.position_lps_mm for plane in planes]), axis=0)
    gaps = steps @ normal
    usual = float(np.percentile(gaps, 50, method="lower"))
    allowed = max(spacing_tolerance * usual, ROUNDING_MM)
    odd = np.flatnonzero(np.abs(gaps - usual) > allowed)
    if len(odd):
        return _why_odd_gaps(planes, gaps, odd, usual, allowed)
    sideways = steps - np.outer(gaps, normal)
    # A constant shift from plane to plane is gantry tilt.
    jumps = np.linalg.norm(sideways - np.median(sideways, axis=0), axis=1)
    worst = int(np.argmax(jumps))
    if jumps[worst] > allowed:
        return f"sideways jump of {jumps[worst]:.3f} mm between {_where(planes[worst])} and {_where(planes[worst + 1])}"
    return None


def _why_odd_gaps(
    planes: Sequence[Plane], gaps: NDArray[np.float64], odd: NDArray[np.intp], usual: float, allowed: float
) -> str:
    times = np.round(gaps[odd] / usual)
    whole = bool(np.all((times >= 2) & (np.abs(gaps[odd] - times * usual) <= times * allowed)))
    if not whole or len(odd) > max(1, _FEW_GAPS * len(gaps)):
        return f"variable slice spacing: gaps of {gaps.min():.3f} to {gaps.max():.3f} mm, mostly {usual:.3f} mm"
    first = int(odd[0])
    place = f"between {_where(planes[first])} and {_where(planes[first + 1])}, others {usual:.3f} mm"
    if len(odd) == 1:
        return f"slice missing: gap of {gaps[first]:.3f} mm {place}"
    return f"slices missing at {len(odd)} places: the first is a gap of {gaps[first]:.3f} mm {place}"


def _where(plane: Plane) -> str:
    axial = abs(plane.normal[2]) > 0.999
    return f"z={plane.position_lps_mm[2]:.3f}" if axial else f"{plane.distance_mm:.3f} mm along the normal"
