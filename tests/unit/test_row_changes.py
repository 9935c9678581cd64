"""Where fillings change along rows, against hand-drawn label maps and against filling itself."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from node.domain.masks import members
from node.domain.row_changes import RowChanges, held
from node.domain.volume import LabelMap
from tests.builders import definition, grid


def label_map(labels: NDArray[np.uint8]) -> LabelMap:
    slices, rows, columns = labels.shape
    return LabelMap(labels=labels, grid=grid(slices=slices, rows=rows, columns=columns))


def test_changes_are_where_a_structure_begins_and_behind_where_it_ends() -> None:
    labels = np.array([[[0, 1, 1, 0], [2, 2, 2, 2]], [[0, 0, 0, 0], [1, 2, 0, 1]]], dtype=np.uint8)

    changes = RowChanges(label_map(labels))

    # A row has 5 places: its 4 columns and the one behind them.
    assert changes.of(definition("One", 1)).tolist() == [1, 3, 15, 16, 18, 19]
    assert changes.of(definition("Two", 2)).tolist() == [5, 9, 16, 17]
    assert changes.of(definition("Both", 1, 2)).tolist() == [1, 3, 5, 9, 15, 17, 18, 19]
    assert changes.of(definition("Nowhere", 9)).tolist() == []
    assert held(changes.of(definition("Both", 1, 2))) == 9


def test_an_empty_label_map_changes_nowhere() -> None:
    changes = RowChanges(label_map(np.zeros((2, 3, 4), dtype=np.uint8)))

    assert not len(changes.of(definition("One", 1)))


@settings(deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3), elements=st.integers(0, 3)), st.sets(st.integers(1, 4))
)
def test_between_the_changes_lie_the_voxels_of_the_structure(labels: NDArray[np.uint8], values: set[int]) -> None:
    _, rows, columns = labels.shape
    chosen = sorted(values) or [1]

    changes = RowChanges(label_map(labels)).of(definition("Some", *chosen))

    toggled = np.zeros(labels.shape[0] * rows * (columns + 1), dtype=np.bool_)
    toggled[changes] = True
    inside = np.logical_xor.accumulate(toggled).reshape(-1, rows, columns + 1)[:, :, :columns]
    assert np.array_equal(inside, members(labels, chosen))
    assert held(changes) == np.count_nonzero(inside)
