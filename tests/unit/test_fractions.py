"""Probabilities as they are stored, by hand-computed values."""

import numpy as np
import pytest
from numpy.typing import NDArray

from node.dicom.fractions import fractions
from node.domain.errors import InputError
from node.domain.masks import CroppedMask
from node.domain.volume import Box

SHAPE = (30, 40, 60)
# Slices 12 to 14, rows 16 to 19, columns 20 to 23.
STRUCTURE = CroppedMask((slice(12, 15), slice(16, 20), slice(20, 24)), np.ones((3, 4, 4), dtype=np.bool_))


class Model:
    def __init__(self, given: NDArray[np.float32]) -> None:
        self.given = given
        self.asked: list[Box] = []

    def of(self, label_values: tuple[int, ...], box: Box) -> NDArray[np.float32]:
        assert label_values == (7,)
        self.asked.append(box)
        return self.given[box]


def model(**probabilities: float) -> Model:
    """Give a model that says 0 but for voxels named like ``s13_r16_c24``."""
    given = np.zeros(SHAPE, dtype=np.float32)
    for name, probability in probabilities.items():
        given[tuple(int(part[1:]) for part in name.split("_"))] = probability
    return Model(given)


def stored(asked: Model) -> NDArray[np.uint8]:
    volume = np.zeros(SHAPE, dtype=np.uint8)
    for index, pixels in fractions(STRUCTURE, (7,), asked, SHAPE):
        volume[index] = pixels
    return volume


def test_certainty_is_255_and_doubt_within_the_structure_just_above_half() -> None:
    result = stored(model(s12_r16_c20=1.0, s12_r16_c21=0.7, s12_r16_c22=0.4))

    # 0.7 × 255 = 178.5, to even.
    assert [int(value) for value in result[12, 16, 20:24]] == [255, 178, 128, 128]


def test_outside_it_what_is_likely_stays_just_below_half() -> None:
    result = stored(model(s13_r16_c24=0.9, s13_r16_c25=0.2, s15_r16_c20=0.6))

    assert (result[13, 16, 24], result[13, 16, 25], result[15, 16, 20]) == (127, 51, 127)


def test_what_was_removed_leaves_nothing_not_even_its_halo() -> None:
    # Column 27 is 4 voxels away from column 23.
    result = stored(model(s13_r16_c27=0.8, s13_r16_c28=0.4, s15_r19_c30=0.3, s13_r16_c31=0.3))

    assert (result[13, 16, 27], result[13, 16, 28], result[15, 19, 30]) == (0, 0, 0)
    # Four voxels from what was removed.
    assert result[13, 16, 31] == 76


def test_the_halo_of_what_was_removed_does_not_eat_the_edge_of_the_structure() -> None:
    result = stored(model(s13_r16_c27=0.8, s13_r16_c26=0.4, s13_r16_c24=0.45))

    assert (result[13, 16, 26], result[13, 16, 24]) == (102, 115)


def test_what_was_removed_on_another_slice_counts() -> None:
    result = stored(model(s19_r16_c20=0.8, s18_r16_c20=0.3, s22_r16_c20=0.3, s23_r16_c20=0.3))

    assert [int(result[index, 16, 20]) for index in (18, 19, 22, 23)] == [0, 0, 0, 76]


def test_nothing_is_stored_or_asked_for_farther_than_ten_voxels_from_the_bounding_box() -> None:
    asked = model(s13_r16_c33=0.3, s13_r16_c34=0.3)

    result = stored(asked)

    assert (result[13, 16, 33], result[13, 16, 34]) == (76, 0)
    assert all(box[1:] == (slice(6, 30), slice(10, 34)) for box in asked.asked)
    assert [box[0].start for box in asked.asked] == list(range(2, 25))


def test_above_half_is_the_structure_whatever_the_model_says() -> None:
    asked = Model(np.random.default_rng(1).random(SHAPE, dtype=np.float32))

    result = stored(asked)

    inside = np.zeros(SHAPE, dtype=np.bool_)
    inside[STRUCTURE.box] = True
    np.testing.assert_array_equal(result >= 128, inside)


def test_a_sum_a_little_above_1_is_1() -> None:
    assert stored(model(s12_r16_c20=1.0000002))[12, 16, 20] == 255


def test_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="no number"):
        stored(model(s12_r16_c20=float("nan")))
