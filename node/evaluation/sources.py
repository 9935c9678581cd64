"""What lies where a person points: structure sets, Segmentations and label maps, each with the names of its regions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from node.adapters.dicom_files import Skipped, files_below, read_header
from node.dataset.archive import whole
from node.dataset.raw import CASES, DATASET, Split, TrainingSet, read_training_set
from node.dicom.archived_structures import STRUCTURE_SET_CLASSES, RegionName, StructureSetFacts, structure_set_facts
from node.domain.errors import InputError, SetupError

Kind = Literal["RTSTRUCT", "SEG", "NIFTI"]

_NIFTI = (".nii.gz", ".nii")
_NAME_LABELS = "Put a dataset.json with its labels beside it, or name them: --labels Heart=1,Lung_L=2"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of contours or labels; its voxels and points are read when its turn comes."""

    # Of the file, without its ending.
    name: str
    path: Path
    kind: Kind
    # Tells patients apart, never shown.
    patient: str
    regions: tuple[RegionName, ...]
    # Of a DICOM object.
    facts: StructureSetFacts | None = None
    # Of a label map: the values of each region, by its number.
    values: Mapping[int, tuple[int, ...]] | None = None
    # Of a training set: regions that were contoured; None where nobody tells.
    contoured: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was found."""

    sources: tuple[Source, ...]
    # Files that hold a structure set or label map and cannot be used, and why.
    unusable: Mapping[str, str]
    # Files that are something else.
    others: int = 0


def read_sources(path: Path, labels: Mapping[str, tuple[int, ...]], split: Split | None = None) -> Found:
    """Read what a file or a folder holds.

    Parameters
    ----------
    labels
        Name and values of the regions of label maps; empty: a ``dataset.json`` says them.
    split
        Of a training set only these cases.

    Raises
    ------
    InputError
        There is nothing of use.
    SetupError
        A training set is damaged, or label maps have no names.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Name an RT Structure Set, a Segmentation, a NIfTI or a folder.")
    if path.is_dir() and (path / CASES).is_file():
        return _of_training_set(read_training_set(path), split)
    if split is not None:
        raise SetupError(f"{path} is no training set with a {CASES}.", "Leave out --split.")
    if path.is_dir() and (path / DATASET).is_file() and (path / "labelsTr").is_dir():
        # nnU-Net's raw format: images lie beside labels.
        paths = sorted(each for folder in ("labelsTr", "labelsTs") for each in (path / folder).glob("*.nii*"))
    else:
        paths = [each for each in files_below(path) if not isinstance(each, Skipped)]
    found = _of_files(paths, labels, is_alone=not path.is_dir())
    if not found.sources:
        first = "; ".join(f"{name}: {reason}" for name, reason in list(found.unusable.items())[:1])
        raise InputError(
            f"{path} holds no contours that can be used ({first or 'nothing but other files'}).",
            "Name an RT Structure Set, a Segmentation, a NIfTI of labels, or a folder of them.",
        )
    return found


def _of_files(paths: Sequence[Path], labels: Mapping[str, tuple[int, ...]], *, is_alone: bool) -> Found:
    sources: list[Source] = []
    unusable: dict[str, str] = {}
    others = 0
    for path in paths:
        try:
            source = _label_map(path, labels) if path.name.endswith(_NIFTI) else _structure_set(path)
        except InputError as error:
            unusable[path.name] = error.reason
        except OSError as error:
            unusable[path.name] = error.strerror or type(error).__name__
        else:
            others += source is None
            sources += [source] if source is not None else []
    if not is_alone:
        # Any folder has its READMEs; who names one file wants to know.
        strange = [name for name, reason in unusable.items() if reason == "not a DICOM file"]
        unusable = {name: reason for name, reason in unusable.items() if name not in strange}
        others += len(strange)
    return Found(sources=tuple(sources), unusable=unusable, others=others)


def _structure_set(path: Path) -> Source | None:
    """Read an RT Structure Set or Segmentation; None for another DICOM object."""
    if str(read_header(path, ["SOPClassUID"]).get("SOPClassUID") or "") not in STRUCTURE_SET_CLASSES:
        return None
    facts = structure_set_facts(whole(path))
    return Source(
        name=path.stem,
        path=path,
        kind=facts.kind,
        patient=f"ID {facts.patient_id}" if facts.patient_id else f"study {facts.study_instance_uid}",
        regions=facts.regions,
        facts=facts,
    )


def _label_map(path: Path, labels: Mapping[str, tuple[int, ...]]) -> Source:
    known = labels or _labels_beside(path)
    if not known:
        raise SetupError(f"Nothing says what the labels of {path.name} are.", _NAME_LABELS)
    name = next(path.name.removesuffix(ending) for ending in _NIFTI if path.name.endswith(ending))
    return _with_values(name, path, name, known)


def _with_values(name: str, path: Path, patient: str, labels: Mapping[str, tuple[int, ...]]) -> Source:
    return Source(
        name=name,
        path=path,
        kind="NIFTI",
        patient=f"case {patient}",
        regions=tuple(
            RegionName(number=number, name=each, is_empty=False) for number, each in enumerate(labels, start=1)
        ),
        values=dict(enumerate(labels.values(), start=1)),
    )


def _of_training_set(training_set: TrainingSet, split: Split | None) -> Found:
    labels = {organ: (value,) for value, organ in enumerate(training_set.organs, start=1)}
    sources = []
    for case in training_set.cases if split is None else training_set.of(split):
        source = _with_values(case.name, training_set.labels(case), case.patient, labels)
        sources.append(
            Source(
                name=source.name,
                path=source.path,
                kind=source.kind,
                patient=source.patient,
                regions=source.regions,
                values=source.values,
                contoured=frozenset(case.contoured),
            )
        )
    if not sources:
        raise InputError(f"{training_set.folder} has no case of the split {split}.", "Choose another --split.")
    return Found(sources=tuple(sources), unusable={})


def _labels_beside(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the labels of the nearest dataset.json: beside a label map, or above its folder (labelsTr)."""
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        if (folder / DATASET).is_file():
            return _labels_of(folder / DATASET)
    return {}


def _labels_of(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))["labels"]
        # nnU-Net's regions have several values.
        values = {
            str(name): tuple(map(int, value)) if isinstance(value, list) else (int(value),)
            for name, value in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SetupError(f"{path} does not say what labels mean ({type(error).__name__}).", _NAME_LABELS) from error
    return {name: value for name, value in values.items() if value != (0,)}
