import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from node.dataset.nifti import Image, write_nifti
from node.dataset.raw import Case, TrainingSet, read_training_set
from node.domain.errors import SetupError
from node.training.loop import HISTORY, Trained, Trainer, build_network, dice_of
from node.training.outcome import half_rounded
from node.training.prepared import Prepared, prepare
from node.training.progress import Look, read_history
from node.training.ranges import gates_of, in_one_piece, ranges_of
from node.training.recipe import Recipe
from node.training.whole import labels_of
from tests.learning.drawn import ORGANS, TINY, drawn, plan, prepared, write_drawn

RECIPE = replace(TINY, steps=8, decay=0.2)


class Silent:
    def stepped(self, step: int, loss: float) -> None: ...

    def looked(self, look: Look) -> None: ...


class AfterSteps:
    """Says stop after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Prepared, ...]:
    write_drawn(tmp_path / "set")
    read = read_training_set(tmp_path / "set")
    return prepare(read, read.cases, (4.0, 3.0, 3.0), tmp_path / "prepared", lambda done: None)


def trained(
    cases: tuple[Prepared, ...], folder: Path, stop: AfterSteps | None = None, recipe: Recipe = RECIPE
) -> Trained | None:
    return Trainer(
        plan=plan(recipe, mean=-200, std=300),
        training=cases[:-1],
        validation=cases[-1:],
        folder=folder,
        device=torch.device("cpu"),
        stop=stop or (lambda: False),
    ).run(Silent())


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(cases: tuple[Prepared, ...], tmp_path: Path) -> None:
    whole = trained(cases, tmp_path / "whole")
    first = trained(cases, tmp_path / "parts", AfterSteps(3))
    second = trained(cases, tmp_path / "parts", AfterSteps(5))
    third = trained(cases, tmp_path / "parts")

    assert first is None
    assert second is None
    assert whole is not None
    assert third is not None
    one, other = whole.network.state_dict(), third.network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    looks = read_history(tmp_path / "parts" / HISTORY).looks
    assert [each.step for each in looks] == [4, 8, 10]
    assert [each.loss for each in looks] == [each.loss for each in whole.history.looks]


def test_a_power_cut_between_history_and_state_changes_nothing(cases: tuple[Prepared, ...], tmp_path: Path) -> None:
    whole = trained(cases, tmp_path / "whole")
    trained(cases, tmp_path / "parts", AfterSteps(5))
    older = (tmp_path / "parts/state.pth").read_bytes()
    trained(cases, tmp_path / "parts", AfterSteps(4))
    # The history knows of the look at step 8, which let the learning rate fall; the state does not.
    assert read_history(tmp_path / "parts" / HISTORY).falls_from == 8
    (tmp_path / "parts/state.pth").write_bytes(older)

    resumed = trained(cases, tmp_path / "parts")

    assert whole is not None
    assert resumed is not None
    assert [each.step for each in resumed.history.looks] == [4, 8, 10]
    one, other = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_no_more_steps_are_done_than_were_asked_for_and_the_fall(cases: tuple[Prepared, ...], tmp_path: Path) -> None:
    done = trained(cases, tmp_path / "state", recipe=replace(RECIPE, steps=6))

    assert done is not None
    # Looks are due every 4 steps; a fifth of 7.5 steps is the fall.
    assert [each.step for each in done.history.looks] == [4, 6, 8]


def test_a_damaged_state_is_told_and_not_begun_anew(cases: tuple[Prepared, ...], tmp_path: Path) -> None:
    trained(cases, tmp_path / "state", AfterSteps(1))
    path = tmp_path / "state/state.pth"
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(SetupError, match="damaged"):
        trained(cases, tmp_path / "state")


def test_the_state_of_another_training_is_not_gone_on_with(cases: tuple[Prepared, ...], tmp_path: Path) -> None:
    trained(cases, tmp_path / "state", AfterSteps(1))
    other = Trainer(
        plan=plan(replace(RECIPE, features=(4, 6)), mean=-200, std=300),
        training=cases[:-1],
        validation=cases[-1:],
        folder=tmp_path / "state",
        device=torch.device("cpu"),
        stop=lambda: False,
    )

    with pytest.raises(SetupError, match="another recipe"):
        other.run(Silent())


def test_weights_that_are_kept_are_numbers_of_float16() -> None:
    network = build_network(plan(TINY))

    kept = half_rounded(network)

    for name, value in kept.items():
        assert torch.equal(value, value.half().float()), name
        np.testing.assert_allclose(value, network.state_dict()[name], rtol=1e-3, atol=1e-6)


class ByThreshold(torch.nn.Module):  # type: ignore[misc]
    """Says class 2 above a value, class 1 below another, by no more than its own voxel."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(patch), -patch - 0.5, patch - 0.5, torch.full_like(patch, -9.0)], dim=1)


