"""A real planning CT through real peers: DCMTK sends it to the node, DCMTK and Orthanc receive the results.

What comes out is judged by programs that are not ours: dciodvfy, drtdump, plastimatch, and readings written here.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from scipy import ndimage

from tests.acceptance.running import RunningNode, run
from tests.fakes import RT_STRUCTURE_SET, SEGMENTATION, free_port
from tests.real_data import unpacked

pytestmark = [pytest.mark.peers, pytest.mark.real_data]

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True, kw_only=True)
class Journey:
    """What came out of one journey through the node."""

    images: list[Dataset]
    rtstruct: Dataset
    rtstruct_path: Path
    seg: Dataset
    seg_path: Path
    status: dict[str, Any]
    log: str


def thorax_images() -> list[Path]:
    folder = unpacked("onkodicom-thorax-rt")
    paths = [path for path in sorted(folder.rglob("*.dcm")) if dcmread(path, stop_before_pixels=True).Modality == "CT"]
    assert len(paths) == 105
    return paths


@contextmanager
def storescp(folder: Path, port: int) -> Iterator[None]:
    folder.mkdir()
    command = ["storescp", "--output-directory", str(folder), "--aetitle", "TPS", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def send_by_dcmtk(node: RunningNode, paths: list[Path]) -> None:
    done = run(["storescu", "-aet", "CT_SCANNER", "-aec", "DELINEATE", "127.0.0.1", str(node.port), *paths])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    for program in ("storescu", "storescp"):
        require(program)
    folder = tmp_path_factory.mktemp("journey")
    port = free_port()
    images = thorax_images()
    with storescp(folder / "tps", port), RunningNode(folder, destination_port=port) as node:
        send_by_dcmtk(node, images)
        status = node.wait_until_delivered(within_s=180)
    received = {path: dcmread(path) for path in (folder / "tps").iterdir()}
    by_class = {str(dataset.SOPClassUID): (path, dataset) for path, dataset in received.items()}
    assert set(by_class) == {RT_STRUCTURE_SET, SEGMENTATION}
    return Journey(
        images=[dcmread(path) for path in images],
        rtstruct=by_class[RT_STRUCTURE_SET][1],
        rtstruct_path=by_class[RT_STRUCTURE_SET][0],
        seg=by_class[SEGMENTATION][1],
        seg_path=by_class[SEGMENTATION][0],
        status=status,
        log=node.log,
    )


def require(program: str) -> None:
    if shutil.which(program) is None:
        absent(program)


def absent(what: str) -> NoReturn:
    """Skip, saying what is not installed; fail in CI."""
    message = f"not installed: {what} (README.md names its package)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def errors_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("Error", "E:"))]


def test_dciodvfy_finds_no_error_in_the_structure_set(journey: Journey) -> None:
    require("dciodvfy")

    done = run(["dciodvfy", journey.rtstruct_path])

    assert errors_in(done.stderr + done.stdout) == []
    assert "RTStructureSet" in done.stderr + done.stdout


def test_dciodvfy_finds_no_error_in_the_segmentation(journey: Journey) -> None:
    require("dciodvfy")

    done = run(["dciodvfy", journey.seg_path])

    assert errors_in(done.stderr + done.stdout) == []
    assert "Segmentation" in done.stderr + done.stdout


def test_drtdump_reads_the_structure_set_without_complaint(journey: Journey) -> None:
    require("drtdump")

    done = run(["drtdump", "-v", journey.rtstruct_path])

    assert done.returncode == 0
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("E:", "W:", "F:"))] == []
    assert "RT Structure Set object" in done.stdout


def test_all_105_slices_are_listed_and_every_reference_is_one_of_them(journey: Journey) -> None:
    sent = {str(image.SOPInstanceUID) for image in journey.images}
    frame = journey.rtstruct.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]

    listed = {str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence}
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for contour in contours(journey.rtstruct)
        for item in contour.ContourImageSequence
    }

    assert listed == sent
    assert referenced <= sent
    assert len(referenced) > 50
    assert series.SeriesInstanceUID == journey.images[0].SeriesInstanceUID
    assert frame.FrameOfReferenceUID == journey.images[0].FrameOfReferenceUID
    assert journey.rtstruct.StudyInstanceUID == journey.images[0].StudyInstanceUID
    assert journey.rtstruct.PatientID == journey.images[0].PatientID
    assert str(journey.rtstruct.PatientName) == str(journey.images[0].PatientName)


def test_every_point_lies_in_the_plane_of_its_slice(journey: Journey) -> None:
    images = {str(image.SOPInstanceUID): image for image in journey.images}

    worst = 0.0
    for contour in contours(journey.rtstruct):
        image = images[str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)]
        orientation = np.array(image.ImageOrientationPatient, dtype=float)
        normal = np.cross(orientation[:3], orientation[3:])
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        assert len(points) >= 3
        assert contour.NumberOfContourPoints == len(points)
        off = np.abs((points - np.array(image.ImagePositionPatient, dtype=float)) @ normal)
        worst = max(worst, float(off.max()))

    assert worst <= 0.01


def test_the_body_has_the_volume_of_an_independent_threshold_mask(journey: Journey) -> None:
    independent_cm3 = float(threshold_body(journey.images).sum()) * voxel_cm3(journey.images)

    reported = {one["name"]: one["volume_cm3"] for one in journey.status["jobs"][0]["report"]["structures"]}
    body_cm3 = float(segment(journey, body_name(journey)).sum()) * voxel_cm3(journey.images)

    assert body_cm3 == pytest.approx(independent_cm3, rel=0.01)
    assert reported[body_name(journey)] == pytest.approx(body_cm3, rel=1e-3)


def test_plastimatch_rasterises_the_contours_to_the_segmentation(journey: Journey, tmp_path: Path) -> None:
    require("plastimatch")
    folder = tmp_path / "ct"
    folder.mkdir()
    for number, image in enumerate(journey.images):
        image.save_as(folder / f"{number:03d}.dcm")

    done = run(
        [
            "plastimatch",
            "convert",
            "--input",
            journey.rtstruct_path,
            "--referenced-ct",
            folder,
            "--output-prefix",
            tmp_path / "masks",
            "--prefix-format",
            "nrrd",
        ]
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for name in roi_names(journey.rtstruct):
        theirs = read_nrrd(tmp_path / "masks" / f"{name}.nrrd")
        ours = segment(journey, name)
        overlap = 2 * np.logical_and(theirs, ours).sum() / (theirs.sum() + ours.sum())
        assert overlap >= 0.98, name


def test_results_are_for_review_and_say_how_they_came_about(journey: Journey) -> None:
    rtstruct = journey.rtstruct
    report = journey.status["jobs"][0]["report"]
    model = f"{report['model']} {report['model_version']}"

    assert rtstruct.ApprovalStatus == "UNAPPROVED"
    assert "not a medical device" in rtstruct.StructureSetDescription
    for roi in rtstruct.StructureSetROISequence:
        assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
        assert model in roi.ROIGenerationDescription
    for segment_item in journey.seg.SegmentSequence:
        assert segment_item.SegmentAlgorithmType == "AUTOMATIC"
    assert "not a medical device" in journey.seg.ContentDescription


def test_nobody_is_named_in_the_log_or_the_status(journey: Journey) -> None:
    said = journey.log + json.dumps(journey.status)

    assert str(journey.images[0].PatientName) not in said
    assert str(journey.images[0].PatientID) not in said


def test_orthanc_receives_and_keeps_the_results(tmp_path: Path) -> None:
    require("Orthanc")
    require("storescu")
    images = thorax_images()
    with orthanc(tmp_path) as (port, http), RunningNode(tmp_path, destination_port=port) as node:
        send_by_dcmtk(node, images)
        node.wait_until_delivered(within_s=180)
        kept = [http(f"/instances/{identifier}/file") for identifier in json.loads(http("/instances"))]

    datasets = [dcmread(BytesIO(content)) for content in kept]
    assert {str(dataset.SOPClassUID) for dataset in datasets} == {RT_STRUCTURE_SET, SEGMENTATION}
    assert len(datasets) == 2


@contextmanager
def orthanc(folder: Path, more_settings: Mapping[str, Any] | None = None) -> Iterator[tuple[int, Any]]:
    port, http_port = free_port(), (more_settings or {}).get("HttpPort", free_port())
    settings = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomAet": "TPS",
        "DicomPort": port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "Plugins": [],
        **(more_settings or {}),
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings), encoding="utf-8")

    def http(address: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}{address}", body, timeout=60) as answer:
            content: bytes = answer.read()
            return content

    process = subprocess.Popen(["Orthanc", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                http("/system")
            except OSError:
                assert time.monotonic() < until, "Orthanc did not start"
                time.sleep(0.2)
            else:
                break
        yield port, http
    finally:
        process.terminate()
        process.wait(30)


# Readings written here, independent of ours -------------------------------------------------------------------------


def contours(rtstruct: Dataset) -> list[Dataset]:
    return [contour for roi in rtstruct.ROIContourSequence for contour in roi.ContourSequence]


def roi_names(rtstruct: Dataset) -> list[str]:
    return [str(roi.ROIName) for roi in rtstruct.StructureSetROISequence]


def body_name(journey: Journey) -> str:
    external = {
        int(observation.ReferencedROINumber)
        for observation in journey.rtstruct.RTROIObservationsSequence
        if observation.RTROIInterpretedType == "EXTERNAL"
    }
    return next(str(roi.ROIName) for roi in journey.rtstruct.StructureSetROISequence if int(roi.ROINumber) in external)


def by_position(images: list[Dataset]) -> list[Dataset]:
    return sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))


def voxel_cm3(images: list[Dataset]) -> float:
    first, second = by_position(images)[:2]
    gap = float(second.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    return float(first.PixelSpacing[0]) * float(first.PixelSpacing[1]) * gap / 1000


def threshold_body(images: list[Dataset]) -> NDArray[np.bool_]:
    stack = [
        image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in by_position(images)
    ]
    tissue = np.stack(stack) > -300
    # Parts the couch from the patient.
    opened = ndimage.binary_opening(tissue, np.ones((1, 3, 3)), iterations=2)
    pieces, _ = ndimage.label(opened)
    largest = np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    grown = ndimage.binary_dilation(pieces == largest, np.ones((1, 3, 3)), iterations=2) & tissue
    return np.stack([ndimage.binary_fill_holes(plane) for plane in grown])


def segment(journey: Journey, name: str) -> NDArray[np.bool_]:
    """Read one segment from the SEG's frames by the image that each names, ordered from feet to head."""
    order = {str(image.SOPInstanceUID): index for index, image in enumerate(by_position(journey.images))}
    labels = {str(item.SegmentLabel): int(item.SegmentNumber) for item in journey.seg.SegmentSequence}
    frames = journey.seg.pixel_array
    mask = np.zeros((len(order), journey.seg.Rows, journey.seg.Columns), dtype=np.bool_)
    for frame, groups in zip(frames, journey.seg.PerFrameFunctionalGroupsSequence, strict=True):
        if int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber) == labels[name]:
            source = groups.DerivationImageSequence[0].SourceImageSequence[0]
            mask[order[str(source.ReferencedSOPInstanceUID)]] = frame > 0
    return mask


def read_nrrd(path: Path) -> NDArray[np.bool_]:
    """Read a mask as plastimatch writes it: z, y, x, possibly gzipped."""
    content = path.read_bytes()
    head, raw = content.split(b"\n\n", 1)
    fields = dict(re.findall(r"^(\w[\w ]*): (.*)$", head.decode(), flags=re.MULTILINE))
    if fields["encoding"] in ("gzip", "gz"):
        raw = gzip.decompress(raw)
    columns, rows, slices = (int(size) for size in fields["sizes"].split())
    assert fields["type"] in ("uchar", "unsigned char", "uint8")
    return np.frombuffer(raw, dtype=np.uint8).reshape(slices, rows, columns) > 0
