"""Parts override each other in their order, and work where the coarse network found what it was to find."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.volume import Box, Volume
from node.inference.network_tables import GraphFile, InputSpecification, Output
from node.inference.package import KeepLargest, ModelPackage
from node.inference.parts import CropModel, Part
from node.inference.predictor import Predictors, no_progress
from node.inference.region import ProbabilitiesWithin, region_of
from node.inference.segment import segment
from node.inference.transforms import Labels
from tests.builders import definition, grid
from tests.unit.test_segment import INPUT, LOGITS, PACKAGE, LogitNetwork, ThresholdNetwork, volume

GRAPHS = (GraphFile(file="graph.onnx", sha256="0" * 64),)

# The liver of `volume`; with the margin of CROP, 1 slice, 2 rows and 2 columns on each side.
LIVER = np.s_[1:3, 4:7, 5:9]
REGION = np.s_[0:4, 2:9, 3:11]
CROP = CropModel(
    input=INPUT, output=Output(classes=3), graphs=GRAPHS, structures={"liver": (2,)}, margin_mm=(3.0, 4.0, 2.0)
)


class BrightNetwork:
    """Gives class 1 from 100 on, class 2 never and class 3 below -500."""

    computed_by = "other arithmetic"

    def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = [np.zeros_like(network_input), network_input - 100, np.full_like(network_input, -1e6)]
        return np.concatenate([*scores, -500 - network_input], axis=1)


def part(name: str, classes: int, *labels: int) -> Part:
    return Part(name=name, input=INPUT, output=Output(classes=classes), graphs=GRAPHS, labels=labels)


def of_parts(*parts: Part) -> ModelPackage:
    labels = [label for each in parts for label in each.labels if label]
    return replace(PACKAGE, parts=parts, structures=(definition("Body", *labels),))


def labels_of(package: ModelPackage, given: Volume, *networks: object) -> Labels:
    return segment(given, package, Predictors(networks), no_progress).label_map.labels  # type: ignore[arg-type]


def test_what_a_later_part_finds_overrides_and_its_background_does_not() -> None:
    given = volume(grid())
    densities, bright = part("densities", 3, 1, 2), part("bright", 4, 7, 8, 9)

    later_last = labels_of(of_parts(densities, bright), given, ThresholdNetwork(), BrightNetwork())
    later_first = labels_of(of_parts(bright, densities), given, BrightNetwork(), ThresholdNetwork())

    air, body, liver = given.voxels < 0, given.voxels == 50, given.voxels == 150
    np.testing.assert_array_equal(later_last, np.select([air, body, liver], [9, 1, 7]))
    np.testing.assert_array_equal(later_first, np.select([air, body, liver], [9, 1, 2]))


def test_a_label_that_the_package_has_none_for_leaves_what_was_there() -> None:
    given = volume(grid())
    package = of_parts(part("densities", 3, 1, 2), part("bright", 4, 0, 0, 9))

    found = labels_of(package, given, ThresholdNetwork(), BrightNetwork())

    np.testing.assert_array_equal(found, np.select([given.voxels < 0, given.voxels == 50], [9, 1], 2))


@pytest.mark.parametrize(("highest", "kind"), [(255, np.uint8), (256, np.uint16)])
def test_labels_have_as_many_bits_as_the_highest_of_them_needs(highest: int, kind: type) -> None:
    package = of_parts(part("densities", 3, 1, 2), part("bright", 4, highest, 0, 0))

    found = labels_of(package, volume(grid()), ThresholdNetwork(), BrightNetwork())

    assert found.dtype == kind
    assert found.max() == highest


def test_rules_follow_when_all_parts_are_merged() -> None:
    given = volume(grid())
    given.voxels[5, 20, 30] = 150
    package = of_parts(part("densities", 3, 1, 2), part("bright", 4, 7, 0, 0))

    found = labels_of(replace(package, post=(KeepLargest(labels=(7,)),)), given, ThresholdNetwork(), BrightNetwork())

    np.testing.assert_array_equal(np.argwhere(found == 7).min(axis=0), (1, 4, 5))
    assert (found == 7).sum() == 2 * 3 * 4
    assert found[5, 20, 30] == 0


def test_progress_goes_on_over_the_parts() -> None:
    said: list[tuple[str, int, int]] = []
    package = of_parts(part("densities", 3, 1, 2), part("bright", 4, 7, 0, 0))

    segment(
        volume(grid(slices=6)),
        package,
        Predictors((ThresholdNetwork(), BrightNetwork())),
        lambda *step: said.append(step),
    )

    predicted = [(done, of) for doing, done, of in said if doing == "predict"]
    assert predicted == [(0, 12), (6, 12), (6, 12), (12, 12)]
    assert said[-1] == ("tidy", 1, 1)


def test_parts_that_run_alike_are_said_once() -> None:
    assert Predictors((ThresholdNetwork(), ThresholdNetwork())).computed_by == "arithmetic"
    assert Predictors((ThresholdNetwork(), BrightNetwork())).computed_by == "arithmetic; other arithmetic"


def test_as_many_networks_as_the_package_has_must_be_open() -> None:
    package = of_parts(part("densities", 3, 1, 2), part("bright", 4, 7, 0, 0))

    with pytest.raises(ValueError, match="zip"):
        segment(volume(grid()), package, ThresholdNetwork(), no_progress)


def test_the_fine_network_sees_the_region_alone_and_beyond_it_all_is_background() -> None:
    given = volume(grid())
    fine = ThresholdNetwork()
    package = replace(PACKAGE, crop_model=CROP)

    found = segment(given, package, Predictors((ThresholdNetwork(), fine)), no_progress)

    expected = np.zeros(given.voxels.shape, dtype=np.uint8)
    expected[REGION] = np.digitize(given.voxels[REGION], [1, 101])
    assert fine.shapes == [(1, 1, 4, 7, 8)]
    np.testing.assert_array_equal(found.label_map.labels, expected)
    assert found.label_map.grid is given.grid


def test_what_the_region_cuts_off_is_noted_and_what_the_image_cuts_off_too() -> None:
    at_the_edge = volume(grid())
    at_the_edge.voxels[1:3, 0:7, 5:9] = 150.0
    package = replace(PACKAGE, crop_model=CROP)
    image, region = "reaches the edge of the image", "reaches the edge of the region that was looked at"

    inside, outside = (
        segment(given, package, Predictors((ThresholdNetwork(), ThresholdNetwork())), no_progress).notes
        for given in (volume(grid()), at_the_edge)
    )

    # The body goes on beyond the region, the liver ends within it. Where the image ends there is no more to look at.
    assert inside == (f"Body {region}: it may be cut off there.",)
    assert outside == (
        f"Body {image}: it may be cut off there.",
        f"Body {region}: it may be cut off there.",
        f"Liver {image}: it may be cut off there.",
    )


def test_a_series_without_what_the_region_is_around_is_declined_with_its_name() -> None:
    package = replace(PACKAGE, crop_model=replace(CROP, structures={"liver": (2,), "spleen": (2,)}))

    with pytest.raises(InputError, match=r"two-densities/crop_model found nothing of liver, spleen") as declined:
        segment(volume(grid(), liver_hu=50), package, Predictors((ThresholdNetwork(), ThresholdNetwork())), no_progress)

    assert "another model" in declined.value.remedy


def test_finding_the_region_is_a_step_of_its_own() -> None:
    said: list[str] = []
    package = replace(PACKAGE, crop_model=CROP)

    segment(
        volume(grid()),
        package,
        Predictors((ThresholdNetwork(), ThresholdNetwork())),
        lambda doing, _done, _of: said.append(doing),
    )

    assert list(dict.fromkeys(said)) == ["crop", "resample", "predict", "label", "tidy"]


def test_of_a_region_probabilities_lie_where_the_region_lies() -> None:
    package = replace(LOGITS, crop_model=CROP)

    found = segment(volume(grid()), package, Predictors((ThresholdNetwork(), LogitNetwork())), no_progress)

    assert found.probabilities is not None
    whole = found.probabilities.of((2,), (slice(0, 6), slice(0, 24), slice(0, 40)))
    expected = np.zeros((6, 24, 40))
    expected[REGION] = 0.843795
    assert whole is not None
    np.testing.assert_allclose(whole, expected, atol=2e-5)
    corner = found.probabilities.of((2,), (slice(3, 5), slice(8, 10), slice(2, 4)))
    assert corner is not None
    np.testing.assert_allclose(corner, np.array([[[0, 0.843795], [0, 0]], [[0, 0], [0, 0]]]), atol=2e-5)


@pytest.mark.parametrize("box", [np.s_[4:6, 0:24, 0:40], np.s_[0:6, 0:2, 0:40], np.s_[0:6, 0:24, 11:40]])
def test_beyond_the_region_nothing_is_probable_and_what_is_unknown_stays_so(box: Box) -> None:
    found = segment(
        volume(grid()),
        replace(LOGITS, crop_model=CROP),
        Predictors((ThresholdNetwork(), LogitNetwork())),
        no_progress,
    )

    assert isinstance(found.probabilities, ProbabilitiesWithin)
    beyond = found.probabilities.of((1, 2), box)
    assert beyond is not None
    assert beyond.shape == tuple(each.stop - each.start for each in box)
    assert not beyond.any()
    assert found.probabilities.of((9,), box) is None


def labels_with(stack: Grid, box: Box) -> Labels:
    labels = np.zeros(stack.shape, dtype=np.uint8)
    labels[box] = 2
    labels[0, 0, 0] = 1
    return labels


def crop(margin_mm: tuple[float, float, float], orientation: str = "LPS") -> CropModel:
    wanted = InputSpecification(orientation=orientation, spacing_mm=(None, None, None), outside_value=0.0)
    return replace(CROP, input=wanted, margin_mm=margin_mm)


# Voxels of 3 mm, 1.5 mm and 0.8 mm.
@pytest.mark.parametrize(
    ("margin_mm", "region"),
    [
        ((0.0, 0.0, 0.0), np.s_[1:3, 4:7, 5:9]),
        ((2.9, 1.4, 0.7), np.s_[1:3, 4:7, 5:9]),
        ((3.0, 1.5, 0.81), np.s_[0:4, 3:8, 4:10]),
        ((9.0, 6.0, 100.0), np.s_[0:6, 0:11, 0:40]),
    ],
)
def test_the_margin_is_as_many_whole_voxels_as_it_holds(margin_mm: tuple[float, float, float], region: Box) -> None:
    assert region_of(labels_with(grid(), LIVER), grid(), crop(margin_mm)) == region


def test_a_margin_that_is_a_whole_number_of_voxels_is_rounded_as_totalsegmentator_rounds_it() -> None:
    stack = grid(columns=80)

    region = region_of(labels_with(stack, np.s_[1:3, 4:7, 40:44]), stack, crop((0.0, 0.0, 20.0)))

    # 0.8 in float32 is a little more than 0.8: 24 columns, not 25.
    assert region is not None
    assert region[2] == slice(16, 68)


def test_the_margin_follows_the_patient_and_not_the_planes() -> None:
    # A sagittal series: slices go to the left, 3 mm, rows to the feet, 1.5 mm, and columns to the back, 0.8 mm.
    stack = grid(orientation="sagittal")

    region = region_of(labels_with(stack, np.s_[2:3, 10:12, 20:24]), stack, crop((4.5, 2.5, 6.1)))

    # 4.5 mm along the body are 3 rows, 2.5 mm to front and back 3 columns, 6.1 mm to the sides 2 slices.
    assert region == (slice(0, 5), slice(7, 15), slice(17, 27))


def test_a_margin_of_native_axes_is_that_of_the_series() -> None:
    stack = grid(orientation="sagittal")

    region = region_of(labels_with(stack, np.s_[2:3, 10:12, 20:24]), stack, crop((3.0, 4.5, 2.5), "native"))

    assert region == (slice(1, 4), slice(7, 15), slice(17, 27))


@pytest.mark.parametrize(
    ("box", "first"),
    [(np.s_[1:2, 4:7, 5:9], slice(1, 3)), (np.s_[5:6, 4:7, 5:9], slice(4, 6)), (np.s_[0:1, 4:7, 5:9], slice(0, 2))],
)
def test_a_region_of_one_plane_takes_another_beside_it(box: Box, first: slice) -> None:
    region = region_of(labels_with(grid(), box), grid(), crop((0.0, 0.0, 0.0)))

    assert region == (first, slice(4, 7), slice(5, 9))


def test_nothing_to_find_is_no_region() -> None:
    assert region_of(np.ones((6, 24, 40), dtype=np.uint8), grid(), crop((9.0, 9.0, 9.0))) is None
