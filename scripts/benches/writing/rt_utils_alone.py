"""Write an RT Structure Set as rt-utils' documentation does: python -m writing.rt_utils_alone SCENE FILE.

Runs in an environment of its own, which does not hold this project. Reading the images is not counted, as ours has
its headers in memory, too.
"""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
from rt_utils import RTStructBuilder

from writing.measured import Meter


def main(scene: Path, path: Path) -> None:
    """From the label map in memory to an RT Structure Set on disk; nothing is checked."""
    labels = np.load(scene / "labels.npy")
    structures = int(labels.max())
    result = RTStructBuilder.create_new(dicom_series_path=str(scene / "ct"))
    meter = Meter()
    for value in range(1, structures + 1):
        # It wants [row, column, slice]; a view costs it nothing.
        mask = np.moveaxis(labels == value, 0, -1)
        result.add_roi(mask=mask, name=f"Structure_{value:03d}")
    # It tells where it writes to.
    with contextlib.redirect_stdout(io.StringIO()):
        result.save(str(path))
    meter.end("object")
    meter.tell()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
