"""``delineate model verify``: everything that can be known of a model package before it meets a patient."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from node.adapters.model_store import MANIFEST, ModelStore
from node.adapters.onnx_file import read_graph, refuse_not_half, refuse_numbers_that_are_none, refuse_unfit, summary
from node.adapters.onnx_memory import rooms_of
from node.adapters.onnx_session import open_predictor
from node.adapters.package_check import refuse_patients, refuse_programs, refuse_ways_out, unused_files
from node.checkup import Finding, tried, warn_of_names
from node.domain.errors import NodeError, SetupError
from node.inference.devices import DeviceName
from node.inference.golden import golden_scan, refuse_other_labels
from node.inference.memory import USUAL_SCAN, USUAL_SCAN_WORDS, bytes_for, refuse_scan_too_large
from node.inference.network_tables import GraphFile
from node.inference.package import ModelPackage
from node.inference.predictor import Opened, no_progress
from node.inference.segment import segment


def verify(store: ModelStore, name: str, device: DeviceName, threads: int | None) -> Iterator[Finding]:
    """Try a package; the network runs only where everything before was right.

    Raises
    ------
    SetupError
        There is no such package, or more than one.
    """
    still = []
    for finding in _still(store, name):
        still.append(finding)
        yield finding
    if all(finding.holds for finding in still):
        yield from _running(store, name, device, threads)


def _still(store: ModelStore, name: str) -> Iterator[Finding]:
    """Look at everything without running anything."""
    folder = store.folder_of(name)
    manifest = tried("manifest", lambda: _manifest(store.describe(name)))
    yield manifest
    looks: tuple[tuple[str, Callable[[Path], str]], ...] = (
        ("folder", refuse_ways_out),
        ("programs", refuse_programs),
        ("patients", refuse_patients),
    )
    for subject, look in looks:
        yield tried(subject, lambda look=look: look(folder))  # type: ignore[misc]
    if not manifest.holds:
        return
    package = store.describe(name)
    yield tried("input", lambda: _images(package))
    yield from _unused(folder, package)
    yield from warn_of_names(store, name)
    files = tried("files", lambda: _files(store, name))
    yield files
    if files.holds:
        for graph in package.graphs:
            yield tried(f"graph {graph.file}", lambda graph=graph: _graph(folder, graph, name))  # type: ignore[misc]


def _manifest(package: ModelPackage) -> str:
    if not package.structures:
        raise SetupError("The manifest names no structure: nothing would be contoured.", "Add [[structures]].")
    return f"{package.name} {package.version}: {package.title}; {len(package.structures)} structures"


def _images(package: ModelPackage) -> str:
    names = package.image_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SetupError(
            f"The manifest calls several of the images that the model takes {', '.join(twice)}.",
            "Give each of [[input.channels]] a name of its own: by it a route says which series is which.",
        )
    taken = "one series" if len(names) == 1 else f"{len(names)} series of one place ({', '.join(names)})"
    return f"{taken}, modality {' or '.join(package.modalities)}"


def _files(store: ModelStore, name: str) -> str:
    package = store.load(name).package
    store.golden(name)
    named = [graph.file for graph in package.graphs] + ([package.golden.file] if package.golden else [])
    return f"{', '.join(named)}: SHA-256 as the manifest states"


def _unused(folder: Path, package: ModelPackage) -> Iterator[Finding]:
    used = {MANIFEST, *(graph.file for graph in package.graphs)} | ({package.golden.file} if package.golden else set())
    if unused := unused_files(folder, used):
        said = f"the manifest names no {', '.join(unused[:5])}{' and others' if len(unused) > 5 else ''}"
        yield Finding(subject="unused files", holds=True, said=said, what_to_do="Remove them; no SHA-256 covers them.")


def _graph(folder: Path, listed: GraphFile, name: str) -> str:
    graph = read_graph(folder / listed.file)
    refuse_unfit(graph, name)
    if listed.precision == "f16":
        refuse_not_half(graph, name)
    return f"{summary(graph)}; {refuse_numbers_that_are_none(graph, name)}"


def _running(store: ModelStore, name: str, device: DeviceName, threads: int | None) -> Iterator[Finding]:
    loaded = store.load(name)
    try:
        predictor = open_predictor(loaded, device=device, threads=threads)
    except NodeError as error:
        yield Finding(subject="session", holds=False, said=error.reason, what_to_do=error.remedy)
        return
    networks = len(loaded.networks)
    fit = "the network fits its manifest" if networks == 1 else f"{networks} networks fit their manifest"
    said = f"{fit}; {predictor.computed_by}"
    yield Finding(subject="session", holds=True, said=said)
    yield tried("memory", lambda: _memory(loaded.package, predictor))
    if loaded.package.golden is None:
        remedy = "Ask its maker for one; what it answers was compared with nothing."
        yield Finding(subject="golden test", holds=True, said="the package has none", what_to_do=remedy)
    else:
        yield tried("golden test", lambda: _golden(store, loaded.package, predictor))


def _memory(package: ModelPackage, opened: Opened) -> str:
    """Look at the network that takes the most: they run one after the other."""
    rooms = list(zip(package.networks, rooms_of(opened), strict=True))
    for network, room in rooms:
        refuse_scan_too_large(network, USUAL_SCAN, room)
    needed, free = max(
        (bytes_for(network, USUAL_SCAN, room), room.host if room.device is None else room.device)
        for network, room in rooms
    )
    return f"{needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free are needed for {USUAL_SCAN_WORDS}"


def _golden(store: ModelStore, package: ModelPackage, predictor: Opened) -> str:
    golden, file = package.golden, store.golden(package.name)
    if golden is None or file is None:
        raise ValueError(f"{package.name} has no golden test")
    scan = golden_scan(file, golden)
    if len(scan.volumes) != len(package.image_names):
        raise SetupError(
            f"{golden.file} holds {len(scan.volumes)} channels, and the model takes {len(package.image_names)}.",
            "Make the package's golden test again, from the model's source.",
        )
    begun = time.perf_counter()
    found = segment(scan.volumes[0], package, predictor, no_progress, scan.volumes[1:])
    said = refuse_other_labels(found.label_map.labels, scan, golden)
    return f"{said}; {time.perf_counter() - begun:.1f} s"
