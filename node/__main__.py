"""Start the command line: ``delineate``, or ``python -m node``."""

import os
import signal
import sys
import threading
from typing import Any


def main() -> None:
    """Run the command line; Ctrl-C while it is still being loaded is no fault."""
    sys.unraisablehook = interrupt_again
    try:
        from node.cli import main as run  # noqa: PLC0415 - what is loaded here takes long enough to be interrupted

        run()
    except KeyboardInterrupt:
        sys.exit(130)


def interrupt_again(unraisable: Any) -> None:
    """Bring Ctrl-C back that came during a callback, as of a weak reference, where Python ignores what is raised."""
    if unraisable.exc_type is KeyboardInterrupt:
        # A little later, for here it would be ignored again.
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
