"""Lines are smooth, cross nothing, and small structures keep their size."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from node.domain.contours import build_structures
from node.domain.masks import Masks
from node.domain.pieces import sheets
from node.domain.structures import Contour, Drawing
from node.domain.tracing import Piece, trace
from node.domain.volume import Box, LabelMap
from tests.builders import definition, grid
from tests.even_odd import Points, area, filled, in_pixels, meeting_edges, perimeter

SPACING_MM = 0.977
SIDE = 64
# Where the middle of a shape lies between pixel centres.
OFFSETS = list(itertools.product((0.0, 0.25, 0.5), (0.0, 0.35, 0.5)))
STACK = grid(slices=1, rows=SIDE, columns=SIDE, origin_lps_mm=(0.0, 0.0, 0.0), spacing_mm=(3.0, SPACING_MM, SPACING_MM))
XOR = Drawing(holes="xor")


def away_mm(offset: tuple[float, float], axes_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Give each pixel's distance from the middle of an ellipse, 1 on the ellipse."""
    row, column = np.ogrid[:SIDE, :SIDE]
    middle = SIDE // 2 + np.array(offset)
    down, right = (row - middle[0]) * SPACING_MM / axes_mm[0], (column - middle[1]) * SPACING_MM / axes_mm[1]
    return np.asarray(np.hypot(down, right), dtype=np.float64)


def contours_of(labels: NDArray[np.bool_], sure: "Sure | None" = None, drawing: Drawing = XOR) -> tuple[Contour, ...]:
    label_map = LabelMap(labels=labels.astype(np.uint8)[np.newaxis], grid=STACK)
    (structure,) = build_structures(label_map, [definition("any", 1)], drawing, sure).structures
    return structure.contours


def line_of(labels: NDArray[np.bool_], sure: "Sure | None" = None) -> Points:
    """Give the only contour of a slice as (x, y) in mm."""
    (contour,) = contours_of(labels, sure)
    return contour.points_lps_mm[:, :2]


def distances_mm(line: Points, offset: tuple[float, float], radius_mm: float) -> NDArray[np.float64]:
    """Give how far points all along a line are from a circle."""
    following = np.roll(line, -1, axis=0)
    along = np.concatenate([line + (following - line) * share for share in np.arange(0, 1, 0.05)])
    middle = (SIDE // 2 + np.array(offset[::-1])) * SPACING_MM
    return np.asarray(np.abs(np.linalg.norm(along - middle, axis=1) - radius_mm), dtype=np.float64)


class Sure:
    """A model's probabilities for one slice, given box by box."""

    def __init__(self, probability: NDArray[np.floating]) -> None:
        self.probability = probability[np.newaxis].astype(np.float32)
        self.asked: list[tuple[tuple[int, ...], Box]] = []

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32]:
        self.asked.append((label_values, box))
        return self.probability[box]


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_circle_is_met_to_an_eighth_of_a_pixel(offset: tuple[float, float]) -> None:
    line = line_of(away_mm(offset, (25.0, 25.0)) <= 1)

    assert distances_mm(line, offset, 25.0).mean() <= 0.12
    assert perimeter(line) == pytest.approx(2 * np.pi * 25.0, rel=0.01)


@pytest.mark.parametrize("offset", OFFSETS)
def test_an_ellipse_keeps_its_area_and_perimeter(offset: tuple[float, float]) -> None:
    line = line_of(away_mm(offset, (25.0, 18.0)) <= 1)

    assert area(line) == pytest.approx(np.pi * 25.0 * 18.0, rel=0.012)
    # Ramanujan's second formula for half axes of 25 and 18 mm: 135.9666 mm.
    assert perimeter(line) == pytest.approx(135.9666, rel=0.01)


@pytest.mark.parametrize("radius_mm", [1.5, 2.0, 3.0, 4.5])
@pytest.mark.parametrize("offset", OFFSETS)
def test_a_small_disk_keeps_the_area_of_its_pixels(radius_mm: float, offset: tuple[float, float]) -> None:
    disk = away_mm(offset, (radius_mm, radius_mm)) <= 1

    line = line_of(disk)

    assert area(line) == pytest.approx(np.count_nonzero(disk) * SPACING_MM**2, rel=0.05)


def test_small_disks_have_their_true_area_on_average() -> None:
    areas = [area(line_of(away_mm(offset, (3.0, 3.0)) <= 1)) for offset in OFFSETS]

    # 28.27 mm²; the pixels of a single disk say so to 8 % only.
    assert np.mean(areas) == pytest.approx(np.pi * 3.0**2, rel=0.05)


def test_a_small_sphere_keeps_its_volume() -> None:
    index, row, column = np.ogrid[:24, :24, :24]
    sphere = (index - 11.7) ** 2 + (row - 11.3) ** 2 + (column - 12.1) ** 2 <= (3.0 / SPACING_MM) ** 2
    stack = grid(slices=24, rows=24, columns=24, spacing_mm=(SPACING_MM,) * 3)

    (structure,) = build_structures(
        LabelMap(labels=sphere.astype(np.uint8), grid=stack), [definition("sphere", 1)]
    ).structures

    volume_mm3 = sum(area(contour.points_lps_mm[:, :2]) for contour in structure.contours) * SPACING_MM
    assert volume_mm3 == pytest.approx(np.count_nonzero(sphere) * SPACING_MM**3, rel=0.05)
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 3.0**3, rel=0.05)


