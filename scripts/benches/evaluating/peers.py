"""Measure as users of other tools do: python -m evaluating.peers TOOL FOLDER TOLERANCE_MM Z,Y,X.

FOLDER holds pairs of masks (``reference`` and ``result`` in .npz). Prints JSON: pair -> measure -> value; what a tool
does not measure is left out, ``cpu_s`` is its processor time. Runs in the tools' own environments, without the project.
"""

# ruff: noqa: PLC0415 - each environment has some of these tools only

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def surface_distance(reference: Any, result: Any, spacing_mm: Any, tolerance_mm: float) -> dict[str, float]:
    import surface_distance as tool

    found = tool.compute_surface_distances(reference, result, spacing_mm)
    return {
        "hd95_mm": tool.compute_robust_hausdorff(found, 95),
        "mean_surface_distance_mm": float(np.mean(tool.compute_average_surface_distance(found))),
        "surface_dice": tool.compute_surface_dice_at_tolerance(found, tolerance_mm),
    }


def medpy(reference: Any, result: Any, spacing_mm: Any, _tolerance_mm: float) -> dict[str, float]:
    from medpy.metric import binary

    return {
        "hd95_mm": binary.hd95(result, reference, voxelspacing=spacing_mm),
        "mean_surface_distance_mm": binary.assd(result, reference, voxelspacing=spacing_mm),
    }


def simpleitk(reference: Any, result: Any, spacing_mm: Any, _tolerance_mm: float) -> dict[str, float]:
    """Measure as SimpleITK's notebook on segmentation evaluation does: contour voxels, distance maps."""
    import SimpleITK as sitk  # noqa: N813 - as everybody calls it

    images = []
    for mask in (reference, result):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(spacing_mm[::-1])
        images.append(image)
    distances = []
    for one, other in (images, images[::-1]):
        away = sitk.Abs(sitk.SignedMaurerDistanceMap(other, squaredDistance=False, useImageSpacing=True))
        on_surface = sitk.GetArrayViewFromImage(sitk.LabelContour(one)) == 1
        distances.append(sitk.GetArrayViewFromImage(away)[on_surface])
    both = np.concatenate(distances)
    return {"hd95_mm": float(np.percentile(both, 95)), "mean_surface_distance_mm": float(both.mean())}


def monai(reference: Any, result: Any, spacing_mm: Any, tolerance_mm: float) -> dict[str, float]:
    import torch
    from monai import metrics

    y, y_pred = (torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in (reference, result))
    hd95 = metrics.compute_hausdorff_distance(y_pred, y, percentile=95, spacing=spacing_mm)
    mean = metrics.compute_average_surface_distance(y_pred, y, symmetric=True, spacing=spacing_mm)
    dice = metrics.compute_surface_dice(y_pred, y, [tolerance_mm], spacing=spacing_mm)
    return {
        "hd95_mm": hd95.item(),
        "mean_surface_distance_mm": mean.item(),
        "surface_dice": dice.item(),
    }


def plastimatch(reference: Any, result: Any, spacing_mm: Any, _tolerance_mm: float) -> dict[str, float]:
    import SimpleITK as sitk  # noqa: N813 - as everybody calls it

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("reference.mha", "result.mha")]
        for mask, path in zip((reference, result), paths, strict=True):
            image = sitk.GetImageFromArray(mask.astype(np.uint8))
            image.SetSpacing(spacing_mm[::-1])
            sitk.WriteImage(image, path)
        said = subprocess.run(
            ["plastimatch", "dice", "--all", *paths], capture_output=True, text=True, check=True
        ).stdout
    figures = dict(re.findall(r"^([^=:]+?)\s*[=:]\s*([\d.]+)\s*$", said, re.MULTILINE))
    return {
        "hd95_mm": float(figures["Percent (0.95) Hausdorff distance (boundary)"]),
        "mean_surface_distance_mm": float(figures["Avg average Hausdorff distance (boundary)"]),
    }


TOOLS = {each.__name__: each for each in (surface_distance, medpy, simpleitk, monai, plastimatch)}


def main() -> None:
    tool, folder, tolerance_mm, spacing = sys.argv[1:]
    found = {}
    for path in sorted(Path(folder).glob("*.npz")):
        masks = np.load(path)
        spacing_mm = tuple(map(float, spacing.split(",")))
        reference, result = masks["reference"], masks["result"]
        started = time.process_time()
        found[path.stem] = TOOLS[tool](reference, result, spacing_mm, float(tolerance_mm))
        found[path.stem]["cpu_s"] = time.process_time() - started
    print(json.dumps(found))


if __name__ == "__main__":
    main()
