"""Sums of patches and labels where the network runs on the CPU.

There the arrays of the runtime are those of NumPy. The graphs of `node.adapters.onnx_graphs` give the same sums and
labels, but ONNX Runtime cuts, joins and pools arrays on the CPU in one thread, and copies what could be changed in its
place; and there it pays to interpolate only where the corners of a cell disagree.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from node.adapters.onnx_windows import OnnxWindows, Place, uncontested
from node.domain.volume import Box
from node.inference.corners import Cells
from node.inference.package import LoadedPackage
from node.inference.plan import SLAB_SLICES
from node.inference.predictor import Contested, Operators, Room, Segments, Tensor
from node.inference.resampling import Three
from node.inference.transforms import background

Scores = NDArray[np.float32]
Numbers = NDArray[np.uint8] | NDArray[np.uint16]

# Values that are worked on at a time, so that they stay in a core's cache.
_CACHED_VALUES = 100_000

# Where more of a box is contested, it is cheaper to interpolate it as a whole.
_MOST_CONTESTED = 0.25


class _Sums:
    """Sums of the slices that patches reach, ``[class, y, x]`` each, in memory that later slices take again.

    Memory that is had anew costs the kernel as much as adding to it.
    """

    def __init__(self, classes: int, segments: tuple[Segments, Segments, Segments]) -> None:
        self._shape = (classes, segments[1][-1][1], segments[2][-1][1])
        self._free: list[Scores] = []
        self._slices: dict[int, Scores] = {}

    def reach(self, slices: range) -> list[Scores]:
        """Give slices; those that were not given yet are 0."""
        missing = [number for number in slices if number not in self._slices]
        if missing and not self._slices and not self._free:
            # A slab and the slice before it are held until the next is made.
            self._free = list(np.empty((len(slices) + SLAB_SLICES + 1, *self._shape), dtype=np.float32))
        for number in missing:
            self._slices[number] = self._free.pop()
            self._slices[number].fill(0)
        return [self._slices[number] for number in slices]

    def take(self, slices: range) -> list[Scores]:
        """Give slices and forget them."""
        return [self._slices.pop(number) for number in slices]

    def give_back(self, slices: list[Scores]) -> None:
        """Take memory that was given and is not looked at any more."""
        self._free += slices


@dataclass(frozen=True, slots=True, eq=False)
class _Slab:
    """Scores of slices, ``[class, y, x]`` each, and of each voxel its class and by how much that leads."""

    slices: list[Scores]
    labels: Numbers
    # Only where somebody asks how near another class comes.
    leads: Scores | None

    def scores(self, box: Box) -> Scores:
        """Copy a part: ``[class, z, y, x]``."""
        return np.stack([each[:, box[1], box[2]] for each in self.slices[box[0]]], axis=1)

    def present(self, box: Box) -> NDArray[np.intp]:
        """Give the classes that lead somewhere in a part."""
        return np.flatnonzero(np.bincount(self.labels[box].ravel()))


class HostWindows(OnnxWindows):
    """Folds of a windowed network in sessions on the CPU; satisfies `node.inference.predictor.WindowRuntime`."""

    def __init__(
        self,
        networks: Sequence[Any],
        place: Place,
        room: Callable[[], Room],
        computed_by: str,
        loaded: LoadedPackage,
        threads: int,
    ) -> None:
        super().__init__(networks, place, room, computed_by, loaded)
        self._regions = bool(loaded.package.output.region_values)
        self._wants_leads = loaded.package.output.activation == "softmax"
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blend")
        self._threads = threads

    def scores(self, fold: int, volume: Tensor, start: Three, mirrored: Sequence[int]) -> Tensor:
        """Run a network on a patch, mirrored and back; gives a view."""
        answer = self._answered(fold, volume, start, mirrored).numpy()[0]
        return answer[:, *(slice(None, None, -1 if axis in mirrored else 1) for axis in range(3))]

    def held(self, array: NDArray[np.float32]) -> Tensor:
        """Keep an array."""
        return np.ascontiguousarray(array)

    def sums(self, segments: tuple[Segments, Segments, Segments]) -> Tensor:
        """Begin sums."""
        return _Sums(self._classes, segments)

    def add(self, sums: Tensor, scores: Tensor, weights: Tensor, start: Three) -> None:
        """Add the weighted scores of a patch."""
        depth, rows, columns = weights.shape
        totals = sums.reach(range(start[0], start[0] + depth))
        place = (slice(start[1], start[1] + rows), slice(start[2], start[2] + columns))

        def add(part: slice) -> None:
            for total, here, share in zip(totals[part], scores.swapaxes(0, 1)[part], weights[part], strict=True):
                _add_products(total[:, *place], here, share)

        self._by_parts(depth, add)

    def slab(
        self, before: tuple[Tensor, int] | None, sums: Tensor, slices: slice, weights: NDArray[np.float32]
    ) -> Tensor:
        """Divide sums by weights in their place, and say which class leads where."""
        scores = sums.take(range(slices.start, slices.stop))
        labels = background(weights.shape, self._classes - 1)
        leads = np.empty(weights.shape, dtype=np.float32) if self._wants_leads else None

        def ranking(z: int) -> _Ranking:
            if self._regions:
                return _LastAbove0(labels[z])
            return _First(labels[z]) if leads is None else _Highest(labels[z], leads[z])

        def divide(part: slice) -> list[list[np.float32]]:
            return [_divide_and_rank(scores[z], weights[z], ranking(z)) for z in range(part.start, part.stop)]

        self._refuse_no_numbers(np.concatenate(self._by_parts(len(weights), divide)))
        if before is None:
            return _Slab(scores, labels, leads)
        slab, first = before
        sums.give_back(slab.slices[:first])
        return _Slab(
            slab.slices[first:] + scores,
            np.concatenate([slab.labels[first:], labels]),
            None if leads is None or slab.leads is None else np.concatenate([slab.leads[first:], leads]),
        )

    def labels(self, slab: Tensor, box: Box, operators: Operators, regions: bool) -> NDArray[np.uint16]:
        """Give each voxel its class; interpolate scores where the corners of its cell disagree."""
        cells, labels, contested, voxels = _agreed(slab, box, operators, 0.0)
        if not len(voxels):
            return labels
        scores = slab.scores(box)
        many = len(voxels) > _MOST_CONTESTED * labels.size
        if regions and many:
            found = self._whole(scores, operators, "regions")
            return np.asarray(found, dtype=np.uint16)
        if many:
            # Those that lead in contested cells: what leads where all agree need not be among them.
            classes = cells.leading(scores, slab.present(box), contested, 0.0)
            found = self._whole(scores[classes], operators, "highest")
            labels.reshape(-1)[voxels] = classes[found.reshape(-1)[voxels]]
        elif regions:
            labels.reshape(-1)[voxels] = _last_of(cells.between(scores, voxels))
        else:
            classes, between = cells.rivals(scores, slab.present(box), voxels, 0.0)
            labels.reshape(-1)[voxels] = classes[between.argmax(axis=0)]
        return labels

    def contested(self, slab: Tensor, box: Box, operators: Operators, within: float) -> Contested:
        """Interpolate scores where corners disagree or another class comes near at one."""
        cells, labels, contested, voxels = _agreed(slab, box, operators, within)
        if not len(voxels):
            return uncontested(labels)
        scores = slab.scores(box)
        if len(voxels) > _MOST_CONTESTED * labels.size:
            classes = cells.leading(scores, slab.present(box), contested, within)
            whole = self._whole(scores[classes], operators, "none")
            between = whole.reshape(len(classes), -1)[:, voxels]
        else:
            classes, between = cells.rivals(scores, slab.present(box), voxels, within)
        labels.reshape(-1)[voxels] = classes[between.argmax(axis=0)]
        return Contested(labels, voxels, classes, between)

    def _whole(
        self, scores: Scores, operators: Operators, decision: Literal["highest", "regions", "none"]
    ) -> NDArray[Any]:
        """Interpolate a whole box, and decide class by class while it is in the cache."""
        shape = tuple(
            size if each is None else len(each) for each, size in zip(operators, scores.shape[1:], strict=True)
        )
        if decision == "none":
            found = np.empty((len(scores), *shape), dtype=np.float32)
            for number, each in enumerate(_interpolated(scores, operators)):
                found[number] = each
            return found
        labels = background(shape, self._classes - 1)
        ranking: _Ranking = _First(labels) if decision == "highest" else _LastAbove0(labels)
        for number, each in enumerate(_interpolated(scores, operators)):
            ranking.take(number, each)
        return labels

    def _by_parts(self, count: int, work: Callable[[slice], Any]) -> list[Any]:
        """Do the work on as many parts as there are threads."""
        parts = min(self._threads, count)
        edges = [count * part // parts for part in range(parts + 1)]
        return list(self._pool.map(work, [slice(*edge) for edge in pairwise(edges)]))


def _add_products(sums: Scores, scores: Scores, weights: Scores) -> None:
    """Some classes at a time: what is multiplied stays in the cache until it is added."""
    at_once = max(1, _CACHED_VALUES // weights.size)
    products = np.empty((at_once, *weights.shape), dtype=np.float32)
    for start in range(0, len(sums), at_once):
        part = slice(start, start + at_once)
        here = np.multiply(scores[part], weights, out=products[: len(sums) - start])
        np.add(sums[part], here, out=sums[part])


class _First:
    """Finds the class with the highest score, the first of a tie."""

    def __init__(self, labels: Numbers) -> None:
        """Take where to write; labels begin with 0."""
        self._labels = labels
        self._highest = np.full(labels.shape, -np.inf, dtype=np.float32)
        self._number = np.empty_like(labels)
        self._above = np.empty(labels.shape, dtype=np.bool_)

    def take(self, number: int, scores: Scores) -> None:
        """Look at the next class. Of numbers of one sort, the greater is the later: no mask, which is slow."""
        np.greater(scores, self._highest, out=self._above)
        np.maximum(self._highest, scores, out=self._highest)
        np.multiply(self._above, self._labels.dtype.type(number), out=self._number)
        np.maximum(self._labels, self._number, out=self._labels)

    def finish(self) -> None:
        """Say that all were looked at."""


class _Highest(_First):
    """Finds how far that class leads, too."""

    def __init__(self, labels: Numbers, leads: Scores) -> None:
        super().__init__(labels)
        self._leads = leads
        self._second = self._highest.copy()
        self._lower = np.empty_like(leads)

    def take(self, number: int, scores: Scores) -> None:
        np.minimum(self._highest, scores, out=self._lower)
        np.maximum(self._second, self._lower, out=self._second)
        super().take(number, scores)

    def finish(self) -> None:
        np.subtract(self._highest, self._second, out=self._leads)


class _LastAbove0:
    """Finds 1 more than the last class with a score above 0; 0 where there is none."""

    def __init__(self, labels: Numbers) -> None:
        self._labels = labels

    def take(self, number: int, scores: Scores) -> None:
        np.maximum(self._labels, (scores > 0) * self._labels.dtype.type(number + 1), out=self._labels)

    def finish(self) -> None:
        pass


_Ranking = _First | _LastAbove0


def _divide_and_rank(sums: Scores, weights: Scores, ranking: _Ranking) -> list[np.float32]:
    """Divide one slice ``[class, y, x]`` in its place; gives the sum of each class's scores."""
    checks = []
    for number, scores in enumerate(sums):
        checks.append(np.divide(scores, weights, out=scores).sum())
        ranking.take(number, scores)
    ranking.finish()
    return checks


