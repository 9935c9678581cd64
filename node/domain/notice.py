"""A negative result: that no contours were made of a series, why, and what a person can do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is told where contours were expected."""

    # The job that ended without a result, or what stands for it where a series came to none.
    job: str
    study_instance_uid: str
    series_instance_uid: str
    # The model that was to contour; empty where none was chosen.
    model: str
    reason: str
    what_to_do: str
    # Seconds since the epoch.
    decided_at: float
    # Our AE title: which device says it.
    station_name: str
    software_version: str

    @property
    def conclusion(self) -> str:
        """Say what came out of it."""
        by = f" by {self.model}" if self.model else ""
        return f"No contours were made{by} of series {self.series_instance_uid}."
