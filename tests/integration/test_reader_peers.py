"""Readers of other projects find our voxels in our objects, holes included."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from highdicom.seg import segread
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from node.dicom.rtstruct import rtstruct
from node.dicom.segmentation import segmentation
from node.domain.contours import build_structures
from node.domain.masks import members
from node.domain.series import SeriesManifest
from node.domain.volume import LabelMap
from tests.builders import (
    PATIENT_POSITIONS,
    Orientation,
    ct_series,
    definition,
    grid,
    manifest_of,
    provenance,
    save_series,
    written,
)
from tests.peer_readers import Mask, Reader, dcmqi, dcmrtstruct2nii, dice, on_grid, plastimatch, platipy

pytestmark = pytest.mark.peers

NeedsProgram = Callable[..., None]
Encoding = Literal["binary", "labelmap"]

# Each larger than 1 cm³ but the tube, which is of 0.7 cm³.
RING, ISLANDS, NESTED, TUBE, ORGAN = 1, 2, 3, 4, 5
DEFINITIONS = [
    definition("Ring", RING),
    definition("Islands", ISLANDS),
    definition("Disc_in_a_hole", NESTED),
    definition("Tube", TUBE),
    definition("Organ", ORGAN),
]

SLICES, ROWS, COLUMNS = 12, 150, 230
ORIENTATIONS: list[Orientation] = [
    "axial",
    "prone",
    "feet_first",
    "decubitus_left",
    "sagittal",
    "coronal",
    "oblique",
]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A CT on disk and what was found in it."""

    folder: Path
    source: Sequence[Dataset]
    manifest: SeriesManifest
    label_map: LabelMap

    def mask(self, value: int) -> Mask:
        """Give the voxels of a structure."""
        return members(self.label_map.labels, [value])


def scene(folder: Path, orientation: Orientation, *, rows: int = ROWS, tilt_mm: float = 0.0) -> Scene:
    """Draw a ring, two islands, a disc in a hole, a tube of 4 × 4 pixels, and an organ as high as the stack."""
    stack = grid(slices=SLICES, rows=rows, columns=COLUMNS, orientation=orientation, tilt_mm=tilt_mm)
    source = ct_series(stack, patient_position=PATIENT_POSITIONS.get(orientation, "HFS"))
    save_series(source, folder / "ct")
    manifest = manifest_of(source)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    row, column = np.ogrid[:rows, :COLUMNS]

    def disc(middle: tuple[int, int], radius: float) -> NDArray[np.bool_]:
        return np.asarray((row - middle[0]) ** 2 + (column - middle[1]) ** 2 <= radius**2)

    labels[2:10, disc((35, 35), 30) & ~disc((38, 32), 14)] = RING
    labels[1:7, disc((25, 95), 17) | disc((58, 110), 12)] = ISLANDS
    labels[3:11, (disc((112, 36), 33) & ~disc((110, 38), 24)) | disc((109, 40), 12)] = NESTED
    for index in range(SLICES):
        labels[index, 88 + index : 92 + index, 140 + 2 * index : 144 + 2 * index] = TUBE
    labels[:, disc((42, 188), 36)] = ORGAN
    return Scene(folder=folder, source=source, manifest=manifest, label_map=LabelMap(labels=labels, grid=manifest.grid))


def contours_as_read_by(reader: Reader, drawn: Scene) -> dict[int, Mask]:
    """Write an RT Structure Set and give the voxels that a reader fills, by label value."""
    structure_set = build_structures(drawn.label_map, DEFINITIONS)
    path = drawn.folder / "rtstruct.dcm"
    path.write_bytes(written(rtstruct(structure_set, drawn.manifest, drawn.source, provenance())))
    masks = drawn.folder / "masks"
    masks.mkdir()
    found = reader(path, drawn.folder / "ct", masks)
    return {one.label_values[0]: on_grid(found[one.name], drawn.manifest.grid) > 0 for one in DEFINITIONS}


def segments_written(encoding: Encoding, drawn: Scene) -> Path:
    path = drawn.folder / "seg.dcm"
    dataset = segmentation(drawn.label_map, DEFINITIONS, drawn.manifest, drawn.source, provenance(), encoding=encoding)
    path.write_bytes(written(dataset))
    return path


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_plastimatch_fills_our_contours_with_exactly_our_voxels(
    orientation: Orientation, tmp_path: Path, needs_program: NeedsProgram
) -> None:
    needs_program("plastimatch")
    drawn = scene(tmp_path, orientation)

    found = contours_as_read_by(plastimatch, drawn)

    for value, mask in found.items():
        assert np.array_equal(mask, drawn.mask(value)), value


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_dcmrtstruct2nii_fills_our_contours_with_exactly_our_voxels(
    orientation: Orientation, tmp_path: Path, readers: Path
) -> None:
    drawn = scene(tmp_path, orientation)

    found = contours_as_read_by(dcmrtstruct2nii(readers), drawn)

    for value, mask in found.items():
        assert np.array_equal(mask, drawn.mask(value)), value


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_platipy_keeps_our_holes_and_is_off_by_its_rounding_only(
    orientation: Orientation, tmp_path: Path, readers: Path
) -> None:
    # Square: it cuts an image of more columns than rows where the rows end. It moves each point to the nearest pixel,
    # so an edge may take or lose the voxels along it, but none further; what has much edge for its size loses most.
    drawn = scene(tmp_path, orientation, rows=COLUMNS)

    found = contours_as_read_by(platipy(readers), drawn)

    beside = ndimage.generate_binary_structure(2, 2)[np.newaxis]
    for value, mask in found.items():
        wanted = drawn.mask(value)
        assert not (mask & ~ndimage.binary_dilation(wanted, beside)).any(), value
        assert not (~mask & ndimage.binary_erosion(wanted, beside, border_value=1)).any(), value
    assert dice(found[ORGAN], drawn.mask(ORGAN)) >= 0.99
    assert min(dice(found[value], drawn.mask(value)) for value in (RING, ISLANDS, NESTED)) >= 0.97


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_dcmqi_finds_exactly_our_voxels(
    orientation: Orientation, encoding: Encoding, tmp_path: Path, readers: Path
) -> None:
    drawn = scene(tmp_path, orientation)

    found = dcmqi(readers, segments_written(encoding, drawn), tmp_path, drawn.manifest.grid)

    assert np.array_equal(found, drawn.label_map.labels)


# Of a tilted gantry dcmqi makes an upright stack; by its images, a Segmentation is read right whatever they do.
@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize(("orientation", "tilt_mm"), [("oblique", 0.0), ("feet_first", 0.0), ("axial", 0.7)])
def test_highdicom_finds_exactly_our_voxels_image_by_image(
    orientation: Orientation, tilt_mm: float, encoding: Encoding, tmp_path: Path
) -> None:
    drawn = scene(tmp_path, orientation, tilt_mm=tilt_mm)

    read = segread(segments_written(encoding, drawn))

    found = read.get_pixels_by_source_instance(
        [plane.sop_instance_uid for plane in drawn.manifest.grid.planes],
        combine_segments=True,
        relabel=False,
        assert_missing_frames_are_empty=True,
    )
    assert np.array_equal(found, drawn.label_map.labels)
