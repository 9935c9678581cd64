"""Making the folder of a package: networks, golden test, manifest and model card, whole or not at all."""

import hashlib
import importlib.metadata
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from node import __version__
from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import open_predictor
from node.convert.card import model_card
from node.convert.checkpoints import Checkpoint
from node.convert.drawn import Drawn, as_series, draw, from_series, in_series, spacing_in_series
from node.convert.export import NetworkParity, export
from node.convert.manifest import Manifest, manifest_text
from node.convert.naming import NamedStructure, named_structures
from node.convert.networks import build, check_trainer, take_weights
from node.convert.parity import UNSURE, Answer, Comparison, answer_of_nnunet, compared
from node.convert.refusals import ImportOptions, refused
from node.convert.results_folder import TrainedNetwork
from node.inference.engine import labels_by_windows
from node.inference.golden import Golden, Origin, Parity, SourceFile, golden_file
from node.inference.network_tables import GraphFile, WindowedInput
from node.inference.predictor import Progress, WindowRuntime, no_progress
from node.inference.transforms import Labels

MANIFEST, CARD, GOLDEN = "model.toml", "MODEL_CARD.md", "golden.npz"
UNSTATED = "not stated"

_MADE_WITH = ("torch", "nnunetv2", "dynamic_network_architectures", "onnx")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A package that was made."""

    folder: Path
    structures: tuple[NamedStructure, ...]
    networks: tuple[NetworkParity, ...]
    comparison: Comparison
    # What a person should know or mend, one sentence each.
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a package is made of."""

    trained: TrainedNetwork
    checkpoints: tuple[Checkpoint, ...]
    # Where it comes from, in words.
    described: str


def make_package(source: Source, into: Path, options: ImportOptions, progress: Progress) -> Imported:
    """Make a package below ``into``, in a folder of its name.

    Raises
    ------
    SetupError
        There is such a package already, or the network cannot be taken or answers otherwise than nnU-Net's.
    """
    name = package_name(source.trained, options)
    if (into / name).exists():
        raise refused(f"{into / name} is there already", "Give another --name, or remove it.")
    check_trainer(options.as_trainer or source.checkpoints[0].trainer)
    with _folder_in(into) as unfinished:
        folder = unfinished / name
        folder.mkdir()
        imported = _filled(folder, source, _modality(source.trained, options), options, progress)
        folder.rename(into / name)
    return replace(imported, folder=into / name)


def package_name(trained: TrainedNetwork, options: ImportOptions) -> str:
    """Give the package's name: the one asked for, or one of the data set's and the configuration's."""
    name = options.name or f"{trained.dataset_name}-{trained.configuration}".lower()
    return _NOT_IN_NAMES.sub("-", name)[:64].strip("-._") if options.name is None else name


@contextmanager
def _folder_in(into: Path) -> Iterator[Path]:
    """Give a folder beside the packages, so that the finished one can be renamed to its place."""
    into.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".importing-", dir=into))
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished)


def _modality(trained: TrainedNetwork, options: ImportOptions) -> str:
    if options.modality is not None:
        return options.modality
    names = {channel.name.casefold() for channel in trained.input.channels}
    if names != {"ct"}:
        raise refused(
            f"Channels are called {', '.join(sorted(names))}, which is no DICOM Modality", "Give --modality, e.g. MR."
        )
    return "CT"


