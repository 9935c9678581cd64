"""A synthetic planning CT as real CT Image Storage instances: no person, no licence, any size.

The anatomy is drawn analytically (``anatomy``, ``skeleton``), so that volumes are known without any contouring.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

from node import DISCLAIMER, __version__
from node.demo.anatomy import Anatomy, grow, paint_couch, paint_patient
from node.demo.canvas import Canvas
from node.domain.grid import Grid, Plane, Vector
from node.domain.volume import Volume

# Where the middle of the phantom lies in the scanner: off its origin in every direction, as on a real couch.
MIDDLE_LPS_MM: Vector = (4.3, -162.7, -517.25)
# Height of the topmost slice above the diaphragm, and the middle of the image between breastbone and couch.
TOP_MM = 216.0
MIDDLE_Y_MM = 24.0
# Quantum noise: spread, and the scanner kernel's blur of it in pixels.
NOISE_HU, NOISE_BLUR_PIXELS = 11.0, 0.6
# Unsigned 12 bits with this intercept, as scanners store it: -1024 to 3071 HU.
RESCALE_INTERCEPT = -1024
HIGHEST_STORED = 4095


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How the phantom is scanned. The default is the demonstration's: quick, and with pixels that are not square."""

    slices: int = 90
    rows: int = 224
    columns: int = 256
    # (between rows, between columns)
    pixel_spacing_mm: tuple[float, float] = (1.6, 1.75)
    slice_spacing_mm: float = 3.0
    seed: int = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the drawing itself covers, by the share of each voxel: the measure for any contour of it."""

    body_cm3: float
    bones_cm3: float


@dataclass(frozen=True, kw_only=True)
class PlanningCT:
    """The phantom in memory, slices from feet to head, with what is true of it."""

    volume: Volume
    truth: Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCT:
    """The phantom as files, from feet to head, with what is true of it."""

    files: tuple[Path, ...]
    study_instance_uid: str
    series_instance_uid: str
    truth: Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    stored: NDArray[np.uint16]
    body_share: float
    bone_share: float
    plane: Plane


def planning_ct(scan: Scan) -> PlanningCT:
    """Draw the phantom into memory, with the values and places that its files would hold.

    Returns
    -------
    HU in ``[slice, row, column]``, head first supine: columns run to the patient's left, rows to the back, slices to
    the head.
    """
    exam = _Exam.of(scan, fresh=False)
    voxels = np.empty((scan.slices, scan.rows, scan.columns), dtype=np.float32)
    planes, shares = [], []
    for index, drawn in enumerate(_slices(scan, exam)):
        voxels[index] = drawn.stored.astype(np.float32) + RESCALE_INTERCEPT
        planes.append(drawn.plane)
        shares.append((drawn.body_share, drawn.bone_share))
    grid = Grid(planes=tuple(planes))
    return PlanningCT(volume=Volume(voxels=voxels, grid=grid), truth=_truth(scan, shares))


def write_planning_ct(folder: Path, scan: Scan, *, fresh: bool = False) -> WrittenCT:
    """Draw the phantom slice by slice into CT Image Storage files; holds one slice in memory.

    Parameters
    ----------
    folder
        Made where missing.
    fresh
        Make new UIDs, as a second examination has; otherwise the same scan has the same UIDs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exam = _Exam.of(scan, fresh=fresh)
    files, shares = [], []
    for index, drawn in enumerate(_slices(scan, exam)):
        file = folder / f"CT{index + 1:04d}.dcm"
        _dataset(scan, exam, index, drawn).save_as(file, enforce_file_format=True)
        files.append(file)
        shares.append((drawn.body_share, drawn.bone_share))
    return WrittenCT(
        files=tuple(files),
        study_instance_uid=exam.study_uid,
        series_instance_uid=exam.series_uid,
        truth=_truth(scan, shares),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exam:
    """The examination's UIDs, all derived from one seed text."""

    entropy: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str

    @classmethod
    def of(cls, scan: Scan, *, fresh: bool) -> "_Exam":
        entropy = f"{scan!r} {__version__} {uuid.uuid4() if fresh else ''}"
        return cls(
            entropy=entropy,
            study_uid=generate_uid(entropy_srcs=[entropy, "study"]),
            series_uid=generate_uid(entropy_srcs=[entropy, "series"]),
            frame_of_reference_uid=generate_uid(entropy_srcs=[entropy, "frame of reference"]),
        )

    def instance_uid(self, index: int) -> str:
        return generate_uid(entropy_srcs=[self.entropy, "instance", str(index)])


def _slices(scan: Scan, exam: _Exam) -> Iterator[_Slice]:
    """Draw the slices from feet to head."""
    anatomy = grow(scan.seed)
    for index in range(scan.slices):
        canvas = _canvas(scan, index)
        body = _paint(canvas, anatomy)
        # Noise of its own per slice: the slices may be drawn in any order or alone.
        noise = _noise(canvas.hu.shape, np.random.default_rng([scan.seed, index]))
        stored = np.clip(np.rint(canvas.hu + noise) - RESCALE_INTERCEPT, 0, HIGHEST_STORED).astype(np.uint16)
        yield _Slice(
            stored=stored,
            body_share=float(body.sum()),
            bone_share=float(canvas.bone.sum()),
            plane=_plane(scan, exam, index),
        )


def _canvas(scan: Scan, index: int) -> Canvas:
    between_rows, between_columns = scan.pixel_spacing_mm
    return Canvas(
        x_mm=((np.arange(scan.columns) - (scan.columns - 1) / 2) * between_columns).astype(np.float32),
        y_mm=((np.arange(scan.rows) - (scan.rows - 1) / 2) * between_rows + MIDDLE_Y_MM).astype(np.float32),
        z_mm=TOP_MM - (scan.slices - 1 - index) * scan.slice_spacing_mm,
    )


def _paint(canvas: Canvas, anatomy: Anatomy) -> NDArray[np.float32]:
    paint_couch(canvas)
    return paint_patient(canvas, anatomy)


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    blurred = gaussian_filter(random.standard_normal(shape, dtype=np.float32), NOISE_BLUR_PIXELS)
    return np.asarray(blurred * np.float32(NOISE_HU / blurred.std()), dtype=np.float32)


def _plane(scan: Scan, exam: _Exam, index: int) -> Plane:
    between_rows, between_columns = scan.pixel_spacing_mm
    x, y, z = MIDDLE_LPS_MM
    return Plane(
        sop_instance_uid=exam.instance_uid(index),
        frame_number=None,
        position_lps_mm=(
            round(x - (scan.columns - 1) / 2 * between_columns, 4),
            round(y - (scan.rows - 1) / 2 * between_rows, 4),
            round(z + (index - (scan.slices - 1) / 2) * scan.slice_spacing_mm, 4),
        ),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_spacing_mm=scan.pixel_spacing_mm,
        rows=scan.rows,
        columns=scan.columns,
    )


def _truth(scan: Scan, shares: list[tuple[float, float]]) -> Truth:
    voxel_cm3 = scan.slice_spacing_mm * scan.pixel_spacing_mm[0] * scan.pixel_spacing_mm[1] / 1000
    body, bones = np.sum(shares, axis=0)
    return Truth(body_cm3=float(body) * voxel_cm3, bones_cm3=float(bones) * voxel_cm3)


def _dataset(scan: Scan, exam: _Exam, index: int, drawn: _Slice) -> Dataset:
    """Make one CT Image Storage instance, PS3.3 A.3."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(drawn.plane.sop_instance_uid)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = UID(drawn.plane.sop_instance_uid)
    _describe_exam(dataset, exam)
    _describe_plane(dataset, scan, index, drawn.plane)
    _describe_pixels(dataset, drawn.stored)
    return dataset


def _describe_exam(dataset: Dataset, exam: _Exam) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Phantom^Planning"
    dataset.PatientID = "DEMO"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.PatientComments = f"Synthetic phantom, no person. {DISCLAIMER}"
    dataset.StudyInstanceUID = exam.study_uid
    dataset.StudyID = "1"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260105"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "093000"
    dataset.StudyDescription = "Synthetic planning CT"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = exam.series_uid
    dataset.SeriesNumber = 2
    dataset.SeriesDescription = "Thorax and abdomen, phantom"
    dataset.BodyPartExamined = "CHESTABDOMEN"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = exam.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "Delineate"
    dataset.ManufacturerModelName = "Phantom"
    dataset.SoftwareVersions = __version__


def _describe_plane(dataset: Dataset, scan: Scan, index: int, plane: Plane) -> None:
    # Numbered from the head as scanners do, so that the order of numbers is not the order of positions.
    dataset.InstanceNumber = scan.slices - index
    dataset.ImagePositionPatient = list(plane.position_lps_mm)
    dataset.ImageOrientationPatient = list(plane.orientation)
    dataset.PixelSpacing = list(plane.pixel_spacing_mm)
    dataset.SliceThickness = scan.slice_spacing_mm
    dataset.SliceLocation = plane.position_lps_mm[2]


def _describe_pixels(dataset: Dataset, stored: NDArray[np.uint16]) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.AcquisitionNumber = 1
    dataset.KVP = 120
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = RESCALE_INTERCEPT, 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.PixelData = stored.astype("<u2").tobytes()
