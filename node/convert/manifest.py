"""Writing a package's manifest: the tables of node.inference as TOML."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.convert.naming import NamedStructure
from node.domain.structures import Code, StructureDefinition
from node.inference.golden import Golden, Origin, Parity
from node.inference.network_tables import Channel, GraphFile, WindowedInput
from node.inference.package import SCHEMA_VERSION, Gate, KeepLargest
from node.inference.parts import CropModel, Network, Part, graphs_of

# By name of a table of a network, its keys and their values; channels are a list of such.
_Tables = dict[str, dict[str, Any]]


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
    # Networks with windows.
    parts: tuple[Part, ...]
    crop_model: CropModel | None
    post: tuple[KeepLargest, ...]
    gates: tuple[Gate, ...]
    structures: tuple[NamedStructure, ...]
    provenance: Origin
    parity: tuple[Parity, ...]
    # None where the drawn volume holds no structure.
    golden: Golden | None

    @property
    def graphs(self) -> tuple[GraphFile, ...]:
        """Give the files of all networks, the crop model's first."""
        return graphs_of(self.parts, self.crop_model)


def manifest_text(manifest: Manifest) -> str:
    """Give the contents of ``model.toml``."""
    return "\n".join(_lines(manifest)) + "\n"


def graph_lines(graph: GraphFile, prefix: str = "") -> Iterator[str]:
    """Give one of ``[[graphs]]``."""
    yield from ("", f"[[{prefix}graphs]]", _entry("file", graph.file), _entry("sha256", graph.sha256))
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
    if manifest.parts[0].name:
        yield from _parts(manifest.parts)
    else:
        yield from _network("", _tables(manifest.parts[0]), manifest.parts[0].graphs)
    if manifest.crop_model is not None:
        yield from _crop_model(manifest.crop_model)
    yield from _proofs(manifest)
    yield from _structures(manifest.structures)
    for rule in manifest.post:
        yield from ("", "[[post]]", _entry("rule", rule.rule), _entry("labels", rule.labels))
        yield _entry("neighbours", rule.neighbours)
    for gate in manifest.gates:
        yield from ("", "[[gates]]")
        for key in ("structure", "at_least_cm3", "at_most_cm3", "mean_value_between", "because"):
            if getattr(gate, key) is not None:
                yield _entry(key, getattr(gate, key))


def _parts(parts: Sequence[Part]) -> Iterator[str]:
    """Say once what all parts have in common."""
    own = [_tables(part) for part in parts]
    common = {
        name: {key: value for key, value in table.items() if all(each[name].get(key) == value for each in own)}
        for name, table in own[0].items()
    }
    yield from ("", "# What all parts have in common.")
    yield from _network("", common, ())
    for part, tables in zip(parts, own, strict=True):
        yield from ("", "[[parts]]", _entry("name", part.name), _entry("labels", part.labels))
        differing = {
            name: {key: value for key, value in table.items() if key not in common[name]}
            for name, table in tables.items()
        }
        yield from _network("parts.", differing, part.graphs)


def _crop_model(crop_model: CropModel) -> Iterator[str]:
    yield from ("", "[crop_model]", _entry("margin_mm", crop_model.margin_mm))
    # A table of its own: a data set may give its labels any name.
    yield from ("", "[crop_model.structures]")
    yield from (f"{_quoted(name)} = {_value(values)}" for name, values in crop_model.structures.items())
    yield from _network("crop_model.", _tables(crop_model), crop_model.graphs)


def _network(prefix: str, tables: _Tables, graphs: Sequence[GraphFile]) -> Iterator[str]:
    for name, table in tables.items():
        channels = table.get("channels", ())
        keys = {key: value for key, value in table.items() if key != "channels"}
        if keys:
            yield from ("", f"[{prefix}{name}]", *(_entry(key, value) for key, value in keys.items()))
        for channel in channels:
            yield from ("", f"[[{prefix}{name}.channels]]", *(_entry(key, value) for key, value in channel.items()))
    for graph in graphs:
        yield from graph_lines(graph, prefix)


def _tables(network: Network) -> _Tables:
    wanted, output = network.input, network.output
    if not isinstance(wanted, WindowedInput):
        raise TypeError("a network without a window is none of nnU-Net's")
    window = {key: getattr(wanted.window, key) for key in ("patch", "step", "gaussian_sigma", "mirror_axes")}
    scores: dict[str, Any] = {"classes": output.classes, "activation": output.activation}
    if output.region_values:
        scores["region_values"] = output.region_values
    return {"input": _input(wanted), "window": window, "output": scores}


def _input(wanted: WindowedInput) -> dict[str, Any]:
    table = {
        key: getattr(wanted, key) for key in ("orientation", "axis_order", "spacing_mm", "resample", "order", "crop")
    }
    if wanted.resample == "nnunet":
        table["separate_slices"] = wanted.separate_slices
        table["order_between_slices"] = wanted.order_between_slices
    table["channels"] = [_channel(channel) for channel in wanted.channels]
    return table


def _channel(channel: Channel) -> Mapping[str, Any]:
    table: dict[str, Any] = {"name": channel.name, "normalisation": channel.normalisation}
    if channel.clip is not None:
        table["clip"] = channel.clip
    if channel.normalisation == "fixed":
        table |= {"mean": channel.mean, "standard_deviation": channel.standard_deviation}
    if channel.masked:
        table["masked"] = True
    return table


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