def test_a_nerve_three_pixels_wide_keeps_its_area() -> None:
    nerve = np.zeros((SIDE, SIDE), dtype=np.bool_)
    nerve[20:23, 30:33] = True

    assert area(line_of(nerve)) == pytest.approx(9 * SPACING_MM**2, rel=0.05)


def sure_of(offset: tuple[float, float], radius_mm: float) -> NDArray[np.float64]:
    """Give 1 a pixel inside the edge of a disk and 0 a pixel outside, evenly between."""
    from_edge_pixels = (radius_mm - away_mm(offset, (1.0, 1.0))) / SPACING_MM
    return np.asarray(np.clip(0.5 + from_edge_pixels / 2, 0, 1), dtype=np.float64)


@pytest.mark.parametrize("radius_mm", [3.0, 10.0, 25.0])
def test_a_model_that_tells_how_sure_it_is_puts_the_line_between_pixels(radius_mm: float) -> None:
    by_model, by_mask = [], []
    for offset in OFFSETS:
        sure = sure_of(offset, radius_mm)
        line = line_of(sure > 0.5, Sure(sure))
        by_model.append(distances_mm(line, offset, radius_mm).mean())
        by_mask.append(distances_mm(line_of(sure > 0.5), offset, radius_mm).mean())

        assert area(line) == pytest.approx(np.pi * radius_mm**2, rel=0.035)

    assert max(by_model) < 0.06
    assert np.mean(by_model) < 0.5 * np.mean(by_mask)


def test_probabilities_are_asked_for_within_the_image() -> None:
    labels = np.ones((SIDE, SIDE), dtype=np.bool_)
    sure = Sure(np.full((SIDE, SIDE), 0.9))

    line = line_of(labels, sure)

    assert sure.asked == [((1,), (slice(0, 1), slice(0, SIDE), slice(0, SIDE)))]
    # From 0.9 to 0 beyond the image: half is reached 4/9 of the way out.
    assert line.min() == pytest.approx(-4 / 9 * SPACING_MM, abs=0.006)


def test_probabilities_are_asked_for_with_a_border_of_one_pixel() -> None:
    labels = np.zeros((SIDE, SIDE), dtype=np.bool_)
    labels[10:20, 30:35] = True
    sure = Sure(labels.astype(np.float32))

    line_of(labels, sure)

    assert sure.asked == [((1,), (slice(0, 1), slice(9, 21), slice(29, 36)))]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 0.9))
def test_the_label_map_is_right_where_a_model_is_unsure(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    labels = np.pad(random.random((8, 9)) < share, [(0, SIDE - 8), (0, SIDE - 9)])
    labels[0, 0] = True

    contours = contours_of(labels, Sure(random.random((SIDE, SIDE))))

    polygons = [in_pixels(STACK.planes[0], contour.points_lps_mm) for contour in contours]
    np.testing.assert_array_equal(filled(polygons, SIDE, SIDE), labels)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 0.9), coarse=st.integers(1, 3))
def test_no_two_edges_of_a_slice_meet(seed: int, share: float, coarse: int) -> None:
    blocks = np.random.default_rng(seed).random((7, 8)) < share
    blocks[0, 0] = True
    labels = np.zeros((SIDE, SIDE), dtype=np.bool_)
    labels[3 : 3 + 7 * coarse, 5 : 5 + 8 * coarse] = blocks.repeat(coarse, axis=0).repeat(coarse, axis=1)

    contours = contours_of(labels)

    assert meeting_edges([contour.points_lps_mm[:, :2] for contour in contours], decimals=2) == 0


def test_edges_that_meet_are_counted() -> None:
    bow_tie = np.array([[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])

    assert meeting_edges([bow_tie], decimals=2) == 1
    assert meeting_edges([square], decimals=2) == 0
    assert meeting_edges([square, square + 1.0], decimals=2) == 2


def test_rings_follow_each_other_from_gate_to_gate() -> None:
    # An outline around two holes; between them a pixel that touches the rim by a corner only.
    inside = np.array([[character == "#" for character in row] for row in ("#####", "#.#.#", "##.##", "#####")])

    rings = trace([Piece(structure=0, slice_index=0, row=7, column=9, inside=inside)])

    # By hand: 18 gates around 5 × 4 pixels, 4 around each single pixel outside; their pixels: 20 less 3.
    np.testing.assert_array_equal(np.diff(rings.bounds), [18, 4, 4, 4])
    np.testing.assert_array_equal(rings.pixels, [20, -1, -1, -1])
    np.testing.assert_array_equal(rings.outline, [0, 0, 0, 0])
    assert rings.points[:18].min(axis=0) == pytest.approx(np.array([7 - 0.5, 9 - 0.5]), abs=0.36)


def test_pieces_on_a_sheet_are_traced_as_if_alone() -> None:
    random = np.random.default_rng(5)
    labels = (random.random((6, 20, 30)) < 0.7).astype(np.uint8)
    stack = grid(slices=6, rows=20, columns=30)
    (together,) = sheets(Masks(LabelMap(labels=labels, grid=stack)), [definition("noise", 1)], None)

    alone = [trace([piece]).points for piece in together]

    np.testing.assert_allclose(trace(together).points, np.concatenate(alone), atol=1e-6)
