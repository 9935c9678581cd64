"""Read a written Segmentation back, as a receiver would, and hold it against the label map."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import Dataset, dcmread

from node.dicom.verification import (
    ANOTHER_GRID,
    OFF_PLANE_MM,
    Images,
    expect,
    malformed_is_an_error,
    verify_mask,
    wanted_masks,
)
from node.domain.grid import Grid, Plane
from node.domain.masks import CroppedMask, Mask
from node.domain.series import SeriesManifest
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap


def verify_segmentation(
    written: bytes, label_map: LabelMap, definitions: Sequence[StructureDefinition], manifest: SeriesManifest
) -> None:
    """Check that a BINARY Segmentation, read anew, says what the label map says.

    Each frame lies where the image that it names as its source lies, and holds exactly the voxels of its segment; each
    structure with voxels is a segment, and nothing else.

    Raises
    ------
    VerificationError
        Something differs; the reason names it.
    """
    with malformed_is_an_error():
        expect(label_map.grid.planes == manifest.grid.planes, ANOTHER_GRID)
        _verify_segmentation(dcmread(io.BytesIO(written)), wanted_masks(label_map, definitions), manifest)


def _verify_segmentation(dataset: Dataset, wanted: Mapping[str, CroppedMask], manifest: SeriesManifest) -> None:
    grid = manifest.grid
    expect(str(dataset.StudyInstanceUID) == manifest.study_instance_uid, "The result is in another study.")
    expect(
        str(dataset.FrameOfReferenceUID) == manifest.frame_of_reference_uid,
        "The result is in another frame of reference.",
    )
    expect((dataset.Rows, dataset.Columns) == grid.shape[1:], "The frames have another size than the images.")
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
    expect(sorted(names.values()) == sorted(wanted), "The segments are not those of the structures that have voxels.")
    frames = _Frames(dataset, grid)
    for number, name in names.items():
        verify_mask(name, frames.mask_of(number), wanted[name])


class _Frames:
    """The frames of a Segmentation by segment and plane."""

    def __init__(self, dataset: Dataset, grid: Grid) -> None:
        self._shape = grid.shape
        self._pixels = bytes(dataset.PixelData)
        self._frame_of: dict[int, dict[int, int]] = {}
        images = Images(grid)
        (shared,) = dataset.SharedFunctionalGroupsSequence
        _verify_measures(shared, grid.planes[0])
        groups = dataset.PerFrameFunctionalGroupsSequence
        expect(len(groups) == int(dataset.NumberOfFrames), "The number of frames is wrong.")
        for frame, own in enumerate(groups):
            self._add(frame, own, shared, images)

    def _add(self, frame: int, own: Dataset, shared: Dataset, images: Images) -> None:
        identification = own.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        number = int(identification[0].ReferencedSegmentNumber)
        (reference,) = own.DerivationImageSequence[0].SourceImageSequence
        index = images.index(reference, f"Segment {number}")
        position = np.array(own.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
        away_mm = np.abs(position - images.grid.planes[index].position_lps_mm).max()
        expect(away_mm <= OFF_PLANE_MM, f"A frame lies {away_mm:.3f} mm away from the image that it names.")
        frames = self._frame_of.setdefault(number, {})
        expect(index not in frames, f"Segment {number} has two frames for one image.")
        frames[index] = frame

    def mask_of(self, number: int) -> Mask:
        """Give the voxels of a segment; images without a frame hold none (PS3.3 C.8.20.2)."""
        mask = np.zeros(self._shape, dtype=np.bool_)
        for index, frame in self._frame_of.get(number, {}).items():
            mask[index] = self._frame(frame)
        return mask

    def _frame(self, frame: int) -> Mask:
        """Unpack one frame: bits follow each other over frames, the lowest bit of a byte first (PS3.5 8.1.1)."""
        size = self._shape[1] * self._shape[2]
        first, last = frame * size, (frame + 1) * size
        packed = np.frombuffer(self._pixels[first // 8 : -(-last // 8)], dtype=np.uint8)
        expect(len(packed) * 8 >= last - first // 8 * 8, "Pixel data is cut short.")
        bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]
        return bits.reshape(self._shape[1:]).astype(np.bool_)


def _verify_measures(shared: Dataset, plane: Plane) -> None:
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=np.float64)
    expect(
        bool(
            np.allclose(orientation, plane.orientation, atol=1e-6)
            and np.allclose(spacing, plane.pixel_spacing_mm, rtol=1e-6)
        ),
        "Orientation or spacing of the frames is not that of the images.",
    )
