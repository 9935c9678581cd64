"""Synthetic series whose every figure is chosen: grids, label maps, CT datasets and their manifests.

The defaults are made to hurt: rows != columns, PixelSpacing 1.5\\0.8, an origin off zero, so that a swapped axis or
spacing shows. Everything is deterministic: the same call gives the same UIDs and bytes.

>>> stack = grid(slices=5, orientation="oblique")
>>> datasets = ct_series(stack, voxels=hu)        # single-frame CT, one complete dataset with file_meta each
>>> enhanced = enhanced_ct(stack, voxels=hu)      # the same stack as one multi-frame instance
>>> manifest = manifest_of(datasets)              # ordered along the normal, whatever order the datasets come in
"""

import hashlib
import io
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from node.domain.grid import Cosines, Grid, Plane, Vector, ordered_along_normal
from node.domain.series import SeriesManifest
from node.domain.structures import Code, Provenance, StructureDefinition
from node.domain.volume import LabelMap

Orientation = Literal["axial", "prone", "feet_first", "decubitus_left", "sagittal", "coronal", "oblique"]

# Image Orientation (Patient) by name. The oblique one is axial turned 20° about x, then 30° about z.
ORIENTATIONS: dict[Orientation, Cosines] = {
    "axial": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "feet_first": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "decubitus_left": (0.0, -1.0, 0.0, 1.0, 0.0, 0.0),
    "sagittal": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "oblique": (0.866025, 0.5, 0.0, -0.469846, 0.813798, 0.342020),
}

# Patient Position (PS3.3 C.7.3.1.1.2) that goes with each.
PATIENT_POSITIONS: dict[Orientation, str] = {"prone": "HFP", "feet_first": "FFS", "decubitus_left": "HFDL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who and what a built series belongs to. ``series`` and ``study`` are seeds of UIDs, any text."""

    patient_name: str = "Doe^Jane"
    patient_id: str = "P-0001"
    specific_character_set: str | list[str] = "ISO_IR 100"
    study: str = "study"
    frame_of_reference: str = "frame of reference"


JANE = Identity()
JAPANESE = Identity(
    patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう", specific_character_set=["", "ISO 2022 IR 87"], study="japanese"
)
GERMAN = Identity(patient_name="Müller^Jörg", specific_character_set="ISO_IR 100", study="german")
GREEK = Identity(patient_name="Διονύσιος^Ζωή", specific_character_set="ISO_IR 192", study="greek")


def uid(*seeds: str) -> str:
    """Give the UID that stands for these seeds (PS3.5 B.2: 2.25 and a UUID)."""
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256('/'.join(seeds).encode()).digest()[:16], version=4).int}"


def plane(
    *,
    position_lps_mm: Vector = (-31.5, -22.25, 105.0),
    orientation: Orientation | Cosines = "axial",
    pixel_spacing_mm: tuple[float, float] = (1.5, 0.8),
    rows: int = 24,
    columns: int = 40,
    sop_instance_uid: str = "2.25.1",
    frame_number: int | None = None,
) -> Plane:
    """Build one plane."""
    cosines = ORIENTATIONS[orientation] if isinstance(orientation, str) else orientation
    return Plane(
        sop_instance_uid=sop_instance_uid,
        frame_number=frame_number,
        position_lps_mm=position_lps_mm,
        orientation=cosines,
        pixel_spacing_mm=pixel_spacing_mm,
        rows=rows,
        columns=columns,
    )


def grid(
    *,
    slices: int = 6,
    rows: int = 24,
    columns: int = 40,
    orientation: Orientation | Cosines = "axial",
    origin_lps_mm: Vector = (-31.5, -22.25, 105.0),
    spacing_mm: tuple[float, float, float] = (3.0, 1.5, 0.8),
    tilt_mm: float = 0.0,
    series: str = "series",
) -> Grid:
    """Build a stack of planes along the normal.

    Parameters
    ----------
    spacing_mm
        (between slices, between rows, between columns). Negative between slices: a descending stack.
    tilt_mm
        Each plane is shifted by this along increasing rows against the one before: a tilted gantry.
    series
        Seed of the UIDs; give two series two names.
    """
    first = plane(orientation=orientation)
    step = spacing_mm[0] * first.normal + tilt_mm * np.array(first.orientation[3:])
    positions = np.array(origin_lps_mm) + np.outer(np.arange(slices), step)
    return Grid(
        planes=tuple(
            plane(
                position_lps_mm=as_vector(np.round(position, 6)),
                orientation=orientation,
                pixel_spacing_mm=spacing_mm[1:],
                rows=rows,
                columns=columns,
                sop_instance_uid=uid(series, "instance", str(index)),
            )
            for index, position in enumerate(positions)
        )
    )


