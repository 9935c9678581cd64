"""A results folder of nnU-Net is understood whole, or refused with what cannot be done."""

import json
from pathlib import Path
from typing import Any

import pytest

from node.convert.refusals import ImportOptions
from node.convert.results_folder import fold_names, model_folder, read_trained
from node.domain.errors import SetupError
from node.inference.network_tables import Channel

OPTIONS = ImportOptions(made_on="2026-11-21", orientation="LPS")

RESAMPLING = {"order": 3, "order_z": 0, "force_separate_z": None}


def plans(**changed: Any) -> dict[str, Any]:
    """Build plans of three configurations, the first changed."""
    fullres = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [96, 160, 128],
        "spacing": [3, 0.9, 1.1],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**RESAMPLING, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d", "dropout_op": None},
            "_kw_requires_import": ["conv_op", "dropout_op"],
        },
    }
    return {
        "dataset_name": "Dataset012_Pelvis",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 99.5, "std": 120.25, "percentile_00_5": -800.0, "percentile_99_5": 900.5}
        },
        "configurations": {
            "3d_fullres": {**fullres, **changed},
            "3d_wide": {"inherits_from": "3d_fullres", "patch_size": [32, 256, 256]},
            "2d": {**fullres, "patch_size": [512, 512]},
            "3d_cascade_fullres": {**fullres, "previous_stage": "3d_lowres"},
        },
    }


DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "bladder": 1, "femur_left": 2}}


