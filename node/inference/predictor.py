"""What inference needs of a network's runtime, without knowing it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Called with (what is being done, steps done, steps in all).
Progress = Callable[[str, int, int], None]


def no_progress(_doing: str, _done: int, _of: int) -> None:
    """Ignore progress."""


class Predictor(Protocol):
    """A loaded network."""

    @property
    def computed_by(self) -> str:
        """Say where it really runs: provider, precision and version of the runtime, as measured from the session."""
        ...

    def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on ``(1, channels, slice, row, column)``; gives ``(1, classes, slice, row, column)``."""
        ...
