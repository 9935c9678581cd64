"""Join what removes files to its stage: a loop of its own in the dispatcher, which never holds up assembling."""

import threading
import time

from node.adapters.disk import DataDisk
from node.adapters.ledger import Ledger
from node.adapters.removal import RejectedFiles, Shelf
from node.adapters.result_store import RESULTS, folder_of
from node.config import Config
from node.domain.errors import place_of
from node.log import log
from node.stages.clear import Clearer, Shelves

# Between two looks, where the last removed something, and where it did not.
_AT_WORK_S, _AT_REST_S = 1.0, 60.0


def start_clearing(stopping: threading.Event, config: Config, ledger: Ledger) -> None:
    """Remove what ``[retention]`` lets go, in a thread, until ``stopping`` is set."""
    threading.Thread(target=_clear_until, args=(stopping, clearer_of(config, ledger)), daemon=True).start()


def clearer_of(config: Config, ledger: Ledger) -> Clearer:
    """Give what removes files of a node as ``[retention]`` says."""
    inbox = config.node.data_dir / "inbox"
    return Clearer(
        ledger=ledger,
        shelves=Shelves(
            images=Shelf(inbox),
            results=Shelf(config.node.data_dir / RESULTS),
            rejected=RejectedFiles(inbox / "rejected"),
            results_of=folder_of,
        ),
        disk=DataDisk(config.node.data_dir),
        policy=config.retention.policy(),
        marks=config.retention.watermarks(config.node.minimum_free_gb),
        log=log,
    )


def _clear_until(stopping: threading.Event, clearer: Clearer) -> None:
    while not stopping.is_set():
        more = False
        try:
            more = clearer.tick(time.time())
        except Exception as error:  # the stage's loop: a fault in one look must not end the next
            log("clearing failed", fault=type(error).__name__, at=place_of(error))
        stopping.wait(_AT_WORK_S if more else _AT_REST_S)
