"""``delineate dataset build``: from an archive of images and structure sets to a training set and an account of it.

What cannot be told for sure is left out with the reason, never guessed. One volume is in memory at a time; the training
set is made in a folder beside the one that was asked for, and renamed when it is whole.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from node.adapters.dicom_files import dataset_loader, read_file
from node.dataset.archive import Archive, ArchivedSeries, ArchivedStructureSet, linked, survey, whole
from node.dataset.built import Built, BuiltCase, LeftOut, Order, What
from node.dataset.cases import Choice, Labelled, Volume, choose
from node.dataset.nifti import Image, affine_of, require_nibabel, turned_to_lps, write_nifti
from node.dataset.raw import FILE_ENDING, Case, TrainingSet, write_training_set
from node.dataset.report import REPORT_JSON, REPORT_TEXT, as_markdown, report
from node.dataset.splitting import shuffled, split
from node.dicom.pixels import read_volume
from node.domain.errors import InputError, SetupError
from node.domain.series import CompletionPolicy, SeriesManifest, Stalled
from node.offline import judge

# Told what is done, how much of it, and of how much.
Progress = Callable[[str, int, int], None]

POLICY = CompletionPolicy()

_WITHOUT_SERIES = "its series is left out"


def build(folder: Path, out: Path | None, order: Order, progress: Progress) -> Built:
    """Make a training set of an archive.

    Parameters
    ----------
    out
        Where; made if need be, empty otherwise. None: nothing is written, and pixels are not read.

    Raises
    ------
    InputError
        The archive holds no case, or too few patients of an organ.
    SetupError
        ``out`` is not empty, or the extra ``train`` is not installed.
    """
    if out is not None:
        require_nibabel()
        refuse_full(out)
    archive = survey(folder, lambda done, of: progress("read headers", done, of))
    with _beside(out) as partial:
        builder = _Builder(archive=archive, order=order, partial=partial)
        builder.work(progress)
        built = builder.finished()
        if partial is not None:
            refuse_too_few(built)
            _write(built, partial)
    return built


def refuse_full(out: Path) -> None:
    """Raise SetupError where a training set could overwrite something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SetupError(f"{out} is there already.", "Name a folder that does not exist, or is empty.")


@contextmanager
def _beside(out: Path | None) -> Iterator[Path | None]:
    """Give a folder that becomes ``out`` if all goes well, and else vanishes."""
    if out is None:
        yield None
        return
    # An empty folder may be given by a link.
    wanted = out.resolve()
    wanted.parent.mkdir(parents=True, exist_ok=True)
    partial = wanted.parent / f".{wanted.name}.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    try:
        yield partial
        partial.rename(wanted)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@dataclass(kw_only=True)
class _Builder:
    """Goes through the series in an order that says nothing of them."""

    archive: Archive
    order: Order
    partial: Path | None
    cases: list[BuiltCase] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def work(self, progress: Progress) -> None:
        of_series, of_none = linked(self.archive)
        for uid, reason in of_none.items():
            self._leave_out("structure set", uid, reason)
        every = shuffled(self.archive.series, self.order.seed)
        for number, uid in enumerate(every):
            progress(f"series {number + 1} of {len(every)}", number, len(every))
            series, candidates = self.archive.series[uid], of_series.get(uid, ())
            if series.modality != self.order.modality:
                self._decline(uid, f"its modality is not {self.order.modality}", candidates)
            elif not candidates:
                self._decline(uid, "no structure set is of it", candidates)
            else:
                self._take(series, candidates)
        progress("finish", 1, 1)

    def finished(self) -> Built:
        patients = shuffled({one.case.patient for one in self.cases}, self.order.seed)
        splits = split(patients, validation=self.order.validation, test=self.order.test)
        # What stood for a patient until now goes no further than here.
        keys = {patient: f"p{number:03d}" for number, patient in enumerate(patients, start=1)}
        cases = [
            replace(one, case=replace(one.case, patient=keys[one.case.patient], split=splits[one.case.patient]))
            for one in self.cases
        ]
        return Built(order=self.order, archive=self.archive, cases=tuple(cases), left_out=tuple(self.left_out))

    def _take(self, series: ArchivedSeries, candidates: Sequence[ArchivedStructureSet]) -> None:
        try:
            manifests = _manifests(series)
        except InputError as error:
            self._decline(series.uid, error.reason, candidates)
            return
        reasons: dict[str, str] = {}
        used: set[str] = set()
        for manifest in manifests:
            volume = Volume(
                manifest=manifest,
                patient_id=series.patient_id,
                images=frozenset(series.images),
                is_only=len(manifests) == 1,
            )
            choice = self._choice(volume, candidates)
            reasons |= choice.declined
            if choice.labelled is None:
                continue
            used.add(choice.labelled.structure_set_uid)
            try:
                self._add(series, manifest, choice.labelled)
            except InputError as error:
                self._leave_out("series", series.uid, error.reason)
                reasons[choice.labelled.structure_set_uid] = _WITHOUT_SERIES
        for uid, reason in reasons.items():
            if uid not in used or reason == _WITHOUT_SERIES:
                self._leave_out("structure set", uid, reason)
        if not used:
            self._leave_out("series", series.uid, "none of its structure sets can be used")

    def _choice(self, volume: Volume, candidates: Sequence[ArchivedStructureSet]) -> Choice:
        return choose(
            volume,
            candidates,
            self.order.names,
            label=self.order.structure_set,
            read=lambda one: whole(one.path),
        )

    def _add(self, series: ArchivedSeries, manifest: SeriesManifest, labelled: Labelled) -> None:
        """Add a case and write its images.

        Raises
        ------
        InputError
            The images cannot be decoded, or NIfTI cannot hold them.
        """
        name = f"{self.order.name}_{len(self.cases) + 1:03d}"
        labels = turned_to_lps(Image(voxels=labelled.labels, affine_lps_mm=affine_of(manifest.grid)))
        if self.partial is not None:
            _write_images(self.partial, name, manifest, labels)
        slices, rows, columns = labels.voxels.shape
        for organ, reason in labelled.left_out.items():
            self._leave_out("organ", name, reason, organ)
        self.cases.append(
            BuiltCase(
                case=Case(
                    name=name,
                    patient=self.archive.patients.of(series.study_instance_uid),
                    split="train",
                    contoured=tuple(organ for organ in self.order.names.organs if organ in labelled.volumes_cm3),
                ),
                series_uid=series.uid,
                study_uid=series.study_instance_uid,
                patient_id=series.patient_id,
                structure_set_uid=labelled.structure_set_uid,
                shape=(slices, rows, columns),
                spacing_mm=labels.spacing_mm,
                voxel_volume_mm3=manifest.grid.voxel_volume_mm3,
                labelled=replace(labelled, labels=np.empty((0, 0, 0), dtype=np.uint8)),
            )
        )

    def _decline(self, series_uid: str, reason: str, candidates: Sequence[ArchivedStructureSet]) -> None:
        self._leave_out("series", series_uid, reason)
        for one in candidates:
            self._leave_out("structure set", one.facts.sop_instance_uid, _WITHOUT_SERIES)

    def _leave_out(self, what: What, of: str, reason: str, organ: str = "") -> None:
        self.left_out.append(LeftOut(what=what, of=of, reason=reason, organ=organ))


