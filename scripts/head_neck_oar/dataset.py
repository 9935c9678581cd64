"""From the NIfTI files of the Open Knowledge-Based Planning challenge to a training set of this project."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from node.dataset.nifti import Image, read_nifti, write_nifti
from node.dataset.raw import Case, Split, TrainingSet, write_training_set

# By its name in TG-263: the source's label value, and the name in its table of what was contoured.
ORGANS = {
    "Brainstem": (1, "Brainstem"),
    "SpinalCord": (2, "SpinalCord"),
    "Parotid_L": (4, "LeftParotid"),
    "Parotid_R": (3, "RightParotid"),
    "Bone_Mandible": (7, "Mandible"),
    "Larynx": (6, "Larynx"),
    "Esophagus": (5, "Esophagus"),
}
_SPLITS: Mapping[str, Split] = {"train": "train", "validation": "validation", "test": "test"}


def make_dataset(source: Path, out: Path) -> None:
    """Write the training set; every voxel of an organ is counted against the source's own table."""
    table = next(path for name in ("manifest.csv", "manifest-dev.csv") if (path := source / name).exists())
    with table.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (source / row["split"] / row["patient"]).is_dir()]
    cases = [_case(row) for row in rows]
    training_set = TrainingSet(
        folder=out, name="head-neck-oar", channels=("CT",), organs=tuple(ORGANS), cases=tuple(cases)
    )
    out.mkdir(parents=True, exist_ok=True)
    write_training_set(training_set)
    new_values = np.zeros(8, dtype=np.uint8)
    for value, (old, _) in enumerate(ORGANS.values(), start=1):
        new_values[old] = value
    for case, row in zip(cases, rows, strict=True):
        folder = source / row["split"] / row["patient"]
        image, labels = read_nifti(folder / "ct.nii.gz"), read_nifti(folder / "oar_labels.nii.gz")
        values = new_values[labels.voxels.astype(np.uint8)]
        _check(case, values)
        write_nifti(
            training_set.images(case)[0],
            Image(voxels=image.voxels.astype(np.int16), affine_lps_mm=image.affine_lps_mm),
        )
        write_nifti(training_set.labels(case), Image(voxels=values, affine_lps_mm=labels.affine_lps_mm))
    print(f"{len(cases)} cases in {out}")


def _case(row: Mapping[str, str]) -> Case:
    # An empty cell: nobody contoured it, which is not to say that it is not there.
    contoured = tuple(name for name, (_, told) in ORGANS.items() if row[f"{told}_vox"])
    return Case(name=f"hn_{row['patient']}", patient=row["patient"], split=_SPLITS[row["split"]], contoured=contoured)


def _check(case: Case, values: np.ndarray) -> None:
    for value, name in enumerate(ORGANS, start=1):
        if (values == value).any() != (name in case.contoured):
            raise SystemExit(f"{case.name}: the table and the labels differ about {name}")
