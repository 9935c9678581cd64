from dataclasses import replace

import numpy as np
import pytest
import torch

from node.training.patches import PatchMaker, alone, twins
from tests.learning.drawn import ORGANS, STILL, TINY, drawn, plan, prepared


def one_voxel(place: tuple[int, int, int], value: int, shape: tuple[int, int, int]) -> np.ndarray:
    labels = np.zeros(shape, dtype=np.uint8)
    labels[place] = value
    return labels


def test_left_and_right_are_twins_and_others_are_not() -> None:
    assert twins(("Brainstem", "Parotid_L", "Lens_R", "Parotid_R")) == [0, 1, 4, 3, 2]


def test_twins_are_found_however_a_side_is_spelt_and_one_side_alone_is_known_as_such() -> None:
    organs = ("lung_left", "lung_right", "KidneyR", "KidneyL", "Parotid_L", "Parotis_re", "Heart")

    assert twins(organs) == [0, 2, 1, 4, 3, 5, 6, 7]
    assert alone(organs) == [5, 6]


def test_of_an_organ_without_its_twin_a_mirrored_patch_teaches_nothing() -> None:
    # As a training set of left parotids only: mirrored, a left one lies where right ones lie.
    mirrored = replace(TINY, augmentation=replace(STILL, mirrored=1.0))
    left_only = replace(plan(mirrored), organs=("SpinalCord", "Parotid_L"))
    image, labels = drawn(2)
    labels[labels == 3] = 0
    case = prepared(labels, image, (4.0, 3.0, 3.0), contoured=("SpinalCord", "Parotid_L"))

    patches = [PatchMaker([case], left_only).patch(step) for step in range(4)]

    for patch in patches:
        assert patch.known.tolist() == [True, True, False]
        assert float(patch.shares[2].abs().max()) == 0
        # What was the left parotid is part of the image still.
        assert float(patch.shares.sum(dim=0).max()) == pytest.approx(1.0, abs=1e-4)


def test_a_patch_of_mr_has_the_scale_of_its_whole_image() -> None:
    # 10 on the first four slices and 30 on the others, within a frame of zeros that nnU-Net cuts off.
    image = np.zeros((20, 30, 36), dtype=np.int16)
    image[:, 2:-2, 2:-2] = 30
    image[:4, 2:-2, 2:-2] = 10
    labels = one_voxel((14, 15, 18), 1, image.shape)
    recipe = replace(TINY, augmentation=STILL, patch=(8, 8, 8))
    mr = replace(plan(recipe), channels=("MR",))
    maker = PatchMaker([prepared(labels, image, (4.0, 3.0, 3.0), contoured=("SpinalCord",))], mr)

    around = next(patch for step in range(20) if float((patch := maker.patch(step)).shares[1].sum()) > 0)

    # Mean 26, deviation sqrt(0.2 · 16² + 0.8 · 4²) = 8. The patch itself is all 30, and would be 0 by its own mean.
    assert float(around.image[0, 4, 4, 4]) == pytest.approx((30 - 26) / 8, abs=1e-3)


def test_a_patch_that_is_not_disturbed_shows_the_voxels_around_an_organ_as_they_are() -> None:
    # Same spacing as the network's: voxel (9, 14, 20) is the patch's centre, which lies between its voxels 7 and 8.
    recipe = replace(TINY, augmentation=STILL, patch=(16, 16, 16))
    image, _ = drawn(1)
    case = prepared(one_voxel((9, 14, 20), 1, image.shape), image, (4.0, 3.0, 3.0), contoured=("SpinalCord",))
    maker = PatchMaker([case], plan(recipe))

    around = next(patch for step in range(20) if float((patch := maker.patch(step)).shares[1].sum()) > 0)

    # Half a voxel off along each axis: an eighth of the voxel in each of the eight middle ones.
    assert around.shares[1, 7:9, 7:9, 7:9].flatten().tolist() == pytest.approx([0.125] * 8)
    assert float(around.shares[1].sum()) == pytest.approx(1.0)
    expected = image[9:11, 14:16, 20:22].mean()
    assert float(around.image[0, 8, 8, 8]) == pytest.approx(expected, abs=1e-2)
    assert around.known.tolist() == [True, True, False, False]


def middle_mm(shares: torch.Tensor, spacing_mm: tuple[float, float, float]) -> list[float]:
    """Give the middle of a class in a patch: slice, row, column, millimetres from the patch's first voxel."""
    middle = []
    for axis, (side, step_mm) in enumerate(zip(shares.shape, spacing_mm, strict=True)):
        along = shares.sum(dim=[each for each in range(3) if each != axis])
        middle.append(float((along * torch.arange(side)).sum() / along.sum()) * step_mm)
    return middle


def test_millimetres_stay_millimetres_whatever_the_spacing_of_the_case() -> None:
    # The case: 3.2 x 2.4 x 7 mm. Organ 2 lies 19.2 mm above, 14.4 mm in front and 7 mm left of organ 1.
    recipe = replace(TINY, augmentation=STILL, spacing_mm=(4.0, 3.0, 3.0))
    labels = np.zeros((40, 40, 20), dtype=np.uint8)
    labels[18:22, 18:22, 10:12] = 1
    labels[24:28, 12:16, 11:13] = 2
    image = np.zeros(labels.shape, np.int16)
    case = prepared(labels, image, (3.2, 2.4, 7.0), contoured=("SpinalCord",))
    maker = PatchMaker([case], plan(recipe))

    around = next(patch for step in range(20) if float((patch := maker.patch(step)).shares[1].sum()) > 0)

    one, other = (middle_mm(around.shares[value], (4.0, 3.0, 3.0)) for value in (1, 2))
    assert np.subtract(other, one) == pytest.approx([19.2, -14.4, 7.0], abs=0.3)


def test_a_mirrored_patch_has_its_sided_organs_exchanged() -> None:
    still = replace(TINY, augmentation=STILL)
    mirrored = replace(TINY, augmentation=replace(STILL, mirrored=1.0))
    image, labels = drawn(2)
    case = prepared(labels, image, (4.0, 3.0, 3.0), contoured=("SpinalCord", "Parotid_L"))

    # Random numbers are drawn alike, so that the same step has the same centre.
    plain, other = PatchMaker([case], plan(still)).patch(3), PatchMaker([case], plan(mirrored)).patch(3)

    torch.testing.assert_close(other.image, plain.image.flip(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(other.shares, plain.shares[[0, 1, 3, 2]].flip(3), atol=1e-5, rtol=0)
    assert plain.known.tolist() == [True, True, True, False]
    assert other.known.tolist() == [True, True, False, True]
    assert ORGANS[1:] == ("Parotid_L", "Parotid_R")


def test_a_step_always_makes_the_same_patch_and_a_round_shows_every_case_once() -> None:
    drawings = [drawn(seed) for seed in range(3)]
    cases = [prepared(labels, image, (4.0, 3.0, 3.0)) for image, labels in drawings]
    maker, again = PatchMaker(cases, plan(TINY)), PatchMaker(cases, plan(TINY))

    one, other = maker.patch(5), again.patch(5)

    assert torch.equal(one.image, other.image)
    assert torch.equal(one.shares, other.shares)
    assert not torch.equal(one.image, maker.patch(6).image)
    # Beyond the image there are no shares; inside they sum to one.
    inside = one.shares.sum(dim=0)
    assert float(inside.min()) >= 0
    assert float(inside.max()) == pytest.approx(1.0, abs=1e-4)
