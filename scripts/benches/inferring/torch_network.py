"""A network of `inferring.plain_unet` by torch: the same operators in the same order on the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

Tensors = dict[str, torch.Tensor]


class TorchNetwork(torch.nn.Module):
    """Runs a graph of convolutions, instance normalisations, leaky rectifiers and concatenations, node by node."""

    def __init__(self, path: Path, device: str) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self._nodes = [
            (_OPERATORS[node.op_type], list(node.input), node.output[0], _attributes(node)) for node in graph.node
        ]
        self._weights = {
            each.name: torch.from_numpy(np.array(numpy_helper.to_array(each))).to(device) for each in graph.initializer
        }
        self._given, self._result = graph.input[0].name, graph.output[0].name

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        """Give the scores of a patch ``[1, 1, z, y, x]``."""
        last = {name: number for number, (_, inputs, _, _) in enumerate(self._nodes) for name in inputs}
        values: Tensors = {self._given: patch}
        for number, (operator, inputs, output, attributes) in enumerate(self._nodes):
            given = [values[name] if name in values else self._weights[name] for name in inputs]
            values[output] = operator(given, attributes)
            for name in inputs:
                if last[name] == number:
                    values.pop(name, None)
        return values[self._result]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _bias(given: list[torch.Tensor]) -> torch.Tensor | None:
    return given[2] if len(given) > 2 else None


def _convolved(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    padding = attributes["pads"][:3]
    return functional.conv3d(given[0], given[1], _bias(given), stride=attributes["strides"], padding=padding)


def _upsampled(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    return functional.conv_transpose3d(given[0], given[1], _bias(given), stride=attributes["strides"])


def _normalised(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    return functional.instance_norm(given[0], weight=given[1], bias=given[2], eps=attributes["epsilon"])


def _leaky(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    return functional.leaky_relu(given[0], attributes["alpha"], inplace=True)


def _joined(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    return torch.cat(given, dim=attributes["axis"])


def _cast(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    return given[0].to(torch.float16 if attributes["to"] == onnx.TensorProto.FLOAT16 else torch.float32)


_OPERATORS: dict[str, Callable[[list[torch.Tensor], dict[str, Any]], torch.Tensor]] = {
    "Conv": _convolved,
    "ConvTranspose": _upsampled,
    "InstanceNormalization": _normalised,
    "LeakyRelu": _leaky,
    "Concat": _joined,
    "Cast": _cast,
}
