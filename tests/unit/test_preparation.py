"""The image is made some slices at a time, and they are those of the whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from node.inference.network_tables import Channel, Output
from node.inference.plan import plan_windows
from node.inference.predictor import no_progress
from node.inference.preparation import PreparedImage
from node.inference.resampling import Extent
from tests.windowed import opened, thresholds, windowed_input

Shape = tuple[int, int, int]

CHANNEL = Channel(name="CT", normalisation="fixed", clip=(-100.0, 120.0), mean=5.0, standard_deviation=40.0)


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "separate"),
    [
        ((40, 20, 26), (2.0, 1.0, 0.9), (1.6, 1.3, 1.2), None),
        ((60, 20, 26), (1.0, 1.0, 0.9), (1.6, 1.0, 0.9), None),
        ((40, 20, 26), (1.5, 1.0, 0.9), (1.5, 1.3, 0.9), None),
        ((20, 20, 26), (5.0, 1.0, 0.9), (4.0, 1.2, 1.1), 0),
        ((40, 20, 12), (1.0, 0.9, 5.0), (1.3, 1.1, 4.0), 2),
        ((40, 20, 12), (1.0, 0.9, 5.0), (1.0, 1.1, 4.0), 2),
        ((9, 20, 26), (2.0, 1.0, 0.9), (2.1, 1.3, 1.2), None),
    ],
)
def test_slices_of_the_image_are_those_of_the_whole_image(
    tmp_path: Path, shape: Shape, spacing: Extent, target: Extent, separate: int | None
) -> None:
    random = np.random.default_rng(7)
    values = (200 * ndimage.gaussian_filter(random.normal(size=shape), 1.0)).astype(np.float32)
    patch = (12, 16, 10)
    wanted = replace(windowed_input(patch, channels=(CHANNEL,)), spacing_mm=target)
    plan = plan_windows(shape, spacing, wanted, Output(classes=3))
    assert plan.to_model.separate_axis == separate
    runtime = opened(tmp_path, wanted, Output(classes=3), thresholds(patch))
    image = PreparedImage([values], wanted, plan, runtime, no_progress)

    parts = [(start, image.slices(start, start + patch[0]).numpy().copy()) for start in plan.starts[0]]

    normal = (values.astype(np.float64).clip(-100, 120) - 5) / 40
    whole = np.pad(resampled(normal, plan.model_shape, separate), plan.padding)
    for start, part in parts:
        assert part.shape == (1, 1, patch[0], *plan.padded_shape[1:])
        np.testing.assert_allclose(part[0, 0], whole[start : start + patch[0]], atol=2e-5)


def resampled(image: np.ndarray, shape: Shape, separate: int | None) -> np.ndarray:
    if separate is None:
        return zoomed(image, shape)
    others = [size for axis, size in enumerate(shape) if axis != separate]
    slices = np.stack([zoomed(each, others) for each in np.moveaxis(image, separate, 0)])
    nearest = np.floor((np.arange(shape[separate]) + 0.5) * len(slices) / shape[separate]).astype(int)
    return np.moveaxis(slices[nearest], 0, separate)


def zoomed(image: np.ndarray, shape: tuple[int, ...] | list[int]) -> np.ndarray:
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    if set(factors) == {1.0}:
        return image
    made = ndimage.zoom(image, factors, order=3, mode="nearest", grid_mode=True)
    return np.asarray(made.clip(image.min(), image.max()))
