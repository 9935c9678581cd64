"""The voxels of a structure are found wherever they are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from node.domain.masks import Masks
from node.domain.volume import LabelMap
from tests.builders import definition, grid

LABELS = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(0, 3))


def masks_of(labels: NDArray[np.uint8]) -> Masks:
    slices, rows, columns = labels.shape
    return Masks(LabelMap(labels=labels, grid=grid(slices=slices, rows=rows, columns=columns)))


@settings(deadline=None)
@given(labels=LABELS)
def test_the_box_of_a_structure_is_the_smallest_that_holds_it(labels: NDArray[np.uint8]) -> None:
    wanted = ndimage.find_objects(np.isin(labels, (1, 3)).astype(np.uint8), max_label=1)[0]

    found = masks_of(labels).of(definition("any", 1, 3))

    if wanted is None:
        assert found is None
    else:
        assert found is not None
        assert found.box == wanted
        np.testing.assert_array_equal(found.mask, np.isin(labels[wanted], (1, 3)))


@settings(deadline=None)
@given(labels=LABELS)
def test_slice_by_slice_no_voxel_is_left_out(labels: NDArray[np.uint8]) -> None:
    together = np.zeros(labels.shape, dtype=np.bool_)

    for part in masks_of(labels).on_slices(definition("any", 1, 3)):
        assert part.mask.shape[0] == 1
        together[part.box] |= part.mask

    np.testing.assert_array_equal(together, np.isin(labels, (1, 3)))
