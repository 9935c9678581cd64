"""Runs a network with a window over a volume: nnU-Net v2's inference, and TotalSegmentator's around it.

The volume goes to where the network runs once, and labels come back once. Patches go row by row along the first axis.
What no further patch will touch is divided by its weights, interpolated, labelled and let go, so scores are held for
the slices of one row of patches alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import cast

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError
from node.domain.volume import Box, Probabilities, Volume
from node.inference.network_tables import Output, WindowedInput
from node.inference.normalisation import nonzero_box
from node.inference.plan import (
    SLAB_SLICES,
    Plan,
    bytes_to_resample,
    plan_windows,
    refuse_too_large,
    refuse_too_large_to_resample,
)
from node.inference.predictor import Operators, Progress, Tensor, WindowRuntime
from node.inference.preparation import PreparedImage
from node.inference.probabilities import UnsureVoxels
from node.inference.resampling import (
    Extent,
    Operator,
    Three,
    corner_aligned,
    first_and_last,
    nearest_corner_aligned,
    resampled_shape,
)
from node.inference.transforms import Labels, background, nearest_axes
from node.inference.windows import gaussian

Image = NDArray[np.float32]
Place = tuple[int, int, int]


def labels_by_windows(
    volumes: Sequence[Volume], wanted: WindowedInput, output: Output, runtime: WindowRuntime, progress: Progress
) -> tuple[Labels, Probabilities | None]:
    """Segment a volume, or several of one grid that are the channels of one input.

    Returns
    -------
    Shape of the series' grid, uint8 where every label is below 256, else uint16.

    Raises
    ------
    InputError
        There are not as many volumes as channels, or they are single planes.
    ResourceError
        The memory does not suffice; the network did not run.
    SetupError
        The network answered with a value that is no finite number.
    """
    if len(volumes) != len(wanted.channels):
        names = ", ".join(channel.name for channel in wanted.channels)
        raise InputError(f"The model takes {len(wanted.channels)} images of one place ({names}), not {len(volumes)}.")
    grid = volumes[0].grid
    if grid.shape[0] < 2:
        raise InputError("A single plane is no volume.")
    axes, flips = _way(volumes[0], wanted)
    labels = background(grid.shape, max(output.label_values))
    images = [volume.voxels.transpose(axes)[flips] for volume in volumes]
    there = labels.transpose(axes)[flips]
    spacing_mm = cast(Extent, tuple(grid.spacing_mm[axis] for axis in axes))
    if wanted.resample == "totalsegmentator":
        _label_at_model_spacing(_Images(images, spacing_mm, wanted), output, runtime, there, progress)
        return labels, None
    return labels, _label_cropped(_Images(images, spacing_mm, wanted), output, runtime, there, progress)


def _way(volume: Volume, wanted: WindowedInput) -> tuple[Place, tuple[slice, ...]]:
    """Give the transposition and the flips from the series' axes to the network's."""
    axes, flipped = (0, 1, 2), (False, False, False)
    if wanted.orientation != "native":
        axes, flipped = nearest_axes(volume.grid.axis_directions(), wanted.orientation)
    order = wanted.axis_order
    flips = tuple(slice(None, None, -1 if flipped[axis] else 1) for axis in order)
    return (axes[order[0]], axes[order[1]], axes[order[2]]), flips


@dataclass(frozen=True, slots=True)
class _Images:
    """The channels along the network's axes, and how the network wants them."""

    channels: Sequence[Image]
    spacing_mm: Extent
    wanted: WindowedInput


def _label_at_model_spacing(
    images: _Images, output: Output, runtime: WindowRuntime, there: Labels, progress: Progress
) -> None:
    """Label at the network's spacing and take the nearest label from there."""
    wanted = images.wanted
    progress("resample", 0, 1)
    own_shape = cast(Three, there.shape)
    shape = resampled_shape(own_shape, images.spacing_mm, wanted.spacing_mm)
    refuse_too_large_to_resample(bytes_to_resample(own_shape, shape, wanted), runtime.room())
    coarse = [_cut_off(corner_aligned(each, shape, wanted.order)) for each in images.channels]
    found = np.zeros(shape, dtype=there.dtype)
    _label_cropped(_Images(coarse, wanted.spacing_mm, wanted), output, runtime, found, progress)
    nearest = [nearest_corner_aligned(size, new) for size, new in zip(shape, there.shape, strict=True)]
    for index, slice_index in enumerate(nearest[0]):
        there[index] = found[slice_index][np.ix_(nearest[1], nearest[2])]


