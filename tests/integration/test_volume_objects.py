"""Two volumes in one multi-frame object: each is read, contoured and written for itself, from its own frames."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from node.adapters.dicom_files import dataset_loader, read_file
from node.dicom.pixels import read_volume
from node.dicom.rtstruct import rtstruct
from node.dicom.segmentation import segmentation
from node.dicom.verify_rtstruct import verify_rtstruct
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.contours import build_structures
from node.domain.grid import Grid
from node.domain.series import Complete, CompletionPolicy, SeriesFacts, SeriesManifest, assess
from tests.builders import ball_and_box, definition, enhanced_ct, grid, provenance, save_series, written

DEFINITIONS = [definition("ball", 1, 2), definition("box", 3)]
SLICES = 6


@pytest.fixture
def two_phases(tmp_path: Path) -> tuple[Path, tuple[SeriesManifest, ...]]:
    """Give an Enhanced CT whose second half shows the planes of the first 500 HU higher, and its two manifests."""
    stack = grid(slices=SLICES)
    both = Grid(planes=(*stack.planes, *stack.planes))
    voxels = np.zeros(both.shape, dtype=np.int16)
    voxels[SLICES:] = 500
    dataset = enhanced_ct(both, voxels=voxels)
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].TemporalPositionIndex = 1 + index // SLICES
    (path,) = save_series([dataset], tmp_path)
    facts = SeriesFacts(series_instance_uid="1.2.3", instances=(read_file(path),), associations=())
    verdict = assess(facts, 0.0, CompletionPolicy())
    assert isinstance(verdict, Complete), verdict
    return path, verdict.manifests


def test_each_volume_holds_the_pixels_of_its_own_frames(two_phases: tuple[Path, tuple[SeriesManifest, ...]]) -> None:
    path, manifests = two_phases

    means = [read_volume(dataset_loader(path.parent, one.files), one).voxels.mean() for one in manifests]

    assert means == [0.0, 500.0]


def test_each_volume_makes_objects_of_its_own_that_refer_to_its_own_frames(
    two_phases: tuple[Path, tuple[SeriesManifest, ...]],
) -> None:
    path, manifests = two_phases
    uids: set[UID] = set()

    for manifest, frames in zip(manifests, (range(1, 7), range(7, 13)), strict=True):
        label_map = ball_and_box(manifest.grid)
        source = [dcmread(path, stop_before_pixels=True)]
        contours = rtstruct(build_structures(label_map, DEFINITIONS), manifest, source, provenance())
        segments = segmentation(label_map, DEFINITIONS, manifest, source, provenance())

        verify_rtstruct(written(contours), label_map, DEFINITIONS, manifest)
        verify_segmentation(written(segments), label_map, DEFINITIONS, manifest)
        assert frames_of(contours) <= set(frames)
        uids |= {contours.SOPInstanceUID, segments.SOPInstanceUID}

    assert len(uids) == 4


def frames_of(result: Dataset) -> set[int]:
    return {
        int(image.ReferencedFrameNumber)
        for roi in result.ROIContourSequence
        for contour in roi.ContourSequence
        for image in contour.ContourImageSequence
    }
