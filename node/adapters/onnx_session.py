"""ONNX Runtime: where networks run, and nowhere else than we say.

ONNX Runtime falls back to the CPU in silence: a session asked for CUDA alone is made on the CPU when CUDA cannot be
used, and single operators without a CUDA kernel run on the CPU beside it. So a CUDA session is always made strictly
(``session.disable_cpu_ep_fallback``, no provider but CUDA), and a CPU session only on purpose.

The Linux builds of ONNX Runtime from 1.31 on hold Microsoft's telemetry: at import it makes a device identifier and a
database of events in the user's cache folder, and uploads them by HTTPS. The variable below stops it before it starts;
``disable_telemetry_events`` comes too late. Nothing else in this software imports ONNX Runtime.
"""

import contextlib
import ctypes
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from node.adapters.onnx_file import read_graph, refuse_unfit
from node.adapters.onnx_host import HostWindows
from node.adapters.onnx_memory import bytes_at_work, free_host_bytes
from node.adapters.onnx_windows import OnnxWindows, Place
from node.domain.errors import ResourceError, SetupError
from node.inference.network_tables import WindowedInput
from node.inference.package import LoadedPackage
from node.inference.predictor import Room

DevicePolicy = Literal["auto", "cpu", "cuda"]

# Values that labelling works on at a time: the CPU's cache holds 8 MB, an accelerator wants more work for each call.
CPU_LABEL_VALUES = 2_000_000
GPU_LABEL_VALUES = 200_000_000

# They derive from nothing but Exception.
_RUNTIME_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFact:
    """One device that networks could run on."""

    # "cpu" or "cuda:0".
    name: str
    usable: bool
    # What it is, or why it cannot be used.
    detail: str


def devices(device_id: int = 0) -> tuple[DeviceFact, ...]:
    """Find out on which devices networks run, by running one."""
    cpu = DeviceFact(name="cpu", usable=True, detail=f"onnxruntime {ort.__version__}")
    why_not = cuda_not_usable_because(device_id)
    detail = why_not or f"{_device_name(device_id)}, driver for CUDA {_driver_version()}, onnxruntime {ort.__version__}"
    return cpu, DeviceFact(name=f"cuda:{device_id}", usable=why_not is None, detail=detail)


def cuda_not_usable_because(device_id: int = 0) -> str | None:
    """Say why no network runs by CUDA on this machine; None where one just did."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this onnxruntime was built without CUDA; the package must be onnxruntime-gpu"
    driver = _driver()
    if driver is None:
        return "there is no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value <= device_id:
        return f"the NVIDIA driver shows {count.value} GPUs and number {device_id} was asked for"
    missing = _preload()
    try:
        session = _strict_cuda_session(PROBE_GRAPH, device_id)
        session.run(None, {"x": np.ones(1, dtype=np.float32)})
    except _RUNTIME_ERRORS as error:
        return missing or _one_line(error)
    return None


def open_predictor(
    loaded: LoadedPackage, device: DevicePolicy, device_id: int = 0, threads: int | None = None
) -> "OnnxPredictor | OnnxWindows":
    """Load a package's network, or its folds.

    Parameters
    ----------
    device
        ``cuda``: there or not at all. ``cpu``: there. ``auto``: by CUDA if the whole network runs there, else on the
        CPU, and ``computed_by`` says why.
    threads
        Of the CPU; None takes one per core.

    Returns
    -------
    For a package with a window what runs windows, else what runs whole volumes.

    Raises
    ------
    SetupError
        CUDA is asked for and cannot be used, or a graph is none that this software runs.
    """
    for path in loaded.graph_paths:
        refuse_unfit(read_graph(path), loaded.package.name)
    if device == "cpu":
        return _opened(loaded, _Device(threads=threads), remark="")
    why_not = cuda_not_usable_because(device_id)
    if why_not is None:
        try:
            return _opened(loaded, _Device(cuda_id=device_id), remark="")
        except _RUNTIME_ERRORS as error:
            why_not = f"the network of {loaded.package.name} does not run there as a whole: {_one_line(error)}"
    if device == "cuda":
        raise SetupError(f"CUDA cannot be used: {why_not}.", _CUDA_REMEDY)
    return _opened(loaded, _Device(threads=threads), remark=f" (auto: CUDA not usable: {why_not})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    """Where a package is opened: a CUDA device, or the CPU with so many threads."""

    cuda_id: int | None = None
    threads: int | None = None


def _opened(loaded: LoadedPackage, device: _Device, remark: str) -> "OnnxPredictor | OnnxWindows":
    sessions = [_network_session(path, loaded.package.name, device) for path in loaded.graph_paths]
    for session in sessions:
        _check_ends(session, loaded)
    if isinstance(loaded.package.input, WindowedInput):
        place, room, computed_by = _place(device), _room_of(loaded, device), _computed_by(sessions[0], remark)
        if device.cuda_id is not None:
            return OnnxWindows(sessions, place, room, computed_by, loaded)
        threads = device.threads or len(os.sched_getaffinity(0))
        return HostWindows(sessions, place, room, computed_by, loaded, threads)
    return OnnxPredictor(sessions[0], loaded, remark)


class OnnxPredictor:
    """A network in an ONNX Runtime session; satisfies `node.inference.predictor.Predictor`."""

    def __init__(self, session: Any, loaded: LoadedPackage, remark: str) -> None:
        self._session = session
        self._name = loaded.package.name
        self._input, self._output = session.get_inputs()[0].name, session.get_outputs()[0].name
        self._computed_by = _computed_by(session, remark)

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


def answer_on_cpu(path: Path, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a graph of one input and one output once, on the CPU, as it is; for whoever compares graphs.

    Raises
    ------
    SetupError
        It cannot be loaded, or cannot compute this input.
    """
    session = _network_session(path, path.stem, _Device())
    with _told(path.stem, f"an input of shape {network_input.shape}"):
        (answer,) = session.run(None, {session.get_inputs()[0].name: network_input})
    return np.asarray(answer, dtype=np.float32)


