"""Structures: what was contoured, in patient coordinates."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

InterpretedType = Literal["EXTERNAL", "ORGAN", "AVOIDANCE", "SUPPORT", "CTV", "GTV", "PTV", "CONTROL", "CAVITY", ""]
# How a structure's holes are written (PS3.3 C.8.8.6.3): joined to their outline by a channel of no width, or as
# contours of their own that exclude where they overlap.
HoleEncoding = Literal["keyhole", "xor"]
GeometricType = Literal["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded concept: Code Value, Coding Scheme Designator, Code Meaning (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureDefinition:
    """One structure that a model package can yield.

    ``label_values`` are the values of the label map that make it up, so structures may contain each other: the
    body's outline holds the bones.
    """

    name: str
    label_values: tuple[int, ...]
    colour_rgb: tuple[int, int, int]
    category: Code
    type: Code
    # Laterality or other modifier of the type.
    modifier: Code | None
    interpreted_type: InterpretedType
    # No scan of one region holds it whole: that the end of the scan cuts it is nothing to tell.
    always_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How contours are drawn for a receiver."""

    holes: HoleEncoding = "keyhole"
    # Decimals of coordinates in mm; None: as many as the grid asks for.
    decimals: int | None = None
    # No contour has fewer points.
    minimum_points: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contour:
    """One closed polygon on one plane of the source grid, patient LPS mm, shape (n, 3), n >= 3, first not repeated."""

    slice_index: int
    points_lps_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """A structure with its contours and its volume by voxel count."""

    definition: StructureDefinition
    # All of one geometric type: CLOSEDPLANAR_XOR where holes are contours of their own, which exclude.
    contours: tuple[Contour, ...]
    geometric_type: GeometricType = "CLOSED_PLANAR"
    volume_cm3: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Omitted:
    """A structure of the model that is not in the result, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureSet:
    """All structures of one result."""

    structures: tuple[Structure, ...]
    omitted: tuple[Omitted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelImage:
    """One of the images that a model took."""

    # As the model calls it.
    channel: str
    series_instance_uid: str
    modality: str
    # Of its manifest.
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How a result came about; written into every object, and the source of its UIDs together with the manifest."""

    # Identity of the model package.
    model_name: str
    model_title: str
    model_version: str
    # SHA-256 over the package's manifest and files.
    model_digest: str
    # 1, and one more for each rerun that a person asks for.
    run_number: int
    # Where the network ran, as measured from the session, e.g. "CPUExecutionProvider, float32, onnxruntime 1.31.1".
    computed_by: str
    # When the job was made, seconds since the epoch; pinned with the job so that a repeat makes the same object.
    created_at: float
    # Version of Delineate.
    software_version: str
    # Of a model that takes several images, in its order; the first is of the series that the result refers to.
    channels: tuple[ChannelImage, ...] = ()
