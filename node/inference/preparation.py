"""The image as a network with a window takes it: normalised, resampled and padded, some slices at a time.

Slices are made when a row of patches asks for them, from as many of the series' as reach them, so that as many are held
whatever their number.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from node.inference.network_tables import WindowedInput
from node.inference.normalisation import Scale, filled_nonzero_mask, scale_of
from node.inference.plan import PLANES_AT_ONCE, Plan
from node.inference.predictor import Progress, Tensor, WindowRuntime
from node.inference.resampling import Operator, Three, first_and_last

Image = NDArray[np.float32]


class PreparedImage:
    """All channels of a cropped image."""

    def __init__(
        self, cropped: Sequence[Image], wanted: WindowedInput, plan: Plan, runtime: WindowRuntime, progress: Progress
    ) -> None:
        """Find out how each channel is normalised."""
        masked = any(channel.masked for channel in wanted.channels)
        mask = filled_nonzero_mask(cropped) if masked else None
        self._runtime = runtime
        self._channels = []
        for number, (values, channel) in enumerate(zip(cropped, wanted.channels, strict=True)):
            progress("resample", number, len(cropped))
            self._channels.append(_Channel(values, scale_of(values, channel, mask), plan, runtime))
        progress("resample", len(cropped), len(cropped))

    def slices(self, first: int, last: int) -> Tensor:
        """Give slices of the padded image, ``[1, channel, z, y, x]`` where the network runs.

        ``first`` is never less than at the call before.
        """
        return self._runtime.volume([channel.slices(first, last) for channel in self._channels])


class _Channel:
    """Resamples within planes first and across them then; slices that are resampled one by one are the planes."""

    def __init__(self, values: Image, scale: Scale, plan: Plan, runtime: WindowRuntime) -> None:
        how = plan.to_model
        across = how.separate_axis or 0
        self._order = cast(Three, (across, *(axis for axis in range(3) if axis != across)))
        self._planes = values.transpose(self._order)
        self._mask = None if scale.mask is None else scale.mask.transpose(self._order)
        self._scale = scale
        self._plan = plan
        self._runtime = runtime
        clipped = how.clipped and how.changes
        self._by_plane = clipped and how.separate_axis is not None
        self._limits = _limits(values, scale) if clipped and how.separate_axis is None else None
        # Planes at the network's spacing, by their number over PLANES_AT_ONCE, that the next slices may need, too.
        self._waiting: dict[int, Tensor] = {}

    def slices(self, first: int, last: int) -> Tensor:
        """Give slices of the padded image, ``[1, 1, z, y, x]``."""
        before, size = self._plan.padding[0][0], self._plan.model_shape[0]
        begin, end = max(first - before, 0), min(last - before, size)
        padding = ((begin + before - first, last - before - end), *self._plan.padding[1:])
        along = self._plan.to_model.along[0]
        # To take some slices is a product, too.
        wanted = np.eye(size, dtype=np.float32)[begin:end] if along is None else along[begin:end]
        planes, across = self._across(wanted) if self._order[0] == 0 else self._along(wanted)
        back = cast(Three, tuple(self._order.index(axis) for axis in range(3)))
        return self._runtime.channel(planes, across, self._limits, back, padding)

    def _across(self, wanted: Operator) -> tuple[list[Tensor], Operator]:
        """Resample planes that lie along the slices, those that are needed; gives what mixes them, too."""
        firsts, lasts = first_and_last(wanted)
        numbers = range(int(firsts.min()) // PLANES_AT_ONCE, int(lasts.max()) // PLANES_AT_ONCE + 1)
        within = (self._plan.to_model.along[1], self._plan.to_model.along[2])
        self._waiting = {
            number: self._waiting[number] if number in self._waiting else self._resampled(number, within)
            for number in numbers
        }
        mixed = wanted[:, numbers.start * PLANES_AT_ONCE : numbers.stop * PLANES_AT_ONCE]
        return list(self._waiting.values()), np.ascontiguousarray(mixed)

    def _along(self, wanted: Operator) -> tuple[list[Tensor], Operator | None]:
        """Resample planes that cross the slices, all of them, to the wanted slices' parts."""
        along = self._plan.to_model.along
        within = (np.ascontiguousarray(wanted), along[self._order[2]])
        numbers = range(-(-len(self._planes) // PLANES_AT_ONCE))
        return [self._resampled(number, within) for number in numbers], along[self._order[0]]

    def _resampled(self, number: int, within: tuple[Operator | None, Operator | None]) -> Tensor:
        part = slice(number * PLANES_AT_ONCE, (number + 1) * PLANES_AT_ONCE)
        mask = None if self._mask is None else np.ascontiguousarray(self._mask[part])
        planes = np.ascontiguousarray(self._planes[part])
        return self._runtime.planes(planes, self._scale, mask, within, self._by_plane)


def _limits(values: Image, scale: Scale) -> tuple[float, float]:
    """Give the least and the greatest normalised value."""
    extremes = np.array([values.min(), values.max()], dtype=np.float32)
    if scale.limits is not None:
        extremes = extremes.clip(np.float32(scale.limits[0]), np.float32(scale.limits[1]))
    least, greatest = (extremes - np.float32(scale.mean)) / np.float32(scale.deviation)
    if scale.mask is None or scale.mask.all():
        return float(least), float(greatest)
    inside = values[scale.mask]
    # The mean becomes 0, which is among the values anyhow: it stands for a mask that is empty.
    ends = inside.min(initial=scale.mean), inside.max(initial=scale.mean)
    least, greatest = ((each - scale.mean) / scale.deviation for each in ends)
    return float(min(least, 0.0)), float(max(greatest, 0.0))
