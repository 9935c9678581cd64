"""How sure the network is of each voxel of the series' grid.

Scores are interpolated as for the labels, and softmax is taken of what was interpolated. So labels and probabilities
agree by construction: where a class has more than half, it is the label. Were probabilities interpolated instead,
their half would lie elsewhere than the labels' border wherever the network is surer on one side than on the other.

Most voxels are *sure*: their label has a probability of 1 to the accuracy kept, and the label map says it. Of the
others each class with a share is kept, in 6 bytes. So memory grows with the surfaces that the network draws, not with
its classes, and the scores themselves are not kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import SetupError
from node.domain.masks import BACKGROUND
from node.domain.volume import Box
from node.inference.postprocess import mask_of
from node.inference.predictor import Contested
from node.inference.transforms import Labels, Passage, Plane, background, label_of_highest, scores_on_source

# A smaller share is nothing, and a label with all but this is sure. Contours look at a half, and a fractional
# Segmentation has 255 steps.
LEAST_SHARE = 1 / 512

# 600 MB. A network that is unsure of so much was not trained, or its scores are no logits.
MOST_SHARES = 100_000_000

# Shares are kept as whole numbers of 16 bits. Even, so that a tie of two classes is exactly a half.
_WHOLE = 65534


@dataclass(frozen=True, slots=True, eq=False)
class UnsurePlane:
    """The shares of one slice, ordered by class."""

    # Class c has those from firsts[c] up to firsts[c + 1]; shape (classes + 1,).
    firsts: NDArray[np.intp]
    # Row times columns plus column.
    positions: NDArray[np.uint32]
    # Of _WHOLE.
    shares: NDArray[np.uint16]

    def of(self, value: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Give the positions of one class and its probability at each."""
        part = slice(self.firsts[value], self.firsts[value + 1])
        return self.positions[part], self.shares[part].astype(np.float32) / np.float32(_WHOLE)


class SoftmaxProbabilities:
    """Softmax over the classes, on the series' grid; satisfies `node.domain.volume.Probabilities`."""

    def __init__(self, labels: Labels, planes: Sequence[UnsurePlane]) -> None:
        """Take the labels as the network gave them, before any rule changed them, and what it was unsure of."""
        self._labels = labels
        self._planes = planes
        self._classes = len(planes[0].firsts) - 1

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32] | None:
        """Give the probability that each voxel of a box has one of the label values.

        Returns
        -------
        0 to 1, shape of the box, off by less than 1/512 for each value; a half is exact to 1/65534. None where a value
        is no class of the network, as a rule made it, or is the background, of which nothing is kept.
        """
        values = sorted(set(label_values))
        if not all(BACKGROUND < value < self._classes for value in values):
            return None
        found = mask_of(self._labels[box], values).astype(np.float32)
        for plane, unsure in zip(found, self._planes[box[0]], strict=True):
            self._spread(plane, [self._placed(*unsure.of(value), box) for value in values])
        return np.minimum(found, 1.0, out=found)

    def _placed(
        self, positions: NDArray[np.uint32], shares: NDArray[np.float32], box: Box
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        """Give rows and columns within the box, with the shares that lie in it."""
        _, rows, columns = self._labels.shape
        row, column = np.divmod(positions.astype(np.intp), columns)
        (top, bottom, _), (left, right, _) = box[1].indices(rows), box[2].indices(columns)
        inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        return row[inside] - top, column[inside] - left, shares[inside]

    @staticmethod
    def _spread(plane: Plane, placed: Sequence[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]]) -> None:
        """Put the sum of the shares in place of what the label said."""
        for rows, columns, _ in placed:
            plane[rows, columns] = 0.0
        for rows, columns, shares in placed:
            plane[rows, columns] += shares


def labels_and_probabilities(
    scores: NDArray[np.float32], way: Passage, step: Callable[[int, int], None]
) -> tuple[Labels, SoftmaxProbabilities | None]:
    """Bring logits back to the series' grid; take the class with the highest at each voxel, and softmax.

    Parameters
    ----------
    scores
        Logits, shape ``(classes, *way.padded_shape)``.
    step
        Called with (slices done, slices in all).

    Returns
    -------
    The labels of ``labels_on_source``, and the probabilities; None instead where they would take more than
    ``MOST_SHARES``.
    """
    labels = background(way.source_shape, len(scores) - 1)
    unsure: list[UnsurePlane] = []
    shares = 0
    for index, each in enumerate(scores_on_source(scores, way)):
        planes = list(each)
        labels_here, highest = label_of_highest(planes)
        labels[index] = labels_here.T
        if shares <= MOST_SHARES:
            unsure.append(_unsure(planes, labels_here, highest))
            shares += len(unsure[-1].shares)
        else:
            unsure.clear()
        step(index + 1, way.source_shape[0])
    return labels, SoftmaxProbabilities(labels, unsure) if shares <= MOST_SHARES else None


