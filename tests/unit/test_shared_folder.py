"""Which file system a folder is on, what is seen there of other machines, and which folder it is."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node.adapters.shared_folder import FileSystem, file_system_of, folder_mark, mark_folder

MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro
40 21 0:30 / /srv/scans rw,relatime shared:9 - nfs4 files:/scans rw,vers=4.2,acregmin=1,acregmax=1,acdirmin=1,acdirmax=1
41 21 0:31 / /srv/scans\\040old rw,relatime - nfs files:/old rw,vers=3,hard
42 40 0:32 / /srv/scans/here rw,relatime - xfs /dev/sdb1 rw
43 21 0:33 / /srv/shadowed rw - ext4 /dev/sdc1 rw
44 21 0:34 / /srv/shadowed rw - cifs //files/share rw,vers=3.1.1
"""


@pytest.mark.parametrize(
    ("folder", "kind", "network", "at_once"),
    [
        ("/var/lib/delineate", "ext4", False, True),
        ("/srv/scans", "nfs4", True, True),
        ("/srv/scans/inbox/not/there/yet", "nfs4", True, True),
        ("/srv/scans old/inbox", "nfs", True, False),
        ("/srv/scans/here/inbox", "xfs", False, True),
        ("/srv/scanspeed", "ext4", False, True),
        ("/srv/shadowed", "cifs", True, True),
    ],
)
def test_the_deepest_mount_tells(folder: str, kind: str, network: bool, at_once: bool) -> None:
    found = file_system_of(Path(folder), MOUNTS)

    assert (found.kind, found.is_network, found.shows_at_once) == (kind, network, at_once)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [("rw,vers=4.2", 60), ("rw,acdirmin=1,acdirmax=5", 5), ("rw,noac", 0), ("rw,actimeo=1", 1)],
)
def test_a_mount_of_nfs_tells_how_long_it_remembers_folders(options: str, seconds: int) -> None:
    assert FileSystem(kind="nfs4", options=tuple(options.split(","))).remembers_s == seconds


def test_this_machine_tells_of_its_own_folders(tmp_path: Path) -> None:
    assert file_system_of(tmp_path).kind != "unknown"


def test_a_folder_keeps_the_mark_that_it_got_first_whoever_comes(tmp_path: Path) -> None:
    assert folder_mark(tmp_path) == ""

    with ThreadPoolExecutor(8) as threads:
        marks = set(threads.map(lambda _: mark_folder(tmp_path), range(8)))

    assert marks == {folder_mark(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["node.id"]
