"""A manifest is understood whole or refused with the key that is wrong."""

import hashlib
import re

import pytest

from node.domain.errors import SetupError
from node.domain.structures import Code
from node.inference.network_tables import InputSpecification
from node.inference.package import DropSmall, FillHolesInPlane, KeepLargest, KeepSeeded, Relabel, parse_manifest

MANIFEST = f"""
schema_version = 2
name = "liver-ct"
title = "Liver"
version = "2.1"
originator = "A clinic"
licence = "Apache-2.0"
intended_use = "Tests."
limits = "No liver was ever seen."
modalities = ["CT"]

[input]
orientation = "RAS"
spacing_mm = ["source", 1.5, 2]
clip = [-200, 300.5]
mean = 50
standard_deviation = 80.0
outside_value = -1024
multiple_of = [1, 16, 32]
slices_at_once = 8

[output]
classes = 3
activation = "softmax"

[[graphs]]
file = "graph.onnx"
sha256 = "{"0f" * 32}"

[[structures]]
name = "Liver"
label_values = [1, 2]
colour_rgb = [221, 130, 101]
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "10200004", scheme = "SCT", meaning = "Liver" }}
interpreted_type = "ORGAN"

[[structures]]
name = "Kidney_L"
label_values = [7]
colour_rgb = [185, 102, 83]
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "64033007", scheme = "SCT", meaning = "Kidney" }}
modifier = {{ value = "7771000", scheme = "SCT", meaning = "Left" }}
interpreted_type = "ORGAN"

[[post]]
rule = "keep_largest"
labels = [1]
and_from_fraction = 0.25

[[post]]
rule = "fill_holes_in_plane"
labels = [1]
becomes = 7
at_most_mm2 = 40

[[post]]
rule = "keep_seeded"
labels = [1, 2]
seeds = [2]
becomes = 0

[[post]]
rule = "drop_small"
labels = [1]
at_least_cm3 = 0.5
becomes = 2

[[post]]
rule = "relabel"
labels = [2]
becomes = 1

[[gates]]
structure = "Liver"
at_least_cm3 = 300
at_most_cm3 = 4000
mean_value_between = [-20, 250]
because = "No liver is smaller."
"""


def test_a_whole_manifest_becomes_values() -> None:
    package = parse_manifest(MANIFEST)

    assert (package.name, package.title, package.version) == ("liver-ct", "Liver", "2.1")
    assert package.modalities == ("CT",)
    assert isinstance(package.input, InputSpecification)
    assert package.input.orientation == "RAS"
    assert package.input.spacing_mm == (None, 1.5, 2.0)
    assert package.input.clip == (-200.0, 300.5)
    assert (package.input.mean, package.input.standard_deviation) == (50.0, 80.0)
    assert package.input.multiple_of == (1, 16, 32)
    assert package.input.slices_at_once == 8
    assert (package.output.classes, package.output.activation) == (3, "softmax")
    assert [graph.file for graph in package.graphs] == ["graph.onnx"]
    assert package.structures[0].label_values == (1, 2)
    assert package.structures[0].modifier is None
    assert package.structures[1].modifier == Code(value="7771000", scheme="SCT", meaning="Left")
    assert package.post == (
        KeepLargest(labels=(1,), and_from_fraction=0.25),
        FillHolesInPlane(labels=(1,), becomes=7, at_most_mm2=40.0),
        KeepSeeded(labels=(1, 2), seeds=(2,), becomes=0),
        DropSmall(labels=(1,), at_least_cm3=0.5, becomes=2),
        Relabel(labels=(2,), becomes=1),
    )
    assert package.gates[0].mean_value_between == (-20.0, 250.0)


def test_what_may_be_left_out_has_its_stated_default() -> None:
    optional = "clip|mean|standard_deviation|multiple_of|slices_at_once|activation|and_from_fraction"
    text = re.sub(rf"(?m)^({optional}).*\n", "", MANIFEST)

    package = parse_manifest(text)

    assert isinstance(package.input, InputSpecification)
    assert package.input.clip is None
    assert (package.input.mean, package.input.standard_deviation) == (0.0, 1.0)
    assert package.input.multiple_of == (1, 1, 1)
    assert package.input.slices_at_once is None
    assert package.output.activation == "none"
    assert package.post[0] == KeepLargest(labels=(1,), and_from_fraction=1.0, neighbours=6)


def test_a_rule_may_count_corners_as_neighbours() -> None:
    text = MANIFEST.replace("and_from_fraction = 0.25", "neighbours = 26")

    assert parse_manifest(text).post[0] == KeepLargest(labels=(1,), neighbours=26)


