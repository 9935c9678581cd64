"""From a network of torch to one file of ONNX, and how near it still is.

Opset 18: from 22 on ONNX Runtime 1.31 has no CUDA kernel for InstanceNormalization. Shapes are static, since a
CUDA session plans each convolution for one shape; input and output are float32::

    patches [1, channel, *patch] -> scores [1, class, *patch]
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from node.adapters.onnx_file import refuse_unfit
from node.adapters.onnx_session import answers
from node.convert.refusals import refused

OPSET = 18
INPUT, OUTPUT = "patches", "scores"

# Of the scores' own standard deviation; the largest seen is a tenth of it.
_LARGEST_DIFFERENCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkParity:
    """How far an exported network is from torch on two patches of noise."""

    largest_difference: float
    # Standard deviation of the scores, to read the difference by.
    deviation: float
    # Patches of noise have ties that a real image has not.
    labels_that_differ: int
    voxels: int
    # Biases that a normalisation would have subtracted again.
    biases_dropped: int


def export(network: torch.nn.Module, shape: tuple[int, ...], path: Path) -> NetworkParity:
    """Write a network for patches of ``shape`` (channel, then the network's axes) and compare it with torch.

    Raises
    ------
    SetupError
        It holds an operator that is not supported, or answers otherwise.
    """
    return _checked(_parity(network, shape, path, write(network, shape, path)))


def write(network: torch.nn.Module, shape: tuple[int, ...], path: Path) -> int:
    """Write a network for patches of ``shape`` without comparing it; gives how many biases were dropped.

    Raises
    ------
    SetupError
        It holds an operator that is not supported.
    """
    with warnings.catch_warnings():
        # It is deprecated, and it says of instance normalisation, which has no other mode, that it trains.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, *shape),),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    dropped = drop_bias_before_instance_norm(model)
    onnx.checker.check_model(model, full_check=True)
    refuse_unfit(model, path.stem)
    onnx.save(model, path)
    return dropped


def drop_bias_before_instance_norm(model: onnx.ModelProto) -> int:
    """Take away the biases of convolutions that only an instance normalisation reads; gives how many.

    The normalisation subtracts the mean of each channel, and a bias is the same number all over its channel: exact in
    real numbers, one rounding apart in floating point. ONNX Runtime adds a bias in a pass of its own on CUDA.
    """
    graph = model.graph
    readers = _readers(graph)
    dropped = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or len(node.input) < 3:
            continue
        if [reader.op_type for reader in readers.get(node.output[0], [])] == ["InstanceNormalization"]:
            del node.input[2]
            dropped += 1
    still_read = {name for node in graph.node for name in node.input}
    unread = [constant for constant in graph.initializer if constant.name not in still_read]
    for constant in unread:
        graph.initializer.remove(constant)
    return dropped


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for output in graph.output:  # read from outside, hence never by one node alone
        readers.setdefault(output.name, []).append(onnx.NodeProto())
    return readers


def _parity(network: torch.nn.Module, shape: tuple[int, ...], path: Path, dropped: int) -> NetworkParity:
    """Two patches one after the other: a constant that the export took from the first would show."""
    differences, deviations, differ, voxels = [0.0], [0.0], 0, 0
    for seed in range(2):
        noise = np.random.default_rng(seed).standard_normal((1, *shape)).astype(np.float32)
        with torch.inference_mode():
            expected: NDArray[np.float32] = network(torch.from_numpy(noise)).numpy()
        answer, _ = answers(path, noise)
        differences.append(float(np.abs(answer - expected).max()))
        deviations.append(float(expected.std()))
        differ += int((answer.argmax(axis=1) != expected.argmax(axis=1)).sum())
        voxels += expected[:, 0].size
    return NetworkParity(
        largest_difference=float(np.max(differences)),
        deviation=max(deviations),
        labels_that_differ=differ,
        voxels=voxels,
        biases_dropped=dropped,
    )


def _checked(parity: NetworkParity) -> NetworkParity:
    if not parity.largest_difference <= _LARGEST_DIFFERENCE * parity.deviation:  # a NaN is not within bounds either
        raise refused(
            f"The exported network answers otherwise than torch: {parity.largest_difference:.2g} where scores vary by "
            f"{parity.deviation:.2g}",
            "Report it, with the plans.json.",
        )
    return parity
