"""ONNX Runtime: where networks run, and nowhere else than we say.

ONNX Runtime falls back to the CPU in silence: a session asked for CUDA alone is made on the CPU when CUDA cannot be
used, and single operators without a CUDA kernel run on the CPU beside it. So sessions by CUDA and by OpenVINO are
always made strictly (``session.disable_cpu_ep_fallback``, no other provider), and one by ONNX Runtime's own CPU
provider only on purpose.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from node.adapters.cuda_driver import device_name, driver_version, fault_of_driver, free_device_bytes
from node.adapters.onnx_exact import has_instance_normalisation, with_exact_instance_normalisation
from node.adapters.onnx_file import read_graph, refuse_not_half, refuse_unfit
from node.adapters.onnx_host import HostWindows
from node.adapters.onnx_memory import bytes_at_work, free_host_bytes
from node.adapters.onnx_openvino import PROVIDER as OPENVINO
from node.adapters.onnx_openvino import (
    openvino_device,
    openvino_not_usable_because,
    openvino_version,
    strict_openvino_session,
)
from node.adapters.onnx_runtime import RUNTIME_ERRORS, one_line, ort, quiet
from node.adapters.onnx_windows import OnnxWindows, Place
from node.domain.errors import ResourceError, SetupError
from node.inference.devices import PRECISION_NAMES, DeviceName, Overflow, Precision, fault_of_precision
from node.inference.network_tables import WindowedInput
from node.inference.package import LoadedPackage, ModelPackage
from node.inference.predictor import HalfFirst, Opened, OpenedNetwork, Predictors, Room

# Values that labelling works on at a time: the CPU's cache holds 8 MB, an accelerator wants more work for each call.
CPU_LABEL_VALUES = 2_000_000
GPU_LABEL_VALUES = 200_000_000

# Relu on one float32, opset 18: made by the `onnx` package, checked by tests/unit/test_onnx_session.py.
PROBE_GRAPH = bytes.fromhex(
    "08083a330a0c0a0178120179220452656c751201705a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001012"
)

_CUDA_REMEDY = (
    "Install an NVIDIA driver for CUDA 13 and the extra `cuda` (in a checkout: `scripts/setup cuda`), "
    "or set the device to `auto` or `cpu`; "
    "`delineate check` shows what is missing."
)
# How a package states the agreement of its copy in float16, which no CPU computes as an accelerator does.
HALF_ROUNDED = "float16, rounded after every operator,"

_OPENVINO_REMEDY = (
    "Install the extra `openvino` (in a checkout: `scripts/setup openvino`), or set the device to `cpu`; "
    "`delineate check` shows what is missing."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFact:
    """One device that networks could run on."""

    # "cpu", "cuda:0" or "openvino".
    name: str
    usable: bool
    # What it is, or why it cannot be used.
    detail: str


def devices(device_id: int = 0, precision: Precision = "f32") -> tuple[DeviceFact, ...]:
    """Find out on which devices networks run: the CPU, CUDA, by running one, and OpenVINO, with that precision."""
    cpu = DeviceFact(name="cpu", usable=True, detail=f"onnxruntime {ort.__version__}")
    why_not = cuda_not_usable_because(device_id)
    detail = why_not or f"{device_name(device_id)}, driver for CUDA {driver_version()}, onnxruntime {ort.__version__}"
    cuda = DeviceFact(name=f"cuda:{device_id}", usable=why_not is None, detail=detail)
    not_by_openvino = openvino_not_usable_because(precision)
    detail = not_by_openvino or openvino_device()
    return cpu, cuda, DeviceFact(name="openvino", usable=not_by_openvino is None, detail=detail)


def cuda_not_usable_because(device_id: int = 0) -> str | None:
    """Say why no network runs by CUDA on this machine; None where one just did."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this onnxruntime was built without CUDA; the package must be onnxruntime-gpu"
    if fault := fault_of_driver(device_id):
        return fault
    missing = _preload()
    try:
        session = _strict_cuda_session(PROBE_GRAPH, device_id)
        session.run(None, {"x": np.ones(1, dtype=np.float32)})
    except RUNTIME_ERRORS as error:
        return missing or one_line(error)
    return None


