"""Clear: remove images, results and refused data sets that nobody needs any more. May be killed anywhere.

The ledger is marked first, then the folder is set aside under another name, then it is deleted. Images stay aside for a
while: whatever of them is sent meanwhile, or asked for, brings them back. What a process before this one left undone is
found at the start.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from node.domain.errors import place_of
from node.domain.retention import (
    DiskSample,
    Goes,
    JobFact,
    RemovedFiles,
    RetentionPolicy,
    SeriesFact,
    Watermarks,
    judge_images,
    judge_rejected,
    judge_results,
)
from node.stages.clearing_ports import ClearingLedger, Disk, RejectedFiles, Shelf
from node.stages.ports import Log

# So long images stay aside: a receiver that was just storing one of them says so in the ledger within milliseconds.
GRACE_S = 120.0
# Removed at one look, of each kind; the rest at the next.
MOST_AT_ONCE = 50
# Judged at one look, of each kind.
PAGE = 500
MEASURE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelves:
    """Where images, results and refused data sets lie."""

    images: Shelf
    results: Shelf
    rejected: RejectedFiles
    # Job -> the name of its folder.
    results_of: Callable[[str], str]


class Clearer:
    """Removes what the policy lets go, and measures the disk."""

    def __init__(
        self,
        *,
        ledger: ClearingLedger,
        shelves: Shelves,
        disk: Disk,
        policy: RetentionPolicy,
        marks: Watermarks,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._shelves = shelves
        self._disk = disk
        self._policy = policy
        self._marks = marks
        self._log = log
        self._is_low = False
        self._measure_at = 0.0
        self._is_resumed = False
        # Bytes that are free, or will be when what is set aside is deleted.
        self._free = 0
        # Behind the last that was judged; None: from the oldest.
        self._after_series: tuple[float, str] | None = None
        self._after_job: tuple[float, str] | None = None
        self._after_report: str | None = None

    def tick(self, now: float) -> bool:
        """Look once, a bounded time; gives whether there may be more to do at once.

        Parameters
        ----------
        now
            Seconds since the epoch.
        """
        if not self._is_resumed:
            self._is_resumed = True
            self._resume()
        self._finish(now)
        self._measure(now)
        self._look_at_disk()
        cleared = (self._clear_images, self._clear_results, self._clear_reports, self._clear_rejected)
        return sum([clear(now) for clear in cleared]) > 0

    def _look_at_disk(self) -> None:
        self._free = self._disk.free() + self._shelves.images.held_aside()
        was_low = self._is_low
        self._is_low = self._marks.is_low(self._free, was_low=was_low)
        if self._is_low and not was_low:
            self._after_series = self._after_job = None
            self._log("disk low", free_gb=round(self._free / 1e9, 1))

    def _still_low(self) -> bool:
        return self._is_low and self._marks.is_low(self._free, was_low=True)

    # Images ----------------------------------------------------------------------------------------------------------

    def _clear_images(self, now: float) -> int:
        page = self._ledger.series_with_images(after=self._after_series, limit=PAGE)
        removed = 0
        for series in page:
            if removed == MOST_AT_ONCE:
                return removed
            self._after_series = (series.sent_at, series.series_uid)
            if isinstance(judge_images(series, now, self._policy, is_low=self._still_low()), Goes):
                removed += self._remove_images(series)
        self._after_series = self._after_series if len(page) == PAGE else None
        return removed

    def _remove_images(self, series: SeriesFact) -> bool:
        uid, shelf = series.series_uid, self._shelves.images
        with self._one_at_a_time("images", uid):
            if self._ledger.mark_images_removed(series, shelf.file_names(uid)):
                self._free += shelf.held(uid)
                shelf.set_aside(uid)
                self._log("images removed", series=uid, disk_low=self._is_low)
                return True
        return False

    def _finish(self, now: float) -> None:
        """Delete what was set aside long enough ago, or put it back where it is wanted again."""
        shelf = self._shelves.images
        for uid in shelf.aside():
            with self._one_at_a_time("images", uid):
                removed = self._ledger.removed_files(uid)
                if _is_wanted(removed, shelf.file_names_aside(uid)):
                    shelf.put_back(uid)
                    self._log("images put back", series=uid)
                elif removed is not None and now >= removed.at + GRACE_S:
                    shelf.delete(uid)
        for name in self._shelves.results.aside():
            with self._one_at_a_time("results", name):
                self._shelves.results.delete(name)

    # Results ---------------------------------------------------------------------------------------------------------

    def _clear_results(self, now: float) -> int:
        page = self._ledger.jobs_with_results(after=self._after_job, limit=PAGE)
        removed = 0
        for job in page:
            if removed == MOST_AT_ONCE:
                return removed
            self._after_job = (job.at, job.job)
            if isinstance(judge_results(job, now, self._policy, is_low=self._still_low()), Goes):
                removed += self._remove_results(job)
        self._after_job = self._after_job if len(page) == PAGE else None
        return removed

    def _clear_reports(self, now: float) -> int:
        page = self._ledger.reports_with_results(after=self._after_report, limit=PAGE)
        gone = [
            self._remove_results(report)
            for report in page
            if isinstance(judge_results(report, now, self._policy, is_low=self._still_low()), Goes)
        ]
        self._after_report = page[-1].job if len(page) == PAGE else None
        return sum(gone)

    def _remove_results(self, job: JobFact) -> bool:
        name, shelf = self._shelves.results_of(job.job), self._shelves.results
        with self._one_at_a_time("results", job.job):
            if self._ledger.mark_results_removed(job):
                self._free += shelf.held(name)
                shelf.set_aside(name)
                shelf.delete(name)
                self._log("results removed", job=job.job, disk_low=self._is_low)
                return True
        return False

    # Refused data sets -----------------------------------------------------------------------------------------------

    def _clear_rejected(self, now: float) -> int:
        kept = sorted(self._shelves.rejected.kept(), key=lambda one: one[1])
        removed = 0
        for file_name, at in kept:
            is_low = self._still_low()
            if removed == MOST_AT_ONCE or not isinstance(judge_rejected(at, now, self._policy, is_low=is_low), Goes):
                break
            self._free += self._shelves.rejected.remove(file_name)
            removed += 1
        if removed:
            self._log("refused data sets removed", number=removed, disk_low=self._is_low)
        return removed

    # -----------------------------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Go on with what was marked, and not yet set aside or deleted, when the process before this one ended."""
        images, results = self._shelves.images, self._shelves.results
        images.delete_gone()
        results.delete_gone()
        for uid in self._ledger.series_removed():
            with self._one_at_a_time("images", uid):
                if images.is_there(uid) and not _is_wanted(self._ledger.removed_files(uid), images.file_names(uid)):
                    images.set_aside(uid)
        for name in map(self._shelves.results_of, self._ledger.jobs_without_results()):
            with self._one_at_a_time("results", name):
                results.set_aside(name)

    def _measure(self, now: float) -> None:
        if 0 <= self._measure_at - now <= MEASURE_EVERY_S:  # a clock that was put back is no reason to wait
            return
        held = self._disk.held()
        self._ledger.note_disk(DiskSample(at=now, free=self._disk.free(), **held))
        self._measure_at = now + MEASURE_EVERY_S

    @contextmanager
    def _one_at_a_time(self, what: str, name: str) -> Iterator[None]:
        """Let a folder that the disk does not let go hold up no other."""
        try:
            yield
        except OSError as error:
            self._is_resumed = False  # it may be marked, and is found again
            fault = error.strerror or type(error).__name__
            self._log("removing failed", what=what, name=name, fault=fault, at=place_of(error))


def _is_wanted(removed: RemovedFiles | None, file_names: Sequence[str]) -> bool:
    """Tell whether images that were set aside are needed: nothing says that they may go, or something came since."""
    return removed is None or removed.is_wanted or not removed.file_names.issuperset(file_names)
