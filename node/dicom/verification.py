"""What the checks of written results share: images by reference, masks by name, faults as errors.

Shares no code with the writers except the rule of which pixels a polygon holds and the naming of structures.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from node.dicom import UNREADABLE
from node.domain.errors import VerificationError
from node.domain.grid import Grid
from node.domain.series import SeriesManifest

# How far a point may lie off the plane of the image it names.
OFF_PLANE_MM = 0.01

# PS3.5 9.1: components without leading zeros. Those of others may have them, and must be named as they are.
_OWN_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")

ANOTHER_GRID = "The label map is on another grid than the series."


@contextmanager
def malformed_is_an_error() -> Iterator[None]:
    """Turn what reading a broken object raises, of whatever kind, into the one verdict that stops it."""
    try:
        yield
    except UNREADABLE as error:
        raise VerificationError(f"The written object is malformed: {type(error).__name__}.") from error


def expect(holds: bool, otherwise: str) -> None:
    """Raise VerificationError with that reason unless the condition holds."""
    if not holds:
        raise VerificationError(otherwise)


def verify_own_uids(own: Sequence[str], manifest: SeriesManifest) -> None:
    """Raise VerificationError unless the UIDs of a result are sound, each another, and none is of what was received."""
    expect(all(_OWN_UID.fullmatch(uid) for uid in own), "A UID is malformed.")
    taken = {manifest.study_instance_uid, manifest.series_instance_uid, manifest.frame_of_reference_uid}
    taken.update(plane.sop_instance_uid for plane in manifest.grid.planes)
    taken.update(left.sop_instance_uid for left in manifest.left_out)
    expect(len({*own} - taken) == len(own), "The result has not UIDs of its own.")


class Images:
    """The images of a grid, by how a result refers to them."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._index = {(plane.sop_instance_uid, plane.frame_number): index for index, plane in enumerate(grid.planes)}

    def index_of(self, sop_instance_uid: str, frame_number: int | None, name: str) -> int:
        """Give which plane of the grid an instance, or a frame of it, is."""
        key = (sop_instance_uid, frame_number)
        expect(key in self._index, f"{name} names an image that is not of the series.")
        return self._index[key]
