"""Probabilities lie where the labels lie, are what softmax says, and cost what is unsure."""

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from node.domain.grid import Grid
from node.domain.volume import Box, Volume
from node.inference import probabilities
from node.inference.network_tables import InputSpecification
from node.inference.probabilities import LEAST_SHARE, SoftmaxProbabilities, labels_and_probabilities
from node.inference.transforms import Labels, labels_on_source, network_input, passage
from tests.builders import Orientation, grid

EVERYTHING: Box = (slice(None), slice(None), slice(None))
SURE = 50.0


def wanted(
    orientation: str = "LPS",
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None),
    multiple_of: tuple[int, int, int] = (1, 1, 1),
) -> InputSpecification:
    return InputSpecification(
        orientation=orientation, spacing_mm=spacing_mm, outside_value=-1000.0, multiple_of=multiple_of
    )


def both(
    logits: NDArray[np.float32], stack: Grid, specification: InputSpecification | None = None
) -> tuple[Labels, SoftmaxProbabilities]:
    """Bring logits, ``(classes, slice, row, column)`` of the network, to the stack."""
    labels, found = labels_and_probabilities(logits, passage(stack, specification or wanted()), ignore)
    assert found is not None
    return labels, found


def against_background(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the scores of a network of one class, whose background has 0 everywhere."""
    return np.stack([np.zeros_like(logits), logits])


def given(found: SoftmaxProbabilities, *values: int, box: Box = EVERYTHING) -> NDArray[np.float32]:
    given = found.of(values, box)
    assert given is not None
    return given


def random_logits(classes: int, shape: tuple[int, int, int], scale: float) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(scale=scale, size=(classes, *shape)).astype(np.float32)


def ignore(_done: int, _of: int) -> None: ...


def test_a_half_lies_where_interpolated_logits_cross() -> None:
    # The network sees 4 columns of 3 mm, centres at 1.5, 4.5, 7.5 and 10.5 mm; its logit rises by 1 for each mm from
    # 4.5 to 7.5 mm and is 0 at 5.8 mm. Columns of the series have their centres at 0.5, 1.5, ... mm.
    stack = grid(slices=2, rows=1, columns=12, spacing_mm=(3.0, 1.0, 1.0))
    logits = np.empty((2, 1, 4), dtype=np.float32)
    logits[:, 0] = [-1.3, -1.3, 1.7, 1.7]

    labels, found = both(against_background(logits), stack, wanted(spacing_mm=(None, None, 3.0)))

    # 1 / (1 + exp(-logit)) of -1.3 up to column 4, then of -0.3, 0.7 and 1.7.
    expected = [0.214165] * 5 + [0.425557, 0.668188] + [0.845535] * 5
    probability = given(found, 1)[0, 0]
    np.testing.assert_allclose(probability, expected, atol=2e-5)
    assert labels[0, 0].tolist() == [0] * 6 + [1] * 6
    # A line between columns 5 and 6, at 5.5 and 6.5 mm, meets a half at 5.8 mm.
    below, above = probability[5:7]
    assert 5.5 + (0.5 - below) / (above - below) == pytest.approx(5.8, abs=0.01)


def test_a_tie_is_exactly_a_half_and_no_label() -> None:
    labels, found = both(np.full((2, 2, 1, 1), 7.25, dtype=np.float32), grid(slices=2, rows=1, columns=1))

    assert labels.ravel().tolist() == [0, 0]
    assert given(found, 1).ravel().tolist() == [0.5, 0.5]


# 6 voxels of 1 mm, the network's 3 are 2 mm and run the other way: their centres are at 5, 3 and 1 mm. Voxels of the
# series have theirs at 0.5 mm (beyond the outermost), 1.5, ... 5.5 mm, so logits 3, 2.5, 1.5, 0, -2, -3.
AGAINST_THE_SERIES = [0.952574, 0.924142, 0.817574, 0.5, 0.119203, 0.047426]


@pytest.mark.parametrize(
    ("orientation", "axis", "slice_step"), [("RPS", 2, 1.0), ("LAS", 1, 1.0), ("LPI", 0, 1.0), ("LPS", 0, -1.0)]
)
def test_an_axis_that_runs_the_other_way_turns_with_its_position_kept(
    orientation: str, axis: int, slice_step: float
) -> None:
    shape, spacing_mm = [2, 2, 2], [slice_step * 3.0, 3.0, 3.0]
    shape[axis], spacing_mm[axis] = 6, slice_step if axis == 0 else 1.0
    slices, rows, columns = shape
    stack = grid(slices=slices, rows=rows, columns=columns, spacing_mm=(spacing_mm[0], spacing_mm[1], spacing_mm[2]))
    network_mm: list[float | None] = [None, None, None]
    network_mm[axis] = 2.0
    network_shape = [2, 2, 2]
    network_shape[axis] = 3
    logits = np.moveaxis(np.broadcast_to(np.array([-3.0, 1.0, 3.0], dtype=np.float32), (2, 2, 3)), 2, axis)

    _, found = both(
        against_background(logits), stack, wanted(orientation, (network_mm[0], network_mm[1], network_mm[2]))
    )

    assert list(logits.shape) == network_shape
    for line in np.moveaxis(given(found, 1), axis, 2).reshape(-1, 6):
        np.testing.assert_allclose(line, AGAINST_THE_SERIES, atol=2e-5)


# The corner that is rightmost, foremost and lowest in the patient, as the network's first voxel is in LPS, or the
# opposite one in other axes.
@pytest.mark.parametrize(
    ("series", "step_mm", "model", "voxel"),
    [
        # Columns of an axial stack run to the left, rows to the back, slices to the head.
        ("axial", 3.0, "LPS", (0, 0, 0)),
        ("axial", -3.0, "LPS", (1, 0, 0)),
        ("axial", 3.0, "RAS", (0, 2, 3)),
        ("axial", 3.0, "LAI", (1, 2, 0)),
        # Feet first: columns to the right, rows to the back, slices to the feet.
        ("feet_first", 3.0, "LPS", (1, 0, 3)),
        # Prone: columns to the right, rows to the front, slices to the head.
        ("prone", 3.0, "LPS", (0, 2, 3)),
        # Columns of a sagittal stack run to the back, rows to the feet, slices to the right.
        ("sagittal", 3.0, "LPS", (1, 2, 0)),
        ("sagittal", 3.0, "RAS", (0, 2, 3)),
        # Columns of a coronal stack run to the left, rows to the feet; their normal, x × -z, to the back.
        ("coronal", 3.0, "LPS", (0, 2, 0)),
    ],
)
def test_the_networks_first_voxel_is_where_the_patient_has_it(
    series: Orientation, step_mm: float, model: str, voxel: tuple[int, int, int]
) -> None:
    stack = grid(slices=2, rows=3, columns=4, orientation=series, spacing_mm=(step_mm, 1.5, 0.8))
    logits = np.full(passage(stack, wanted(model)).shape, -SURE, dtype=np.float32)
    logits[0, 0, 0] = 1.0

    _, found = both(against_background(logits), stack, wanted(model))

    probability = given(found, 1)
    assert np.argwhere(probability > 0).tolist() == [list(voxel)]
    assert probability[voxel] == pytest.approx(0.731059, abs=2e-5)


@pytest.mark.parametrize("orientation", get_args(Orientation))
@pytest.mark.parametrize("model", ["LPS", "RAS", "SLA"])
def test_no_voxel_takes_the_place_of_another(orientation: Orientation, model: str) -> None:
    stack = grid(slices=4, rows=6, columns=5, orientation=orientation)
    specification = wanted(model, multiple_of=(1, 4, 4))
    there = random_logits(1, stack.shape, scale=2.0)[0]
    logits = network_input(Volume(voxels=there, grid=stack), specification, passage(stack, specification))

    _, found = both(against_background(logits), stack, specification)

    np.testing.assert_allclose(given(found, 1), 1 / (1 + np.exp(-there)), atol=LEAST_SHARE)


def test_a_box_holds_what_the_whole_has_there() -> None:
    stack = grid(slices=4, rows=6, columns=5)
    _, found = both(random_logits(4, stack.shape, scale=3.0), stack)
    box = np.s_[1:3, 2:6, 1:4]

    np.testing.assert_array_equal(given(found, 1, 3, box=box), given(found, 1, 3)[box])


def test_structures_of_several_values_have_the_sum_of_their_classes() -> None:
    # Softmax of logarithms of 1, 2 and 5 is 1/8, 2/8 and 5/8.
    logits = np.log(np.array([1.0, 2.0, 5.0], dtype=np.float32)).reshape(3, 1, 1, 1).repeat(2, axis=1)

    _, found = both(logits, grid(slices=2, rows=1, columns=1))

    for values, expected in [((1,), 0.25), ((2,), 0.625), ((1, 2), 0.875), ((2, 2), 0.625)]:
        np.testing.assert_allclose(given(found, *values), expected, atol=2e-5)


def test_all_classes_together_are_certain_where_there_is_no_background() -> None:
    stack = grid(slices=4, rows=6, columns=5, spacing_mm=(3.0, 1.0, 1.0))
    logits = random_logits(5, (4, 3, 5), scale=3.0)
    logits[0] = -SURE

    _, found = both(logits, stack, wanted(spacing_mm=(None, 2.0, None)))

    single = [given(found, value) for value in range(1, 5)]
    # A class whose share is less than the least has none.
    np.testing.assert_allclose(np.sum(single, axis=0), 1.0, atol=3 * LEAST_SHARE)
    together = given(found, 1, 2, 3, 4)
    np.testing.assert_allclose(together, 1.0, atol=3 * LEAST_SHARE)
    assert together.max() == 1.0


@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_probabilities_are_those_of_softmax(scale: float) -> None:
    stack = grid(slices=4, rows=30, columns=40)
    logits = random_logits(6, stack.shape, scale)
    exponentials = np.exp(logits.astype(np.float64))
    exact = exponentials / exponentials.sum(axis=0)

    _, found = both(logits, stack)

    for value in range(1, 6):
        off = np.abs(given(found, value) - exact[value])
        assert off.max() <= LEAST_SHARE
        assert off[np.abs(exact[value] - 0.5) < 0.4].max() < 1e-4


def test_labels_are_the_same_with_and_without_and_more_than_half_is_the_label() -> None:
    stack = grid(slices=6, rows=24, columns=40)
    way = passage(stack, wanted("RAS", (5.0, 4.0, 2.0)))
    logits = random_logits(5, way.padded_shape, scale=4.0)

    labels, found = both(logits, stack, wanted("RAS", (5.0, 4.0, 2.0)))

    np.testing.assert_array_equal(labels, labels_on_source(logits, way, ignore))
    for value in range(1, 5):
        probability = given(found, value)
        assert (labels[probability > 0.5] == value).all()
        # The highest of five has at least a fifth.
        assert probability[labels == value].min() >= 0.2 - 1e-4


def test_the_best_of_many_equals_is_not_taken_for_certain() -> None:
    logits = np.zeros((600, 2, 1, 1), dtype=np.float32)
    logits[0] = -SURE

    labels, found = both(logits, grid(slices=2, rows=1, columns=1))

    assert labels.ravel().tolist() == [1, 1]
    np.testing.assert_allclose(given(found, 1), 1 / 599, atol=2e-5)


def test_what_the_network_does_not_know_has_no_probability() -> None:
    _, found = both(random_logits(3, (2, 3, 4), scale=1.0), grid(slices=2, rows=3, columns=4))

    # 3 was made by a rule; of the background nothing is kept.
    assert found.of((3,), EVERYTHING) is None
    assert found.of((1, 3), EVERYTHING) is None
    assert found.of((0, 1), EVERYTHING) is None


@pytest.mark.parametrize(("most", "kept"), [(24, True), (23, False)])
def test_a_network_that_is_unsure_of_too_much_gives_labels_alone(
    monkeypatch: pytest.MonkeyPatch, most: int, kept: bool
) -> None:
    monkeypatch.setattr(probabilities, "MOST_SHARES", most)
    stack = grid(slices=4, rows=2, columns=3)
    # One share for each of 24 voxels; the background's are not kept.
    logits = np.zeros((2, 4, 2, 3), dtype=np.float32)
    logits[1] = 1.0

    labels, found = labels_and_probabilities(logits, passage(stack, wanted()), ignore)

    assert (found is not None) == kept
    assert (labels == 1).all()


def test_nothing_is_kept_of_voxels_that_are_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probabilities, "MOST_SHARES", 1)
    stack = grid(slices=4, rows=2, columns=3)
    logits = np.full((4, 2, 3), SURE, dtype=np.float32)
    logits[1, 1, 2] = 1.0

    labels, found = both(against_background(logits), stack)

    assert (labels == 1).all()
    expected = np.ones(stack.shape)
    expected[1, 1, 2] = 0.731059
    np.testing.assert_allclose(given(found, 1), expected, atol=2e-5)


def test_progress_counts_every_slice() -> None:
    steps: list[tuple[int, int]] = []

    labels_and_probabilities(
        np.zeros((2, 3, 2, 2), dtype=np.float32),
        passage(grid(slices=3, rows=2, columns=2), wanted()),
        lambda done, of: steps.append((done, of)),
    )

    assert steps == [(1, 3), (2, 3), (3, 3)]
