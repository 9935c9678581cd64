"""To whom it is sent: ours and its peers, each as the process that a clinic would start, with a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from receiving.sending import negotiated_maximum_length

START_WITHIN_S = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOCK = Path(__file__).with_name("stock_pynetdicom.py")

# Only what a receiver needs: the rest is as a fresh installation has it.
OURS_TOML = """\
[node]
port = {port}
data_dir = "{folder}/var"
minimum_free_gb = 0.5
"""


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """A program that receives; ``command`` writes its configuration into a folder and says how to start it."""

    name: str
    ae_title: str
    program: str
    # What to install where the program is absent.
    debian_package: str
    command: Callable[[int, Path], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A receiver at work."""

    port: int
    ae_title: str
    process: psutil.Process
    folder: Path

    def cpu_s(self) -> float:
        """Give the processor time that it and its children used so far, ended children included."""
        return sum(map(_cpu_s, self._processes()))

    def peak_memory_mib(self) -> float:
        """Give the largest resident memory that it ever had, in all its processes."""
        return sum(map(_high_water_mib, self._processes()))

    def stored_bytes(self) -> int:
        """Give the size of all files that it wrote."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _processes(self) -> list[int]:
        return [self.process.pid, *(child.pid for child in self.process.children(recursive=True))]


def _ours(port: int, folder: Path) -> Sequence[str]:
    config = folder / "node.toml"
    config.write_text(OURS_TOML.format(port=port, folder=folder), encoding="utf-8")
    return [sys.executable, "-m", "node", "serve", "--role", "receiver", "--config", str(config)]


def _storescp(port: int, folder: Path, *, options: Sequence[str] = ()) -> Sequence[str]:
    return ["storescp", *options, "--output-directory", str(folder), str(port)]


def _orthanc(port: int, folder: Path, *, options: Mapping[str, object]) -> Sequence[str]:
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomPort": port,
        "HttpServerEnabled": False,
        "Plugins": [],
        "StorageCompression": False,
        **options,
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(configuration), encoding="utf-8")
    return ["Orthanc", str(config)]


def _stock(port: int, folder: Path, *, options: Sequence[str] = ()) -> Sequence[str]:
    return [sys.executable, str(STOCK), str(port), str(folder), *options]


def _peer(
    name: str, ae_title: str, program: str, package: str, command: Callable[[int, Path], Sequence[str]]
) -> Receiver:
    return Receiver(name=name, ae_title=ae_title, program=program, debian_package=package, command=command)


OURS = _peer("ours", "DELINEATE", sys.executable, "python3", _ours)
STORESCP = _peer("storescp", "STORESCP", "storescp", "dcmtk", _storescp)
ORTHANC = _peer("Orthanc", "ORTHANC", "Orthanc", "orthanc", partial(_orthanc, options={}))
# What the bounds do not speak of, for comparison.
_TUNED = partial(_storescp, options=["--max-pdu", "131072", "--bit-preserving", "--fork"])
_UNSYNCED = partial(_orthanc, options={"SyncStorageArea": False})
OTHERS = (
    _peer("storescp 128 K, +B, --fork", "STORESCP", "storescp", "dcmtk", _TUNED),
    _peer("Orthanc unsynced", "ORTHANC", "Orthanc", "orthanc", _UNSYNCED),
    _peer("pynetdicom", "PYNETDICOM", sys.executable, "python3", _stock),
    _peer("pynetdicom, fsync", "PYNETDICOM", sys.executable, "python3", partial(_stock, options=["fsync"])),
)
ALL = (OURS, STORESCP, ORTHANC, *OTHERS)


def missing_packages() -> Sequence[str]:
    """Give the Debian packages to install before this bench can run."""
    return sorted({one.debian_package for one in ALL if shutil.which(one.program) is None})


@contextmanager
def running(receiver: Receiver, parent: Path) -> Iterator[Running]:
    """Start a receiver in an empty folder, wait until it takes associations, and empty all files that it wrote.

    Emptied, not removed: for a minute after a removal ext4 searches for inodes that were not used lately, and whoever
    comes next would pay for it, a quarter of all its time in our case.
    """
    folder, port = Path(tempfile.mkdtemp(dir=parent)), _free_port()
    command = receiver.command(port, folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        _wait_until_it_takes_associations(receiver, process, port)
        yield Running(port=port, ae_title=receiver.ae_title, process=psutil.Process(process.pid), folder=folder)
    except BaseException:
        sys.stderr.write(f"{receiver.name}:\n{(folder / 'log').read_text(errors='replace')[-2000:]}\n")
        raise
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in folder.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


def _wait_until_it_takes_associations(receiver: Receiver, process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        try:
            negotiated_maximum_length(port, receiver.ae_title)
        except ConnectionError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _cpu_s(pid: int) -> float:
    # proc(5): utime, stime, cutime, cstime are fields 14 to 17; the name in field 2 may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def _high_water_mib(pid: int) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    # A child that has ended and is not waited for has no memory.
    return float(status.get("VmHWM", "0 kB").split()[0]) / 1024
