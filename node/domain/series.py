"""Is a series whole? A pure function of facts, policy and the time now.

``assess`` is total: every set of facts gives one of three verdicts, and the same facts give the same verdict.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from node.domain.errors import InputError
from node.domain.grid import Grid, Plane
from node.domain.instance import ReceivedInstance
from node.domain.stack import ROUNDING_MM, Obstacle, Stack, choose_stack
from node.domain.stack import LeftOut as LeftOut  # noqa: PLC0414 - part of the manifest, so it is ours to export

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
    # SOP Instance UID -> why it was refused; those that came again whole are among the instances too.
    refused: Mapping[str, str] = field(default_factory=dict)


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
    # What routes ask for, as the instance of the first plane states it.
    attributes: Mapping[str, str] = field(default_factory=dict)


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

# Several associations: wait this many times the longest pause seen, for the next may pause as long.
_PAUSES = 3


def assess(facts: SeriesFacts, now: float, policy: CompletionPolicy) -> Verdict:
    """Judge whether a series is whole.

    Regular geometry, all associations released and a short silence make it complete; otherwise only the quiet period
    does. An aborted or lost association is no evidence: senders resend. Irregular geometry is `Growing` until the
    quiet period is over, and `Stalled` then. As ``now`` grows, no verdict turns back into `Growing`.

    Parameters
    ----------
    now
        Seconds since the epoch, on the clock of ``received_at``.
    """
    if not facts.instances:
        return Stalled(reason="no instance was received")
    stack = _lacks_refused(facts) or choose_stack(
        facts.instances, minimum_slices=policy.minimum_slices, spacing_tolerance=policy.spacing_tolerance
    )
    facts = _since_last_verdict(facts, policy)
    last = max(instance.received_at for instance in facts.instances)
    wait_s = _wait_s(facts, policy, regular=isinstance(stack, Stack))
    # A clock that was set back makes no silence negative, or a quiet period of 0 would not be immediate.
    silence_s = max(now, last) - last
    if max(now, last) < last + wait_s:
        return Growing(look_again_at=last + wait_s, waiting_for=_waiting_for(facts, stack, wait_s))
    if isinstance(stack, Obstacle):
        return Stalled(reason="; ".join([stack.reason, *_broken(facts)]))
    try:
        manifest = _manifest(facts, stack)
    except InputError as error:  # the grid refuses, for instance, cosines that are no unit vectors
        return Stalled(reason=error.reason)
    return Complete(manifest=manifest, evidence=(_regularity(manifest.grid), *_silence(facts, silence_s)))


def manifest_to_json(manifest: SeriesManifest) -> dict[str, Any]:
    """Give the manifest as values that JSON holds; `manifest_from_json` gives back an equal one, to the last bit."""
    return {
        "series_instance_uid": manifest.series_instance_uid,
        "study_instance_uid": manifest.study_instance_uid,
        "frame_of_reference_uid": manifest.frame_of_reference_uid,
        "modality": manifest.modality,
        "sop_class_uid": manifest.sop_class_uid,
        "planes": [asdict(plane) for plane in manifest.grid.planes],
        "files": dict(manifest.files),
        "left_out": [asdict(left) for left in manifest.left_out],
        "fingerprint": manifest.fingerprint,
        "attributes": dict(manifest.attributes),
    }


def manifest_from_json(values: Mapping[str, Any]) -> SeriesManifest:
    """Give the manifest that `manifest_to_json` wrote."""
    planes = tuple(_plane_from_json(plane) for plane in values["planes"])
    simple = {name: value for name, value in values.items() if name not in {"planes", "left_out"}}
    return SeriesManifest(
        grid=Grid(planes=planes), left_out=tuple(LeftOut(**left) for left in values["left_out"]), **simple
    )


def _plane_from_json(values: Mapping[str, Any]) -> Plane:
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list | tuple)}
    return Plane(**{**values, **lists})


def _lacks_refused(facts: SeriesFacts) -> Obstacle | None:
    """Say that an instance was refused and did not come again: without it the end of the stack may be missing."""
    there = {instance.sop_instance_uid for instance in facts.instances}
    lacking = [reason for uid, reason in facts.refused.items() if uid not in there]
    if not lacking:
        return None
    were = "1 instance was" if len(lacking) == 1 else f"{len(lacking)} instances were"
    return Obstacle(reason=f"{were} refused and did not come again: {lacking[0]}")


def _wait_s(facts: SeriesFacts, policy: CompletionPolicy, *, regular: bool) -> float:
    """Give the silence after the last instance that decides."""
    if not regular or not _all_released(facts):
        return policy.quiet_period_s
    pause_s = _longest_pause_s(facts.instances, policy.quiet_period_s) if len(facts.associations) > 1 else 0.0
    return min(policy.quiet_period_s, max(policy.settle_s, _PAUSES * pause_s))


def _since_last_verdict(facts: SeriesFacts, policy: CompletionPolicy) -> SeriesFacts:
    """Leave out associations that ended before a quiet period: what they sent was judged, and comes again by others."""
    last = max(instance.received_at for instance in facts.instances)
    recent = tuple(
        one for one in facts.associations if one.ended_at is None or one.ended_at >= last - policy.quiet_period_s
    )
    return replace(facts, associations=recent or facts.associations)


def _all_released(facts: SeriesFacts) -> bool:
    return bool(facts.associations) and all(one.ending == "released" for one in facts.associations)


def _longest_pause_s(instances: Iterable[ReceivedInstance], quiet_period_s: float) -> float:
    """Give the longest pause between two arrivals that was no end: after a quiet period the series was judged."""
    times = sorted(instance.received_at for instance in instances)
    pauses = (after - before for before, after in pairwise(times))
    return max((pause for pause in pauses if pause < quiet_period_s), default=0.0)


def _waiting_for(facts: SeriesFacts, stack: Stack | Obstacle, wait_s: float) -> str:
    silence = f"{wait_s:g} s of silence"
    if isinstance(stack, Obstacle):
        return f"more instances, or {silence}: {stack.reason}"
    still_open = sum(one.ending == "open" for one in facts.associations)
    if still_open:
        return f"{still_open} open association{'s' * (still_open != 1)} to end, or {silence}"
    return ", for ".join([silence, *_broken(facts)])


def _regularity(grid: Grid) -> str:
    planes = f"{len(grid.planes)} plane{'s' * (len(grid.planes) != 1)}"
    tilt = f", each shifted by {grid.tilt_mm:.3f} mm (gantry tilt)" if grid.tilt_mm > ROUNDING_MM else ""
    return f"{planes}, {grid.slice_spacing_mm:.3f} mm apart, regular{tilt}"


def _silence(facts: SeriesFacts, silence_s: float) -> tuple[str, ...]:
    if _all_released(facts):
        return "every association that sent to it was released", f"no instance for {silence_s:.1f} s"
    broken = _broken(facts)
    if broken:
        return (f"silence of {silence_s:.0f} s after {broken[0]}",)
    return (f"silence of {silence_s:.0f} s, no release" if facts.associations else f"silence of {silence_s:.0f} s",)


def _broken(facts: SeriesFacts) -> list[str]:
    """Say that an association did not end in order; empty where all did."""
    endings = sorted({one.ending for one in facts.associations} & {"aborted", "lost"})
    return [f"an association was {' or '.join(endings)}"] if endings else []


def _manifest(facts: SeriesFacts, stack: Stack) -> SeriesManifest:
    by_uid = {instance.sop_instance_uid: instance for instance in stack.instances}
    first = by_uid[stack.planes[0].sop_instance_uid]
    if first.frame_of_reference_uid is None:
        raise InputError("Frame of Reference UID is missing")
    return SeriesManifest(
        series_instance_uid=facts.series_instance_uid,
        study_instance_uid=first.study_instance_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        modality=first.modality,
        sop_class_uid=first.sop_class_uid,
        grid=Grid(planes=stack.planes),
        files={uid: instance.file_name for uid, instance in by_uid.items()},
        left_out=stack.left_out,
        fingerprint=_fingerprint(stack.instances),
        attributes=dict(first.attributes),
    )


def _fingerprint(instances: Iterable[ReceivedInstance]) -> str:
    lines = sorted(f"{instance.sop_instance_uid}:{instance.pixel_digest}" for instance in instances)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
