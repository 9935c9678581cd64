"""A training from its training set to a model package, in one folder from which it goes on after an interruption.

::

    OUT/
        lock           held while a training runs here
        plan.json      spacing and intensities, measured once
        prepared/      the cases' arrays
        state/         weights, optimiser, history: what a later session goes on from
        curve.png      loss and validation
        results/       the trained network as nnU-Net v2 leaves one
        packages/NAME  the model package
"""

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from node.adapters.durable import write_durably
from node.convert.package_folder import Imported
from node.convert.refusals import ImportOptions
from node.dataset.raw import Case, TrainingSet, read_training_set
from node.domain.errors import SetupError
from node.training.curve import draw_curve
from node.training.loop import HISTORY, Trained, Trainer
from node.training.outcome import write_results_folder
from node.training.packaging import Told, make_trained_package
from node.training.plan import Intensities, Plan, intensities_of, median_spacing, sampled
from node.training.prepared import Prepared, prepare, read_case
from node.training.progress import Look, read_history
from node.training.ranges import gates_of, in_one_piece, ranges_of
from node.training.recipe import Recipe
from node.training.report import training_report

# What `delineate dataset build` names channels by.
MODALITIES = ("CT", "MR")
PLAN, CURVE, LOCK = "plan.json", "curve.png", "lock"


# Told what is done, how much of it, and of how much.
Progress = Callable[[str, int, int], None]


class Teller(Protocol):
    """Whom a training tells how far it is."""

    def told(self, doing: str, done: int, of: int) -> None:
        """So much of a piece of work is done."""

    def stepped(self, step: int, loss: float) -> None:
        """A step is done."""

    def looked(self, look: Look) -> None:
        """The validation cases were looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be trained, and where."""

    dataset: Path
    folder: Path
    recipe: Recipe
    device: torch.device
    options: ImportOptions
    # What the model cannot do, in words; empty leaves what the data tell.
    limits: str = ""


def train(task: Task, teller: Teller, stop: Callable[[], bool]) -> Imported | None:
    """Train, and make a package of it; None where it was stopped before its end.

    Raises
    ------
    SetupError
        The training set cannot be trained on, or the folder holds another training, or one that runs.
    """
    training_set = read_training_set(task.dataset)
    _refuse_untrainable(training_set)
    task = replace(task, options=replace(task.options, modality=_modality(task.options, training_set)))
    with _alone(task.folder):
        try:
            trainer = _trainer(task, training_set, teller, stop)
        except _StoppedEarlyError:
            return None
        trained = trainer.run(_Drawing(teller, task.folder))
        return None if trained is None else _packaged(task, trainer, trained, teller)


