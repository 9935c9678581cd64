"""A manifest of several networks is understood whole or refused with the key that is wrong."""

import re
from pathlib import Path

import pytest

from node.domain.errors import SetupError
from node.inference.network_tables import Channel, GraphFile, Output, Window, WindowedInput
from node.inference.package import LoadedPackage, ModelPackage, parse_manifest

MANIFEST = f"""
schema_version = 2
name = "trunk"
title = "Trunk"
version = "1"
originator = "A clinic"
licence = "Apache-2.0"
intended_use = "Tests."
limits = "None."
modalities = ["CT"]

[input]
orientation = "RAS"
spacing_mm = [1.5, 1.5, 1.5]
resample = "totalsegmentator"
order = 1

[[input.channels]]
name = "CT"
normalisation = "fixed"
mean = 10

[window]
patch = [16, 16, 16]
step = 0.8

[[parts]]
name = "organs"
labels = [1, 2]
[parts.output]
classes = 3
[[parts.graphs]]
file = "organs_fold_0.onnx"
sha256 = "{"0a" * 32}"

[[parts]]
name = "bones"
labels = [4, 0, 3]
[[parts.input.channels]]
name = "CT"
normalisation = "fixed"
mean = 250
[parts.window]
patch = [32, 16, 16]
[parts.output]
classes = 4
[[parts.graphs]]
file = "bones_fold_0.onnx"
sha256 = "{"0b" * 32}"
[[parts.graphs]]
file = "bones_fold_1.onnx"
sha256 = "{"0c" * 32}"

[crop_model]
structures = {{ trunk = [1], limbs = [2, 3] }}
margin_mm = [20, 10, 0.5]
[crop_model.input]
orientation = "LPS"
spacing_mm = [6, 6, 6]
outside_value = -1000
[crop_model.output]
classes = 4
[[crop_model.graphs]]
file = "coarse.onnx"
sha256 = "{"0d" * 32}"

[[structures]]
name = "Liver"
label_values = [2, 4]
colour_rgb = [221, 130, 101]
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "10200004", scheme = "SCT", meaning = "Liver" }}
interpreted_type = "ORGAN"
"""


def windowed(package: ModelPackage, part: int) -> WindowedInput:
    wanted = package.parts[part].input
    assert isinstance(wanted, WindowedInput)
    return wanted


def test_a_part_says_itself_only_where_it_differs() -> None:
    package = parse_manifest(MANIFEST)

    organs, bones = windowed(package, 0), windowed(package, 1)
    assert [part.name for part in package.parts] == ["organs", "bones"]
    assert (organs.orientation, organs.spacing_mm, organs.resample) == ("RAS", (1.5, 1.5, 1.5), "totalsegmentator")
    assert (bones.orientation, bones.spacing_mm, bones.resample) == ("RAS", (1.5, 1.5, 1.5), "totalsegmentator")
    assert organs.channels == (Channel(name="CT", normalisation="fixed", mean=10.0),)
    assert bones.channels == (Channel(name="CT", normalisation="fixed", mean=250.0),)
    assert organs.window == Window(patch=(16, 16, 16), step=0.8)
    assert bones.window == Window(patch=(32, 16, 16), step=0.8)


def test_a_part_has_its_output_its_labels_and_its_graphs() -> None:
    organs, bones = parse_manifest(MANIFEST).parts

    assert (organs.output, bones.output) == (Output(classes=3), Output(classes=4))
    assert (organs.labels, bones.labels) == ((1, 2), (4, 0, 3))
    assert organs.graphs == (GraphFile(file="organs_fold_0.onnx", sha256="0a" * 32),)
    assert [graph.file for graph in bones.graphs] == ["bones_fold_0.onnx", "bones_fold_1.onnx"]


def test_the_package_has_the_labels_of_all_parts() -> None:
    assert parse_manifest(MANIFEST).label_values == (1, 2, 3, 4)


def test_the_crop_model_says_around_what_and_how_wide() -> None:
    crop_model = parse_manifest(MANIFEST).crop_model

    assert crop_model is not None
    assert crop_model.structures == {"trunk": (1,), "limbs": (2, 3)}
    assert crop_model.margin_mm == (20.0, 10.0, 0.5)
    assert crop_model.input.orientation == "LPS"
    assert crop_model.output == Output(classes=4)