def _filled(folder: Path, source: Source, modality: str, options: ImportOptions, progress: Progress) -> Imported:
    graphs, networks = _exported(folder, source, progress)
    draft = _manifest(folder.name, source, modality, options, graphs)
    (folder / MANIFEST).write_text(manifest_text(draft), encoding="utf-8")
    drawing = draw(draft.input)
    progress("ask nnU-Net", 0, 1)
    network = build(source.trained)
    answer = answer_of_nnunet(source.trained, network, source.checkpoints, drawing)
    progress("compare", 0, 1)
    labels, computed_by = _labels_of_engine(folder, draft.input, drawing)
    comparison = compared(answer, labels)
    golden = _golden(folder, draft.input.orientation, drawing, answer)
    manifest = replace(draft, golden=golden, parity=_parities(comparison, computed_by))
    remarks = tuple(_remarks(source, manifest, comparison))
    (folder / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
    (folder / CARD).write_text(model_card(manifest, networks, comparison, remarks), encoding="utf-8")
    ModelStore([folder.parent]).load(folder.name)
    progress("compare", 1, 1)
    return Imported(
        folder=folder,
        structures=manifest.structures,
        networks=networks,
        comparison=comparison,
        remarks=remarks,
    )


def _exported(
    folder: Path, source: Source, progress: Progress
) -> tuple[tuple[GraphFile, ...], tuple[NetworkParity, ...]]:
    network = build(source.trained)
    shape = (len(source.trained.input.channels), *source.trained.input.window.patch)
    graphs, networks = [], []
    for done, checkpoint in enumerate(source.checkpoints):
        progress("export", done, len(source.checkpoints))
        take_weights(network, checkpoint)
        path = folder / f"fold_{checkpoint.fold}.onnx"
        networks.append(export(network, shape, path))
        graphs.append(GraphFile(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    progress("export", len(source.checkpoints), len(source.checkpoints))
    return tuple(graphs), tuple(networks)


def _manifest(
    name: str, source: Source, modality: str, options: ImportOptions, graphs: tuple[GraphFile, ...]
) -> Manifest:
    trained = source.trained
    weights = hashlib.sha256("".join(each.sha256 for each in source.checkpoints).encode()).hexdigest()
    return Manifest(
        name=name,
        title=options.title or f"{trained.dataset_name} {trained.configuration}",
        # Another training is another version, whatever it is called.
        version=f"weights-{weights[:12]}",
        originator=options.originator or UNSTATED,
        licence=options.licence or UNSTATED,
        intended_use=options.intended_use or UNSTATED,
        limits="What was not among the images that it was trained with. No limits were stated at the import.",
        modalities=(modality,),
        input=trained.input,
        output=trained.output,
        graphs=graphs,
        structures=named_structures(trained.labels, ModelStore([]).structures),
        provenance=_origin(source, options),
        parity=(),
        golden=None,
    )


def _origin(source: Source, options: ImportOptions) -> Origin:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _MADE_WITH]
    return Origin(
        source=source.described,
        made_by=", ".join((f"Delineate {__version__}", *versions)),
        made_on=options.made_on,
        files=tuple(SourceFile(file=each.file, sha256=each.sha256) for each in source.checkpoints),
    )


def _labels_of_engine(folder: Path, wanted: WindowedInput, drawing: Drawn) -> tuple[Labels, str]:
    """Run the package as the node does; gives labels in the axes of the training images, and where it ran."""
    loaded = ModelStore([folder.parent]).load(folder.name)
    runtime = open_predictor(loaded, device="cpu")
    if not isinstance(runtime, WindowRuntime):
        raise TypeError(f"{folder.name} has a window; its predictor has none")
    volumes = as_series(drawing, wanted.orientation)
    labels, _ = labels_by_windows(volumes, wanted, loaded.package.output, runtime, no_progress)
    return from_series(labels, wanted.orientation), runtime.computed_by


def _golden(folder: Path, orientation: str, drawing: Drawn, answer: Answer) -> Golden | None:
    if not answer.labels.any():
        return None
    volumes = as_series(drawing, orientation)
    values = np.stack([volume.voxels for volume in volumes]).astype(np.int16)
    written = golden_file(values, in_series(answer.labels, orientation))
    (folder / GOLDEN).write_bytes(written)
    return Golden(
        file=GOLDEN,
        sha256=hashlib.sha256(written).hexdigest(),
        spacing_mm=spacing_in_series(drawing, orientation),
        differing_voxels=int((answer.margin <= UNSURE).sum()),
    )


def _parities(comparison: Comparison, computed_by: str) -> tuple[Parity, ...]:
    nnunet = f"nnU-Net {importlib.metadata.version('nnunetv2')}, torch {importlib.metadata.version('torch')} on the CPU"
    ties = f"{comparison.ties_that_differ} of them ties" if comparison.ties_that_differ else ""
    return (
        Parity(
            compared_with=f"{nnunet}, sums in float32",
            computed_by=computed_by,
            voxels=comparison.voxels,
            differing_voxels=comparison.differ + comparison.ties_that_differ,
            remark=ties,
        ),
        Parity(
            compared_with=f"{nnunet}, sums in float16 as it comes",
            computed_by=computed_by,
            voxels=comparison.voxels,
            differing_voxels=comparison.differ_f16,
            remark="nnU-Net's own rounding of sums",
        ),
    )


def _remarks(source: Source, manifest: Manifest, comparison: Comparison) -> Iterator[str]:
    unstated = [key for key in ("originator", "licence", "intended_use") if getattr(manifest, key) == UNSTATED]
    if unstated:
        yield f"model.toml does not state {', '.join(unstated)}: fill it in, from whoever trained the network."
    untold = [each for each in manifest.structures if each.definition is not None]
    if untold:
        yield (
            f"{len(untold)} structures are not in conf/structures.toml: give each the code of what it is and an "
            "interpreted type in model.toml."
        )
    if set(comparison.found) == {0}:
        yield "The network finds nothing in the drawn volume: equality there says little, and there is no golden test."
    if any(each.trusted for each in source.checkpoints):
        yield "A checkpoint held more than plain values and was loaded as trusted code."
    if len(manifest.input.channels) > 1:
        names = ", ".join(channel.name for channel in manifest.input.channels)
        yield f"It takes several images of one place ({names}): its route says which is which, [[routes.channels]]."
    yield from _remarks_on_orientation(manifest.input)


def _remarks_on_orientation(wanted: WindowedInput) -> Iterator[str]:
    if wanted.orientation == "native":
        yield "Axes are taken as they lie in the series: one that lies otherwise than those of training is turned."
