"""Turn the network of an nnU-Net v2 results folder into ONNX, and measure that it still says the same.

Runs where torch, nnunetv2 and onnx are installed. Opset 18: from 22 on, ONNX Runtime 1.31 has no CUDA kernel for
InstanceNormalization. The patch is static, the batch dynamic, input and output are float32 and named as below::

    patches [batch, channel, *patch_size] -> logits [batch, head, *patch_size]

As a program it exports cases of tests/parity/cases.py and prints the parity of each fold as JSON::

    python -m tests.parity.export OUT --cases ct_two_folds
"""

import argparse
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

OPSET = 18
INPUT, OUTPUT = "patches", "logits"


class ExportError(Exception):
    """The exported network does not answer as the original does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far the exported network is from torch on a patch of noise."""

    largest_difference: float
    # Standard deviation of the logits, to read the difference by.
    logits_deviation: float
    labels_that_differ: int
    voxels: int
    biases_dropped: int


def main() -> None:
    """Export the cases named on the command line and print what was measured."""
    from tests.parity import reference, results_folder  # noqa: PLC0415
    from tests.parity.cases import case  # noqa: PLC0415

    parser = argparse.ArgumentParser(description="Export networks of random weights to ONNX.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", required=True)
    arguments = parser.parse_args()
    measured = {}
    for name in arguments.cases.split(","):
        folder = results_folder.write_case(case(name), arguments.out / "results")
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
        folds = export_folds(reference.predictor(case(name), folder), arguments.out / name)
        measured[name] = [asdict(fold) for fold in folds]
    print(json.dumps(measured))


def export_folds(predictor: Any, folder: Path) -> list[Parity]:
    """Write ``fold_<n>.onnx`` for each fold that an `nnUNetPredictor` has loaded.

    Raises `ExportError` where a logit is off by more than 1e-4 of the logits' standard deviation.
    """
    plan = predictor.configuration_manager
    channels = len(predictor.dataset_json["channel_names"])
    measured = []
    for fold, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        path = folder / f"fold_{fold}.onnx"
        measured.append(export(predictor.network.eval(), (channels, *plan.patch_size), path))
    return measured


def export(network: torch.nn.Module, shape: tuple[int, ...], path: Path) -> Parity:
    """Write one network for patches of ``shape`` (``channel, z, y, x``) and give how near it is to torch."""
    with warnings.catch_warnings():
        # It is deprecated, and it says of instance normalisation, which has no other mode, that it trains.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, *shape),),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    dropped = drop_bias_before_instance_norm(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return _checked(_parity(network, shape, path, dropped))


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


def _parity(network: torch.nn.Module, shape: tuple[int, ...], path: Path, dropped: int) -> Parity:
    """Two patches at once, so that a batch frozen at one would show."""
    noise = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(noise)).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run([OUTPUT], {INPUT: noise})[0]
    return Parity(
        largest_difference=float(np.abs(answer - expected).max()),
        logits_deviation=float(expected.std()),
        labels_that_differ=int((answer.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        voxels=int(expected[:, 0].size),
        biases_dropped=dropped,
    )


def _checked(parity: Parity) -> Parity:
    if not parity.largest_difference <= 1e-4 * parity.logits_deviation:  # a NaN is not within bounds either
        raise ExportError(f"logits differ by {parity.largest_difference} of {parity.logits_deviation}")
    return parity


if __name__ == "__main__":
    main()
