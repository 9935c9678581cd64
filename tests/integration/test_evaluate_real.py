"""A person's contours of a thorax against the masks that a planning system made of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from node.cli import app
from node.dataset.nifti import Image, affine_of, turned_to_lps, write_nifti
from tests.builders import manifest_of
from tests.integration.test_objects_real import largest_ct, read_nrrd
from tests.real_data import unpacked

pytestmark = [pytest.mark.real_data, pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*")]

# As the masks are called, in an order in which none hides another, and TG-263's names.
MASKS = {"heart": "Heart", "liver": "Liver", "lt lung": "Lung_L", "rt lung": "Lung_R", "cord": "SpinalCord"}


@pytest.mark.parametrize("with_images", [True, False])
def test_contours_of_a_thorax_agree_with_the_masks_made_of_them(with_images: bool, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    folder = unpacked("onkodicom-thorax-rt")
    (structure_set,) = folder.rglob("*_m.dcm")
    grid = manifest_of(largest_ct(folder)).grid
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for value, name in enumerate(MASKS, start=1):
        labels[read_nrrd(next(folder.rglob(f"{name}.nrrd")))] = value
    masks = tmp_path / "masks.nii.gz"
    write_nifti(masks, turned_to_lps(Image(voxels=labels, affine_lps_mm=affine_of(grid))))
    (tmp_path / "names.toml").write_text('Lung_L = ["LUNG_L"]\nSpinalCord = ["SPINALCORD"]\n')
    named = ",".join(f"{name}={value}" for value, name in enumerate(MASKS.values(), start=1))
    images = ["--images", str(structure_set.parent)] if with_images else []
    wanted = [part for name in MASKS.values() for part in ("--organ", name)]

    told = CliRunner().invoke(
        app,
        [
            *("evaluate", str(structure_set), str(masks), "--labels", named, "--json"),
            *("--names", str(tmp_path / "names.toml"), *images, *wanted),
        ],
        catch_exceptions=False,
    )

    (case,) = json.loads(told.stdout)["cases"]
    assert case["notes"][0].startswith(f"grid of the {'images' if with_images else 'result'}: 105 × 512 × 512 voxels")
    found = {each["organ"]: each["measures"] for each in case["organs"]}
    assert found.keys() == set(MASKS.values())
    for name, measures in found.items():
        assert measures["dice"] > 0.99, name
        assert measures["surface_dice"] > 0.99, name
        assert measures["mean_surface_distance_mm"] < 0.1, name
    # A man's; the two lungs hold some litres.
    assert 2000 < found["Lung_L"]["reference_cm3"] + found["Lung_R"]["reference_cm3"] < 8000
