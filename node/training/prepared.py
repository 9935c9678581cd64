"""Training cases as arrays on disk, read in place: an epoch of a large archive never lies in memory."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from node.adapters.durable import write_durably
from node.dataset.nifti import Image, read_nifti
from node.dataset.raw import Case, TrainingSet
from node.domain.errors import SetupError

# A case lies on a grid: of a single plane, row or column nobody can tell what lies beside it.
_LEAST_VOXELS = 2
# The end of a .gz file: checksum and length of what it holds (RFC 1952).
_TRAILER = 8
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
    # Of the image as it came, for the record.
    source_spacing_mm: tuple[float, float, float]


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

    Raises
    ------
    SetupError
        A case cannot be learned from, or the folder holds it as it was before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready = []
    for done, case in enumerate(cases, start=1):
        files = _Files(folder, case.name)
        identity = _identity(training_set, case)
        if not files.facts.exists():
            _write(training_set, case, spacing_mm, files, identity)
        ready.append(_open(case, files, identity))
        told(done)
    return tuple(ready)


def read_case(training_set: TrainingSet, case: Case) -> tuple[list[Image], Image]:
    """Read the channels and the labels of a case.

    Raises
    ------
    InputError
        A file cannot be read.
    SetupError
        They do not lie on one grid, or hold values of which nothing can be learned.
    """
    channels = [read_nifti(path) for path in training_set.images(case)]
    labels = read_nifti(training_set.labels(case))
    for channel in channels:
        same = channel.voxels.shape == labels.voxels.shape
        if not same or not np.allclose(channel.affine_lps_mm, labels.affine_lps_mm, atol=1e-3):
            raise SetupError(f"Case {case.name}: image and labels do not lie on one grid.", "Write them on one.")
        if not np.isfinite(channel.voxels).all():
            raise SetupError(
                f"Case {case.name}: its image has voxels that are no finite number.", "Mend it, or leave the case out."
            )
    if min(labels.voxels.shape) < _LEAST_VOXELS:
        size = " x ".join(map(str, labels.voxels.shape))
        raise SetupError(f"Case {case.name} has {size} voxels: no volume.", "Leave it out.")
    is_whole = np.issubdtype(labels.voxels.dtype, np.integer) or np.array_equal(labels.voxels, np.rint(labels.voxels))
    if not is_whole:
        raise SetupError(f"Case {case.name} has labels that are no whole numbers.", "Write whole numbers.")
    if labels.voxels.max(initial=0) > len(training_set.organs) or labels.voxels.min(initial=0) < 0:
        raise SetupError(f"Case {case.name} has a label that dataset.json does not name.", "Name it, or remove it.")
    return channels, labels


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the arrays of a case are; a name may have dots."""

    folder: Path
    name: str

    @property
    def image(self) -> Path:
        return self.folder / f"{self.name}.image.npy"

    @property
    def labels(self) -> Path:
        return self.folder / f"{self.name}.labels.npy"

    @property
    def facts(self) -> Path:
        """Written last: where it is, the arrays are whole."""
        return self.folder / f"{self.name}.json"


def _identity(training_set: TrainingSet, case: Case) -> dict[str, Any]:
    """Give what must be the same for arrays to be those of a case, as JSON values."""
    contents = {}
    for path in (*training_set.images(case), training_set.labels(case)):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TRAILER))
            contents[path.name] = file.read().hex()
    return {**asdict(case), "contoured": list(case.contoured), "contents": contents}


def _write(
    training_set: TrainingSet,
    case: Case,
    spacing_mm: tuple[float, float, float],
    files: _Files,
    identity: dict[str, Any],
) -> None:
    channels, labels = read_case(training_set, case)
    image, given = np.stack([each.voxels for each in channels]), labels.spacing_mm
    steps = list(given)
    shape = list(labels.voxels.shape)
    for axis in range(3):
        if given[axis] < _FINER * spacing_mm[axis]:
            shape[axis] = max(_LEAST_VOXELS, round(shape[axis] * given[axis] / spacing_mm[axis]))
            steps[axis] = given[axis] * labels.voxels.shape[axis] / shape[axis]
    resampled = _resampled(image, shape, "trilinear")
    _save(files.image, np.rint(resampled).astype(np.int16) if _fits_int16(image) else resampled)
    # A finer label map becomes the nearest of its voxels; the loss of an edge is half a voxel of the network's grid.
    coarse = _resampled(labels.voxels[np.newaxis], shape, "nearest-exact")[0]
    _save(files.labels, np.rint(coarse).astype(np.uint8))
    write_durably(files.facts, json.dumps({**identity, "spacing_mm": steps, "source_spacing_mm": given}).encode())


def _open(case: Case, files: _Files, identity: dict[str, Any]) -> Prepared:
    try:
        said = json.loads(files.facts.read_text(encoding="utf-8"))
        spacing_mm, source_spacing_mm = (tuple(said[key]) for key in ("spacing_mm", "source_spacing_mm"))
        image, labels = (np.load(path, mmap_mode="r") for path in (files.image, files.labels))
    except (FileNotFoundError, EOFError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"{files.folder} is damaged ({case.name}: {type(error).__name__}).", "Remove it: it is made again."
        ) from error
    # To go on with other cases could teach what is to be validated with.
    if any(said.get(key, value) != value for key, value in identity.items()):
        raise SetupError(
            f"{files.folder} holds case {case.name} as it was before: the training set has changed since.",
            "Name another folder for the training, or remove this one to begin anew.",
        )
    return Prepared(case=case, image=image, labels=labels, spacing_mm=spacing_mm, source_spacing_mm=source_spacing_mm)


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def _fits_int16(image: NDArray[Any]) -> bool:
    limits = np.iinfo(np.int16)
    return bool(np.issubdtype(image.dtype, np.integer) and image.min() >= limits.min and image.max() <= limits.max)


def _resampled(voxels: NDArray[Any], shape: Sequence[int], how: str) -> NDArray[np.float32]:
    given = torch.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))[None]
    if tuple(given.shape[2:]) == tuple(shape):
        return np.asarray(given[0].numpy())
    return np.asarray(torch.nn.functional.interpolate(given, tuple(shape), mode=how)[0].numpy())
