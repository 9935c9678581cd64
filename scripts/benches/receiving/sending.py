"""The sender, the same for every receiver: encoded beforehand, one C-STORE after the other, each answered first."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from receiving.instances import CONTEXT_ID, Instance
from tests.wire import CT_IMAGE_STORAGE, EXPLICIT_LITTLE, Connection, Context

CONTEXTS = [Context(CONTEXT_ID, CT_IMAGE_STORAGE, (EXPLICIT_LITTLE,))]
# A receiver that serves one association at a time lets the others wait.
TIMEOUT_S = 300.0


def send(port: int, ae_title: str, instances: Sequence[Instance], *, associations: int = 1) -> float:
    """Send the instances over that many associations at once; gives the seconds from connecting to the last release.

    Threads, not processes: they only wait in ``send`` and ``recv``, both of which let the others run.

    Raises
    ------
    RuntimeError
        An instance was not answered with success.
    """
    maximum_length = negotiated_maximum_length(port, ae_title)
    messages = [instance.message(maximum_length) for instance in instances]
    start = threading.Barrier(associations + 1)

    def work(share: Sequence[bytes]) -> None:
        start.wait()
        _send_all(port, ae_title, share)

    with ThreadPoolExecutor(associations) as pool:
        shares = [pool.submit(work, messages[number::associations]) for number in range(associations)]
        start.wait()
        started = time.perf_counter()
        for share in shares:
            share.result()
        return time.perf_counter() - started


def negotiated_maximum_length(port: int, ae_title: str) -> int:
    """Ask an acceptor for the longest PDU that it takes (PS3.8 D.1)."""
    with Connection(port, timeout_s=TIMEOUT_S) as caller:
        accepted = caller.associate(CONTEXTS, called=ae_title, calling="BENCH")
        caller.release()
    if CONTEXT_ID not in accepted.contexts:
        raise RuntimeError("The receiver takes no CT images in Explicit VR Little Endian.")
    return accepted.maximum_length


def _send_all(port: int, ae_title: str, messages: Sequence[bytes]) -> None:
    with Connection(port, timeout_s=TIMEOUT_S) as caller:
        caller.associate(CONTEXTS, called=ae_title, calling="BENCH")
        for message in messages:
            caller.send(message)
            status = caller.status()
            if status != 0x0000:
                raise RuntimeError(f"An instance was answered with {status:04X}.")
        caller.release()
