"""What a manifest says of a network with a window is understood whole or refused with the key that is wrong."""

import re

import pytest

from node.domain.errors import SetupError
from node.inference.network_tables import Channel, GraphFile, Output, Window, WindowedInput
from node.inference.package import ModelPackage, parse_manifest

MANIFEST = f"""
schema_version = 2
name = "nnunet"
title = "Two channels"
version = "1"
originator = "A clinic"
licence = "Apache-2.0"
intended_use = "Tests."
limits = "None."
modalities = ["MR"]

[input]
orientation = "native"
axis_order = [1, 0, 2]
spacing_mm = [3, 1.2, 1.1]
resample = "nnunet"
order = 3
separate_slices = "always"
order_between_slices = 1
crop = "none"

[[input.channels]]
name = "CT"
normalisation = "fixed"
clip = [-600, 900.5]
mean = 99.5
standard_deviation = 371

[[input.channels]]
name = "T1"
normalisation = "z_score"
masked = true

[window]
patch = [16, 40, 32]
step = 0.8
gaussian_sigma = 0.25
mirror_axes = [0, 2]

[output]
classes = 3
activation = "regions"
region_values = [2, 1, 3]

[[graphs]]
file = "fold_0.onnx"
sha256 = "{"0f" * 32}"

[[graphs]]
file = "fold_1.onnx"
sha256 = "{"0e" * 32}"

[[structures]]
name = "Liver"
label_values = [1, 3]
colour_rgb = [221, 130, 101]
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "10200004", scheme = "SCT", meaning = "Liver" }}
interpreted_type = "ORGAN"
"""


def windowed(package: ModelPackage) -> WindowedInput:
    assert isinstance(package.input, WindowedInput)
    return package.input


def test_a_whole_manifest_becomes_values() -> None:
    package = parse_manifest(MANIFEST)

    assert package.input == WindowedInput(
        orientation="native",
        axis_order=(1, 0, 2),
        spacing_mm=(3.0, 1.2, 1.1),
        resample="nnunet",
        order=3,
        separate_slices="always",
        order_between_slices=1,
        crop="none",
        channels=(
            Channel(name="CT", normalisation="fixed", clip=(-600.0, 900.5), mean=99.5, standard_deviation=371.0),
            Channel(name="T1", normalisation="z_score", masked=True),
        ),
        window=Window(patch=(16, 40, 32), step=0.8, gaussian_sigma=0.25, mirror_axes=(0, 2)),
    )
    assert package.output == Output(classes=3, activation="regions", region_values=(2, 1, 3))
    assert package.graphs == (
        GraphFile(file="fold_0.onnx", sha256="0f" * 32),
        GraphFile(file="fold_1.onnx", sha256="0e" * 32),
    )


def test_a_graph_may_be_a_copy_in_float16() -> None:
    copies = "".join(
        f'[[graphs]]\nfile = "fold_{fold}.f16.onnx"\nsha256 = "{"0d" * 32}"\nprecision = "f16"\n' for fold in (0, 1)
    )

    package = parse_manifest(MANIFEST + copies)

    assert [graph.precision for graph in package.graphs] == ["f32", "f32", "f16", "f16"]


def test_copies_in_float16_are_of_all_networks_or_of_none() -> None:
    copy = f'[[graphs]]\nfile = "fold_0.f16.onnx"\nsha256 = "{"0d" * 32}"\nprecision = "f16"\n'

    with pytest.raises(SetupError, match="graphs holds 1 copies in f16 of 2 networks: one each, or none"):
        parse_manifest(MANIFEST + copy)


