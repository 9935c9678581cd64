"""Segmenting joins the steps, judges what came out, and refuses a network that breaks its word."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from node.domain.errors import NotFiniteError, SetupError
from node.domain.grid import Grid
from node.domain.volume import Volume
from node.inference import probabilities
from node.inference.network_tables import GraphFile, InputSpecification, Output
from node.inference.package import Gate, ModelPackage, Relabel
from node.inference.parts import Network, whole_package
from node.inference.predictor import HalfFirst, no_progress
from node.inference.segment import segment
from tests.builders import definition, grid

INPUT = InputSpecification(orientation="LPS", spacing_mm=(None, None, None), outside_value=-1000.0)

PACKAGE = ModelPackage(
    name="two-densities",
    title="Two densities",
    version="1",
    originator="Tests",
    licence="Apache-2.0",
    intended_use="Tests",
    limits="None",
    modalities=("CT",),
    parts=(
        whole_package(
            Network(input=INPUT, output=Output(classes=3), graphs=(GraphFile(file="graph.onnx", sha256="0" * 64),))
        ),
    ),
    structures=(definition("Body", 1, 2, interpreted_type="EXTERNAL"), definition("Liver", 2)),
    post=(),
    gates=(),
    digest="0" * 64,
)


def with_network(package: ModelPackage, **changed: object) -> ModelPackage:
    """Change the only network of a package: its input, output or graphs."""
    (part,) = package.parts
    whole = whole_package(replace(part, **changed))  # type: ignore[arg-type]
    return replace(package, parts=(whole,))


class ThresholdNetwork:
    """Gives class 1 above 0 and class 2 above 100; remembers the shapes it was given."""

    computed_by = "arithmetic"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(network_input.shape)
        scores = [np.zeros_like(network_input), network_input, 2 * network_input - 100]
        return np.concatenate(scores, axis=1)


class BrokenNetwork:
    computed_by = "arithmetic"

    def __init__(self, answer: NDArray[np.float32]) -> None:
        self.answer = answer

    def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.answer


def volume(stack: Grid, body_hu: float = 50.0, liver_hu: float = 150.0) -> Volume:
    """Build air with a box of body and, off its centre, a box of liver of 2 × 3 × 4 voxels."""
    voxels = np.full(stack.shape, -1000.0, dtype=np.float32)
    voxels[:, 3:12, 4:16] = body_hu
    voxels[1:3, 4:7, 5:9] = liver_hu
    return Volume(voxels=voxels, grid=stack)


def test_labels_lie_where_the_volume_has_its_values() -> None:
    given = volume(grid())

    found = segment(given, PACKAGE, ThresholdNetwork(), no_progress)

    expected = np.where(given.voxels > 100, 2, np.where(given.voxels > 0, 1, 0))
    np.testing.assert_array_equal(found.label_map.labels, expected)
    assert found.label_map.grid is given.grid
    assert found.structures == PACKAGE.structures
    assert found.omitted == ()
    assert found.notes == ()


@pytest.mark.parametrize(("at_once", "shapes"), [(None, [6]), (4, [4, 4]), (3, [3, 3]), (50, [6]), (1, [1] * 6)])
def test_slices_go_in_runs_of_one_shape_and_all_come_back(at_once: int | None, shapes: list[int]) -> None:
    given = volume(grid(slices=6))
    given.voxels[5, 4, 5] = 150.0
    package = with_network(PACKAGE, input=replace(INPUT, slices_at_once=at_once))
    network = ThresholdNetwork()

    found = segment(given, package, network, no_progress)

    assert network.shapes == [(1, 1, slices, 24, 40) for slices in shapes]
    np.testing.assert_array_equal(found.label_map.labels == 2, given.voxels > 100)


def test_rules_follow_the_network() -> None:
    package = replace(PACKAGE, post=(Relabel(labels=(2,), becomes=1),))

    found = segment(volume(grid()), package, ThresholdNetwork(), no_progress)

    assert set(np.unique(found.label_map.labels)) == {0, 1}


def test_an_empty_scan_omits_everything_and_says_why() -> None:
    found = segment(volume(grid(), body_hu=-1000, liver_hu=-1000), PACKAGE, ThresholdNetwork(), no_progress)

    assert not found.label_map.labels.any()
    assert found.structures == ()
    assert [(each.name, each.reason) for each in found.omitted] == [
        ("Body", "The model found no voxel of Body."),
        ("Liver", "The model found no voxel of Liver."),
    ]


# The liver has 24 voxels of 3 mm · 1.5 mm · 0.8 mm: 86.4 mm³.
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"at_least_cm3": 0.09}, "Only 0.1 cm³ found, below 0.09 cm³. It is tiny."),
        ({"at_most_cm3": 0.08}, "0.1 cm³ found, above 0.08 cm³. It is tiny."),
        ({"mean_value_between": (0.0, 120.0)}, "Its mean value is 150, outside 0 to 120. It is tiny."),
    ],
)
def test_a_structure_outside_its_gate_is_left_out_with_the_figure(limits: dict[str, float], reason: str) -> None:
    gate = Gate(structure="Liver", because="It is tiny.", **limits)  # type: ignore[arg-type]

    found = segment(volume(grid()), replace(PACKAGE, gates=(gate,)), ThresholdNetwork(), no_progress)

    assert [(each.name, each.reason) for each in found.omitted] == [("Liver", reason)]
    assert [each.name for each in found.structures] == ["Body"]


def test_a_structure_inside_its_gates_stays() -> None:
    gate = Gate(
        structure="Liver", at_least_cm3=0.08, at_most_cm3=0.09, mean_value_between=(149.0, 151.0), because="It is so."
    )

    found = segment(volume(grid()), replace(PACKAGE, gates=(gate,)), ThresholdNetwork(), no_progress)

    assert found.omitted == ()


@pytest.mark.parametrize("edge", [np.s_[:, 0, 5], np.s_[:, -1, 5], np.s_[:, 5, 0], np.s_[:, 5, -1]])
def test_what_reaches_the_edge_of_the_image_is_noted(edge: tuple[slice, int, int]) -> None:
    given = volume(grid())
    given.voxels[edge] = 50.0

    found = segment(given, PACKAGE, ThresholdNetwork(), no_progress)

    assert found.notes == ("Body reaches the edge of the image: it may be cut off there.",)


def test_an_answer_of_another_shape_is_the_packages_fault() -> None:
    network = BrokenNetwork(np.zeros((1, 3, 6, 24, 39), dtype=np.float32))

    with pytest.raises(SetupError, match=r"answered in shape \(1, 3, 6, 24, 39\), not \(1, 3, 6, 24, 40\)"):
        segment(volume(grid()), PACKAGE, network, no_progress)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_refused(value: float) -> None:
    answer = np.zeros((1, 3, 6, 24, 40), dtype=np.float32)
    answer[0, 1, 2, 3, 4] = value

    with pytest.raises(SetupError, match="no finite number"):
        segment(volume(grid()), PACKAGE, BrokenNetwork(answer), no_progress)


def test_progress_names_each_step_and_ends_it() -> None:
    said: list[tuple[str, int, int]] = []

    segment(volume(grid()), PACKAGE, ThresholdNetwork(), lambda *step: said.append(step))

    assert list(dict.fromkeys(doing for doing, _, _ in said)) == ["resample", "predict", "label", "tidy"]
    assert ("predict", 6, 6) in said
    assert said[-1] == ("tidy", 1, 1)


class LogitNetwork:
    """Gives logits 0, 1 and 3 everywhere: softmax 0.042010, 0.114195 and 0.843795."""

    computed_by = "arithmetic"

    def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([np.full_like(network_input, logit) for logit in (0.0, 1.0, 3.0)], axis=1)


LOGITS = with_network(PACKAGE, output=replace(PACKAGE.output, activation="softmax"))
BOX = np.s_[1:3, 2:5, 7:9]


def test_a_model_whose_scores_are_logits_says_how_sure_it_is() -> None:
    found = segment(volume(grid()), LOGITS, LogitNetwork(), no_progress)

    assert found.probabilities is not None
    for values, expected in [((2,), 0.843795), ((1, 2), 0.957990)]:
        probability = found.probabilities.of(values, BOX)
        assert probability is not None
        np.testing.assert_allclose(probability, np.full((2, 3, 2), expected), atol=4e-5)
    assert (found.label_map.labels == 2).all()


def test_a_model_whose_scores_are_no_logits_says_nothing_of_it() -> None:
    found = segment(volume(grid()), PACKAGE, LogitNetwork(), no_progress)

    assert found.probabilities is None
    assert all("unsure" not in note for note in found.notes)


def test_rules_change_labels_and_not_what_the_network_said() -> None:
    package = replace(LOGITS, post=(Relabel(labels=(2,), becomes=7),))

    found = segment(volume(grid()), package, LogitNetwork(), no_progress)

    assert (found.label_map.labels == 7).all()
    assert found.probabilities is not None
    assert found.probabilities.of((7,), BOX) is None
    probability = found.probabilities.of((2,), BOX)
    assert probability is not None
    np.testing.assert_allclose(probability, 0.843795, atol=2e-5)


def test_scores_that_went_through_softmax_already_are_refused() -> None:
    answer = np.empty((1, 3, 6, 24, 40), dtype=np.float32)
    answer[0] = np.array([0.7, 0.2, 0.1]).reshape(3, 1, 1, 1)

    with pytest.raises(SetupError, match="answers with probabilities") as refused:
        segment(volume(grid()), LOGITS, BrokenNetwork(answer), no_progress)

    assert "without its last softmax" in refused.value.remedy


def test_what_is_unsure_of_too_much_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probabilities, "MOST_SHARES", 1000)

    found = segment(volume(grid()), LOGITS, LogitNetwork(), no_progress)

    assert found.probabilities is None
    assert found.notes[-1].startswith("The model is unsure of too much for its probabilities to be kept")


NOT_FINITE = np.full((1, 3, 6, 24, 40), np.inf, dtype=np.float32)


class ExactNetwork(ThresholdNetwork):
    computed_by = "exact arithmetic"


def test_a_score_that_float16_cannot_hold_lets_the_network_run_again_in_float32() -> None:
    opened = HalfFirst(half=BrokenNetwork(NOT_FINITE), exact=ExactNetwork)

    found = segment(volume(grid()), PACKAGE, opened, no_progress)

    np.testing.assert_array_equal(
        found.label_map.labels, segment(volume(grid()), PACKAGE, ExactNetwork(), no_progress).label_map.labels
    )
    assert found.computed_by == "exact arithmetic"
    assert "In float16 a score was no finite number: the network ran again, in float32." in found.notes


def test_what_float16_holds_is_not_done_again() -> None:
    def again() -> ExactNetwork:
        pytest.fail("it ran again")

    found = segment(volume(grid()), PACKAGE, HalfFirst(half=ThresholdNetwork(), exact=again), no_progress)

    assert found.computed_by == "arithmetic"
    assert not any("float16" in note for note in found.notes)


def test_a_score_that_float32_cannot_hold_either_is_refused() -> None:
    opened = HalfFirst(half=BrokenNetwork(NOT_FINITE), exact=lambda: BrokenNetwork(NOT_FINITE))

    with pytest.raises(NotFiniteError, match="answered with a value that is no finite number"):
        segment(volume(grid()), PACKAGE, opened, no_progress)
