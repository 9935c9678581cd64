"""The network that nnU-Net plans for 3-D images, PlainConvUNet, with random weights, made by `onnx` alone.

Built as an export of it looks here: two convolutions a stage, biases before an instance normalisation dropped,
transposed convolutions back up, patches and scores float32. With ``float16`` all between is in half precision.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Precision = Literal["float32", "float16"]

_OPSET, _IR_VERSION = 18, 8
_SEED = 20261121


def plain_unet(
    features: Sequence[int], classes: int, patch: tuple[int, int, int], precision: Precision = "float32"
) -> onnx.ModelProto:
    """Build the network: ``patches [1, 1, *patch]`` -> ``scores [1, classes, *patch]``.

    Parameters
    ----------
    features
        Of the stages, the finest first; each further one halves the sides.
    """
    graph = _Graph(np.dtype(precision))
    now = graph.entered("patches")
    skipped = []
    for stage, count in enumerate(features):
        below = 1 if stage == 0 else features[stage - 1]
        now = graph.block(now, below, count, stride=1 if stage == 0 else 2)
        now = graph.block(now, count, count)
        skipped.append(now)
    for stage in reversed(range(len(features) - 1)):
        count = features[stage]
        up = graph.upsampled(now, features[stage + 1], count)
        now = graph.node("Concat", [up, skipped[stage]], axis=1)
        now = graph.block(now, 2 * count, count)
        now = graph.block(now, count, count)
    graph.left(graph.convolution(now, features[0], classes, kernel=1, bias=True))
    return graph.model({"patches": [1, 1, *patch], "scores": [1, classes, *patch]})


def multiplications(model: onnx.ModelProto) -> int:
    """Count the multiplications of its convolutions for one patch; two floating point operations each."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    sides = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    weights = {each.name: list(each.dims) for each in graph.initializer}
    count = 0
    for node in graph.node:
        if node.op_type == "Conv":
            # For each value that comes out, one for each weight of its filter.
            count += math.prod(sides[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":
            # For each value that goes in.
            count += math.prod(sides[node.input[0]]) * math.prod(weights[node.input[1]][1:])
    return count


@dataclass(slots=True)
class _Graph:
    """Nodes in the order that they are added; each makes one value, whose name is given back."""

    type: np.dtype[np.floating]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(_SEED))

    def node(self, operator: str, inputs: list[str], **attributes: object) -> str:
        """Add an operator."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def entered(self, name: str) -> str:
        """Take an input into the precision of the network."""
        return name if self.type == np.float32 else self.node("Cast", [name], to=TensorProto.FLOAT16)

    def left(self, name: str) -> str:
        """Take a result out of it."""
        return name if self.type == np.float32 else self.node("Cast", [name], to=TensorProto.FLOAT)

    def block(self, given: str, before: int, count: int, stride: int = 1) -> str:
        """Convolve, normalise, let the negative leak."""
        convolved = self.convolution(given, before, count, kernel=3, stride=stride)
        scale = self._weight(self.random.uniform(0.5, 1.5, count))
        shift = self._weight(self.random.normal(0, 0.3, count))
        normalised = self.node("InstanceNormalization", [convolved, scale, shift], epsilon=1e-5)
        return self.node("LeakyRelu", [normalised], alpha=0.01)

    def convolution(self, given: str, before: int, count: int, kernel: int, stride: int = 1, bias: bool = False) -> str:
        """Convolve, with the sides kept but for the stride."""
        inputs = [given, self._filter((count, before, kernel, kernel, kernel), before * kernel**3)]
        if bias:
            inputs.append(self._weight(self.random.normal(0, 0.3, count)))
        pads = [kernel // 2] * 6
        return self.node("Conv", inputs, kernel_shape=[kernel] * 3, strides=[stride] * 3, pads=pads)

    def upsampled(self, given: str, before: int, count: int) -> str:
        """Double the sides."""
        inputs = [given, self._filter((before, count, 2, 2, 2), before)]
        inputs.append(self._weight(self.random.normal(0, 0.3, count)))
        return self.node("ConvTranspose", inputs, kernel_shape=[2] * 3, strides=[2] * 3)

    def model(self, shapes: dict[str, list[int]]) -> onnx.ModelProto:
        """Give the model, of its ends' shapes; the last node makes the scores."""
        self.nodes[-1].output[0] = "scores"
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        graph = helper.make_graph(self.nodes, "plain_unet", ends[:1], ends[1:], self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(made)
        return made

    def _filter(self, shape: tuple[int, ...], values_in: int) -> str:
        # He: what comes out varies as much as what goes in.
        return self._weight(self.random.normal(0, math.sqrt(2 / values_in), shape))

    def _weight(self, values: np.ndarray) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(self.type), name))
        return name
