"""What is to be done with a volume of one shape, and the memory that it takes. Decided before anything is computed."""

import math
from dataclasses import dataclass

from node.domain.errors import ResourceError
from node.inference.network_tables import Output, WindowedInput
from node.inference.predictor import Room, Segments
from node.inference.resampling import (
    Extent,
    Resampling,
    Three,
    nnunet_resampling,
    resampled_shape,
    separated_axis,
)
from node.inference.windows import mirrorings, padding, patch_starts, segments

# Of the network's slices, so many are joined, labelled and let go at a time.
SLAB_SLICES = 16

# Planes that are sent and resampled at a time.
PLANES_AT_ONCE = 16

# Slices beyond which a cubic spline's weight is below what `node.inference.resampling` keeps: 0.27 to the power of it.
_SPLINE_REACH = 18

_FLOAT32 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A windowed inference; axes are the network's, z, y and x."""

    # Of the cropped image, and at the network's spacing.
    shape: Three
    model_shape: Three
    to_model: Resampling
    # Of scores, from the network's spacing to that of the cropped image.
    back: Resampling
    padding: tuple[tuple[int, int], ...]
    patch: Three
    # Of patches along each axis of the padded image.
    starts: tuple[tuple[int, ...], ...]
    # Between all starts and ends along each axis.
    segments: tuple[Segments, Segments, Segments]
    mirrorings: tuple[tuple[int, ...], ...]
    classes: int

    @property
    def patches(self) -> int:
        """Count the patches."""
        return math.prod(len(starts) for starts in self.starts)

    @property
    def padded_shape(self) -> Three:
        """Give the shape of the image that patches are taken from."""
        return self.segments[0][-1][1], self.segments[1][-1][1], self.segments[2][-1][1]


def plan_windows(shape: Three, spacing_mm: Extent, wanted: WindowedInput, output: Output) -> Plan:
    """Plan the inference of a cropped image.

    Parameters
    ----------
    shape, spacing_mm
        Of the image when nnU-Net's own resampling begins, in the network's order of axes.
    """
    own_resampling = wanted.resample == "nnunet"
    model_shape = resampled_shape(shape, spacing_mm, wanted.spacing_mm) if own_resampling else shape
    separate = separated_axis(spacing_mm, wanted.spacing_mm, wanted.separate_slices)
    # Going back, the network's spacing is the present one.
    separate_back = separated_axis(wanted.spacing_mm, spacing_mm, wanted.separate_slices)
    pad = padding(model_shape, wanted.window.patch)
    padded = [size + before + after for size, (before, after) in zip(model_shape, pad, strict=True)]
    starts = tuple(
        patch_starts(size, patch, wanted.window.step) for size, patch in zip(padded, wanted.window.patch, strict=True)
    )
    first, second, third = (segments(each, patch) for each, patch in zip(starts, wanted.window.patch, strict=True))
    return Plan(
        shape=shape,
        model_shape=model_shape,
        to_model=nnunet_resampling(shape, model_shape, separate, wanted.order, wanted.order_between_slices),
        back=nnunet_resampling(model_shape, shape, separate_back, order=1, order_between=0),
        padding=pad,
        patch=wanted.window.patch,
        starts=starts,
        segments=(first, second, third),
        mirrorings=mirrorings(wanted.window.mirror_axes),
        classes=output.classes,
    )


def bytes_needed(plan: Plan, channels: int, room: Room) -> int:
    """Give the memory that a plan takes where the network runs, beside the series and its labels.

    The image and its scores are never held as a whole: what a row of patches needs is, whatever the slices.
    """
    plane = math.prod(plan.padded_shape[1:])
    window = plan.patch[0] * plane
    half_way = _values_half_way(plan)
    answer = _FLOAT32 * plan.classes * math.prod(plan.patch)
    # Some of the series' planes on the way to the network's spacing.
    plane_pixels = math.prod(plan.shape) // plan.shape[plan.to_model.separate_axis or 0]
    planes = 6 * _FLOAT32 * PLANES_AT_ONCE * plane_pixels
    # The last slab is held until the next is made, which continues it.
    slab = _FLOAT32 * plan.classes * (SLAB_SLICES + 2) * plane
    totals = _FLOAT32 * plan.classes * window
    held = planes + _FLOAT32 * channels * (half_way + window) + totals + slab + answer * (len(plan.mirrorings) > 1)
    # A row's channels are made beside those of the row before, one by one, then joined.
    preparing = answer + _FLOAT32 * (half_way + 3 * window + 2 * channels * window)
    # The next slab, and what its parts are joined from.
    labelling = answer + 2 * slab + 4 * _FLOAT32 * max(room.label_values, plan.classes)
    return held + max(preparing, room.network, labelling)


def _values_half_way(plan: Plan) -> int:
    """Count what waits of one channel, resampled within planes, for what lies beside it."""
    if plan.to_model.separate_axis:
        # Planes cross the slices: all are needed, for the slices of a row.
        across = plan.to_model.separate_axis
        return plan.shape[across] * plan.patch[0] * math.prod(plan.model_shape[1:]) // plan.model_shape[across]
    reached = math.ceil(plan.patch[0] * plan.shape[0] / plan.model_shape[0]) + 2 * (_SPLINE_REACH + PLANES_AT_ONCE)
    return min(plan.shape[0], reached) * math.prod(plan.model_shape[1:])


def bytes_to_resample(shape: Three, model_shape: Three, wanted: WindowedInput) -> int:
    """Give what TotalSegmentator's way takes of the machine's memory at most before there is a plan, beside the series.

    It resamples whole images of all channels: each in float64, and then float32 of it is kept.
    """
    kept = _FLOAT32 * math.prod(model_shape)
    # A spline of a higher order is of coefficients in float64, and of values, 12 of them added on each side.
    coefficients = 3 * _FLOAT32 * math.prod(size + 24 for size in shape) if wanted.order > 1 else 0
    before_last = (len(wanted.channels) - 1) * kept
    return before_last + 2 * kept + max(kept, coefficients)


def refuse_too_large_to_resample(needed: int, room: Room) -> None:
    """Refuse images that the machine's memory does not hold resampled as a whole, as `bytes_to_resample` gives it.

    Raises
    ------
    ResourceError
        With what is needed and what is there.
    """
    if needed > room.host:
        raise ResourceError(
            f"{needed / 1e9:.1f} GB of memory are needed to resample the images, and this machine has "
            f"{room.host / 1e9:.1f} GB free.",
            "Free memory, or use a machine with more.",
        )


def refuse_too_large(plan: Plan, channels: int, room: Room, held: int = 0) -> None:
    """Refuse what the memory does not hold, before it is tried.

    Parameters
    ----------
    held
        Bytes that will be taken before and are not yet.

    Raises
    ------
    ResourceError
        With what is needed and what is there.
    """
    needed = held + bytes_needed(plan, channels, room)
    free, whose = (room.host, "this machine") if room.device is None else (room.device, "the accelerator")
    if needed > free:
        shape = " × ".join(str(size) for size in plan.model_shape)
        raise ResourceError(
            f"{needed / 1e9:.1f} GB of memory are needed for {plan.classes} classes on {shape} voxels, "
            f"and {whose} has {free / 1e9:.1f} GB free.",
            "Free memory, or use a machine with more; a model with fewer classes or a coarser spacing needs less.",
        )
