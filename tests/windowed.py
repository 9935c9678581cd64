"""Packages with a window whose networks are small enough to be followed by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from node.adapters.onnx_host import HostWindows
from node.adapters.onnx_session import open_predictor
from node.inference.network_tables import Channel, GraphFile, Output, Window, WindowedInput
from node.inference.package import LoadedPackage, ModelPackage
from tests.unit.test_segment import PACKAGE, with_network

Patch = tuple[int, int, int]

AS_IT_IS = Channel(name="CT", normalisation="fixed")


def windowed_input(patch: Patch, orientation: str = "native", **more: object) -> WindowedInput:
    """Take voxels of 3 mm, 1.5 mm and 0.8 mm as they are."""
    wanted = WindowedInput(
        orientation=orientation,
        spacing_mm=(3.0, 1.5, 0.8),
        channels=(AS_IT_IS,),
        crop="none",
        window=Window(patch=patch),
    )
    return replace(wanted, **more)  # type: ignore[arg-type]


def convolution(weights: NDArray[np.floating], bias: Sequence[float], patch: Patch) -> onnx.ModelProto:
    """Make a network of one convolution, ``[class, channel, z, y, x]``, that keeps the size."""
    pads = [size // 2 for size in weights.shape[2:]] * 2
    return model(
        [helper.make_node("Conv", ["image", "weights", "bias"], ["scores"], pads=pads)],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.array(bias, dtype=np.float32), "bias"),
        ],
        (int(weights.shape[1]), int(weights.shape[0])),
        patch,
    )


def thresholds(patch: Patch) -> onnx.ModelProto:
    """Give class 1 above 0 and class 2 above 100."""
    return convolution(np.array([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1, 1), [0.0, 0.0, -100.0], patch)


def u_net(patch: Patch, classes: int = 5, seed: int = 0) -> onnx.ModelProto:
    """Make a network of random weights such as nnU-Net has: down by 2, up again, and the finer features beside."""
    random, constants, nodes = np.random.default_rng(seed), list[onnx.TensorProto](), list[onnx.NodeProto]()

    def layer(kind: str, given: str, shape: tuple[int, ...], **attributes: object) -> str:
        name = f"{kind.lower()}_{len(nodes)}"
        spread = np.sqrt(2 / np.prod(shape[1:]))
        constants.append(numpy_helper.from_array(random.normal(0, spread, shape).astype(np.float32), f"w_{name}"))
        nodes.append(helper.make_node(kind, [given, f"w_{name}"], [name], **attributes))
        return name

    def block(given: str, channels: tuple[int, int], stride: int = 1) -> str:
        made = layer("Conv", given, (channels[1], channels[0], 3, 3, 3), pads=[1] * 6, strides=[stride] * 3)
        for part, mean in (("scale", 1.0), ("shift", 0.0)):
            values = random.normal(mean, 0.2, channels[1]).astype(np.float32)
            constants.append(numpy_helper.from_array(values, f"{part}_{made}"))
        nodes.append(
            helper.make_node("InstanceNormalization", [made, f"scale_{made}", f"shift_{made}"], [f"norm_{made}"])
        )
        nodes.append(helper.make_node("LeakyRelu", [f"norm_{made}"], [f"relu_{made}"], alpha=0.01))
        return f"relu_{made}"

    fine = block("image", (1, 8))
    coarse = block(fine, (8, 16), stride=2)
    up = layer("ConvTranspose", coarse, (16, 8, 2, 2, 2), strides=[2] * 3)
    nodes.append(helper.make_node("Concat", [up, fine], ["joined"], axis=1))
    layer("Conv", block("joined", (16, 8)), (classes, 8, 1, 1, 1))
    nodes[-1].output[0] = "scores"
    return model(nodes, constants, (1, classes), patch)


def octants(patch: Patch) -> onnx.ModelProto:
    """Give class 1 + 4 · (far half along z) + 2 · (… along y) + (… along x), whatever the image."""
    z, y, x = (np.arange(size) >= size // 2 for size in patch)
    number = 1 + 4 * z[:, None, None] + 2 * y[:, None] + 1 * x
    return always((np.arange(9)[:, None, None, None] == number).astype(np.float32))


def always(scores: NDArray[np.float32]) -> onnx.ModelProto:
    """Give these scores, ``[class, z, y, x]``, of every patch, whatever the image."""
    return model(
        [
            helper.make_node("Mul", ["image", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "constant"], ["scores"]),
        ],
        [numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(scores[None], "constant")],
        (1, len(scores)),
        (scores.shape[1], scores.shape[2], scores.shape[3]),
    )


def model(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], channels: tuple[int, int], patch: Patch
) -> onnx.ModelProto:
    """Make a network from ``image`` to ``scores``; ``channels`` are those of each."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, *patch])
        for name, count in zip(("image", "scores"), channels, strict=True)
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def package(wanted: WindowedInput, output: Output, folds: int = 1) -> ModelPackage:
    graphs = tuple(GraphFile(file=f"fold_{fold}.onnx", sha256="0" * 64) for fold in range(folds))
    return with_network(PACKAGE, input=wanted, output=output, graphs=graphs)


def saved(folder: Path, wanted: WindowedInput, output: Output, *networks: onnx.ModelProto) -> LoadedPackage:
    paths = []
    for fold, network in enumerate(networks):
        paths.append(folder / f"fold_{fold}.onnx")
        paths[-1].write_bytes(network.SerializeToString())
    return LoadedPackage(package=package(wanted, output, len(paths)), graph_paths=tuple(paths))


def opened(folder: Path, wanted: WindowedInput, output: Output, *networks: onnx.ModelProto) -> HostWindows:
    runtime = open_predictor(saved(folder, wanted, output, *networks), "cpu", threads=1)
    assert isinstance(runtime, HostWindows)
    return runtime
