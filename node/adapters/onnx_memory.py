"""How much memory there is, and how much a network takes while it runs."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from node.domain.errors import SetupError
from node.inference.predictor import HalfFirst, Opened, Room, WindowRuntime, networks_of

if TYPE_CHECKING:
    import onnx

# A convolution may copy its input into columns; cuDNN's and MLAS' buffers are of the order of its largest tensor.
_SCRATCH = 1.0

_FLOAT32 = 4

# Where the kernel says what a container may use.
GROUP = Path("/sys/fs/cgroup")


def bytes_at_work(path: Path) -> int:
    """Give what a graph of fixed shapes holds at most at a time while it runs, its weights left out.

    What is computed lives from the operator that makes it to the last that reads it.

    Raises
    ------
    SetupError
        The shape of something that is computed depends on the input's.
    """
    import onnx  # noqa: PLC0415 - it takes a tenth of a second, and most processes read no network

    graph = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False)).graph
    sizes = {value.name: _bytes(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    alive = {value.name for value in graph.input}
    most = 0
    for index, node in enumerate(graph.node):
        alive |= {name for name in node.output if name}
        held = sum(_size(sizes, name, path) for name in alive)
        largest = max(_size(sizes, name, path) for name in alive)
        most = max(most, held + int(_SCRATCH * largest))
        alive -= {name for name in alive if last.get(name, len(graph.node)) <= index}
    return most


def free_host_bytes() -> int:
    """Give the memory of this machine that can be had without swapping, within what its group may use."""
    return min([_available(), *_left_to_group()])


def whole_room() -> Room:
    """Say what memory there is for a network without a window; what it takes itself depends on the volume."""
    return Room(host=free_host_bytes(), device=None, network=0, label_values=0)


def rooms_of(opened: Opened) -> list[Room]:
    """Say what memory there is for each network of a package; the one in float16 where there are two."""
    at_work = [each.half if isinstance(each, HalfFirst) else each for each in networks_of(opened)]
    return [each.room() if isinstance(each, WindowRuntime) else whole_room() for each in at_work]


def _size(sizes: dict[str, int], name: str, path: Path) -> int:
    if name not in sizes:
        raise SetupError(
            f"The graph {path.name} computes something of unknown size ({name}).",
            "Export the network for one fixed shape of its input.",
        )
    return sizes[name]


def _bytes(value: "onnx.ValueInfoProto") -> int:
    sides = [side.dim_value for side in value.type.tensor_type.shape.dim]
    return int(_FLOAT32 * math.prod(max(1, side) for side in sides))


def _available() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise SetupError("/proc/meminfo does not say MemAvailable.", "A Linux kernel from 3.14 on does.")


def _left_to_group() -> list[int]:
    """Give what a container's limit leaves; none where there is no limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        if (GROUP / limit).is_file() and (GROUP / used).is_file():
            most = (GROUP / limit).read_text(encoding="ascii").strip()
            if most != "max":
                return [max(0, int(most) - int((GROUP / used).read_text(encoding="ascii")))]
    return []
