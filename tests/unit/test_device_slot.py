"""One job at a time on a device, whichever process asks; a dead one keeps nobody waiting."""

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import node.adapters.device_slot
from node.adapters.device_slot import DeviceSlot, cuda_device_name
from node.domain.errors import ResourceError

HOLDER = """
import sys, pathlib
from node.adapters.device_slot import DeviceSlot
slot = DeviceSlot("cuda-0", [pathlib.Path(sys.argv[1])])
print(slot.take(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.adapters.device_slot, "_LOOK_FOR_S", 0.2)


def test_a_device_is_one_process_s_until_it_gives_it_back(tmp_path: Path) -> None:
    first, second = DeviceSlot("cuda-0", [tmp_path]), DeviceSlot("cuda-0", [tmp_path])

    assert first.take()
    assert not second.take()
    first.give_back()
    assert second.take()


def test_devices_are_taken_apart(tmp_path: Path) -> None:
    assert DeviceSlot("cuda-0", [tmp_path]).take()
    assert DeviceSlot("cuda-1", [tmp_path]).take()


def test_a_killed_process_gives_its_device_back(tmp_path: Path) -> None:
    slot = DeviceSlot("cuda-0", [tmp_path])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert not slot.take()

    holder.kill()
    holder.communicate()

    assert slot.take()


def test_a_lock_that_another_user_made_can_be_taken(tmp_path: Path) -> None:
    there = tmp_path / "delineate-cuda-0.lock"
    there.touch(mode=0o444)
    tmp_path.chmod(0o1777)

    slot = DeviceSlot("cuda-0", [tmp_path])

    assert slot.path == there
    assert slot.take()


def test_a_lock_that_a_service_with_a_private_umask_makes_can_be_taken_by_others(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        slot = DeviceSlot("cuda-0", [tmp_path])
    finally:
        os.umask(before)

    # Else a node of another user would fall back to another folder, and both would use the device.
    assert stat.S_IMODE(slot.path.stat().st_mode) == 0o644


def test_without_any_folder_for_the_lock_the_device_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    assert DeviceSlot("cuda-0", [missing, tmp_path]).path.parent == tmp_path
    with pytest.raises(ResourceError, match="No such file or directory"):
        DeviceSlot("cuda-0", [missing])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "delineate-cuda-0.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ResourceError, match="symbolic links"):
        DeviceSlot("cuda-0", [tmp_path])


class FakeDriver:
    """Names GPU 0 as NVIDIA's driver does, and knows no other."""

    def __init__(self, _: str) -> None:
        pass

    def cuInit(self, _: int) -> int:  # noqa: N802 - the driver's name
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        device._obj.value = number
        return 0 if number == 0 else 101

    def cuDeviceGetUuid_v2(self, identifier: Any, _: Any) -> int:  # noqa: N802
        identifier._obj[:] = range(0xA0, 0xB0)
        return 0


def test_a_gpu_goes_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", FakeDriver)

    assert cuda_device_name(0) == "cuda-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf"
    with pytest.raises(ResourceError, match="does not name GPU 1"):
        cuda_device_name(1)
