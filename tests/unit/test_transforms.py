"""Left stays left: the way to the network's axes and back, anchored to patient coordinates and to sums by hand."""

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.volume import Volume
from node.inference.network_tables import InputSpecification
from node.inference.transforms import labels_on_source, network_input, passage
from tests.builders import ORIENTATIONS, Orientation, grid

# The axis of x, y, z in an array whose columns, rows and slices run along R or L, A or P, S or I.
AXIS_OF = {"x": 2, "y": 1, "z": 0}


def wanted(
    orientation: str = "LPS",
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None),
    clip: tuple[float, float] | None = None,
    multiple_of: tuple[int, int, int] = (1, 1, 1),
) -> InputSpecification:
    return InputSpecification(
        orientation=orientation, spacing_mm=spacing_mm, clip=clip, outside_value=-1000.0, multiple_of=multiple_of
    )


def coordinate(stack: Grid, axis: int) -> NDArray[np.float32]:
    """Give each voxel's x, y or z in millimetres, by the grid's own equation."""
    _, rows, columns = stack.shape
    row, column = (index.ravel() for index in np.indices((rows, columns)))
    planes = [stack.points_lps_mm(index, row, column)[:, axis] for index in range(stack.shape[0])]
    return np.asarray(np.stack(planes).reshape(stack.shape), dtype=np.float32)


def to_network(stack: Grid, voxels: NDArray[np.float32], specification: InputSpecification) -> NDArray[np.float32]:
    return network_input(Volume(voxels=voxels, grid=stack), specification, passage(stack, specification))


def ignore(_done: int, _of: int) -> None: ...


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("orientation", get_args(Orientation))
@pytest.mark.parametrize(("model", "signs"), [("LPS", (1, 1, 1)), ("RAS", (-1, -1, 1)), ("LAI", (1, -1, -1))])
def test_each_direction_of_the_patient_runs_as_the_network_wants_it(
    orientation: Orientation, descending: bool, model: str, signs: tuple[int, int, int]
) -> None:
    stack = grid(orientation=orientation, spacing_mm=(-3.0 if descending else 3.0, 1.5, 0.8))

    for name, sign in zip("xyz", signs, strict=True):
        axis = AXIS_OF[name]
        values = to_network(stack, coordinate(stack, "xyz".index(name)), wanted(model))
        steps = [np.diff(values, axis=each) for each in range(3)]

        assert (np.sign(steps[axis]) == sign).all()
        if orientation != "oblique":
            assert all(abs(steps[other]).max() < 1e-3 for other in range(3) if other != axis)


def test_the_head_first_axial_stack_is_given_as_it_is() -> None:
    stack = grid(slices=3, rows=4, columns=5)
    voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)

    values = to_network(stack, voxels, wanted())

    np.testing.assert_array_equal(values, voxels)


def test_a_sagittal_stack_is_turned_to_axial() -> None:
    # Columns run to the back, rows to the feet; their normal, y × -z, points to the right.
    stack = grid(slices=2, rows=3, columns=4, orientation=ORIENTATIONS["sagittal"])
    voxels = np.zeros((2, 3, 4), dtype=np.float32)
    # Rightmost plane, lowest row, hindmost column.
    voxels[1, 2, 3] = 1.0

    values = to_network(stack, voxels, wanted())

    # Axial: slices upwards (3), rows to the back (4), columns to the left (2).
    assert values.shape == (3, 4, 2)
    assert np.argwhere(values == 1.0).tolist() == [[0, 3, 0]]


def test_a_tilted_stack_keeps_its_pixels() -> None:
    stack = grid(slices=4, rows=5, columns=6, tilt_mm=1.2)
    voxels = np.arange(120, dtype=np.float32).reshape(4, 5, 6)

    np.testing.assert_array_equal(to_network(stack, voxels, wanted()), voxels)


@pytest.mark.parametrize("orientation", get_args(Orientation))
@pytest.mark.parametrize("model", ["LPS", "RAS", "SLA"])
def test_labels_come_back_to_the_voxels_they_were_computed_for(orientation: Orientation, model: str) -> None:
    stack = grid(slices=4, rows=6, columns=5, orientation=orientation)
    labels = np.random.default_rng(7).integers(0, 3, stack.shape)
    specification = wanted(model, multiple_of=(1, 4, 4))
    way = passage(stack, specification)
    seen = network_input(Volume(voxels=labels.astype(np.float32), grid=stack), specification, way)
    scores = np.stack([(seen == label).astype(np.float32) for label in range(3)])

    back = labels_on_source(scores, way, ignore)

    np.testing.assert_array_equal(back, labels)
    assert back.dtype == np.uint8


