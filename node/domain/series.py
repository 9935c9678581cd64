"""Is a series whole? A pure function of facts, policy and the time now.

``assess`` is total: every set of facts gives one of three verdicts, and the same facts give the same verdict.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from node.domain.associations import AssociationFact as AssociationFact  # noqa: PLC0414 - of the facts: ours to export
from node.domain.associations import Ending as Ending  # noqa: PLC0414
from node.domain.counts import archive_has_more, archive_words
from node.domain.errors import InputError
from node.domain.evidence import CompletionPolicy as CompletionPolicy  # noqa: PLC0414
from node.domain.evidence import SeriesFacts as SeriesFacts  # noqa: PLC0414
from node.domain.grid import Grid, Plane
from node.domain.patience import Wait, broken_words, wait_of
from node.domain.stack import ROUNDING_MM, Obstacle, Stack
from node.domain.stack import LeftOut as LeftOut  # noqa: PLC0414 - part of the manifest
from node.domain.versions import Versions, identity_of, latest_versions
from node.domain.volumes import NoVolume, Volumes, find_volumes


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
    # Digest of the sorted (SOP Instance UID, pixel digest) of the grid's instances; where patient or study were
    # corrected since the series was first contoured, of these too.
    fingerprint: str
    # Of patient and study, as `identity_of` gives it; empty in manifests of former versions of Delineate.
    identity: str = ""
    # What routes ask for, as the instance of the first plane states it.
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The series is whole; ``evidence`` says why we think so, one sentence each."""

    # One for each volume of the series, at least one.
    manifests: tuple[SeriesManifest, ...]
    # Parts of a series of several volumes that are none.
    declined: tuple[NoVolume, ...] = ()
    # Every instance that is in no volume.
    left_out: tuple[LeftOut, ...]
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


def assess(facts: SeriesFacts, now: float, policy: CompletionPolicy) -> Verdict:
    """Judge whether a series is whole.

    How long is waited for more, `node.domain.patience` says: not at all where the evidence is enough, for the quiet
    period where there is none. Then planes that form volumes are `Complete`, others `Stalled`. As ``now`` grows, no
    verdict turns back into `Growing`; the order of the instances never matters.

    Parameters
    ----------
    now
        Seconds since the epoch, on the clock of ``received_at``.
    """
    if not facts.instances:
        return Stalled(reason="no instance was received")
    versions = latest_versions(facts.instances)
    shape: Volumes | Obstacle
    if isinstance(versions, Obstacle):
        shape = versions
    else:
        facts = replace(facts, instances=versions.instances)
        shape = _lacks(facts) or find_volumes(
            facts.instances, minimum_slices=policy.minimum_slices, spacing_tolerance=policy.spacing_tolerance
        )
    facts = _since_last_verdict(facts, policy)
    wait = wait_of(facts, policy, shape)
    last = facts.last_instance_at
    # A clock that was set back makes no silence negative, or a quiet period of 0 would not be immediate.
    silence_s = max(now, last) - last
    if facts.asked:
        wait = replace(wait, seconds=0.0, evidence=("a person asked for the verdict at once", *wait.evidence))
    if max(now, last) < last + wait.seconds:
        return Growing(look_again_at=last + wait.seconds, waiting_for=_waiting_for(wait))
    if isinstance(shape, Obstacle):
        return Stalled(reason="; ".join(filter(None, [shape.reason, _short(facts), broken_words(facts.associations)])))
    if archive_has_more(facts):
        return Stalled(reason="; ".join(filter(None, [_short(facts), broken_words(facts.associations)])))
    corrected = filter(None, [versions.said if isinstance(versions, Versions) else ""])
    try:
        return _complete(facts, shape, (*corrected, *wait.evidence, *_silence(facts, wait, silence_s)))
    except InputError as error:
        return Stalled(reason=error.reason)


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
        "identity": manifest.identity,
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


def _lacks(facts: SeriesFacts) -> Obstacle | None:
    """Say that an instance was here, or was refused, and did not come again: the end of the stack may be missing."""
    if facts.removed is not None and (missing := facts.missing_since_removal):
        return Obstacle(
            reason=f"{missing} of the images that were here before were removed on {facts.removed.on}; they did not "
            "come again: send the whole series"
        )
    lacking = facts.lacking
    if not lacking:
        return None
    were = "1 instance was" if len(lacking) == 1 else f"{len(lacking)} instances were"
    return Obstacle(reason=f"{were} refused and did not come again: {lacking[0]}")


def _since_last_verdict(facts: SeriesFacts, policy: CompletionPolicy) -> SeriesFacts:
    """Leave out associations that ended before a quiet period: what they sent was judged, and comes again by others."""
    last = facts.last_instance_at
    recent = tuple(
        one for one in facts.associations if one.ended_at is None or one.ended_at >= last - policy.quiet_period_s
    )
    return replace(facts, associations=recent or facts.associations)