@pytest.mark.parametrize("shape", [(7, 40, 21), (16, 16, 16), (50, 17, 33)])
def test_a_whole_case_is_blended_of_patches_to_what_each_voxel_says(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(3).choice([-1, 0, 1], shape).astype(np.float32)
    case = prepared(np.zeros(shape, np.uint8), image, (4.0, 3.0, 3.0))

    labels = labels_of(ByThreshold(), case, plan(TINY))

    np.testing.assert_array_equal(labels, np.choose(image.astype(int) + 1, [1, 0, 2]))


def test_dice_of_labels_is_counted_by_hand() -> None:
    one = np.array([[0, 1, 1], [1, 2, 0]], dtype=np.uint8)
    other = np.array([[0, 1, 0], [1, 0, 1]], dtype=np.uint8)

    assert dice_of(one, other, 1) == pytest.approx(2 * 2 / 6)
    assert dice_of(one, other, 2) == 0
    assert dice_of(one, other, 3) == 1


def test_what_is_finer_than_the_network_is_brought_to_its_grid_once(tmp_path: Path) -> None:
    write_drawn(tmp_path / "set", cases=2)
    read = read_training_set(tmp_path / "set")

    # Slices of 4 mm stay, rows and columns of 3 mm come to 6 mm: half as many.
    (case,) = prepare(read, read.cases[:1], (4.0, 6.0, 6.0), tmp_path / "prepared", lambda done: None)

    assert case.labels.shape == (20, 15, 18)
    assert case.spacing_mm == pytest.approx((4.0, 6.0, 6.0))
    assert case.source_spacing_mm == pytest.approx((4.0, 3.0, 3.0))
    image, _ = drawn(0)
    expected = image[5, 10:12, 14:16].mean()
    assert float(case.image[0, 5, 5, 7]) == pytest.approx(expected, abs=1.0)


def rewritten(training_set: TrainingSet, case: Case, image: np.ndarray, labels: np.ndarray) -> None:
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    write_nifti(training_set.images(case)[0], Image(voxels=image, affine_lps_mm=affine))
    write_nifti(training_set.labels(case), Image(voxels=labels, affine_lps_mm=affine))


def prepare_one(training_set: TrainingSet, case: Case, folder: Path) -> Prepared:
    return prepare(training_set, [case], (4.0, 3.0, 3.0), folder, lambda done: None)[0]


def test_cases_whose_names_have_dots_do_not_share_their_arrays(tmp_path: Path) -> None:
    made = write_drawn(tmp_path / "set", cases=2)
    dotted = tuple(replace(case, name=f"scan.{number}") for number, case in enumerate(made.cases))
    for old, new in zip(made.cases, dotted, strict=True):
        made.images(old)[0].rename(made.images(new)[0])
        made.labels(old).rename(made.labels(new))

    one, other = prepare(made, dotted, (4.0, 3.0, 3.0), tmp_path / "prepared", lambda done: None)

    assert np.array_equal(one.image[0], drawn(0)[0])
    assert np.array_equal(other.image[0], drawn(1)[0])


def test_arrays_of_a_training_set_that_has_changed_are_not_gone_on_with(tmp_path: Path) -> None:
    made = write_drawn(tmp_path / "set", cases=2)
    case = made.cases[0]
    prepare_one(made, case, tmp_path / "prepared")
    image, labels = drawn(0)
    changed = {
        "split": (replace(case, split="validation"), image),
        "contours": (replace(case, contoured=case.contoured[:1]), image),
        "pixels": (case, image + 1),
    }

    for now, voxels in changed.values():
        rewritten(made, case, voxels, labels)
        with pytest.raises(SetupError, match="as it was before"):
            prepare_one(made, now, tmp_path / "prepared")
    rewritten(made, case, image, labels)
    prepare_one(made, case, tmp_path / "prepared")
    (tmp_path / "prepared" / f"{case.name}.json").write_text("", encoding="utf-8")
    with pytest.raises(SetupError, match="damaged"):
        prepare_one(made, case, tmp_path / "prepared")


def test_what_nothing_can_be_learned_of_is_refused_by_case(tmp_path: Path) -> None:
    made = write_drawn(tmp_path / "set", cases=2)
    case = made.cases[0]
    image, labels = drawn(0)
    holed = image.astype(np.float32)
    holed[3, 4, 5] = np.nan
    wrong = {
        "no finite number": (holed, labels),
        "no whole numbers": (image, labels.astype(np.float32) + 0.5),
        "dataset.json does not name": (image, np.where(labels == 3, 4, labels).astype(np.uint8)),
        "1 x 30 x 36 voxels": (image[:1], labels[:1]),
    }

    for reason, (voxels, values) in wrong.items():
        rewritten(made, case, voxels, values)
        with pytest.raises(SetupError, match=f"{case.name}.*{reason}"):
            prepare_one(made, case, tmp_path / "prepared")


def test_values_beyond_16_bit_stay_what_they_are(tmp_path: Path) -> None:
    made = write_drawn(tmp_path / "set", cases=2)
    image, labels = drawn(0)
    bright = image.astype(np.int32) + 50_000
    rewritten(made, made.cases[0], bright, labels)

    case = prepare_one(made, made.cases[0], tmp_path / "prepared")

    assert np.array_equal(case.image[0], bright)


def test_limits_are_those_of_tiny_organs_too_and_not_of_values_without_a_unit() -> None:
    cases = []
    for number in range(5):
        labels = np.zeros((10, 20, 20), dtype=np.uint8)
        # One cochlea has 1 to 5 voxels of 1 mm3; the cord runs through the whole scan.
        labels[4, 3, 2 : 3 + number] = 2
        labels[:, 10, 10] = 1
        image = np.full(labels.shape, 0.5, dtype=np.float32)
        cases.append(prepared(labels, image, (1.0, 1.0, 1.0), contoured=("SpinalCord", "Parotid_L")))

    (gate,) = gates_of(ranges_of(cases, ORGANS, "MR"))

    # Of the cord of an MR nothing is known: its size is the scan's.
    assert gate.structure == "Parotid_L"
    assert (gate.at_least_cm3, gate.at_most_cm3) == (0.0005, 0.008)
    assert gate.mean_value_between is None
    assert gate.because == "In 5 training cases it had 0.001 to 0.005 cm3."


def test_an_organ_of_two_pieces_does_not_lose_one() -> None:
    # Class 2 is both parotids, 12 and 8 voxels; class 1 a cord with a crumb of 1 in 40 voxels beside it.
    cases = []
    for number in range(3):
        labels = np.zeros((10, 20, 20), dtype=np.uint8)
        labels[4, 3, 2:14], labels[4, 8, 2:10] = 2, 2
        labels[:, 12, 10:14] = 1
        labels[number, 15, 15] = 1
        cases.append(prepared(labels, np.zeros(labels.shape, np.int16), (4.0, 3.0, 3.0)))

    ranges = ranges_of(cases, ORGANS, "CT")

    assert [each.largest_piece for each in ranges] == pytest.approx([40 / 41, 12 / 20])
    assert in_one_piece(ranges) == ("SpinalCord",)


def test_limits_come_from_the_cases_and_not_from_a_scan_that_ends_early() -> None:
    cases = []
    for number in range(6):
        labels = np.zeros((10, 20, 20), dtype=np.uint8)
        # The cord runs through the whole scan; the parotid has 8, 10, ... voxels of 4 x 3 x 3 mm.
        labels[:, 10, 10] = 1
        labels[4, 3, 2 : 10 + 2 * number] = 2
        image = np.full(labels.shape, -100, dtype=np.int16)
        image[labels == 2] = 40 + number
        image[4, 3, 2:4] += 40
        cases.append(prepared(labels, image, (4.0, 3.0, 3.0), contoured=("SpinalCord", "Parotid_L")))

    ranges = ranges_of(cases, ORGANS, "CT")
    cord, parotid = gates_of(ranges)

    assert [each.organ for each in ranges] == ["SpinalCord", "Parotid_L"]
    assert (cord.at_least_cm3, cord.at_most_cm3) == (None, None)
    # 8 to 18 voxels of 0.036 cm3, half of the smallest and 1.6 times the largest.
    assert parotid.at_least_cm3 == pytest.approx(0.5 * 8 * 0.036, abs=0.01)
    assert parotid.at_most_cm3 == pytest.approx(1.6 * 18 * 0.036, abs=0.06)
    # Means of 48.7 to 50.0; the voxels within deviate by 14.5, more than the means do.
    assert parotid.mean_value_between == (34, 64)
    assert "In 6 training cases it had 0.29 to 0.65 cm3" in parotid.because
    assert json.dumps(parotid.because)