def _cut_off(values: NDArray[np.float64]) -> Image:
    """Cut fractions off, in the values' place."""
    return np.trunc(values, out=values).astype(np.float32)


def _label_cropped(
    images: _Images, output: Output, runtime: WindowRuntime, there: Labels, progress: Progress
) -> Probabilities | None:
    """Label what is not zero, and say how sure the network is where its scores are logits."""
    box = nonzero_box(images.channels) if images.wanted.crop == "nonzero" else (slice(None),) * 3
    cropped = [channel[box] for channel in images.channels]
    plan = plan_windows(cast(Three, cropped[0].shape), images.spacing_mm, images.wanted, output)
    refuse_too_large(plan, len(cropped), runtime.room())
    image = PreparedImage(cropped, images.wanted, plan, runtime, progress)
    run = _Run(plan, runtime, image, gaussian(plan.patch, images.wanted.window.gaussian_sigma))
    unsure = UnsureVoxels(_owner(there), there[box], plan.classes) if output.activation == "softmax" else None
    _Labeller(plan, output, runtime, there[box], unsure).label(run.slabs(progress), progress)
    return None if unsure is None else unsure.probabilities()


def _owner(view: Labels) -> Labels:
    """Give the array that a view is of."""
    owner = view if view.base is None else view.base
    if not isinstance(owner, np.ndarray):
        raise TypeError("labels lie in memory that is no array")
    return owner


@dataclass(slots=True)
class _Slab:
    """Scores of some slices of the padded image, final."""

    scores: Tensor
    first: int
    last: int


@dataclass(slots=True)
class _Run:
    """Patches through the network, and their sum."""

    plan: Plan
    runtime: WindowRuntime
    image: PreparedImage
    # Of one patch.
    weights: NDArray[np.float32]
    # Sums of weights by segment along the first axis.
    _weights: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def slabs(self, progress: Progress) -> Iterator[_Slab]:
        """Give the scores, slices in order; each is given up when the next is asked for."""
        passes = list(product(range(self.runtime.folds), self.plan.mirrorings))
        # The mean over folds and mirrorings, taken while summing.
        share = self.runtime.held(self.weights / np.float32(len(passes)))
        sums = self.runtime.sums(self.plan.segments)
        starts, done = self.plan.starts, 0
        previous: _Slab | None = None
        for number, first in enumerate(starts[0]):
            row = self.image.slices(first, first + self.plan.patch[0])
            for second, third in product(starts[1], starts[2]):
                progress("predict", done, self.plan.patches)
                for fold, mirrored in passes:
                    scores = self.runtime.scores(fold, row, (0, second, third), mirrored)
                    self.runtime.add(sums, scores, share, (first, second, third))
                self._weigh((first, second, third))
                done += 1
            next_start = starts[0][number + 1] if number + 1 < len(starts[0]) else self.plan.padded_shape[0]
            for slab in self._finished(sums, next_start, previous):
                previous = slab
                yield slab
        progress("predict", done, self.plan.patches)

    def _covered(self, start: int) -> Iterator[tuple[int, slice]]:
        """Give the segments along the first axis that a patch covers, with where they lie in it."""
        for number, (first, last) in enumerate(self.plan.segments[0]):
            if start <= first and last <= start + self.plan.patch[0]:
                yield number, slice(first - start, last - start)

    def _weigh(self, start: Place) -> None:
        _, rows, columns = self.plan.padded_shape
        _, y, x = start
        for number, slices in self._covered(start[0]):
            if number not in self._weights:
                self._weights[number] = np.zeros((slices.stop - slices.start, rows, columns), dtype=np.float32)
            here = self._weights[number][:, y : y + self.plan.patch[1], x : x + self.plan.patch[2]]
            here += self.weights[slices]

    def _finished(self, sums: Tensor, before: int, previous: _Slab | None) -> Iterator[_Slab]:
        """Give what lies before a slice, which no further patch touches."""
        for number, (first, last) in enumerate(self.plan.segments[0]):
            if last > before or number not in self._weights:
                continue
            weights = self._weights.pop(number)
            for start in range(first, last, SLAB_SLICES):
                part = slice(start, min(start + SLAB_SLICES, last))
                previous = self._joined(sums, part, weights[start - first : part.stop - first], previous)
                yield previous

    def _joined(self, sums: Tensor, part: slice, weights: NDArray[np.float32], previous: _Slab | None) -> _Slab:
        """Put the slice before in front: interpolation looks at both sides of a gap."""
        carried = None if previous is None else (previous.scores, previous.last - previous.first - 1)
        scores = self.runtime.slab(carried, sums, part, weights)
        return _Slab(scores, part.start - (carried is not None), part.stop)


