"""OpenVINO as a provider of ONNX Runtime: the package ``onnxruntime-ep-openvino``, a plugin that brings OpenVINO along.

Its sessions are made as strictly as those of CUDA: a network of which it leaves an operator to ONNX Runtime's own
provider is refused.
"""

import importlib.metadata
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from node.adapters.onnx_runtime import RUNTIME_ERRORS, one_line, ort, quiet
from node.inference.devices import Precision

PLUGIN = "onnxruntime-ep-openvino"
PROVIDER = "OpenVINOExecutionProvider"

# Where the kernel says what the CPU can do.
CPU_INFO = Path("/proc/cpuinfo")


def openvino_not_usable_because(precision: Precision = "f32") -> str | None:
    """Say why no network runs by OpenVINO on this machine; None where its CPU is there for it."""
    try:
        importlib.metadata.version(PLUGIN)
    except importlib.metadata.PackageNotFoundError:
        return f"the package {PLUGIN} is not installed"
    try:
        if not _cpus():
            return "OpenVINO does not show this machine's CPU"
    except (*RUNTIME_ERRORS, ImportError, OSError) as error:
        return f"the plugin cannot be loaded: {one_line(error)}"
    if precision == "bf16" and not _has_amx():
        # Without it OpenVINO computes in bfloat16 all the same, as inexactly and more slowly than in float32.
        return "this CPU has no AMX for bfloat16 (amx_bf16)"
    return None


def openvino_version() -> str:
    """Name the plugin with its version."""
    return f"{PLUGIN} {importlib.metadata.version(PLUGIN)}"


def openvino_device() -> str:
    """Say which CPU OpenVINO found, and whether bfloat16 is of use there."""
    name = dict(_cpus()[0].ep_metadata).get("FULL_DEVICE_NAME", "CPU")
    return f"{name}, {'with' if _has_amx() else 'no'} AMX for bfloat16, {openvino_version()}"


def strict_openvino_session(model: bytes | str, precision: Precision, threads: int | None) -> Any:
    """Make a session that runs by OpenVINO alone, or raise one of `RUNTIME_ERRORS`."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    properties = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": str(threads or len(os.sched_getaffinity(0))),
    }
    options.add_provider_for_devices(_cpus()[:1], {"load_config": json.dumps({"CPU": properties})})
    with quiet():
        session = ort.InferenceSession(model, options, enable_fallback=0)
    elsewhere = sorted({part.ep_name for part in session.get_provider_graph_assignment_info()} - {PROVIDER})
    if session.get_providers()[0] != PROVIDER or elsewhere:
        raise RuntimeError(f"parts of the network run by {', '.join(elsewhere) or 'another provider'}")
    return session


@cache
def _cpus() -> list[Any]:
    """Load the plugin, once for a process, and give what it shows of the CPU."""
    import onnxruntime_ep_openvino as plugin  # noqa: PLC0415 - an extra

    ort.register_execution_provider_library("openvino", plugin.get_library_path())
    return [
        each
        for each in ort.get_ep_devices()
        if each.ep_name == PROVIDER and dict(each.ep_metadata).get("ov_device") == "CPU"
    ]


def _has_amx() -> bool:
    return "amx_bf16" in CPU_INFO.read_text(encoding="utf-8", errors="replace").split()
