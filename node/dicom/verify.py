"""Read a written result back, as a receiver would, and hold it against the label map.

Shares no code with the writers except the rule of which pixels a polygon holds and the naming of structures.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from node.dicom.wording import unique_names
from node.domain.errors import VerificationError
from node.domain.grid import Grid, Plane
from node.domain.masks import CroppedMask, Mask, Masks
from node.domain.scanlines import Points, rasterise
from node.domain.series import SeriesManifest
from node.domain.structures import Contour, StructureDefinition
from node.domain.volume import LabelMap

# How far a point may lie off the plane of the image it names.
OFF_PLANE_MM = 0.01

# Longest value of DS (PS3.5 table 6.2-1).
DS_LENGTH = 16

CONTOUR_DATA = Tag("ContourData")

ANOTHER_GRID = "The label map is on another grid than the series."


def verify_rtstruct(
    written: bytes, label_map: LabelMap, definitions: Sequence[StructureDefinition], manifest: SeriesManifest
) -> None:
    """Check that an RT Structure Set, read anew, says what the label map says.

    It belongs to the manifest's study and frame of reference and names all its images; each contour is a closed polygon
    of at least 3 points on the plane of the image it names; each ROI holds exactly the voxels of its structure; each
    structure with voxels is there, and nothing else.

    Raises
    ------
    VerificationError
        Something differs; the reason names it.
    """
    with _malformed_is_an_error():
        _expect(label_map.grid.planes == manifest.grid.planes, ANOTHER_GRID)
        _verify_rtstruct(dcmread(io.BytesIO(written)), _wanted(label_map, definitions), manifest)


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
    with _malformed_is_an_error():
        _expect(label_map.grid.planes == manifest.grid.planes, ANOTHER_GRID)
        _verify_segmentation(dcmread(io.BytesIO(written)), _wanted(label_map, definitions), manifest)


def _verify_rtstruct(dataset: Dataset, wanted: Mapping[str, CroppedMask], manifest: SeriesManifest) -> None:
    _verify_frame_of_reference(dataset, manifest)
    images = _Images(manifest.grid)
    numbers = {str(item.ROIName): int(item.ROINumber) for item in dataset.StructureSetROISequence}
    _expect(sorted(numbers) == sorted(wanted), "The ROIs are not those of the structures that have voxels.")
    contours_of = {int(item.ReferencedROINumber): item.ContourSequence for item in dataset.ROIContourSequence}
    observed = sorted(int(item.ReferencedROINumber) for item in dataset.RTROIObservationsSequence)
    _expect(
        sorted(numbers.values()) == sorted(contours_of) == observed == sorted(set(observed)),
        "Regions, contours and observations do not go together.",
    )
    for name, number in numbers.items():
        contours = [_contour(item, images, name) for item in contours_of[number]]
        _verify_mask(name, rasterise(contours, manifest.grid), wanted[name])


def _verify_segmentation(dataset: Dataset, wanted: Mapping[str, CroppedMask], manifest: SeriesManifest) -> None:
    grid = manifest.grid
    _expect(str(dataset.StudyInstanceUID) == manifest.study_instance_uid, "The result is in another study.")
    _expect(
        str(dataset.FrameOfReferenceUID) == manifest.frame_of_reference_uid,
        "The result is in another frame of reference.",
    )
    _expect((dataset.Rows, dataset.Columns) == grid.shape[1:], "The frames have another size than the images.")
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
    _expect(sorted(names.values()) == sorted(wanted), "The segments are not those of the structures that have voxels.")
    frames = _Frames(dataset, grid)
    for number, name in names.items():
        _verify_mask(name, frames.mask_of(number), wanted[name])


@contextmanager
def _malformed_is_an_error() -> Iterator[None]:
    """Turn what reading a broken object raises, of whatever kind, into the one verdict that stops it."""
    try:
        yield
    except (InvalidDicomError, AttributeError, LookupError, TypeError, ValueError, EOFError) as error:
        raise VerificationError(f"The written object is malformed: {type(error).__name__}.") from error


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise VerificationError(otherwise)


def _wanted(label_map: LabelMap, definitions: Sequence[StructureDefinition]) -> Mapping[str, CroppedMask]:
    """Give the voxels of the structures that have any, by the name that the result must give them."""
    masks = Masks(label_map)
    found = [(definition.name, mask) for definition in definitions if (mask := masks.of(definition)) is not None]
    names = unique_names([name for name, _ in found])
    return {unique: mask for unique, (_, mask) in zip(names, found, strict=True)}


class _Images:
    """The images of a grid, by how a result refers to them."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._index = {(plane.sop_instance_uid, plane.frame_number): index for index, plane in enumerate(grid.planes)}
        self._normals = [plane.normal for plane in grid.planes]

    def index(self, reference: Dataset, name: str) -> int:
        """Give which plane of the grid an image reference means."""
        frame = reference.get("ReferencedFrameNumber")
        key = (str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame))
        _expect(key in self._index, f"{name} names an image that is not of the series.")
        return self._index[key]

    def off_plane_mm(self, index: int, points_lps_mm: Points) -> float:
        """Give how far the farthest point lies off a plane."""
        away = points_lps_mm - self.grid.planes[index].position_lps_mm
        return float(np.abs(away @ self._normals[index]).max())