def as_vector(values: Iterable[float]) -> Vector:
    """Give three numbers as plain floats."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def ball_and_box(stack: Grid) -> LabelMap:
    """Build a label map with three lopsided shapes: a ball (1) with a core (2) off its centre, and a box (3).

    No shape is its own mirror image along any axis, so a flip shows. Fits grids of at least 4 × 16 × 24.
    """
    slices, rows, columns = stack.shape
    index_s, index_r, index_c = np.ogrid[:slices, :rows, :columns]
    labels = np.zeros(stack.shape, dtype=np.uint8)
    middle = (slices / 2 - 0.3, rows * 0.45, columns * 0.4)
    radius = (slices * 0.4, rows * 0.33, columns * 0.3)
    away = (
        ((index_s - middle[0]) / radius[0]) ** 2
        + ((index_r - middle[1]) / radius[1]) ** 2
        + ((index_c - middle[2]) / radius[2]) ** 2
    )
    labels[away <= 1] = 1
    core = (
        (np.abs(index_s - middle[0]) <= 1)
        & (np.abs(index_r - middle[1] - 1) <= 2)
        & (np.abs(index_c - middle[2] + 2) <= 3)
    )
    labels[core] = 2
    labels[1 : slices // 2 + 1, rows - 5 : rows - 1, columns - 9 : columns - 2] = 3
    return LabelMap(labels=labels, grid=stack)


def definition(
    name: str, *label_values: int, interpreted_type: Literal["EXTERNAL", "ORGAN"] = "ORGAN"
) -> StructureDefinition:
    """Build a structure definition with the codes of the liver; the outline of the body for EXTERNAL."""
    external = interpreted_type == "EXTERNAL"
    anatomy = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")
    outline = Code(value="130047", scheme="DCM", meaning="External Body Model")
    return StructureDefinition(
        name=name,
        label_values=label_values,
        colour_rgb=(200, 40 * (label_values[0] % 6), 90),
        category=outline if external else anatomy,
        type=Code(value="130067", scheme="DCM", meaning="Patient Anatomy Model")
        if external
        else Code(value="10200004", scheme="SCT", meaning="Liver"),
        modifier=None if external else Code(value="7771000", scheme="SCT", meaning="Left"),
        interpreted_type=interpreted_type,
    )


def provenance(*, run_number: int = 1, model_digest: str = "0123456789abcdef" * 4) -> Provenance:
    """Build how a result came about; the job was made on 2023-11-14 at 22:13:20 UTC."""
    return Provenance(
        model_name="torso-organs",
        model_title="Torso organs",
        model_version="1.2.0",
        model_digest=model_digest,
        run_number=run_number,
        computed_by="CPUExecutionProvider, float32, onnxruntime 1.31.1",
        created_at=1_700_000_000.0,
        software_version="0.1.0",
    )


def ct_series(
    stack: Grid,
    *,
    voxels: NDArray[np.integer] | None = None,
    identity: Identity = JANE,
    series: str = "series",
    modality: Literal["CT", "MR"] = "CT",
    patient_position: str = "HFS",
) -> list[Dataset]:
    """Build one single-frame instance per plane, in the order of the planes.

    Complete CT Image Storage (MR Image Storage for ``modality="MR"``) datasets, ready for ``save_as`` and C-STORE:
    ``file_meta`` with Explicit VR Little Endian, pixel data 16 bit, Rescale Intercept -1024 (CT only).

    Parameters
    ----------
    voxels
        Scanner values, HU for CT, ``[slice, row, column]``; a slope along all three axes by default.
    series
        Seed of the Series Instance UID. The SOP Instance UIDs are those of the planes.
    """
    values = default_voxels(stack) if voxels is None else voxels
    datasets = []
    for index, image_plane in enumerate(stack.planes):
        dataset = common_attributes(identity, series, modality, patient_position)
        add_plane(dataset, image_plane)
        dataset.InstanceNumber = index + 1
        dataset.SliceThickness = f"{abs(stack.slice_spacing_mm) or 1.0:g}"
        dataset.AcquisitionNumber = 1
        (add_mr_image if modality == "MR" else add_ct_image)(dataset)
        add_pixels(dataset, values[index], 0 if modality == "MR" else -1024)
        sop_class = MRImageStorage if modality == "MR" else CTImageStorage
        datasets.append(with_file_meta(dataset, sop_class, image_plane.sop_instance_uid))
    return datasets


def enhanced_ct(stack: Grid, *, voxels: NDArray[np.integer] | None = None, identity: Identity = JANE) -> Dataset:
    """Build one Enhanced CT Image Storage instance with a frame for each plane, in the order of the planes.

    Geometry, identity and pixels are complete; the macros on how the scan was acquired are left out.
    """
    values = default_voxels(stack) if voxels is None else voxels
    dataset = common_attributes(identity, "enhanced", "CT", "HFS")
    dataset.InstanceNumber = 1
    dataset.ContentDate, dataset.ContentTime = "20240229", "101500"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(stack.planes)
    dataset.SharedFunctionalGroupsSequence = [shared_groups(stack)]
    dataset.PerFrameFunctionalGroupsSequence = [
        frame_groups(image_plane, number) for number, image_plane in enumerate(stack.planes, start=1)
    ]
    add_pixels(dataset, values, -1024)
    del dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType
    return with_file_meta(dataset, EnhancedCTImageStorage, uid("enhanced", "instance"))


def manifest_of(datasets: Sequence[Dataset]) -> SeriesManifest:
    """Build the manifest of whole datasets: planes ordered along the normal, one file name per instance."""
    planes = ordered_along_normal([found for dataset in datasets for found in planes_of(dataset)])
    first = datasets[0]
    digests = sorted(f"{one.SOPInstanceUID} {hashlib.sha256(one.PixelData).hexdigest()}" for one in datasets)
    return SeriesManifest(
        series_instance_uid=str(first.SeriesInstanceUID),
        study_instance_uid=str(first.StudyInstanceUID),
        frame_of_reference_uid=str(first.FrameOfReferenceUID),
        modality=str(first.Modality),
        sop_class_uid=str(first.SOPClassUID),
        grid=Grid(planes=planes),
        files={str(one.SOPInstanceUID): f"{one.SOPInstanceUID}.dcm" for one in datasets},
        left_out=(),
        fingerprint=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    )


def write_and_read(dataset: Dataset) -> Dataset:
    """Give what a receiver would see: the dataset written to bytes and read again."""
    return dcmread(io.BytesIO(written(dataset)))


def written(dataset: Dataset) -> bytes:
    """Give the bytes of the Part 10 file of a dataset with ``file_meta``."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def save_series(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write each dataset to ``<SOP Instance UID>.dcm`` in the folder, made if need be; gives the paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{dataset.SOPInstanceUID}.dcm" for dataset in datasets]
    for dataset, path in zip(datasets, paths, strict=True):
        path.write_bytes(written(dataset))
    return paths


