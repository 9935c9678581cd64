"""Write an RT Structure Set with plastimatch: python -m writing.plastimatch_alone SCENE FILE.

The figures are those of its whole process, reading masks and images included. Imports the standard library only, as a
process inherits the peak memory of the one that starts it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main(scene: Path, path: Path) -> None:
    """From files to an RT Structure Set on disk; nothing is checked."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        masks = ["--input-ss-img", str(scene / "masks.mha"), "--input-ss-list", str(scene / "names.txt")]
        command = ["plastimatch", "convert", *masks, "--referenced-ct", str(scene / "ct"), "--output-dicom", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"plastimatch ended with status {status}")
        (written,) = Path(folder).glob("rtss*.dcm")
        written.rename(path)
    # ru_maxrss is in KiB (getrusage(2)).
    peak_mib = used.ru_maxrss / 1024
    told = {"phases_s": {"object": used.ru_utime + used.ru_stime}, "peak_mib": peak_mib, "added_mib": peak_mib}
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
