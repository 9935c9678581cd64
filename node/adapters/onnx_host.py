"""Sums of patches where the network runs on the CPU.

There the arrays of the runtime are those of NumPy. The graphs of `node.adapters.onnx_graphs` give the same sums, but
ONNX Runtime cuts and joins arrays on the CPU in one thread, and copies what could be changed in its place.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.adapters.onnx_windows import OnnxWindows, Place
from node.domain.volume import Box
from node.inference.package import LoadedPackage
from node.inference.predictor import Room, Tensor


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
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blend")
        count = min(threads, self._classes)
        edges = [self._classes * part // count for part in range(count + 1)]
        self._parts = [slice(*edge) for edge in pairwise(edges)]

    def add(self, total: Tensor | None, scores: Tensor, weights: Tensor, inside: Box) -> Tensor:
        """Add weighted scores of a part of a patch to a total in its place."""
        part, share = scores.numpy()[0][:, *inside], weights.numpy()[0, 0][inside]
        if total is None:
            total = self._place.reserve([1, *part.shape])
            self._by_classes(lambda classes: np.multiply(part[classes], share, out=total.numpy()[0][classes]))
        else:
            self._by_classes(lambda classes: _add_product(total.numpy()[0][classes], part[classes], share))
        return total

    def slab(
        self,
        before: tuple[Tensor, int] | None,
        totals: Sequence[Sequence[Tensor]],
        slices: slice,
        weights: NDArray[np.float32],
    ) -> Tensor:
        """Join totals over some of their slices and divide by weights."""
        carried = None if before is None else before[0].numpy()[:, before[1] :]
        depth = 0 if carried is None else carried.shape[1]
        made = self._place.reserve([self._classes, depth + weights.shape[0], *weights.shape[1:]])
        slab = made.numpy()
        if carried is not None:
            slab[:, :depth] = carried
        rows = _edges([row[0].shape()[3] for row in totals])
        columns = _edges([each.shape()[4] for each in totals[0]])
        for (row, down), (column, across) in product(enumerate(rows), enumerate(columns)):
            total = totals[row][column].numpy()[0][:, slices]
            self._divide(total, weights[:, down, across], slab[:, depth:, down, across])
        self._refuse_no_numbers(np.array(self._by_classes(lambda classes: slab[classes, depth:].sum())))
        return made

    def _divide(self, total: NDArray[np.float32], share: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        self._by_classes(lambda classes: np.divide(total[classes], share, out=out[classes]))

    def _by_classes(self, work: Callable[[slice], object]) -> list[Any]:
        return list(self._pool.map(work, self._parts))


def _add_product(total: NDArray[np.float32], part: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    """Class by class: what is multiplied stays in the cache until it is added."""
    product_here = np.empty(share.shape, dtype=np.float32)
    for number, scores in enumerate(part):
        np.multiply(scores, share, out=product_here)
        total[number] += product_here


def _edges(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes)
    return [slice(int(end) - size, int(end)) for size, end in zip(sizes, ends, strict=True)]
