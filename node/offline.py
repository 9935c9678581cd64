"""``delineate contour``: files in, files out, by the same stages as the node, without a network."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, assert_never

from node import __version__
from node.adapters.dicom_files import Skipped, dataset_loader, find_instances
from node.adapters.durable import write_durably
from node.domain.errors import InputError, NodeError, VerificationError
from node.domain.forms import Form
from node.domain.instance import ReceivedInstance
from node.domain.routing import OutputKind
from node.domain.series import Complete, CompletionPolicy, Growing, SeriesFacts, SeriesManifest, Stalled, assess
from node.inference.predictor import Progress
from node.pipeline import contour_series
from node.results import Origin
from node.stages.contour import OpenModel, provenance_of, read_series
from node.stages.course import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesResult:
    """What became of one series."""

    series_uid: str
    modality: str
    instances: int
    contoured: bool
    # Why not; empty where it was.
    reason: str = ""
    evidence: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineResult:
    """What became of everything that was named."""

    series: tuple[SeriesResult, ...]
    # Files that hold no usable instance: path and reason.
    unusable: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """Give JSON values."""
        return asdict(self)


def contour_files(
    inputs: Sequence[Path],
    output: Path,
    *,
    models: Sequence[OpenModel],
    outputs: Sequence[OutputKind],
    form: Form,
    policy: CompletionPolicy,
    progress: Callable[[str], Progress],
) -> OfflineResult:
    """Contour every series found in folders, files and zips with every model for its modality.

    Parameters
    ----------
    output
        Folder for the objects; one file per volume, model and kind.
    form
        What the receiver of the files takes.
    progress
        Gives a progress for one series.
    """
    with tempfile.TemporaryDirectory(prefix="delineate-") as unpacked:
        found = collect(inputs, Path(unpacked))
        results = [
            one
            for instances in found.series
            for one in _series(instances, found.damage_to(instances), output, models, outputs, form, policy, progress)
        ]
    unusable = tuple((str(one.path), one.reason) for one in found.unusable)
    return OfflineResult(series=tuple(results), unusable=unusable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What lies in folders, files and zips: instances by series, and what is none."""

    series: tuple[tuple[ReceivedInstance, ...], ...]
    unusable: tuple[Skipped, ...]

    def damage_to(self, instances: tuple[ReceivedInstance, ...]) -> str:
        """Say what is damaged of a series: without it, it would be contoured in part; empty where nothing is."""
        damaged = [one for one in self.unusable if one.series_instance_uid == instances[0].series_instance_uid]
        return f"{len(damaged)} more of its files cannot be used, the first: {damaged[0].reason}" if damaged else ""


def collect(inputs: Sequence[Path], unpack_into: Path) -> Collected:
    """Read every DICOM file among folders, files and zips."""
    by_series: dict[str, list[ReceivedInstance]] = defaultdict(list)
    unusable = []
    for found in find_instances(inputs, unpack_into=unpack_into):
        if isinstance(found, Skipped):
            unusable.append(found)
        else:
            by_series[found.series_instance_uid].append(found)
    series = tuple(tuple(instances) for _, instances in sorted(by_series.items()))
    return Collected(series=series, unusable=tuple(unusable))


def judge(instances: tuple[ReceivedInstance, ...], policy: CompletionPolicy) -> Complete | Stalled:
    """Judge the instances of one series, which do not grow."""
    facts = SeriesFacts(series_instance_uid=instances[0].series_instance_uid, instances=instances, associations=())
    verdict = assess(facts, time.time(), replace(policy, quiet_period_s=0.0, settle_s=0.0))
    match verdict:
        case Stalled():
            return verdict
        case Growing():
            return Stalled(reason=verdict.waiting_for)
        case Complete():
            # How long ago files were written is no evidence.
            evidence = tuple(one for one in verdict.evidence if not one.startswith("no instance for"))
            return replace(verdict, evidence=evidence)
        case _:
            assert_never(verdict)


def _series(
    instances: tuple[ReceivedInstance, ...],
    damage: str,
    output: Path,
    models: Sequence[OpenModel],
    outputs: Sequence[OutputKind],
    form: Form,
    policy: CompletionPolicy,
    progress: Callable[[str], Progress],
) -> list[SeriesResult]:
    series_uid = instances[0].series_instance_uid
    known: dict[str, Any] = {
        "series_uid": series_uid,
        "modality": instances[0].modality,
        "instances": len(instances),
    }
    verdict = judge(instances, policy)
    if isinstance(verdict, Stalled):
        return [SeriesResult(**known, contoured=False, reason="; ".join(filter(None, [verdict.reason, damage])))]
    if damage:
        return [SeriesResult(**known, contoured=False, reason=damage)]
    known["evidence"] = verdict.evidence
    known["left_out"] = tuple(f"{one.sop_instance_uid}: {one.reason}" for one in verdict.left_out)
    fitting = [
        (number, manifest, model)
        for number, manifest in enumerate(verdict.manifests, start=1)
        for model in models
        if manifest.modality in model.package.modalities
    ]
    if not fitting:
        wanted = ", ".join(sorted({modality for model in models for modality in model.package.modalities}))
        return [
            SeriesResult(**known, contoured=False, reason=f"no model for this modality; the models are for {wanted}")
        ]
    results = []
    for number, manifest, model in fitting:
        suffix = f"-volume{number}" if len(verdict.manifests) > 1 else ""
        try:
            results.append(_contour(known, manifest, output, suffix, model, outputs, form, progress(series_uid)))
        except (NodeError, OSError, MemoryError) as error:
            results.append(SeriesResult(**known, contoured=False, reason=_reason(error)))
    return results


def _reason(error: NodeError | OSError | MemoryError) -> str:
    match error:
        case NodeError():
            return error.reason
        case OSError():
            return str(error)
        case MemoryError():
            return "the memory of this machine does not suffice for it"


def _contour(
    known: dict[str, Any],
    manifest: SeriesManifest,
    output: Path,
    suffix: str,
    model: OpenModel,
    outputs: Sequence[OutputKind],
    form: Form,
    progress: Progress,
) -> SeriesResult:
    watch = Stopwatch(time.perf_counter)

    def phase(name: str) -> None:
        watch.phase(name)
        progress(name, 0, 1)

    phase("read")
    volume, headers = read_series(manifest, dataset_loader(output, manifest.files))
    provenance = provenance_of(model, run_number=1, created_at=time.time(), software=__version__)
    contoured = contour_series(
        volume,
        origin=Origin(manifest=manifest, source=headers, provenance=provenance),
        package=model.package,
        predictor=model.predictor,
        outputs=outputs,
        forms={"": form},
        progress=progress,
        phase=phase,
    )
    if contoured.fault:
        raise VerificationError(f"{contoured.fault} Nothing was written.")
    phase("store")
    best, *_ = contoured.offers[""]
    files = {
        output / f"{one.kind}-{model.package.name}-{manifest.series_instance_uid}{suffix}.dcm": one.written
        for one in contoured.objects
        if one.sop_instance_uid in best
    }
    _write_all_or_none(files)
    watch.phase("")
    if not files:
        raise InputError("No output was asked for.")
    return SeriesResult(
        **known, contoured=True, files=tuple(map(str, files)), report=dict(contoured.report), timings=watch.seconds
    )


def _write_all_or_none(files: Mapping[Path, bytes]) -> None:
    """Leave no structure set behind that names a segmentation which the disk had no room for."""
    done: list[Path] = []
    try:
        for path, written in files.items():
            write_durably(path, written)
            done.append(path)
    except OSError:
        for path in done:
            path.unlink()
        raise
