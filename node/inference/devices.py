"""Where networks run and how exactly they compute: the choices, and which go together."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

# "auto": by CUDA where that can be used, else on the CPU. "openvino": on the CPU, by OpenVINO.
DeviceName = Literal["auto", "cpu", "cuda", "openvino"]

# Bits of a factor's fraction: 23, 10, 10 and 7. Products are summed in float32 whatever the factors; between operators
# f16 and bf16 values have as few bits, tf32 values all of float32.
Precision = Literal["f32", "tf32", "f16", "bf16"]

# What becomes of a volume for which a network in f16 gives a score that is no finite number.
Overflow = Literal["rerun", "refuse"]

PRECISIONS: Mapping[DeviceName, tuple[Precision, ...]] = MappingProxyType(
    {"auto": ("f32",), "cpu": ("f32",), "cuda": ("f32", "tf32", "f16"), "openvino": ("f32", "bf16")}
)

# As results say it.
PRECISION_NAMES: Mapping[Precision, str] = MappingProxyType(
    {"f32": "float32", "tf32": "TF32", "f16": "float16", "bf16": "bfloat16"}
)


def fault_of_precision(device: DeviceName, precision: Precision) -> str | None:
    """Say why a device cannot be asked to compute so; None where it can."""
    if precision in PRECISIONS[device]:
        return None
    able = [repr(name) for name, precisions in PRECISIONS.items() if precision in precisions]
    return f"{precision!r} needs device = {' or '.join(able)}, not {device!r}"
