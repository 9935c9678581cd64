"""Write an nnU-Net v2 results folder with random weights, as a training would leave it.

Runs where torch and nnunetv2 are installed, see `tests.parity.environment`. The layout is that of nnU-Net 2.8.1::

    <results>/Dataset900_<case>/nnUNetTrainer__nnUNetPlans__3d_fullres/
        dataset.json  plans.json  fold_<n>/checkpoint_final.pth

A network of random weights that nothing balances prefers one label everywhere, and then any engine would be right.
So the last layer is scaled on a volume until each of its outputs has mean 0 and standard deviation 1.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from tests.parity.cases import Axes, Case
from tests.parity.volumes import seed, textured

CONFIGURATION = "3d_fullres"
CT_INTENSITIES = {
    "max": 3071.0,
    "mean": 99.48717498779297,
    "median": 92.0,
    "min": -1024.0,
    "percentile_00_5": -612.0,
    "percentile_99_5": 918.0,
    "std": 371.2365417480469,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What `torch.save` needs besides weights, and what decides the number of outputs."""

    plans: dict[str, Any]
    dataset: dict[str, Any]
    trainer: str
    heads: int
    mirroring_axes: tuple[int, ...] | None
    # See `tests.parity.cases.Case`.
    coherent: bool = False
    # How many standard deviations the first output lies above the others.
    background_ahead: float = 0.0


def write_case(case: Case, results: Path) -> Path:
    """Write the folder of a case below ``results`` and give the folder that holds plans.json."""
    folder = results / f"Dataset900_{case.name}" / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    network = Network(
        plans=plans(case),
        dataset=dataset(case),
        trainer="nnUNetTrainer",
        heads=len(case.labels) - (case.regions_class_order is not None),
        mirroring_axes=case.mirroring_axes,
        coherent=case.coherent,
    )
    write(network, folder, [seed(f"{case.name} fold {fold}") for fold in range(case.folds)])
    return folder


def write(network: Network, folder: Path, seeds: list[int]) -> None:
    """Write plans, dataset and one checkpoint for each seed."""
    for fold, number in enumerate(seeds):
        (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        torch.save(_checkpoint(network, number, fold), folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(network.plans, indent=4))
    (folder / "dataset.json").write_text(json.dumps(network.dataset, indent=4))


def dataset(case: Case) -> dict[str, Any]:
    """Give dataset.json of a case."""
    content: dict[str, Any] = {
        "channel_names": {str(number): name for number, name in enumerate(case.channels)},
        "labels": case.labels,
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    if case.regions_class_order is not None:
        content["regions_class_order"] = list(case.regions_class_order)
    return content


def plans(case: Case) -> dict[str, Any]:
    """Give plans.json of a case, with every field that nnU-Net 2.8.1 writes for a 3d_fullres configuration."""
    kinds = range(len(case.channels))
    return {
        "dataset_name": f"Dataset900_{case.name}",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(case.plan_spacing_mm),
        "original_median_shape_after_transp": [case.shape[axis] for axis in case.transpose_forward],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(case.transpose_forward),
        "transpose_backward": [int(axis) for axis in np.argsort(case.transpose_forward)],
        "configurations": {CONFIGURATION: _configuration(case)},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(number): CT_INTENSITIES for number in kinds},
    }


def _configuration(case: Case) -> dict[str, Any]:
    return {
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(case.patch_size),
        "median_image_size_in_voxels": [float(size) for size in case.shape],
        "spacing": list(case.plan_spacing_mm),
        "normalization_schemes": list(case.normalization_schemes),
        "use_mask_for_norm": [case.use_mask_for_norm] * len(case.channels),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": _architecture(case),
        "batch_dice": True,
    }


def _architecture(case: Case) -> dict[str, Any]:
    stages = len(case.strides)
    depth = "n_conv_per_stage" if case.architecture == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{case.architecture}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(case.features[:stages]),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernel_sizes(case.strides),
            "strides": [list(stride) for stride in case.strides],
            depth: [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
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


def kernel_sizes(strides: tuple[Axes, ...]) -> list[list[int]]:
    """Flat kernels above the first halving of z, as nnU-Net plans them for thick slices."""
    flat = len(strides) > 1 and strides[1][0] == 1
    return [[1, 3, 3] if flat and number == 0 else [3, 3, 3] for number in range(len(strides))]


def _checkpoint(network: Network, number: int, fold: int) -> dict[str, Any]:
    """The keys are those that `nnUNetTrainer.save_checkpoint` writes."""
    return {
        "network_weights": _weights(network, number),
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": 1000,
        "init_args": {
            "plans": network.plans,
            "configuration": CONFIGURATION,
            "fold": fold,
            "dataset_json": network.dataset,
            "device": torch.device("cpu"),
        },
        "trainer_name": network.trainer,
        "inference_allowed_mirroring_axes": network.mirroring_axes,
    }


def _weights(network: Network, number: int) -> dict[str, torch.Tensor]:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    torch.manual_seed(number)
    configuration = PlansManager(json.loads(json.dumps(network.plans))).get_configuration(CONFIGURATION)
    channels = len(network.dataset["channel_names"])
    net = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        channels,
        network.heads,
        deep_supervision=False,
    ).eval()
    _vary(net)
    if network.coherent:
        _let_neighbours_agree(net)
    _balance(net, torch.from_numpy(_sample(channels, tuple(configuration.patch_size), number)))
    with torch.no_grad():
        net.decoder.seg_layers[-1].bias[0] += network.background_ahead
    return dict(net.state_dict())


def _vary(net: torch.nn.Module) -> None:
    """Move biases and scales off the 0 and 1 of initialisation: an export that lost them would go unseen."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
            elif "norm" in name:
                parameter.uniform_(0.5, 1.5)


def _let_neighbours_agree(net: Any) -> None:
    """Let little but the coarsest stage speak, in blocks of one value; an export sees no difference."""
    with torch.no_grad():
        for up, stage in zip(net.decoder.transpconvs, net.decoder.stages, strict=True):
            up.weight.copy_(up.weight[:, :, :1, :1, :1].clone().expand_as(up.weight))
            for block in stage.convs:
                middle = block.conv.weight[:, :, 1:2, 1:2, 1:2].clone()
                block.conv.weight.zero_()
                block.conv.weight[:, :, 1:2, 1:2, 1:2] = middle
            stage.convs[0].conv.weight[:, up.weight.shape[1] :] *= 0.02


def _balance(net: Any, sample: torch.Tensor) -> None:
    last = net.decoder.seg_layers[-1]
    with torch.no_grad():
        logits = net(sample)
        mean, deviation = logits.mean(dim=(0, 2, 3, 4)), logits.std(dim=(0, 2, 3, 4))
        last.weight.div_(deviation[:, None, None, None, None])
        last.bias.sub_(mean).div_(deviation)


def _sample(channels: int, patch: Axes, number: int) -> Any:
    planes = [textured(patch, number + channel) for channel in range(channels)]
    return np.stack([(plane - plane.mean()) / plane.std() for plane in planes])[None].astype(np.float32)
