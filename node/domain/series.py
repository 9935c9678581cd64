"""Is a series whole? A pure function of facts, policy and the time now.

``assess`` is total: every set of facts gives one of three verdicts, and the same facts give the same verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from node.domain.grid import Grid
from node.domain.instance import ReceivedInstance

Ending = Literal["open", "released", "aborted", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationFact:
    """One association that sent at least one instance of the series.

    ``lost``: the receiver's process died while it was open.
    """

    association_id: str
    calling_ae_title: str
    ending: Ending
    opened_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """All that is known of a series at one moment."""

    series_instance_uid: str
    instances: tuple[ReceivedInstance, ...]
    associations: tuple[AssociationFact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionPolicy:
    """How long to wait for what; from ``[completion]`` in the configuration."""

    # Without evidence: silence that counts as the end.
    quiet_period_s: float = 60.0
    # With evidence (every association released, stack regular): silence after the last instance.
    settle_s: float = 3.0
    # Fewer planes are not a volume.
    minimum_slices: int = 3
    # Largest deviation of one gap from the median gap, as a fraction of it.
    spacing_tolerance: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An instance of the series that is not part of the volume, and why."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SeriesManifest:
    """What is contoured: an ordered, regular stack. A manifest never changes."""

    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str
    modality: str
    sop_class_uid: str
    grid: Grid
    # SOP Instance UID -> file name in the series' inbox folder, for every instance of the grid.
    files: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    # Digest of the sorted (SOP Instance UID, pixel digest) of the grid's instances.
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The series is whole; ``evidence`` says why we think so, one sentence each."""

    manifest: SeriesManifest
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growing:
    """More may come: look again then."""

    look_again_at: float
    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalled:
    """Nothing more comes and this is no volume."""

    reason: str


Verdict = Complete | Growing | Stalled