def test_networks_are_opened_by_themselves_the_crop_model_first() -> None:
    package = parse_manifest(MANIFEST)
    paths = tuple(Path(graph.file) for graph in package.graphs)

    networks = LoadedPackage(package=package, graph_paths=paths).networks

    assert [each.package.name for each in networks] == ["trunk/crop_model", "trunk/organs", "trunk/bones"]
    assert [[path.name for path in each.graph_paths] for each in networks] == [
        ["coarse.onnx"],
        ["organs_fold_0.onnx"],
        ["bones_fold_0.onnx", "bones_fold_1.onnx"],
    ]
    assert [each.package.output.classes for each in networks] == [4, 3, 4]


def test_a_package_without_parts_is_its_only_network() -> None:
    text = MANIFEST[: MANIFEST.index("[[parts]]")] + MANIFEST[MANIFEST.index("[[structures]]") :]
    text = text.replace(
        "[[structures]]", '[output]\nclasses = 5\n[[graphs]]\nfile = "a.onnx"\nsha256 = "AA"\n[[structures]]'
    )

    package = parse_manifest(text.replace("AA", "0a" * 32))

    assert package.networks == (package,)
    assert (package.input, package.output) == (package.parts[0].input, Output(classes=5))
    assert package.parts[0].labels == (1, 2, 3, 4)
    assert package.crop_model is None


def test_of_several_networks_none_is_taken_for_the_only_one() -> None:
    with pytest.raises(ValueError, match="trunk has 3 networks"):
        _ = parse_manifest(MANIFEST).input


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("labels = [1, 2]", "lables = [1, 2]", "[[parts]] 1: lables is unknown; is 'labels' meant?"),
        ("labels = [1, 2]\n", "", "[[parts]] 1: labels is missing"),
        ("labels = [1, 2]", "labels = [1]", "labels must hold the package's label for each of the network's 2, or 0"),
        ("labels = [1, 2]", "labels = [1, 2, 5]", "or 0 for none, not 3"),
        ("labels = [1, 2]", "labels = [1, 65536]", "labels must be between 0 and 65535"),
        ("labels = [1, 2]", "labels = [1, -1]", "labels must be between 0 and 65535"),
        ("labels = [4, 0, 3]", "labels = [0, 0, 0]", "labels must be between 0 and 65535, and some above 0"),
        ("labels = [1, 2]", "labels = [1, 1]", "parts.organs.labels holds 1 a second time, after organs"),
        ("labels = [4, 0, 3]", "labels = [4, 2, 3]", "parts.bones.labels holds 2 a second time, after organs"),
        ('name = "bones"', 'name = "organs"', "parts.name 'organs' is there twice"),
        ('name = "bones"', 'name = "../bones"', "name is '../bones'"),
        ("label_values = [2, 4]", "label_values = [2, 5]", "must be among the label values [1, 2, 3, 4], not [2, 5]"),
        ("[parts.window]\npatch = [32, 16, 16]", "[parts.window]\npach = [32, 16, 16]", "[[parts]] 2 [window]: pach"),
        ("order = 1", "ordre = 1", "[[parts]] 1 [input]: ordre is unknown; is 'order' meant?"),
        (
            "[parts.output]\nclasses = 4",
            "[parts.output]\nclasses = 4\nactivation = 'softmax'",
            "is softmax, which needs",
        ),
        ("patch = [32, 16, 16]", "patch = [32, 16]", "[[parts]] 2 [window]: patch must be three whole numbers"),
        ("[[crop_model.graphs]]", "[[crop_model.graph]]", "[crop_model]: graph is unknown; is 'graphs' meant?"),
        ("limbs = [2, 3]", "limbs = [2, 4]", "limbs must be among the network's label values [1, 2, 3], not [2, 4]"),
        ("limbs = [2, 3]", "limbs = []", "limbs must be among the network's label values"),
        ("{ trunk = [1], limbs = [2, 3] }", "{}", "[crop_model]: structures is empty"),
        ("[20, 10, 0.5]", "[20, 10, -0.5]", "[crop_model]: margin_mm must be 0 or more"),
        ("[20, 10, 0.5]", "[20, 10]", "margin_mm must be 3 numbers"),
        ("[crop_model.output]", "[crop_model.output]\nactivation = 'softmax'", "nobody looks at the probabilities"),
    ],
)
def test_a_wrong_manifest_is_refused_by_the_name_of_its_key(old: str, new: str, said: str) -> None:
    assert old in MANIFEST

    with pytest.raises(SetupError, match=re.escape(said)):
        parse_manifest(MANIFEST.replace(old, new, 1))


