"""What a model package says of itself: ``model.toml`` as values.

Reading is strict. A key we do not know, a missing key or a value out of range is a `SetupError` that names the key:
a manifest that is half understood contours the wrong thing.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, get_args

from node.domain.errors import SetupError
from node.domain.structures import StructureDefinition
from node.inference.golden import Golden, Origin, Parity, read_golden, read_origin, read_parity
from node.inference.network_tables import GraphFile, InputSpecification, Output, WindowedInput
from node.inference.parts import (
    CropModel,
    Network,
    Part,
    graphs_of,
    image_names,
    read_crop_model,
    read_parts,
    whole_package,
)
from node.inference.structure_table import KnownStructure, definition_of
from node.inference.tables import MEND_MANIFEST, Table, did_you_mean, keys

SCHEMA_VERSION = 2

_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLargest:
    """Of the connected pieces of ``labels``, taken together, keep the largest; the others become background."""

    rule: ClassVar[str] = "keep_largest"
    labels: tuple[int, ...]
    # Pieces of at least this fraction of the largest stay too (the other leg); 1 keeps the largest alone.
    and_from_fraction: float = 1.0
    # 6: neighbours share a face. 26: an edge or a corner suffices, as nnU-Net has it.
    neighbours: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FillHolesInPlane:
    """Give ``becomes`` to what ``labels``, taken together, enclose in one of the network's slices."""

    rule: ClassVar[str] = "fill_holes_in_plane"
    labels: tuple[int, ...]
    becomes: int
    # Larger holes stay, in square millimetres; None fills all.
    at_most_mm2: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSeeded:
    """Of the connected pieces of ``labels``, keep those that hold a voxel of ``seeds``; others get ``becomes``.

    With a low and a high threshold as labels this is hysteresis.
    """

    rule: ClassVar[str] = "keep_seeded"
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    becomes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSmall:
    """Give ``becomes`` to connected pieces of ``labels``, taken together, that are smaller than ``at_least_cm3``."""

    rule: ClassVar[str] = "drop_small"
    labels: tuple[int, ...]
    at_least_cm3: float
    becomes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relabel:
    """Give ``becomes`` to ``labels``."""

    rule: ClassVar[str] = "relabel"
    labels: tuple[int, ...]
    becomes: int


