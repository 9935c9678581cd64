"""From contours of other programs to voxels, and why some are refused. Voxels are counted by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from node.dataset.regions import Drawn, draw, gaps
from node.dicom.archived_structures import read_region
from node.domain.errors import InputError
from tests.archives import Outline, Roi, box, boxes, points_of, rtstruct
from tests.builders import Identity, ct_series, grid, manifest_of, write_and_read

# 6 planes of 24 rows × 40 columns.
IMAGES = ct_series(grid())


def drawn(outlines: Sequence[Outline], images: Sequence[Dataset] = IMAGES) -> Drawn:
    written = write_and_read(rtstruct(images, [Roi(name="other"), Roi(name="Heart", outlines=outlines)]))
    manifest = manifest_of(images)
    return draw(read_region(written, 2), manifest.grid, manifest.frame_of_reference_uid)


def moved(outline: Outline, by_mm: tuple[float, float, float]) -> Outline:
    return replace(outline, points_lps_mm=outline.points_lps_mm + np.array(by_mm))


def test_a_box_holds_the_pixels_whose_centres_are_in_it() -> None:
    mask = drawn([box(IMAGES[2], (3, 6), (10, 14))]).mask

    assert mask.sum() == 4 * 5
    assert mask[2, 3:7, 10:15].all()


@pytest.mark.parametrize("geometric_type", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_an_outline_within_another_is_a_hole(geometric_type: str) -> None:
    outer = box(IMAGES[1], (2, 12), (5, 25), geometric_type)
    hole = box(IMAGES[1], (4, 6), (8, 11), geometric_type)
    island = box(IMAGES[1], (5, 5), (9, 10), geometric_type)

    mask = drawn([hole, outer, island]).mask

    # 11 × 21 without 3 × 4, with 1 × 2.
    assert mask.sum() == 231 - 12 + 2
    assert not mask[1, 4, 8]
    assert mask[1, 5, 9]


def test_a_keyhole_leaves_its_hole_out_and_its_channel_in() -> None:
    # Along the outer box, in by a channel at row 5.2 from the left, around the hole, and out the same way.
    corners = [(5.2, 4.5), (1.5, 4.5), (1.5, 25.5), (12.5, 25.5), (12.5, 4.5), (5.2, 4.5)]
    corners += [(5.2, 7.5), (6.5, 7.5), (6.5, 11.5), (3.5, 11.5), (3.5, 7.5), (5.2, 7.5)]
    keyhole = Outline(image=IMAGES[1], points_lps_mm=points_of(IMAGES[1], corners))

    mask = drawn([keyhole]).mask

    assert mask.sum() == 231 - 12
    assert mask[1, 5, 5:8].all()
    assert not mask[1, 4:7, 8:12].any()


def test_contours_that_exclude_may_cross_and_others_may_not() -> None:
    one, other = ((2, 5), (5, 10)), ((4, 9), (8, 15))

    mask = drawn([box(IMAGES[0], *each, "CLOSEDPLANAR_XOR") for each in (one, other)]).mask

    # 4 × 6 and 6 × 8 without the 2 × 3 that both hold, twice.
    assert mask.sum() == 24 + 48 - 2 * 6
    with pytest.raises(InputError, match="outlines cross on one image"):
        drawn([box(IMAGES[0], *each) for each in (one, other)])


def test_an_outline_that_is_there_twice_counts_once_and_is_told() -> None:
    found = drawn([box(IMAGES[0], (2, 5), (5, 10)), box(IMAGES[0], (2, 5), (5, 10))])

    assert found.mask.sum() == 24
    assert found.remarks == ("1 outlines are there twice and count once",)


def test_a_crumb_of_two_points_encloses_nothing_and_is_told() -> None:
    crumb = Outline(image=IMAGES[0], points_lps_mm=points_of(IMAGES[0], [(3, 3), (4, 4)]))

    found = drawn([box(IMAGES[0], (2, 5), (5, 10)), crumb])

    assert found.mask.sum() == 24
    assert found.remarks == ("1 contours of fewer than 3 points enclose nothing",)


def test_contours_lie_on_planes_and_on_the_image_that_they_name() -> None:
    whole = box(IMAGES[2], (2, 5), (5, 10))

    # Planes are 3 mm apart: a rounded coordinate is no fault, half a plane is one.
    assert drawn([moved(whole, (0, 0, 0.4))]).mask[2].sum() == 24
    with pytest.raises(InputError, match=r"lies 1\.50 mm off the nearest image|lies 1\.40 mm"):
        drawn([moved(whole, (0, 0, 1.4))])
    with pytest.raises(InputError, match="another image than it names"):
        drawn([moved(whole, (0, 0, 3.0))])
    with pytest.raises(InputError, match=r"mm off the nearest image"):
        drawn([moved(box(IMAGES[5], (2, 5), (5, 10)), (0, 0, 3.0))])


def test_what_is_no_closed_polygon_is_refused_also_beside_one() -> None:
    whole = box(IMAGES[2], (2, 5), (5, 10))

    for other in ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "CLOSEDPLANAR_XOR"):
        with pytest.raises(InputError, match=f"CLOSED_PLANAR, {other}|{other}, CLOSED_PLANAR"):
            drawn([whole, box(IMAGES[3], (2, 5), (5, 10), other)])
    with pytest.raises(InputError, match="type unknown"):
        drawn([box(IMAGES[3], (2, 5), (5, 10), "DOE^JANE")])


def test_an_roi_of_another_frame_of_reference_is_refused() -> None:
    other = ct_series(grid(), identity=Identity(frame_of_reference="another"))
    written = write_and_read(rtstruct(other, [boxes(other, "Heart", (2, 5), (5, 10))]))

    with pytest.raises(InputError, match="another Frame of Reference"):
        draw(read_region(written, 1), manifest_of(IMAGES).grid, str(IMAGES[0].FrameOfReferenceUID))


def test_contours_lie_where_oblique_planes_lie() -> None:
    oblique = ct_series(grid(orientation="oblique"))

    mask = drawn([box(oblique[3], (3, 6), (10, 14))], oblique).mask

    assert mask.sum() == 20
    assert mask[3, 3:7, 10:15].all()


def test_an_organ_on_every_other_plane_is_refused_and_a_small_gap_is_counted() -> None:
    mask = np.zeros((12, 2, 2), dtype=np.bool_)
    mask[1:11:2, 0, 0] = True
    with pytest.raises(InputError, match="on 5 of the 9 planes"):
        gaps(mask)
    mask[1:11, 0, 0] = True
    mask[4] = False

    assert gaps(mask) == (1, 10)
    with pytest.raises(InputError, match="centre of no voxel"):
        gaps(np.zeros((3, 2, 2), dtype=np.bool_))
