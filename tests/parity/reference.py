"""What nnU-Net v2 itself answers: its own predictor on networks of random weights.

Runs where torch and nnunetv2 are installed (`tests.parity.environment` makes such a place), from the root of the
checkout::

    python -m tests.parity.reference OUT                       # every case of tests/parity/cases.py
    python -m tests.parity.reference OUT --cases regions,mr_masked

``OUT/<case>.npz`` holds, with axes ``[z, y, x]`` of the image as it was read:

- ``image`` float32 ``[channel, z, y, x]`` and ``spacing_mm`` (z, y, x);
- ``labels`` by accumulators of float32, and ``labels_f16`` by those of float16 that nnU-Net has: their weight, the sum
  and the resampled logits round to 11 bits, so that near ties fall to either side. The Gaussian is float16 in both;
- ``margin`` float32: by how much the logits of a voxel must move for its label to change (the best less the second;
  with regions the logit nearest to 0; infinite outside the non-zero box, where no network was asked). A voxel that
  differs with a margin of 1e-5 is a tie, with 0.1 a fault;
- stages in between, of float32 accumulators: ``preprocessed`` float32 ``[channel, *]`` after transposing, cropping,
  normalising and resampling, and ``logits`` float32 ``[head, *]``, mean of the folds before resampling back.

``OUT/results/`` holds the results folders, ``OUT/reference.json`` versions, seconds and how many voxels of each label
there are.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import nnunetv2.inference.predict_from_raw_data as nnunet
import numpy as np
import SimpleITK
import torch
from numpy.typing import NDArray

from tests.parity import results_folder, volumes
from tests.parity.cases import CASES, Case

Array = NDArray[Any]

# 30 degrees about z and the row axis reversed: SimpleITK gives the array as it lies in the file all the same.
OBLIQUE = (0.8660254037844387, 0.5, 0.0, 0.5, -0.8660254037844387, 0.0, 0.0, 0.0, -1.0)


@dataclass(slots=True)
class Stages:
    """What was seen on the way of one prediction."""

    preprocessed: Array = field(default_factory=lambda: np.zeros(0))
    logits: Array = field(default_factory=lambda: np.zeros(0))
    margin: Array = field(default_factory=lambda: np.zeros(0))


class _TorchWithWideHalf:
    """Torch, except that ``torch.half`` is float32: the predictor names it for its two accumulators alone."""

    half = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def float32_accumulators() -> Iterator[None]:
    """Let nnU-Net's predictor sum patches in float32."""
    with mock.patch.object(nnunet, "torch", _TorchWithWideHalf()):
        yield


def main() -> None:
    """Write the reference of the cases named on the command line."""
    parser = argparse.ArgumentParser(description="Write what nnU-Net v2 answers for networks of random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", default=",".join(case.name for case in CASES))
    arguments = parser.parse_args()
    wanted = arguments.cases.split(",")
    unknown = set(wanted) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    measured = {case.name: reference(case, arguments.out) for case in CASES if case.name in wanted}
    report = {"versions": versions(), "cases": measured}
    (arguments.out / "reference.json").write_text(json.dumps(report, indent=2))


