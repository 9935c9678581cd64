"""The shipped model on real scans: the figures of its model card."""

import gzip
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from scipy import ndimage

from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import open_predictor
from node.dicom.pixels import read_volume
from node.domain.volume import Volume
from node.inference.predictor import no_progress
from node.inference.segment import Segmented, segment
from tests.builders import manifest_of
from tests.nifti import read_nifti
from tests.real_data import unpacked

pytestmark = pytest.mark.real_data

MODELS = Path(__file__).parent.parent.parent / "models"
BODY, BONE = (1, 2, 3, 4, 5), (2, 3, 4, 5)

# Values of TotalSegmentator's label map: sacrum and vertebrae, arms and girdles and hips, skull and ribs and sternum.
BONE_LABELS = (*range(25, 51), *range(69, 79), *range(91, 117))


def segmented(volume: Volume) -> Segmented:
    loaded = ModelStore([MODELS]).load("body-bones")
    return segment(volume, loaded.package, open_predictor(loaded, "cpu", threads=2), no_progress)


def mask(found: Segmented, values: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.isin(found.label_map.labels, values)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.fixture(scope="module")
def thorax() -> Volume:
    folder = unpacked("onkodicom-thorax-rt") / "onkodicom-thorax-rt" / "dicom"
    datasets = [dataset for file in sorted(folder.iterdir()) if (dataset := dcmread(file)).Modality == "CT"]
    by_uid = {str(dataset.SOPInstanceUID): dataset for dataset in datasets}
    return read_volume(by_uid.__getitem__, manifest_of(datasets))


def body_by_threshold(volume: Volume) -> NDArray[np.bool_]:
    """Outline the body at full resolution with other tools: OpenCV's opening and filled contours."""
    shell = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    planes = [cv2.morphologyEx((plane > -300).astype(np.uint8), cv2.MORPH_OPEN, shell) for plane in volume.voxels]
    pieces, count = ndimage.label(np.stack(planes))
    sizes = ndimage.sum_labels(pieces > 0, pieces, range(1, count + 1))
    largest = (pieces == 1 + int(np.argmax(sizes))).astype(np.uint8)
    for plane in largest:
        outlines, _ = cv2.findContours(plane, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(plane, outlines, -1, 1, cv2.FILLED)
    return np.asarray(largest > 0)


def test_the_body_has_the_volume_of_an_independent_mask_at_full_resolution(thorax: Volume) -> None:
    started = time.monotonic()

    found = segmented(thorax)

    took_s = time.monotonic() - started
    body, reference = mask(found, BODY), body_by_threshold(thorax)
    assert found.omitted == ()
    assert body.sum() == pytest.approx(reference.sum(), rel=0.01)
    assert dice(body, reference) > 0.995
    assert took_s < 120


def test_the_couch_and_the_board_stay_out_and_lungs_and_bone_stay_in(thorax: Volume) -> None:
    found = segmented(thorax)

    body, bone = mask(found, BODY), mask(found, BONE)
    # Row 360 lies below the back in every slice, above couch and immobilisation.
    assert not body[:, 360:].any()
    lungs = reference_mask("common lung", thorax)
    # The reference was drawn with a brush: its outermost voxels are not all lung.
    assert (body & lungs).sum() / lungs.sum() > 0.999
    assert (bone & lungs).sum() / lungs.sum() < 0.02
    assert 500 < bone.sum() * thorax.grid.voxel_volume_mm3 / 1000 < 3000


def reference_mask(name: str, volume: Volume) -> NDArray[np.bool_]:
    """Read one of the set's masks: NRRD, gzip, ``[slice, row, column]`` after the header's blank line."""
    folder = unpacked("onkodicom-thorax-rt") / "onkodicom-thorax-rt" / "structures_nrrd"
    content = (folder / f"{name}.nrrd").read_bytes()
    values = np.frombuffer(gzip.decompress(content[content.index(b"\n\n") + 2 :]), dtype=np.uint8)
    return values.reshape(volume.grid.shape) > 0


def test_bone_agrees_with_machine_labels_of_a_trunk() -> None:
    folder = unpacked("totalseg-example") / "totalseg-example"
    voxels, stack = read_nifti(folder / "example_ct.nii.gz")
    labels, _ = read_nifti(folder / "example_seg_fast_force_split.nii.gz")

    found = segmented(Volume(voxels=voxels, grid=stack))

    bone, reference = mask(found, BONE), np.isin(labels, BONE_LABELS)
    assert dice(bone, reference) == pytest.approx(0.880, abs=0.005)
    assert mask(found, BODY)[labels > 0].all()
    assert found.omitted == ()
