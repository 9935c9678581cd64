"""A results folder of nnU-Net v2 as its JSON files describe it: what inference needs, and refusals of all else.

::

    Dataset001_Name/nnUNetTrainer__nnUNetPlans__3d_fullres/
        plans.json  dataset.json  fold_0/checkpoint_final.pth  fold_1/...

Plans come in two formats: since nnU-Net 2.4 with ``architecture``, before with the network's counts. Nothing here needs
nnU-Net or torch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from node.convert.refusals import UNSUPPORTED, ImportOptions, refused
from node.inference.network_tables import Channel, Output, Separation, Window, WindowedInput

PLANS, DATASET = "plans.json", "dataset.json"

# Reader classes of nnU-Net that give the array as it lies in the file, [z, y, x].
_AS_IN_FILE = ("SimpleITKIO", "NibabelIO")
# Turns every image to RAS before it gives the array.
_TURNS_TO_RAS = "NibabelIOWithReorient"
_NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
_NETWORK_MODULES = "dynamic_network_architectures.architectures."
_RESAMPLING = "resample_data_or_seg_to_shape"
_SEPARATION: dict[bool | None, Separation] = {None: "auto", True: "always", False: "never"}
# Since nnU-Net 2.5 plans may say so; it is the only value that nnU-Net itself plans.
_ANISOTROPY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A trained configuration, as far as its JSON files tell."""

    dataset_name: str
    configuration: str
    # Without mirroring, which the checkpoint knows.
    input: WindowedInput
    output: Output
    # Label values of each structure, by the name that the data set gave it; the background is not among them.
    labels: Mapping[str, tuple[int, ...]]
    # The files' whole content, for nnU-Net's own classes.
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]


def model_folder(folder: Path) -> Path:
    """Find the folder that holds plans.json: this one, or the only one within.

    Raises
    ------
    SetupError
        There is none, or several.
    """
    if (folder / PLANS).is_file():
        return folder
    found = sorted(each.parent for each in folder.glob(f"*/{PLANS}")) if folder.is_dir() else []
    if len(found) == 1:
        return found[0]
    if found:
        raise refused(
            f"{folder} holds {len(found)} trained configurations: {', '.join(each.name for each in found)}",
            "Name one of these folders.",
        )
    raise refused(
        f"{folder} is no results folder of nnU-Net v2: there is no {PLANS} in it",
        "Name the folder <trainer>__<plans>__<configuration> below nnUNet_results/Dataset..., with plans.json, "
        "dataset.json and fold_0, fold_1, ...",
    )


def fold_names(folder: Path, wanted: Sequence[str], checkpoint: str) -> tuple[str, ...]:
    """Choose the folds: those wanted, or every numbered one that has the checkpoint, or else fold_all.

    Raises
    ------
    SetupError
        A wanted fold lacks the checkpoint, or none has it.
    """
    there = {each.parent.name.removeprefix("fold_") for each in folder.glob(f"fold_*/{checkpoint}")}
    numbered = sorted((each for each in there if each.isdecimal()), key=int)
    chosen = tuple(wanted) or tuple(numbered) or (("all",) if "all" in there else ())
    missing = [each for each in chosen if each not in there]
    if chosen and not missing:
        return chosen
    others = sorted({str(each.relative_to(folder)) for each in folder.glob("fold_*/*.pth")})
    what = f"fold {', '.join(missing)} has no {checkpoint}" if missing else f"no fold has {checkpoint}"
    raise refused(
        f"In {folder.name} {what}; there: {', '.join(others) or 'no checkpoint at all'}",
        "Name other folds by --folds, or another file by --checkpoint; copy the whole results folder if files lack.",
    )


def read_trained(folder: Path, configuration: str, options: ImportOptions) -> TrainedNetwork:
    """Read what a configuration's network wants and gives.

    Raises
    ------
    SetupError
        A file is missing or no JSON, or something of it is not supported, which is named.
    """
    plans, dataset = _json(folder / PLANS), _json(folder / DATASET)
    plan = resolved_configuration(plans, configuration)
    _refuse_unsupported(plans, plan, configuration)
    labels, output = _labels_and_output(dataset)
    return TrainedNetwork(
        dataset_name=str(plans.get("dataset_name", folder.parent.name)),
        configuration=configuration,
        input=_input(plans, plan, dataset, options),
        output=output,
        labels=labels,
        plans=plans,
        dataset=dataset,
    )


