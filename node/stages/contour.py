"""Contour: one job, from the stored images to stored objects and enqueued deliveries. May be killed anywhere."""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from pydicom import Dataset

from node.dicom.headers import patient_digest
from node.dicom.pixels import read_volume
from node.domain.channels import Image
from node.domain.errors import (
    InputError,
    NodeError,
    ResourceError,
    SetupError,
    StorageError,
    VerificationError,
    place_of,
)
from node.domain.forms import Forms
from node.domain.jobs import UNFINISHED_JOBS, JobState, TransitionError, retry_delay_s
from node.domain.series import SeriesManifest, manifest_from_json
from node.domain.structures import ChannelImage, Provenance
from node.domain.volume import Volume
from node.inference.package import ModelPackage
from node.inference.predictor import Opened, Progress
from node.pipeline import Contoured, contour_series
from node.results import Origin, ResultObject
from node.stages.course import Course, JobWatch, OvertimeError
from node.stages.ports import JobLedger, Log, Queue, ResultStore, Row, Slot, all_of
from node.stages.setbacks import RESOURCE_ATTEMPTS, set_back

# So soon at the latest it is tried whether somebody made room, or mended the set-up.
LONGEST_WAIT_S = 300.0

# Gives the reader of a series' stored instances: (series, SOP Instance UID -> file name) -> reader.
Loader = Callable[[str, Mapping[str, str]], Callable[[str], Dataset]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model package with its loaded network."""

    package: ModelPackage
    predictor: Opened
    # Of the device where the network runs; None on the CPU.
    slot: Slot | None = None


class Contourer:
    """Does jobs.

    Parameters
    ----------
    loader
        Reads stored instances.
    open_model
        Gives a model package with its network, by name, kept warm; raises SetupError or ResourceError.
    forms
        Gives in what form destinations want their results; raises SetupError where there is no such destination.
    """

    def __init__(
        self,
        *,
        ledger: JobLedger,
        queue: Queue,
        results: ResultStore,
        loader: Loader,
        open_model: Callable[[str], OpenModel],
        forms: Callable[[Sequence[str]], Forms],
        software_version: str,
        watch: JobWatch,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._results = results
        self._loader = loader
        self._open_model = open_model
        self._forms = forms
        self._software_version = software_version
        self._watch = watch
        self._log = log

    def __call__(self, job: str, attempt: int) -> None:
        """Do a job; does nothing if it is done, or if that attempt is over."""
        row = self._ledger.job(job)
        if row is None or row["state"] not in UNFINISHED_JOBS or row["attempt"] != attempt:
            return
        queued_s = max(0.0, self._watch.now() - row["updated_at"])  # a clock may have been put back
        try:
            self._ledger.begin_job(job, attempt)
            self._log("contouring", job=job, attempt=attempt)
            self._try(row, queued_s)
        except TransitionError:
            # Somebody cancelled it, more images came, or another worker took it over from one that was taken for lost.
            self._log("job was taken back", job=job, attempt=attempt)

    def _try(self, row: Row, queued_s: float) -> None:
        job = row["job"]
        try:
            with Course(row, self._ledger, self._watch) as course:
                self._contour(row, course, queued_s)
        except TransitionError:
            raise
        except OvertimeError as error:
            self._set_back(row, str(error))
        except InputError as error:
            self._end(job, JobState.DECLINED, error.reason)
        except VerificationError as error:
            # No object was made: what was found cannot be drawn without loss as a destination's profile wants it.
            self._end(job, JobState.FAILED, error.reason)
        except (SetupError, ResourceError, MemoryError, OSError) as error:
            self._postpone(row, error)
        except Exception as error:  # the stage's loop: nothing may stop the worker, and no job stay without a word
            self._log("contouring failed", job=job, fault=type(error).__name__, at=place_of(error))
            self._end(job, JobState.FAILED, f"Internal error ({type(error).__name__}); see the log.")

    def set_back(self, job: str, attempt: int, reason: str) -> None:
        """Note that a try at a job ended its process, and try again or fail; does nothing if it had an end before."""
        row = self._ledger.job(job)
        if row is not None and row["state"] == JobState.CONTOURING and row["attempt"] == attempt:
            self._set_back(row, reason)

    def _contour(self, row: Row, course: Course, queued_s: float) -> None:
        self._results.require_room()  # before the work, not after it
        course.phase("read")
        manifest = manifest_from_json(self._ledger.manifest(row["series_uid"], row["fingerprint"]))
        loader = _telling(self._loader, course.progress)
        volume, headers = read_series(manifest, loader(row["series_uid"], manifest.files))
        images = tuple(self._image(one) for one in row["channels"])
        further = read_further(images, headers, loader)
        course.phase("model")
        model = self._open_model(row["model"])
        course.slot = model.slot
        provenance = provenance_of(
            model, run_number=row["run_number"], created_at=row["created_at"], software=self._software_version
        )
        provenance = replace(provenance, channels=channel_images(images))
        contoured = contour_series(
            volume,
            origin=Origin(manifest=manifest, source=headers, provenance=provenance),
            package=model.package,
            predictor=model.predictor,
            outputs=row["outputs"],
            forms=self._forms(row["destinations"]),
            progress=course.progress,
            phase=course.phase,
            further=further,
        )
        course.phase("store")
        if not self._ledger.is_contoured(row["job"], row["attempt"]):
            raise TransitionError(f"job {row['job']} was taken back")
        outputs = self._store(row, contoured)
        try:
            course.phase("")
            self._conclude(row, contoured, outputs, {"queued": round(queued_s, 4), **course.seconds})
        except TransitionError:
            for one in outputs:
                self._results.remove(one["path"])
            raise

    def _conclude(self, row: Row, contoured: Contoured, outputs: Sequence[Row], timings: Mapping[str, float]) -> None:
        if contoured.fault:
            kept = ", ".join(one["path"] for one in outputs)
            self._end(row["job"], JobState.QUARANTINED, f"{contoured.fault} Kept: {kept}")
        else:
            self._finish(row, contoured, outputs, timings)

    def _image(self, channel: Row) -> Image:
        body = self._ledger.manifest(channel["series_uid"], channel["fingerprint"])
        return Image(channel=channel["channel"], manifest=manifest_from_json(body))

    def _store(self, row: Row, contoured: Contoured) -> list[Row]:
        prefix = "quarantined-" if contoured.fault else ""
        # Of its own: a try that comes too late must not write over the result of the one that took its place.
        suffix = f"-{row['attempt']}" if row["attempt"] > 1 else ""
        return [
            {
                "kind": one.kind,
                "form": one.form,
                "sop_instance_uid": one.sop_instance_uid,
                **self._results.write(row["job"], f"{prefix}{_file_stem(one)}{suffix}.dcm", one.written),
            }
            for one in contoured.objects
        ]

    def _finish(self, row: Row, contoured: Contoured, outputs: Sequence[Row], timings: Mapping[str, float]) -> None:
        job = row["job"]
        enqueues = [self._queue.deliver(job, destination) for destination in row["destinations"]]
        facts = {"report": dict(contoured.report), "timings": dict(timings), "reason": ""}
        self._ledger.finish_job(job, facts, outputs, contoured.offers, all_of(enqueues))
        self._log("contoured", job=job, structures=len(contoured.structure_set.structures), **dict(timings))
        for event in ("omitted", "renamed"):
            for one in contoured.report[event]:
                self._log(event, job=job, **one)

    def _end(self, job: str, state: JobState, reason: str, **facts: Any) -> None:
        self._ledger.move_job(job, state, reason=reason, **facts)
        self._log(f"job {state}", job=job, reason=reason)

    def _postpone(self, row: Row, error: Exception) -> None:
        reason = error.reason if isinstance(error, NodeError) else f"{type(error).__name__}: {error}"
        # What our operator must mend may take days, and so may a full disk.
        if isinstance(error, SetupError) or _is_full(error):
            self._again(row, reason, retry_delay_s(row["attempt"], first_s=10.0, longest_s=LONGEST_WAIT_S))
            return
        # A lack of memory that lasts is a job too large for this machine.
        tries = row["tries"] + 1
        if tries >= RESOURCE_ATTEMPTS:
            self._end(row["job"], JobState.FAILED, f"{reason} ({tries} tries)", tries=tries)
            return
        self._again(row, reason, retry_delay_s(tries, first_s=10.0, longest_s=LONGEST_WAIT_S), tries=tries)

    def _again(self, row: Row, reason: str, delay_s: float, **facts: Any) -> None:
        job, attempt = row["job"], row["attempt"] + 1
        enqueue = self._queue.contour(job, attempt=attempt, delay_s=delay_s, priority=row["priority"])
        self._ledger.postpone_job(job, {"reason": reason, "attempt": attempt, **facts}, enqueue)
        self._log("job waits", job=job, reason=reason, again_in_s=delay_s)

    def _set_back(self, row: Row, reason: str) -> None:
        set_back(row, reason, ledger=self._ledger, queue=self._queue, now=self._watch.now(), log=self._log)


def _is_full(error: Exception) -> bool:
    return isinstance(error, StorageError) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    )


def _telling(loader: Loader, progress: Progress) -> Loader:
    """Say before each instance how many of its series were read."""

    def load(series_uid: str, files: Mapping[str, str]) -> Callable[[str], Dataset]:
        read, done = loader(series_uid, files), count()

        def tell_and_read(sop_instance_uid: str) -> Dataset:
            progress("read", next(done), len(files))
            return read(sop_instance_uid)

        return tell_and_read

    return load


def _file_stem(result: ResultObject) -> str:
    """Name a file by kind and form: "rtstruct-eclipse-labelmap"."""
    return "-".join((result.kind, *result.form.split(", ")))


def read_series(manifest: SeriesManifest, load: Callable[[str], Dataset]) -> tuple[Volume, list[Dataset]]:
    """Read a manifest's voxels, and its instances' headers without their pixels.

    Parameters
    ----------
    load
        Reads one instance with its pixels, by SOP Instance UID.
    """
    headers: list[Dataset] = []

    def load_and_keep(sop_instance_uid: str) -> Dataset:
        dataset = load(sop_instance_uid)
        headers.append(dataset)
        return dataset

    volume = read_volume(load_and_keep, manifest)
    for dataset in headers:
        dataset.pop("PixelData", None)
    return volume, headers


def read_further(images: Sequence[Image], headers: Sequence[Dataset], loader: Loader) -> tuple[Volume, ...]:
    """Read the voxels of every image but the first, whose headers are given.

    Raises
    ------
    InputError
        One of them is of another patient.
    """
    volumes = []
    for image in images[1:]:
        manifest = image.manifest
        volume, others = read_series(manifest, loader(manifest.series_instance_uid, manifest.files))
        if len({patient_digest(header) for header in (*headers, *others)}) > 1:
            raise InputError(f"{image.channel} (series {manifest.series_instance_uid}) is of another patient.")
        volumes.append(volume)
    return tuple(volumes)


def channel_images(images: Sequence[Image]) -> tuple[ChannelImage, ...]:
    """Give what a result says of the images that a model took together."""
    return tuple(
        ChannelImage(
            channel=one.channel,
            series_instance_uid=one.manifest.series_instance_uid,
            modality=one.manifest.modality,
            fingerprint=one.manifest.fingerprint,
        )
        for one in images
    )


def provenance_of(model: OpenModel, *, run_number: int, created_at: float, software: str) -> Provenance:
    """Say how a result with this model comes about."""
    package = model.package
    return Provenance(
        model_name=package.name,
        model_title=package.title,
        model_version=package.version,
        model_digest=package.digest,
        run_number=run_number,
        computed_by=model.predictor.computed_by,
        created_at=created_at,
        software_version=software,
    )
