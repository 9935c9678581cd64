"""pynetdicom's threads, woken instead of polling; for `spooling`."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.service_class import VerificationServiceClass

# For all else: how long a thread sleeps before it looks around unasked.
WAIT_S = 0.1


class WakingQueue(queue.Queue[Any]):
    """A queue that tells somebody of what is put into it."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put, then tell."""
        super().put(item, block, timeout)
        self._tell()


class ServingQueue(queue.Queue[Any]):
    """The queue of decoded DIMSE messages, which are C-ECHO requests: serves each where it is put.

    So the reactor answers before it reads on, and what a peer sends without reading the answers piles up nowhere.
    ``get`` then is only asked by the association's thread in its loop, and lets it sleep until something stirs.
    """

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._stirred = threading.Event()

    def stir(self) -> None:
        """Let the association's thread look around now."""
        self._stirred.set()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Serve a C-ECHO request."""
        context_id, message = item
        context = next((one for one in self._association.accepted_contexts if one.context_id == context_id), None)
        if context is None or not isinstance(message, C_ECHO):
            return
        try:
            VerificationServiceClass(self._association).SCP(message, context)
        except Exception:  # as pynetdicom does with a message that it cannot make sense of
            self._association.dul.event_queue.put("Evt19")

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Sleep until something stirs; there is never anything to get."""
        self._stirred.wait(WAIT_S)
        self._stirred.clear()
        raise queue.Empty
