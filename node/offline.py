"""``delineate contour``: files in, files out, by the same stages as the node, without a network."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, assert_never

from pydicom import Dataset

from node import __version__
from node.adapters.dicom_files import Skipped, dataset_loader, find_instances
from node.adapters.durable import write_durably
from node.domain.channels import Gathering, Image, Lacking, Together, Unfit, gather
from node.domain.errors import InputError, NodeError, SetupError, VerificationError
from node.domain.forms import Form
from node.domain.instance import ReceivedInstance
from node.domain.routing import Accepted, OutputKind, Route, RouteChannel, decide
from node.domain.series import Complete, CompletionPolicy, Growing, SeriesFacts, SeriesManifest, Stalled, assess
from node.inference.package import ModelPackage
from node.inference.predictor import Progress
from node.pipeline import contour_series
from node.results import Origin
from node.stages.contour import OpenModel, channel_images, provenance_of, read_further, read_series
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made, and where it goes."""

    # Folder for the objects; one file per volume, model and kind.
    output: Path
    outputs: Sequence[OutputKind]
    # What the receiver of the files takes.
    form: Form
    # Gives a progress for one series.
    progress: Callable[[str], Progress]


def contour_files(
    inputs: Sequence[Path],
    order: Order,
    *,
    models: Sequence[OpenModel],
    channels: Sequence[RouteChannel] = (),
    policy: CompletionPolicy,
) -> OfflineResult:
    """Contour every series found in folders, files and zips with every model for its modality.

    Parameters
    ----------
    channels
        What tells the images of models that take several; one for each, by the model's names.

    Raises
    ------
    SetupError
        A model takes several images, and the channels do not say which series is which; or a channel is none of them.
    """
    joint = [(_rules(model.package, channels), model) for model in models if len(model.package.image_names) > 1]
    _refuse_strangers(channels, [name for _, model in joint for name in model.package.image_names])
    alone = [model for model in models if len(model.package.image_names) == 1]
    with tempfile.TemporaryDirectory(prefix="delineate-") as unpacked:
        found = collect(inputs, Path(unpacked))
        judged = [_judged(instances, found.damage_to(instances), policy) for instances in found.series]
        wholes = {one.uid: one for one in judged if isinstance(one, _Whole)}
        results = [one for one in judged if isinstance(one, SeriesResult)]
        results += [result for whole in wholes.values() for result in _each_alone(whole, alone, order)]
        for route, model in joint:
            results += _together(wholes, route, model, order)
    results += _left_over(wholes.values(), results)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """A series that is whole; ``known`` is what every result says of it."""

    known: Mapping[str, Any]
    manifests: tuple[SeriesManifest, ...]
    # Why models do not take it.
    misfits: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        return str(self.known["series_uid"])

    def declined(self, reason: str) -> SeriesResult:
        return SeriesResult(**self.known, contoured=False, reason=reason)


def _judged(instances: tuple[ReceivedInstance, ...], damage: str, policy: CompletionPolicy) -> _Whole | SeriesResult:
    known: dict[str, Any] = {
        "series_uid": instances[0].series_instance_uid,
        "modality": instances[0].modality,
        "instances": len(instances),
    }
    verdict = judge(instances, policy)
    if isinstance(verdict, Stalled):
        return SeriesResult(**known, contoured=False, reason="; ".join(filter(None, [verdict.reason, damage])))
    if damage:
        return SeriesResult(**known, contoured=False, reason=damage)
    known["evidence"] = verdict.evidence
    known["left_out"] = tuple(f"{one.sop_instance_uid}: {one.reason}" for one in verdict.left_out)
    return _Whole(known=known, manifests=verdict.manifests)


def _each_alone(whole: _Whole, models: Sequence[OpenModel], order: Order) -> list[SeriesResult]:
    """Contour a series with every model that takes one image of its modality."""
    fitting = [
        (manifest, model)
        for manifest in whole.manifests
        for model in models
        if manifest.modality in model.package.modalities
    ]
    if models and not fitting:
        wanted = ", ".join(sorted({modality for model in models for modality in model.package.modalities}))
        whole.misfits.append(f"no model for this modality; the models are for {wanted}")
    return [_tried(whole, manifest, (), model, order) for manifest, model in fitting]


def _refuse_strangers(channels: Sequence[RouteChannel], known: Sequence[str]) -> None:
    """Refuse a rule for an image that no model takes: left aside, it would tell nothing apart."""
    for one in channels:
        if one.name not in known:
            which = f"the images of the models are {', '.join(known)}" if known else "the models take one image each"
            raise SetupError(f"No model takes an image {one.name}; {which}.", "Correct or leave out that --channel.")


def _rules(package: ModelPackage, channels: Sequence[RouteChannel]) -> Route:
    """Give the rules for a model as a route of its own.

    Raises
    ------
    SetupError
        There is not exactly one for each of its images.
    """
    own = {name: [one for one in channels if one.name == name] for name in package.image_names}
    if any(len(rules) != 1 for rules in own.values()):
        examples = " ".join(f"--channel '{name}:SeriesDescription=*{name.lower()}*'" for name in package.image_names)
        raise SetupError(
            f"The model {package.name} takes {' and '.join(package.image_names)}; which series is which?",
            f"Say what tells them, for example: {examples}",
        )
    return Route(
        name=package.name,
        when={"Modality": package.modalities},
        unless={},
        models=(package.name,),
        outputs=(),
        destinations=(),
        channels=tuple(rules[0] for rules in own.values()),
    )


