"""Each rule of a manifest does what its sentence says, on drawings small enough to check by eye."""

import numpy as np
import pytest
from numpy.typing import NDArray

from node.domain.volume import LabelMap
from node.inference.package import DropSmall, FillHolesInPlane, KeepLargest, KeepSeeded, PostRule, Relabel
from node.inference.postprocess import mask_of, postprocess
from tests.builders import grid

# One voxel of the default grid: 3 mm · 1.5 mm · 0.8 mm = 3.6 mm³; one pixel 1.2 mm².


def drawn(*planes: str) -> LabelMap:
    """Read planes of digits; a dot is background, a space ends a row."""
    rows = [[[0 if mark == "." else int(mark) for mark in row] for row in plane.split()] for plane in planes]
    labels = np.array(rows, dtype=np.uint8)
    return LabelMap(labels=labels, grid=grid(slices=labels.shape[0], rows=labels.shape[1], columns=labels.shape[2]))


def applied(label_map: LabelMap, *rules: PostRule) -> NDArray[np.uint8] | NDArray[np.uint16]:
    return postprocess(label_map, rules).labels


def test_the_largest_piece_stays_and_pieces_hang_together_by_faces_through_slices() -> None:
    before = drawn("11.22 ..... 11111", "1.... ..... .....")
    after = drawn("..... ..... 11111", "..... ..... .....")

    np.testing.assert_array_equal(applied(before, KeepLargest(labels=(1, 2))), after.labels)


def test_pieces_that_meet_at_a_corner_are_one_where_a_rule_counts_26_neighbours() -> None:
    before = drawn("1.... ..... ..11.", ".1... .2... .....", "..... ..... .....")

    by_faces = drawn("..... ..... ..11.", ".1... .2... .....", "..... ..... .....").labels
    np.testing.assert_array_equal(applied(before, KeepLargest(labels=(1, 2))), by_faces)
    np.testing.assert_array_equal(applied(before, KeepLargest(labels=(1, 2), neighbours=26)), before.labels)


def test_of_pieces_of_one_size_all_stay() -> None:
    before = drawn("11.11 ....1 .....", "..... ..... 1....")
    after = drawn("...11 ....1 .....", "..... ..... .....")
    alike = drawn("11.11 ..... 11...", "..... ..... .....")

    np.testing.assert_array_equal(applied(before, KeepLargest(labels=(1,), neighbours=26)), after.labels)
    np.testing.assert_array_equal(applied(alike, KeepLargest(labels=(1,), neighbours=26)), alike.labels)


def test_pieces_of_a_fraction_of_the_largest_stay_too() -> None:
    before = drawn("11111 ..... 111.2")
    after = drawn("11111 ..... 111..")

    np.testing.assert_array_equal(applied(before, KeepLargest(labels=(1, 2), and_from_fraction=0.6)), after.labels)


def test_labels_that_a_rule_does_not_name_are_left_alone() -> None:
    before = drawn("1.33. ..... 11111")
    after = drawn("..33. ..... 11111")

    np.testing.assert_array_equal(applied(before, KeepLargest(labels=(1,))), after.labels)


def test_holes_are_filled_in_each_plane_whatever_lies_in_them() -> None:
    before = drawn("11111 1.3.1 11111", "11.11 1...1 11111")
    after = drawn("11111 12221 11111", "11.11 1...1 11111")

    np.testing.assert_array_equal(applied(before, FillHolesInPlane(labels=(1,), becomes=2)), after.labels)


def test_a_hole_that_touches_only_the_edge_of_the_image_is_no_hole() -> None:
    before = drawn("111.1 1...1 11111")

    np.testing.assert_array_equal(applied(before, FillHolesInPlane(labels=(1,), becomes=1)), before.labels)


def test_holes_above_the_limit_stay() -> None:
    before = drawn("111111 1.1..1 111111")
    after = drawn("111111 121..1 111111")

    # One pixel has 1.2 mm², two have 2.4 mm².
    rule = FillHolesInPlane(labels=(1,), becomes=2, at_most_mm2=1.3)

    np.testing.assert_array_equal(applied(before, rule), after.labels)


def test_planes_lie_across_the_axis_that_is_asked_for() -> None:
    # A ring in the plane of slices and columns, open in every other plane.
    before = drawn("... 111 ...", "... 1.1 ...", "... 111 ...")
    after = drawn("... 111 ...", "... 121 ...", "... 111 ...")
    # One pixel of that plane has 3 mm · 0.8 mm = 2.4 mm².
    small, large = (FillHolesInPlane(labels=(1,), becomes=2, at_most_mm2=limit) for limit in (2.3, 2.5))

    np.testing.assert_array_equal(postprocess(before, [large], slice_axis=1).labels, after.labels)
    np.testing.assert_array_equal(postprocess(before, [small], slice_axis=1).labels, before.labels)
    np.testing.assert_array_equal(postprocess(before, [large]).labels, before.labels)


def test_pieces_without_a_seed_fall_to_another_label() -> None:
    before = drawn("112.. ..... .11..", "..... ..... .....")
    after = drawn("112.. ..... .33..", "..... ..... .....")

    rule = KeepSeeded(labels=(1, 2), seeds=(2,), becomes=3)

    np.testing.assert_array_equal(applied(before, rule), after.labels)


def test_pieces_below_a_volume_fall_to_another_label() -> None:
    before = drawn("111.. ..... .11..", "..... ..... .....")
    after = drawn("111.. ..... .22..", "..... ..... .....")

    # Three voxels have 10.8 mm³, two have 7.2 mm³.
    rule = DropSmall(labels=(1,), at_least_cm3=0.0105, becomes=2)

    np.testing.assert_array_equal(applied(before, rule), after.labels)


def test_a_label_can_be_renamed() -> None:
    before = drawn("112.. .3...")
    after = drawn("222.. .2...")

    np.testing.assert_array_equal(applied(before, Relabel(labels=(1, 3), becomes=2)), after.labels)


def test_rules_run_in_their_order() -> None:
    before = drawn("111.2 1.1.. 111..")
    after = drawn("111.. 131.. 111..")

    rules = KeepLargest(labels=(1, 2)), FillHolesInPlane(labels=(1,), becomes=3)

    np.testing.assert_array_equal(applied(before, *rules), after.labels)


def test_a_rule_for_labels_that_are_not_there_changes_nothing() -> None:
    empty = drawn("..... .....")
    some = drawn("..1.. .....")

    rules = (
        KeepLargest(labels=(2,)),
        FillHolesInPlane(labels=(9,), becomes=1),
        DropSmall(labels=(3, 2), at_least_cm3=1, becomes=0),
    )

    np.testing.assert_array_equal(applied(empty, *rules), empty.labels)
    np.testing.assert_array_equal(applied(some, *rules), some.labels)


def test_the_given_label_map_is_not_changed() -> None:
    before = drawn("1.1 111")
    kept = before.labels.copy()

    postprocess(before, [Relabel(labels=(1,), becomes=2)])

    np.testing.assert_array_equal(before.labels, kept)


@pytest.mark.parametrize("values", [(1,), (1, 2, 3), (3, 1), (0,), (255,), (2, 4, 5, 9)])
def test_a_mask_holds_its_values_and_no_other(values: tuple[int, ...]) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)

    assert labels[mask_of(labels, values)].tolist() == sorted(values)
