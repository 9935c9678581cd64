"""What the NVIDIA driver says of its GPUs, asked without any library of CUDA's."""

import ctypes
from typing import Any

from node.domain.errors import ResourceError


def fault_of_driver(device_id: int) -> str | None:
    """Say why there is no such GPU; None where there is."""
    driver = _driver()
    if driver is None:
        return "there is no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value <= device_id:
        return f"the NVIDIA driver shows {count.value} GPUs and number {device_id} was asked for"
    return None


def driver_version() -> str:
    """Give the version of CUDA that the driver was made for."""
    version = ctypes.c_int(0)
    _driver().cuDriverGetVersion(ctypes.byref(version))
    # The driver API counts 1000 a major and 10 a minor version.
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def device_name(device_id: int) -> str:
    """Give what a GPU is called."""
    name = ctypes.create_string_buffer(256)
    _driver().cuDeviceGetName(name, 256, device_id)
    return name.value.decode(errors="replace")


def free_device_bytes(device_id: int) -> int:
    """Ask how much memory is free; what a context of this process holds already is not.

    Raises
    ------
    ResourceError
        The driver does not say.
    """
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


def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