class _Labeller:
    """Brings scores back to the image's own grid, part by part, and writes labels there."""

    def __init__(
        self, plan: Plan, output: Output, runtime: WindowRuntime, there: Labels, unsure: UnsureVoxels | None
    ) -> None:
        self._plan = plan
        self._runtime = runtime
        self._there = there
        self._unsure = unsure
        self._regions = bool(output.region_values)
        # What the numbers of regions mean; the number of a class is its label.
        self._values = np.array([0, *output.region_values], there.dtype) if self._regions else None
        self._axes = [
            _Axis(operator, size, before, new)
            for operator, size, (before, _), new in zip(
                plan.back.along, plan.model_shape, plan.padding, plan.shape, strict=True
            )
        ]
        self._tile = self._tile_shape()

    def label(self, slabs: Iterator[_Slab], progress: Progress) -> None:
        """Label every slice of the image as soon as all that it is interpolated from is final."""
        done = 0
        slices = self._plan.shape[0]
        for slab in slabs:
            ready = self._axes[0].ready(done, slab.last)
            while done < ready:
                until = min(done + self._tile[0], ready)
                self._label_slices(slab, done, until)
                done = until
                progress("label", done, slices)

    def _tile_shape(self) -> Three:
        """As much as labelling works on at a time: whole slices, or parts of some."""
        slices, rows, columns = self._plan.shape
        values = self._runtime.room().label_values // self._plan.classes
        if values < rows * columns:
            rows, columns = min(rows, 32), min(columns, 64)
        return max(1, min(slices, SLAB_SLICES, values // (rows * columns))), rows, columns

    def _label_slices(self, slab: _Slab, first: int, last: int) -> None:
        from_slices, across = self._axes[0].part(first, last)
        _, rows, columns = self._plan.shape
        for top, left in product(range(0, rows, self._tile[1]), range(0, columns, self._tile[2])):
            down, right = min(top + self._tile[1], rows), min(left + self._tile[2], columns)
            from_rows, along_rows = self._axes[1].part(top, down)
            from_columns, along_columns = self._axes[2].part(left, right)
            box = (slice(from_slices.start - slab.first, from_slices.stop - slab.first), from_rows, from_columns)
            found = self._found(slab, box, (across, along_rows, along_columns), (first, top, left))
            self._there[first:last, top:down, left:right] = found if self._values is None else self._values[found]

    def _found(self, slab: _Slab, box: Box, operators: Operators, origin: Place) -> Labels:
        if self._unsure is None:
            return self._runtime.labels(slab.scores, box, operators, self._regions)
        found = self._runtime.contested(slab.scores, box, operators, self._unsure.within)
        self._unsure.add(found, origin)
        return found.labels


class _Axis:
    """The way back along one axis, from the padded image at the network's spacing."""

    def __init__(self, operator: Operator | None, size: int, before: int, new_size: int) -> None:
        self._operator = operator
        self._before = before
        if operator is None:
            self._first = self._last = np.arange(new_size)
        else:
            self._first, self._last = first_and_last(operator)
        if len(self._first) != new_size or int(self._last.max()) >= size:
            raise ValueError(f"the way back leads from {size} to {len(self._first)} voxels, not to {new_size}")

    def part(self, first: int, last: int) -> tuple[slice, Operator | None]:
        """Give what the voxels ``first`` up to ``last`` are interpolated from, and by which weights."""
        begin, end = int(self._first[first:last].min()), int(self._last[first:last].max()) + 1
        weights = None if self._operator is None else np.ascontiguousarray(self._operator[first:last, begin:end])
        return slice(begin + self._before, end + self._before), weights

    def ready(self, first: int, final: int) -> int:
        """Give up to which voxel, from ``first`` on, all is final where the padded image is up to ``final``."""
        waiting = np.flatnonzero(self._last[first:] + self._before >= final)
        return first + int(waiting[0]) if len(waiting) else len(self._last)
