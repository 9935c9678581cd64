"""What a network is made for, decided once from the training cases: spacing, normalisation and its own shape.

Written as nnU-Net v2 writes it, so that `delineate model import nnunet`, and nnU-Net itself, read what is trained here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.inference.network_tables import Channel
from node.inference.normalisation import Scale, nonzero_box, scale_of
from node.training.recipe import Recipe

CONFIGURATION = "3d_fullres"
TRAINER = "nnUNetTrainer"
PLANS = "nnUNetPlans"
# CT is told by its name; every other kind of image has no units, and is normalised by its own mean.
CT = "CT"
_Z_SCORE = Channel(name="", normalisation="z_score")
# Voxels of each case's organs that its intensities are measured on.
_SAMPLED = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensities:
    """Of one channel, over the voxels of all contoured organs of the training cases."""

    percentile_00_5: float
    percentile_99_5: float
    mean: float
    std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a network is made for."""

    name: str
    channels: tuple[str, ...]
    organs: tuple[str, ...]
    # (slice, row, column).
    spacing_mm: tuple[float, float, float]
    intensities: tuple[Intensities, ...]
    recipe: Recipe


def sampled(values: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """Take a bounded number of a case's values."""
    flat = values.reshape(-1)
    taken = flat if len(flat) <= _SAMPLED else rng.choice(flat, _SAMPLED, replace=False)
    return np.asarray(taken, dtype=np.float32)


def intensities_of(values: Sequence[NDArray[np.float32]], window: tuple[float, float] | None) -> Intensities:
    """Measure the values of all cases together, within a window if there is one."""
    every = np.concatenate(values)
    low, high = window or (float(each) for each in np.percentile(every, (0.5, 99.5)))
    if window:
        every = np.clip(every, low, high)
    return Intensities(
        percentile_00_5=low, percentile_99_5=high, mean=float(every.mean()), std=max(float(every.std()), 1e-8)
    )


def median_spacing(spacings_mm: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Give the median of each axis, in hundredths of a millimetre."""
    z, y, x = np.round(np.median(np.array(spacings_mm), axis=0), 2)
    return float(z), float(y), float(x)


def scales_of(image: NDArray[Any], plan: Plan) -> tuple[Scale, ...]:
    """Tell how the channels of a whole case, ``[channel, slice, row, column]``, are normalised, in all its parts alike.

    As nnU-Net does, a channel other than CT is measured in the box around what is not zero.
    """
    if all(name == CT for name in plan.channels):
        box: tuple[slice, ...] = ()
    else:
        box = nonzero_box(list(image))
    return tuple(
        Scale((found.percentile_00_5, found.percentile_99_5), found.mean, found.std, None)
        if name == CT
        else scale_of(np.asarray(image[number][box], dtype=np.float32), _Z_SCORE, None)
        for number, (name, found) in enumerate(zip(plan.channels, plan.intensities, strict=True))
    )


def normalised(image: NDArray[Any], scales: Sequence[Scale]) -> NDArray[np.float32]:
    """Give an image, or a part of it, ``[channel, slice, row, column]``, as the network wants it."""
    taken = np.empty(image.shape, dtype=np.float32)
    for number, scale in enumerate(scales):
        channel = image[number] if scale.limits is None else np.clip(image[number], *scale.limits)
        taken[number] = (channel - scale.mean) / scale.deviation
    return taken


def architecture(plan: Plan) -> dict[str, Any]:
    """Give the network's class and arguments as ``plans.json`` names them."""
    recipe = plan.recipe
    stages = len(recipe.features)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(recipe.features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
            "n_conv_per_stage": list(recipe.encoder_convolutions),
            "n_conv_per_stage_decoder": list(recipe.decoder_convolutions),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans_json(plan: Plan) -> dict[str, Any]:
    """Give the content of ``plans.json``. Images are read as they lie in files whose axes run as LPS."""
    kinds = ["CTNormalization" if name == CT else "ZScoreNormalization" for name in plan.channels]
    # Linear both ways, as in training: the images are mostly finer than the network's grid.
    resampling = {"order": 1, "order_z": 0, "force_separate_z": False}
    return {
        "dataset_name": plan.name,
        "plans_name": PLANS,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "experiment_planner_used": "delineate train",
        "original_median_spacing_after_transp": list(plan.spacing_mm),
        "foreground_intensity_properties_per_channel": {
            str(number): _properties(each) for number, each in enumerate(plan.intensities)
        },
        "configurations": {
            CONFIGURATION: {
                "data_identifier": f"{PLANS}_{CONFIGURATION}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": plan.recipe.batch,
                "patch_size": list(plan.recipe.patch),
                "spacing": list(plan.spacing_mm),
                "normalization_schemes": kinds,
                "use_mask_for_norm": [False] * len(kinds),
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, **resampling},
                "resampling_fn_seg_kwargs": {"is_seg": True, **resampling},
                "resampling_fn_probabilities_kwargs": {"is_seg": False, **resampling},
                "architecture": architecture(plan),
                "batch_dice": False,
            }
        },
    }


def dataset_json(plan: Plan, cases: int) -> dict[str, Any]:
    """Give the content of ``dataset.json`` beside ``plans.json``."""
    return {
        "name": plan.name,
        "channel_names": {str(number): name for number, name in enumerate(plan.channels)},
        "labels": {"background": 0, **{name: value for value, name in enumerate(plan.organs, start=1)}},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }


def _properties(found: Intensities) -> Mapping[str, float]:
    return {
        "percentile_00_5": found.percentile_00_5,
        "percentile_99_5": found.percentile_99_5,
        "mean": found.mean,
        "std": found.std,
    }
