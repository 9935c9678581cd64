import fcntl
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from node.convert.refusals import ImportOptions
from node.dataset.nifti import Image, write_nifti
from node.dataset.raw import TrainingSet, write_training_set
from node.domain.errors import SetupError
from node.training.progress import Look
from node.training.recipe import Recipe
from node.training.run import Task, train
from tests.learning.drawn import TINY, drawn, write_drawn


class Silent:
    def told(self, doing: str, done: int, of: int) -> None: ...

    def stepped(self, step: int, loss: float) -> None: ...

    def looked(self, look: Look) -> None: ...


def task(folder: Path, recipe: Recipe = TINY) -> Task:
    return Task(
        dataset=folder / "set",
        folder=folder / "training",
        recipe=recipe,
        device=torch.device("cpu"),
        options=ImportOptions(made_on="20240301"),
    )


def no_contours(made: TrainingSet) -> None:
    cases = tuple(replace(each, contoured=() if each.split == "validation" else each.contoured) for each in made.cases)
    write_training_set(replace(made, cases=cases))


def no_voxels(made: TrainingSet) -> None:
    for number, case in enumerate(made.cases):
        _, labels = drawn(number)
        affine = np.diag([3.0, 3.0, 4.0, 1.0])
        write_nifti(made.labels(case), Image(voxels=np.where(labels == 2, 0, labels), affine_lps_mm=affine))


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        (no_contours, "No validation case has any organ"),
        (no_voxels, "No training case has a voxel of Parotid_L"),
    ],
)
def test_what_would_train_for_hours_for_nothing_is_refused_at_once(tmp_path: Path, spoiled, reason: str) -> None:  # type: ignore[no-untyped-def]
    spoiled(write_drawn(tmp_path / "set"))

    with pytest.raises(SetupError, match=reason):
        train(task(tmp_path), Silent(), lambda: False)
    assert not (tmp_path / "training/plan.json").exists()


def test_the_modality_is_known_before_the_hours_and_not_after_them(tmp_path: Path) -> None:
    made = write_drawn(tmp_path / "set")
    write_training_set(replace(made, channels=("T1w",)))

    with pytest.raises(SetupError, match="T1w, which is no DICOM Modality") as refused:
        train(task(tmp_path), Silent(), lambda: True)
    assert "--modality" in refused.value.remedy

    named = replace(task(tmp_path), options=ImportOptions(made_on="20240301", modality="MR"))
    assert train(named, Silent(), lambda: True) is None
    write_training_set(replace(made, channels=("MR",)))
    assert train(task(tmp_path), Silent(), lambda: True) is None


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    write_drawn(tmp_path / "set")
    (tmp_path / "training").mkdir()

    with (tmp_path / "training/lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SetupError, match="Another training is running"):
            train(task(tmp_path), Silent(), lambda: False)

    # The file stays behind whoever held it; nobody holds it now.
    assert train(task(tmp_path), Silent(), lambda: True) is None


def test_whoever_stops_while_cases_are_read_need_not_wait_for_the_first_step(tmp_path: Path) -> None:
    write_drawn(tmp_path / "set")

    assert train(task(tmp_path), Silent(), lambda: True) is None

    assert not (tmp_path / "training/state").exists()


def test_what_was_measured_for_another_recipe_does_not_count(tmp_path: Path) -> None:
    write_drawn(tmp_path / "set")
    asked = iter([False] * 3 + [True] * 9)
    # Stopped after the third case was measured, and while the first is prepared.
    assert train(task(tmp_path), Silent(), lambda: next(asked)) is None
    measured = json.loads((tmp_path / "training/plan.json").read_text())
    assert measured["spacing_mm"] == [4.0, 3.0, 3.0]

    for other in (replace(TINY, spacing_mm=None), replace(TINY, window=(-100.0, 100.0))):
        with pytest.raises(SetupError, match="another spacing_mm or window"):
            train(task(tmp_path, other), Silent(), lambda: False)
    (tmp_path / "training/plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(SetupError, match=r"plan\.json is damaged"):
        train(task(tmp_path), Silent(), lambda: False)
