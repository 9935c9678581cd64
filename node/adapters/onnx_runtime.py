"""ONNX Runtime itself, and the errors that it raises. Nothing else in this software imports it.

The Linux builds of ONNX Runtime from 1.31 on hold Microsoft's telemetry: at import it makes a device identifier and a
database of events in the user's cache folder, and uploads them by HTTPS. The variable below stops it before it starts;
``disable_telemetry_events`` comes too late.
"""

import contextlib
import os
from collections.abc import Iterator

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

__all__ = ["RUNTIME_ERRORS", "one_line", "ort", "quiet"]

# They derive from nothing but Exception.
RUNTIME_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep ONNX Runtime from writing on stderr what it raises anyhow."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def one_line(error: Exception) -> str:
    """Give an error's message as a part of a sentence."""
    return " ".join(str(error).split())[:300].rstrip(".")