def test_what_may_be_left_out_is_as_nnunet_has_it() -> None:
    optional = "axis_order|resample|order|separate_slices|order_between_slices|crop|step|gaussian_sigma|mirror_axes"

    package = parse_manifest(re.sub(rf"(?m)^({optional}) =.*\n", "", MANIFEST))

    wanted = windowed(package)
    assert (wanted.axis_order, wanted.resample, wanted.order) == ((0, 1, 2), "nnunet", 3)
    assert (wanted.separate_slices, wanted.order_between_slices, wanted.crop) == ("auto", 0, "nonzero")
    assert wanted.window == Window(patch=(16, 40, 32), step=0.5, gaussian_sigma=0.125, mirror_axes=())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[1, 0, 2]\nspacing", "[1, 1, 2]\nspacing", "axis_order must hold 0, 1 and 2 once each"),
        ("[3, 1.2, 1.1]", '["source", 1.2, 1.1]', "spacing_mm must be 3 numbers"),
        ("[3, 1.2, 1.1]", "[0, 1.2, 1.1]", "spacing_mm must be above 0"),
        ('"nnunet"\norder', '"monai"\norder', "resample is 'monai'; it must be one of nnunet, totalsegmentator"),
        ('"nnunet"\norder', '"totalsegmentator"\norder', 'separate_slices needs resample = "nnunet"'),
        ("order = 3", "order = 6", "order must be between 0 and 5"),
        ('crop = "none"', 'crop = "box"', "crop is 'box'"),
        ("[-600, 900.5]", "[900.5, -600]", "clip must be [lower, upper]"),
        ('"z_score"', '"fixed"', 'masked needs normalisation = "z_score"'),
        ('"fixed"\nclip', '"range_0_1"\nclip', 'clip needs normalisation = "fixed"'),
        ("[16, 40, 32]", "[16, 40]", "patch must be three whole numbers"),
        ("step = 0.8", "step = 1.1", "step must be at most 1"),
        ("mirror_axes = [0, 2]", "mirror_axes = [0, 0]", "mirror_axes must be some of 0, 1 and 2"),
        ("[2, 1, 3]\n", "[2, 1]\n", "region_values must be one value for each class"),
        ("[2, 1, 3]\n", "[2, 1, 1]\n", "region_values must be different numbers"),
        ('activation = "regions"\n', "", "region_values must be one value for each class"),
        ("label_values = [1, 3]", "label_values = [4]", "must be among the label values [1, 2, 3]"),
        ("multiple_of", "multiple_of", ""),
    ],
)
def test_a_wrong_manifest_is_refused_by_the_name_of_its_key(old: str, new: str, said: str) -> None:
    text = MANIFEST.replace(old, new, 1) if said else MANIFEST.replace("crop =", "multiple_of = [1, 1, 1]\ncrop =")

    with pytest.raises(SetupError, match=re.escape(said or "multiple_of is unknown")) as refused:
        parse_manifest(text)

    assert text != MANIFEST
    assert refused.value.remedy == "Mend the model package's manifest."


def test_softmax_needs_scores_that_go_back() -> None:
    text = MANIFEST.replace('"regions"\nregion_values = [2, 1, 3]', '"softmax"')
    text = text.replace('separate_slices = "always"\norder_between_slices = 1\n', "").replace("[1, 3]", "[1, 2]")

    assert parse_manifest(text).output.activation == "softmax"
    with pytest.raises(SetupError, match='is softmax, which needs resample = "nnunet"'):
        parse_manifest(text.replace('"nnunet"\norder', '"totalsegmentator"\norder'))


def test_folds_and_regions_need_a_window() -> None:
    whole = re.sub(
        r"(?s)\[input\].*?\[output\]",
        '[input]\norientation = "LPS"\nspacing_mm = [1, 1, 1]\noutside_value = 0\n\n[output]',
        MANIFEST,
    )

    with pytest.raises(SetupError, match=r"activation is regions, which needs a network with a \[window\]"):
        parse_manifest(whole)
    with pytest.raises(SetupError, match="holds several graphs, which needs a network with a"):
        parse_manifest(
            whole.replace('activation = "regions"\nregion_values = [2, 1, 3]\n', "").replace(
                "classes = 3", "classes = 4"
            )
        )


def test_no_graph_is_no_package() -> None:
    with pytest.raises(SetupError, match="graphs is missing"):
        parse_manifest(re.sub(r"(?s)\[\[graphs\]\].*?\[\[structures\]\]", "[[structures]]", MANIFEST))
