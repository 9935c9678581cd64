"""What the checks of written results share: images by reference, masks by name, faults as errors.

Shares no code with the writers except the rule of which pixels a polygon holds and the naming of structures.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from node.dicom import UNREADABLE
from node.domain.errors import VerificationError
from node.domain.grid import Grid

# How far a point may lie off the plane of the image it names.
OFF_PLANE_MM = 0.01

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
