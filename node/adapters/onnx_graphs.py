"""Everything of an inference beside the network, as ONNX graphs that are made in memory.

They run where the network runs, on an accelerator as on the CPU, so a machine without one tests what runs on the
other. Matrices, places and sizes are inputs: one session serves volumes of every shape. Operators are those that have
a CUDA kernel for float32 at this operator set; places (``starts``, ``ends``, ``steps``, ``pads``, shapes) stay in the
host's memory.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 18
_IR_VERSION = 8


def planes_graph(masked: bool, rows: bool, columns: bool, clipped: bool) -> bytes:
    """Normalise planes and resample each: ``values [n, r, c]`` -> ``planes [n, r', c']``.

    Inputs: ``lower``, ``upper``, ``mean``, ``deviation``; ``mask`` (float32, shape of the values); ``along_columns``
    ``[c, c']``; ``along_rows`` ``[r', r]``.
    """
    graph = _Graph()
    inputs = ["values", "lower", "upper", "mean", "deviation"]
    limited = graph.add("Clip", ["values", "lower", "upper"])
    now = graph.add("Div", [graph.add("Sub", [limited, "mean"]), "deviation"])
    if masked:
        now = graph.add("Mul", [now, graph.wanted("mask", inputs)])
    within = [graph.reduce(operator, now, [1, 2]) for operator in ("ReduceMin", "ReduceMax")] if clipped else []
    if columns:
        now = graph.add("MatMul", [now, graph.wanted("along_columns", inputs)])
    if rows:
        now = graph.add("MatMul", [graph.wanted("along_rows", inputs), now])
    if clipped:
        now = graph.add("Min", [graph.add("Max", [now, within[0]]), within[1]])
    return graph.model(inputs, {now: "planes"})


def channel_graph(count: int, across: bool, clipped: bool, order: Sequence[int]) -> bytes:
    """Join planes and resample across them: ``planes_0 …`` -> ``channel [1, 1, z, y, x]``.

    Inputs: ``across`` ``[n', n]``, ``least``, ``greatest``, ``shape`` of what is joined after resampling, ``pads``.
    """
    graph = _Graph()
    inputs = [f"planes_{number}" for number in range(count)]
    now = graph.add("Concat", list(inputs), axis=0) if count > 1 else inputs[0]
    if across:
        flat = graph.add("Reshape", [now, graph.integers([0, -1])])
        mixed = graph.add("MatMul", [graph.wanted("across", inputs), flat])
        now = graph.add("Reshape", [mixed, graph.wanted("shape", inputs, TensorProto.INT64)])
    if clipped:
        now = graph.add("Clip", [now, graph.wanted("least", inputs), graph.wanted("greatest", inputs)])
    if tuple(order) != (0, 1, 2):
        now = graph.add("Transpose", [now], perm=list(order))
    padded = graph.add("Pad", [now, graph.wanted("pads", inputs, TensorProto.INT64)])
    return graph.model(inputs, {graph.add("Unsqueeze", [padded, graph.integers([0, 1])]): "channel"})


def volume_graph(count: int) -> bytes:
    """Join channels: ``channel_0 …`` -> ``volume [1, count, z, y, x]``."""
    graph = _Graph()
    inputs = [f"channel_{number}" for number in range(count)]
    return graph.model(inputs, {graph.add("Concat", list(inputs), axis=1): "volume"})


def part_graph() -> bytes:
    """Take a box, mirrored where a step is -1: ``whole [1, n, z, y, x]`` -> ``part``."""
    graph = _Graph()
    inputs = ["whole"]
    return graph.model(inputs, {graph.sliced("whole", [2, 3, 4], inputs, mirrored=True): "part"})


def add_graph(first: bool) -> bytes:
    """Add a part of weighted scores: ``total`` + part of ``scores`` · ``weights`` -> ``sum``.

    Element by element, so ``sum`` may lie in the very memory of ``total``.
    """
    graph = _Graph()
    inputs = ["scores", "weights"]
    scores = graph.sliced("scores", [2, 3, 4], inputs)
    weights = graph.sliced("weights", [2, 3, 4], inputs)
    now = graph.add("Mul", [scores, weights])
    if not first:
        now = graph.add("Add", [graph.wanted("total", inputs), now])
    return graph.model(inputs, {now: "sum"})


def slab_graph(rows: int, columns: int, carried: bool) -> bytes:
    """Join totals, and divide: ``total_<row>_<column> [1, n, z, y, x]`` -> ``slab [n, z', y', x']``, ``check``.

    Inputs: ``starts`` and ``ends`` along z; ``weights``; ``before`` (a slab) with ``from`` and ``to`` along its z.
    ``check``, their sum, is a finite number where every score is.
    """
    graph = _Graph()
    inputs: list[str] = []
    rows_of = []
    for row in range(rows):
        parts = [graph.sliced(graph.wanted(f"total_{row}_{column}", inputs), [2], inputs) for column in range(columns)]
        rows_of.append(graph.joined(parts, axis=4))
    joined = graph.add("Squeeze", [graph.joined(rows_of, axis=3), graph.integers([0])])
    now = graph.add("Div", [joined, graph.wanted("weights", inputs)])
    check = graph.reduce("ReduceSum", now, [0, 1, 2, 3])
    if carried:
        last = [graph.wanted(name, inputs, TensorProto.INT64) for name in ("from", "to")]
        tail = graph.add("Slice", [graph.wanted("before", inputs), *last, graph.integers([1])])
        now = graph.joined([tail, now], axis=1)
    return graph.model(inputs, {now: "slab", check: "check"})


def box_graph(between: Sequence[bool]) -> bytes:
    """Take a box of a slab, ``[n, z, y, x]``, and tell which classes can win in it: ``leads [n]`` is not below 0.

    Scores that are interpolated between neighbours lie between theirs. So a class wins nowhere between some neighbours
    where its greatest score there is below the least of another; its lead is the most by which that is not so.

    Parameters
    ----------
    between
        For each axis whether there is interpolation along it.
    """
    graph = _Graph()
    inputs = ["slab"]
    box = graph.sliced("slab", [1, 2, 3], inputs)
    volume = graph.add("Unsqueeze", [box, graph.integers([0])])
    kernel = [2 if each else 1 for each in between]
    greatest = graph.add("MaxPool", [volume], kernel_shape=kernel)
    least_below_0 = graph.add("MaxPool", [graph.add("Neg", [volume])], kernel_shape=kernel)
    lead = graph.add("Add", [greatest, graph.reduce("ReduceMin", least_below_0, [1])])
    return graph.model(inputs, {box: "box", graph.reduce("ReduceMax", lead, [0, 2, 3, 4], keepdims=0): "leads"})


Decision = Literal["highest", "regions", "none"]


def labels_graph(along: Sequence[bool], some: bool, decision: Decision) -> bytes:
    """Interpolate scores and decide: ``box [n, z, y, x]`` -> ``labels [z', y', x']``, undecided ``scores [n, …]``.

    Inputs: ``classes``, those to look at, where ``some``; ``along_slices`` ``[z', z]``, ``along_rows`` ``[y', y]``,
    ``along_columns`` ``[x, x']``, ``shape`` (0, 0, rows, columns') between them; ``numbers`` ``[n, 1, 1, 1]`` 1, 2, …
    """
    graph = _Graph()
    inputs = ["box"]
    now = "box"
    if some:
        now = graph.add("Gather", [now, graph.wanted("classes", inputs, TensorProto.INT64)], axis=0)
    if along[2]:
        now = graph.add("MatMul", [now, graph.wanted("along_columns", inputs)])
    if along[0]:
        flat = graph.add("Reshape", [now, graph.integers([0, 0, -1])])
        mixed = graph.add("MatMul", [graph.wanted("along_slices", inputs), flat])
        now = graph.add("Reshape", [mixed, graph.wanted("shape", inputs, TensorProto.INT64)])
    if along[1]:
        now = graph.add("MatMul", [graph.wanted("along_rows", inputs), now])
    if decision == "none":
        return graph.model(inputs, {now: "scores"})
    if decision == "regions":
        above = graph.add("Cast", [graph.add("Greater", [now, graph.number(0.0)])], to=TensorProto.FLOAT)
        numbered = graph.add("Mul", [above, graph.wanted("numbers", inputs)])
        found = graph.reduce("ReduceMax", numbered, [0], keepdims=0)
    else:
        found = graph.add("ArgMax", [now], axis=0, keepdims=0)
    labels = graph.add("Cast", [found], to=TensorProto.INT32)
    return graph.model(inputs, {labels: "labels"}, {"labels": TensorProto.INT32})


class _Graph:
    """Collects nodes, constants and the types of inputs."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._types: dict[str, int] = {}

    def add(self, operator: str, inputs: Sequence[str], **attributes: object) -> str:
        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def wanted(self, name: str, inputs: list[str], kind: int = TensorProto.FLOAT) -> str:
        """Ask for another input."""
        inputs.append(name)
        self._types[name] = kind
        return name

    def sliced(self, name: str, axes: Sequence[int], inputs: list[str], mirrored: bool = False) -> str:
        asked = ["starts", "ends", "steps"] if mirrored else ["starts", "ends"]
        places = [each if each in inputs else self.wanted(each, inputs, TensorProto.INT64) for each in asked]
        return self.add("Slice", [name, places[0], places[1], self.integers(axes), *places[2:]])

    def joined(self, parts: Sequence[str], axis: int) -> str:
        return self.add("Concat", parts, axis=axis) if len(parts) > 1 else parts[0]

    def reduce(self, operator: str, name: str, axes: Sequence[int], keepdims: int = 1) -> str:
        # ReduceSum takes its axes as an input at this operator set too; ReduceMin and ReduceMax since it.
        return self.add(operator, [name, self.integers(axes)], keepdims=keepdims)

    def number(self, value: float) -> str:
        return self._constant(np.array(value, dtype=np.float32))

    def integers(self, values: Sequence[int]) -> str:
        return self._constant(np.array(values, dtype=np.int64))

    def model(self, inputs: Sequence[str], outputs: dict[str, str], types: dict[str, int] | None = None) -> bytes:
        """Name the outputs and write the model."""
        kinds = types or {}
        for node in self._nodes:
            node.output[0] = outputs.get(node.output[0], node.output[0])
            for index, name in enumerate(node.input):
                node.input[index] = outputs.get(name, name)
        graph = helper.make_graph(
            self._nodes,
            "beside-the-network",
            [helper.make_tensor_value_info(name, self._types.get(name, TensorProto.FLOAT), None) for name in inputs],
            [
                helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None)
                for name in outputs.values()
            ],
            self._constants,
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString())

    def _constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(value, name))
        return name
