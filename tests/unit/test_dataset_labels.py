"""Organs that lie in each other share one label map."""

import numpy as np
from numpy.typing import NDArray

from node.dataset.labels import LabelPainter, Overlap


def columns(first: int, last: int) -> NDArray[np.bool_]:
    mask = np.zeros((1, 1, 20), dtype=np.bool_)
    mask[..., first : last + 1] = True
    return mask


def painter() -> LabelPainter:
    return LabelPainter(organs=("Lungs", "Heart", "GTV"), labels=np.zeros((1, 1, 20), dtype=np.uint8))


def test_of_two_organs_at_one_voxel_the_later_has_it_and_it_is_told() -> None:
    found = painter()

    found.paint("Lungs", columns(0, 9))
    found.paint("GTV", columns(7, 12))

    assert found.labels.ravel().tolist() == [1] * 7 + [3] * 6 + [0] * 7
    assert found.voxels == {"Lungs": 10, "GTV": 6}
    assert found.overlaps == [Overlap(organ="Lungs", taken_by="GTV", voxels=3)]
    assert found.hidden() == {}


def test_an_organ_of_which_most_is_hidden_is_named_with_who_hides_it() -> None:
    found = painter()

    found.paint("Lungs", columns(0, 9))
    found.paint("Heart", columns(0, 3))
    found.paint("GTV", columns(8, 12))

    # 4 and 2 of 10.
    assert found.hidden() == {"Lungs": "60% of it lies in Heart, GTV, which --organ names later"}
