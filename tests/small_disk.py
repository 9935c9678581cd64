"""A disk of a few megabytes that a test fills up, takes away and brings back: a file system in memory."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A mounted file system of its own.

    >>> with small_disk(tmp_path / "disk", megabytes=8) as disk:
    ...     disk.fill()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    @property
    def free(self) -> int:
        """Give the bytes that are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Let no more than so many bytes be free."""
        with self._filling.open("ab", buffering=0) as file:
            while self.free > leave:
                try:
                    file.write(b"\0" * min(self.free - leave, 1 << 20))
                except OSError:
                    return

    def clear(self) -> None:
        """Make room again."""
        self._filling.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a small file system.

    Raises
    ------
    PermissionError
        This user, or this container, may not mount anything.
    """
    path.mkdir()
    size = f"size={megabytes}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        raise PermissionError(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", path], capture_output=True, check=True)
