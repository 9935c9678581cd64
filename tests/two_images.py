"""A model that takes two images of one place and needs both, and a patient with two such series.

Its network calls Kidney_L what is brighter in T1 by more than 50, and Kidney_R what is brighter in T2 by as much. So
with one image alone, or with both swapped, its answer is another.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.inference.golden import golden_file
from tests.builders import ct_series, grid
from tests.windowed import convolution

NAME = "kidneys-of-two"
SPACING_MM = (3.0, 2.0, 1.5)
ORIGIN_LPS_MM = (-29.25, -41.0, 105.0)
SHAPE = (8, 40, 40)
# Slices, rows and columns where one image is bright and the other is not. x grows with the columns, to the patient's
# left: columns 28 to 31 are at -29.25 + 1.5 · (28 to 31) = 12.75 to 17.25 mm, columns 6 to 11 at -20.25 to -12.75 mm.
BRIGHT_IN_T1 = (slice(2, 5), slice(10, 16), slice(28, 32))
BRIGHT_IN_T2 = (slice(3, 7), slice(20, 24), slice(6, 12))
# Their middles: columns 29.5 and 8.5, rows 12.5 and 21.5, slices 3 and 4.5.
LEFT_MM = (15.0, -16.0, 114.0)
RIGHT_MM = (-16.5, 2.0, 118.5)

_PATCH = (8, 16, 16)
_MANIFEST = """
schema_version = 2
name = "{name}"
title = "Kidneys of two images"
version = "1.0"
originator = "Tests"
licence = "Apache-2.0"
intended_use = "Tests."
limits = "Knows two differences."
modalities = ["MR"]

[input]
orientation = "LPS"
spacing_mm = [3.0, 2.0, 1.5]
crop = "none"
[[input.channels]]
name = "T1"
normalisation = "fixed"
[[input.channels]]
name = "T2"
normalisation = "fixed"
[window]
patch = [8, 16, 16]

[output]
classes = 3

[[graphs]]
file = "graph.onnx"
sha256 = "{graph}"

[[structures]]
name = "Kidney_L"
label_values = [1]
[[structures]]
name = "Kidney_R"
label_values = [2]

[golden]
file = "golden.npz"
sha256 = "{golden}"
spacing_mm = [3.0, 2.0, 1.5]
"""


def images() -> NDArray[np.int16]:
    """Draw T1 and T2, ``[channel, slice, row, column]``: 100, 200 in the middle of both, 300 where one is bright."""
    values = np.full((2, *SHAPE), 100, dtype=np.int16)
    values[:, :, 30:34, 15:25] = 200
    values[0][BRIGHT_IN_T1] = 300
    values[1][BRIGHT_IN_T2] = 300
    return values


def labels() -> NDArray[np.uint8]:
    """Say where the kidneys are, by hand."""
    found = np.zeros(SHAPE, dtype=np.uint8)
    found[BRIGHT_IN_T1] = 1
    found[BRIGHT_IN_T2] = 2
    return found


def install(folder: Path, golden_channels: int = 2) -> Path:
    """Write the package into a folder of its own in ``folder``, and give that."""
    slopes = np.array([[0, 0], [1, -1], [-1, 1]], dtype=np.float32).reshape(3, 2, 1, 1, 1)
    graph = convolution(slopes, [0, -50, -50], _PATCH).SerializeToString()
    golden = golden_file(images()[:golden_channels], labels())
    package = folder / NAME
    package.mkdir(parents=True)
    stated = {"graph": hashlib.sha256(graph).hexdigest(), "golden": hashlib.sha256(golden).hexdigest()}
    (package / "model.toml").write_text(_MANIFEST.format(name=NAME, **stated))
    (package / "graph.onnx").write_bytes(graph)
    (package / "golden.npz").write_bytes(golden)
    (package / "MODEL_CARD.md").write_text(f"# {NAME}\n")
    return package


def series(channel: str, name: str = "", spacing_mm: tuple[float, float, float] = SPACING_MM) -> list[Dataset]:
    """Build the MR series of T1 or T2.

    Parameters
    ----------
    name
        Seed of the UIDs; the channel by default.
    """
    slices, rows, columns = SHAPE
    stack = grid(
        slices=slices,
        rows=rows,
        columns=columns,
        origin_lps_mm=ORIGIN_LPS_MM,
        spacing_mm=spacing_mm,
        series=name or channel,
    )
    datasets = ct_series(stack, voxels=images()[("T1", "T2").index(channel)], series=name or channel, modality="MR")
    for dataset in datasets:
        dataset.SeriesDescription = f"Abdomen {channel.lower()} tra"
    return datasets
