"""What TotalSegmentator itself answers with weights that are random.

Runs in the place that `tests.parity.environment` makes, from the root of the checkout, offline: every address but this
machine's is refused, usage statistics are off, nothing is downloaded and no licence is asked::

    python -m tests.parity.whole_body OUT                     # 3 mm, the five parts at 1.5 mm, and a task in a region
    python -m tests.parity.whole_body OUT --tasks total_fast

``OUT/weights/`` is a folder of weights as TotalSegmentator 2.18 keeps it, plans in the older format of nnU-Net 2.0 that
its published weights have; their patch is smaller and their features fewer. ``OUT/<task>/``:

- ``image.nii.gz``: the input, int16, with an affine that is oblique, flipped and off the origin;
- ``labels.nii.gz`` by accumulators of float32, ``labels_f16.nii.gz`` by those of float16 that nnU-Net has;
- ``resampled.nii.gz``: the image in RAS at the spacing of the model, as the network's reader got it;
- ``parts/<task number>.nii.gz``: each model's own labels at that spacing, before they are renamed and merged; of a task
  in a region also the labels of the model that finds it, in its own spacing.

One thing differs from the command ``TotalSegmentator``: the volumes run one after the other in this process, by
``predict_from_files_sequential``. The functions called for a volume are the same.
"""

import argparse
import json
import os
import shutil
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np

from tests.parity.volumes import seed, textured

TASKS: dict[str, dict[str, Any]] = {
    "total_fast": {"fast": True},
    "total": {},
    "liver_segments": {"task": "liver_segments"},
}
# Array axes as they lie in the file: left to right reversed, then front to back, then head to feet.
SHAPES = {"total_fast": (71, 64, 44), "total": (47, 42, 33), "liver_segments": (66, 58, 40)}
SPACINGS_MM = {"total_fast": (1.7, 1.9, 3.7), "total": (1.1, 1.3, 1.9), "liver_segments": (2.5, 2.7, 5.0)}
TILT = np.deg2rad(12.0)
LIVER_SEGMENTS = 570
# Of the network that finds a region: by how many standard deviations the background's score lies above the others, and
# a seed by which its liver is small and lies within the image.
SPARSE, SMALL_LIVER = 4.6, "3"


def main() -> None:
    """Write weights, inputs and answers of the tasks named on the command line."""
    parser = argparse.ArgumentParser(description="Write what TotalSegmentator answers for networks of random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", default=",".join(TASKS))
    arguments = parser.parse_args()
    tasks = arguments.tasks.split(",")
    if unknown := set(tasks) - set(TASKS):
        parser.error(f"no such task: {', '.join(sorted(unknown))}")
    out = arguments.out.absolute()
    prepare(out)
    report = {task: reference(task, out) for task in tasks}
    (out / "whole_body.json").write_text(json.dumps(report, indent=2))


def reference(task: str, out: Path) -> dict[str, Any]:
    """Write the folder of a task; give seconds and what its labels are."""
    from tests.parity.reference import float32_accumulators  # noqa: PLC0415

    folder = out / task
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    _write_weights(task, out / "weights")
    nibabel.save(image(task), folder / "image.nii.gz")
    start = time.perf_counter()
    _segment(task, folder, "labels_f16.nii.gz")
    with float32_accumulators():
        _segment(task, folder, "labels.nii.gz")
    seconds = time.perf_counter() - start
    labels, labels_f16 = (_labels(folder / f"{name}.nii.gz") for name in ("labels", "labels_f16"))
    measured = {
        "seconds_both": round(seconds, 2),
        "voxels": int(labels.size),
        "differ_f16": int((labels != labels_f16).sum()),
        "labels": np.unique(labels).tolist(),
        "affine_of_labels": nibabel.load(folder / "labels.nii.gz").affine.tolist(),
        "largest_share": float(np.bincount(labels.ravel()).max() / labels.size),
    }
    print(task, {key: measured[key] for key in ("seconds_both", "voxels", "differ_f16", "largest_share")}, flush=True)
    return measured


def image(task: str) -> nibabel.Nifti1Image:
    """Draw the input of a task: RAS millimetres, voxel axes L, P and S turned by 12 degrees about R and about S."""
    values = textured(SHAPES[task], seed(task)).astype(np.int16)
    cos, sin = np.cos(TILT), np.sin(TILT)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag([-1, -1, 1]) @ np.diag(SPACINGS_MM[task])
    affine[:3, 3] = (87.5, 110.25, -342.0)
    return nibabel.Nifti1Image(values, affine)


