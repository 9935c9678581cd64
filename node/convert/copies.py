"""The network as other hardware computes it: a copy in float16 for CUDA, and how far that and OpenVINO are from it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from node.adapters.durable import write_durably
from node.adapters.onnx_file import HALF_OPERATORS
from node.adapters.onnx_openvino import openvino_not_usable_because
from node.adapters.onnx_session import HALF_ROUNDED, answers
from node.convert.packing import unpacked
from node.convert.refusals import refused
from node.domain.errors import SetupError
from node.inference.devices import PRECISIONS
from node.inference.golden import Parity
from node.inference.network_tables import GraphFile, WindowedInput
from node.inference.parts import Network

_Scores = NDArray[np.float32]
# Gives what a network answers to noise, and where that was computed.
_Way = Callable[[Path, _Scores], tuple[_Scores, str]]

_HALF = "float16"
# Of noise, for each network.
_PATCHES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What else a package can hold of its networks."""

    # In float16: for each network those of its folds that the package lacks; none of any where one can have none.
    graphs: tuple[tuple[GraphFile, ...], ...]
    parity: tuple[Parity, ...]
    # Why something is not among them, one sentence each.
    remarks: tuple[str, ...]


def make_copies(folder: Path, networks: Sequence[Network]) -> Copies:
    """Write copies in float16 beside networks that have none, and compare float16 and OpenVINO with the networks.

    Parameters
    ----------
    networks
        Of a package; their graphs lie in the folder. A file that none of them lists is written over: it may be the
        copy of another network.
    """
    ways, tallies, remarks = dict(_ways()), dict[str, _Tally](), []
    for network in networks:
        for graph, noise in product(_exact(network), _noise(network)):
            expected, compared_with = answers(folder / graph.file, noise)
            for name, way in list(ways.items()):
                try:
                    scores, computed_by = way(folder / graph.file, noise)
                    tally = tallies.setdefault(name, _Tally(compared_with, computed_by))
                    tally.add(scores, expected, regions=bool(network.output.region_values))
                except SetupError as error:
                    ways.pop(name)
                    tallies.pop(name, None)
                    remarks.append(f"It does not run in {name}: {error.reason}")
    return Copies(
        graphs=tuple(
            tuple(_written(folder, each) for each in _uncopied(network) if _HALF in ways) for network in networks
        ),
        parity=tuple(tally.parity() for tally in tallies.values()),
        remarks=tuple(remarks),
    )


def _exact(network: Network) -> list[GraphFile]:
    return [graph for graph in network.graphs if graph.precision == "f32"]


def _uncopied(network: Network) -> list[GraphFile]:
    """Give the graphs if there are no copies of them: another version of `onnx` may write them otherwise."""
    exact = _exact(network)
    return exact if len(exact) == len(network.graphs) else []


def _noise(network: Network) -> list[_Scores]:
    """Give patches with their channels."""
    if not isinstance(network.input, WindowedInput):
        raise TypeError("a network without a window has no patch")
    shape = (1, len(network.input.channels), *network.input.window.patch)
    return [np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed in range(_PATCHES)]


def half_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the network in float16 with the ends that it has, float32.

    Raises
    ------
    SetupError
        An operator is not known to run in float16 by CUDA, or a weight is beyond float16.
    """
    copy = _with_rounded_weights(model, np.float16)
    graph, (given,), (answer,) = copy.graph, model.graph.input, model.graph.output
    _rename(graph, {name: f"{name}_f16" for name in (given.name, answer.name)})
    graph.node.insert(0, _cast(given.name, f"{given.name}_f16", TensorProto.FLOAT16))
    graph.node.append(_cast(f"{answer.name}_f16", answer.name, TensorProto.FLOAT))
    onnx.checker.check_model(copy, full_check=True)
    return copy


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the network as an accelerator computes its copy: in float32, each answer rounded to float16.

    ONNX Runtime's own provider has no kernels in float16: it computes a copy in float32 and rounds its weights alone.

    Raises
    ------
    SetupError
        As `half_copy`.
    """
    copy = _with_rounded_weights(model, np.float32)
    graph, (given,) = copy.graph, model.graph.input
    _rename(graph, {given.name: f"{given.name}_rounded"})
    nodes = [*_rounding(given.name, f"{given.name}_rounded")]
    for node in graph.node:
        steps = [step for name in node.output for step in _rounding(f"{name}_exact", name)]
        node.output[:] = [f"{name}_exact" for name in node.output]
        nodes += [node, *steps]
    whole = onnx.GraphProto(node=nodes)  # copies them: what is deleted below is gone
    del graph.node[:]
    graph.node.extend(whole.node)
    onnx.checker.check_model(copy, full_check=True)
    return copy


