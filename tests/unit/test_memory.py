"""What a scan takes is known before it comes, the images that are resampled as a whole included."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from node.domain.errors import ResourceError
from node.inference.engine import _cut_off
from node.inference.golden import axial_grid
from node.inference.memory import bytes_for, refuse_scan_too_large
from node.inference.network_tables import Output
from node.inference.plan import bytes_needed, bytes_to_resample, plan_windows
from node.inference.predictor import Room
from node.inference.resampling import corner_aligned
from tests.windowed import AS_IT_IS, package, windowed_input

PATCH = (16, 16, 16)
COARSE_MM = (1.5, 1.5, 1.5)
WHOLE = replace(windowed_input(PATCH), spacing_mm=COARSE_MM, resample="totalsegmentator", order=1)
# 40 slices of 3 mm are 80 of 1.5 mm, 60 rows and columns of 1 mm are 40.
SCAN, COARSE = axial_grid((40, 60, 60), (3.0, 1.0, 1.0)), (80, 40, 40)
ROOM = Room(host=10**9, device=None, network=1000, label_values=1)


def at_work() -> int:
    return bytes_needed(plan_windows(COARSE, COARSE_MM, WHOLE, Output(classes=3)), 1, ROOM)


def test_images_at_the_networks_spacing_and_their_labels_are_held_while_the_network_runs() -> None:
    of_one_image = bytes_for(package(WHOLE, Output(classes=3)), SCAN, ROOM)
    many_labels = bytes_for(package(WHOLE, Output(classes=300)), SCAN, ROOM)

    # Values of 4 bytes and labels of 1.
    assert of_one_image == at_work() + (4 + 1) * 80 * 40 * 40
    more = bytes_needed(plan_windows(COARSE, COARSE_MM, WHOLE, Output(classes=300)), 1, ROOM)
    assert many_labels == more + (4 + 2) * 80 * 40 * 40


def test_an_accelerator_holds_no_images_at_the_networks_spacing() -> None:
    on_device = replace(ROOM, device=10**9)

    assert bytes_for(package(WHOLE, Output(classes=3)), SCAN, on_device) == at_work()


@pytest.mark.parametrize("order", [1, 3])
def test_resampling_takes_what_is_said(order: int) -> None:
    image = np.random.default_rng(1).standard_normal((40, 60, 60), dtype=np.float32)
    wanted = replace(WHOLE, order=order)

    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    _cut_off(corner_aligned(image, COARSE, order))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most - before == pytest.approx(bytes_to_resample((40, 60, 60), COARSE, wanted), rel=0.02)


def test_channels_wait_for_the_last_that_is_resampled() -> None:
    one, three = (
        bytes_to_resample((40, 60, 60), COARSE, replace(WHOLE, channels=(AS_IT_IS,) * count)) for count in (1, 3)
    )

    # In float64, and its float32.
    assert one == (8 + 4) * 80 * 40 * 40
    assert three == one + 2 * 4 * 80 * 40 * 40


@pytest.mark.parametrize("device", [None, 10**12])
def test_a_scan_that_cannot_be_resampled_is_refused_wherever_the_network_runs(device: int | None) -> None:
    room = replace(ROOM, host=100_000_000, device=device)
    scan = axial_grid((400, 300, 300), COARSE_MM)

    # 12 bytes of each of 36 million voxels.
    with pytest.raises(
        ResourceError, match=r"0\.4 GB of memory are needed to resample the images, and this machine has"
    ):
        refuse_scan_too_large(package(WHOLE, Output(classes=3)), scan, room)
