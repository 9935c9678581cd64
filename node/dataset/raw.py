"""A training set on disk: the raw format of nnU-Net v2, and beside it what that format cannot say.

::

    OUT/
        dataset.json                    nnU-Net's: channel_names, labels, numTraining, file_ending
        cases.json                      ours: the split, and which organs were contoured, case by case
        imagesTr/CASE_0000.nii.gz       training and validation cases, one file for each channel
        labelsTr/CASE.nii.gz            0 background, 1, 2, ... as dataset.json names them
        imagesTs/ labelsTs/             test cases, which training never sees

nnU-Net takes a voxel without a label for background. A clinic's archive is not so kind: an organ that nobody contoured
in a case is there all the same. ``cases.json`` says which were contoured; `delineate train` learns nothing about the
others from that case.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from node.domain.errors import SetupError

DATASET, CASES = "dataset.json", "cases.json"
FILE_ENDING = ".nii.gz"
SCHEMA_VERSION = 1

Split = Literal["train", "validation", "test"]

_REMEDY = "Make the training set with `delineate dataset build`, or see its format in ARCHITECTURE.md."


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image with its labels. All cases of one patient are in one split."""

    # Of the file names; says nothing of the patient.
    name: str
    # Tells patients apart; says nothing of them either.
    patient: str
    split: Split
    # Organs that somebody contoured here; any other may be in the image without a label.
    contoured: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """What the two JSON files say."""

    folder: Path
    name: str
    # DICOM Modality or the name of a kind of image, one for each channel.
    channels: tuple[str, ...]
    # Organs in the order of their label values 1, 2, ...
    organs: tuple[str, ...]
    cases: tuple[Case, ...]

    def of(self, split: Split) -> tuple[Case, ...]:
        """Give the cases of a split."""
        return tuple(each for each in self.cases if each.split == split)

    def images(self, case: Case) -> tuple[Path, ...]:
        """Give the files of a case's channels."""
        folder = self.folder / ("imagesTs" if case.split == "test" else "imagesTr")
        return tuple(folder / f"{case.name}_{number:04d}{FILE_ENDING}" for number in range(len(self.channels)))

    def labels(self, case: Case) -> Path:
        """Give the file of a case's label map."""
        return self.folder / ("labelsTs" if case.split == "test" else "labelsTr") / f"{case.name}{FILE_ENDING}"


def write_training_set(training_set: TrainingSet) -> None:
    """Write the two JSON files and make the folders; the images are the caller's."""
    for case in training_set.cases:
        training_set.labels(case).parent.mkdir(parents=True, exist_ok=True)
        training_set.images(case)[0].parent.mkdir(parents=True, exist_ok=True)
    seen = [case for case in training_set.cases if case.split != "test"]
    dataset = {
        "name": training_set.name,
        "channel_names": {str(number): name for number, name in enumerate(training_set.channels)},
        "labels": {"background": 0, **{name: value for value, name in enumerate(training_set.organs, start=1)}},
        "numTraining": len(seen),
        "file_ending": FILE_ENDING,
    }
    cases = {
        "schema_version": SCHEMA_VERSION,
        "cases": [
            {"name": each.name, "patient": each.patient, "split": each.split, "contoured": list(each.contoured)}
            for each in training_set.cases
        ],
    }
    for name, content in ((DATASET, dataset), (CASES, cases)):
        (training_set.folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_training_set(folder: Path) -> TrainingSet:
    """Read the two JSON files and check that they go together and that every file they name is there.

    Raises
    ------
    SetupError
        A file is missing or says what cannot be; the reason names the case and the key.
    """
    dataset, cases = _json(folder / DATASET), _json(folder / CASES)
    if cases.get("schema_version") != SCHEMA_VERSION:
        raise SetupError(f"{folder / CASES} has schema_version {cases.get('schema_version')!r}, not 1.", _REMEDY)
    try:
        named: Mapping[str, int] = dataset["labels"]
        organs = tuple(sorted((name for name in named if named[name] != 0), key=lambda name: named[name]))
        training_set = TrainingSet(
            folder=folder,
            name=str(dataset.get("name", folder.name)),
            channels=tuple(dataset["channel_names"][str(each)] for each in range(len(dataset["channel_names"]))),
            organs=organs,
            cases=tuple(_case(each, organs) for each in cases["cases"]),
        )
    except (KeyError, TypeError) as error:
        raise SetupError(f"{folder} is no training set: {error!r} in {DATASET} or {CASES}.", _REMEDY) from error
    if not organs or not training_set.channels:
        raise SetupError(f"{folder / DATASET} names no {'channel' if organs else 'label but background'}.", _REMEDY)
    if [named[each] for each in organs] != list(range(1, len(organs) + 1)):
        raise SetupError(f"{folder / DATASET}: label values are {list(named.values())}, not 0, 1, 2, ...", _REMEDY)
    for name in (training_set.name, *(each.name for each in training_set.cases)):
        # They become names of files and folders.
        if not name or name.startswith(".") or any(each in "/\\" or not each.isprintable() for each in name):
            raise SetupError(f"{folder}: {name!r} is no name of a training set or a case.", _REMEDY)
    _check(training_set)
    return training_set


def _case(said: Mapping[str, Any], organs: Sequence[str]) -> Case:
    case = Case(
        name=str(said["name"]),
        patient=str(said["patient"]),
        split=said["split"],
        contoured=tuple(said["contoured"]),
    )
    if case.split not in get_args(Split):
        raise SetupError(f"Case {case.name} is in split {case.split!r}, none of {', '.join(get_args(Split))}.", _REMEDY)
    if unknown := sorted(set(case.contoured) - set(organs)):
        raise SetupError(f"Case {case.name} names {', '.join(unknown)}, which {DATASET} does not.", _REMEDY)
    return case


def _check(training_set: TrainingSet) -> None:
    splits: dict[str, str] = {}
    for case in training_set.cases:
        if splits.setdefault(case.patient, case.split) != case.split:
            raise SetupError(f"Patient {case.patient} is in {splits[case.patient]} and in {case.split}.", _REMEDY)
        for path in (*training_set.images(case), training_set.labels(case)):
            if not path.is_file():
                raise SetupError(f"Case {case.name}: {path} is missing.", _REMEDY)
    names = [each.name for each in training_set.cases]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise SetupError(f"{training_set.folder / CASES} names {', '.join(twice)} twice.", _REMEDY)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot be read: {error}", _REMEDY) from error
    if not isinstance(content, dict):
        raise SetupError(f"{path} holds no JSON object.", _REMEDY)
    return content