def _together(wholes: Mapping[str, _Whole], route: Route, model: OpenModel, order: Order) -> Iterator[SeriesResult]:
    """Contour with a model that takes several images whatever belongs together, and say what is missing to it."""
    takes = f"The model {model.package.name} takes {' and '.join(channel.name for channel in route.channels)}"
    studies: dict[str, list[Image]] = {}
    for whole in wholes.values():
        for manifest in whole.manifests:
            decision = decide([route], manifest.attributes)
            if isinstance(decision, Accepted):
                image = Image(channel=decision.channel, manifest=manifest)
                studies.setdefault(manifest.study_instance_uid, []).append(image)
            else:
                why = decision.reason if decision.ambiguous else "; ".join(decision.checks[0].reasons)
                number = whole.manifests.index(manifest) + 1
                volume = f"volume {number}: " if len(whole.manifests) > 1 else ""
                whole.misfits.append(f"{volume}{takes}; {why}")
    for images in studies.values():
        for gathering in gather(route, images, ()):
            yield from _concluded(gathering, takes, wholes, model, order)


def _concluded(
    gathering: Gathering, takes: str, wholes: Mapping[str, _Whole], model: OpenModel, order: Order
) -> list[SeriesResult]:
    verdict = gathering.verdict
    match verdict:
        case Together():
            first = verdict.images[0].manifest
            tried = _tried(wholes[first.series_instance_uid], first, verdict.images, model, order)
            if tried.contoured:
                return [tried]
            reason = tried.reason
        case Lacking():
            reason = f"{takes}; no series fits {verdict.words}"
        case Unfit():
            reason = verdict.reason
        case _:
            assert_never(verdict)
    uids = dict.fromkeys(one.manifest.series_instance_uid for one in gathering.images)
    return [wholes[uid].declined(reason) for uid in uids]


def _left_over(wholes: Iterable[_Whole], results: Sequence[SeriesResult]) -> list[SeriesResult]:
    """Say of every series that no model took, also not beside another, why none did."""
    taken = {one.series_uid for one in results}
    taken |= {channel["series_instance_uid"] for one in results for channel in one.report.get("channels", ())}
    return [
        whole.declined("; ".join(whole.misfits))
        for whole in wholes
        # Of several volumes one may be taken and another not.
        if whole.misfits and (whole.uid not in taken or len(whole.manifests) > 1)
    ]


def _tried(
    whole: _Whole, manifest: SeriesManifest, images: Sequence[Image], model: OpenModel, order: Order
) -> SeriesResult:
    try:
        return _contour(whole, manifest, images, model, order)
    except (NodeError, OSError, MemoryError) as error:
        return whole.declined(_reason(error))


def _reason(error: NodeError | OSError | MemoryError) -> str:
    match error:
        case NodeError():
            return error.reason
        case OSError():
            return str(error)
        case MemoryError():
            return "the memory of this machine does not suffice for it"


def _contour(
    whole: _Whole, manifest: SeriesManifest, images: Sequence[Image], model: OpenModel, order: Order
) -> SeriesResult:
    watch = Stopwatch(time.perf_counter)
    progress = order.progress(manifest.series_instance_uid)

    def phase(name: str) -> None:
        watch.phase(name)
        progress(name, 0, 1)

    def loader(_: str, files: Mapping[str, str]) -> Callable[[str], Dataset]:
        return dataset_loader(order.output, files)

    phase("read")
    volume, headers = read_series(manifest, loader("", manifest.files))
    further = read_further(images, headers, loader)
    provenance = provenance_of(model, run_number=1, created_at=time.time(), software=__version__)
    provenance = replace(provenance, channels=channel_images(images))
    contoured = contour_series(
        volume,
        origin=Origin(manifest=manifest, source=headers, provenance=provenance),
        package=model.package,
        predictor=model.predictor,
        outputs=order.outputs,
        forms={"": order.form},
        progress=progress,
        phase=phase,
        further=further,
    )
    if contoured.fault:
        raise VerificationError(f"{contoured.fault} Nothing was written.")
    phase("store")
    best, *_ = contoured.offers[""]
    suffix = f"-volume{whole.manifests.index(manifest) + 1}" if len(whole.manifests) > 1 else ""
    files = {
        order.output / f"{one.kind}-{model.package.name}-{manifest.series_instance_uid}{suffix}.dcm": one.written
        for one in contoured.objects
        if one.sop_instance_uid in best
    }
    _write_all_or_none(files)
    watch.phase("")
    if not files:
        raise InputError("No output was asked for.")
    return SeriesResult(
        **whole.known,
        contoured=True,
        files=tuple(map(str, files)),
        report=dict(contoured.report),
        timings=watch.seconds,
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
