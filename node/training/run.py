"""A training from its training set to a model package, in one folder from which it goes on after an interruption.

::

    OUT/
        plan.json      spacing and intensities, measured once
        prepared/      the cases' arrays
        state/         weights, optimiser, history: what a later session goes on from
        curve.png      loss and validation
        results/       the trained network as nnU-Net v2 leaves one
        packages/NAME  the model package
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from node.convert.package_folder import Imported
from node.convert.refusals import ImportOptions
from node.dataset.nifti import read_nifti
from node.dataset.raw import Case, TrainingSet, read_training_set
from node.domain.errors import SetupError
from node.training.curve import draw_curve
from node.training.loop import HISTORY, Trained, Trainer
from node.training.outcome import write_results_folder
from node.training.packaging import Told, make_trained_package
from node.training.plan import Intensities, Plan, intensities_of, median_spacing, sampled
from node.training.prepared import Prepared, prepare
from node.training.progress import Look, read_history
from node.training.ranges import gates_of, ranges_of
from node.training.recipe import Recipe
from node.training.report import training_report

PLAN, CURVE = "plan.json", "curve.png"


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
        The training set cannot be trained on, or the folder holds another training.
    """
    training_set = read_training_set(task.dataset)
    _refuse_untrainable(training_set)
    task.folder.mkdir(parents=True, exist_ok=True)
    plan = _plan(task, training_set, teller)
    trainer = Trainer(
        plan=plan,
        training=_prepared(training_set, training_set.of("train"), plan, task.folder, teller),
        validation=_prepared(training_set, training_set.of("validation"), plan, task.folder, teller),
        folder=task.folder / "state",
        device=task.device,
        stop=stop,
    )
    trained = trainer.run(_Drawing(teller, task.folder))
    return None if trained is None else _packaged(task, trainer, trained, teller)


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


def _plan(task: Task, training_set: TrainingSet, teller: Teller) -> Plan:
    """Measure the training cases, once for all sessions."""
    path = task.folder / PLAN
    if not path.exists():
        spacing_mm, intensities = _measured(task.recipe, training_set, teller)
        said = {"spacing_mm": spacing_mm, "intensities": [asdict(each) for each in intensities]}
        path.with_suffix(".new").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".new").replace(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    z, y, x = read["spacing_mm"]
    return Plan(
        name=f"Dataset001_{training_set.name}",
        channels=training_set.channels,
        organs=training_set.organs,
        spacing_mm=(z, y, x),
        intensities=tuple(Intensities(**each) for each in read["intensities"]),
        recipe=task.recipe,
    )


def _measured(
    recipe: Recipe, training_set: TrainingSet, teller: Teller
) -> tuple[tuple[float, float, float], list[Intensities]]:
    cases, rng = training_set.of("train"), np.random.default_rng(recipe.seed)
    values: list[list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = [[] for _ in training_set.channels]
    spacings = []
    for done, case in enumerate(cases):
        teller.told("measuring", done, len(cases))
        inside = read_nifti(training_set.labels(case)).voxels > 0
        for number, path in enumerate(training_set.images(case)):
            image = read_nifti(path)
            if image.voxels.shape != inside.shape:
                raise SetupError(f"Case {case.name}: image and labels do not lie on one grid.", "Write them on one.")
            values[number].append(sampled(image.voxels[inside], rng))
        spacings.append(image.spacing_mm)
    spacing_mm = recipe.spacing_mm or median_spacing(spacings)
    return spacing_mm, [intensities_of(each, recipe.window) for each in values]


def _prepared(
    training_set: TrainingSet, cases: Sequence[Case], plan: Plan, folder: Path, teller: Teller
) -> tuple[Prepared, ...]:
    def told(done: int) -> None:
        teller.told("preparing", done, len(cases))

    return prepare(training_set, cases, plan.spacing_mm, folder / "prepared", told)


class _Drawing:
    """Draws the curve again at every look."""

    def __init__(self, teller: Teller, folder: Path) -> None:
        self._teller = teller
        self._folder = folder
        self._looks: list[Look] = []
        if (folder / "state" / HISTORY).exists():
            self._looks = read_history(folder / "state" / HISTORY).looks

    def stepped(self, step: int, loss: float) -> None:
        self._teller.stepped(step, loss)

    def looked(self, look: Look) -> None:
        self._looks.append(look)
        draw_curve(self._looks, self._folder / CURVE)
        self._teller.looked(look)


def _packaged(task: Task, trainer: Trainer, trained: Trained, teller: Teller) -> Imported:
    plan = trainer.plan
    results = write_results_folder(
        trained.network, plan, trained.history, len(trainer.training), task.folder / "results"
    )
    ranges = ranges_of(trainer.training, plan.organs)
    told = Told(
        gates=gates_of(ranges),
        limits=task.limits or "What was not among the images that it was trained with; MODEL_CARD.md lists them.",
        report=training_report(plan, trainer.training, trainer.validation, trained.history, ranges),
    )
    # Arrays of a training set are read with their axes turned to LPS, whatever their files have.
    options = replace(task.options, orientation="LPS")
    return make_trained_package(results, task.folder / "packages", options, told, teller.told)