def test_the_digest_is_that_of_the_text_and_so_of_the_graph() -> None:
    other_graph = MANIFEST.replace("0f0f", "0f0e", 1)

    assert parse_manifest(MANIFEST).digest == hashlib.sha256(MANIFEST.encode()).hexdigest()
    assert parse_manifest(other_graph).digest != parse_manifest(MANIFEST).digest


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Liver"', 'titel = "Liver"', "titel is unknown; is 'title' meant?"),
        ("orientation", "orientatoin", "[input]: orientatoin is unknown; is 'orientation' meant?"),
        ("colour_rgb = [221", "color_rgb = [221", "[[structures]] 1: color_rgb is unknown; is 'colour_rgb' meant?"),
        ('version = "2.1"\n', "", "version is missing"),
        ('licence = "Apache-2.0"', 'licence = " "', "licence is empty"),
        (
            "schema_version = 2",
            "schema_version = 1",
            "schema_version is 1; 2 is read here: the package is made for an older version",
        ),
        ('name = "liver-ct"', 'name = "../liver"', "name is '../liver'"),
        ('modalities = ["CT"]', "modalities = []", "modalities is empty"),
        ('modalities = ["CT"]', 'modalities = "CT"', "modalities must be of type list, not str"),
        ('"RAS"', '"RAL"', "orientation must be three letters"),
        ('"RAS"', '"RA"', "orientation must be three letters"),
        ('"RAS"', '"RAX"', "orientation must be three letters"),
        ('["source", 1.5, 2]', '["source", 1.5]', "spacing_mm must be three"),
        ('["source", 1.5, 2]', "[0, 1.5, 2]", "spacing_mm must be three"),
        ('["source", 1.5, 2]', '["sauce", 1.5, 2]', "spacing_mm must be three"),
        ("clip = [-200, 300.5]", "clip = [300, -200]", "clip must be [lower, upper]"),
        ("standard_deviation = 80.0", "standard_deviation = 0", "standard_deviation must be above 0"),
        ("[1, 16, 32]", "[0, 16, 32]", "multiple_of must be three whole numbers"),
        ("slices_at_once = 8", "slices_at_once = 0", "slices_at_once must be 1 or more"),
        ('file = "graph.onnx"', 'file = "../graph.onnx"', "file is '../graph.onnx'"),
        ('sha256 = "0f', 'sha256 = "0F', "sha256 is"),
        ("classes = 3", "classes = 1", "classes must be between 2"),
        ("classes = 3", "classes = true", "classes must be a whole number"),
        (
            'activation = "softmax"',
            'activation = "sigmoid"',
            "activation is 'sigmoid'; it must be one of softmax, none",
        ),
        ('activation = "softmax"', "activation = 1", "activation must be of type str, not int"),
        ('activation = "softmax"', 'activations = "none"', "activations is unknown; is 'activation' meant?"),
        ('name = "Kidney_L"', 'name = "liver"', "holds a name twice"),
        ('name = "Kidney_L"', 'name = "Kidney left side "', "name is 'Kidney left side'"),
        ("[221, 130, 101]", "[221, 130, 256]", "colour_rgb must be three whole numbers"),
        ('interpreted_type = "ORGAN"', 'interpreted_type = "ORGANS"', "interpreted_type must be one of"),
        ("label_values = [1, 2]", "label_values = [1, 9]", "must be among the label values [1, 2, 7], not [1, 9]"),
        ("label_values = [1, 2]", "label_values = [0]", "must be among the label values"),
        ("label_values = [1, 2]", "label_values = []", "must be among the label values"),
        ("and_from_fraction = 0.25", "neighbours = 18", "neighbours must be 6 or 26"),
        ("and_from_fraction = 0.25", "neighbours = true", "neighbours must be a whole number"),
        ("seeds = [2]", "seeds = [9]", "post.keep_seeded.seeds must be among"),
        ("becomes = 7", "becomes = 256", "post.becomes must be between 0 and 255"),
        ('rule = "drop_small"', 'rule = "drop_smal"', "'drop_smal' is unknown; is 'drop_small' meant?"),
        ("at_least_cm3 = 0.5", "at_least_ml = 0.5", "at_least_ml is unknown; is 'at_least_cm3' meant?"),
        ('structure = "Liver"', 'structure = "Lever"', "'Lever' is no structure; is 'Liver' meant?"),
        ("[[gates]]", "[gates]", "gates must be of type list, not dict"),
        ("[output]", "[output", "is not valid TOML"),
    ],
)
def test_a_wrong_manifest_is_refused_by_the_name_of_its_key(old: str, new: str, said: str) -> None:
    assert old in MANIFEST

    with pytest.raises(SetupError, match=re.escape(said)) as refused:
        parse_manifest(MANIFEST.replace(old, new, 1), where="liver-ct/model.toml")

    assert refused.value.reason.startswith("liver-ct/model.toml")
    assert refused.value.remedy == "Mend the model package's manifest."


def test_a_gate_without_a_limit_is_refused() -> None:
    text = re.sub(r"(?m)^(at_least_cm3 = 300|at_most_cm3|mean_value_between).*\n", "", MANIFEST)

    with pytest.raises(SetupError, match="a gate without any limit"):
        parse_manifest(text)
