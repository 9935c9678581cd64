"""What an inference costs by phase: processor time and wall time, and the largest memory of the process.

Imports nothing but the standard library, as peers run it in environments of their own.
"""

import gc
import json
import time
from pathlib import Path

from writing.measured import memory_mib

# What a phase is called. The network's calls part the others: what comes before the first, and all after it. Sums of
# patches come between calls, and whoever labels while patches are still to come does that there, too.
OPEN, PRE, NETWORK, POST = "open", "pre", "network", "post"


class Meter:
    """Measures from its making on, when networks are to be opened; imports and the image came before.

    Processor time is user and system time of all threads, so whoever works while the network computes is counted with
    it. Memory added is the largest resident memory from then on less the resident memory then.
    """

    def __init__(self) -> None:
        gc.collect()
        # proc(5): 5 sets VmHWM back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._resident_mib = memory_mib("VmRSS")
        self.phase = OPEN
        self._cpu_s, self._wall_s = _nothing(), _nothing()
        self._since = time.process_time(), time.perf_counter()

    def begin(self, phase: str) -> None:
        """Add what was used since the last call to the phase that ends, and begin another."""
        now = time.process_time(), time.perf_counter()
        self._cpu_s[self.phase] += now[0] - self._since[0]
        self._wall_s[self.phase] += now[1] - self._since[1]
        self.phase, self._since = phase, now

    def lap(self) -> dict[str, dict[str, float]]:
        """End the phase, give the seconds of all phases, and begin anew before a network."""
        self.begin(PRE)
        told = {"cpu_s": self._cpu_s, "wall_s": self._wall_s}
        self._cpu_s, self._wall_s = _nothing(), _nothing()
        return told

    def tell(self) -> None:
        """Print what was measured, for `inference`."""
        seconds, peak_mib = self.lap(), memory_mib("VmHWM")
        print(json.dumps({**seconds, "peak_mib": peak_mib, "added_mib": peak_mib - self._resident_mib}))


def _nothing() -> dict[str, float]:
    return dict.fromkeys((OPEN, PRE, NETWORK, POST), 0.0)