def open_predictor(
    loaded: LoadedPackage,
    device: DeviceName,
    device_id: int = 0,
    threads: int | None = None,
    precision: Precision = "f32",
    overflow: Overflow = "rerun",
) -> Opened:
    """Load a package's networks, each with its folds.

    Parameters
    ----------
    device
        ``cuda`` and ``openvino``: there as a whole or not at all. ``cpu``: there. ``auto``: by CUDA if the whole
        network runs there, else on the CPU, and ``computed_by`` says why.
    threads
        Of the CPU; None takes one per core.
    precision
        One of `PRECISIONS` of the device. What lies beside the network is float32 always.
    overflow
        Of ``f16``: whether a volume with a score that is no finite number is done once more in float32. A package
        without a copy in float16 runs in float32, and ``computed_by`` says why.

    Returns
    -------
    For a network with a window what runs windows, else what runs whole volumes, and with f16 and a rerun both
    precisions; for a package of several networks all of them, which stay open.

    Raises
    ------
    SetupError
        CUDA or OpenVINO is asked for and cannot be used, the device does not compute in that precision, or a graph is
        none that this software runs.
    """
    if fault := fault_of_precision(device, precision):
        raise SetupError(f"The precision {fault}.", "Correct node.precision or node.device.")
    for path in (*loaded.graph_paths, *loaded.half_paths):
        refuse_unfit(read_graph(path), loaded.package.name)
    no_cuda = cuda_not_usable_because(device_id) if device in ("auto", "cuda") else None
    where = _Device(cuda_id=device_id, threads=threads, precision=precision)
    open_one = partial(_network, device=device, where=where, overflow=overflow, no_cuda=no_cuda)
    networks = tuple(open_one(each) for each in loaded.networks)
    return networks[0] if len(networks) == 1 else Predictors(networks)


