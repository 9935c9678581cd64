"""Ask archives how many instances a series has, beside the assembling, which never waits for them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from node.domain.delivery import PeerAddress
from node.domain.errors import NodeError, place_of
from node.domain.evidence import ArchiveAnswer
from node.domain.routing import matches
from node.stages.ports import Log

# Archives are asked by so many at a time: one that is silent holds up one.
_AT_A_TIME = 4
# Answers remembered: those of series that nobody asks for any more are forgotten first.
_MOST_ANSWERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One ``[[archives]]`` entry: whom to ask about series that these senders send."""

    calling_ae_titles: tuple[str, ...]
    address: PeerAddress
    timeout_s: float


# Gives the number of instances that an archive has of (study, series); raises NodeError.
Count = Callable[[Archive, str, str], int]


class ArchiveDesk:
    """Asks in threads of its own, one question for each series at a time."""

    def __init__(self, archives: Sequence[Archive], *, count: Count, now: Callable[[], float], log: Log) -> None:
        self._archives = archives
        self._count = count
        self._now = now
        self._log = log
        self._answers: dict[str, ArchiveAnswer] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=_AT_A_TIME, thread_name_prefix="archive")

    def knows(self, calling_ae_titles: Sequence[str]) -> bool:
        """Tell whether there is an archive to ask about series of these senders."""
        return self._archive_for(calling_ae_titles) is not None

    def ask(self, calling_ae_titles: Sequence[str], study_uid: str, series_uid: str, had: int) -> None:
        """Begin to ask, unless it is being asked; ``had``: instances that are here now."""
        archive = self._archive_for(calling_ae_titles)
        with self._lock:
            if archive is None or series_uid in self._asking:
                return
            self._asking.add(series_uid)
        self._threads.submit(self._ask, archive, study_uid, series_uid, had, self._now())

    def answer(self, series_uid: str) -> ArchiveAnswer | None:
        """Give the latest answer, or None."""
        with self._lock:
            return self._answers.get(series_uid)

    def close(self) -> None:
        """Ask no more, and wait for no answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _archive_for(self, calling_ae_titles: Sequence[str]) -> Archive | None:
        for archive in self._archives:
            for title in calling_ae_titles:
                if any(matches(pattern, title) for pattern in archive.calling_ae_titles):
                    return archive
        return None

    def _ask(self, archive: Archive, study_uid: str, series_uid: str, had: int, asked_at: float) -> None:
        count, reason = None, ""
        try:
            count = self._count(archive, study_uid, series_uid)
        except NodeError as error:
            reason = error.reason
        except Exception as error:  # a fault of the asking must not leave a series waiting for its answer
            reason = f"internal error ({type(error).__name__})"
            self._log("asking an archive failed", series=series_uid, fault=type(error).__name__, at=place_of(error))
        answer = ArchiveAnswer(archive=archive.address.ae_title, count=count, reason=reason, asked_at=asked_at, had=had)
        with self._lock:
            self._asking.discard(series_uid)
            self._answers.pop(series_uid, None)
            self._answers[series_uid] = answer
            while len(self._answers) > _MOST_ANSWERS:
                del self._answers[next(iter(self._answers))]