def default_voxels(stack: Grid) -> NDArray[np.int16]:
    """Build HU that rise along all three axes at different rates."""
    index_s, index_r, index_c = np.indices(stack.shape)
    return np.asarray(-1000 + 37 * index_s + 11 * index_r + 3 * index_c, dtype=np.int16)


def common_attributes(identity: Identity, series: str, modality: str, patient_position: str) -> Dataset:
    """Build Patient, General Study, General Series, Frame of Reference and General Equipment."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = identity.specific_character_set
    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "F"
    dataset.StudyInstanceUID = uid(identity.study, "study")
    dataset.StudyDate, dataset.StudyTime = "20240229", "101112.5"
    dataset.StudyID = "42"
    dataset.AccessionNumber = "A-4711"
    dataset.ReferringPhysicianName = "Roe^Richard"
    dataset.SeriesInstanceUID = uid(series, "series")
    dataset.SeriesNumber = 3
    dataset.SeriesDate, dataset.SeriesTime = "20240229", "101300"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240229", "101400"
    dataset.SeriesDescription = "Abdomen 3.0"
    dataset.Modality = modality
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.PatientPosition = patient_position
    dataset.FrameOfReferenceUID = uid(identity.frame_of_reference, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "Builder"
    dataset.ManufacturerModelName = "Model 1"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    return dataset


def add_plane(dataset: Dataset, image_plane: Plane) -> None:
    """Add the Image Plane attributes."""
    dataset.ImagePositionPatient = [f"{value:.10g}" for value in image_plane.position_lps_mm]
    dataset.ImageOrientationPatient = [f"{value:.10g}" for value in image_plane.orientation]
    dataset.PixelSpacing = [f"{value:.10g}" for value in image_plane.pixel_spacing_mm]


def add_ct_image(dataset: Dataset) -> None:
    """Add what CT Image asks for besides pixels."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.KVP = "120"


