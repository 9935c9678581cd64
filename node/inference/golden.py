"""What a package says of its origin, and how it proves itself: ``[provenance]``, ``[[parity]]`` and ``[golden]``.

The golden test is a small scan beside the manifest with the labels that the model gives it. Whoever installs the
package runs it again: the same labels prove that files, manifest, software and machine work together as they did where
the package was made. It says nothing of how good the model is.

The scan is a stack of axial slices, feet first in memory and the patient on the back (LPS), without any identity: two
arrays in NumPy's ``.npz``, ``values`` and ``labels``.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import SetupError
from node.domain.grid import Grid, Plane
from node.domain.volume import Volume
from node.inference.tables import Table, keys

Labels = NDArray[np.uint8] | NDArray[np.uint16]

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REMEDY = "Make the package's golden test again, from the model's source."


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that the package was made from, and that is not in it: one of ``[[provenance.files]]``."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a package comes from: ``[provenance]``."""

    # What it was made from, e.g. "results folder of nnU-Net, Dataset012_Liver, 3d_fullres, folds 0 to 4".
    source: str
    # Programs that made it, with their versions.
    made_by: str
    # ISO 8601, "2026-11-20".
    made_on: str
    files: tuple[SourceFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How near the package is to the program that it was made from, measured once: one of ``[[parity]]``."""

    # What it was compared with, with versions.
    compared_with: str
    # Where the package ran, as results state it.
    computed_by: str
    voxels: int
    differing_voxels: int
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The golden test: ``[golden]``."""

    file: str
    sha256: str
    # Between slices, rows and columns.
    spacing_mm: tuple[float, float, float]
    # So many voxels may have another label than the file says.
    differing_voxels: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenScan:
    """A golden test's file."""

    # One for each channel.
    volumes: tuple[Volume, ...]
    # Shape of each of the volumes.
    labels: Labels


def read_origin(table: Table) -> Origin:
    """Read ``[provenance]``.

    Raises
    ------
    SetupError
        A key is unknown or missing, or no day or SHA-256 where there must be one.
    """
    return Origin(
        source=table.text("source"),
        made_by=table.text("made_by"),
        made_on=table.match("made_on", _DAY, "a day, YYYY-MM-DD"),
        files=tuple(
            SourceFile(file=each.text("file"), sha256=_sha256(each)) for each in table.tables("files", keys(SourceFile))
        ),
    )


def read_parity(table: Table) -> Parity:
    """Read one of ``[[parity]]``.

    Raises
    ------
    SetupError
        A key is unknown or missing, or a count is impossible.
    """
    parity = Parity(
        compared_with=table.text("compared_with"),
        computed_by=table.text("computed_by"),
        voxels=table.integer("voxels"),
        differing_voxels=table.integer("differing_voxels"),
        remark=table.text("remark") if "remark" in table else "",
    )
    if not 0 <= parity.differing_voxels <= parity.voxels:
        raise table.wrong("differing_voxels", "must be between 0 and voxels")
    return parity


def read_golden(table: Table) -> Golden:
    """Read ``[golden]``.

    Raises
    ------
    SetupError
        A key is unknown, missing or out of range, or the name is none of a file in the package's folder.
    """
    spacing = table.numbers("spacing_mm", 3)
    if min(spacing) <= 0:
        raise table.wrong("spacing_mm", "must be above 0")
    allowed = table.integer("differing_voxels") if "differing_voxels" in table else 0
    if allowed < 0:
        raise table.wrong("differing_voxels", "must be 0 or more")
    return Golden(
        file=table.match("file", FILE_NAME, "a plain file name in the package's folder"),
        sha256=_sha256(table),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        differing_voxels=allowed,
    )


def golden_file(values: NDArray[np.int16] | NDArray[np.float32], labels: Labels) -> bytes:
    """Write a golden test's file; the same arrays give the same bytes.

    Parameters
    ----------
    values
        Scanner values, ``[channel, slice, row, column]``.
    labels
        What the model gives them, ``[slice, row, column]``.
    """
    file = io.BytesIO()
    # Stored, not deflated: what deflating gives depends on the library.
    np.savez(file, values=values, labels=labels)
    return file.getvalue()


def golden_scan(file: bytes, golden: Golden) -> GoldenScan:
    """Read a golden test's file.

    Raises
    ------
    SetupError
        It is none, or holds something else too.
    """
    try:
        with np.load(io.BytesIO(file), allow_pickle=False) as arrays:
            if sorted(arrays) != ["labels", "values"]:
                raise SetupError(f"{golden.file} must hold `values` and `labels` and nothing else.", _REMEDY)
            values, labels = arrays["values"], arrays["labels"]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SetupError(f"{golden.file} is no golden test: {error}.", _REMEDY) from error
    right = values.ndim == 4 and values.shape[1:] == labels.shape and labels.dtype in (np.uint8, np.uint16)
    if not right or values.dtype not in (np.int16, np.float32) or not labels.any():
        raise SetupError(
            f"{golden.file} must hold int16 or float32 values [channel, slice, row, column] and uint8 or uint16 "
            f"labels [slice, row, column], some of them not 0; it holds {values.dtype} {list(values.shape)} and "
            f"{labels.dtype} {list(labels.shape)}.",
            _REMEDY,
        )
    grid = axial_grid(labels.shape, golden.spacing_mm)
    return GoldenScan(
        volumes=tuple(Volume(voxels=each.astype(np.float32), grid=grid) for each in values), labels=labels
    )


def axial_grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
    """Make the grid of axial slices, from feet to head, the patient on the back."""
    slices, rows, columns = shape
    return Grid(
        planes=tuple(
            Plane(
                sop_instance_uid=f"2.25.{number + 1}",
                frame_number=None,
                position_lps_mm=(0.0, 0.0, number * spacing_mm[0]),
                orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                pixel_spacing_mm=spacing_mm[1:],
                rows=rows,
                columns=columns,
            )
            for number in range(slices)
        )
    )


def refuse_other_labels(found: Labels, scan: GoldenScan, golden: Golden) -> str:
    """Compare what the model gives with what it gave; says how many voxels differ.

    Raises
    ------
    SetupError
        More differ than the manifest allows.
    """
    differing = int(np.count_nonzero(found != scan.labels))
    said = f"{differing} of {found.size} voxels have another label than in {golden.file}"
    if differing > golden.differing_voxels:
        where = "; ".join(_differences(found, scan.labels))
        raise SetupError(
            f"{said}; {golden.differing_voxels} may. Voxels found and expected: {where}.",
            "Do not use it. Copy the model package again from its source, or import it again; if it stays so, this "
            "machine computes otherwise than the one that the package was made on.",
        )
    return said


def _differences(found: Labels, expected: Labels) -> Iterator[str]:
    differ = found != expected
    values = np.unique(np.concatenate([found[differ], expected[differ]]))
    for value in values[:5]:
        yield f"label {value} {np.count_nonzero(found == value)} and {np.count_nonzero(expected == value)}"
    if len(values) > 5:
        yield f"and {len(values) - 5} labels more"


def _sha256(table: Table) -> str:
    return table.match("sha256", SHA256, "64 lower-case hexadecimal digits")
