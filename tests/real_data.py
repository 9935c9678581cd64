"""Real DICOM for tests: archives that stay outside the project.

``DELINEATE_TEST_DATA`` names their folder (default: ``../shared/data`` beside the checkout). They are unpacked once
into ``DELINEATE_TEST_CACHE`` (default: ``.cache/test-data`` in the checkout).
"""

import contextlib
import os
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def data_folder() -> Path:
    """Give the folder with the archives; it may not exist."""
    return Path(os.environ.get("DELINEATE_TEST_DATA", ROOT.parent / "shared" / "data"))


def unpacked(archive: str) -> Path:
    """Give the folder with the contents of ``<archive>.tar.xz``; skips the test, saying so, where it is absent.

    In CI (``CI=true``) an absent archive fails the test.
    """
    packed = data_folder() / f"{archive}.tar.xz"
    if not packed.exists():
        message = f"real data absent: {packed} (set DELINEATE_TEST_DATA)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    cache = Path(os.environ.get("DELINEATE_TEST_CACHE", ROOT / ".cache" / "test-data"))
    folder = cache / archive
    if not folder.exists():
        partial = cache / f".{archive}.{os.getpid()}"
        with tarfile.open(packed) as tar:
            # Python 3.11.2, Debian 12's, knows no filters yet.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            tar.extractall(partial)
        with contextlib.suppress(OSError):  # another test process was first
            partial.rename(folder)
    return folder
