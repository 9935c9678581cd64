"""Write one object as the node does, its check included: python -m writing.ours rtstruct|labelmap|binary SCENE FILE."""

import sys
from io import BytesIO
from pathlib import Path
from typing import Literal

from pydicom import Dataset

from node.dicom.rtstruct import rtstruct
from node.dicom.segmentation import segmentation
from node.dicom.verify_rtstruct import verify_rtstruct
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.contours import build_structures
from tests.builders import provenance
from writing.measured import Meter
from writing.scene import Scene


def write_rtstruct(scene: Scene, path: Path) -> None:
    """From the label map in memory to a checked RT Structure Set on disk."""
    label_map, definitions, manifest, headers = scene.label_map, scene.definitions, scene.manifest, scene.headers()
    meter = Meter()
    structure_set = build_structures(label_map, definitions)
    meter.end("contours")
    written = _bytes_of(rtstruct(structure_set, manifest, headers, provenance()))
    meter.end("object")
    verify_rtstruct(written, label_map, definitions, manifest)
    meter.end("verify")
    path.write_bytes(written)
    meter.end("store")
    meter.tell()


def write_segmentation(scene: Scene, path: Path, encoding: Literal["binary", "labelmap"]) -> None:
    """From the label map in memory to a checked Segmentation on disk."""
    label_map, definitions, manifest, headers = scene.label_map, scene.definitions, scene.manifest, scene.headers()
    meter = Meter()
    written = _bytes_of(segmentation(label_map, definitions, manifest, headers, provenance(), encoding=encoding))
    meter.end("object")
    verify_segmentation(written, label_map, definitions, manifest, encoding=encoding)
    meter.end("verify")
    path.write_bytes(written)
    meter.end("store")
    meter.tell()


def _bytes_of(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


if __name__ == "__main__":
    kind, folder, file = sys.argv[1:]
    if kind == "rtstruct":
        write_rtstruct(Scene(Path(folder)), Path(file))
    elif kind in {"labelmap", "binary"}:
        write_segmentation(Scene(Path(folder)), Path(file), kind)
    else:
        sys.exit(__doc__)
