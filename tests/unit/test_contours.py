"""Contours hold exactly the voxels of their structure, where the patient is."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from node.domain import keyholes
from node.domain.contours import build_structures, rasterise
from node.domain.errors import VerificationError
from node.domain.grid import Grid, Plane
from node.domain.scanlines import pixels
from node.domain.structures import Contour
from node.domain.volume import LabelMap
from tests.builders import ORIENTATIONS, Orientation, ball_and_box, definition, grid, plane

SPACINGS = st.sampled_from([0.02, 0.1, 0.3, 0.5, 0.8, 0.977, 1.5, 5.0])


def contours_of(labels: NDArray[np.integer], stack: Grid, *values: int) -> tuple[Contour, ...]:
    """Give the contours of the structure that the values make up."""
    label_map = LabelMap(labels=labels.astype(np.uint8), grid=stack)
    (structure,) = build_structures(label_map, [definition("any", *values)]).structures
    return structure.contours


def image(*rows: str) -> NDArray[np.uint8]:
    """Draw one slice: # is 1, any digit itself."""
    numbers = [[1 if character == "#" else int(character.replace(".", "0")) for character in row] for row in rows]
    return np.array([numbers], dtype=np.uint8)


def one_slice(labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float] = (3.0, 1.5, 0.8)) -> Grid:
    return grid(slices=1, rows=labels.shape[1], columns=labels.shape[2], spacing_mm=spacing_mm)


def inside_by_definition(polygons: list[NDArray[np.float64]], row: int, column: int) -> bool:
    """Count by hand, edge by edge, how often a ray to the left is crossed."""
    crossings = 0
    for points in polygons:
        for (row_a, column_a), (row_b, column_b) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if (row_a <= row) != (row_b <= row):
                at = column_a + (row - row_a) / (row_b - row_a) * (column_b - column_a)
                crossings += at <= column
    return crossings % 2 == 1