@dataclass(slots=True)
class _Tally:
    """How scores computed in one way compare with those of the network, over all of its folds."""

    compared_with: str
    computed_by: str
    voxels: int = 0
    differing: int = 0
    largest_difference: float = 0.0
    deviation: float = 0.0

    def add(self, scores: _Scores, expected: _Scores, regions: bool) -> None:
        if not np.isfinite(scores).all():
            raise refused("A score of noise is no finite number there", "Float32 it is.")
        self.voxels += expected[:, 0].size
        self.differing += int(np.count_nonzero(_differ(scores, expected, regions)))
        self.largest_difference = max(self.largest_difference, float(np.abs(scores - expected).max()))
        self.deviation = max(self.deviation, float(expected.std()))

    def parity(self) -> Parity:
        return Parity(
            compared_with=self.compared_with,
            computed_by=self.computed_by,
            voxels=self.voxels,
            differing_voxels=self.differing,
            remark=f"patches of noise; scores differ by at most {self.largest_difference:.1e} where they vary by "
            f"{self.deviation:.1e}",
        )


def _differ(scores: _Scores, expected: _Scores, regions: bool) -> NDArray[np.bool_]:
    if regions:
        return np.asarray(((scores > 0) != (expected > 0)).any(axis=1))
    return np.asarray(scores.argmax(axis=1) != expected.argmax(axis=1))


def _ways() -> Iterator[tuple[str, _Way]]:
    yield _HALF, _answer_rounded
    for precision in PRECISIONS["openvino"]:
        if openvino_not_usable_because(precision) is None:
            yield f"{precision} by OpenVINO", partial(answers, device="openvino", precision=precision)


def _answer_rounded(path: Path, noise: _Scores) -> tuple[_Scores, str]:
    scores, where = answers(rounded(unpacked(onnx.load(path))).SerializeToString(), noise)
    return scores, f"{HALF_ROUNDED} {where}"


def _written(folder: Path, graph: GraphFile) -> GraphFile:
    path = folder / f"{graph.file.removesuffix('.onnx')}.f16.onnx"
    write_durably(path, half_copy(unpacked(onnx.load(folder / graph.file))).SerializeToString())
    return replace(graph, file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), precision="f16")


def _with_rounded_weights(model: onnx.ModelProto, kind: type[np.floating[Any]]) -> onnx.ModelProto:
    """Copy a network, its weights rounded to float16 and kept in that kind of number."""
    if others := {node.op_type for node in model.graph.node} - HALF_OPERATORS:
        raise refused(
            f"The operators {', '.join(sorted(others))} are not known to run in float16", "Float32 runs everywhere."
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]  # says float32 of what is float16 now
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(_rounded_weight(tensor).astype(kind), tensor.name))
    return copy


def _rounded_weight(tensor: onnx.TensorProto) -> NDArray[np.float16]:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise refused(f"The weights {tensor.name} are beyond float16", "Float32 runs everywhere.")
    return np.asarray(values, dtype=np.float16)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]


def _rounding(given: str, answer: str) -> Iterator[onnx.NodeProto]:
    yield _cast(given, f"{answer}_f16", TensorProto.FLOAT16)
    yield _cast(f"{answer}_f16", answer, TensorProto.FLOAT)


def _cast(given: str, answer: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [given], [answer], name=f"cast_{answer}", to=kind)
