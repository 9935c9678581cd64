from pathlib import Path

import pytest

from node.domain.errors import SetupError
from node.training.progress import History, Look, read_history, write_history
from node.training.recipe import Recipe, read_recipe

RECIPE = Recipe(steps=100, warm_up_steps=10, learning_rate=1e-3, patience=2, decay=0.2)


def look(step: int, *dice: float | None) -> Look:
    organs = {f"organ {number}": value for number, value in enumerate(dice)}
    return Look(step=step, loss=1.0, learning_rate=1e-3, dice=organs, trained_s=1.0)


def test_an_organ_that_no_validation_case_has_does_not_count() -> None:
    assert look(1, 0.5, None, 0.7).mean_dice == pytest.approx(0.6)


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    history = History()

    assert history.learning_rate(0, RECIPE) == pytest.approx(1e-4)
    assert history.learning_rate(9, RECIPE) == pytest.approx(1e-3)
    assert history.learning_rate(90, RECIPE) == pytest.approx(1e-3)
    history.begin_fall(80, RECIPE)
    # A fifth of all steps: 20 more.
    assert history.ends_at == 100
    assert history.learning_rate(90, RECIPE) == pytest.approx(5e-4)
    assert not history.is_over(99)
    assert history.is_over(100)


def test_a_training_ends_once_the_validation_no_longer_gains() -> None:
    history = History()
    for step, dice in ((10, 0.3), (20, 0.5), (30, 0.4), (40, 0.6), (50, 0.5)):
        history.add(look(step, dice), RECIPE)
    assert history.falls_from is None

    history.add(look(60, 0.6), RECIPE)

    began: int | None = history.falls_from
    assert (began, history.ends_at) == (60, 75)


def test_a_training_ends_at_the_latest_after_its_steps() -> None:
    history = History()

    history.add(look(100, 0.3), RECIPE)

    assert (history.falls_from, history.ends_at) == (100, 125)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = History(looks=[look(10, 0.3, None)], falls_from=10, ends_at=12)

    write_history(history, tmp_path / "history.json")

    assert read_history(tmp_path / "history.json") == history


def test_of_a_history_that_is_newer_than_the_state_only_what_was_known_then_counts() -> None:
    # As after a power cut between the two files: the look at 20 let the learning rate fall.
    history = History(looks=[look(10, 0.3), look(20, 0.2)], falls_from=20, ends_at=25)

    assert history.until(10) == History(looks=[look(10, 0.3)])
    assert history.until(20) == history
    # Stopped between looks, while the learning rate fell.
    assert history.until(22) == history


def test_a_history_that_is_cut_off_is_told_and_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    write_history(History(looks=[look(10, 0.3)]), path)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(SetupError, match="damaged"):
        read_history(path)
    with pytest.raises(SetupError, match="missing"):
        read_history(tmp_path / "none.json")


def test_a_recipe_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    wrong = {
        "stepz = 3": "stepz",
        "steps = 'many'": "steps",
        "[augmentation]\nrotations = 2": r"augmentation\.rotations",
        "patch = [20, 64, 64]": "no multiple of 16",
        "features = [8, 16]": "2 features have 5",
        "batch = 0": "1 or more",
        "features = [16]": "features has 1",
        "features = [0, 32, 64, 128, 192]": "features and convolutions are 1",
        "patch = [16, 16, 16]": "sees one voxel",
        "spacing_mm = [3.0, 0.0, 1.0]": "spacing_mm is more than 0",
        "window = [100, -100]": "a lower and a higher",
        "window = [nan, 100]": "a lower and a higher",
        "learning_rate = 0.0": "learning_rate is more than 0",
        "learning_rate = inf": "learning_rate is more than 0",
        "weight_decay = -1.0": "weight_decay",
        "decay = 1.0": "decay and average",
        "average = 1.0": "decay and average",
        "seed = -1": "seed are 0 or more",
        "[augmentation]\nscaling = -1.0": "augmentation is 0 or more",
        "[augmentation]\nnoise = nan": "augmentation is 0 or more",
        "[augmentation]\nmirrored = 50": "parts of 1",
        "no toml": "cannot be read",
    }
    for text, reason in wrong.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SetupError, match=reason):
            read_recipe(path)

    path.write_bytes(b"# \xe4\n")
    with pytest.raises(SetupError, match="cannot be read"):
        read_recipe(path)
    path.write_text("steps = 50\n[augmentation]\nmirrored = 0.0", encoding="utf-8")
    assert read_recipe(path).augmentation.mirrored == 0
    assert read_recipe(None) == Recipe()
