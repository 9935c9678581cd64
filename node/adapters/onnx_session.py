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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from node.adapters.onnx_file import default_opset, holds_external_weights
from node.domain.errors import ResourceError, SetupError
from node.inference.package import LoadedPackage

DevicePolicy = Literal["auto", "cpu", "cuda"]

# From opset 22 on ONNX Runtime has no CUDA kernel for InstanceNormalization and MaxPool; before 18 Resize and others
# mean something else.
OPSETS = range(18, 22)

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
) -> "OnnxPredictor":
    """Load a package's network.

    Parameters
    ----------
    device
        ``cuda``: there or not at all. ``cpu``: there. ``auto``: by CUDA if the whole network runs there, else on the
        CPU, and ``computed_by`` says why.
    threads
        Of the CPU; None takes one per core.

    Raises
    ------
    SetupError
        CUDA is asked for and cannot be used, or the graph is none that this software runs.
    """
    _check_file(loaded)
    if device == "cpu":
        return OnnxPredictor(_cpu_session(loaded, threads), loaded, remark="")
    why_not = cuda_not_usable_because(device_id)
    if why_not is None:
        try:
            return OnnxPredictor(_strict_cuda_session(str(loaded.graph_path), device_id), loaded, remark="")
        except _RUNTIME_ERRORS as error:
            why_not = f"the network of {loaded.package.name} does not run there as a whole: {_one_line(error)}"
    if device == "cuda":
        raise SetupError(f"CUDA cannot be used: {why_not}.", _CUDA_REMEDY)
    return OnnxPredictor(_cpu_session(loaded, threads), loaded, remark=f" (auto: CUDA not usable: {why_not})")


class OnnxPredictor:
    """A network in an ONNX Runtime session; satisfies `node.inference.predictor.Predictor`."""

    def __init__(self, session: Any, loaded: LoadedPackage, remark: str) -> None:
        self._session = session
        self._name = loaded.package.name
        self._input, self._output = _names_of_ends(session, loaded)
        provider = session.get_providers()[0]
        self._computed_by = f"{provider}{remark}, float32, onnxruntime {ort.__version__}"

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
        try:
            (scores,) = self._session.run([self._output], {self._input: np.ascontiguousarray(network_input)})
        except _RUNTIME_ERRORS as error:
            said = _one_line(error)
            if _tells_of_memory(said):
                raise ResourceError(f"The memory does not suffice for {self._name}: {said}") from error
            raise SetupError(
                f"The network of {self._name} cannot compute an input of shape {network_input.shape}: {said}",
                "Correct the model package; the volume is as the manifest asks.",
            ) from error
        return np.asarray(scores, dtype=np.float32)


def _check_file(loaded: LoadedPackage) -> None:
    model = loaded.graph_path.read_bytes()
    opset = default_opset(model)
    if opset not in OPSETS:
        raise SetupError(
            f"The graph of {loaded.package.name} has ONNX opset {opset}; {OPSETS[0]} to {OPSETS[-1]} run here.",
            f"Export the network again with opset_version={OPSETS[-2]}.",
        )
    if holds_external_weights(model):
        raise SetupError(
            f"The graph of {loaded.package.name} keeps weights in another file, which no SHA-256 covers.",
            "Save the graph as one file.",
        )


def _cpu_session(loaded: LoadedPackage, threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        return ort.InferenceSession(
            str(loaded.graph_path), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except _RUNTIME_ERRORS as error:
        raise SetupError(
            f"The graph of {loaded.package.name} cannot be loaded: {_one_line(error)}",
            "Correct the model package.",
        ) from error


def _strict_cuda_session(model: bytes | str, device_id: int) -> Any:
    """Make a session that runs by CUDA alone, or raise one of `_RUNTIME_ERRORS`."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # The arena never shrinks: growing by powers of two could keep twice what a network needs.
    choice = {"device_id": str(device_id), "arena_extend_strategy": "kSameAsRequested"}
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


def _names_of_ends(session: Any, loaded: LoadedPackage) -> tuple[str, str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    fits = (
        len(inputs) == len(outputs) == 1
        and all(end.type == "tensor(float)" and len(end.shape) == 5 for end in (*inputs, *outputs))
        and outputs[0].shape[1] in (loaded.package.graph.classes, None)
    )
    if not fits:
        raise SetupError(
            f"The graph of {loaded.package.name} must take one float32 tensor (1, channels, slice, row, column) and "
            f"give one with {loaded.package.graph.classes} classes.",
            "Correct the model package: its graph and its manifest contradict each other.",
        )
    return inputs[0].name, outputs[0].name


def _tells_of_memory(said: str) -> bool:
    return any(
        word in said for word in ("allocate memory", "BFCArena", "out of memory", "bad_alloc", "CUDNN_STATUS_ALLOC")
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