def _verify_mask(name: str, got: Mask, wanted: CroppedMask) -> None:
    inside = got[wanted.box]
    changed = np.count_nonzero(inside != wanted.mask) + np.count_nonzero(got) - np.count_nonzero(inside)
    _expect(changed == 0, f"{name} differs from the label map in {changed} of {np.count_nonzero(wanted.mask)} voxels.")


def _verify_frame_of_reference(dataset: Dataset, manifest: SeriesManifest) -> None:
    _expect(str(dataset.StudyInstanceUID) == manifest.study_instance_uid, "The result is in another study.")
    (frame_of_reference,) = dataset.ReferencedFrameOfReferenceSequence
    uids = {str(dataset.FrameOfReferenceUID), str(frame_of_reference.FrameOfReferenceUID)}
    uids.update(str(item.ReferencedFrameOfReferenceUID) for item in dataset.StructureSetROISequence)
    _expect(uids == {manifest.frame_of_reference_uid}, "The result is in another frame of reference.")
    (study,) = frame_of_reference.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    _expect(
        str(study.ReferencedSOPInstanceUID) == manifest.study_instance_uid
        and str(series.SeriesInstanceUID) == manifest.series_instance_uid,
        "The result refers to another study or series.",
    )
    named = {str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence}
    wanted = {plane.sop_instance_uid for plane in manifest.grid.planes}
    _expect(named == wanted, "The referenced images are not those of the series.")


def _contour(item: Dataset, images: _Images, name: str) -> Contour:
    (reference,) = item.ContourImageSequence
    index = images.index(reference, name)
    # The bytes themselves: pydicom's numbers no longer tell how long the text was.
    element = item.get_item(CONTOUR_DATA)
    texts = bytes(element.value).split(b"\\") if element is not None else []
    _expect(all(len(text) <= DS_LENGTH for text in texts), f"{name} has a coordinate longer than {DS_LENGTH} bytes.")
    count = int(item.NumberOfContourPoints)
    closed = item.ContourGeometricType == "CLOSED_PLANAR" and count >= 3 and len(texts) == 3 * count
    _expect(closed, f"{name} has a contour that is no polygon.")
    points = np.array(texts, dtype=np.float64).reshape(-1, 3)
    _expect(bool(np.isfinite(points).all()), f"{name} has a coordinate that is no number.")
    off_plane_mm = images.off_plane_mm(index, points)
    _expect(off_plane_mm <= OFF_PLANE_MM, f"{name} has a contour {off_plane_mm:.3f} mm off the image that it names.")
    return Contour(slice_index=index, points_lps_mm=points)


class _Frames:
    """The frames of a Segmentation by segment and plane."""

    def __init__(self, dataset: Dataset, grid: Grid) -> None:
        self._shape = grid.shape
        self._pixels = bytes(dataset.PixelData)
        self._frame_of: dict[int, dict[int, int]] = {}
        images = _Images(grid)
        (shared,) = dataset.SharedFunctionalGroupsSequence
        _verify_measures(shared, grid.planes[0])
        groups = dataset.PerFrameFunctionalGroupsSequence
        _expect(len(groups) == int(dataset.NumberOfFrames), "The number of frames is wrong.")
        for frame, own in enumerate(groups):
            self._add(frame, own, shared, images)

    def _add(self, frame: int, own: Dataset, shared: Dataset, images: _Images) -> None:
        identification = own.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        number = int(identification[0].ReferencedSegmentNumber)
        (reference,) = own.DerivationImageSequence[0].SourceImageSequence
        index = images.index(reference, f"Segment {number}")
        position = np.array(own.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
        away_mm = np.abs(position - images.grid.planes[index].position_lps_mm).max()
        _expect(away_mm <= OFF_PLANE_MM, f"A frame lies {away_mm:.3f} mm away from the image that it names.")
        frames = self._frame_of.setdefault(number, {})
        _expect(index not in frames, f"Segment {number} has two frames for one image.")
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
        _expect(len(packed) * 8 >= last - first // 8 * 8, "Pixel data is cut short.")
        bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]
        return bits.reshape(self._shape[1:]).astype(np.bool_)


def _verify_measures(shared: Dataset, plane: Plane) -> None:
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=np.float64)
    _expect(
        bool(
            np.allclose(orientation, plane.orientation, atol=1e-6)
            and np.allclose(spacing, plane.pixel_spacing_mm, rtol=1e-6)
        ),
        "Orientation or spacing of the frames is not that of the images.",
    )