def add_mr_image(dataset: Dataset) -> None:
    """Add what MR Image asks for besides pixels."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence = "SE"
    dataset.SequenceVariant = "NONE"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime = "500"
    dataset.EchoTime = "12"
    dataset.EchoTrainLength = 1


def add_pixels(dataset: Dataset, values: NDArray[np.integer], intercept: int) -> None:
    """Add 16 bit pixels that give the values after the rescale."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    if intercept:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(intercept), "1", "HU"
    dataset.PixelData = (values.astype(np.int32) - intercept).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def shared_groups(stack: Grid) -> Dataset:
    """Build the functional groups that hold for all frames."""
    measures, orientation, transformation, groups = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{value:.10g}" for value in stack.pixel_spacing_mm]
    measures.SliceThickness = f"{stack.slice_spacing_mm or 1.0:g}"
    orientation.ImageOrientationPatient = [f"{value:.10g}" for value in stack.planes[0].orientation]
    transformation.RescaleIntercept, transformation.RescaleSlope, transformation.RescaleType = "-1024", "1", "HU"
    groups.PixelMeasuresSequence = [measures]
    groups.PlaneOrientationSequence = [orientation]
    groups.PixelValueTransformationSequence = [transformation]
    return groups


def frame_groups(image_plane: Plane, number: int) -> Dataset:
    """Build the functional groups of one frame."""
    content, position, groups = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", number
    position.ImagePositionPatient = [f"{value:.10g}" for value in image_plane.position_lps_mm]
    groups.FrameContentSequence = [content]
    groups.PlanePositionSequence = [position]
    return groups


def with_file_meta(dataset: Dataset, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Add SOP Common and the File Meta Information."""
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_instance_uid
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset.file_meta = meta
    return dataset


def planes_of(dataset: Dataset) -> list[Plane]:
    """Read the planes of a built dataset; an independent, simple reading for tests."""
    if "NumberOfFrames" not in dataset:
        return [read_plane(dataset, dataset, dataset, dataset, None)]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation, measures = shared.PlaneOrientationSequence[0], shared.PixelMeasuresSequence[0]
    return [
        read_plane(dataset, groups.PlanePositionSequence[0], orientation, measures, number)
        for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1)
    ]


def read_plane(
    dataset: Dataset, position: Dataset, orientation: Dataset, measures: Dataset, frame_number: int | None
) -> Plane:
    """Read one plane from the datasets that hold its parts."""
    row_x, row_y, row_z, column_x, column_y, column_z = (float(one) for one in orientation.ImageOrientationPatient)
    between_rows, between_columns = (float(one) for one in measures.PixelSpacing)
    return Plane(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        frame_number=frame_number,
        position_lps_mm=as_vector(position.ImagePositionPatient),
        orientation=(row_x, row_y, row_z, column_x, column_y, column_z),
        pixel_spacing_mm=(between_rows, between_columns),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
    )
