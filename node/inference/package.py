"""What a model package says of itself: ``model.toml`` as values.

Reading is strict. A key we do not know, a missing key or a value out of range is a `SetupError` that names the key:
a manifest that is half understood contours the wrong thing.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, cast, get_args

from node.domain.errors import SetupError
from node.domain.structures import StructureDefinition
from node.inference.structure_table import KnownStructure, definition_of
from node.inference.tables import MEND_MANIFEST, Table, did_you_mean, is_number, keys

SCHEMA_VERSION = 1

# What turns the network's scores into probabilities. A sigmoid for each class is none of them: labels are those of the
# highest score, and what a sigmoid says of one class alone need not agree with that.
Activation = Literal["softmax", "none"]

# Opposite directions of the patient, PS3.3 C.7.6.1.1.1 (H and F there are S and I here, as image processing writes).
OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}

_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpecification:
    """How the network wants its input: ``[input]``.

    The order of work is orient, resample, clip, normalise, pad.
    """

    # Direction of the patient in which column, row and slice index increase, e.g. "LPS" for an axial head-first stack.
    orientation: str
    # Between slices, rows and columns of the network's input; None ("source" in the manifest) keeps the series' own.
    spacing_mm: tuple[float | None, float | None, float | None]
    # Values outside are set to the limit; None leaves them.
    clip: tuple[float, float] | None = None
    # Subtracted and divided by after clipping; 0 and 1 change nothing.
    mean: float = 0.0
    standard_deviation: float = 1.0
    # Scanner value that stands for nothing: fills the padding.
    outside_value: float
    # Each axis is padded at its end to a multiple of this (slices, rows, columns).
    multiple_of: tuple[int, int, int] = (1, 1, 1)
    # For a network that looks at every slice alone: so many slices in one call. None: the whole volume in one call.
    slices_at_once: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """The network's file beside the manifest: ``[graph]``."""

    file: str
    sha256: str
    # Channels of its output; channel n is the score of label value n, and 0 is the background.
    classes: int
    # "softmax": the scores are logits, and softmax over the classes makes probabilities of them; the graph itself must
    # not end in it. "none": the scores are no probabilities, and there is the label map alone.
    activation: Activation = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLargest:
    """Of the connected pieces of ``labels``, taken together, keep the largest; the others become background."""

    rule: ClassVar[str] = "keep_largest"
    labels: tuple[int, ...]
    # Pieces of at least this fraction of the largest stay too (the other leg); 1 keeps the largest alone.
    and_from_fraction: float = 1.0


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
    input: InputSpecification
    graph: GraphFile
    structures: tuple[StructureDefinition, ...]
    post: tuple[PostRule, ...]
    gates: tuple[Gate, ...]
    # SHA-256 over the manifest's text, which itself holds the SHA-256 of the graph. What the manifest leaves to
    # conf/structures.toml is not in it: that table belongs to the software, whose version every result states too.
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPackage:
    """A package whose graph, at this path, has the SHA-256 that its manifest states."""

    package: ModelPackage
    graph_path: Path


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
    table = Table(raw, where, ("schema_version", *keys(ModelPackage, without="digest")))
    if (version := table.integer("schema_version")) != SCHEMA_VERSION:
        raise table.wrong("schema_version", f"is {version}; this software reads {SCHEMA_VERSION}")
    package = ModelPackage(
        name=table.match("name", _PACKAGE_NAME, "lower-case letters, digits, '.', '_' and '-'"),
        title=table.text("title"),
        version=table.text("version"),
        originator=table.text("originator"),
        licence=table.text("licence"),
        intended_use=table.text("intended_use"),
        limits=table.text("limits"),
        modalities=table.texts("modalities"),
        input=_input(table.table("input", keys(InputSpecification))),
        graph=_graph(table.table("graph", keys(GraphFile))),
        structures=tuple(definition_of(each, known) for each in table.tables("structures", keys(StructureDefinition))),
        post=tuple(_post_rule(each) for each in table.tables("post", None)),
        gates=tuple(_gate(each) for each in table.tables("gates", keys(Gate))),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
    _check_together(package, table)
    return package


def _input(table: Table) -> InputSpecification:
    orientation = table.text("orientation")
    axes = {frozenset((letter, OPPOSITE.get(letter, ""))) for letter in orientation}
    if len(orientation) != 3 or len(axes) != 3 or not set(orientation) <= set(OPPOSITE):
        raise table.wrong("orientation", 'must be three letters, one of L/R, P/A and S/I each, e.g. "LPS"')
    clip = table.numbers("clip", 2) if "clip" in table else None
    if clip and clip[0] >= clip[1]:
        raise table.wrong("clip", "must be [lower, upper]")
    deviation = table.positive("standard_deviation") if "standard_deviation" in table else 1.0
    multiple = table.integers("multiple_of") if "multiple_of" in table else (1, 1, 1)
    if len(multiple) != 3 or min(multiple) < 1:
        raise table.wrong("multiple_of", "must be three whole numbers from 1 on (slices, rows, columns)")
    at_once = table.integer("slices_at_once") if "slices_at_once" in table else None
    if at_once is not None and at_once < 1:
        raise table.wrong("slices_at_once", "must be 1 or more")
    return InputSpecification(
        orientation=orientation,
        spacing_mm=_spacing(table),
        clip=(clip[0], clip[1]) if clip else None,
        mean=table.number("mean") if "mean" in table else 0.0,
        standard_deviation=deviation,
        outside_value=table.number("outside_value"),
        multiple_of=(multiple[0], multiple[1], multiple[2]),
        slices_at_once=at_once,
    )


def _spacing(table: Table) -> tuple[float | None, float | None, float | None]:
    values = table.take("spacing_mm", list)
    if len(values) != 3 or not all(value == "source" or (is_number(value) and value > 0) for value in values):
        raise table.wrong("spacing_mm", 'must be three (slices, rows, columns) of millimetres or "source"')
    slices, rows, columns = (None if value == "source" else float(value) for value in values)
    return slices, rows, columns


def _graph(table: Table) -> GraphFile:
    classes = table.integer("classes")
    if not 2 <= classes <= 65535:
        raise table.wrong("classes", "must be between 2 and 65535, the background included")
    activation = table.text("activation") if "activation" in table else "none"
    if activation not in get_args(Activation):
        raise table.wrong("activation", f"is {activation!r}; it must be one of {', '.join(get_args(Activation))}")
    return GraphFile(
        file=table.match("file", _FILE_NAME, "a plain file name in the package's folder"),
        sha256=table.match("sha256", _SHA256, "64 lower-case hexadecimal digits"),
        classes=classes,
        activation=cast(Activation, activation),
    )


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
            return KeepLargest(labels=labels, and_from_fraction=fraction)
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
    known = ({*range(package.graph.classes)} | made) - {0}
    if not all(0 <= value <= _highest_label(package.graph.classes) for value in made):
        raise table.wrong("post.becomes", f"must be between 0 and {_highest_label(package.graph.classes)}")
    for key, values in _label_values(package):
        if not values or not set(values) <= known:
            raise table.wrong(key, f"must be among the label values {sorted(known)}, not {list(values)}")
    for gate in package.gates:
        if gate.structure not in names:
            raise table.wrong(
                "gates.structure", f"{gate.structure!r} is no structure{did_you_mean(gate.structure, names)}"
            )


def _highest_label(classes: int) -> int:
    # The label map of up to 256 classes has 8 bits.
    return 255 if classes <= 256 else 65535


def _label_values(package: ModelPackage) -> list[tuple[str, tuple[int, ...]]]:
    values = [(f"structures.{each.name}.label_values", each.label_values) for each in package.structures]
    values += [(f"post.{rule.rule}.labels", rule.labels) for rule in package.post]
    return values + [("post.keep_seeded.seeds", rule.seeds) for rule in package.post if isinstance(rule, KeepSeeded)]