def prepare(out: Path) -> None:
    """Settings that TotalSegmentator reads when it is imported or starts; the last makes a slip impossible."""
    home = out / "home"
    home.mkdir(parents=True, exist_ok=True)
    settings = {"totalseg_id": "none", "send_usage_stats": False, "prediction_counter": 0}
    (home / "config.json").write_text(json.dumps({**settings, "statistics_disclaimer_shown": True}))
    os.environ.update(TOTALSEG_HOME_DIR=str(home), TOTALSEG_WEIGHTS_PATH=str(out / "weights"))
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(out / "weights")

    def refuse(*_: Any) -> None:
        raise OSError("the reference runs offline")

    # The search for a trainer imports every module on its way, and this one needs timm and torchvision.
    unneeded = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    sys.modules[unneeded] = types.ModuleType(unneeded)
    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse  # type: ignore[assignment]


def _segment(task: str, folder: Path, name: str) -> None:
    import nnunetv2.inference.predict_from_raw_data as nnunet  # noqa: PLC0415

    # When imported it puts a predict_from_files of its own into the predictor, which ours must come after.
    import totalsegmentator.nnunet  # noqa: F401, PLC0415
    from totalsegmentator.python_api import totalsegmentator as segment  # noqa: PLC0415

    def one_after_the_other(made: Any, source: str, target: str, **options: Any) -> None:
        made.predict_from_files_sequential(source, target, options["save_probabilities"], options["overwrite"])
        shutil.copy(Path(source) / "s01_0000.nii.gz", folder / "resampled.nii.gz")
        number = made.plans_manager.dataset_name[len("Dataset") :].split("_")[0]
        shutil.copy(Path(target) / "s01.nii.gz", folder / "parts" / f"{number}.nii.gz")

    with mock.patch.object(nnunet.nnUNetPredictor, "predict_from_files", one_after_the_other):
        segment(
            folder / "image.nii.gz", folder / name, ml=True, device="cpu", quiet=True, nr_thr_saving=1, **TASKS[task]
        )


def _labels(path: Path) -> Any:
    return np.asarray(nibabel.load(path).dataobj).astype(np.uint8)


def _write_weights(task: str, weights: Path) -> None:
    from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS  # noqa: PLC0415

    from tests.parity import results_folder  # noqa: PLC0415

    total = TASK_CONFIGS["total"]["sub_modes"]
    if "task" in TASKS[task]:
        # The network for the whole body at 6 mm finds the region: sparse labels, lest that were all of the image.
        modes = [(TASK_CONFIGS[task], 2.0, ""), (total["fastest"], SPARSE, f" {SMALL_LIVER}")]
    else:
        # A later part overwrites the earlier ones, and would leave nothing of them without room between.
        modes = [(total["fast" if TASKS[task] else "default"], 2.0, "")]
    for mode, background_ahead, more_seed in modes:
        for number in np.atleast_1d(mode["task_id"]).tolist():
            dataset_name, trainer = TASK_ID_WEIGHTS_CONFIGS[number]["foldername"], mode["trainer"]
            network = _network(number, dataset_name, mode, background_ahead)
            folder = weights / dataset_name / f"{trainer}__nnUNetPlans__3d_fullres"
            results_folder.write(network, folder, [seed(f"{dataset_name}{more_seed}")])


def _network(number: int, dataset_name: str, mode: dict[str, Any], background_ahead: float) -> Any:
    from tests.parity import results_folder  # noqa: PLC0415

    labels = _label_names(number)
    # TotalSegmentator's tables say x, y, z; plans say z, y, x.
    spacing_mm = np.broadcast_to(mode["resample"], 3)[::-1].tolist()
    return results_folder.Network(
        plans=_old_plans(dataset_name, spacing_mm),
        dataset={
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, **{name: value for value, name in labels.items()}},
            "numTraining": 5,
            "file_ending": ".nii.gz",
        },
        trainer=mode["trainer"],
        heads=len(labels) + 1,
        mirroring_axes=None,
        background_ahead=background_ahead,
    )


def _label_names(number: int) -> dict[int, str]:
    from totalsegmentator.map_to_binary import class_map, class_map_5_parts, map_taskid_to_partname_ct  # noqa: PLC0415

    part = map_taskid_to_partname_ct.get(number)
    if part:
        return dict(class_map_5_parts[part])
    return dict(class_map["liver_segments" if number == LIVER_SEGMENTS else "total"])


def _old_plans(dataset_name: str, spacing_mm: list[float]) -> dict[str, Any]:
    """Plans as nnU-Net 2.0 wrote them: the network is told by its counts, not by a class and its arguments."""
    from tests.parity.results_folder import CT_INTENSITIES  # noqa: PLC0415

    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 40, 32],
        "median_image_size_in_voxels": [120.0, 130.0, 130.0],
        "spacing": spacing_mm,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "num_pool_per_axis": [2, 2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3], [3, 3, 3]],
        "unet_max_num_features": 320,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": False,
    }
    return {
        "dataset_name": dataset_name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing_mm,
        "original_median_shape_after_transp": [120, 130, 130],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": CT_INTENSITIES},
    }


if __name__ == "__main__":
    main()
