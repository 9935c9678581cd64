"""The series that are sent in a storm: small, each of another size, each with its own images."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.builders import Identity, ct_series, grid, save_series, uid

MOST_SLICES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series as its sender has it."""

    series_instance_uid: str
    # SOP Instance UID -> Part 10 file, in the order of the slices.
    files: dict[str, Path]


def make_series(seed: str, folder: Path, chance: random.Random) -> Series:
    """Write a CT of a body with a liver in air; the same seed and chance give the same bytes."""
    slices = chance.randint(4, MOST_SLICES)
    rows, columns = chance.randint(24, 64), chance.randint(24, 64)
    stack = grid(slices=slices, rows=rows, columns=columns, series=seed)
    index_s, index_r, index_c = np.indices(stack.shape)
    away = ((index_r - rows / 2) / (rows * 0.4)) ** 2 + ((index_c - columns / 2) / (columns * 0.35)) ** 2
    voxels = np.where(away < 1, 50, -1000).astype(np.int16)
    liver = (np.abs(index_s - slices // 2) <= slices // 4) & (away < chance.uniform(0.1, 0.3)) & (index_c < columns / 2)
    voxels[liver] = 150
    identity = Identity(patient_name="Storm^Test", patient_id=seed, study=seed, frame_of_reference=seed)
    datasets = ct_series(stack, voxels=voxels, identity=identity, series=seed)
    paths = save_series(datasets, folder / seed.replace("/", "-"))
    uids = [str(one.SOPInstanceUID) for one in datasets]
    return Series(series_instance_uid=uid(seed, "series"), files=dict(zip(uids, paths, strict=True)))
