"""``delineate contour``: files in, files out, by the same stages as the node, without a network."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, assert_never

from node import __version__
from node.adapters.dicom_files import Skipped, dataset_loader, find_instances
from node.adapters.result_store import write_durably
from node.domain.errors import InputError, NodeError, VerificationError
from node.domain.instance import ReceivedInstance
from node.domain.routing import OutputKind
from node.domain.series import Complete, CompletionPolicy, Growing, SeriesFacts, Stalled, assess
from node.inference.predictor import Progress
from node.pipeline import contour_series
from node.stages.contour import OpenModel, Stopwatch, provenance_of, read_series


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
    policy: CompletionPolicy,
    progress: Callable[[str], Progress],
) -> OfflineResult:
    """Contour every series found in folders, files and zips with every model for its modality.

    Parameters
    ----------
    output
        Folder for the objects; one file per series, model and kind.
    progress
        Gives a progress for one series.
    """
    with tempfile.TemporaryDirectory(prefix="delineate-") as unpacked:
        by_series: dict[str, list[ReceivedInstance]] = defaultdict(list)
        unusable = []
        for found in find_instances(inputs, unpack_into=Path(unpacked)):
            if isinstance(found, Skipped):
                unusable.append((str(found.path), found.reason))
            else:
                by_series[found.series_instance_uid].append(found)
        results = [
            one
            for series_uid, instances in sorted(by_series.items())
            for one in _series(series_uid, tuple(instances), output, models, outputs, policy, progress)
        ]
    return OfflineResult(series=tuple(results), unusable=tuple(unusable))


def _series(
    series_uid: str,
    instances: tuple[ReceivedInstance, ...],
    output: Path,
    models: Sequence[OpenModel],
    outputs: Sequence[OutputKind],
    policy: CompletionPolicy,
    progress: Callable[[str], Progress],
) -> list[SeriesResult]:
    known: dict[str, Any] = {
        "series_uid": series_uid,
        "modality": instances[0].modality,
        "instances": len(instances),
    }
    facts = SeriesFacts(series_instance_uid=series_uid, instances=instances, associations=())
    verdict = assess(facts, time.time(), policy)
    match verdict:
        case Stalled():
            return [SeriesResult(**known, contoured=False, reason=verdict.reason)]
        case Growing():
            # Only with a quiet period; files do not grow.
            return [SeriesResult(**known, contoured=False, reason=f"still growing: {verdict.waiting_for}")]
        case Complete():
            # Files do not grow: how long ago they were written is no evidence.
            known["evidence"] = tuple(one for one in verdict.evidence if not one.startswith("silence"))
            known["left_out"] = tuple(f"{one.sop_instance_uid}: {one.reason}" for one in verdict.manifest.left_out)
        case _:
            assert_never(verdict)
    fitting = [model for model in models if verdict.manifest.modality in model.package.modalities]
    if not fitting:
        wanted = ", ".join(sorted({modality for model in models for modality in model.package.modalities}))
        return [
            SeriesResult(**known, contoured=False, reason=f"no model for this modality; the models are for {wanted}")
        ]
    results = []
    for model in fitting:
        try:
            results.append(_contour(known, verdict, output, model, outputs, progress(series_uid)))
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
    complete: Complete,
    output: Path,
    model: OpenModel,
    outputs: Sequence[OutputKind],
    progress: Progress,
) -> SeriesResult:
    manifest = complete.manifest
    watch = Stopwatch(time.perf_counter)

    def phase(name: str) -> None:
        watch.phase(name)
        progress(name, 0, 1)

    phase("read")
    volume, headers = read_series(manifest, dataset_loader(output, manifest.files))
    contoured = contour_series(
        volume,
        manifest=manifest,
        source=headers,
        package=model.package,
        predictor=model.predictor,
        outputs=outputs,
        provenance=provenance_of(model, run_number=1, created_at=time.time(), software=__version__),
        progress=progress,
        phase=phase,
    )
    if contoured.fault:
        raise VerificationError(f"{contoured.fault} Nothing was written.")
    phase("store")
    files = {
        output / f"{one.kind}-{model.package.name}-{manifest.series_instance_uid}.dcm": one.written
        for one in contoured.objects
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
