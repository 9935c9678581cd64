"""A data folder that several machines share: what tells it from every other, and on what file system it lies."""

import os
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NETWORK = re.compile(r"^(nfs|nfs4|cifs|smb3|smbfs|9p|ceph|glusterfs|fuse\.(glusterfs|sshfs|s3fs)|lustre|beegfs|afs)$")
# Linux remembers the entries of a folder on NFS for 30 to 60 s unless the mount says otherwise.
_NFS_REMEMBERS_S = 60
_LONGEST_REMEMBERED_S = 1

_MARK = "node.id"


def folder_mark(data_dir: Path) -> str:
    """Give the mark of a data folder; empty where it has none."""
    try:
        return (data_dir / _MARK).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def mark_folder(data_dir: Path) -> str:
    """Give the mark of a data folder, after making one where there is none."""
    if not folder_mark(data_dir):
        made = uuid.uuid4().hex
        part = data_dir / f"{_MARK}.{made}"
        part.write_text(made, encoding="ascii")
        # As a whole, or not: another machine may do the same just now.
        with suppress(FileExistsError):
            os.link(part, data_dir / _MARK)
        part.unlink()
    return folder_mark(data_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A mounted file system."""

    kind: str
    options: tuple[str, ...]

    @property
    def is_network(self) -> bool:
        """Tell whether other machines may have it, too."""
        return _NETWORK.match(self.kind) is not None

    @property
    def remembers_s(self) -> int:
        """Give for how many seconds files that another machine adds may stay unseen here, as far as the mount tells."""
        if not self.kind.startswith("nfs") or "noac" in self.options:
            return 0
        longest = [one.partition("=")[2] for one in self.options if one.startswith(("acdirmax=", "actimeo="))]
        return int(longest[-1]) if longest else _NFS_REMEMBERS_S

    @property
    def shows_at_once(self) -> bool:
        """Tell whether files that another machine adds are seen soon enough to judge by them."""
        return self.remembers_s <= _LONGEST_REMEMBERED_S


def file_system_of(folder: Path, mountinfo: str | None = None) -> FileSystem:
    """Find the file system that a folder, or what exists of the way there, lies on.

    Parameters
    ----------
    mountinfo
        Text of Linux' ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)); read where it is not given.
    """
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if mountinfo is None else mountinfo
    wanted = os.path.realpath(folder)
    found = FileSystem(kind="unknown", options=())
    deepest = -1
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        mounted_at = _unescaped(fields.split()[4])
        kind, _, options = rest.split(" ", 2)
        inside = wanted == mounted_at or wanted.startswith(mounted_at.rstrip("/") + "/")
        # Of several at one place the last hides the others.
        if inside and len(mounted_at) >= deepest:
            deepest = len(mounted_at)
            found = FileSystem(kind=kind, options=tuple(options.split(",")))
    return found


def _unescaped(path: str) -> str:
    """Give a mount point as it is called: white space and backslashes are octal there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