@contextlib.contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Say whose turn it is when the runtime fails."""
    try:
        yield
    except _RUNTIME_ERRORS as error:
        said = _one_line(error)
        if _tells_of_memory(said):
            raise ResourceError(f"The memory does not suffice for {name}: {said}") from error
        raise SetupError(
            f"The network of {name} cannot compute {what}: {said}",
            "Correct the model package; the volume is as the manifest asks.",
        ) from error


def _network_session(path: Path, name: str, device: _Device) -> Any:
    if device.cuda_id is not None:
        return _strict_cuda_session(str(path), device.cuda_id)
    options = ort.SessionOptions()
    options.intra_op_num_threads = device.threads or 0
    # Else they spin on after a patch, where its scores are added.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except _RUNTIME_ERRORS as error:
        raise SetupError(
            f"The graph of {name} cannot be loaded: {_one_line(error)}", "Correct the model package."
        ) from error


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
        # TF32 keeps 11 bits of a weight: interpolated scores would tie where they do not.
        return _strict_cuda_session(model, device.cuda_id, {"use_tf32": "0"})
    options = ort.SessionOptions()
    options.intra_op_num_threads = device.threads or 0
    # Threads that spin after their work would take the core from the session that works next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Sizes of large arrays differ from volume to volume: an arena would keep a block of each.
    options.enable_cpu_mem_arena = keeps_memory
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _room_of(loaded: LoadedPackage, device: _Device) -> Callable[[], Room]:
    """Give what measures memory; how much the network takes is read from its graph once."""
    at_work = max(bytes_at_work(path) for path in loaded.graph_paths)
    weights = sum(path.stat().st_size for path in loaded.graph_paths)

    # Asked once, before this process takes any of it: what its arenas hold later is free for its next volume.
    on_device = None if device.cuda_id is None else _free_device_bytes(device.cuda_id)
    values = CPU_LABEL_VALUES if on_device is None else GPU_LABEL_VALUES

    def room() -> Room:
        return Room(host=free_host_bytes(), device=on_device, network=at_work + weights, label_values=values)

    return room


def _computed_by(session: Any, remark: str) -> str:
    return f"{session.get_providers()[0]}{remark}, float32, onnxruntime {ort.__version__}"


def _strict_cuda_session(model: bytes | str, device_id: int, more: Mapping[str, str] = MappingProxyType({})) -> Any:
    """Make a session that runs by CUDA alone, or raise one of `_RUNTIME_ERRORS`."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # The arena never shrinks: growing by powers of two could keep twice what a network needs.
    choice = {"device_id": str(device_id), "arena_extend_strategy": "kSameAsRequested", **more}
    with _quiet():
        session = ort.InferenceSession(model, options, providers=[("CUDAExecutionProvider", choice)], enable_fallback=0)
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("onnxruntime made a session without CUDA")
    return session


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime from writing on stderr what it raises anyhow."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def _preload() -> str | None:
    """Load the CUDA libraries that pip installed, which no loader path names; gives what is missing."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        ort.preload_dlls()
    missing = [line for line in said.getvalue().splitlines() if line.startswith("Failed to load")]
    return f"CUDA libraries are missing: {missing[0]}" if missing else None


def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _driver_version() -> str:
    version = ctypes.c_int(0)
    _driver().cuDriverGetVersion(ctypes.byref(version))
    # The driver API counts 1000 a major and 10 a minor version.
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _device_name(device_id: int) -> str:
    name = ctypes.create_string_buffer(256)
    _driver().cuDeviceGetName(name, 256, device_id)
    return name.value.decode(errors="replace")


def _free_device_bytes(device_id: int) -> int:
    """Ask the driver; what a context of this process holds already is not free."""
    driver = _driver()
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(0), ctypes.c_size_t(0)
    device = ctypes.c_int(0)
    faults = [
        driver.cuDeviceGet(ctypes.byref(device), device_id),
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        driver.cuCtxPushCurrent_v2(context),
        driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)),
        driver.cuCtxPopCurrent_v2(None),
        driver.cuDevicePrimaryCtxRelease_v2(device),
    ]
    if any(faults):
        raise ResourceError(f"The NVIDIA driver does not say how much memory is free: errors {faults}.")
    return free.value


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
