"""From pairs to a report: what counts, what is told, and how sure a mean is."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from node.domain.errors import SetupError
from node.evaluation.intervals import Bootstrap
from node.evaluation.pairs import Pair, Tolerances, compared, other_side, pair_of_label_maps
from node.evaluation.plot import draw, refuse_plot
from node.evaluation.report import Report, evaluate
from node.evaluation.tables import show
from tests.builders import grid

STACK = grid(slices=12, rows=30, columns=50, spacing_mm=(3.0, 1.5, 1.0))
ORGANS = ("Parotid_L", "Parotid_R", "Brainstem")
LEFT, RIGHT, MIDDLE = slice(30, 40), slice(5, 15), slice(18, 26)
Labels = NDArray[np.uint8]


def labels(**columns: slice) -> Labels:
    """Give boxes of 6 slices, 10 rows and some columns."""
    made = np.zeros(STACK.shape, dtype=np.uint8)
    for organ, where in columns.items():
        made[3:9, 10:20, where] = ORGANS.index(organ) + 1
    return made


WHOLE = labels(Parotid_L=LEFT, Parotid_R=RIGHT, Brainstem=MIDDLE)


def pair(
    result: Labels,
    *,
    case: str = "a",
    patient: str = "",
    reference: Labels = WHOLE,
    contoured: tuple[str, ...] | None = ORGANS,
) -> Pair:
    return pair_of_label_maps(
        case,
        patient=patient or case,
        grid=STACK,
        reference=reference,
        result=result,
        organs=ORGANS,
        contoured=contoured,
    )


def verdicts(made: Pair) -> dict[str, str]:
    return {found.organ: found.verdict for found in compared(made).organs}


def shifted(columns: int) -> Labels:
    return np.roll(WHOLE, columns, axis=2)


def test_a_missing_organ_counts_with_nothing_and_has_no_distance() -> None:
    half = np.where(WHOLE == 3, 0, WHOLE).astype(np.uint8)

    report = evaluate([pair(WHOLE, case="a"), pair(half, case="b")])

    brainstem = {each.organ: each for each in report.organs}["Brainstem"]
    assert (brainstem.patients, brainstem.missing, brainstem.extra) == (2, 1, 0)
    dice, hd95 = brainstem.measures["dice"], brainstem.measures["hd95_mm"]
    assert dice is not None
    assert (dice.mean, dice.patients, dice.mean_interval) == (0.5, 2, (0.0, 1.0))
    assert hd95 is not None
    assert (hd95.patients, hd95.mean_interval) == (1, None)
    # Two organs agree wholly in both.
    assert report.over_organs["dice"][0] == pytest.approx((1 + 1 + 0.5) / 3)


def test_what_was_not_contoured_is_no_reference_whatever_the_result_has() -> None:
    without = np.where(WHOLE == 3, 0, WHOLE).astype(np.uint8)

    report = evaluate([pair(WHOLE, reference=without, contoured=ORGANS[:2])])

    assert [each.organ for each in report.organs] == ["Parotid_L", "Parotid_R"]
    (found,) = [each for each in report.cases[0].organs if each.organ == "Brainstem"]
    assert (found.verdict, found.reason, found.measures) == ("left out", "not contoured in the reference", None)


def test_what_was_contoured_and_is_empty_says_that_there_is_none() -> None:
    without = np.where(WHOLE == 3, 0, WHOLE).astype(np.uint8)

    (_, _, found) = compared(pair(WHOLE, reference=without)).organs
    (_, _, neither) = compared(pair(without, reference=without)).organs

    assert found.measures is not None
    assert (found.measures.dice, found.measures.hd95_mm) == (0, None)
    assert neither.measures is not None
    assert (neither.measures.dice, neither.reason) == (None, "both are empty")


def test_where_nobody_tells_what_was_contoured_an_empty_reference_counts_for_nothing() -> None:
    without = np.where(WHOLE == 3, 0, WHOLE).astype(np.uint8)

    assert verdicts(pair(WHOLE, reference=without, contoured=None))["Brainstem"] == "extra"
    # What neither has is not worth a line.
    assert "Brainstem" not in verdicts(pair(without, reference=without, contoured=None))


def test_swapped_sides_are_told() -> None:
    swapped = labels(Parotid_L=RIGHT, Parotid_R=LEFT, Brainstem=MIDDLE)

    found = compared(pair(swapped))

    assert found.warnings == (
        "Parotid_L of the result agrees better with Parotid_R of the reference (Dice 1.00) than with Parotid_L"
        " (0.00): are left and right swapped?",
        "Parotid_R of the result agrees better with Parotid_L of the reference (Dice 1.00) than with Parotid_R"
        " (0.00): are left and right swapped?",
    )
    assert compared(pair(shifted(9))).warnings == ()


def test_the_other_side_of_a_name() -> None:
    assert [other_side(name) for name in ("Lung_L", "OpticNrv_PRV03_R", "Liver", "lung left")] == [
        "Lung_R",
        "OpticNrv_PRV03_L",
        None,
        None,
    ]


def test_each_organ_may_have_its_own_tolerance() -> None:
    report = evaluate([pair(shifted(3))], Tolerances(usual_mm=1.0, of_organs_mm={"Parotid_L": 3.0}))

    found = {each.organ: each for each in report.organs}
    scores = {organ: each.measures["surface_dice"] for organ, each in found.items()}
    assert {organ: each.tolerance_mm for organ, each in found.items()} == {
        "Parotid_L": 3.0,
        "Parotid_R": 1.0,
        "Brainstem": 1.0,
    }
    assert scores["Parotid_L"] is not None
    assert scores["Parotid_R"] is not None
    assert (scores["Parotid_L"].mean, scores["Parotid_R"].mean < 0.8) == (1.0, True)


def test_cases_of_one_patient_count_once() -> None:
    cases = [pair(WHOLE, case="a", patient="p"), pair(shifted(5), case="b", patient="p"), pair(WHOLE, case="c")]

    report = evaluate(cases)

    dice = report.organs[0].measures["dice"]
    assert dice is not None
    # Half of 10 columns: 0.5 and 1 are 0.75 for p, and 1 for c.
    assert (report.patients, dice.patients) == (2, 2)
    assert dice.mean == pytest.approx(0.875)
    assert list(dice.mean_interval or ()) == pytest.approx([0.75, 1.0])


def test_one_patient_tells_nothing_of_others() -> None:
    report = evaluate([pair(shifted(1))])

    dice = report.organs[0].measures["dice"]
    assert dice is not None
    assert (dice.mean, dice.median, dice.mean_interval, dice.median_interval) == (0.9, 0.9, None, None)
    assert report.over_organs["dice"][1] is None


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_where_patients_are_many() -> None:
    values = np.random.default_rng(3).normal(0.8, 0.05, 400)
    patients = [f"p{number:03d}" for number in range(400)]

    found = Bootstrap(patients).estimate(dict(zip(patients, values.tolist(), strict=True)))

    assert found is not None
    assert [found.mean, found.median] == pytest.approx([values.mean(), np.median(values)])
    half = 1.96 * values.std() / math.sqrt(400)
    assert list(found.mean_interval or ()) == pytest.approx([found.mean - half, found.mean + half], abs=1e-3)
    # That of the median is wider by the root of half of pi.
    assert found.median_interval is not None
    width = found.median_interval[1] - found.median_interval[0]
    assert width == pytest.approx(2 * half * math.sqrt(math.pi / 2), rel=0.25)


def test_patients_are_drawn_alike_each_time_and_for_every_organ() -> None:
    values = {"a": 0.2, "b": 0.6, "c": 1.0}

    estimates = [Bootstrap(["a", "b", "c"]).estimate(values) for _ in range(2)]

    assert estimates[0] == estimates[1]
    # Alike in every organ: their mean varies as one of them does.
    mean, interval = Bootstrap(["a", "b", "c"]).mean_of([values, values]) or (0, None)
    assert estimates[0] is not None
    assert mean == pytest.approx(0.6)
    assert interval == estimates[0].mean_interval


def test_what_nobody_has_is_no_number() -> None:
    bootstrap = Bootstrap(["a", "b"])

    assert bootstrap.estimate({}) is None
    assert bootstrap.mean_of([{}, {}]) is None
    assert Bootstrap([]).mean_of([]) is None


def report_of_three() -> Report:
    missing = np.where(shifted(2) == 1, 0, shifted(2)).astype(np.uint8)
    return evaluate([pair(WHOLE, case="a"), pair(shifted(1), case="[b]"), pair(missing, case="c")])


def test_the_report_is_json_without_a_value_that_is_none() -> None:
    told = json.loads(json.dumps(report_of_three().as_json(), allow_nan=False))

    assert (told["schema_version"], told["patients"], told["bootstrap"]["resamples"]) == (1, 3, 2000)
    assert [each["case"] for each in told["cases"]] == ["a", "[b]", "c"]
    assert told["cases"][1]["spacing_mm"] == [3.0, 1.5, 1.0]
    assert told["organs"][1]["dice"]["mean"] == pytest.approx(np.mean([1, 0.9, 0.8]))


@pytest.mark.parametrize("width", [80, 140])
def test_the_tables_hold_means_intervals_and_every_case(width: int) -> None:
    console = Console(width=width, force_terminal=True, color_system=None, record=True, file=io.StringIO())

    show(report_of_three(), console, per_patient=True)

    said = console.export_text()
    assert "3 patients: mean, its 95% interval" in said
    assert "[b]" in said
    assert "missing: Parotid_L: the result has none of it (c)" in said
    assert ("0.80…1.00" in said) == (width == 140)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    draw(report_of_three(), tmp_path / "agreement.png")

    assert (tmp_path / "agreement.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SetupError, match="is no picture"):
        refuse_plot(tmp_path / "agreement.doc")
