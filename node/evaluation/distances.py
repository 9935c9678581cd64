"""From the pieces of one surface to the nearest point of another, and what share of a surface lies how near."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from node.evaluation.surfaces import Pieces

Floats = NDArray[np.float64]

# Of squarish pieces the nearest is among the few whose centres are.
_CANDIDATES = 6
# So many points at once: bounds the memory.
_TOGETHER = 100_000


def distances_mm(points_mm: Floats, pieces: Pieces) -> Floats:
    """Give the distance of each point from the nearest point of any piece, shape (n,)."""
    nearest = _Nearest(pieces)
    parts = [
        nearest.distances_mm(points_mm[first : first + _TOGETHER]) for first in range(0, len(points_mm), _TOGETHER)
    ]
    return np.concatenate([np.empty(0), *parts])


def within(distances: Floats, sizes: Floats, share: float) -> float:
    """Give the smallest distance within which at least this share of a surface lies, by area (length)."""
    order = np.argsort(distances)
    reached = np.cumsum(sizes[order])
    # Of 20 equal pieces 19 are 95 %, whatever their sum is rounded to.
    index = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-9)))
    return float(distances[order[index]])


class _Nearest:
    """Finds the nearest pieces."""

    def __init__(self, pieces: Pieces) -> None:
        self._centres, self._sides = pieces.centres_mm, pieces.sides_mm
        self._tree = cKDTree(self._centres)
        # A piece that shrank to a line or a point has no inverse; a trace more of length changes no other.
        gram = self._sides @ self._sides.swapaxes(1, 2) + 1e-9 * np.eye(self._sides.shape[1])
        self._inverse = np.linalg.inv(gram)

    def distances_mm(self, points_mm: Floats) -> Floats:
        count = min(_CANDIDATES, len(self._centres))
        _, near = self._tree.query(points_mm, k=np.arange(1, count + 1), workers=-1)
        away = points_mm[:, np.newaxis] - self._centres[near]
        sides = self._sides[near]
        along = np.einsum("nkij,nkj->nki", sides, away)
        # Exact for rectangles, which those of a flat side are.
        shares = np.clip(np.einsum("nkij,nkj->nki", self._inverse[near], along), -0.5, 0.5)
        away -= np.einsum("nki,nkij->nkj", shares, sides)
        return np.asarray(np.sqrt(np.einsum("nkj,nkj->nk", away, away).min(axis=1)), dtype=np.float64)