def versions() -> dict[str, str]:
    """Give the versions that the answer may depend on."""
    names = ("nnunetv2", "dynamic_network_architectures", "acvl_utils", "torch", "scikit-image", "scipy", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def reference(case: Case, out: Path) -> dict[str, Any]:
    """Write ``<case>.npz`` and the results folder of a case; give its seconds and its labels."""
    image = volumes.image(case)
    folder = results_folder.write_case(case, out / "results")
    labels_f16, _, seconds_f16 = _predict(case, folder, image)
    with float32_accumulators():
        labels, stages, seconds = _predict(case, folder, image)
    np.savez(
        out / f"{case.name}.npz",
        image=image,
        spacing_mm=np.asarray(case.spacing_mm),
        labels=labels,
        labels_f16=labels_f16,
        margin=_in_image(stages.margin, case, image),
        preprocessed=stages.preprocessed,
        logits=stages.logits,
    )
    values, counts = np.unique(labels, return_counts=True)
    measured = {
        "seconds": round(seconds, 2),
        "seconds_f16": round(seconds_f16, 2),
        "voxels": int(labels.size),
        "differ_f16": int((labels != labels_f16).sum()),
        "smallest_margin": float(stages.margin.min()),
        "histogram": {int(value): int(count) for value, count in zip(values, counts, strict=True)},
    }
    print(case.name, {key: value for key, value in measured.items() if key != "histogram"}, flush=True)
    return measured


def predictor(case: Case, folder: Path) -> Any:
    """Give nnU-Net's predictor with the folder loaded."""
    made = nnunet.nnUNetPredictor(
        tile_step_size=case.tile_step_size,
        use_mirroring=case.mirroring_axes is not None,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    made.initialize_from_trained_model_folder(str(folder), use_folds=tuple(range(case.folds)))
    return made


def _predict(case: Case, folder: Path, image: Array) -> tuple[Array, Stages, float]:
    made = predictor(case, folder)
    with _watched(made) as stages:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            if case.through_files:
                labels = _through_files(made, case, image, folder.parent)
            else:
                labels = made.predict_single_npy_array(image, {"spacing": list(case.spacing_mm)})
        seconds = time.perf_counter() - start
    return labels, stages, seconds


def _through_files(made: Any, case: Case, image: Array, folder: Path) -> Array:
    """Predict from a file to a file, and read both without SimpleITK's wrapper of nnU-Net."""
    drawn = SimpleITK.GetImageFromArray(image[0])
    drawn.SetSpacing(case.spacing_mm[::-1])
    drawn.SetOrigin((-120.5, 33.25, 410.0))
    drawn.SetDirection(OBLIQUE)
    SimpleITK.WriteImage(drawn, folder / "image_0000.nii.gz")
    made.predict_from_files_sequential([[str(folder / "image_0000.nii.gz")]], [str(folder / "labels")])
    return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(folder / "labels.nii.gz")))


@contextlib.contextmanager
def _watched(made: Any) -> Iterator[Stages]:
    """Note what goes into the network and what comes out, without changing either."""
    stages = Stages()
    predict, convert = made.predict_logits_from_preprocessed_data, made.label_manager.convert_logits_to_segmentation

    def predict_seen(data: torch.Tensor) -> torch.Tensor:
        stages.preprocessed = data.numpy().copy()
        logits: torch.Tensor = predict(data)
        stages.logits = logits.numpy().copy()
        return logits

    def convert_seen(_: Any, logits: Any) -> Any:
        stages.margin = margin(np.asarray(logits), made.label_manager.has_regions)
        return convert(logits)

    made.predict_logits_from_preprocessed_data = predict_seen
    # By class: the path through files makes a label manager of its own.
    with mock.patch.object(type(made.label_manager), "convert_logits_to_segmentation", convert_seen):
        yield stages


def margin(logits: Array, has_regions: bool) -> Array:
    """Give for ``[head, z, y, x]`` the least change of a logit that may change the label, float32 ``[z, y, x]``."""
    if has_regions:
        return np.asarray(np.abs(logits).min(axis=0), np.float32)
    second, best = np.partition(logits, -2, axis=0)[-2:]
    return np.asarray(best - second, np.float32)


def _in_image(margin: Array, case: Case, image: Array) -> Array:
    """Put what stands for the transposed and cropped volume where it belongs in the image."""
    inside = (image != 0).any(axis=0).transpose(case.transpose_forward)
    box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(inside))
    placed = np.full(inside.shape, np.inf, np.float32)
    placed[box] = margin
    return placed.transpose(np.argsort(case.transpose_forward))


if __name__ == "__main__":
    main()