def test_resampling_to_smaller_voxels_interpolates_between_centres() -> None:
    stack = grid(slices=2, rows=1, columns=2, spacing_mm=(3.0, 1.0, 2.0))
    voxels = np.array([[[0.0, 10.0]], [[0.0, 10.0]]], dtype=np.float32)

    values = to_network(stack, voxels, wanted(spacing_mm=(None, None, 1.0)))

    # Centres at -0.25, 0.25, 0.75 and 1.25 of the old columns; beyond the outermost centres nothing changes.
    np.testing.assert_allclose(values[0, 0], [0.0, 2.5, 7.5, 10.0])


def test_resampling_to_larger_voxels_weighs_every_sample() -> None:
    stack = grid(slices=4, rows=1, columns=1, spacing_mm=(1.0, 1.0, 1.0))
    voxels = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32).reshape(4, 1, 1)

    values = to_network(stack, voxels, wanted(spacing_mm=(2.0, None, None)))

    # Centre 0.5, a tent 2 wide to either side: weights 0.75, 0.75, 0.25, 0, whose sum is 1.75.
    np.testing.assert_allclose(values[:, 0, 0], [1.25 / 1.75, 3 - 1.25 / 1.75], rtol=1e-6)


def test_spacing_belongs_to_the_networks_axes_whatever_the_series_axes_are() -> None:
    # Sagittal: 5 planes of 4 mm from left to right, 8 rows of 1.5 mm downwards, 6 columns of 0.5 mm to the back.
    stack = grid(slices=5, rows=8, columns=6, orientation="sagittal", spacing_mm=(4.0, 1.5, 0.5))

    way = passage(stack, wanted(spacing_mm=(3.0, 1.0, 2.0)))

    # 8 · 1.5 / 3 slices upwards, 6 · 0.5 / 1 rows to the back, 5 · 4 / 2 columns to the left.
    assert way.shape == (4, 3, 10)


def test_values_are_clipped_before_they_are_mixed() -> None:
    stack = grid(slices=2, rows=1, columns=2, spacing_mm=(3.0, 1.0, 2.0))
    voxels = np.array([[[0.0, 30000.0]], [[0.0, 30000.0]]], dtype=np.float32)

    values = to_network(stack, voxels, wanted(spacing_mm=(None, None, 1.0), clip=(-100.0, 100.0)))

    np.testing.assert_allclose(values[0, 0], [0.0, 25.0, 75.0, 100.0])


def test_padding_follows_the_last_voxel_and_is_normalised_with_the_rest() -> None:
    stack = grid(slices=2, rows=3, columns=3)
    specification = InputSpecification(
        orientation="LPS",
        spacing_mm=(None, None, None),
        mean=100.0,
        standard_deviation=50.0,
        outside_value=-1000.0,
        multiple_of=(1, 4, 2),
    )

    values = to_network(stack, np.full((2, 3, 3), 200.0, dtype=np.float32), specification)

    assert values.shape == (2, 4, 4)
    np.testing.assert_array_equal(values[:, :3, :3], 2.0)
    np.testing.assert_array_equal(values[:, 3], -22.0)
    np.testing.assert_array_equal(values[:, :, 3], -22.0)


def test_the_border_lies_where_interpolated_scores_cross() -> None:
    # The network sees 4 columns of 3 mm, centres at 1.5, 4.5, 7.5 and 10.5 mm. Its second score rises from -1 to 2
    # between 4.5 and 7.5 mm and crosses the first at 5.5 mm: of 12 columns of 1 mm, 0 to 4 (centre 4.5) are below.
    stack = grid(slices=2, rows=1, columns=12, spacing_mm=(3.0, 1.0, 1.0))
    way = passage(stack, wanted(spacing_mm=(None, None, 3.0)))
    scores = np.zeros((2, 2, 1, 4), dtype=np.float32)
    scores[1, :, 0] = [-1.0, -1.0, 2.0, 2.0]

    labels = labels_on_source(scores, way, ignore)

    # Column 5 has its centre at 5.5 mm: a tie, which the lower label wins.
    assert labels[0, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_many_classes_take_sixteen_bits() -> None:
    stack = grid(slices=2, rows=1, columns=1)
    scores = np.zeros((300, 2, 1, 1), dtype=np.float32)
    scores[299] = 1.0

    labels = labels_on_source(scores, passage(stack, wanted()), ignore)

    assert labels.dtype == np.uint16
    assert labels.ravel().tolist() == [299, 299]


def test_progress_counts_every_slice() -> None:
    stack = grid(slices=3, rows=2, columns=2)
    steps: list[tuple[int, int]] = []

    labels_on_source(
        np.zeros((2, 3, 2, 2), dtype=np.float32),
        passage(stack, wanted()),
        lambda done, of: steps.append((done, of)),
    )

    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_single_plane_is_refused() -> None:
    with pytest.raises(InputError, match="single plane"):
        passage(grid(slices=1), wanted())