def results(folder: Path, content: dict[str, Any], dataset: dict[str, Any] = DATASET) -> Path:
    """Write the two files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def test_everything_that_inference_needs_is_taken_from_plans_and_data_set(tmp_path: Path) -> None:
    trained = read_trained(results(tmp_path, plans()), "3d_fullres", OPTIONS)

    assert trained.input.spacing_mm == (3.0, 0.9, 1.1)
    assert trained.input.axis_order == (1, 0, 2)
    assert trained.input.window.patch == (96, 160, 128)
    assert (trained.input.order, trained.input.order_between_slices, trained.input.separate_slices) == (3, 0, "auto")
    assert trained.input.channels == (
        Channel(name="CT", normalisation="fixed", clip=(-800.0, 900.5), mean=99.5, standard_deviation=120.25),
    )
    assert trained.labels == {"bladder": (1,), "femur_left": (2,)}
    assert (trained.output.classes, trained.output.activation) == (3, "softmax")


def test_a_configuration_has_what_it_inherits(tmp_path: Path) -> None:
    trained = read_trained(results(tmp_path, plans()), "3d_wide", OPTIONS)

    assert trained.input.window.patch == (32, 256, 256)
    assert trained.input.spacing_mm == (3.0, 0.9, 1.1)


def test_a_resampling_that_says_nothing_of_separate_slices_never_separates(tmp_path: Path) -> None:
    # The default of nnU-Net's own function is False, not None.
    kwargs = {"resampling_fn_data_kwargs": {"order": 3}, "resampling_fn_probabilities_kwargs": {"order": 1}}

    trained = read_trained(results(tmp_path, plans(**kwargs)), "3d_fullres", OPTIONS)

    assert trained.input.separate_slices == "never"


def test_regions_keep_the_order_in_which_they_are_written_and_only_values_that_are(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4}
    dataset = {**DATASET, "labels": labels, "regions_class_order": [1, 2, 5]}

    with pytest.raises(SetupError, match="No label of region active"):
        read_trained(results(tmp_path, plans(), dataset), "3d_fullres", OPTIONS)
    dataset["regions_class_order"] = [1, 2, 3]
    trained = read_trained(results(tmp_path, plans(), dataset), "3d_fullres", OPTIONS)

    assert trained.output.region_values == (1, 2, 3)
    assert trained.labels == {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}


ARCHITECTURE = plans()["configurations"]["3d_fullres"]["architecture"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"normalization_schemes": ["RGBTo01Normalization"]}, "normalised by RGBTo01Normalization"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resampling_fn_data is resample_torch_fornnunet"),
        ({"resampling_fn_probabilities_kwargs": RESAMPLING}, "Scores go back by order 3"),
        ({"preprocessor_name": "Mine"}, "preprocessor_name Mine"),
        ({"architecture": {**ARCHITECTURE, "network_class_name": "mine.PlainConvUNet"}}, "mine.PlainConvUNet"),
        ({"architecture": {**ARCHITECTURE, "network_class_name": "a.Primus"}}, "architecture a.Primus"),
        ({"architecture": {**ARCHITECTURE, "arch_kwargs": {"conv_op": "os.system"}}}, "conv_op is 'os.system'"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        read_trained(results(tmp_path, plans(**changed)), "3d_fullres", OPTIONS)


@pytest.mark.parametrize(
    ("configuration", "said"),
    [("2d", "is a 2-D configuration"), ("3d_cascade_fullres", "second stage of a cascade"), ("3d", "no configuration")],
)
def test_other_kinds_of_configuration_are_refused(tmp_path: Path, configuration: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        read_trained(results(tmp_path, plans()), configuration, OPTIONS)


def test_how_training_images_lay_is_asked_and_never_guessed(tmp_path: Path) -> None:
    folder = results(tmp_path, plans())

    with pytest.raises(SetupError, match="nothing in the folder says how that was") as refused:
        read_trained(folder, "3d_fullres", ImportOptions(made_on="2026-11-21"))

    assert "--example" in refused.value.remedy


def test_a_reader_that_turns_images_needs_no_answer(tmp_path: Path) -> None:
    folder = results(tmp_path, {**plans(), "image_reader_writer": "NibabelIOWithReorient"})

    trained = read_trained(folder, "3d_fullres", ImportOptions(made_on="2026-11-21"))

    assert trained.input.orientation == "RAS"
    with pytest.raises(SetupError, match="turns images to RAS, not LPS"):
        read_trained(folder, "3d_fullres", OPTIONS)


def test_an_unknown_reader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="read by NaturalImage2DIO"):
        read_trained(results(tmp_path, {**plans(), "image_reader_writer": "NaturalImage2DIO"}), "3d_fullres", OPTIONS)


def test_the_one_configuration_of_a_data_set_is_found_and_one_of_two_is_asked_for(tmp_path: Path) -> None:
    first = results(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", plans())

    assert model_folder(tmp_path) == first
    results(tmp_path / "nnUNetTrainer__nnUNetPlans__2d", plans())
    with pytest.raises(SetupError, match="2 trained configurations"):
        model_folder(tmp_path)


def test_another_folder_is_told_from_a_results_folder(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is no results folder"):
        model_folder(tmp_path)


def checkpoints(folder: Path, *names: str) -> None:
    """Leave empty files."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_numbered_folds_are_taken_and_fold_all_only_where_there_is_no_other(tmp_path: Path) -> None:
    checkpoints(tmp_path, "fold_all/checkpoint_final.pth")

    assert fold_names(tmp_path, (), "checkpoint_final.pth") == ("all",)
    checkpoints(tmp_path, "fold_10/checkpoint_final.pth", "fold_2/checkpoint_final.pth", "fold_3/checkpoint_best.pth")
    assert fold_names(tmp_path, (), "checkpoint_final.pth") == ("2", "10")
    assert fold_names(tmp_path, ("all",), "checkpoint_final.pth") == ("all",)


def test_a_missing_fold_is_told_with_what_is_there(tmp_path: Path) -> None:
    checkpoints(tmp_path, "fold_0/checkpoint_best.pth")

    with pytest.raises(SetupError, match=r"fold 1 has no checkpoint_final.pth; there: fold_0/checkpoint_best.pth"):
        fold_names(tmp_path, ("1",), "checkpoint_final.pth")
    with pytest.raises(SetupError, match=r"no fold has checkpoint_final.pth"):
        fold_names(tmp_path, (), "checkpoint_final.pth")
