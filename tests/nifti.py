"""Read NIfTI-1 volumes in tests: the header fields that the test data use, and nothing more.

Format: nifti1.h (NIMH): dim at byte 40, datatype at 70, pixdim at 76, vox_offset at 108, scl_slope and scl_inter at
112, sform rows at 280. NIfTI's frame is RAS.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Grid
from tests.builders import grid

_DATATYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}


def read_nifti(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """Read an axial volume as an array ``[slice, row, column]`` that runs to left, back and head, with its grid.

    Only volumes whose axes run along the patient's are read; others raise ``ValueError``.
    """
    content = gzip.decompress(path.read_bytes())
    columns, rows, slices = struct.unpack_from("<3h", content, 42)
    (datatype,) = struct.unpack_from("<h", content, 70)
    offset, slope, intercept = struct.unpack_from("<3f", content, 108)
    affine = np.array(struct.unpack_from("<12f", content, 280)).reshape(3, 4)
    directions = affine[:, :3]
    if np.count_nonzero(np.abs(directions) > 1e-4) != 3 or not np.diag(directions).all():
        raise ValueError(f"{path.name} is oblique or not axial")
    values = np.frombuffer(content, _DATATYPES[datatype], slices * rows * columns, int(offset))
    voxels = values.reshape(slices, rows, columns).astype(np.float32) * (slope or 1.0) + intercept
    # RAS to LPS: columns and rows that run to right or front are turned, slices that run to the feet too.
    signs = np.sign(np.diag(directions)) * (-1, -1, 1)
    voxels = voxels[:: int(signs[2]), :: int(signs[1]), :: int(signs[0])]
    spacing = np.abs(np.diag(directions))
    stack = grid(
        slices=slices,
        rows=rows,
        columns=columns,
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
    )
    return np.ascontiguousarray(voxels), stack