def test_a_graph_of_no_part_is_refused() -> None:
    graph = f'[[graphs]]\nfile = "a.onnx"\nsha256 = "{"0a" * 32}"\n\n[[parts]]'

    with pytest.raises(SetupError, match=re.escape("graphs must stand in each of [[parts]] where there are any")):
        parse_manifest(MANIFEST.replace("[[parts]]", graph, 1))


def test_a_part_without_a_graph_is_refused() -> None:
    text = MANIFEST.replace('[[parts.graphs]]\nfile = "organs_fold_0.onnx"\n', "[[parts.nothing]]\n", 1)
    text = re.sub(r"\[\[parts\.nothing\]\]\nsha256.*\n", "", text)

    with pytest.raises(SetupError, match=re.escape("[[parts]] 1: graphs is missing")):
        parse_manifest(text)


def test_parts_that_lie_otherwise_in_the_patient_are_refused() -> None:
    text = MANIFEST.replace("[[parts.input.channels]]", '[parts.input]\norientation = "LPS"\n[[parts.input.channels]]')

    with pytest.raises(SetupError, match="orientation must be the same in all parts"):
        parse_manifest(text)


def test_parts_that_take_another_number_of_images_are_refused() -> None:
    second = '[[parts.input.channels]]\nname = "PET"\nnormalisation = "z_score"\n[[parts.input.channels]]'

    with pytest.raises(SetupError, match="channels must be as many in all parts"):
        parse_manifest(MANIFEST.replace("[[parts.input.channels]]", second))


T1, T2 = (f'[[input.channels]]\nname = "{name}"\nnormalisation = "z_score"\n' for name in ("T1", "T2"))


def of_two_images(parts: tuple[str, str], crop_model: str) -> str:
    """Give each of two parts and the crop model its own channels; without a crop model where they are empty."""
    organs, bones = (each.replace("[input", "[parts.input") for each in parts)
    text = MANIFEST[: MANIFEST.index("[[parts.input.channels]]")] + bones + MANIFEST[MANIFEST.index("[parts.window]") :]
    text = text.replace("[parts.output]", f"{organs}[parts.output]", 1)
    own = crop_model.replace("[input", "[crop_model.input")
    begin, end = text.index("[crop_model]"), text.index("[[structures]]")
    region = text[begin:end].replace("outside_value = -1000\n", f"{own}[crop_model.window]\npatch = [8, 8, 8]\n")
    return text[:begin] + (region if own else "") + text[end:]


def test_parts_and_the_crop_model_take_the_same_images_of_one_place() -> None:
    package = parse_manifest(of_two_images((T1 + T2, T1 + T2), T1 + T2))

    assert package.image_names == ("T1", "T2")


def test_parts_that_take_the_same_images_in_another_order_are_refused() -> None:
    with pytest.raises(SetupError, match=r"parts\.input\.channels must be as many .* in the same order"):
        parse_manifest(of_two_images((T1 + T2, T2 + T1), ""))


@pytest.mark.parametrize("own", [T1, T2 + T1])
def test_a_crop_model_that_takes_other_images_than_the_parts_is_refused(own: str) -> None:
    with pytest.raises(SetupError, match=r"\[crop_model\]: input.channels must be as many as in the parts"):
        parse_manifest(of_two_images((T1 + T2, T1 + T2), own))


def test_an_empty_list_of_parts_is_refused() -> None:
    text = MANIFEST[: MANIFEST.index("[[parts]]")] + MANIFEST[MANIFEST.index("[[structures]]") :]

    with pytest.raises(SetupError, match="parts is empty"):
        parse_manifest(text.replace("schema_version = 2", "schema_version = 2\nparts = []"))
