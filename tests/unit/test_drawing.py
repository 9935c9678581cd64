"""However contours are drawn for a receiver, they hold exactly the voxels of their structure."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from node.domain.contours import build_structures
from node.domain.errors import VerificationError
from node.domain.grid import Cosines, Grid
from node.domain.structures import Drawing, Structure
from node.domain.volume import Box, LabelMap
from tests.builders import ball_and_box, definition, grid
from tests.even_odd import filled, in_pixels

GUARD_MM = 0.02
RING = ("#####", "#...#", "#...#", "#####")


def drawn(labels: NDArray[np.integer], stack: Grid, drawing: Drawing, *values: int) -> Structure:
    label_map = LabelMap(labels=labels.astype(np.uint8), grid=stack)
    (structure,) = build_structures(label_map, [definition("any", *values)], drawing).structures
    return structure


def slices_of(*drawings: tuple[str, ...]) -> NDArray[np.uint8]:
    """Draw slices: # is 1."""
    return np.array([[[character == "#" for character in row] for row in rows] for rows in drawings], dtype=np.uint8)


def held(structure: Structure, stack: Grid, shift_pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Fill by the definition."""
    return np.array(
        [
            filled(
                [
                    in_pixels(plane, contour.points_lps_mm) + shift_pixels
                    for contour in structure.contours
                    if contour.slice_index == index
                ],
                plane.rows,
                plane.columns,
            )
            for index, plane in enumerate(stack.planes)
        ]
    )


@st.composite
def orientations(draw: st.DrawFn) -> Cosines:
    """Turn the axes by any three angles; cosines as writers leave them, with six decimals."""
    yaw, pitch, roll = draw(st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
    turned = np.round(about_z @ about_y @ about_x, 6)
    row_x, row_y, row_z, column_x, column_y, column_z = (float(value) for value in turned[:, :2].T.ravel())
    return row_x, row_y, row_z, column_x, column_y, column_z


@st.composite
def stacks_of_labels(draw: st.DrawFn) -> LabelMap:
    """Draw blocks and single voxels on any grid: diagonal touches, holes in holes, voxels at every edge."""
    slices, rows, columns = draw(st.tuples(st.integers(1, 2), st.integers(1, 11), st.integers(1, 12)))
    coarse = draw(st.integers(1, 3))
    shape = (slices, -(-rows // coarse), -(-columns // coarse))
    values = draw(st.lists(st.integers(0, 2), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    blocks = np.array(values, dtype=np.uint8).reshape(shape)
    labels = blocks.repeat(coarse, axis=1).repeat(coarse, axis=2)[:, :rows, :columns]
    spacings = st.sampled_from([0.5, 0.8, 0.977, 1.5, 5.0])
    stack = grid(
        slices=slices,
        rows=rows,
        columns=columns,
        orientation=draw(st.one_of(st.sampled_from(["axial", "sagittal", "feet_first"]), orientations())),
        origin_lps_mm=draw(st.tuples(*[st.floats(-900, 900, width=32)] * 3)),
        spacing_mm=(draw(st.sampled_from([2.5, -2.5])), draw(spacings), draw(spacings)),
        tilt_mm=draw(st.sampled_from([0.0, 0.7])),
    )
    return LabelMap(labels=labels, grid=stack)


@st.composite
def drawings(draw: st.DrawFn) -> Drawing:
    return Drawing(
        holes=draw(st.sampled_from(["keyhole", "xor"])),
        decimals=draw(st.sampled_from([None, 2, 3])),
        minimum_points=draw(st.sampled_from([3, 5, 8])),
    )


@settings(max_examples=150, deadline=None)
@given(label_map=stacks_of_labels(), drawing=drawings())
def test_every_drawing_holds_its_voxels_also_a_guard_away(label_map: LabelMap, drawing: Drawing) -> None:
    spacing_mm = np.array(label_map.grid.pixel_spacing_mm)

    result = build_structures(label_map, [definition("one", 1), definition("both", 1, 2)], drawing)

    for structure in result.structures:
        wanted = np.isin(label_map.labels, structure.definition.label_values)
        for signs in ((0, 0), *itertools.product((1, -1), repeat=2)):
            shift_pixels = np.array(signs) * GUARD_MM / spacing_mm
            np.testing.assert_array_equal(held(structure, label_map.grid, shift_pixels), wanted)


@settings(max_examples=60, deadline=None)
@given(label_map=stacks_of_labels(), drawing=drawings())
def test_no_contour_has_fewer_points_than_asked_for_and_no_point_is_doubled(
    label_map: LabelMap, drawing: Drawing
) -> None:
    result = build_structures(label_map, [definition("both", 1, 2)], drawing)

    for contour in (one for structure in result.structures for one in structure.contours):
        points = contour.points_lps_mm
        assert len(points) >= drawing.minimum_points
        assert (points != np.roll(points, 1, axis=0)).any(axis=1).all()


def test_holes_are_contours_of_their_own_where_a_receiver_wants_them_so() -> None:
    labels = slices_of(RING)
    stack = grid(slices=1, rows=4, columns=5)

    structure = drawn(labels, stack, Drawing(holes="xor"), 1)

    assert structure.geometric_type == "CLOSEDPLANAR_XOR"
    outline, hole = (in_pixels(stack.planes[0], contour.points_lps_mm) for contour in structure.contours)
    np.testing.assert_array_equal(filled([outline], 4, 5), np.ones((4, 5), dtype=np.bool_))
    np.testing.assert_array_equal(filled([hole], 4, 5), labels[0] == 0)


def test_one_hole_makes_a_whole_structure_exclude() -> None:
    full = ("#####",) * 4
    stack = grid(slices=3, rows=4, columns=5)

    with_hole = drawn(slices_of(full, RING, full), stack, Drawing(holes="xor"), 1)
    without = drawn(slices_of(full, full, full), stack, Drawing(holes="xor"), 1)

    assert (with_hole.geometric_type, len(with_hole.contours)) == ("CLOSEDPLANAR_XOR", 4)
    assert (without.geometric_type, len(without.contours)) == ("CLOSED_PLANAR", 3)


def test_keyholes_are_closed_planar() -> None:
    structure = drawn(slices_of(RING), grid(slices=1, rows=4, columns=5), Drawing(), 1)

    assert (structure.geometric_type, len(structure.contours)) == ("CLOSED_PLANAR", 1)


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_coordinates_have_the_decimals_of_the_drawing(decimals: int) -> None:
    stack = grid(origin_lps_mm=(-31.1234, 22.9876, -105.125), spacing_mm=(3.0, 1.5, 1.2))

    result = build_structures(ball_and_box(stack), [definition("ball", 1, 2)], Drawing(decimals=decimals))

    points = np.concatenate([contour.points_lps_mm for contour in result.structures[0].contours])
    np.testing.assert_array_equal(np.round(points[:, :2], decimals), points[:, :2])
    assert (np.round(points[:, :2], decimals - 1) != points[:, :2]).any()
    # Across the plane as exact as ever: -105.125 mm at the first slice.
    assert set((points[:, 2] + 105.125) % 3.0) == {0.0}


def test_decimals_that_cannot_keep_the_voxels_are_an_error_that_names_them() -> None:
    label_map = ball_and_box(grid())

    with pytest.raises(VerificationError, match=r"ball.* 0 decimals"):
        build_structures(label_map, [definition("ball", 1, 2)], Drawing(decimals=0))


def test_a_single_voxel_gets_as_many_points_as_asked_for() -> None:
    labels = slices_of(("...", ".#.", "..."))
    stack = grid(slices=1, rows=3, columns=3)

    (contour,) = drawn(labels, stack, Drawing(minimum_points=8), 1).contours

    assert len(contour.points_lps_mm) == 8
    np.testing.assert_array_equal(filled([in_pixels(stack.planes[0], contour.points_lps_mm)], 3, 3), labels[0] == 1)


def test_points_that_fall_together_when_rounded_are_an_error() -> None:
    labels = slices_of(("...", ".#.", "..."))
    stack = grid(slices=1, rows=3, columns=3, spacing_mm=(3.0, 0.3, 0.3))

    with pytest.raises(VerificationError, match="any has fewer than 12 points left when rounded to 1 decimals"):
        drawn(labels, stack, Drawing(minimum_points=12, decimals=1), 1)


class PartlySure:
    """A model that is sure to 0.9 of the values it knows: of others, which post-processing made, it says nothing."""

    def __init__(self, label_map: LabelMap, *known: int) -> None:
        self._labels, self._known = label_map.labels, frozenset(known)

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32] | None:
        if not self._known.issuperset(label_values):
            return None
        return np.where(np.isin(self._labels[box], label_values), 0.9, 0.0).astype(np.float32)


@pytest.mark.parametrize("known", [(1, 2), (3,)])
def test_structures_of_which_the_model_says_nothing_are_drawn_beside_others_as_if_alone(known: tuple[int, ...]) -> None:
    label_map = ball_and_box(grid())
    definitions = [definition("Ball", 1, 2), definition("Box", 3), definition("Core", 2)]
    sure = PartlySure(label_map, *known)

    together = build_structures(label_map, definitions, probabilities=sure).structures

    for one, beside in zip(definitions, together, strict=True):
        (alone,) = build_structures(label_map, [one], probabilities=sure).structures
        for contour, same in zip(beside.contours, alone.contours, strict=True):
            np.testing.assert_array_equal(contour.points_lps_mm, same.points_lps_mm)
