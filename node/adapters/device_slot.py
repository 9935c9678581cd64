"""The time of an accelerator: one job at a time on a device, whichever process or node of this machine asks.

A lock on a file that every node of the machine finds; the system lets go of it when its process ends, however it does.
"""

import ctypes
import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from node.domain.errors import ResourceError

# Where programs of all users keep locks; where there is no such folder, temporary files are theirs, too.
LOCK_FOLDERS = (Path("/run/lock"), Path(tempfile.gettempdir()))

_LOOK_EVERY_S = 0.1
_LOOK_FOR_S = 1.0


class DeviceSlot:
    """The right to use a device; satisfies `node.stages.ports.Slot`.

    Parameters
    ----------
    device
        Names the device on this machine, the same for every process.
    folders
        The first that can be written in holds the lock.

    Raises
    ------
    ResourceError
        None of them can be.
    """

    def __init__(self, device: str, folders: Sequence[Path] = LOCK_FOLDERS) -> None:
        faults = []
        for folder in folders:
            self.path = folder / f"delineate-{device}.lock"
            try:
                self._file = _open(self.path)
            except OSError as error:
                faults.append(f"{self.path}: {error.strerror}")
            else:
                return
        raise ResourceError(f"The accelerator cannot be shared: {'; '.join(faults)}.", "Make one of them writable.")

    def take(self) -> bool:
        """Take it, waiting a moment; gives False where another process has it still."""
        until = time.monotonic() + _LOOK_FOR_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(_LOOK_EVERY_S)
            else:
                return True

    def give_back(self) -> None:
        """Let the next process have it."""
        fcntl.flock(self._file, fcntl.LOCK_UN)


def _open(path: Path) -> int:
    # In a folder for everybody the system refuses O_CREAT on another user's file, though any may lock it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:  # another process was quicker
        return os.open(path, flags)
    # Whatever the umask of this process: another user's would else make a lock of its own elsewhere.
    os.fchmod(made, 0o644)
    return made


def cuda_device_name(device_id: int) -> str:
    """Give the name of a CUDA device that no CUDA_VISIBLE_DEVICES changes: its UUID.

    Raises
    ------
    ResourceError
        The driver does not give it.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    device, identifier = ctypes.c_int(0), (ctypes.c_ubyte * 16)()
    faults = [
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), device_id),
        driver.cuDeviceGetUuid_v2(ctypes.byref(identifier), device),
    ]
    if any(faults):
        raise ResourceError(f"The NVIDIA driver does not name GPU {device_id}: errors {faults}.")
    return f"cuda-{uuid.UUID(bytes=bytes(identifier))}"
