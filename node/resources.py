"""Where the files that come with Delineate are: the default configuration and the model packages."""

from pathlib import Path


def shipped(folder: str) -> Path:
    """Find ``conf`` or ``models``: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "share" / folder
    return installed if installed.is_dir() else package.parent / folder
