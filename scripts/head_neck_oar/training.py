"""`delineate train` with what models/head-neck-oar says of itself."""

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent

TOLD = {
    "name": "head-neck-oar",
    "title": "Head and neck organs at risk",
    "originator": "Delineate",
    "licence": "Apache-2.0",
    "intended-use": "Drafts of organs at risk on planning CTs of the head and neck, for a clinician to review and "
    "mend. Research use; not a medical device.",
    "limits": "Learned from planning CTs of adults with cancer of the head and neck, supine and head first, with "
    "pixels of 4 to 5 mm and one set of clinical contours each. Not for children, for other parts of the body, MR or "
    "cone-beam CT. After surgery, behind dental metal and at large tumours expect errors. The cord is drawn as far as "
    "those clinics drew it; the oesophagus is the least certain.",
}


def train(dataset: Path, out: Path) -> int:
    """Train, or go on."""
    told = [part for key, value in TOLD.items() for part in (f"--{key}", value)]
    command = [sys.executable, "-m", "node", "train", str(dataset), str(out), "--recipe", str(_HERE / "recipe.toml")]
    return subprocess.run([*command, *told], check=False).returncode
