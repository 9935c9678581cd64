"""A network with a window sees the patient as it was trained to, and its labels lie where it saw them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from node.adapters import onnx_host
from node.adapters.onnx_host import HostWindows
from node.adapters.onnx_windows import OnnxWindows
from node.domain.errors import InputError, ResourceError, SetupError
from node.domain.grid import Grid
from node.domain.volume import Volume
from node.inference.engine import labels_by_windows
from node.inference.network_tables import Activation, Channel, Output, ResamplingKind, Window, WindowedInput
from node.inference.plan import SLAB_SLICES
from node.inference.predictor import Room, Segments, no_progress
from node.inference.resampling import Extent
from node.inference.segment import segment
from node.inference.transforms import oriented_axes
from tests.builders import Orientation, grid
from tests.unit.test_segment import volume
from tests.windowed import always, convolution, octants, opened, package, saved, thresholds, windowed_input

PATCH = (4, 10, 16)
THREE = Output(classes=3)


def labels(
    given: Volume | Sequence[Volume], wanted: WindowedInput, output: Output, runtime: OnnxWindows
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    volumes = [given] if isinstance(given, Volume) else given
    return labels_by_windows(volumes, wanted, output, runtime, no_progress)[0]


def expected_of(given: Volume) -> NDArray[np.uint8]:
    return np.where(given.voxels > 100, 2, np.where(given.voxels > 0, 1, 0)).astype(np.uint8)


@pytest.mark.parametrize("orientation", ["native", "LPS", "RAS", "ASL"])
@pytest.mark.parametrize("axis_order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_labels_lie_where_the_volume_has_its_values(
    tmp_path: Path, orientation: str, axis_order: tuple[int, int, int]
) -> None:
    given = volume(grid())
    wanted = windowed_input(PATCH, orientation, axis_order=axis_order)
    # Of the network's axes: no resampling, whichever axis of the series each is.
    there = {"native": (3.0, 1.5, 0.8), "LPS": (3.0, 1.5, 0.8), "RAS": (3.0, 1.5, 0.8), "ASL": (0.8, 3.0, 1.5)}[
        orientation
    ]
    wanted = replace(wanted, spacing_mm=(there[axis_order[0]], there[axis_order[1]], there[axis_order[2]]))
    runtime = opened(tmp_path, wanted, THREE, thresholds(PATCH))

    np.testing.assert_array_equal(labels(given, wanted, THREE, runtime), expected_of(given))


def halves(stack: Grid) -> NDArray[np.bool_]:
    """Tell for each voxel whether it lies to the left, back and head of the middle: ``[x y z, slice, row, column]``.

    Of its own plane's middle from left to right and front to back: a tilted gantry shifts planes.
    """
    slices, rows, columns = stack.shape
    row, column = (each.ravel() for each in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    points = np.stack([stack.points_lps_mm(index, row, column) for index in range(slices)])
    middles = points.mean(axis=1, keepdims=True)
    across = np.abs(stack.normal).argmax()
    middles[..., across] = points[..., across].mean()
    return np.moveaxis((points > middles).reshape(slices, rows, columns, 3), -1, 0)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal"])
@pytest.mark.parametrize("between_slices_mm", [3.0, -3.0])
@pytest.mark.parametrize("model", ["LPS", "RAS", "LAI"])
def test_left_and_right_front_and_back_head_and_feet_are_what_the_network_learned(
    tmp_path: Path, orientation: Orientation, between_slices_mm: float, model: str
) -> None:
    stack = grid(slices=6, rows=24, columns=40, orientation=orientation, spacing_mm=(between_slices_mm, 1.5, 0.8))
    given = Volume(voxels=np.zeros(stack.shape, dtype=np.float32), grid=stack)
    # The network's slices run head to feet, its rows front to back, its columns left to right, or against it.
    shape_of = {"axial": (6, 24, 40), "sagittal": (24, 40, 6), "coronal": (24, 6, 40)}[orientation]
    spacing_of = {"axial": (3.0, 1.5, 0.8), "sagittal": (1.5, 0.8, 3.0), "coronal": (1.5, 3.0, 0.8)}[orientation]
    wanted = windowed_input(shape_of, model, spacing_mm=spacing_of)
    output = Output(classes=9)

    found = labels(given, wanted, output, opened(tmp_path, wanted, output, octants(shape_of)))

    left, back, head = halves(stack)
    column, row, slice_ = (
        side if letter in "LPS" else ~side for side, letter in zip((left, back, head), model, strict=True)
    )
    np.testing.assert_array_equal(found, 1 + 4 * slice_ + 2 * row + 1 * column)


@pytest.mark.parametrize("model", ["LPS", "RAS"])
def test_a_tilted_gantry_swaps_nothing(tmp_path: Path, model: str) -> None:
    stack = grid(tilt_mm=1.2)
    given = Volume(voxels=np.zeros(stack.shape, dtype=np.float32), grid=stack)
    wanted, output = windowed_input(stack.shape, model), Output(classes=9)

    found = labels(given, wanted, output, opened(tmp_path, wanted, output, octants(stack.shape)))

    left, back, head = halves(stack)
    row, column = (back, left) if model == "LPS" else (~back, ~left)
    np.testing.assert_array_equal(found, 1 + 4 * head + 2 * row + 1 * column)


def test_the_way_of_totalsegmentator_labels_at_the_networks_spacing_and_takes_the_nearest(tmp_path: Path) -> None:
    # 4 rows of 2 mm are 3 of 2.67 mm; outermost centres stay, so rows lie at 0, 1.5 and 3 of the series' rows.
    stack = grid(slices=4, rows=4, columns=4, spacing_mm=(2.0, 2.0, 2.0))
    rows = np.array([-50.0, -50.0, 51.9, 150.0], dtype=np.float32)
    given = Volume(voxels=np.broadcast_to(rows[:, None], stack.shape).copy(), grid=stack)
    wanted = windowed_input(
        (4, 3, 4), "LPS", spacing_mm=(2.0, 8 / 3, 2.0), resample="totalsegmentator", order=1, crop="none"
    )

    found = labels(given, wanted, THREE, opened(tmp_path, wanted, THREE, thresholds((4, 3, 4))))

    # The row between is 0.95, of which 0 is left: background. Rows 0 to 3 lie nearest to rows 0, 0.67, 1.33 and 2.
    np.testing.assert_array_equal(found, np.broadcast_to(np.array([0, 0, 0, 2])[:, None], stack.shape))


def test_what_lies_outside_the_box_of_non_zero_is_background(tmp_path: Path) -> None:
    given = volume(grid())
    given.voxels[given.voxels == -1000] = 0
    wanted = windowed_input((2, 6, 8), crop="nonzero")
    everywhere = convolution(np.zeros((3, 1, 1, 1, 1), dtype=np.float32), [0.0, 0.0, 1.0], (2, 6, 8))

    found = labels(given, wanted, THREE, opened(tmp_path, wanted, THREE, everywhere))

    assert (found[:, 3:12, 4:16] == 2).all()
    assert np.count_nonzero(found) == 6 * 9 * 12


@pytest.mark.parametrize("spacing_mm", [(3.0, 1.5, 0.8), (2.0, 1.0, 0.8)])
def test_an_image_of_zeros_has_nothing_to_normalise_by_and_is_labelled(tmp_path: Path, spacing_mm: Extent) -> None:
    stack = grid()
    given = Volume(voxels=np.zeros(stack.shape, dtype=np.float32), grid=stack)
    masked = Channel(name="MR", normalisation="z_score", masked=True)
    wanted = windowed_input(PATCH, spacing_mm=spacing_mm, channels=(masked,), crop="nonzero")

    assert not labels(given, wanted, THREE, opened(tmp_path, wanted, THREE, thresholds(PATCH))).any()


@pytest.mark.parametrize("resample", ["nnunet", "totalsegmentator"])
def test_a_stack_thinner_than_half_a_voxel_of_the_network_is_one_voxel_there(
    tmp_path: Path, resample: ResamplingKind
) -> None:
    stack = grid(slices=2, rows=24, columns=40, spacing_mm=(1.0, 1.5, 0.8))
    rows = np.where(np.arange(24) < 12, 50, 150).astype(np.float32)
    given = Volume(voxels=np.broadcast_to(rows[:, None], stack.shape).copy(), grid=stack)
    wanted = windowed_input(PATCH, spacing_mm=(6.0, 1.5, 0.8), resample=resample)

    found = labels(given, wanted, THREE, opened(tmp_path, wanted, THREE, thresholds(PATCH)))

    np.testing.assert_array_equal(found, expected_of(given))


def test_folds_are_averaged_and_mirrored_patches_come_back_mirrored(tmp_path: Path) -> None:
    given = volume(grid())
    # One looks one column ahead, mirrored one back: the mean is even. The other fold says 1 more for class 1.
    ahead = np.zeros((2, 1, 1, 1, 3), dtype=np.float32)
    ahead[1, 0, 0, 0, 2] = 1
    networks = [convolution(ahead, [0.0, bias], PATCH) for bias in (0.0, 1.0)]
    wanted = windowed_input(PATCH, window=Window(patch=PATCH, mirror_axes=(2,)))
    output = Output(classes=2)

    found = labels(given, wanted, output, opened(tmp_path, wanted, output, *networks))

    inside = given.voxels[:, :, 2:-2]
    mean = (given.voxels[:, :, 1:-3] + given.voxels[:, :, 3:-1]) / 2 + 0.5
    assert inside.shape == mean.shape
    far_from_edges = np.s_[:, :, 2:-2]
    edges = np.zeros(given.voxels.shape, dtype=bool)
    # Beyond a patch there is nothing, where the image goes on: columns at the patches' ends say less.
    for start in (0, 8, 16, 24):
        edges[:, :, [start, start + 15]] = True
    agree = (found == 1)[far_from_edges] == (mean > 0)
    assert agree[~edges[far_from_edges]].all()


def test_regions_overlap_and_the_later_one_wins(tmp_path: Path) -> None:
    given = volume(grid())
    # Above 0: label 7; above 100: label 300.
    network = convolution(np.ones((2, 1, 1, 1, 1), dtype=np.float32), [0.0, -100.0], PATCH)
    wanted, output = windowed_input(PATCH), Output(classes=2, activation="regions", region_values=(7, 300))

    found = segment(given, package(wanted, output), opened(tmp_path, wanted, output, network), no_progress)

    assert found.label_map.labels.dtype == np.uint16
    expected = np.where(given.voxels > 100, 300, np.where(given.voxels > 0, 7, 0))
    np.testing.assert_array_equal(found.label_map.labels, expected)
    assert found.probabilities is None
    assert found.notes == ()


def test_channels_are_images_of_one_place(tmp_path: Path) -> None:
    stack = grid()
    first = volume(stack)
    second = Volume(voxels=np.full(stack.shape, 60, dtype=np.float32), grid=stack)
    # Class 1 where both together are above 100.
    network = convolution(np.array([[0.0, 0.0], [1.0, 1.0]]).reshape(2, 2, 1, 1, 1), [0.0, -100.0], PATCH)
    channels = (Channel(name="CT", normalisation="fixed"), Channel(name="PET", normalisation="fixed"))
    wanted, output = windowed_input(PATCH, channels=channels), Output(classes=2)
    runtime = opened(tmp_path, wanted, output, network)

    found = labels([first, second], wanted, output, runtime)

    np.testing.assert_array_equal(found, first.voxels > 40)
    with pytest.raises(InputError, match=r"takes 2 images of one place \(CT, PET\), not 1"):
        labels(first, wanted, output, runtime)


def reference_scores(image: NDArray[np.float64], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the scores of one convolution over an image that is one patch."""
    return np.stack([ndimage.correlate(image, each[0].astype(np.float64), mode="constant") for each in weights])


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "separate"),
    [
        ((20, 30, 40), (2.0, 1.0, 0.9), (1.6, 1.3, 1.2), False),
        ((20, 30, 40), (2.0, 1.0, 0.9), (2.3, 0.8, 0.9), False),
        ((12, 30, 40), (5.0, 1.0, 0.9), (4.0, 1.2, 1.1), True),
    ],
)
def test_a_whole_inference_is_what_its_steps_give_one_by_one(
    tmp_path: Path,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    target: tuple[float, float, float],
    separate: bool,
) -> None:
    random = np.random.default_rng(5)
    stack = grid(slices=shape[0], rows=shape[1], columns=shape[2], spacing_mm=spacing)
    smooth = ndimage.gaussian_filter(random.normal(size=shape), 1.5)
    given = Volume(voxels=np.asarray(1000 * smooth, dtype=np.float32), grid=stack)
    coarse = tuple(round(size * old / new) for size, old, new in zip(shape, spacing, target, strict=True))
    patch = (coarse[0], coarse[1], coarse[2])
    weights = random.normal(size=(4, 1, 3, 3, 3)).astype(np.float32)
    channel = Channel(name="CT", normalisation="fixed", clip=(-100.0, 120.0), mean=5.0, standard_deviation=40.0)
    wanted = windowed_input(patch, spacing_mm=target, channels=(channel,))
    output = Output(classes=4)

    found = labels(given, wanted, output, opened(tmp_path, wanted, output, convolution(weights, [0.0] * 4, patch)))

    normal = (given.voxels.astype(np.float64).clip(-100, 120) - 5) / 40
    resized = by_slice(normal, patch, 3) if separate else zoomed(normal, patch, 3)
    scores = reference_scores(resized, weights)
    back = np.stack([by_slice(each, shape, 1) if separate else zoomed(each, shape, 1) for each in scores])
    second, best = np.partition(back, -2, axis=0)[-2:]
    differ = found != back.argmax(axis=0)
    # Float32 against float64: only ties may fall to another side.
    assert (best - second)[differ].max(initial=0) < 1e-4
    assert differ.mean() < 1e-4
    assert len(np.unique(found)) == 4


