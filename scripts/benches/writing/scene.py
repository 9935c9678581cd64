"""What everybody writes from: the phantom's label map, 300 CT images in a folder, and their manifest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from node.domain.series import SeriesManifest, manifest_from_json, manifest_to_json
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap
from tests.builders import ct_series, manifest_of, save_series
from writing.phantom import PIXEL_SPACING_MM, SLICE_SPACING_MM, definitions, phantom, phantom_grid


@dataclass(frozen=True)
class Scene:
    """A folder with one phantom and its images."""

    folder: Path

    @property
    def images(self) -> Path:
        """Give the folder of the CT."""
        return self.folder / "ct"

    @cached_property
    def manifest(self) -> SeriesManifest:
        """Read the manifest."""
        return manifest_from_json(json.loads((self.folder / "manifest.json").read_text(encoding="utf-8")))

    @cached_property
    def label_map(self) -> LabelMap:
        """Read the label map."""
        return LabelMap(labels=np.load(self.folder / "labels.npy"), grid=self.manifest.grid)

    @cached_property
    def definitions(self) -> tuple[StructureDefinition, ...]:
        """Give the structures."""
        return definitions(int(self.label_map.labels.max()))

    def headers(self) -> list[Dataset]:
        """Read the images without their pixels, in the order of the planes."""
        names = [self.manifest.files[plane.sop_instance_uid] for plane in self.manifest.grid.planes]
        return [dcmread(self.images / name, stop_before_pixels=True) for name in names]


def make_images(folder: Path, slices: int) -> Path:
    """Write the CT that all phantoms of that many slices lie on, and its manifest."""
    stack = phantom_grid(slices)
    images = ct_series(stack, voxels=np.zeros(stack.shape, dtype=np.int16))
    save_series(images, folder / "ct")
    content = json.dumps(manifest_to_json(manifest_of(images)))
    (folder / "manifest.json").write_text(content, encoding="utf-8")
    return folder


def make_scene(folder: Path, images: Path, structures: int, slices: int) -> Scene:
    """Draw a phantom on images that `make_images` wrote."""
    folder.mkdir()
    (folder / "ct").symlink_to(images / "ct")
    (folder / "manifest.json").symlink_to(images / "manifest.json")
    scene = Scene(folder)
    labels = phantom(structures, slices).labels
    np.save(folder / "labels.npy", labels)
    _write_masks(scene, labels)
    return scene


def _write_masks(scene: Scene, labels: NDArray[np.uint8]) -> None:
    """Write what plastimatch reads: masks of eight structures to a byte, and the structures' names."""
    numbers = np.arange(len(scene.definitions) + 1)
    channels = -(-len(scene.definitions) // 8)
    # Background has no bit; structure n has bit n - 1.
    bits = np.where((numbers[:, None] - 1) // 8 == np.arange(channels), 1 << (numbers[:, None] - 1) % 8, 0)
    bits[0] = 0
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": _words(scene.manifest.grid.planes[0].position_lps_mm),
        "ElementSpacing": _words((*PIXEL_SPACING_MM[::-1], SLICE_SPACING_MM)),
        "DimSize": _words(labels.shape[::-1]),
        "ElementNumberOfChannels": channels,
        "ElementType": "MET_UCHAR",
        "ElementDataFile": "LOCAL",
    }
    with (scene.folder / "masks.mha").open("wb") as file:
        file.write("".join(f"{name} = {value}\n" for name, value in header.items()).encode("ascii"))
        for image in labels:
            file.write(bits.astype(np.uint8)[image].tobytes())
    names = (f"{number}|255\\0\\0|{one.name}\n" for number, one in enumerate(scene.definitions))
    (scene.folder / "names.txt").write_text("".join(names), encoding="ascii")


def _words(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
