"""Making the folder of a package: networks, golden test, manifest and model card, whole or not at all."""

import hashlib
import importlib.metadata
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from node import __version__
from node.adapters.durable import write_durably
from node.adapters.model_store import ModelStore
from node.convert.card import model_card
from node.convert.copies import make_copies
from node.convert.export import NetworkParity, export
from node.convert.manifest import Manifest, manifest_text
from node.convert.naming import NamedStructure, named_structures
from node.convert.networks import build, check_trainer, take_weights
from node.convert.packing import packed
from node.convert.parity import Comparison
from node.convert.proof import Proof, prove
from node.convert.refusals import ImportOptions, refused
from node.convert.results_folder import TrainedNetwork
from node.convert.sources import Ingredients, Region, Source
from node.inference.golden import Golden, Origin, Parity, SourceFile, golden_file
from node.inference.network_tables import GraphFile, WindowedInput
from node.inference.parts import CropModel, Network, Part
from node.inference.predictor import Progress

MANIFEST, CARD, GOLDEN = "model.toml", "MODEL_CARD.md", "golden.npz"
UNSTATED = "not stated"
UNSTATED_LIMITS = "What was not among the images that it was trained with. No limits were stated at the import."

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


def make_package(ingredients: Ingredients, into: Path, options: ImportOptions, progress: Progress) -> Imported:
    """Make a package below ``into``, in a folder of its name.

    Raises
    ------
    SetupError
        There is such a package already, or a network cannot be taken or answers otherwise than nnU-Net's.
    """
    name = package_name(ingredients, options)
    if (into / name).exists():
        raise refused(f"{into / name} is there already", "Give another --name, or remove it.")
    for source in ingredients.networks:
        check_trainer(options.as_trainer or source.checkpoints[0].trainer)
    with _folder_in(into) as unfinished:
        folder = unfinished / name
        folder.mkdir()
        imported = _filled(folder, ingredients, options, progress)
        folder.rename(into / name)
    return replace(imported, folder=into / name)


def package_name(ingredients: Ingredients, options: ImportOptions) -> str:
    """Give the package's name: the one asked for, or one of what it is made of."""
    return options.name or _NOT_IN_NAMES.sub("-", ingredients.name.lower())[:64].strip("-._")


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


