"""Model packages to be verified: one that is right, and the means to spoil it."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from node.inference.golden import golden_file

NAME = "densities"

_MANIFEST = """
schema_version = 2
name = "densities"
title = "Two densities"
version = "1.2"
originator = "Tests"
licence = "Apache-2.0"
intended_use = "Tests."
limits = "Knows two densities."
modalities = ["CT"]

[input]
orientation = "LPS"
spacing_mm = {spacing}
{more_input}

[output]
classes = {classes}

[[graphs]]
file = "graph.onnx"
sha256 = "{graph}"

[[structures]]
name = "Body"
label_values = [1, 2]
[[structures]]
name = "Liver"
label_values = [2]

[golden]
file = "golden.npz"
sha256 = "{golden}"
spacing_mm = [3.0, 1.5, 1.25]
"""

_WINDOW = """crop = "none"
[[input.channels]]
name = "CT"
normalisation = "fixed"
[window]
patch = [8, 8, 8]
"""

# In the place of [output] and [[graphs]]: two networks and one that finds the region of both.
_PARTS = """[output]
classes = 3

[[parts]]
name = "body"
labels = [1, 0]
[[parts.graphs]]
file = "graph.onnx"
sha256 = "{graph}"

[[parts]]
name = "liver"
labels = [0, 2]
[[parts.graphs]]
file = "liver.onnx"
sha256 = "{graph}"

[crop_model]
structures = {{ liver = [2] }}
margin_mm = [3, 3, 2.5]
[crop_model.input]
orientation = "LPS"
spacing_mm = ["source", "source", "source"]
outside_value = -1000
[crop_model.output]
classes = 3
[[crop_model.graphs]]
file = "coarse.onnx"
sha256 = "{graph}"

"""


def thresholds(classes: int = 3, opset: int = 18, sides: tuple[int | str, ...] = ("s", "r", "c")) -> onnx.ModelProto:
    """Make a network whose classes 1 and 2 begin above 0 and 100; further classes never win."""
    slopes, offsets = np.zeros((2, classes), dtype=np.float32)
    slopes[1:3], offsets[2], offsets[3:] = (1, 2), -100, -1e4
    shape = (1, classes, 1, 1, 1)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["hu", "slopes"], ["sloping"], name="slope"),
            helper.make_node("Add", ["sloping", "offsets"], ["scores"], name="offset"),
        ],
        "thresholds",
        [helper.make_tensor_value_info("hu", TensorProto.FLOAT, [1, 1, *sides])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes, *sides])],
        [
            numpy_helper.from_array(slopes.reshape(shape), "slopes"),
            numpy_helper.from_array(offsets.reshape(shape), "offsets"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def scan() -> NDArray[np.int16]:
    """Draw air, a box of body and, off its centre, a box of liver: ``[channel, slice, row, column]``."""
    values = np.full((1, 6, 12, 14), -1000, dtype=np.int16)
    values[:, :, 2:10, 3:12] = 50
    values[:, 1:4, 3:6, 4:8] = 150
    return values


def labels_of(values: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Say what `thresholds` makes of a scan."""
    return np.asarray(np.digitize(values[0], [1, 101]), dtype=np.uint8)


def install(
    folder: Path,
    model: onnx.ModelProto | None = None,
    *,
    labels: NDArray[np.uint8] | None = None,
    replacing: tuple[str, str] = ("", ""),
) -> Path:
    """Write a package without a window into a folder of its own in ``folder``, and give that.

    Parameters
    ----------
    replacing
        Of the manifest, a text and what comes in its place.
    """
    graph = (model or thresholds()).SerializeToString()
    return _written(folder, graph, labels, replacing, spacing='["source", "source", "source"]', classes=3)


def install_windowed(folder: Path, classes: int, spacing_mm: tuple[float, float, float]) -> Path:
    """Write a package with a window of 8 voxels."""
    graph = thresholds(classes, sides=(8, 8, 8)).SerializeToString()
    windowed = ("outside_value = -1000", _WINDOW)
    return _written(folder, graph, None, windowed, spacing=str(list(spacing_mm)), classes=classes)


def install_parts(folder: Path) -> Path:
    """Write a package of two parts, which label a region alone that a third network finds."""
    labels = np.zeros_like(labels_of(scan()))
    # 3 mm, 3 mm and 2.5 mm around the liver: 1 slice, 2 rows and 2 columns.
    region = np.s_[0:5, 1:8, 2:10]
    labels[region] = labels_of(scan())[region]
    package = install(folder, labels=labels)
    graph, manifest = (package / "graph.onnx").read_bytes(), package / "model.toml"
    text = manifest.read_text()
    parts = _PARTS.format(graph=hashlib.sha256(graph).hexdigest())
    manifest.write_text(text[: text.index("[output]")] + parts + text[text.index("[[structures]]") :])
    for name in ("liver.onnx", "coarse.onnx"):
        (package / name).write_bytes(graph)
    return package


def _written(
    folder: Path,
    graph: bytes,
    labels: NDArray[np.uint8] | None,
    replacing: tuple[str, str],
    *,
    spacing: str,
    classes: int,
) -> Path:
    package = folder / NAME
    package.mkdir(parents=True)
    golden = golden_file(scan(), labels_of(scan()) if labels is None else labels)
    manifest = _MANIFEST.format(
        spacing=spacing,
        more_input="outside_value = -1000",
        classes=classes,
        graph=hashlib.sha256(graph).hexdigest(),
        golden=hashlib.sha256(golden).hexdigest(),
    )
    (package / "model.toml").write_text(manifest.replace(*replacing) if replacing[0] else manifest)
    (package / "graph.onnx").write_bytes(graph)
    (package / "golden.npz").write_bytes(golden)
    (package / "MODEL_CARD.md").write_text("# densities\n")
    return package