@st.composite
def labelled_stacks(draw: st.DrawFn) -> LabelMap:
    """Draw label maps of blocks and single voxels: diagonal touches, holes in holes, voxels at every edge."""
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 13)))
    coarse = draw(st.integers(1, 3))
    size = int(np.prod([shape[0], -(-shape[1] // coarse), -(-shape[2] // coarse)]))
    values = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    blocks = np.array(values, dtype=np.uint8).reshape(shape[0], -(-shape[1] // coarse), -(-shape[2] // coarse))
    labels = blocks.repeat(coarse, axis=1).repeat(coarse, axis=2)[:, : shape[1], : shape[2]]
    stack = grid(
        slices=shape[0],
        rows=shape[1],
        columns=shape[2],
        orientation=draw(st.sampled_from(sorted(ORIENTATIONS))),
        origin_lps_mm=draw(st.tuples(*[st.floats(-900, 900, width=32)] * 3)),
        spacing_mm=(2.5, draw(SPACINGS), draw(SPACINGS)),
        tilt_mm=draw(st.sampled_from([0.0, 0.7])),
    )
    return LabelMap(labels=labels, grid=stack)


@settings(max_examples=150, deadline=None)
@given(label_map=labelled_stacks())
def test_no_voxel_is_lost_or_won(label_map: LabelMap) -> None:
    definitions = [definition("one", 1), definition("two", 2), definition("both", 1, 2)]

    result = build_structures(label_map, definitions)

    for structure in result.structures:
        wanted = np.isin(label_map.labels, structure.definition.label_values)
        np.testing.assert_array_equal(rasterise(structure.contours, label_map.grid), wanted)
    assert len(result.structures) + len(result.omitted) == len(definitions)


@settings(max_examples=25, deadline=None)
@given(label_map=labelled_stacks())
def test_rasterising_agrees_with_counting_crossings_by_hand(label_map: LabelMap) -> None:
    result = build_structures(label_map, [definition("one", 1)])

    for structure in result.structures:
        filled = rasterise(structure.contours, label_map.grid)
        for index, row, column in itertools.product(*map(range, label_map.grid.shape)):
            polygons = [
                pixels(label_map.grid.planes[index], contour.points_lps_mm)
                for contour in structure.contours
                if contour.slice_index == index
            ]
            assert filled[index, row, column] == inside_by_definition(polygons, row, column)


@pytest.mark.parametrize(
    "drawing",
    [
        ("#.", ".#"),
        ("#.#", ".#.", "#.#"),
        ("#####", "#...#", "#.#.#", "#...#", "#####"),
        ("#######", "#.#.#.#", "#######", "#.#.#.#", "#######"),
        ("####", "#..#", "#.##", "###."),
        ("#",),
        ("##########",),
        ("#..#", "....", "#..#"),
    ],
    ids=["diagonal", "checkers", "hole in hole", "many holes", "corner of a hole", "one voxel", "one row", "corners"],
)
def test_shapes_that_break_tracers_survive(drawing: tuple[str, ...]) -> None:
    labels = image(*drawing)
    stack = one_slice(labels)

    contours = contours_of(labels, stack, 1)

    np.testing.assert_array_equal(rasterise(contours, stack), labels == 1)
    assert all(len(contour.points_lps_mm) >= 3 for contour in contours)


def test_a_hole_is_a_keyhole_in_one_contour() -> None:
    labels = image("#####", "#...#", "#...#", "#####")

    contours = contours_of(labels, one_slice(labels), 1)

    assert len(contours) == 1


def test_the_first_point_is_not_repeated() -> None:
    labels = image("....", ".##.", ".##.", "....")

    (contour,) = contours_of(labels, one_slice(labels), 1)

    assert not np.array_equal(contour.points_lps_mm[0], contour.points_lps_mm[-1])


# One voxel at slice 2, row 3, column 5, spacing 3 × 1.5 × 0.8 mm, origin (-31.5, -22.25, 105). By hand: origin + 2 · 3
# mm along the normal + 3 · 1.5 mm along increasing rows + 5 · 0.8 mm along increasing columns.
CENTRES: dict[Orientation, tuple[float, float, float]] = {
    "axial": (-31.5 + 4, -22.25 + 4.5, 105 + 6),
    "prone": (-31.5 - 4, -22.25 - 4.5, 105 + 6),
    "feet_first": (-31.5 - 4, -22.25 + 4.5, 105 - 6),
    "decubitus_left": (-31.5 + 4.5, -22.25 - 4, 105 + 6),
    "sagittal": (-31.5 - 6, -22.25 + 4, 105 - 4.5),
    "coronal": (-31.5 + 4, -22.25 + 6, 105 - 4.5),
    # Normal of the oblique planes: (0.171010, -0.296198, 0.939693).
    "oblique": (
        -31.5 + 6 * 0.171010 - 4.5 * 0.469846 + 4 * 0.866025,
        -22.25 - 6 * 0.296198 + 4.5 * 0.813798 + 4 * 0.5,
        105 + 6 * 0.939693 + 4.5 * 0.342020,
    ),
}


@pytest.mark.parametrize("orientation", sorted(CENTRES))
def test_a_voxel_stands_where_it_is_in_the_patient(orientation: Orientation) -> None:
    stack = grid(orientation=orientation)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    labels[2, 3, 5] = 1

    (contour,) = contours_of(labels, stack, 1)

    assert contour.slice_index == 2
    middle = (contour.points_lps_mm.max(axis=0) + contour.points_lps_mm.min(axis=0)) / 2
    np.testing.assert_allclose(middle, CENTRES[orientation], atol=0.011)


def test_a_tilted_stack_uses_each_planes_own_position() -> None:
    stack = grid(tilt_mm=0.7)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    labels[2, 3, 5] = 1

    (contour,) = contours_of(labels, stack, 1)

    middle = (contour.points_lps_mm.max(axis=0) + contour.points_lps_mm.min(axis=0)) / 2
    np.testing.assert_allclose(middle, (-27.5, -22.25 + 4.5 + 2 * 0.7, 111), atol=0.011)


def test_a_descending_stack_keeps_the_order_of_its_planes() -> None:
    stack = grid(spacing_mm=(-3.0, 1.5, 0.8))
    labels = np.zeros(stack.shape, dtype=np.uint8)
    labels[2, 3, 5] = 1

    (contour,) = contours_of(labels, stack, 1)

    assert contour.points_lps_mm[0, 2] == pytest.approx(105 - 6)


@pytest.mark.parametrize(("orientation", "decimals"), [("axial", 2), ("sagittal", 2), ("oblique", 3)])
def test_coordinates_are_rounded_as_they_will_be_written(orientation: Orientation, decimals: int) -> None:
    stack = grid(orientation=orientation, origin_lps_mm=(-31.1234, 22.9876, -105.0))

    result = build_structures(ball_and_box(stack), [definition("ball", 1, 2)])

    points = np.concatenate([contour.points_lps_mm for contour in result.structures[0].contours])
    in_plane = points[:, np.abs(stack.normal) < 0.9]
    np.testing.assert_array_equal(np.round(in_plane, decimals), in_plane)
    assert not np.signbit(points[points == 0]).any()


def test_contours_stay_lossless_when_a_reader_rounds_or_shifts_a_little() -> None:
    stack = grid()
    label_map = ball_and_box(stack)
    result = build_structures(label_map, [definition("ball", 1, 2)])

    for shift in itertools.product((-0.009, 0.009), (-0.009, 0.009)):
        moved = [
            Contour(slice_index=one.slice_index, points_lps_mm=one.points_lps_mm + np.array([*shift, 0.0]))
            for one in result.structures[0].contours
        ]

        np.testing.assert_array_equal(rasterise(moved, stack), np.isin(label_map.labels, (1, 2)))


@pytest.mark.parametrize("radius_pixels", [0.5, 1.5, 2.5, 5.0, 12.0])
def test_the_area_of_a_small_disk_is_that_of_its_pixels(radius_pixels: float) -> None:
    rows, columns = np.ogrid[:32, :32]
    labels = (((rows - 15) ** 2 + (columns - 16) ** 2) <= radius_pixels**2).astype(np.uint8)[np.newaxis]
    stack = one_slice(labels, (1.0, 1.0, 1.0))

    (contour,) = contours_of(labels, stack, 1)

    x, y = contour.points_lps_mm[:, 0], contour.points_lps_mm[:, 1]
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert area == pytest.approx(labels.sum(), rel=0.05)


def test_far_fewer_points_than_pixels_of_the_outline_are_kept() -> None:
    rows, columns = np.ogrid[:200, :200]
    labels = (((rows - 100) / 80) ** 2 + ((columns - 97) / 70) ** 2 <= 1).astype(np.uint8)[np.newaxis]

    (contour,) = contours_of(labels, one_slice(labels, (3.0, 0.977, 0.977)), 1)

    assert len(contour.points_lps_mm) < 250  # the outline passes 600 pixel edges


def test_structures_may_contain_each_other() -> None:
    label_map = ball_and_box(grid())

    result = build_structures(label_map, [definition("all", 1, 2, 3), definition("core", 2)])

    everything, core = (structure.volume_cm3 for structure in result.structures)
    assert everything == pytest.approx(np.count_nonzero(label_map.labels) * 3.6 / 1000)
    assert core == pytest.approx(np.count_nonzero(label_map.labels == 2) * 3.6 / 1000)


def test_a_structure_without_voxels_is_omitted_with_its_reason() -> None:
    label_map = ball_and_box(grid())

    result = build_structures(label_map, [definition("box", 3), definition("spleen", 9), definition("air", 0)])

    assert [structure.definition.name for structure in result.structures] == ["box"]
    assert [one.name for one in result.omitted] == ["spleen", "air"]
    assert all("no voxel" in one.reason for one in result.omitted)


def test_rounded_direction_cosines_move_no_pixel_across_a_wide_image() -> None:
    # Not quite orthogonal, as writers with few decimals leave them.
    cosines = (0.8661, 0.4999, 0.0, -0.4697, 0.8139, 0.3421)
    skewed = Grid(planes=(plane(orientation=cosines, rows=400, columns=500),))
    labels = np.zeros(skewed.shape, dtype=np.uint8)
    labels[0, 395:, 490:] = 1

    contours = contours_of(labels, skewed, 1)

    np.testing.assert_array_equal(rasterise(contours, skewed), labels == 1)


def test_points_beside_the_image_do_not_wrap_around() -> None:
    stack = grid(slices=1, rows=4, columns=5)
    corners = stack.points_lps_mm(0, [-3, -3, 9, 9], [-7, 2.5, 2.5, -7])

    filled = rasterise([Contour(slice_index=0, points_lps_mm=corners)], stack)

    np.testing.assert_array_equal(filled[0], np.tile([True, True, True, False, False], (4, 1)))


def test_keyholes_of_several_holes_leave_the_filling_as_it_was() -> None:
    outer = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 9.0], [9.0, 0.0]]) + 0.3
    holes = [np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]) + shift + 0.3 for shift in (0, 4, [0, 4])]

    (joined,) = keyholes.merge([(outer, holes)])

    for row, column in itertools.product(range(11), range(11)):
        assert inside_by_definition([joined], row, column) == inside_by_definition([outer, *holes], row, column)


def test_a_channel_crosses_no_hole_that_lies_beside_a_slanting_one() -> None:
    outer = np.array([[0.3, 0.3], [0.3, 60.3], [40.3, 60.3], [40.3, 0.3]])
    slanting = np.array([[10.0, 10.0], [30.0, 40.0], [30.0, 41.0], [10.0, 11.0]])
    below_it = np.array([[21.0, 12.0], [21.0, 18.0], [19.0, 18.0], [19.0, 12.0]])

    (joined,) = keyholes.merge([(outer, [slanting, below_it])])

    # On no row does a channel pass column 15, the middle of the hole below, where that has a side.
    start, end = joined, np.roll(joined, -1, axis=0)
    level = start[:, 0] == end[:, 0]
    passed = level & ((start[:, 1] < 15) != (end[:, 1] < 15))
    assert sorted(set(start[passed, 0].tolist())) == [0.3, 19.0, 21.0, 40.3]


def test_thousands_of_holes_cost_no_more_each_than_a_few() -> None:
    sieve = np.ones((1, 301, 301), dtype=np.uint8)
    sieve[:, 1::2, 1::2] = 0
    stack = one_slice(sieve)
    started = time.process_time()

    (contour,) = contours_of(sieve, stack, 1)

    # 22,500 holes: 3 s; where each was sought in all that was joined before, 18 s and more.
    assert time.process_time() - started < 9
    np.testing.assert_array_equal(rasterise([contour], stack), sieve == 1)


def test_a_loss_is_an_error_and_no_contour(monkeypatch: pytest.MonkeyPatch) -> None:
    # A channel that cuts a corner, as a faulty merge would.
    monkeypatch.setattr(keyholes, "merge", lambda outlines: [outer for outer, _ in outlines])
    labels = image("#####", "#...#", "#####")

    with pytest.raises(VerificationError, match="do not hold exactly"):
        contours_of(labels, one_slice(labels), 1)


def test_a_plane_takes_points_back_to_its_pixels() -> None:
    tilted: Plane = grid(orientation="oblique").planes[3]
    points = grid(orientation="oblique").points_lps_mm(3, [2.25, 7.0], [0.0, 11.5])

    np.testing.assert_allclose(pixels(tilted, points), [[2.25, 0.0], [7.0, 11.5]], atol=1e-9)
