"""What clearing needs of the world, as small protocols, like `node.stages.ports`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from node.domain.retention import DiskSample, JobFact, RemovedFiles, SeriesFact


class ClearingLedger(Protocol):
    """The ledger as the clearing stage sees it."""

    def series_with_images(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[SeriesFact]:
        """Give series whose images are there, the oldest first; those behind ``after`` (time, series)."""
        ...

    def mark_images_removed(self, series: SeriesFact, file_names: Sequence[str]) -> bool:
        """Write that the images of a series are removed, unless anything changed since it was judged; gives whether."""
        ...

    def removed_files(self, series_uid: str) -> RemovedFiles | None:
        """Give what was removed of a series; None where all came again, or nothing was removed."""
        ...

    def series_removed(self) -> Collection[str]:
        """Name every series of which images were removed and did not all come again."""
        ...

    def jobs_with_results(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[JobFact]:
        """Give contoured jobs whose results are there, the oldest first; those behind ``after`` (time, job)."""
        ...

    def reports_with_results(self, *, after: str | None, limit: int) -> Sequence[JobFact]:
        """Give reports that nothing came of a job or a series, as jobs; those with files, behind ``after``."""
        ...

    def mark_results_removed(self, job: JobFact) -> bool:
        """Write that the results of a job are removed, unless anything changed since it was judged; gives whether."""
        ...

    def jobs_without_results(self) -> Sequence[str]:
        """Name every job whose results were removed."""
        ...

    def note_disk(self, sample: DiskSample) -> None:
        """Keep what the disk held at one moment."""
        ...


class Shelf(Protocol):
    """Folders in use or set aside; every method raises OSError where the disk does not do as it is told."""

    def is_there(self, name: str) -> bool:
        """Tell whether a folder of that name is in use."""
        ...

    def file_names(self, name: str) -> Sequence[str]:
        """Name the files in a folder in use."""
        ...

    def held(self, name: str) -> int:
        """Give the bytes that a folder in use holds."""
        ...

    def set_aside(self, name: str) -> None:
        """Take a folder out of use, durably."""
        ...

    def aside(self) -> Sequence[str]:
        """Name the folders that are set aside and can be put back."""
        ...

    def file_names_aside(self, name: str) -> Sequence[str]:
        """Name the files in a folder that is set aside."""
        ...

    def held_aside(self) -> int:
        """Give the bytes that all holds that is set aside."""
        ...

    def put_back(self, name: str) -> None:
        """Take a folder into use again."""
        ...

    def delete(self, name: str) -> None:
        """Delete a folder that is set aside, for good."""
        ...

    def delete_gone(self) -> None:
        """Delete what a process before this one began to delete."""
        ...


class RejectedFiles(Protocol):
    """Data sets that were refused and kept."""

    def kept(self) -> Iterable[tuple[str, float]]:
        """Give the file name of each, and since when it is there."""
        ...

    def remove(self, file_name: str) -> int:
        """Remove one with its reason; gives the bytes that it held."""
        ...


class Disk(Protocol):
    """The disk of the data folder, in bytes."""

    def free(self) -> int:
        """Give what is free."""
        ...

    def held(self) -> Mapping[str, int]:
        """Give what ``images``, ``results`` and ``rejected`` hold; takes long."""
        ...
