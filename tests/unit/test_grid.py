"""Geometry against millimetres computed by hand from PS3.3 C.7.6.2.1.1."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.errors import InputError
from node.domain.grid import Grid, Plane, ordered_along_normal
from tests.builders import Orientation, grid, plane
from tests.unit.test_drawing import orientations, stacks_of_labels


@pytest.mark.parametrize(
    ("orientation", "expected_lps_mm"),
    [
        # First pixel (-31.5, -22.25, 105); row 2 lies 2 × 1.5 mm, column 3 lies 3 × 0.8 mm away.
        ("axial", (-31.5 + 2.4, -22.25 + 3.0, 105.0)),
        ("prone", (-31.5 - 2.4, -22.25 - 3.0, 105.0)),
        ("feet_first", (-31.5 - 2.4, -22.25 + 3.0, 105.0)),
        ("decubitus_left", (-31.5 + 3.0, -22.25 - 2.4, 105.0)),
        ("sagittal", (-31.5, -22.25 + 2.4, 105.0 - 3.0)),
        ("coronal", (-31.5 + 2.4, -22.25, 105.0 - 3.0)),
    ],
)
def test_a_pixel_lies_where_the_standard_puts_it(
    orientation: Orientation, expected_lps_mm: tuple[float, float, float]
) -> None:
    stack = grid(slices=1, orientation=orientation)

    point = stack.points_lps_mm(0, [2], [3])

    assert point == pytest.approx(np.array([expected_lps_mm]), abs=1e-9)


def test_an_oblique_pixel_mixes_all_axes() -> None:
    stack = grid(slices=1, orientation="oblique", origin_lps_mm=(0.0, 0.0, 0.0))

    point = stack.points_lps_mm(0, [10], [20])

    # 16 mm along (0.866025, 0.5, 0) and 15 mm along (-0.469846, 0.813798, 0.342020)
    assert point[0] == pytest.approx((13.8564 - 7.04769, 8.0 + 12.20697, 5.1303), abs=1e-6)


def test_indices_name_pixel_centres_so_the_corner_is_half_a_pixel_before_the_first() -> None:
    stack = grid(slices=1)

    corner = stack.points_lps_mm(0, [-0.5], [-0.5])

    assert corner[0] == pytest.approx((-31.5 - 0.4, -22.25 - 0.75, 105.0))


def test_points_take_many_fractional_indices_at_once() -> None:
    stack = grid(slices=2)

    points = stack.points_lps_mm(1, [0, 0.5, 23], [0, 39, 10.25])

    assert points == pytest.approx(
        np.array([(-31.5, -22.25, 108.0), (-31.5 + 31.2, -22.25 + 0.75, 108.0), (-31.5 + 8.2, -22.25 + 34.5, 108.0)])
    )


def test_each_tilted_plane_uses_its_own_position() -> None:
    stack = grid(slices=5, tilt_mm=1.25)

    point = stack.points_lps_mm(4, [0], [0])

    assert point[0] == pytest.approx((-31.5, -22.25 + 4 * 1.25, 105.0 + 4 * 3.0))
    assert stack.tilt_mm == pytest.approx(1.25)
    assert stack.spacing_mm == pytest.approx((3.0, 1.5, 0.8))


def test_shape_and_spacing_are_slice_row_column() -> None:
    stack = grid(slices=6, rows=24, columns=40)

    assert stack.shape == (6, 24, 40)
    assert stack.pixel_spacing_mm == (1.5, 0.8)
    assert stack.spacing_mm == pytest.approx((3.0, 1.5, 0.8))
    assert stack.voxel_volume_mm3 == pytest.approx(3.6)
    assert stack.tilt_mm == pytest.approx(0.0)


def test_slice_spacing_is_the_median_gap() -> None:
    planes = [plane(position_lps_mm=(0.0, 0.0, z)) for z in (0.0, 2.0, 4.0, 9.0)]

    assert Grid(planes=tuple(planes)).slice_spacing_mm == pytest.approx(2.0)


def test_a_single_plane_has_neither_spacing_nor_tilt() -> None:
    stack = grid(slices=1)

    assert stack.slice_spacing_mm == 0.0
    assert stack.tilt_mm == 0.0


@pytest.mark.parametrize(
    ("orientation", "normal"),
    [
        ("axial", (0.0, 0.0, 1.0)),
        ("prone", (0.0, 0.0, 1.0)),
        ("feet_first", (0.0, 0.0, -1.0)),
        ("decubitus_left", (0.0, 0.0, 1.0)),
        ("sagittal", (-1.0, 0.0, 0.0)),
        ("coronal", (0.0, 1.0, 0.0)),
        # (0.866025, 0.5, 0) × (-0.469846, 0.813798, 0.342020)
        ("oblique", (0.17101, -0.296198, 0.939693)),
    ],
)
def test_the_normal_is_row_direction_cross_column_direction(
    orientation: Orientation, normal: tuple[float, float, float]
) -> None:
    assert plane(orientation=orientation).normal == pytest.approx(np.array(normal), abs=1e-5)


def test_axis_directions_follow_the_indices() -> None:
    rising, falling = grid(slices=3), grid(slices=3, spacing_mm=(-3.0, 1.5, 0.8))

    assert rising.axis_directions() == pytest.approx(np.array([(0, 0, 1), (0, 1, 0), (1, 0, 0)]))
    assert falling.axis_directions() == pytest.approx(np.array([(0, 0, -1), (0, 1, 0), (1, 0, 0)]))


def test_distance_is_signed_along_the_normal() -> None:
    feet_first = plane(orientation="feet_first", position_lps_mm=(10.0, 20.0, 30.0))

    assert feet_first.distance_mm == pytest.approx(-30.0)


def test_order_follows_position_and_never_the_order_given() -> None:
    stack = grid(slices=5, orientation="oblique", tilt_mm=0.7)
    given = [stack.planes[index] for index in (3, 0, 4, 1, 2)]

    assert ordered_along_normal(given) == stack.planes
    assert ordered_along_normal([]) == ()


def test_a_feet_first_stack_runs_from_head_to_feet() -> None:
    # Its normal points to the feet.
    planes = [plane(orientation="feet_first", position_lps_mm=(0.0, 0.0, z)) for z in (0.0, 5.0, -5.0)]

    assert [one.position_lps_mm[2] for one in ordered_along_normal(planes)] == [5.0, 0.0, -5.0]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (plane(rows=25), "Rows or Columns"),
        (plane(columns=41), "Rows or Columns"),
        (plane(orientation="prone"), r"Image Orientation \(Patient\)"),
        (plane(pixel_spacing_mm=(0.8, 1.5)), "Pixel Spacing"),
    ],
)
def test_planes_that_differ_form_no_grid(odd: Plane, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Grid(planes=(plane(), odd))


@pytest.mark.parametrize(
    ("only", "reason"),
    [
        (plane(orientation=(1.0, 0.0, 0.0, 0.0, 0.5, 0.0)), "unit vectors"),
        (plane(orientation=(1.0, 0.0, 0.0, 0.6, 0.8, 0.0)), "orthogonal"),
        (plane(pixel_spacing_mm=(0.0, 0.8)), "not positive"),
    ],
)
def test_a_plane_without_a_geometry_forms_no_grid(only: Plane, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Grid(planes=(only,))


def test_no_plane_is_no_grid() -> None:
    with pytest.raises(InputError, match="no image plane"):
        Grid(planes=())


def test_cosines_rounded_to_four_decimals_are_accepted() -> None:
    rounded = plane(orientation=(0.8660, 0.5, 0.0, -0.4698, 0.8138, 0.3420))

    assert Grid(planes=(rounded, replace(rounded, position_lps_mm=(0.0, 0.0, 0.0)))).shape == (2, 24, 40)


def test_a_plane_wider_than_any_scanner_is_refused_with_its_width() -> None:
    with pytest.raises(InputError, match=r"A plane would be 20\.5 m wide: Pixel Spacing \(40\.0, 40\.0\)"):
        Grid(planes=(plane(rows=512, columns=512, pixel_spacing_mm=(40.0, 40.0)),))


def test_a_box_of_a_grid_lies_where_it_lay() -> None:
    # Columns go along (0.6, 0.8, 0), rows along (0, 0, -1); 0.8 mm and 1.5 mm apart. Each plane is 0.2 mm lower.
    stack = grid(orientation=(0.6, 0.8, 0.0, 0.0, 0.0, -1.0), origin_lps_mm=(10.0, 20.0, 30.0), tilt_mm=0.2)

    box = stack.within(slice(2, 5), slice(4, 10), slice(5, 40))

    assert box.shape == (3, 6, 35)
    # Normal (-0.8, 0.6, 0): two planes of 3 mm on; five columns, four rows and two tilts from the corner.
    np.testing.assert_allclose(
        box.planes[0].position_lps_mm,
        (10 - 0.8 * 6 + 0.6 * 0.8 * 5, 20 + 0.6 * 6 + 0.8 * 0.8 * 5, 30 - 1.5 * 4 - 0.2 * 2),
        atol=1e-5,
    )
    assert [plane.sop_instance_uid for plane in box.planes] == [plane.sop_instance_uid for plane in stack.planes[2:5]]
    np.testing.assert_allclose(box.points_lps_mm(1, [2], [3]), stack.points_lps_mm(3, [6], [8]), atol=1e-9)


@given(
    stack=stacks_of_labels().map(lambda drawn: drawn.grid),
    row=st.floats(-1, 600, width=32),
    column=st.floats(-1, 600, width=32),
)
def test_on_any_grid_every_point_lies_where_the_equation_of_the_standard_puts_it(
    stack: Grid, row: float, column: float
) -> None:
    for index, one in enumerate(stack.planes):
        (row_x, row_y, row_z, column_x, column_y, column_z), (x, y, z) = one.orientation, one.position_lps_mm
        # Equation C.7.6.2.1-1: delta i goes with the column index, and is the second value of Pixel Spacing.
        across, down = column * one.pixel_spacing_mm[1], row * one.pixel_spacing_mm[0]
        expected = (
            x + row_x * across + column_x * down,
            y + row_y * across + column_y * down,
            z + row_z * across + column_z * down,
        )

        assert stack.points_lps_mm(index, [row], [column])[0] == pytest.approx(np.array(expected), abs=1e-6)


@given(orientation=orientations(), order=st.permutations(range(6)), tilt_mm=st.floats(-2, 2), falling=st.booleans())
def test_planes_in_any_order_become_one_stack_that_rises_along_its_normal(
    orientation: Orientation, order: list[int], tilt_mm: float, falling: bool
) -> None:
    spacing_mm = (-2.5 if falling else 2.5, 1.5, 0.8)
    stack = grid(slices=6, orientation=orientation, tilt_mm=tilt_mm, spacing_mm=spacing_mm)

    ordered = ordered_along_normal([stack.planes[index] for index in order])

    assert ordered == (stack.planes[::-1] if falling else stack.planes)
    assert np.diff(Grid(planes=ordered).distances_mm) == pytest.approx(np.full(5, 2.5), abs=1e-3)


@given(stack=stacks_of_labels().map(lambda drawn: drawn.grid), data=st.data())
def test_a_box_of_any_grid_has_its_voxels_where_they_were(stack: Grid, data: st.DataObject) -> None:
    ends = [
        sorted(data.draw(st.tuples(*[st.integers(0, size)] * 2).filter(lambda e: e[0] != e[1]))) for size in stack.shape
    ]
    slices, rows, columns = (slice(*end) for end in ends)

    box = stack.within(slices, rows, columns)

    assert box.shape == tuple(end - begin for begin, end in ends)
    for index in range(box.shape[0]):
        last = stack.points_lps_mm(slices.start + index, [rows.stop - 1], [columns.stop - 1])
        assert box.points_lps_mm(index, [box.shape[1] - 1], [box.shape[2] - 1]) == pytest.approx(last, abs=1e-6)