def zoomed(image: NDArray[np.float64], shape: Sequence[int], order: int) -> NDArray[np.float64]:
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    made = ndimage.zoom(image, factors, order=order, mode="nearest", grid_mode=True)
    return np.asarray(made.clip(image.min(), image.max()), dtype=np.float64)


def by_slice(image: NDArray[np.float64], shape: Sequence[int], order: int) -> NDArray[np.float64]:
    slices = np.stack([zoomed(each, shape[1:], order) for each in image])
    nearest = np.floor((np.arange(shape[0]) + 0.5) * len(slices) / shape[0]).astype(int)
    return np.asarray(slices[nearest], dtype=np.float64)


def steps(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Give 0, 1, 2 and 3 with borders between them, and some noise."""
    random = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(random.normal(size=shape), 3)
    found = np.digitize(smooth, np.quantile(smooth, [0.3, 0.6, 0.9])) + 0.2 * random.normal(size=shape)
    return np.asarray(found, dtype=np.float32)


def nearness(patch: tuple[int, int, int]) -> onnx.ModelProto:
    """Give five classes by how near the image is to 0, 1, 2, 3 and 4: 16 of score for each step."""
    numbers = np.arange(5)
    return convolution((32.0 * numbers).reshape(5, 1, 1, 1, 1), [-16.0 * number**2 for number in range(5)], patch)


@pytest.mark.parametrize("activation", ["none", "softmax", "regions"])
@pytest.mark.parametrize("most_contested", [0.0, 1.0])
@pytest.mark.parametrize("target", [(2.0, 1.2, 1.0), (3.0, 1.8, 0.8)])
def test_the_graphs_that_an_accelerator_runs_give_the_labels_that_the_host_gives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    activation: Activation,
    most_contested: float,
    target: tuple[float, float, float],
) -> None:
    stack = grid(slices=14, rows=30, columns=44)
    given = Volume(voxels=steps(stack.shape), grid=stack)
    wanted = windowed_input(PATCH, spacing_mm=target, order=1)
    output = Output(classes=5, activation=activation, region_values=(1, 2, 3, 4, 5) if activation == "regions" else ())
    loaded = saved(tmp_path, wanted, output, nearness(PATCH))
    host = opened(tmp_path, wanted, output, nearness(PATCH))
    graphs = OnnxWindows(host._networks, host._place, host._room, host.computed_by, loaded)
    # All that is contested voxel by voxel, or as a whole.
    monkeypatch.setattr(onnx_host, "_MOST_CONTESTED", most_contested)

    found, sure = labels_by_windows([given], wanted, output, graphs, no_progress)
    of_host, sure_of_host = labels_by_windows([given], wanted, output, host, no_progress)

    np.testing.assert_array_equal(found, of_host)
    assert len(np.unique(found)) >= 4
    assert (sure is None) == (sure_of_host is None) == (activation != "softmax")
    if sure is not None and sure_of_host is not None:
        box = (slice(0, 14), slice(0, 30), slice(0, 44))
        shares, shares_of_host = ([each.of((value,), box) for value in range(1, 5)] for each in (sure, sure_of_host))
        np.testing.assert_allclose(np.array(shares), np.array(shares_of_host), atol=1e-4)


@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_a_class_that_nothing_contests_stays_where_others_are_contested_all_around(
    tmp_path: Path, activation: Activation
) -> None:
    # Columns alone are interpolated, 16 to 24. In the last rows 0 and 1 take turns, far above 2, which has the first.
    stack = grid(slices=4, rows=10, columns=24, spacing_mm=(3.0, 1.5, 0.8))
    given = Volume(voxels=np.zeros(stack.shape, dtype=np.float32), grid=stack)
    wanted = windowed_input(PATCH, spacing_mm=(3.0, 1.5, 1.2))
    scores = np.zeros((3, *PATCH), dtype=np.float32)
    scores[1] = np.where(np.arange(16) % 2, 1, -1)
    scores[2] = np.where(np.arange(10) < 5, 50, -50)[:, None]
    output = Output(classes=3, activation=activation)

    found = labels(given, wanted, output, opened(tmp_path, wanted, output, always(scores)))

    assert (found[:, :5] == 2).all()
    assert set(np.unique(found[:, 5:])) == {0, 1}


@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_what_is_contested_between_the_voxels_of_a_coarser_series_is_nobodys_voxel(
    tmp_path: Path, activation: Activation
) -> None:
    # 4 columns lie among 16 of the network at 1.5, 5.5, 9.5 and 13.5; only column 7 of the network is of class 1.
    stack = grid(slices=4, rows=10, columns=4, spacing_mm=(3.0, 1.5, 3.2))
    given = Volume(voxels=np.zeros(stack.shape, dtype=np.float32), grid=stack)
    wanted = windowed_input(PATCH, spacing_mm=(3.0, 1.5, 0.8))
    scores = np.zeros((2, *PATCH), dtype=np.float32)
    scores[1] = np.where(np.arange(16) == 7, 50, -50)
    output = Output(classes=2, activation=activation)

    assert not labels(given, wanted, output, opened(tmp_path, wanted, output, always(scores))).any()


def test_the_memory_of_slices_that_are_labelled_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = grid(slices=90, rows=24, columns=40)
    given = Volume(voxels=np.zeros(stack.shape, dtype=np.float32), grid=stack)
    wanted = windowed_input(PATCH)
    host = opened(tmp_path, wanted, THREE, thresholds(PATCH))
    begun: list[Any] = []
    begin = host.sums

    def sums(segments: tuple[Segments, Segments, Segments]) -> Any:
        begun.append(begin(segments))
        return begun[-1]

    monkeypatch.setattr(host, "sums", sums)

    labels(given, wanted, THREE, host)

    places = {each.ctypes.data for each in begun[0]._free}
    # Of a patch, and of the last slab and the slice before it.
    assert len(places) <= PATCH[0] + SLAB_SLICES + 1
    assert not begun[0]._slices


@pytest.mark.parametrize("kind", [HostWindows, OnnxWindows])
def test_an_answer_that_is_no_number_is_refused(tmp_path: Path, kind: type[OnnxWindows]) -> None:
    weights = np.array([0.0, np.nan, 1.0], dtype=np.float32).reshape(3, 1, 1, 1, 1)
    wanted = windowed_input(PATCH)
    host = opened(tmp_path, wanted, THREE, convolution(weights, [0.0] * 3, PATCH))
    loaded = saved(tmp_path, wanted, THREE, convolution(weights, [0.0] * 3, PATCH))
    by_graphs = OnnxWindows(host._networks, host._place, host._room, host.computed_by, loaded)

    with pytest.raises(SetupError, match="The network of two-densities answered with a value that is no finite number"):
        labels(volume(grid()), wanted, THREE, host if kind is HostWindows else by_graphs)


def test_too_little_memory_is_refused_with_its_figures_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = windowed_input(PATCH)
    runtime = opened(tmp_path, wanted, THREE, thresholds(PATCH))
    monkeypatch.setattr(runtime, "room", lambda: Room(host=3_000_000_000, device=1_000, network=0, label_values=1))
    monkeypatch.setattr(runtime, "scores", lambda *_: pytest.fail("the network ran"))

    with pytest.raises(
        ResourceError, match=r"needed for 3 classes on 6 × 24 × 40 voxels, and the accelerator has 0\.0 GB"
    ):
        labels(volume(grid()), wanted, THREE, runtime)


def test_images_that_cannot_be_resampled_as_a_whole_are_refused_before_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = windowed_input(PATCH, resample="totalsegmentator", spacing_mm=(0.03, 0.015, 0.008))
    runtime = opened(tmp_path, wanted, THREE, thresholds(PATCH))
    monkeypatch.setattr(runtime, "room", lambda: Room(host=10**9, device=10**12, network=0, label_values=1))

    # 600 by 2400 by 4000 voxels of 12 bytes.
    with pytest.raises(ResourceError, match=r"69\.1 GB of memory are needed to resample the images"):
        labels(volume(grid()), replace(wanted, order=1), THREE, runtime)


def test_progress_counts_every_patch(tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    wanted = windowed_input(PATCH)
    runtime = opened(tmp_path, wanted, THREE, thresholds(PATCH))

    labels_by_windows([volume(grid())], wanted, THREE, runtime, lambda *step: said.append(step))

    # 6, 24 and 40 voxels in patches of 4, 10 and 16 at most half of them apart: 2 · 4 · 4.
    assert [step for step in said if step[0] == "predict"] == [("predict", done, 32) for done in range(33)]
    assert said[-1] in {("label", 6, 6), ("predict", 32, 32)}


def test_a_model_whose_scores_are_logits_says_how_sure_it_is(tmp_path: Path) -> None:
    given = volume(grid(), body_hu=0.5, liver_hu=2.0)
    # Logits 0, value and 2 · value - 2: of the body 0, 0.5 and -1; of the liver 0, 2 and 2.
    network = convolution(np.array([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1, 1), [0.0, 0.0, -2.0], PATCH)
    wanted, output = windowed_input(PATCH, "RAS", axis_order=(2, 0, 1)), Output(classes=3, activation="softmax")
    wanted = replace(wanted, spacing_mm=(0.8, 3.0, 1.5))

    found = segment(given, package(wanted, output), opened(tmp_path, wanted, output, network), no_progress)

    assert found.probabilities is not None
    box = (slice(0, 6), slice(0, 24), slice(0, 40))
    sure_of_1, sure_of_2 = (found.probabilities.of((value,), box) for value in (1, 2))
    assert sure_of_1 is not None
    assert sure_of_2 is not None
    body, liver = given.voxels == 0.5, given.voxels == 2.0
    # e^0.5 / (1 + e^0.5 + e^-1) and e^2 / (1 + 2 e^2).
    np.testing.assert_allclose(sure_of_1[body], 0.546549, atol=2e-5)
    np.testing.assert_allclose(sure_of_2[body], 0.121952, atol=2e-5)
    np.testing.assert_allclose(sure_of_2[liver], 0.468311, atol=2e-5)
    assert not sure_of_1[given.voxels == -1000].any()


def test_scores_that_went_through_softmax_already_are_refused(tmp_path: Path) -> None:
    network = convolution(np.zeros((3, 1, 1, 1, 1), dtype=np.float32), [0.7, 0.2, 0.1], PATCH)
    wanted, output = windowed_input(PATCH), Output(classes=3, activation="softmax")

    with pytest.raises(SetupError, match="answers with probabilities"):
        labels(volume(grid()), wanted, output, opened(tmp_path, wanted, output, network))


def test_rules_in_planes_follow_the_slices_that_the_network_was_trained_on() -> None:
    sagittal = grid(orientation="sagittal")

    assert oriented_axes(sagittal, "LPS")[0] == 1
    assert oriented_axes(sagittal, "native")[0] == 0


def test_a_single_plane_is_refused(tmp_path: Path) -> None:
    wanted = windowed_input(PATCH)
    runtime = opened(tmp_path, wanted, THREE, thresholds(PATCH))

    with pytest.raises(InputError, match="single plane"):
        labels(volume(grid(slices=1)), wanted, THREE, runtime)
