"""Join the hot folder's adapters to its stages: the loop of the collector's process."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from node.adapters.hot_folder import HotFolder, Watch, lasting_owner
from node.adapters.zip_archive import members_of
from node.config import HotFolderSection
from node.dicom.storage import STORAGE_CLASSES, TRANSFER_SYNTAXES
from node.domain.arrival import ReceiverObserver
from node.domain.errors import SetupError, place_of
from node.log import log
from node.stages.collect import Collector
from node.stages.ports import Begin
from node.stages.unpack import Accepted, Unpacker

# A program that drops thousands of files must not have thousands of looks made.
_SHORTEST_PAUSE_S = 0.25


def start_collecting(
    section: HotFolderSection,
    *,
    owner_file: Path,
    ae_title: str,
    begin: Begin,
    has_room_for: Callable[[int], bool],
    disk_bytes: int,
    observer: ReceiverObserver,
    note: Callable[[str], None],
) -> Callable[[], None]:
    """Empty the hot folder in a thread; gives the function that stops it.

    Parameters
    ----------
    owner_file
        Keeps the name under which this node takes files, so that the next process finds what this one took.
    disk_bytes
        How much the inbox's disk holds when it is empty.
    note
        Keeps a text for ``status``.

    Raises
    ------
    SetupError
        No hot folder is configured.
    """
    if section.folder is None:
        raise SetupError("There is no hot folder to collect from.", "Set hot_folder.folder in the configuration.")
    folder = HotFolder(section.folder, lasting_owner(owner_file))
    collector = Collector(
        folder=folder,
        unpacker=Unpacker(
            begin=begin,
            has_room_for=has_room_for,
            members_of=members_of,
            accepted=Accepted(sop_classes=STORAGE_CLASSES, transfer_syntaxes=TRANSFER_SYNTAXES, disk_bytes=disk_bytes),
        ),
        observer=observer,
        ae_title=ae_title,
        stable_s=section.stable_s,
        rescan_s=section.rescan_s,
        note=note,
        now=time.time,
        log=log,
    )
    if folder.taken_by_others():
        # Right while another node works on it; else a node with another data folder did, and left them.
        log("hot folder is shared", drops_of_others=folder.taken_by_others())
    stopping, woken = threading.Event(), threading.Event()
    threading.Thread(target=_collect_until, args=(stopping, woken, collector, section), daemon=True).start()

    def stop() -> None:
        stopping.set()
        woken.set()

    return stop


def _collect_until(
    stopping: threading.Event, woken: threading.Event, collector: Collector, section: HotFolderSection
) -> None:
    watch: Watch | None = None
    while not stopping.is_set():
        watch = watch or _watch(section, woken)
        try:
            again_at = collector.tick(time.monotonic())
        except Exception as error:  # the stage's loop: a fault in one look must not end the next
            log("collecting failed", fault=type(error).__name__, at=place_of(error))
            again_at = time.monotonic() + section.rescan_s
        stopping.wait(_SHORTEST_PAUSE_S)
        woken.wait(max(0.0, again_at - time.monotonic()))
        woken.clear()


def _watch(section: HotFolderSection, woken: threading.Event) -> Watch | None:
    """Watch the hot folder if it is there: while a share is not mounted, it is looked for from time to time."""
    if section.folder is None or not section.folder.is_dir():
        return None
    try:
        watch = Watch(section.folder, polling=section.polling, wake=woken.set)
    except OSError:
        return None
    log("hot folder watched", folder=str(section.folder), by=watch.how)
    return watch
