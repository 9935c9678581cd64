"""The networks of a package: ``[[parts]]``, each of which makes some of its labels, and ``[crop_model]``.

A package without ``[[parts]]`` is one part, told by ``[input]``, ``[window]``, ``[output]`` and ``[[graphs]]``. With
``[[parts]]`` these tables, but for the graphs, hold what its parts have in common: what a part says itself comes
before.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.inference.network_tables import (
    GraphFile,
    InputSpecification,
    Output,
    WindowedInput,
    read_graph,
    read_input,
    read_output,
)
from node.inference.tables import Table, keys

_PART_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_IN_COMMON = ("input", "window", "output")
_NAMED_ALIKE = "and where they are several of the same names in the same order: by these a route says which is which"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network, or its folds: what it takes and what it says."""

    input: InputSpecification | WindowedInput
    output: Output
    graphs: tuple[GraphFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Network):
    """A network that makes some of the package's labels: one of ``[[parts]]``.

    Where a later part finds something, it overrides earlier ones.
    """

    # Empty for the only part of a package without [[parts]].
    name: str = ""
    # The package's label for each of `Output.label_values`, in their order; 0 for what the package has no label for.
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CropModel(Network):
    """A coarse network that finds the region in which the parts work: ``[crop_model]``.

    The region is the box around the structures, and a margin; beyond it all is background. Where there is none of the
    structures, nothing is contoured.
    """

    # What the region is around: name, and its label values in this network.
    structures: Mapping[str, tuple[int, ...]]
    # Between slices, rows and columns of the oriented volume, as ``spacing_mm``; as many whole voxels as it holds.
    margin_mm: tuple[float, float, float]


def whole_package(network: Network) -> Part:
    """Make a network the only part of a package; its labels are the package's."""
    return Part(input=network.input, output=network.output, graphs=network.graphs, labels=network.output.label_values)


def graphs_of(parts: Sequence[Part], crop_model: CropModel | None) -> tuple[GraphFile, ...]:
    """Give the files of all networks, the crop model's first."""
    networks: list[Network] = [*([crop_model] if crop_model else []), *parts]
    return tuple(graph for network in networks for graph in network.graphs)


def image_names(network: Network) -> tuple[str, ...]:
    """Name the images of one place that a network takes, in its order; most take one."""
    wanted = network.input
    return tuple(channel.name for channel in wanted.channels) if isinstance(wanted, WindowedInput) else ("image",)


def read_parts(table: Table) -> tuple[Part, ...]:
    """Read ``[[parts]]``, or the only part of a package without.

    Raises
    ------
    SetupError
        A key is unknown, missing or out of range, or parts contradict each other.
    """
    if "parts" not in table:
        return (whole_package(_network(table)),)
    if "graphs" in table:
        raise table.wrong("graphs", "must stand in each of [[parts]] where there are any")
    known = ("window", *keys(Part))
    parts = tuple(_part(each.filled_up(table, _IN_COMMON)) for each in table.tables("parts", known))
    if not parts:
        raise table.wrong("parts", "is empty")
    _check_names_and_labels(parts, table)
    _check_inputs(parts, table)
    return parts


def read_crop_model(table: Table, parts: Sequence[Part]) -> CropModel | None:
    """Read ``[crop_model]`` of a package with these parts; None where there is none.

    Raises
    ------
    SetupError
        A key is unknown, missing or out of range, a structure has a label that its network does not know, or it takes
        other images than the parts.
    """
    if "crop_model" not in table:
        return None
    own = table.table("crop_model", ("window", *keys(CropModel)))
    network = _network(own)
    if network.output.activation == "softmax":
        raise own.wrong("output.activation", "is softmax; nobody looks at the probabilities of a region")
    if _takes_other_images(network, parts[0]):
        raise own.wrong("input.channels", f"must be as many as in the parts, {_NAMED_ALIKE}")
    margin = own.numbers("margin_mm", 3)
    if min(margin) < 0:
        raise own.wrong("margin_mm", "must be 0 or more")
    return CropModel(
        input=network.input,
        output=network.output,
        graphs=network.graphs,
        structures=_structures(own, network.output.label_values),
        margin_mm=(margin[0], margin[1], margin[2]),
    )


def _network(table: Table) -> Network:
    wanted = read_input(table)
    output = read_output(table.table("output", keys(Output)), wanted)
    graphs = tuple(read_graph(each) for each in table.tables("graphs", keys(GraphFile)))
    folds, copies = (sum(each.precision == kind for each in graphs) for kind in ("f32", "f16"))
    if not folds:
        raise table.wrong("graphs", "is missing: one [[graphs]] for each fold, with file and sha256")
    if copies not in (0, folds):
        raise table.wrong("graphs", f"holds {copies} copies in f16 of {folds} networks: one each, or none")
    if folds > 1 and not isinstance(wanted, WindowedInput):
        raise table.wrong("graphs", "holds several graphs, which needs a network with a [window]")
    return Network(input=wanted, output=output, graphs=graphs)


def _part(table: Table) -> Part:
    network = _network(table)
    labels, known = table.integers("labels"), network.output.label_values
    if len(labels) != len(known):
        said = f"must hold the package's label for each of the network's {len(known)}, or 0 for none, not {len(labels)}"
        raise table.wrong("labels", said)
    if not all(0 <= value <= 65535 for value in labels) or not any(labels):
        raise table.wrong("labels", "must be between 0 and 65535, and some above 0")
    return Part(
        name=table.match("name", _PART_NAME, "lower-case letters, digits, '_' and '-'"),
        input=network.input,
        output=network.output,
        graphs=network.graphs,
        labels=labels,
    )


def _check_names_and_labels(parts: tuple[Part, ...], table: Table) -> None:
    made_by: dict[int, str] = {}
    for number, part in enumerate(parts):
        if part.name in (each.name for each in parts[:number]):
            raise table.wrong("parts.name", f"{part.name!r} is there twice")
        for label in filter(None, part.labels):
            if label in made_by:
                raise table.wrong(
                    f"parts.{part.name}.labels",
                    f"holds {label} a second time, after {made_by[label]}: one label of one network makes it",
                )
            made_by[label] = part.name


def _check_inputs(parts: tuple[Part, ...], table: Table) -> None:
    if any(part.output.activation == "softmax" for part in parts):
        said = "is softmax, which needs a package without [[parts]]: what a part overrides has no probability any more"
        raise table.wrong("output.activation", said)
    if len({part.input.orientation for part in parts}) > 1:
        # Rules of [[post]] that work in planes need one answer to what a plane is.
        raise table.wrong("parts.input.orientation", "must be the same in all parts")
    if any(_takes_other_images(part, parts[0]) for part in parts):
        raise table.wrong("parts.input.channels", f"must be as many in all parts, {_NAMED_ALIKE}")


def _takes_other_images(network: Network, first: Network) -> bool:
    """Tell whether the images of one place that the first takes are not those that another takes."""
    names, others = image_names(network), image_names(first)
    # All networks get the images in the order of the first; how it calls an only one is for the reader.
    return len(names) != len(others) or (len(names) > 1 and names != others)


def _structures(table: Table, known: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    names: list[str] = list(table.take("structures", dict))
    structures = table.table("structures", names)
    if not names:
        raise table.wrong("structures", "is empty")
    values = {name: structures.integers(name) for name in names}
    for name, each in values.items():
        if not each or not set(each) <= set(known):
            raise structures.wrong(name, f"must be among the network's label values {list(known)}, not {list(each)}")
    return values
