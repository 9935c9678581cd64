"""What inference needs of a network's runtime, without knowing it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from node.domain.volume import Box
from node.inference.normalisation import Scale
from node.inference.resampling import Operator, Three

# Called with (what is being done, steps done, steps in all).
Progress = Callable[[str, int, int], None]

# An array where the network runs. Nobody but its runtime looks into it.
Tensor = Any

# Of an axis: from where to where each reaches.
Segments = tuple[tuple[int, int], ...]

# Along the first, second and third axis; None where nothing changes.
Operators = tuple[Operator | None, Operator | None, Operator | None]


def no_progress(_doing: str, _done: int, _of: int) -> None:
    """Ignore progress."""


class Predictor(Protocol):
    """A loaded network that takes the whole volume or some of its slices."""

    @property
    def computed_by(self) -> str:
        """Say where it really runs: provider, precision and version of the runtime, as measured from the session."""
        ...

    def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on ``(1, channels, slice, row, column)``; gives ``(1, classes, slice, row, column)``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a runtime has and what its networks take, in bytes."""

    # Free memory of the machine.
    host: int
    # Free memory of the accelerator; None where the network runs in the machine's own.
    device: int | None
    # What a network holds at most at a time while it computes a patch, its weights and its answer included.
    network: int
    # Values that one step of labelling works on: as many as a cache holds, or as keep an accelerator busy.
    label_values: int


@dataclass(frozen=True, slots=True, eq=False)
class Contested:
    """The labels of a box, and the scores where more than one class comes near the highest."""

    # The class of each voxel; shape of the box.
    labels: NDArray[np.uint16]
    # At least those where others come near, by their place among all.
    voxels: NDArray[np.intp]
    # At least those that come near somewhere, in order.
    classes: NDArray[np.intp]
    # Interpolated, ``[class, voxel]``.
    scores: NDArray[np.float32]


@runtime_checkable
class WindowRuntime(Protocol):
    """A loaded network, or its folds, that looks through a window; it holds arrays and computes with them."""

    @property
    def computed_by(self) -> str:
        """Say where it really runs: provider, precision and version of the runtime, as measured from the session."""
        ...

    @property
    def folds(self) -> int:
        """Count the networks."""
        ...

    def room(self) -> Room:
        """Find out what memory there is."""
        ...

    def planes(
        self,
        values: NDArray[np.float32],
        scale: Scale,
        mask: NDArray[np.bool_] | None,
        within: tuple[Operator | None, Operator | None],
        clipped: bool,
    ) -> Tensor:
        """Normalise planes ``[n, row, column]`` and resample each by a matrix for its rows and one for its columns.

        Parameters
        ----------
        mask
            Shape of the values: where it is False a value becomes 0.
        clipped
            Hold each plane within its values before resampling.
        """
        ...

    def channel(
        self,
        planes: Sequence[Tensor],
        across: Operator | None,
        limits: tuple[float, float] | None,
        order: Three,
        padding: tuple[tuple[int, int], ...],
    ) -> Tensor:
        """Join planes, resample across them, clip, transpose by ``order``, pad with zeros: ``[1, 1, z, y, x]``."""
        ...

    def volume(self, channels: Sequence[Tensor]) -> Tensor:
        """Join channels: ``[1, channel, z, y, x]``."""
        ...

    def scores(self, fold: int, volume: Tensor, start: Three, mirrored: Sequence[int]) -> Tensor:
        """Run a network on a patch, mirrored and back; valid until the next call."""
        ...

    def held(self, array: NDArray[np.float32]) -> Tensor:
        """Keep an array where the network runs."""
        ...

    def sums(self, segments: tuple[Segments, Segments, Segments]) -> Tensor:
        """Begin sums of weighted scores over all patches; along each axis a patch covers a segment whole or not."""
        ...

    def add(self, sums: Tensor, scores: Tensor, weights: Tensor, start: Three) -> None:
        """Add the weighted scores of a patch."""
        ...

    def slab(
        self, before: tuple[Tensor, int] | None, sums: Tensor, slices: slice, weights: NDArray[np.float32]
    ) -> Tensor:
        """Take slices of one segment out of sums and divide by the sum of weights: ``[classes, z, y, x]``.

        Parameters
        ----------
        before
            The slab before and the slice from which on it is put in front; it is given up.
        slices
            That follow those before; no patch is added to them later.

        Raises
        ------
        SetupError
            A score is no finite number.
        """
        ...

    def labels(self, slab: Tensor, box: Box, operators: Operators, regions: bool) -> NDArray[np.uint16]:
        """Interpolate scores of a box linearly and give each voxel its class.

        Returns
        -------
        The number of the class with the highest score, the first of a tie; with regions 1 more than the number of the
        last class whose score is above 0, and 0 where none is.
        """
        ...

    def contested(self, slab: Tensor, box: Box, operators: Operators, within: float) -> Contested:
        """Interpolate scores of a box linearly, and give those of classes within a distance of the highest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfFirst:
    """A network in float16 and, for a volume with scores that float16 cannot hold, the same network in float32."""

    half: Predictor | WindowRuntime
    # Opened when it is first needed.
    exact: Callable[[], Predictor | WindowRuntime]

    @property
    def computed_by(self) -> str:
        """Say where the network in float16 runs."""
        return self.half.computed_by


OpenedNetwork = Predictor | WindowRuntime | HalfFirst


@dataclass(frozen=True, slots=True)
class Predictors:
    """What the networks of a package were opened as, in the order of `node.inference.package.ModelPackage.networks`."""

    networks: tuple[OpenedNetwork, ...]

    @property
    def computed_by(self) -> str:
        """Say where they really run; networks that run alike are named once."""
        return "; ".join(dict.fromkeys(each.computed_by for each in self.networks))


# What is opened for a package.
Opened = OpenedNetwork | Predictors


def networks_of(opened: Opened) -> tuple[OpenedNetwork, ...]:
    """Give what each network of a package was opened as."""
    return opened.networks if isinstance(opened, Predictors) else (opened,)