class _StoppedEarlyError(Exception):
    """A person stopped it while cases were read."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second training out of a folder, for as long as this process lives."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"Another training is running in {folder}.", "Wait for it, stop it, or name another folder."
            ) from None
        yield


def _trainer(task: Task, training_set: TrainingSet, teller: Teller, stop: Callable[[], bool]) -> Trainer:
    def told(doing: str, done: int, of: int) -> None:
        if stop():
            raise _StoppedEarlyError
        teller.told(doing, done, of)

    plan = _plan(task, training_set, told)
    return Trainer(
        plan=plan,
        training=_prepared(training_set, training_set.of("train"), plan, task.folder, told),
        validation=_prepared(training_set, training_set.of("validation"), plan, task.folder, told),
        folder=task.folder / "state",
        device=task.device,
        stop=stop,
    )


def _refuse_untrainable(training_set: TrainingSet) -> None:
    cases = training_set.of("train")
    if not cases or not training_set.of("validation"):
        raise SetupError(
            f"{training_set.folder} has {len(cases)} training and {len(training_set.of('validation'))} validation "
            "cases.",
            "Both are needed: build it with `delineate dataset build --validation 0.15`.",
        )
    unseen = [organ for organ in training_set.organs if not any(organ in case.contoured for case in cases)]
    if unseen:
        raise SetupError(f"No training case has {', '.join(unseen)} contoured.", "Leave it out, or add cases.")
    if not any(case.contoured for case in training_set.of("validation")):
        raise SetupError(
            "No validation case has any organ contoured: nothing would tell when to stop.",
            "Add one, or build the training set with another --seed.",
        )


def _modality(options: ImportOptions, training_set: TrainingSet) -> str:
    """Give the Modality of the package, now rather than after the hours that it takes to make it."""
    kinds = {name.upper() for name in training_set.channels}
    modality = options.modality or (kinds.pop() if len(kinds) == 1 else "")
    if not options.modality and modality not in MODALITIES:
        raise SetupError(
            f"Channels are called {', '.join(training_set.channels)}, which is no DICOM Modality.",
            "Give --modality, e.g. MR.",
        )
    return modality


def _plan(task: Task, training_set: TrainingSet, told: Progress) -> Plan:
    """Measure the training cases, once for all sessions."""
    path = task.folder / PLAN
    asked = _asked(task.recipe)
    if not path.exists():
        spacing_mm, intensities = _measured(task.recipe, training_set, told)
        said = {"asked": asked, "spacing_mm": spacing_mm, "intensities": [asdict(each) for each in intensities]}
        write_durably(path, (json.dumps(said, indent=1) + "\n").encode())
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        z, y, x = (float(each) for each in read["spacing_mm"])
        intensities = [Intensities(**each) for each in read["intensities"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{path} is damaged ({type(error).__name__}).", "Remove it: it is measured again.") from error
    if read.get("asked", asked) != asked:
        raise SetupError(
            f"{path} was measured for another spacing_mm or window than the recipe's.",
            "Name another folder, or remove this one to begin anew.",
        )
    return Plan(
        name=f"Dataset001_{training_set.name}",
        channels=training_set.channels,
        organs=training_set.organs,
        spacing_mm=(z, y, x),
        intensities=tuple(intensities),
        recipe=task.recipe,
    )


def _asked(recipe: Recipe) -> dict[str, Any]:
    """Give what of a recipe decides what is measured, as JSON values."""
    return {
        name: None if given is None else list(given)
        for name, given in (("spacing_mm", recipe.spacing_mm), ("window", recipe.window))
    }


def _measured(
    recipe: Recipe, training_set: TrainingSet, told: Progress
) -> tuple[tuple[float, float, float], list[Intensities]]:
    cases, rng = training_set.of("train"), np.random.default_rng(recipe.seed)
    values: list[list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = [[] for _ in training_set.channels]
    spacings = []
    unseen = dict(enumerate(training_set.organs, start=1))
    for done, case in enumerate(cases):
        told("measuring", done, len(cases))
        channels, labels = read_case(training_set, case)
        unseen = {value: organ for value, organ in unseen.items() if not (labels.voxels == value).any()}
        inside = labels.voxels > 0
        for number, image in enumerate(channels):
            values[number].append(sampled(image.voxels[inside], rng))
        spacings.append(labels.spacing_mm)
    if unseen:
        raise SetupError(
            f"No training case has a voxel of {', '.join(unseen.values())}, though cases.json says it is contoured.",
            "Leave it out, or mend cases.json.",
        )
    spacing_mm = recipe.spacing_mm or median_spacing(spacings)
    return spacing_mm, [intensities_of(each, recipe.window) for each in values]


def _prepared(
    training_set: TrainingSet, cases: Sequence[Case], plan: Plan, folder: Path, told: Progress
) -> tuple[Prepared, ...]:
    def prepared(done: int) -> None:
        told("preparing", done, len(cases))

    return prepare(training_set, cases, plan.spacing_mm, folder / "prepared", prepared)


class _Drawing:
    """Draws the curve again at every look."""

    def __init__(self, teller: Teller, folder: Path) -> None:
        self._teller = teller
        self._folder = folder

    def stepped(self, step: int, loss: float) -> None:
        self._teller.stepped(step, loss)

    def looked(self, look: Look) -> None:
        draw_curve(read_history(self._folder / "state" / HISTORY).looks, self._folder / CURVE)
        self._teller.looked(look)


def _packaged(task: Task, trainer: Trainer, trained: Trained, teller: Teller) -> Imported:
    plan = trainer.plan
    results = write_results_folder(
        trained.network, plan, trained.history, len(trainer.training), task.folder / "results"
    )
    ranges = ranges_of(trainer.training, plan.organs, plan.channels[0])
    told = Told(
        gates=gates_of(ranges),
        in_one_piece=in_one_piece(ranges),
        limits=task.limits or "What was not among the images that it was trained with; MODEL_CARD.md lists them.",
        report=training_report(plan, trainer.training, trainer.validation, trained.history, ranges),
    )
    # Arrays of a training set are read with their axes turned to LPS, whatever their files have.
    options = replace(task.options, orientation="LPS")
    return make_trained_package(results, task.folder / "packages", options, told, teller.told)
