"""What the importer writes is what the node reads."""

import tomllib
from dataclasses import replace

from node.convert.manifest import Manifest, manifest_text
from node.convert.naming import NamedStructure
from node.inference.golden import Golden, Origin
from node.inference.network_tables import Channel, GraphFile, Output, Window, WindowedInput
from node.inference.package import KeepLargest, parse_manifest
from node.inference.parts import CropModel, Network, Part, whole_package
from tests.unit.test_package import MANIFEST

CT = Channel(name="CT", normalisation="fixed", clip=(-600.0, 900.5), mean=99.5, standard_deviation=371.0)
WANTED = WindowedInput(
    orientation="RAS",
    spacing_mm=(1.5, 1.5, 1.5),
    resample="totalsegmentator",
    order=1,
    channels=(CT,),
    window=Window(patch=(16, 24, 32), step=0.8),
)
KNOWN = {structure.name: structure for structure in parse_manifest(MANIFEST).structures}


def graph(name: str) -> tuple[GraphFile, ...]:
    return (GraphFile(file=f"{name}.onnx", sha256="0a" * 32),)


def part(name: str, labels: tuple[int, ...], wanted: WindowedInput = WANTED) -> Part:
    output = Output(classes=len(labels) + 1)
    return Part(name=name, input=wanted, output=output, graphs=graph(name), labels=labels)


def manifest(*parts: Part, crop_model: CropModel | None = None, post: tuple[KeepLargest, ...] = ()) -> Manifest:
    liver = NamedStructure(label="liver", name="Liver", label_values=(1,), definition=KNOWN["Liver"], hint=None)
    return Manifest(
        name="trunk",
        title="Trunk",
        version="1",
        originator="A clinic",
        licence="Apache-2.0",
        intended_use="Tests.",
        limits="None.",
        modalities=("CT",),
        parts=parts,
        crop_model=crop_model,
        post=post,
        gates=(),
        structures=(liver,),
        provenance=Origin(source="tests", made_by="tests", made_on="2026-11-21"),
        parity=(),
        golden=Golden(file="golden.npz", sha256="0b" * 32, spacing_mm=(1.5, 1.5, 1.5)),
    )


def test_a_single_network_is_read_as_it_was_written() -> None:
    network = Network(input=replace(WANTED, resample="nnunet"), output=Output(classes=3), graphs=graph("fold_0"))
    written = manifest(whole_package(network), post=(KeepLargest(labels=(1, 2), neighbours=26),))

    read = parse_manifest(manifest_text(written))

    assert read.parts == written.parts
    assert read.post == written.post
    assert read.golden == written.golden


def test_parts_are_read_as_they_were_written_and_say_themselves_where_they_differ() -> None:
    bright = replace(WANTED, channels=(replace(CT, mean=250.0),), window=Window(patch=(16, 24, 64), step=0.8))
    written = manifest(part("organs", (1, 2)), part("bones", (3, 4), bright), part("more", (5, 6, 7)))

    text = manifest_text(written)

    assert parse_manifest(text).parts == written.parts
    told = tomllib.loads(text)
    assert "channels" not in told["input"]
    assert told["window"] == {"step": 0.8, "gaussian_sigma": 0.125, "mirror_axes": []}
    assert [part["window"] for part in told["parts"]] == [
        {"patch": [16, 24, 32]},
        {"patch": [16, 24, 64]},
        {"patch": [16, 24, 32]},
    ]
    assert all(set(part["input"]) == {"channels"} for part in told["parts"])


def test_a_part_may_differ_in_what_it_leaves_out() -> None:
    plain = replace(WANTED, channels=(Channel(name="CT", normalisation="z_score"),))
    written = manifest(part("organs", (1, 2)), part("bones", (3, 4), plain))

    assert parse_manifest(manifest_text(written)).parts == written.parts


def test_the_region_is_read_as_it_was_written_whatever_its_structures_are_called() -> None:
    crop_model = CropModel(
        input=replace(WANTED, spacing_mm=(6.0, 6.0, 6.0)),
        output=Output(classes=4),
        graphs=graph("region"),
        structures={"liver": (1,), "gut, all of it": (2, 3)},
        margin_mm=(20.0, 20.0, 5.5),
    )
    written = manifest(part("organs", (1, 2)), crop_model=crop_model)

    read = parse_manifest(manifest_text(written))

    assert read.crop_model == crop_model
    assert (
        [each.file for each in read.graphs] == [each.file for each in written.graphs] == ["region.onnx", "organs.onnx"]
    )