def _network(
    loaded: LoadedPackage, *, device: DeviceName, where: "_Device", overflow: Overflow, no_cuda: str | None
) -> OpenedNetwork:
    on_cpu = _Device(threads=where.threads)
    match device:
        case "cpu":
            return _opened(loaded, on_cpu)
        case "openvino":
            return _opened_by_openvino(loaded, replace(where, cuda_id=None, openvino=True))
    why_not = no_cuda
    if why_not is None:
        try:
            return _opened_in_half(loaded, where, overflow) if where.precision == "f16" else _opened(loaded, where)
        except RUNTIME_ERRORS as error:
            why_not = f"the network of {loaded.package.name} does not run there as a whole: {one_line(error)}"
    if device == "cuda":
        raise SetupError(f"CUDA cannot be used: {why_not}.", _CUDA_REMEDY)
    return _opened(loaded, on_cpu, remark=f" (auto: CUDA not usable: {why_not})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    """Where a package is opened, and how exactly it computes: a CUDA device, or the CPU with so many threads."""

    cuda_id: int | None = None
    openvino: bool = False
    threads: int | None = None
    precision: Precision = "f32"


def _opened_by_openvino(loaded: LoadedPackage, device: _Device) -> "OnnxPredictor | OnnxWindows":
    if why_not := openvino_not_usable_because(device.precision):
        remedy = _OPENVINO_REMEDY if openvino_not_usable_because() else 'Set node.precision to "f32".'
        raise SetupError(f"OpenVINO cannot be used: {why_not}.", remedy)
    try:
        return _opened(loaded, device)
    except RUNTIME_ERRORS as error:
        raise SetupError(
            f"OpenVINO cannot be used: the network of {loaded.package.name} does not run there as a whole: "
            f"{one_line(error)}.",
            "Set the device to `cpu`.",
        ) from error


def _opened_in_half(
    loaded: LoadedPackage, half: _Device, overflow: Overflow
) -> "OnnxPredictor | OnnxWindows | HalfFirst":
    exact = replace(half, precision="f32")
    if not loaded.half_paths:
        return _opened(loaded, exact, remark=" (the package has no copy in float16)")
    first = _opened(loaded, half)
    return first if overflow == "refuse" else HalfFirst(half=first, exact=cache(partial(_opened_again, loaded, exact)))


def _opened_again(loaded: LoadedPackage, device: _Device) -> "OnnxPredictor | OnnxWindows":
    with _told(loaded.package.name, "in float32 what float16 does not hold"):
        return _opened(loaded, device, remark=" (again: in float16 a score was no finite number)")


def _opened(loaded: LoadedPackage, device: _Device, remark: str = "") -> "OnnxPredictor | OnnxWindows":
    paths = _paths(loaded, device)
    sessions = [_network_session(path, loaded.package.name, device) for path in paths]
    for session in sessions:
        _check_ends(session, loaded)
    computed_by = _computed_by(sessions[0], device, remark) + _agreement(loaded.package, device)
    if isinstance(loaded.package.input, WindowedInput):
        place, room = _place(device), _room_of(paths, device)
        if device.cuda_id is not None:
            return OnnxWindows(sessions, place, room, computed_by, loaded)
        threads = device.threads or len(os.sched_getaffinity(0))
        return HostWindows(sessions, place, room, computed_by, loaded, threads)
    return OnnxPredictor(sessions[0], loaded, computed_by)


def _paths(loaded: LoadedPackage, device: _Device) -> tuple[Path, ...]:
    if device.precision != "f16":
        return loaded.graph_paths
    for path in loaded.half_paths:
        refuse_not_half(read_graph(path), loaded.package.name)
    return loaded.half_paths


class OnnxPredictor:
    """A network in an ONNX Runtime session; satisfies `node.inference.predictor.Predictor`."""

    def __init__(self, session: Any, loaded: LoadedPackage, computed_by: str) -> None:
        self._session = session
        self._name = loaded.package.name
        self._input, self._output = session.get_inputs()[0].name, session.get_outputs()[0].name
        self._computed_by = computed_by

    @property
    def computed_by(self) -> str:
        """Say where the network runs, read from the session, with precision and version of the runtime."""
        return self._computed_by

    def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on ``(1, channels, slice, row, column)``; gives ``(1, classes, slice, row, column)``.

        Raises
        ------
        ResourceError
            The memory does not suffice.
        SetupError
            The network cannot compute this input.
        """
        with _told(self._name, f"an input of shape {network_input.shape}"):
            (scores,) = self._session.run([self._output], {self._input: np.ascontiguousarray(network_input)})
        return np.asarray(scores, dtype=np.float32)


def answers(
    model: Path | bytes,
    network_input: NDArray[np.float32],
    device: Literal["cpu", "openvino"] = "cpu",
    precision: Precision = "f32",
) -> tuple[NDArray[np.float32], str]:
    """Run a graph of one input and one output once, as it is; for whoever compares graphs.

    Returns
    -------
    Its answer, and where it was computed.

    Raises
    ------
    SetupError
        It cannot be loaded, or cannot compute this input.
    """
    name = model.stem if isinstance(model, Path) else "a graph"
    where = _Device(openvino=device == "openvino", precision=precision)
    with _told(name, f"an input of shape {network_input.shape}"):
        session = _network_session(model, name, where)
        (answer,) = session.run(None, {session.get_inputs()[0].name: network_input})
    return np.asarray(answer, dtype=np.float32), _computed_by(session, where)


@contextlib.contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Say whose turn it is when the runtime fails."""
    try:
        yield
    except RUNTIME_ERRORS as error:
        said = one_line(error)
        if _tells_of_memory(said):
            raise ResourceError(f"The memory does not suffice for {name}: {said}") from error
        raise SetupError(
            f"The network of {name} cannot compute {what}: {said}",
            "Correct the model package; the volume is as the manifest asks.",
        ) from error


def _network_session(model: Path | bytes, name: str, device: _Device) -> Any:
    source = str(model) if isinstance(model, Path) else model
    if device.cuda_id is not None:
        return _strict_cuda_session(source, device.cuda_id, use_tf32=str(int(device.precision == "tf32")))
    if device.openvino:
        return strict_openvino_session(source, device.precision, device.threads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = device.threads or 0
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Else they spin on after a patch, where its scores are added.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if isinstance(model, Path):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.parent))
    try:
        return ort.InferenceSession(_exact(model), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except RUNTIME_ERRORS as error:
        raise SetupError(
            f"The graph of {name} cannot be loaded: {one_line(error)}", "Correct the model package."
        ) from error


def _exact(model: Path | bytes) -> str | bytes:
    import onnx  # noqa: PLC0415 - it takes a tenth of a second, and most processes read no network

    graph = read_graph(model) if isinstance(model, Path) else onnx.load_model_from_string(model)
    if has_instance_normalisation(graph):
        return bytes(with_exact_instance_normalisation(graph).SerializeToString())
    return str(model) if isinstance(model, Path) else model


@cache
def _share_arena() -> None:
    """Give the networks of this process one arena in the machine's memory.

    An arena keeps what a network held at most, 1 to 2 GB of nnU-Net's. Networks run one after the other: with an arena
    each, the five parts of a package would hold it five times.
    """
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(place, None)


def _place(device: _Device) -> Place:
    """Say how what is beside the network runs: where the network runs."""
    where = ("cpu", 0) if device.cuda_id is None else ("cuda", device.cuda_id)

    def run(session: Any, binding: Any) -> None:
        with _told("the model package", "what lies beside it"):
            session.run_with_iobinding(binding)

    return Place(
        device=where[0],
        device_id=where[1],
        open=partial(_beside_session, device=device),
        send=lambda array: ort.OrtValue.ortvalue_from_numpy(array, *where),
        reserve=lambda shape: ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, *where),
        run=run,
    )


def _beside_session(model: bytes, keeps_memory: bool, device: _Device) -> Any:
    if device.cuda_id is not None:
        # Never in TF32, which keeps 11 bits of a weight: interpolated scores would tie where they do not.
        return _strict_cuda_session(model, device.cuda_id)
    options = ort.SessionOptions()
    options.intra_op_num_threads = device.threads or 0
    # Threads that spin after their work would take the core from the session that works next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Sizes of large arrays differ from volume to volume: an arena would keep a block of each.
    options.enable_cpu_mem_arena = keeps_memory
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _room_of(paths: Sequence[Path], device: _Device) -> Callable[[], Room]:
    """Give what measures memory; how much the network takes is read from its graph once."""
    at_work = max(bytes_at_work(path) for path in paths)
    weights = sum(path.stat().st_size for path in paths)

    # Asked once, before this process takes any of it: what its arenas hold later is free for its next volume.
    on_device = None if device.cuda_id is None else free_device_bytes(device.cuda_id)
    values = CPU_LABEL_VALUES if on_device is None else GPU_LABEL_VALUES

    def room() -> Room:
        return Room(host=free_host_bytes(), device=on_device, network=at_work + weights, label_values=values)

    return room


def _computed_by(session: Any, device: _Device, remark: str = "") -> str:
    said = [f"{session.get_providers()[0]}{remark}", PRECISION_NAMES[device.precision]]
    return ", ".join([*said, *([openvino_version()] if device.openvino else []), f"onnxruntime {ort.__version__}"])


def _agreement(package: ModelPackage, device: _Device) -> str:
    """Say what was measured of a network that does not run as ONNX Runtime's own provider has it."""
    if not device.openvino and device.precision != "f16":
        return ""
    measured_by = f"{OPENVINO}, {PRECISION_NAMES[device.precision]}," if device.openvino else HALF_ROUNDED
    # What was measured last is of the version that was there last.
    for parity in reversed(package.parity):
        if parity.computed_by.startswith(measured_by):
            return f" ({parity.differing_voxels} of {parity.voxels} labels of noise differ from CPUExecutionProvider's)"
    return " (how many labels differ was not measured)"


def _strict_cuda_session(model: bytes | str, device_id: int, use_tf32: str = "0") -> Any:
    """Make a session that runs by CUDA alone, or raise one of `RUNTIME_ERRORS`."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # The arena never shrinks: growing by powers of two could keep twice what a network needs.
    choice = {"device_id": str(device_id), "arena_extend_strategy": "kSameAsRequested", "use_tf32": use_tf32}
    with quiet():
        session = ort.InferenceSession(model, options, providers=[("CUDAExecutionProvider", choice)], enable_fallback=0)
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("onnxruntime made a session without CUDA")
    return session


def _preload() -> str | None:
    """Load the CUDA libraries that pip installed, which no loader path names; gives what is missing."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        ort.preload_dlls()
    missing = [line for line in said.getvalue().splitlines() if line.startswith("Failed to load")]
    return f"CUDA libraries are missing: {missing[0]}" if missing else None


def _check_ends(session: Any, loaded: LoadedPackage) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    wanted, classes = loaded.package.input, loaded.package.output.classes
    fits = (
        len(inputs) == len(outputs) == 1
        and all(end.type == "tensor(float)" and len(end.shape) == 5 for end in (*inputs, *outputs))
        and outputs[0].shape[1] in (classes, None)
    )
    if not fits:
        raise SetupError(
            f"The graph of {loaded.package.name} must take one float32 tensor (1, channels, slice, row, column) and "
            f"give one with {classes} classes.",
            "Correct the model package: its graph and its manifest contradict each other.",
        )
    if isinstance(wanted, WindowedInput):
        shape = [len(wanted.channels), *wanted.window.patch]
        # A batch of any size is one too.
        batch, *given = inputs[0].shape
        if given != shape or (batch not in (1, None) and isinstance(batch, int)):
            raise SetupError(
                f"The graph of {loaded.package.name} takes {inputs[0].shape}; its manifest says {[1, *shape]}.",
                "Export the graph for that one shape of patches: an accelerator plans for one.",
            )


def _tells_of_memory(said: str) -> bool:
    return any(
        word in said for word in ("allocate memory", "BFCArena", "out of memory", "bad_alloc", "CUDNN_STATUS_ALLOC")
    )
