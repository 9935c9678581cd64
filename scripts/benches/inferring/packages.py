"""A package around networks, with no more in its manifest than an inference reads."""

from collections.abc import Sequence
from pathlib import Path

from node.inference.network_tables import GraphFile, Output, WindowedInput
from node.inference.package import LoadedPackage, ModelPackage
from node.inference.parts import Network, whole_package


def loaded(name: str, wanted: WindowedInput, output: Output, graphs: Sequence[Path]) -> LoadedPackage:
    """Say that networks are a package's."""
    files = tuple(GraphFile(file=path.name, sha256="0" * 64) for path in graphs)
    package = ModelPackage(
        name=name,
        title=name,
        version="1",
        originator="The bench",
        licence="Apache-2.0",
        intended_use="Measuring",
        limits="Its weights are random.",
        modalities=("CT",),
        parts=(whole_package(Network(input=wanted, output=output, graphs=files)),),
        structures=(),
        post=(),
        gates=(),
        digest="0" * 64,
    )
    return LoadedPackage(package=package, graph_paths=tuple(graphs))
