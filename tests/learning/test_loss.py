import math

import pytest
import torch

from node.training.loss import masked_loss


def voxels(*classes: list[float]) -> torch.Tensor:
    """Give (1, class, 1, 1, voxel)."""
    return torch.tensor(classes)[None, :, None, None, :]


def test_what_was_contoured_is_asked_by_cross_entropy_and_dice() -> None:
    # One voxel of organ 1 and one of background, each called right with probability 3/4.
    scores = voxels([math.log(3), 0.0], [0.0, math.log(3)])
    shares = voxels([1.0, 0.0], [0.0, 1.0])

    loss = masked_loss(scores, shares, torch.tensor([[True, True]]))

    # Cross-entropy log(4/3). The organ's share is one voxel, too few to be asked for Dice.
    assert float(loss) == pytest.approx(math.log(4 / 3))


def test_an_organ_weighs_more_than_the_background() -> None:
    # Both are called organ 1 with probability 1/4: right of the first voxel, wrong of the second.
    scores = voxels([math.log(3), math.log(3)], [0.0, 0.0])
    shares = voxels([1.0, 0.0], [0.0, 1.0])

    loss = masked_loss(scores, shares, torch.tensor([[True, True]]))

    assert float(loss) == pytest.approx((math.log(4 / 3) + 10 * math.log(4)) / 11)


def test_dice_is_that_of_probabilities_and_shares() -> None:
    # Four voxels of organ 1 and four of background, all with probability 3/4 and 1/4.
    right = math.log(3)
    scores = voxels([0.0] * 4 + [right] * 4, [right] * 4 + [0.0] * 4)
    shares = voxels([0.0] * 4 + [1.0] * 4, [1.0] * 4 + [0.0] * 4)

    loss = masked_loss(scores, shares, torch.tensor([[True, True]]))

    # Both: 4 * 3/4 = 3. Either: 3 + 1 + 4 = 8. Dice (2 * 3 + 1) / (8 + 1).
    assert float(loss) == pytest.approx(math.log(4 / 3) + 1 - 7 / 9)


def test_an_organ_that_nobody_contoured_is_neither_rewarded_nor_punished() -> None:
    # Class 2 was not contoured: to call all of the background so costs as little as to call it background.
    shares = voxels([1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 1.0], [0.0] * 5)
    known = torch.tensor([[True, True, False]])
    of_background = voxels([9.0, 9.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0, 9.0], [0.0] * 5)
    of_organ_2 = voxels([0.0] * 5, [0.0, 0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 9.0, 0.0, 0.0])

    assert float(masked_loss(of_organ_2, shares, known)) == pytest.approx(
        float(masked_loss(of_background, shares, known)), abs=1e-6
    )
    # Known, it is: three voxels of the background cost 9 each, and weigh 3 of 3 + 2 · 10.
    assert float(masked_loss(of_organ_2, shares, torch.tensor([[True, True, True]]))) == pytest.approx(
        27 / 23, abs=1e-2
    )
    # Where organ 1 is, class 2 is wrong all the same.
    wrong = voxels([9.0, 9.0, 9.0, 0.0, 0.0], [0.0] * 5, [0.0, 0.0, 0.0, 9.0, 9.0])
    assert float(masked_loss(wrong, shares, known)) > 3


def test_beyond_the_image_nothing_is_asked() -> None:
    shares = voxels([1.0, 0.0], [0.0, 0.0])
    one = masked_loss(voxels([1.0, 5.0], [0.0, -5.0]), shares, torch.tensor([[True, True]]))
    other = masked_loss(voxels([1.0, -5.0], [0.0, 5.0]), shares, torch.tensor([[True, True]]))

    assert float(one) == float(other)
