"""What is known of a growing series, and how long to wait for what: the arguments of `assess`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from node.domain.associations import AssociationFact
from node.domain.habits import Habits
from node.domain.instance import ReceivedInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAnswer:
    """What an archive answered to the question how many instances the series has."""

    # The archive's AE title.
    archive: str
    # Number of Series Related Instances (0020,1209); None: no answer, ``reason`` says why.
    count: int | None
    reason: str = ""
    asked_at: float
    # How many instances were here when it was asked.
    had: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedImages:
    """Images of a series that were here and were removed, as ``[retention]`` has it."""

    # The day, for people.
    on: str
    sop_instance_uids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """All that is known of a series at one moment."""

    series_instance_uid: str
    instances: tuple[ReceivedInstance, ...]
    associations: tuple[AssociationFact, ...]
    # SOP Instance UID -> why it was refused; those that came again whole are among the instances too.
    refused: Mapping[str, str] = field(default_factory=dict)
    # Calling AE title -> what was learned of it.
    habits: Mapping[str, Habits] = field(default_factory=dict)
    # Whether there is an archive to ask how many instances the series has, and its latest answer.
    asks_archive: bool = False
    archive: ArchiveAnswer | None = None
    # A person asked for the verdict at once.
    asked: bool = False
    # Whose series this was when it was first contoured, as `identity_of` gives it; empty where it never was.
    first_identity: str = ""
    removed: RemovedImages | None = None

    @property
    def last_instance_at(self) -> float:
        """Give when the latest instance was received."""
        return max(instance.received_at for instance in self.instances)

    @property
    def instance_count(self) -> int:
        """Give how many different SOP instances are here."""
        return len({instance.sop_instance_uid for instance in self.instances})

    @property
    def missing_since_removal(self) -> int:
        """Give how many of the images that were removed did not come again."""
        there = {instance.sop_instance_uid for instance in self.instances}
        return len(self.removed.sop_instance_uids - there) if self.removed is not None else 0

    @property
    def lacking(self) -> tuple[str, ...]:
        """Give why instances were refused that did not come again."""
        there = {instance.sop_instance_uid for instance in self.instances}
        return tuple(reason for uid, reason in self.refused.items() if uid not in there)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionPolicy:
    """How long to wait for what; from ``[completion]`` in the configuration, with what the route changes."""

    # Without evidence: silence that counts as the end.
    quiet_period_s: float = 60.0
    # With evidence: silence after the last instance.
    settle_s: float = 3.0
    # A sender of which fewer series were seen whole is not known, and its habits are no evidence.
    known_after_series: int = 3
    # What a sender gets that is not known: "wait" the quiet period, "settle" as if it did as most do.
    new_senders: Literal["wait", "settle"] = "wait"
    # Fewer planes are not a volume.
    minimum_slices: int = 3
    # Largest deviation of one gap from the median gap, as a fraction of it.
    spacing_tolerance: float = 0.05