def _waiting_for(wait: Wait) -> str:
    silence = f"{wait.seconds:g} s of silence"
    return f"{silence}, for {'; '.join(wait.because)}" if wait.because else silence


def _short(facts: SeriesFacts) -> str:
    return archive_words(facts) if archive_has_more(facts) else ""


def _silence(facts: SeriesFacts, wait: Wait, silence_s: float) -> tuple[str, ...]:
    """Say what else is to be known: what was waited for, an abort, an archive that could not say, the silence."""
    said = [*wait.because, broken_words(facts.associations)]
    if facts.archive is not None and facts.archive.count is None:
        said.append(archive_words(facts))
    return *dict.fromkeys(filter(None, said)), f"no instance for {silence_s:.1f} s"


def _complete(facts: SeriesFacts, volumes: Volumes, evidence: tuple[str, ...]) -> Complete:
    manifests: list[SeriesManifest] = []
    told: list[str] = []
    declined = list(volumes.declined)
    for found in volumes.found:
        try:
            manifests.append(_manifest(facts, found.stack, volumes.no_images))
            told.append(found.told_by)
        except InputError as error:  # the grid refuses, for instance, cosines that are no unit vectors
            uids = tuple(one.sop_instance_uid for one in found.stack.instances)
            declined.append(NoVolume(reason=error.reason, told_by=found.told_by, sop_instance_uids=uids))
    if not manifests:
        raise InputError(declined[-1].reason)
    return Complete(
        manifests=tuple(manifests),
        declined=tuple(declined),
        left_out=_left_out(volumes, manifests, declined),
        evidence=(*_described(manifests, told), *_said_of(declined), *evidence),
    )


def _described(manifests: Sequence[SeriesManifest], told: Sequence[str]) -> list[str]:
    if told == [""]:
        return [_regularity(manifests[0].grid)]
    return [
        f"volume {number} of {len(told)} ({manifest.fingerprint[:8]}), {by}: {_regularity(manifest.grid)}"
        for number, (manifest, by) in enumerate(zip(manifests, told, strict=True), start=1)
    ]


def _said_of(declined: Iterable[NoVolume]) -> list[str]:
    return [f"no volume, {one.told_by}: {one.reason}" for one in declined]


def _left_out(
    volumes: Volumes, manifests: Iterable[SeriesManifest], declined: Iterable[NoVolume]
) -> tuple[LeftOut, ...]:
    """Name every instance that is in no volume once, with the first reason."""
    taken = {uid for manifest in manifests for uid in manifest.files}
    reasons = {one.sop_instance_uid: one.reason for one in volumes.no_images}
    for found in volumes.found:
        reasons |= {one.sop_instance_uid: one.reason for one in found.stack.left_out}
    for no_volume in declined:
        reasons |= dict.fromkeys(no_volume.sop_instance_uids, no_volume.reason)
    return tuple(LeftOut(sop_instance_uid=uid, reason=reason) for uid, reason in reasons.items() if uid not in taken)


def _regularity(grid: Grid) -> str:
    planes = f"{len(grid.planes)} plane{'s' * (len(grid.planes) != 1)}"
    tilt = f", each shifted by {grid.tilt_mm:.3f} mm (gantry tilt)" if grid.tilt_mm > ROUNDING_MM else ""
    return f"{planes}, {grid.slice_spacing_mm:.3f} mm apart, regular{tilt}"


def _manifest(facts: SeriesFacts, stack: Stack, no_images: tuple[LeftOut, ...]) -> SeriesManifest:
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
        left_out=(*no_images, *stack.left_out),
        fingerprint=_fingerprint(stack, facts),
        identity=identity_of(stack.instances),
        attributes=dict(first.attributes),
    )


def _fingerprint(stack: Stack, facts: SeriesFacts) -> str:
    """Digest the instances of a stack; where it takes only some frames of one, these too; and who it is of now."""
    frames = {(one.sop_instance_uid, one.pixel_digest): len(one.planes) for one in facts.instances}
    lines = []
    for one in stack.instances:
        line = f"{one.sop_instance_uid}:{one.pixel_digest}"
        if len(one.planes) != frames[one.sop_instance_uid, one.pixel_digest]:
            line += ":" + ",".join(str(plane.frame_number) for plane in one.planes)
        lines.append(line)
    identity = identity_of(stack.instances)
    if facts.first_identity not in ("", identity):
        # Contoured before as another patient's: what is made now must be another object, of the patient it is of now.
        lines.append(f"identity:{identity}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