def _manifests(series: ArchivedSeries) -> tuple[SeriesManifest, ...]:
    """Judge whether a series is whole.

    Raises
    ------
    InputError
        It is not, or one of its files cannot be used.
    """
    instances, unusable = [], []
    for path in series.files:
        try:
            instances.append(replace(read_file(path), file_name=str(path.absolute())))
        except InputError as error:
            unusable.append(error.reason)
        except OSError as error:
            unusable.append(error.strerror or type(error).__name__)
    if unusable:
        raise InputError(f"{len(unusable)} of its files cannot be used, the first: {unusable[0]}")
    verdict = judge(tuple(instances), POLICY)
    if isinstance(verdict, Stalled):
        raise InputError(verdict.reason)
    return verdict.manifests


def _write_images(partial: Path, name: str, manifest: SeriesManifest, labels: Image) -> None:
    volume = read_volume(dataset_loader(Path("/"), manifest.files), manifest)
    voxels = stored(volume.voxels, manifest.modality)
    image = turned_to_lps(Image(voxels=voxels, affine_lps_mm=affine_of(manifest.grid)))
    write_nifti(_image_of(partial, name), image)
    write_nifti(_labels_of(partial, name), labels)


def stored(voxels: NDArray[np.float32], modality: str) -> NDArray[np.int16] | NDArray[np.float32]:
    """Give HU rounded to 16 bit; of MR 16 bit where that loses nothing, and else the values as they are.

    Raises
    ------
    InputError
        A CT holds values beyond 16 bit.
    """
    low, high = float(voxels.min()), float(voxels.max())
    limits = np.iinfo(np.int16)
    if low < limits.min or high > limits.max:
        if modality == "CT":
            raise InputError(f"values of {low:g} to {high:g} HU, which 16 bit do not hold")
        return voxels
    whole_numbers = np.empty(voxels.shape, dtype=np.int16)
    # Slice by slice: a copy of the whole in 32 bit would be the largest thing in memory.
    for image, rounded in zip(voxels, whole_numbers, strict=True):
        rounded[...] = np.rint(image)
        if modality != "CT" and not np.array_equal(rounded, image):
            return voxels
    return whole_numbers


def refuse_too_few(built: Built) -> None:
    """Raise InputError where there is no case, or an organ is contoured in too few patients."""
    remedy = "--dry-run tells all that is left out, and why. List more spellings in --names"
    if not built.cases:
        raise InputError("No case can be made of this archive.", f"{remedy}.")
    few = {}
    for organ in built.order.names.organs:
        patients = len({one.case.patient for one in built.cases if organ in one.case.contoured})
        if patients < built.order.min_patients:
            few[organ] = patients
    if few:
        listed = ", ".join(f"{organ} in {patients}" for organ, patients in few.items())
        raise InputError(
            f"Contoured in fewer than {built.order.min_patients} patients: {listed}.",
            f"{remedy}, leave out the organ, or lower --min-patients.",
        )


def _write(built: Built, partial: Path) -> None:
    """Put the images where they belong, and all else beside them."""
    training_set = TrainingSet(
        folder=partial,
        name=built.order.name,
        channels=(built.order.modality,),
        organs=built.order.names.organs,
        cases=tuple(one.case for one in built.cases),
    )
    write_training_set(training_set)
    for case in training_set.cases:
        _image_of(partial, case.name).rename(training_set.images(case)[0])
        _labels_of(partial, case.name).rename(training_set.labels(case))
    account = report(built)
    (partial / REPORT_JSON).write_text(json.dumps(account, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (partial / REPORT_TEXT).write_text(as_markdown(account), encoding="utf-8")


def _image_of(partial: Path, name: str) -> Path:
    return partial / f"image-{name}{FILE_ENDING}"


def _labels_of(partial: Path, name: str) -> Path:
    return partial / f"labels-{name}{FILE_ENDING}"