def _filled(folder: Path, ingredients: Ingredients, options: ImportOptions, progress: Progress) -> Imported:
    exported = [_exported(folder, source, progress) for source in ingredients.networks]
    draft = _manifest(folder.name, ingredients, options, [network for network, _ in exported])
    (folder / MANIFEST).write_text(manifest_text(draft), encoding="utf-8")
    loaded = ModelStore([folder.parent]).load(folder.name)
    proof = prove(ingredients, loaded, progress)
    progress("copy", 0, 1)
    networks = [network for network, _ in exported]
    copies = make_copies(folder, networks)
    networks = [_packed(folder, network) for network in networks]
    with_copies = [replace(one, graphs=(*one.graphs, *more)) for one, more in zip(networks, copies.graphs, strict=True)]
    manifest = replace(
        _manifest(folder.name, ingredients, options, with_copies),
        golden=_golden(folder, proof),
        parity=(*_parities(proof), *copies.parity),
    )
    parities = tuple(parity for _, each in exported for parity in each)
    remarks = (*_remarks(ingredients, manifest, proof), *copies.remarks)
    (folder / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
    (folder / CARD).write_text(
        model_card(manifest, parities, proof.comparison, remarks, ingredients.report), encoding="utf-8"
    )
    ModelStore([folder.parent]).load(folder.name)
    progress("compare", 1, 1)
    return Imported(
        folder=folder,
        structures=manifest.structures,
        networks=parities,
        comparison=proof.comparison,
        remarks=remarks,
    )


def _packed(folder: Path, network: Network) -> Network:
    """Keep weights in float16 where that is exact."""
    graphs = []
    for graph in network.graphs:
        path = folder / graph.file
        write_durably(path, packed(onnx.load(path)).SerializeToString())
        graphs.append(replace(graph, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    return replace(network, graphs=tuple(graphs))


def _exported(folder: Path, source: Source, progress: Progress) -> tuple[Network, tuple[NetworkParity, ...]]:
    network, trained = build(source.trained), source.trained
    shape = (len(trained.input.channels), *trained.input.window.patch)
    begin = f"{source.part}_" if source.part else ""
    graphs, parities = [], []
    for done, checkpoint in enumerate(source.checkpoints):
        progress("export", done, len(source.checkpoints))
        take_weights(network, checkpoint)
        path = folder / f"{begin}fold_{checkpoint.fold}.onnx"
        parities.append(export(network, shape, path))
        graphs.append(GraphFile(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    progress("export", len(source.checkpoints), len(source.checkpoints))
    return Network(input=trained.input, output=trained.output, graphs=tuple(graphs)), tuple(parities)


def _manifest(name: str, ingredients: Ingredients, options: ImportOptions, networks: Sequence[Network]) -> Manifest:
    checkpoints = [checkpoint for source in ingredients.networks for checkpoint in source.checkpoints]
    weights = hashlib.sha256("".join(each.sha256 for each in checkpoints).encode()).hexdigest()
    post = ingredients.postprocessing
    return Manifest(
        name=name,
        title=options.title or ingredients.title,
        # Another training is another version, whatever it is called.
        version=f"weights-{weights[:12]}",
        originator=options.originator or UNSTATED,
        licence=options.licence or UNSTATED,
        intended_use=options.intended_use or UNSTATED,
        limits=ingredients.limits or UNSTATED_LIMITS,
        modalities=(_modality(ingredients.parts[0].trained, options),),
        parts=_parts(ingredients, networks[-len(ingredients.parts) :]),
        crop_model=None if ingredients.region is None else _crop_model(ingredients.region, networks[0]),
        post=(
            *(() if post is None else post.rules(ingredients.parts[0].trained.output.label_values)),
            *ingredients.rules,
        ),
        gates=ingredients.gates,
        structures=named_structures(ingredients.labels, ModelStore([]).structures),
        provenance=_origin(ingredients, options),
        parity=(),
        golden=None,
    )


def _parts(ingredients: Ingredients, networks: Sequence[Network]) -> tuple[Part, ...]:
    return tuple(
        Part(
            name=source.part,
            input=network.input,
            output=network.output,
            graphs=network.graphs,
            labels=tuple(table.values()),
        )
        for source, network, table in zip(ingredients.parts, networks, ingredients.tables, strict=True)
    )


def _crop_model(region: Region, network: Network) -> CropModel:
    labels = region.source.trained.labels
    if unknown := [name for name in region.around if name not in labels]:
        raise refused(
            f"{region.source.trained.dataset_name} has no label {', '.join(unknown)}, which the region is to be around",
            f"It has {', '.join(labels)}.",
        )
    return CropModel(
        input=network.input,
        output=network.output,
        graphs=network.graphs,
        structures={name: labels[name] for name in region.around},
        margin_mm=region.margin_mm,
    )


def _origin(ingredients: Ingredients, options: ImportOptions) -> Origin:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _MADE_WITH]
    post = ingredients.postprocessing
    return Origin(
        source=ingredients.described,
        made_by=", ".join((f"Delineate {__version__}", *versions)),
        made_on=options.made_on,
        files=(
            *(
                SourceFile(file=f"{source.part}/{each.file}".lstrip("/"), sha256=each.sha256)
                for source in ingredients.networks
                for each in source.checkpoints
            ),
            *(() if post is None else (SourceFile(file=post.file, sha256=post.sha256),)),
        ),
    )


def _golden(folder: Path, proof: Proof) -> Golden | None:
    if proof.labels is None or not proof.labels.any():
        return None
    written = golden_file(proof.values, proof.labels)
    (folder / GOLDEN).write_bytes(written)
    return Golden(
        file=GOLDEN,
        sha256=hashlib.sha256(written).hexdigest(),
        spacing_mm=proof.spacing_mm,
        differing_voxels=proof.unsure_voxels,
    )


def _parities(proof: Proof) -> tuple[Parity, ...]:
    nnunet = f"nnU-Net {importlib.metadata.version('nnunetv2')}, torch {importlib.metadata.version('torch')} on the CPU"
    comparison, computed_by = proof.comparison, proof.computed_by
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


def _remarks(ingredients: Ingredients, manifest: Manifest, proof: Proof) -> Iterator[str]:
    unstated = [key for key in ("originator", "licence", "intended_use") if getattr(manifest, key) == UNSTATED]
    if unstated:
        yield f"model.toml does not state {', '.join(unstated)}: fill it in, from whoever trained the network."
    untold = [each for each in manifest.structures if each.definition is not None]
    if untold:
        yield (
            f"{len(untold)} structures are not in conf/structures.toml: give each the code of what it is and an "
            "interpreted type in model.toml."
        )
    if set(proof.comparison.found) == {0}:
        yield "The network finds nothing in the drawn volume: equality there says little, and there is no golden test."
    elif manifest.golden is None:
        yield "The package finds no structure in the drawn volume: there is no golden test."
    if any(each.trusted for source in ingredients.networks for each in source.checkpoints):
        yield "A checkpoint held more than plain values and was loaded as trusted code."
    wanted = ingredients.parts[0].trained.input
    if len(wanted.channels) > 1:
        names = ", ".join(channel.name for channel in wanted.channels)
        yield f"It takes several images of one place ({names}): its route says which is which, [[routes.channels]]."
    yield from _remarks_on_orientation(wanted)
    yield from ingredients.remarks


def _remarks_on_orientation(wanted: WindowedInput) -> Iterator[str]:
    if wanted.orientation == "native":
        yield "Axes are taken as they lie in the series: one that lies otherwise than those of training is turned."
