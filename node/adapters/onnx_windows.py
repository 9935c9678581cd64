"""A network with a window in ONNX Runtime, with everything beside it in sessions of the same provider."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.adapters import onnx_graphs
from node.domain.errors import NotFiniteError
from node.domain.volume import Box
from node.inference.normalisation import Scale
from node.inference.package import LoadedPackage
from node.inference.predictor import Contested, Operators, Room, Segments, Tensor
from node.inference.resampling import Operator, Three

# Graphs that work on a part of some megabytes, thousands of times for a volume.
_AGAIN_AND_AGAIN = frozenset({"part", "planes", "box", "labels"})

# Below every index: where a slice with step -1 must end to take the first voxel too.
_BEFORE_ALL = -(2**62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where sessions run, and how one is made there."""

    # "cpu" or "cuda".
    device: str
    device_id: int
    # Makes a session of a model's bytes; one that is called with small arrays again and again keeps their memory.
    open: Callable[[bytes, bool], Any]
    # Makes an array of the runtime of one in the machine's memory.
    send: Callable[[NDArray[Any]], Any]
    # Reserves an array of that shape, float32.
    reserve: Callable[[Sequence[int]], Any]
    # Runs a session that is bound, and says which error is whose turn.
    run: Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums of weighted scores by segment along each axis."""

    segments: tuple[Segments, Segments, Segments]
    parts: dict[Three, Tensor] = field(default_factory=dict)

    def covered(self, start: Three, patch: Sequence[int]) -> Iterator[tuple[Three, Box]]:
        """Give the segments that a patch covers, with where they lie in it."""
        along = [
            [
                (number, slice(first - begin, last - begin))
                for number, (first, last) in enumerate(segments)
                if begin <= first and last <= begin + size
            ]
            for segments, begin, size in zip(self.segments, start, patch, strict=True)
        ]
        for (z, in_z), (y, in_y), (x, in_x) in product(*along):
            yield (z, y, x), (in_z, in_y, in_x)


class OnnxWindows:
    """Folds of a windowed network in sessions; satisfies `node.inference.predictor.WindowRuntime`."""

    def __init__(
        self, networks: Sequence[Any], place: Place, room: Callable[[], Room], computed_by: str, loaded: LoadedPackage
    ) -> None:
        self._networks = networks
        self._place = place
        self._room = room
        self._computed_by = computed_by
        self._name = loaded.package.name
        self._classes = loaded.package.output.classes
        self._sessions: dict[tuple[object, ...], Any] = {}
        # Answers of the network lie in the same memory always.
        self._answer: Any = None

    @property
    def computed_by(self) -> str:
        """Say where the network runs, read from the session, with precision and version of the runtime."""
        return self._computed_by

    @property
    def folds(self) -> int:
        """Count the networks."""
        return len(self._networks)

    def room(self) -> Room:
        """Find out what memory there is."""
        return self._room()

    def planes(
        self,
        values: NDArray[np.float32],
        scale: Scale,
        mask: NDArray[np.bool_] | None,
        within: tuple[Operator | None, Operator | None],
        clipped: bool,
    ) -> Tensor:
        """Normalise planes and resample each."""
        rows, columns = within
        lower, upper = scale.limits or (-np.inf, np.inf)
        feeds: dict[str, Any] = {
            "values": values,
            "lower": np.float32(lower),
            "upper": np.float32(upper),
            "mean": np.float32(scale.mean),
            "deviation": np.float32(scale.deviation),
        }
        if mask is not None:
            feeds["mask"] = mask.astype(np.float32)
        if columns is not None:
            feeds["along_columns"] = np.ascontiguousarray(columns.T)
        if rows is not None:
            feeds["along_rows"] = rows
        kind = (mask is not None, rows is not None, columns is not None, clipped)
        return self._run(("planes", *kind), lambda: onnx_graphs.planes_graph(*kind), feeds, {"planes": None})[0]

    def channel(
        self,
        planes: Sequence[Tensor],
        across: Operator | None,
        limits: tuple[float, float] | None,
        order: Three,
        padding: tuple[tuple[int, int], ...],
    ) -> Tensor:
        """Join planes, resample across them, clip, transpose and pad."""
        feeds: dict[str, Any] = {f"planes_{number}": each for number, each in enumerate(planes)}
        if across is not None:
            feeds["across"] = across
            feeds["shape"] = np.array([across.shape[0], *planes[0].shape()[1:]], dtype=np.int64)
        if limits is not None:
            feeds["least"], feeds["greatest"] = np.float32(limits[0]), np.float32(limits[1])
        befores, afters = zip(*padding, strict=True)
        feeds["pads"] = np.array([*befores, *afters], dtype=np.int64)
        kind = (len(planes), across is not None, limits is not None, order)
        return self._run(("channel", *kind), lambda: onnx_graphs.channel_graph(*kind), feeds, {"channel": None})[0]

    def volume(self, channels: Sequence[Tensor]) -> Tensor:
        """Join channels."""
        if len(channels) == 1:
            return channels[0]
        count = len(channels)
        feeds = {f"channel_{number}": each for number, each in enumerate(channels)}
        return self._run(("volume", count), lambda: onnx_graphs.volume_graph(count), feeds, {"volume": None})[0]

    def scores(self, fold: int, volume: Tensor, start: Three, mirrored: Sequence[int]) -> Tensor:
        """Run a network on a patch, mirrored and back."""
        answer = self._answered(fold, volume, start, mirrored)
        return self._part(answer, (0, 0, 0), answer.shape()[2:], mirrored) if mirrored else answer

    def _answered(self, fold: int, volume: Tensor, start: Three, mirrored: Sequence[int]) -> Tensor:
        network = self._networks[fold]
        given, answered = network.get_inputs()[0], network.get_outputs()[0]
        patch = given.shape[2:]
        if self._answer is None:
            self._answer = self._place.reserve([1, self._classes, *patch])
        part = self._part(volume, start, patch, mirrored)
        self._bound(network, {given.name: part}, {answered.name: self._answer})
        return self._answer

    def held(self, array: NDArray[np.float32]) -> Tensor:
        """Keep an array where the network runs; weights of a patch get the axes of its scores."""
        return self._place.send(np.ascontiguousarray(array)[None, None])

    def sums(self, segments: tuple[Segments, Segments, Segments]) -> Tensor:
        """Begin sums: one for each segment, as a graph changes an array in its place as a whole alone."""
        return _Sums(segments)

    def add(self, sums: Tensor, scores: Tensor, weights: Tensor, start: Three) -> None:
        """Add the weighted scores of a patch."""
        for place, inside in sums.covered(start, weights.shape()[2:]):
            sums.parts[place] = self._added(sums.parts.get(place), scores, weights, inside)

    def _added(self, total: Tensor | None, scores: Tensor, weights: Tensor, inside: Box) -> Tensor:
        feeds: dict[str, Any] = {
            "scores": scores,
            "weights": weights,
            "starts": np.array([each.start for each in inside], dtype=np.int64),
            "ends": np.array([each.stop for each in inside], dtype=np.int64),
        }
        first = total is None
        if not first:
            feeds["total"] = total
        return self._run(("add", first), lambda: onnx_graphs.add_graph(first), feeds, {"sum": total})[0]

    def slab(
        self, before: tuple[Tensor, int] | None, sums: Tensor, slices: slice, weights: NDArray[np.float32]
    ) -> Tensor:
        """Join sums over some of their slices and divide by weights."""
        number, (first, last) = next(
            (number, ends) for number, ends in enumerate(sums.segments[0]) if ends[0] <= slices.start < ends[1]
        )
        rows, columns = (range(len(segments)) for segments in sums.segments[1:])
        feeds: dict[str, Any] = {
            f"total_{row}_{column}": sums.parts[number, row, column] for row, column in product(rows, columns)
        }
        feeds["starts"] = np.array([slices.start - first], dtype=np.int64)
        feeds["ends"] = np.array([slices.stop - first], dtype=np.int64)
        feeds["weights"] = np.ascontiguousarray(weights)
        if before is not None:
            slab, first = before
            feeds |= {"before": slab, "from": np.array([first], dtype=np.int64)}
            feeds["to"] = np.array([slab.shape()[1]], dtype=np.int64)
        kind = (len(rows), len(columns), before is not None)
        made, check = self._run(
            ("slab", *kind), lambda: onnx_graphs.slab_graph(*kind), feeds, {"slab": None, "check": None}
        )
        self._refuse_no_numbers(check.numpy())
        if slices.stop == last:
            for row, column in product(rows, columns):
                del sums.parts[number, row, column]
        return made

    def labels(self, slab: Tensor, box: Box, operators: Operators, regions: bool) -> NDArray[np.uint16]:
        """Interpolate scores of a box linearly and give each voxel its class."""
        part, leads = self._box(slab, box, operators)
        if regions:
            return np.asarray(self._interpolated(part, None, operators, "regions"), dtype=np.uint16)
        rivals = np.flatnonzero(leads >= 0)
        if len(rivals) == 1:
            return np.full(_shape(box, operators), rivals[0], dtype=np.uint16)
        return np.asarray(rivals.astype(np.uint16)[self._interpolated(part, rivals, operators, "highest")])

    def contested(self, slab: Tensor, box: Box, operators: Operators, within: float) -> Contested:
        """Interpolate scores of a box linearly, and give those of classes within a distance of the highest."""
        part, leads = self._box(slab, box, operators)
        rivals = np.flatnonzero(leads >= -within)
        if len(rivals) == 1:
            return uncontested(np.full(_shape(box, operators), rivals[0], dtype=np.uint16))
        return contested_among(rivals, np.asarray(self._interpolated(part, rivals, operators, "none")), within)

    def _box(self, slab: Tensor, box: Box, operators: Operators) -> tuple[Tensor, NDArray[np.float32]]:
        feeds: dict[str, Any] = {
            "slab": slab,
            "starts": np.array([each.start for each in box], dtype=np.int64),
            "ends": np.array([each.stop for each in box], dtype=np.int64),
        }
        # A voxel lies between two neighbours along each axis, unless it lies where one does or there is but one.
        between = tuple(
            each is not None and part.stop - part.start > 1 for part, each in zip(box, operators, strict=True)
        )
        graph = partial(onnx_graphs.box_graph, between)
        part, leads = self._run(("box", between), graph, feeds, {"box": None, "leads": None})
        return part, leads.numpy()

    def _interpolated(
        self,
        part: Tensor,
        rivals: NDArray[np.intp] | None,
        operators: Operators,
        decision: onnx_graphs.Decision,
    ) -> NDArray[Any]:
        slices, rows, columns = operators
        feeds: dict[str, Any] = {"box": part}
        some = rivals is not None and len(rivals) < self._classes
        if some:
            feeds["classes"] = np.asarray(rivals, dtype=np.int64)
        if decision == "none" and not some and slices is rows is columns is None:
            return np.asarray(part.numpy())
        if columns is not None:
            feeds["along_columns"] = np.ascontiguousarray(columns.T)
        if slices is not None:
            width = part.shape()[3] if columns is None else columns.shape[0]
            feeds["along_slices"] = slices
            feeds["shape"] = np.array([0, slices.shape[0], part.shape()[2], width], dtype=np.int64)
        if rows is not None:
            feeds["along_rows"] = rows
        if decision == "regions":
            feeds["numbers"] = np.arange(1, self._classes + 1, dtype=np.float32).reshape(-1, 1, 1, 1)
        kind = (tuple(each is not None for each in operators), some, decision)
        output = "scores" if decision == "none" else "labels"
        made = self._run(("labels", *kind), lambda: onnx_graphs.labels_graph(*kind), feeds, {output: None})[0]
        return np.asarray(made.numpy())

    def _refuse_no_numbers(self, sums: NDArray[np.float32]) -> None:
        # A sum is finite only where all that it is made of is.
        if not np.isfinite(sums).all():
            raise NotFiniteError(
                f"The network of {self._name} answered with a value that is no finite number.",
                "Run the model in float32; if it already is, the model package is faulty.",
            )

    def _part(self, whole: Tensor, start: Sequence[int], size: Sequence[int], mirrored: Sequence[int]) -> Tensor:
        ends = [first + length for first, length in zip(start, size, strict=True)]
        steps = [-1 if axis in mirrored else 1 for axis in range(3)]
        begins = [end - 1 if step < 0 else first for first, end, step in zip(start, ends, steps, strict=True)]
        stops = [
            (first - 1 if first else _BEFORE_ALL) if step < 0 else end
            for first, end, step in zip(start, ends, steps, strict=True)
        ]
        feeds = {
            "whole": whole,
            "starts": np.array(begins, dtype=np.int64),
            "ends": np.array(stops, dtype=np.int64),
            "steps": np.array(steps, dtype=np.int64),
        }
        return self._run(("part",), onnx_graphs.part_graph, feeds, {"part": None})[0]

    def _run(
        self,
        key: tuple[object, ...],
        graph: Callable[[], bytes],
        feeds: Mapping[str, Any],
        outputs: Mapping[str, Tensor | None],
    ) -> list[Any]:
        """Run a graph; an output for which an array is given is written there."""
        if key not in self._sessions:
            self._sessions[key] = self._place.open(graph(), key[0] in _AGAIN_AND_AGAIN)
        return self._bound(self._sessions[key], feeds, outputs)

    def _bound(self, session: Any, feeds: Mapping[str, Any], outputs: Mapping[str, Tensor | None]) -> list[Any]:
        binding = session.io_binding()
        arrays = {name: np.asarray(each) for name, each in feeds.items() if isinstance(each, np.ndarray | np.generic)}
        for name, value in feeds.items():
            if name in arrays:
                binding.bind_cpu_input(name, arrays[name])
            else:
                binding.bind_ortvalue_input(name, value)
        for name, place in outputs.items():
            if place is None:
                binding.bind_output(name, self._place.device, self._place.device_id)
            else:
                binding.bind_ortvalue_output(name, place)
        self._place.run(session, binding)
        return list(binding.get_outputs())


def uncontested(labels: NDArray[np.uint16]) -> Contested:
    """Say that no second class comes near anywhere."""
    nothing = np.empty(0, dtype=np.intp)
    return Contested(labels, nothing, nothing, np.empty((0, 0), dtype=np.float32))


def contested_among(classes: NDArray[np.intp], scores: NDArray[np.float32], within: float) -> Contested:
    """Take interpolated scores ``[class, z, y, x]`` of all classes that come near the highest somewhere."""
    labels = classes.astype(np.uint16)[scores.argmax(axis=0)]
    near = scores > scores.max(axis=0) - np.float32(within)
    voxels = np.flatnonzero(np.count_nonzero(near, axis=0) > 1)
    return Contested(labels, voxels, classes, scores.reshape(len(classes), -1)[:, voxels])


def _shape(box: Box, operators: Operators) -> list[int]:
    """Give the shape of what a box is interpolated to."""
    return [
        part.stop - part.start if each is None else each.shape[0] for part, each in zip(box, operators, strict=True)
    ]
