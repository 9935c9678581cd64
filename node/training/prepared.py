"""Training cases as arrays on disk, read in place: an epoch of a large archive never lies in memory."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from node.dataset.nifti import read_nifti
from node.dataset.raw import Case, TrainingSet
from node.domain.errors import SetupError

# An axis this much finer than the network's grid is brought to it once, instead of at every patch.
_FINER = 0.75


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A case as training reads it: never coarser than it came, hardly finer than the network's grid."""

    case: Case
    # [channel, slice, row, column], scanner values.
    image: NDArray[Any]
    # [slice, row, column], uint8.
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]


def prepare(
    training_set: TrainingSet,
    cases: Sequence[Case],
    spacing_mm: tuple[float, float, float],
    folder: Path,
    told: Callable[[int], None],
) -> tuple[Prepared, ...]:
    """Write the arrays of cases that are not there yet, and open all of them.

    Parameters
    ----------
    spacing_mm
        Of the network's grid, (slice, row, column).
    folder
        Where the arrays are kept.
    told
        Gets the number of cases done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready = []
    for done, case in enumerate(cases, start=1):
        stem = folder / case.name
        if not stem.with_suffix(".json").exists():
            _write(training_set, case, spacing_mm, stem)
        ready.append(_open(case, stem))
        told(done)
    return tuple(ready)


def _write(training_set: TrainingSet, case: Case, spacing_mm: tuple[float, float, float], stem: Path) -> None:
    channels = [read_nifti(path) for path in training_set.images(case)]
    labels = read_nifti(training_set.labels(case))
    for channel in channels:
        same = channel.voxels.shape == labels.voxels.shape
        if not same or not np.allclose(channel.affine_lps_mm, labels.affine_lps_mm, atol=1e-3):
            raise SetupError(f"Case {case.name}: image and labels do not lie on one grid.", "Write them on one.")
    if labels.voxels.max(initial=0) > len(training_set.organs) or labels.voxels.min(initial=0) < 0:
        raise SetupError(f"Case {case.name} has a label that dataset.json does not name.", "Name it, or remove it.")
    image, given = np.stack([each.voxels for each in channels]), labels.spacing_mm
    steps = list(given)
    shape = list(labels.voxels.shape)
    for axis in range(3):
        if given[axis] < _FINER * spacing_mm[axis]:
            shape[axis] = max(1, round(shape[axis] * given[axis] / spacing_mm[axis]))
            steps[axis] = given[axis] * labels.voxels.shape[axis] / shape[axis]
    kind = np.int16 if np.issubdtype(image.dtype, np.integer) else np.float32
    np.save(stem.with_suffix(".image.npy"), _resampled(image, shape, "trilinear").astype(kind))
    # A finer label map becomes the nearest of its voxels; the loss of an edge is half a voxel of the network's grid.
    coarse = _resampled(labels.voxels[np.newaxis], shape, "nearest-exact")[0]
    np.save(stem.with_suffix(".labels.npy"), np.rint(coarse).astype(np.uint8))
    stem.with_suffix(".json").write_text(json.dumps({**asdict(case), "spacing_mm": steps}), encoding="utf-8")


def _open(case: Case, stem: Path) -> Prepared:
    z, y, x = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))["spacing_mm"]
    return Prepared(
        case=case,
        image=np.load(stem.with_suffix(".image.npy"), mmap_mode="r"),
        labels=np.load(stem.with_suffix(".labels.npy"), mmap_mode="r"),
        spacing_mm=(z, y, x),
    )


def _resampled(voxels: NDArray[Any], shape: Sequence[int], how: str) -> NDArray[np.float32]:
    given = torch.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))[None]
    if tuple(given.shape[2:]) == tuple(shape):
        return np.asarray(given[0].numpy())
    return np.asarray(torch.nn.functional.interpolate(given, tuple(shape), mode=how)[0].numpy())