def resolved_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Give a configuration with what it inherits.

    Raises
    ------
    SetupError
        There is no such configuration, or it inherits from itself.
    """
    chain: list[str] = []
    resolved: dict[str, Any] = {}
    wanted: str | None = name
    while wanted is not None:
        if wanted not in plans["configurations"] or wanted in chain:
            raise refused(f"{PLANS} has no configuration {wanted!r} that could be resolved", "Copy it from training.")
        chain.append(wanted)
        resolved = {**plans["configurations"][wanted], **resolved}
        wanted = plans["configurations"][wanted].get("inherits_from")
    return resolved


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refused(f"{path} cannot be read: {error}", "Copy the whole results folder from training.") from error
    if not isinstance(content, dict):
        raise refused(f"{path} holds no JSON object", "Copy the whole results folder from training.")
    return content


def _refuse_unsupported(plans: Mapping[str, Any], plan: Mapping[str, Any], configuration: str) -> None:
    if len(plan["patch_size"]) != 3:
        raise refused(f"{configuration} is a 2-D configuration", "Import a 3-D configuration.")
    if plan.get("previous_stage"):
        raise refused(
            f"{configuration} is the second stage of a cascade: it takes the labels of {plan['previous_stage']}",
            "Import 3d_fullres or 3d_lowres, which stand alone.",
        )
    architecture = plan.get("architecture", {})
    network = str(architecture.get("network_class_name", plan.get("UNet_class_name", "")))
    module, _, name = network.rpartition(".")
    if name not in _NETWORKS or (module and not module.startswith(_NETWORK_MODULES)):
        raise refused(f"The architecture {network or '(none named)'} is not supported", f"{', '.join(_NETWORKS)} are.")
    for key in architecture.get("_kw_requires_import", ()):
        # nnU-Net imports whatever module is named here.
        value = architecture["arch_kwargs"].get(key)
        if value is not None and not str(value).startswith("torch.nn."):
            raise refused(f"The network's {key} is {value!r}, which is none of torch.nn", UNSUPPORTED)
    for key, known in (("preprocessor_name", "DefaultPreprocessor"), ("label_manager", "LabelManager")):
        found = plan.get(key, plans.get(key, known))
        if found != known:
            raise refused(f"The {key} {found} is not supported", f"Only {known} is: {UNSUPPORTED}")


def _input(
    plans: Mapping[str, Any], plan: Mapping[str, Any], dataset: Mapping[str, Any], options: ImportOptions
) -> WindowedInput:
    separation, order, order_between = _resampling(plan)
    first, second, third = plans["transpose_forward"]
    z, y, x = (float(each) for each in plan["spacing"])
    rows, columns, slices = plan["patch_size"]
    return WindowedInput(
        orientation=_orientation(plans, options),
        axis_order=(first, second, third),
        spacing_mm=(z, y, x),
        resample="nnunet",
        order=order,
        separate_slices=separation,
        order_between_slices=order_between,
        crop="nonzero",
        channels=_channels(plans, plan, dataset),
        window=Window(patch=(rows, columns, slices), step=options.step),
    )


def _orientation(plans: Mapping[str, Any], options: ImportOptions) -> str:
    reader = plans.get("image_reader_writer", "")
    if reader == _TURNS_TO_RAS:
        if options.orientation not in (None, "RAS"):
            raise refused(f"{reader} turns images to RAS, not {options.orientation}", "Leave --orientation out.")
        return "RAS"
    if reader not in _AS_IN_FILE:
        known = ", ".join((*_AS_IN_FILE, _TURNS_TO_RAS))
        raise refused(f"Images were read by {reader or 'an unknown class'}", f"{known} are supported. {UNSUPPORTED}")
    if options.orientation is None:
        # To guess would be to guess left and right: dcm2niix writes LAS, SimpleITK and plastimatch write LPS.
        raise refused(
            f"{reader} took images as they lay in their files, and nothing in the folder says how that was",
            "Give --example with one of the training images, from which it is read; or --orientation with the "
            "directions in which column, row and slice index grow, e.g. LPS for files that SimpleITK wrote from "
            "DICOM, LAS for those of dcm2niix.",
        )
    return options.orientation


def _resampling(plan: Mapping[str, Any]) -> tuple[Separation, int, int]:
    found = []
    for key in ("resampling_fn_data", "resampling_fn_probabilities"):
        function = plan.get(key, _RESAMPLING)
        if function != _RESAMPLING:
            raise refused(f"{key} is {function}", f"Only {_RESAMPLING} is supported. {UNSUPPORTED}")
        kwargs = plan.get(f"{key}_kwargs", {})
        if kwargs.get("is_seg") or kwargs.get("separate_z_anisotropy_threshold", _ANISOTROPY) != _ANISOTROPY:
            raise refused(f"{key}_kwargs are {kwargs}", UNSUPPORTED)
        found.append((kwargs.get("force_separate_z", False), kwargs.get("order", 3), kwargs.get("order_z", 0)))
    (separate, order, order_between), (separate_back, order_back, order_between_back) = found
    if (separate_back, order_back, order_between_back) != (separate, 1, 0):
        raise refused(
            f"Scores go back by order {order_back}, between slices {order_between_back}, force_separate_z "
            f"{separate_back} (images: {separate})",
            f"Only order 1, between slices 0, and the images' own force_separate_z are supported. {UNSUPPORTED}",
        )
    return _SEPARATION[separate], int(order), int(order_between)


def _channels(plans: Mapping[str, Any], plan: Mapping[str, Any], dataset: Mapping[str, Any]) -> tuple[Channel, ...]:
    # Before nnU-Net 2.0 was released they were called modality.
    names = dataset.get("channel_names", dataset.get("modality", {}))
    schemes, masked = plan["normalization_schemes"], plan["use_mask_for_norm"]
    if not names or not len(names) == len(schemes) == len(masked):
        raise refused(f"{len(names)} channels have {len(schemes)} normalisations", "Copy the files from training.")
    intensities = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    return tuple(
        _channel(str(names[str(number)]), scheme, bool(masked[number]), intensities.get(str(number), {}))
        for number, scheme in enumerate(schemes)
    )


def _channel(name: str, scheme: str, masked: bool, intensities: Mapping[str, float]) -> Channel:
    match scheme:
        case "CTNormalization":
            return Channel(
                name=name,
                normalisation="fixed",
                clip=(float(intensities["percentile_00_5"]), float(intensities["percentile_99_5"])),
                mean=float(intensities["mean"]),
                standard_deviation=max(float(intensities["std"]), 1e-8),
            )
        case "ZScoreNormalization":
            return Channel(name=name, normalisation="z_score", masked=masked)
        case "RescaleTo01Normalization":
            return Channel(name=name, normalisation="range_0_1")
        case "NoNormalization":
            return Channel(name=name, normalisation="fixed")
        case _:
            known = "CTNormalization, ZScoreNormalization, RescaleTo01Normalization, NoNormalization"
            raise refused(f"Channel {name} is normalised by {scheme}", f"Supported: {known}. {UNSUPPORTED}")


def _labels_and_output(dataset: Mapping[str, Any]) -> tuple[dict[str, tuple[int, ...]], Output]:
    named = {
        str(name): tuple(int(each) for each in (values if isinstance(values, list) else [values]))
        for name, values in cast(Mapping[str, Any], dataset["labels"]).items()
        if name != "ignore"
    }
    foreground = {name: values for name, values in named.items() if set(values) != {0}}
    # nnU-Net's own test of it.
    if any(len(values) > 1 for values in named.values()):
        return _regions(foreground, dataset.get("regions_class_order", []))
    values = sorted(value for each in named.values() for value in each)
    if values != list(range(len(values))):
        raise refused(f"Label values are {values}, not 0, 1, 2, ...", "nnU-Net needs these itself; copy dataset.json.")
    return foreground, Output(classes=len(values), activation="softmax")


def _regions(foreground: dict[str, tuple[int, ...]], order: Sequence[int]) -> tuple[dict[str, tuple[int, ...]], Output]:
    if len(order) != len(foreground):
        raise refused(f"{len(foreground)} regions have a regions_class_order of {len(order)}", "Copy dataset.json.")
    # A value that no region writes is never in a result.
    written = {name: tuple(value for value in values if value in order) for name, values in foreground.items()}
    if empty := [name for name, values in written.items() if not values]:
        raise refused(f"No label of region {empty[0]} is in regions_class_order", "Copy dataset.json from training.")
    return written, Output(classes=len(order), activation="regions", region_values=tuple(int(each) for each in order))
