"""Read a written RT Structure Set back, as a receiver would, and hold it against the label map."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.tag import Tag

from node.dicom.verification import (
    ANOTHER_GRID,
    OFF_PLANE_MM,
    Images,
    expect,
    malformed_is_an_error,
    verify_mask,
    wanted_masks,
)
from node.domain.masks import CroppedMask
from node.domain.scanlines import rasterise
from node.domain.series import SeriesManifest
from node.domain.structures import Contour, StructureDefinition
from node.domain.volume import LabelMap

# Longest value of DS (PS3.5 table 6.2-1).
DS_LENGTH = 16

CONTOUR_DATA = Tag("ContourData")


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
    with malformed_is_an_error():
        expect(label_map.grid.planes == manifest.grid.planes, ANOTHER_GRID)
        _verify_rtstruct(dcmread(io.BytesIO(written)), wanted_masks(label_map, definitions), manifest)


def _verify_rtstruct(dataset: Dataset, wanted: Mapping[str, CroppedMask], manifest: SeriesManifest) -> None:
    _verify_frame_of_reference(dataset, manifest)
    images = Images(manifest.grid)
    numbers = {str(item.ROIName): int(item.ROINumber) for item in dataset.StructureSetROISequence}
    expect(sorted(numbers) == sorted(wanted), "The ROIs are not those of the structures that have voxels.")
    contours_of = {int(item.ReferencedROINumber): item.ContourSequence for item in dataset.ROIContourSequence}
    observed = sorted(int(item.ReferencedROINumber) for item in dataset.RTROIObservationsSequence)
    expect(
        sorted(numbers.values()) == sorted(contours_of) == observed == sorted(set(observed)),
        "Regions, contours and observations do not go together.",
    )
    for name, number in numbers.items():
        contours = [_contour(item, images, name) for item in contours_of[number]]
        verify_mask(name, rasterise(contours, manifest.grid), wanted[name])


def _verify_frame_of_reference(dataset: Dataset, manifest: SeriesManifest) -> None:
    expect(str(dataset.StudyInstanceUID) == manifest.study_instance_uid, "The result is in another study.")
    (frame_of_reference,) = dataset.ReferencedFrameOfReferenceSequence
    uids = {str(dataset.FrameOfReferenceUID), str(frame_of_reference.FrameOfReferenceUID)}
    uids.update(str(item.ReferencedFrameOfReferenceUID) for item in dataset.StructureSetROISequence)
    expect(uids == {manifest.frame_of_reference_uid}, "The result is in another frame of reference.")
    (study,) = frame_of_reference.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    expect(
        str(study.ReferencedSOPInstanceUID) == manifest.study_instance_uid
        and str(series.SeriesInstanceUID) == manifest.series_instance_uid,
        "The result refers to another study or series.",
    )
    named = {str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence}
    wanted = {plane.sop_instance_uid for plane in manifest.grid.planes}
    expect(named == wanted, "The referenced images are not those of the series.")


def _contour(item: Dataset, images: Images, name: str) -> Contour:
    (reference,) = item.ContourImageSequence
    index = images.index(reference, name)
    # The bytes themselves: pydicom's numbers no longer tell how long the text was.
    element = item.get_item(CONTOUR_DATA)
    texts = bytes(element.value).split(b"\\") if element is not None else []
    expect(all(len(text) <= DS_LENGTH for text in texts), f"{name} has a coordinate longer than {DS_LENGTH} bytes.")
    count = int(item.NumberOfContourPoints)
    closed = item.ContourGeometricType == "CLOSED_PLANAR" and count >= 3 and len(texts) == 3 * count
    expect(closed, f"{name} has a contour that is no polygon.")
    points = np.array(texts, dtype=np.float64).reshape(-1, 3)
    expect(bool(np.isfinite(points).all()), f"{name} has a coordinate that is no number.")
    off_plane_mm = images.off_plane_mm(index, points)
    expect(off_plane_mm <= OFF_PLANE_MM, f"{name} has a contour {off_plane_mm:.3f} mm off the image that it names.")
    return Contour(slice_index=index, points_lps_mm=points)