PostRule = KeepLargest | FillHolesInPlane | KeepSeeded | DropSmall | Relabel


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """When a structure is believed: ``[[gates]]``. Outside the limits it is left out, and the reason is reported."""

    # Name of the structure.
    structure: str
    at_least_cm3: float | None = None
    at_most_cm3: float | None = None
    # Limits of the mean scanner value inside it.
    mean_value_between: tuple[float, float] | None = None
    # Why the limits are what they are, for the person who reads that a structure was left out.
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPackage:
    """A model package's manifest."""

    name: str
    title: str
    version: str
    originator: str
    licence: str
    intended_use: str
    # What it cannot do, in words for its user.
    limits: str
    # DICOM Modality values that it was made for.
    modalities: tuple[str, ...]
    # In the order in which their labels are merged: later ones override.
    parts: tuple[Part, ...]
    # None: the parts work in the whole volume.
    crop_model: CropModel | None = None
    structures: tuple[StructureDefinition, ...]
    post: tuple[PostRule, ...]
    gates: tuple[Gate, ...]
    # None where the manifest says nothing of it.
    provenance: Origin | None = None
    golden: Golden | None = None
    parity: tuple[Parity, ...] = ()
    # SHA-256 over the manifest's text, which itself holds the SHA-256 of its graphs. What the manifest leaves to
    # conf/structures.toml is not in it: that table belongs to the software, whose version every result states too.
    digest: str

    @property
    def image_names(self) -> tuple[str, ...]:
        """Name the images of one place that the model takes, in its order; most take one."""
        return image_names(self.parts[0])

    @property
    def networks(self) -> tuple["ModelPackage", ...]:
        """Give each network as a package of its own, as it is opened and run: the crop model first, then the parts."""
        if self.crop_model is None and len(self.parts) == 1:
            return (self,)
        parts = tuple(self._alone(part.name, part) for part in self.parts)
        if self.crop_model is None:
            return parts
        return self._alone("crop_model", self.crop_model), *parts

    @property
    def graphs(self) -> tuple[GraphFile, ...]:
        """Give the files of all networks, in the order of these."""
        return graphs_of(self.parts, self.crop_model)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Give the labels that the parts make, sorted."""
        return tuple(sorted({label for part in self.parts for label in part.labels} - {0}))

    @property
    def input(self) -> InputSpecification | WindowedInput:
        """Give what the only network takes; of several see `networks`."""
        return self._only.input

    @property
    def output(self) -> Output:
        """Give what the only network says; of several see `networks`."""
        return self._only.output

    @property
    def _only(self) -> Part:
        if len(self.networks) > 1:
            raise ValueError(f"{self.name} has {len(self.networks)} networks")
        return self.parts[0]

    def _alone(self, name: str, network: Network) -> "ModelPackage":
        own_name = f"{self.name}/{name}" if name else self.name
        parts = (whole_package(network),)
        return replace(self, name=own_name, parts=parts, crop_model=None, structures=(), post=(), gates=(), golden=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPackage:
    """A package whose graphs, at these paths, have the SHA-256 that its manifest states."""

    package: ModelPackage
    # Of those of `ModelPackage.graphs` that are in float32, in their order.
    graph_paths: tuple[Path, ...]
    # Of copies in float16.
    half_paths: tuple[Path, ...] = ()

    @property
    def networks(self) -> tuple["LoadedPackage", ...]:
        """Give each of `ModelPackage.networks` with the paths of its own graphs."""
        paths, halves = iter(self.graph_paths), iter(self.half_paths)

        def own(one: ModelPackage) -> LoadedPackage:
            copies = sum(graph.precision == "f16" for graph in one.graphs)
            return LoadedPackage(
                package=one,
                graph_paths=tuple(islice(paths, len(one.graphs) - copies)),
                half_paths=tuple(islice(halves, copies)),
            )

        return tuple(own(one) for one in self.package.networks)


NO_TABLE: Mapping[str, KnownStructure] = MappingProxyType({})


def parse_manifest(
    text: str, where: str = "model.toml", known: Mapping[str, KnownStructure] = NO_TABLE
) -> ModelPackage:
    """Read a manifest.

    Parameters
    ----------
    text
        The contents of ``model.toml``.
    where
        What messages call it.
    known
        Structures by name: of these a manifest need not say more than name and label values.

    Raises
    ------
    SetupError
        It is no TOML, a key is unknown or missing, a structure is neither described nor known, or a value contradicts
        another.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{where} is not valid TOML: {error}", MEND_MANIFEST) from error
    in_common = ("input", "window", "output", "graphs")
    table = Table(raw, where, ("schema_version", *in_common, *keys(ModelPackage, without="digest")))
    _check_version(table)
    parts = read_parts(table)
    package = ModelPackage(
        name=table.match("name", _PACKAGE_NAME, "lower-case letters, digits, '.', '_' and '-'"),
        title=table.text("title"),
        version=table.text("version"),
        originator=table.text("originator"),
        licence=table.text("licence"),
        intended_use=table.text("intended_use"),
        limits=table.text("limits"),
        modalities=table.texts("modalities"),
        parts=parts,
        crop_model=read_crop_model(table, parts),
        structures=tuple(definition_of(each, known) for each in table.tables("structures", keys(StructureDefinition))),
        post=tuple(_post_rule(each) for each in table.tables("post", None)),
        gates=tuple(_gate(each) for each in table.tables("gates", keys(Gate))),
        provenance=read_origin(table.table("provenance", keys(Origin))) if "provenance" in table else None,
        golden=read_golden(table.table("golden", keys(Golden))) if "golden" in table else None,
        parity=tuple(read_parity(each) for each in table.tables("parity", keys(Parity))),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
    _check_together(package, table)
    return package


def _check_version(table: Table) -> None:
    version = table.integer("schema_version")
    if version != SCHEMA_VERSION:
        made = "made for an older version of this software" if version < SCHEMA_VERSION else "newer than this software"
        raise table.wrong("schema_version", f"is {version}; {SCHEMA_VERSION} is read here: the package is {made}")


def _post_rule(table: Table) -> PostRule:
    rules: dict[str, type[PostRule]] = {rule.rule: rule for rule in get_args(PostRule)}
    name = table.take("rule", str)
    if name not in rules:
        raise table.wrong("rule", f"{name!r} is unknown{did_you_mean(name, rules)}; known: {', '.join(rules)}")
    table.allow_only(("rule", *keys(rules[name])))
    labels = table.integers("labels")
    match name:
        case KeepLargest.rule:
            fraction = table.positive("and_from_fraction") if "and_from_fraction" in table else 1.0
            neighbours = table.integer("neighbours") if "neighbours" in table else 6
            if neighbours not in (6, 26):
                raise table.wrong("neighbours", "must be 6 or 26")
            return KeepLargest(labels=labels, and_from_fraction=fraction, neighbours=neighbours)
        case FillHolesInPlane.rule:
            limit = table.positive("at_most_mm2") if "at_most_mm2" in table else None
            return FillHolesInPlane(labels=labels, becomes=table.integer("becomes"), at_most_mm2=limit)
        case KeepSeeded.rule:
            return KeepSeeded(labels=labels, seeds=table.integers("seeds"), becomes=table.integer("becomes"))
        case DropSmall.rule:
            at_least = table.positive("at_least_cm3")
            return DropSmall(labels=labels, at_least_cm3=at_least, becomes=table.integer("becomes"))
        case _:
            return Relabel(labels=labels, becomes=table.integer("becomes"))


def _gate(table: Table) -> Gate:
    between = table.numbers("mean_value_between", 2) if "mean_value_between" in table else None
    gate = Gate(
        structure=table.text("structure"),
        at_least_cm3=table.positive("at_least_cm3") if "at_least_cm3" in table else None,
        at_most_cm3=table.positive("at_most_cm3") if "at_most_cm3" in table else None,
        mean_value_between=(between[0], between[1]) if between else None,
        because=table.text("because"),
    )
    if gate.at_least_cm3 is None and gate.at_most_cm3 is None and between is None:
        raise table.wrong("structure", "has a gate without any limit")
    return gate


def _check_together(package: ModelPackage, table: Table) -> None:
    names = [structure.name for structure in package.structures]
    if len({name.casefold() for name in names}) != len(names):
        # TG-263: names are unique whatever their case; planning systems refuse or rename otherwise.
        raise table.wrong("structures", "holds a name twice (upper and lower case count as the same)")
    if not package.modalities:
        raise table.wrong("modalities", "is empty")
    # A rule may make a label that the network does not know.
    made = {rule.becomes for rule in package.post if not isinstance(rule, KeepLargest)}
    known = ({*package.label_values} | made) - {0}
    highest = 255 if max(package.label_values) <= 255 else 65535
    if not all(0 <= value <= highest for value in made):
        # The label map has as few bits as the networks' labels allow.
        raise table.wrong("post.becomes", f"must be between 0 and {highest}")
    for key, values in _label_values(package):
        if not values or not set(values) <= known:
            raise table.wrong(key, f"must be among the label values {sorted(known)}, not {list(values)}")
    for gate in package.gates:
        if gate.structure not in names:
            raise table.wrong(
                "gates.structure", f"{gate.structure!r} is no structure{did_you_mean(gate.structure, names)}"
            )


def _label_values(package: ModelPackage) -> list[tuple[str, tuple[int, ...]]]:
    values = [(f"structures.{each.name}.label_values", each.label_values) for each in package.structures]
    values += [(f"post.{rule.rule}.labels", rule.labels) for rule in package.post]
    return values + [("post.keep_seeded.seeds", rule.seeds) for rule in package.post if isinstance(rule, KeepSeeded)]