def _agreed(
    slab: _Slab, box: Box, operators: Operators, within: float
) -> tuple[Cells, NDArray[np.uint16], NDArray[np.bool_], NDArray[np.intp]]:
    """Give the cells of a box, each voxel's class by a corner of its cell, and where that is not enough.

    That is: the cells, and by place among all the voxels that lie in these. In many a cell of a network that is finer
    than the series none lies.
    """
    cells = Cells(operators, [each.stop - each.start for each in box])
    least, greatest = (cells.pooled(slab.labels[box], choose) for choose in (np.minimum, np.maximum))
    contested = least != greatest
    if slab.leads is not None and within > 0:
        contested |= cells.pooled(slab.leads[box], np.minimum) < within
    voxels = np.flatnonzero(cells.spread(contested)) if contested.any() else np.empty(0, dtype=np.intp)
    return cells, cells.spread(least).astype(np.uint16), contested, voxels


def _interpolated(scores: Scores, operators: Operators) -> Iterator[Scores]:
    """Interpolate ``[class, z, y, x]``, class by class; each lies where the next will.

    Products of small matrices: of larger ones a BLAS makes several threads, which wait by spinning.
    """
    slices, rows, columns = operators
    depth, height, width = scores.shape[1:]
    wide = None if columns is None else np.empty((depth, height, len(columns)), dtype=np.float32)
    high = None if rows is None else np.empty((depth, len(rows), width if wide is None else wide.shape[2]), np.float32)
    for each in scores:
        found = each if columns is None else np.matmul(each, columns.T, out=wide)
        found = found if rows is None else np.matmul(rows, found, out=high)
        yield found if slices is None else np.tensordot(slices, found, axes=1)


def _last_of(scores: Scores) -> NDArray[np.intp]:
    """Give 1 more than the last class with a score above 0; 0 where there is none."""
    return np.asarray(((scores > 0) * np.arange(1, len(scores) + 1)[:, None]).max(axis=0))
