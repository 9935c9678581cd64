"""The picture shows delivered contours where they are: anchored to hand-computed millimetres and pixels."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from node.demo.panel import OVERSAMPLING, Crop, Panel, contour_lines_mm
from node.demo.picture import DeliveredStructure, draw, structures_from_rtstruct
from node.demo.views import View, edges_mm, outlines, three_views
from node.domain.errors import InputError
from node.domain.grid import Cosines, Grid, Plane, Vector
from node.domain.volume import Volume

AXIAL: Cosines = (1, 0, 0, 0, 1, 0)
PRONE: Cosines = (-1, 0, 0, 0, -1, 0)
SAGITTAL: Cosines = (0, 1, 0, 0, 0, -1)
RED, GREEN = (255, 0, 0), (0, 255, 0)


def stack(orientation: Cosines = AXIAL, step: Vector = (0, 0, 4.0)) -> Grid:
    """Give 6 planes of 20 rows × 30 columns, rows 2 mm and columns 1.5 mm apart, first pixel at (-100, -50, -300)."""
    return Grid(
        planes=tuple(
            Plane(
                sop_instance_uid=f"1.2.{index}",
                frame_number=None,
                position_lps_mm=(-100 + index * step[0], -50 + index * step[1], -300 + index * step[2]),
                orientation=orientation,
                pixel_spacing_mm=(2.0, 1.5),
                rows=20,
                columns=30,
            )
            for index in range(6)
        )
    )


def volume(grid: Grid, bright: tuple[int, int, int] = (0, 0, 0)) -> Volume:
    voxels = np.full(grid.shape, -1000, dtype=np.float32)
    voxels[bright] = 500
    return Volume(voxels=voxels, grid=grid)


def rtstruct(points_mm: NDArray[np.float64], uid: str = "1.2.2", interpreted_type: str = "ORGAN") -> Dataset:
    """Give the attributes that a reader needs of an RT Structure Set with one contour."""
    image, contour, drawn, roi, observation, dataset = (Dataset() for _ in range(6))
    image.ReferencedSOPInstanceUID = uid
    contour.ContourImageSequence = [image]
    contour.ContourData = [f"{value:.3f}" for value in points_mm.ravel()]
    drawn.ReferencedROINumber = roi.ROINumber = observation.ReferencedROINumber = 7
    drawn.ROIDisplayColor = list(RED)
    drawn.ContourSequence = [contour]
    roi.ROIName = "Kidney"
    observation.RTROIInterpretedType = interpreted_type
    dataset.StructureSetROISequence = [roi]
    dataset.ROIContourSequence = [drawn]
    dataset.RTROIObservationsSequence = [observation]
    return dataset


def square_mm() -> NDArray[np.float64]:
    """Give the outline of columns 10 to 19 and rows 5 to 12 of plane 2: half a pixel beyond their centres.

    x = -100 + (9.5 … 19.5) · 1.5 = -85.75 … -70.75; y = -50 + (4.5 … 12.5) · 2 = -41 … -25; z = -300 + 2 · 4.
    """
    return np.array([[-85.75, -41, -292], [-70.75, -41, -292], [-70.75, -25, -292], [-85.75, -25, -292]])


def delivered(interpreted_type: str = "ORGAN") -> DeliveredStructure:
    return structures_from_rtstruct(rtstruct(square_mm(), interpreted_type=interpreted_type), stack())[0]


def bright_at(view: View, shown: Volume) -> list[int]:
    """Give (down, across) of the bright voxel in a view."""
    return [int(index) for index in np.argwhere(view.plane(shown.voxels) > 0)[0]]


def test_structures_are_read_with_name_colour_type_and_volume() -> None:
    kidney = delivered()

    assert (kidney.name, kidney.colour_rgb, kidney.interpreted_type) == ("Kidney", RED, "ORGAN")
    assert kidney.contours[0].slice_index == 2
    # 10 columns · 8 rows · 1.5 · 2 · 4 mm³.
    assert kidney.volume_cm3 == pytest.approx(0.96)
    assert kidney.mask[2, 5:13, 10:20].all()
    assert kidney.mask.sum() == 80


def test_a_contour_on_an_unknown_image_is_an_error() -> None:
    with pytest.raises(InputError, match=r"1\.2\.99"):
        structures_from_rtstruct(rtstruct(square_mm(), uid="1.2.99"), stack())


def test_a_structure_without_contours_is_empty_not_missing() -> None:
    dataset = rtstruct(square_mm())
    dataset.ROIContourSequence = []

    (kidney,) = structures_from_rtstruct(dataset, stack())

    assert kidney.volume_cm3 == 0
    assert not kidney.mask.any()


def test_the_head_is_up_and_the_left_is_right() -> None:
    # The last plane is the highest, column 29 the farthest to the left, row 19 the farthest back.
    shown = volume(stack(), bright=(5, 19, 29))
    axial, coronal, sagittal = three_views(shown.grid, (5, 19, 29))

    assert bright_at(axial, shown) == [19, 29]
    assert bright_at(coronal, shown) == [0, 29]
    assert bright_at(sagittal, shown) == [0, 19]
    assert [view.name for view in (axial, coronal, sagittal)] == ["Axial", "Coronal", "Sagittal"]
    assert axial.across.letters + axial.down.letters == ("R", "L", "A", "P")
    assert coronal.across.letters + coronal.down.letters == ("R", "L", "H", "F")
    assert sagittal.across.letters + sagittal.down.letters == ("A", "P", "H", "F")


def test_a_prone_stack_from_head_to_feet_is_shown_the_same_way_up() -> None:
    # Columns run to the right, rows to the front, planes to the feet: the first voxel is left, back and high.
    grid = stack(PRONE, step=(0, 0, -4.0))
    shown = volume(grid, bright=(0, 0, 0))
    axial, coronal, sagittal = three_views(grid, (0, 0, 0))

    assert bright_at(axial, shown) == [19, 29]
    assert bright_at(coronal, shown) == [0, 29]
    assert bright_at(sagittal, shown) == [0, 19]


def test_a_sagittal_stack_is_turned_for_display() -> None:
    # Columns run to the back, rows to the feet, planes to the right here: the first voxel is left, front and high.
    grid = stack(SAGITTAL, step=(-4.0, 0, 0))
    shown = volume(grid, bright=(0, 0, 0))
    axial, coronal, sagittal = three_views(grid, (0, 0, 0))

    assert (axial.axis, coronal.axis, sagittal.axis) == (1, 2, 0)
    assert bright_at(axial, shown) == [0, 5]
    assert bright_at(coronal, shown) == [0, 5]
    assert bright_at(sagittal, shown) == [0, 0]
    assert axial.across.spacing_mm == 4.0


def test_a_contour_point_lands_on_its_pixel() -> None:
    axial, _, _ = three_views(stack(), (2, 9, 14))
    (line,) = contour_lines_mm(axial, delivered(), volume(stack()))
    panel = Panel(view=axial, crop=Crop(left=6, top=4, width=30, height=30), scale=2.0)

    # Column 9.5 is 10 · 1.5 mm from the image's left edge, row 4.5 is 5 · 2 mm from its upper one.
    np.testing.assert_allclose(line[0], [15, 10], atol=1e-6)
    assert panel.position_px(line[:1]) == [pytest.approx(((15 - 6) * 2 * OVERSAMPLING, (10 - 4) * 2 * OVERSAMPLING))]


def test_on_other_planes_the_edge_of_the_enclosed_pixels_is_shown() -> None:
    kidney = delivered()
    _, coronal, _ = three_views(stack(), (2, 9, 14))

    (line,) = edges_mm(coronal, kidney.mask)

    # Columns 10 to 19 of 1.5 mm; plane 2 of 6, counted from the head: the fourth, of 4 mm.
    assert line[:, 0].min() == pytest.approx(15, abs=0.8)
    assert line[:, 0].max() == pytest.approx(30, abs=0.8)
    assert line[:, 1].mean() == pytest.approx(14, abs=0.3)


def test_the_drawn_panel_has_line_and_fill_where_the_structure_is() -> None:
    axial, coronal, sagittal = three_views(stack(), (2, 9, 14))
    panel = Panel(view=axial, crop=Crop(left=0, top=0, width=45, height=40), scale=4.0)

    image = panel.draw(volume(stack()), [delivered()], [coronal, sagittal])

    assert image.size == (180 * OVERSAMPLING, 160 * OVERSAMPLING)
    # On the left edge at x = 15 mm, inside beside it (a quarter of 255), and outside.
    assert image.getpixel((60 * OVERSAMPLING, 66 * OVERSAMPLING)) == RED
    assert image.getpixel((72 * OVERSAMPLING, 66 * OVERSAMPLING)) == (63, 0, 0)
    assert image.getpixel((48 * OVERSAMPLING, 66 * OVERSAMPLING)) == (0, 0, 0)


def test_the_body_is_a_line_only() -> None:
    axial, coronal, sagittal = three_views(stack(), (2, 9, 14))
    panel = Panel(view=axial, crop=Crop(left=0, top=0, width=45, height=40), scale=4.0)

    image = panel.draw(volume(stack()), [delivered("EXTERNAL")], [coronal, sagittal])

    assert image.getpixel((72 * OVERSAMPLING, 66 * OVERSAMPLING)) == (0, 0, 0)


def test_channels_of_keyholes_are_not_drawn() -> None:
    # A square with a square hole, joined by a channel from (0, 0) to (3, 3).
    ring = np.array([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0], [3, 3], [3, 6], [6, 6], [6, 3], [3, 3]], dtype=np.float64)

    lines = outlines(ring)

    assert sorted(len(line) for line in lines) == [5, 5]
    for line in lines:
        np.testing.assert_array_equal(line[0], line[-1])


def test_a_plain_ring_is_closed() -> None:
    (line,) = outlines(square_mm())

    np.testing.assert_array_equal(line, square_mm()[[0, 1, 2, 3, 0]])


@pytest.mark.parametrize("count", [0, 1, 20])
def test_any_number_of_structures_makes_a_picture(count: int, tmp_path: Path) -> None:
    path = tmp_path / "contours.png"

    draw(volume(stack()), [delivered()] * count, path, notes=["Received from a scanner. " * 8])

    with Image.open(path) as picture:
        assert picture.width == 1320
        has_red = bool((np.asarray(picture) == RED).all(axis=2).any())
    assert has_red == (count > 0)
