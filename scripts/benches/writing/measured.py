"""What writing costs: processor time and memory of this process, from a moment on.

Imports nothing but the standard library, as peers run it in environments of their own.
"""

import gc
import json
import time
from pathlib import Path


class Meter:
    """Measures from its making on; what was imported and loaded before is not counted.

    Processor time is user and system time of all threads. Memory added is the largest resident memory from then on
    less the resident memory then; peak memory is the former alone. VmHWM and not ``ru_maxrss``, which cannot be set
    back and which a process inherits from the one that started it.
    """

    def __init__(self) -> None:
        gc.collect()
        # proc(5): 5 sets VmHWM back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._resident_mib = memory_mib("VmRSS")
        self._phases_s: dict[str, float] = {}
        self._since_s = time.process_time()

    def end(self, phase: str) -> None:
        """Add what was used since the last end to a phase."""
        now = time.process_time()
        self._phases_s[phase] = self._phases_s.get(phase, 0.0) + now - self._since_s
        self._since_s = now

    def tell(self) -> None:
        """Print what was measured, for `outputs`."""
        peak_mib = memory_mib("VmHWM")
        told = {"phases_s": self._phases_s, "peak_mib": peak_mib, "added_mib": peak_mib - self._resident_mib}
        print(json.dumps(told))


def memory_mib(field: str) -> float:
    """Give a field of this process's /proc/self/status that is an amount of memory."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) / 1024
    raise ValueError(f"/proc/self/status names no {field}")
