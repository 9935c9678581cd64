"""Writing a package's manifest: the tables of node.inference as TOML."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from node.convert.naming import NamedStructure
from node.domain.structures import Code, StructureDefinition
from node.inference.golden import Golden, Origin, Parity
from node.inference.network_tables import Channel, GraphFile, Output, WindowedInput
from node.inference.package import SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an imported package says of itself."""

    name: str
    title: str
    version: str
    originator: str
    licence: str
    intended_use: str
    limits: str
    modalities: tuple[str, ...]
    input: WindowedInput
    output: Output
    graphs: tuple[GraphFile, ...]
    structures: tuple[NamedStructure, ...]
    provenance: Origin
    parity: tuple[Parity, ...]
    # None where the drawn volume holds no structure.
    golden: Golden | None


def manifest_text(manifest: Manifest) -> str:
    """Give the contents of ``model.toml``."""
    return "\n".join(_lines(manifest)) + "\n"


def graph_lines(graph: GraphFile) -> Iterator[str]:
    """Give one of ``[[graphs]]``."""
    yield from ("", "[[graphs]]", _entry("file", graph.file), _entry("sha256", graph.sha256))
    if graph.precision != "f32":
        yield _entry("precision", graph.precision)


def parity_lines(parity: Parity) -> Iterator[str]:
    """Give one of ``[[parity]]``."""
    yield from ("", "[[parity]]")
    for key in ("compared_with", "computed_by", "voxels", "differing_voxels", "remark"):
        if getattr(parity, key) != "":
            yield _entry(key, getattr(parity, key))


def _lines(manifest: Manifest) -> Iterator[str]:
    yield "# Written by `delineate model import`; MODEL_CARD.md tells how the network was checked."
    yield _entry("schema_version", SCHEMA_VERSION)
    for key in ("name", "title", "version", "originator", "licence", "intended_use", "limits", "modalities"):
        yield _entry(key, getattr(manifest, key))
    yield from _input(manifest.input)
    window = manifest.input.window
    yield from ("", "[window]", _entry("patch", window.patch), _entry("step", window.step))
    yield _entry("gaussian_sigma", window.gaussian_sigma)
    yield _entry("mirror_axes", window.mirror_axes)
    yield from ("", "[output]", _entry("classes", manifest.output.classes))
    yield _entry("activation", manifest.output.activation)
    if manifest.output.region_values:
        yield _entry("region_values", manifest.output.region_values)
    for graph in manifest.graphs:
        yield from graph_lines(graph)
    yield from _proofs(manifest)
    yield from _structures(manifest.structures)


def _input(wanted: WindowedInput) -> Iterator[str]:
    yield from ("", "[input]")
    for key in ("orientation", "axis_order", "spacing_mm", "resample", "order", "crop"):
        yield _entry(key, getattr(wanted, key))
    if wanted.resample == "nnunet":
        yield _entry("separate_slices", wanted.separate_slices)
        yield _entry("order_between_slices", wanted.order_between_slices)
    for channel in wanted.channels:
        yield from _channel(channel)


def _channel(channel: Channel) -> Iterator[str]:
    yield from ("", "[[input.channels]]", _entry("name", channel.name))
    yield _entry("normalisation", channel.normalisation)
    if channel.clip is not None:
        yield _entry("clip", channel.clip)
    if channel.normalisation == "fixed":
        yield _entry("mean", channel.mean)
        yield _entry("standard_deviation", channel.standard_deviation)
    if channel.masked:
        yield _entry("masked", True)


def _structures(structures: Sequence[NamedStructure]) -> Iterator[str]:
    for each in structures:
        yield ""
        if each.definition is not None:
            yield f"# Not in conf/structures.toml: what {_quoted(each.label)} is, a person must say here."
        elif each.label != each.name:
            yield f"# The data set calls it {_quoted(each.label)}."
        yield "[[structures]]"
        yield from (_entry("name", each.name), _entry("label_values", each.label_values))
        if each.definition is not None:
            yield from _definition(each.definition)


def _definition(told: StructureDefinition) -> Iterator[str]:
    yield _entry("colour_rgb", told.colour_rgb)
    for key in ("category", "type", "modifier"):
        code: Code | None = getattr(told, key)
        if code is not None:
            parts = ", ".join(f"{part} = {_quoted(getattr(code, part))}" for part in ("value", "scheme", "meaning"))
            yield f"{key} = {{ {parts} }}"
    yield _entry("interpreted_type", told.interpreted_type)


def _proofs(manifest: Manifest) -> Iterator[str]:
    origin = manifest.provenance
    yield from ("", "[provenance]")
    for key in ("source", "made_by", "made_on"):
        yield _entry(key, getattr(origin, key))
    for file in origin.files:
        yield from ("", "[[provenance.files]]", _entry("file", file.file), _entry("sha256", file.sha256))
    for each in manifest.parity:
        yield from parity_lines(each)
    if manifest.golden is not None:
        yield from ("", "[golden]")
        for key in ("file", "sha256", "spacing_mm", "differing_voxels"):
            yield _entry(key, getattr(manifest.golden, key))


def _entry(key: str, value: Any) -> str:
    return f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _quoted(value)
        case _:
            return f"[{', '.join(_value(each) for each in value)}]"


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