class UnsureVoxels:
    """Collects what a network is unsure of, part by part of an image that is a view of the labels."""

    def __init__(self, labels: Labels, image: Labels, classes: int) -> None:
        """Take the labels on the series' grid, and the image's axes and box as a view of them."""
        self._labels = labels
        self._classes = classes
        begin = image.__array_interface__["data"][0] - labels.__array_interface__["data"][0]
        self._begin = begin // labels.itemsize
        self._strides = [stride // labels.itemsize for stride in image.strides]
        self._found: list[tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16]]] = []
        self._count = 0

    @property
    def within(self) -> float:
        """Give how far below the highest score a class may be to count."""
        return float(np.log(4 * self._classes / LEAST_SHARE))

    def add(self, found: Contested, origin: Sequence[int]) -> None:
        """Take what is contested in a part that begins at ``origin``.

        Raises
        ------
        SetupError
            The scores are no logits.
        """
        self._refuse_probabilities(found)
        if self._count <= MOST_SHARES and len(found.voxels):
            self._keep(found, origin)

    def probabilities(self) -> SoftmaxProbabilities | None:
        """Give the probabilities of all that was taken; None where they would take more than ``MOST_SHARES``."""
        if self._count > MOST_SHARES:
            return None
        slices, rows, columns = self._labels.shape
        nothing = (np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16))
        places, values, shares = (np.concatenate(each) for each in zip(nothing, *self._found, strict=True))
        which, positions = np.divmod(places, rows * columns)
        order = np.lexsort((values, which))
        which, positions, values, shares = (
            which[order],
            positions[order].astype(np.uint32),
            values[order],
            shares[order],
        )
        edges = np.searchsorted(which, np.arange(slices + 1))
        every_class = np.arange(self._classes + 1)
        planes = [
            UnsurePlane(
                firsts=np.searchsorted(values[begin:end], every_class),
                positions=positions[begin:end],
                shares=shares[begin:end],
            )
            for begin, end in pairwise(edges)
        ]
        return SoftmaxProbabilities(self._labels, planes)

    def _keep(self, found: Contested, origin: Sequence[int]) -> None:
        shares = _softmax(found.scores)
        unsure = shares.max(axis=0) < 1 - LEAST_SHARE
        voxels, shares = found.voxels[unsure], shares[:, unsure]
        # The label's own share always: without one its voxel would count as sure.
        kept = (shares >= LEAST_SHARE) | (found.classes[:, None] == found.labels.ravel()[voxels])
        kept[found.classes == BACKGROUND] = False
        which_class, which_voxel = np.nonzero(kept)
        where = np.unravel_index(voxels[which_voxel], found.labels.shape)
        places = self._begin + sum(
            (index + first) * stride for index, first, stride in zip(where, origin, self._strides, strict=True)
        )
        values = found.classes[which_class].astype(np.uint16)
        self._found.append((np.asarray(places, np.int64), values, np.rint(shares[kept] * _WHOLE).astype(np.uint16)))
        self._count += len(values)

    def _refuse_probabilities(self, found: Contested) -> None:
        # Of numbers between 0 and 1 every class comes near the highest, so all are here.
        scores = found.scores
        if (
            scores.size
            and len(scores) == self._classes
            and scores.min() >= 0
            and np.abs(scores.sum(axis=0) - 1).max() < 1e-3
        ):
            raise SetupError(
                "The network answers with probabilities; its manifest says that softmax is to follow.",
                "Export the graph without its last softmax, or leave activation out of the manifest.",
            )


def _unsure(planes: Sequence[Plane], labels: NDArray[np.uint16], highest: Plane) -> UnsurePlane:
    """Keep the shares of voxels that are not sure; planes, labels and highest are ``[column, row]``."""
    contested, rivals = _contested(planes, highest)
    places = np.flatnonzero(contested)
    shares = _softmax(np.stack([planes[rival].take(places) for rival in rivals]))
    unsure = shares.max(axis=0) < 1 - LEAST_SHARE
    places, shares = places[unsure], shares[:, unsure]
    # The label's own share always: without one its voxel would count as sure.
    kept = (shares >= LEAST_SHARE) | (rivals[:, None] == labels.take(places))
    kept[rivals == BACKGROUND] = False
    which_rival, which_place = np.nonzero(kept)
    columns, rows = labels.shape
    column, row = np.divmod(places[which_place], rows)
    return UnsurePlane(
        firsts=np.searchsorted(rivals[which_rival], np.arange(len(planes) + 1)),
        positions=(row * columns + column).astype(np.uint32),
        shares=np.rint(shares[kept] * _WHOLE).astype(np.uint16),
    )


def _contested(planes: Sequence[Plane], highest: Plane) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Tell where more than one class comes near the highest score, and which classes do anywhere.

    All that do not come near have less than a quarter of the least share together. Few voxels are contested, by few
    classes, so few exponentials are taken.
    """
    floor = highest - np.float32(np.log(4 * len(planes) / LEAST_SHARE))
    count = np.zeros(floor.shape, dtype=np.uint16)
    rivals = []
    for label, plane in enumerate(planes):
        near = plane > floor
        if near.any():
            count += near
            rivals.append(label)
    return count > 1, np.array(rivals)


def _softmax(scores: Plane) -> Plane:
    """Turn logits into probabilities in place, over the first axis."""
    scores -= scores.max(axis=0)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores
