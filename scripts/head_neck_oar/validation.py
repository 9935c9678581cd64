"""The validation patients through the whole node and through the training's own code, and how far the two agree.

Through the node: each CT becomes a DICOM series, `delineate contour` draws, and the contours of the RT Structure Set
are rasterised again by the reader of foreign structure sets. By the training's code: the shipped network in torch's
place, in `node.training.whole`, and the largest piece of each organ.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from pydicom import dcmread
from scipy import ndimage

from node.adapters.model_store import ModelStore
from node.dataset.nifti import Image, read_nifti, write_nifti
from node.dataset.raw import Case, TrainingSet, read_training_set
from node.dataset.regions import draw
from node.dicom.archived_structures import read_region, structure_set_facts
from node.domain.grid import Grid
from node.inference.network_tables import WindowedInput
from node.training.plan import Intensities, Plan
from node.training.prepared import Prepared
from node.training.recipe import Recipe
from node.training.whole import labels_of
from tests.builders import ct_series, grid, save_series

NAME = "head-neck-oar"
# Of Dice; what the two ways may differ by, in the mean of an organ.
BOUND = 0.01


class OnnxNetwork(torch.nn.Module):
    """The shipped network where the training's code expects its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._given = self._session.get_inputs()[0].name

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        (scores,) = self._session.run(None, {self._given: patch.contiguous().numpy()})
        return torch.from_numpy(scores)


def validate(dataset: Path, models: Path, as_json: Path | None) -> int:
    """Measure, print the table, and tell by the exit status whether the two ways agree."""
    training_set = read_training_set(dataset)
    cases = training_set.of("validation")
    plan, network = _shipped(training_set, models)
    with tempfile.TemporaryDirectory() as scratch:
        ways = {way: Path(scratch) / way for way in ("node", "training code")}
        for folder in ways.values():
            folder.mkdir()
            (folder / "dataset.json").write_text((dataset / "dataset.json").read_text(encoding="utf-8"))
        for case in cases:
            print(f"{case.name} ...", file=sys.stderr, flush=True)
            image = read_nifti(training_set.images(case)[0])
            through_node = _through_node(case, image, models, Path(scratch) / case.name, training_set.organs)
            by_code = _by_training_code(case, image, network, plan)
            for way, labels in (("node", through_node), ("training code", by_code)):
                written = Image(voxels=labels, affine_lps_mm=image.affine_lps_mm)
                write_nifti(ways[way] / f"{case.name}.nii.gz", written)
        reports = {way: _evaluated(dataset, folder) for way, folder in ways.items()}
    return _told(reports, as_json)


def _shipped(training_set: TrainingSet, models: Path) -> tuple[Plan, OnnxNetwork]:
    loaded = ModelStore([models]).load(NAME)
    wanted = loaded.package.input
    assert isinstance(wanted, WindowedInput)
    (channel,) = wanted.channels
    assert channel.clip is not None
    plan = Plan(
        name=NAME,
        channels=("CT",),
        organs=training_set.organs,
        spacing_mm=wanted.spacing_mm,
        intensities=(
            Intensities(
                percentile_00_5=channel.clip[0],
                percentile_99_5=channel.clip[1],
                mean=channel.mean,
                std=channel.standard_deviation,
            ),
        ),
        recipe=Recipe(patch=wanted.window.patch),
    )
    return plan, OnnxNetwork(loaded.graph_paths[0])


def _through_node(case: Case, image: Image, models: Path, folder: Path, organs: tuple[str, ...]) -> NDArray[np.uint8]:
    stack = _stack(case, image)
    files = save_series(ct_series(stack, voxels=image.voxels.astype(np.int16), series=case.name), folder / "ct")
    command = [sys.executable, "-m", "node", "contour", str(folder / "ct"), str(folder / "out"), "--model", NAME]
    done = subprocess.run(
        [*command, "--model-dir", str(models), "--outputs", "rtstruct"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{case.name}: {done.stderr or done.stdout}")
    (written,) = (folder / "out").rglob("*.dcm")
    frame = str(dcmread(files[0], stop_before_pixels=True).FrameOfReferenceUID)
    return _rasterised(written, stack, frame, organs)


def _stack(case: Case, image: Image) -> Grid:
    x, y, z = (float(each) for each in image.affine_lps_mm[:3, 3])
    slices, rows, columns = image.voxels.shape
    return grid(
        slices=slices,
        rows=rows,
        columns=columns,
        origin_lps_mm=(x, y, z),
        spacing_mm=image.spacing_mm,
        series=case.name,
    )


def _rasterised(path: Path, stack: Grid, frame: str, organs: tuple[str, ...]) -> NDArray[np.uint8]:
    structure_set = dcmread(path)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    for named in structure_set_facts(structure_set).regions:
        # The end of the scan cuts the organ: TG-263 marks its name.
        organ = named.name.replace("~", "")
        labels[draw(read_region(structure_set, named.number), stack, frame).mask] = organs.index(organ) + 1
    return labels


def _by_training_code(case: Case, image: Image, network: OnnxNetwork, plan: Plan) -> NDArray[np.uint8]:
    prepared = Prepared(
        case=case,
        image=image.voxels[np.newaxis],
        labels=np.zeros(image.voxels.shape, dtype=np.uint8),
        spacing_mm=image.spacing_mm,
        source_spacing_mm=image.spacing_mm,
    )
    labels = labels_of(network, prepared, plan)
    for value in range(1, len(plan.organs) + 1):
        pieces, count = ndimage.label(labels == value)
        if count > 1:
            sizes = np.bincount(pieces.ravel())[1:]
            labels[(pieces > 0) & (pieces != sizes.argmax() + 1)] = 0
    return labels


def _evaluated(dataset: Path, results: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "node", "evaluate", str(dataset), str(results), "--split", "validation", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return dict(json.loads(done.stdout))


def _told(reports: Mapping[str, dict[str, Any]], as_json: Path | None) -> int:
    through_node, by_code = ({each["organ"]: each for each in reports[way]["organs"]} for way in reports)
    rows, holds = [], True
    for organ, found in through_node.items():
        dice, same = found["dice"], by_code[organ]["dice"]
        apart = abs(dice["mean"] - same["mean"])
        holds &= apart <= BOUND
        rows.append(
            {
                "organ": organ,
                "patients": found["patients"],
                "missing": found["missing"],
                **{name: found[name] for name in ("dice", "surface_dice", "hd95_mm", "mean_surface_distance_mm")},
                "dice_by_training_code": same["mean"],
                "holds": apart <= BOUND,
            }
        )
    if as_json is not None:
        as_json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("| organ | patients | Dice [95 %] | surface Dice 2 mm | HD95 mm | mean surface mm | Dice by training code |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [_cell(row[name]) for name in ("dice", "surface_dice", "hd95_mm", "mean_surface_distance_mm")]
        print(f"| {row['organ']} | {row['patients']} | {' | '.join(cells)} | {row['dice_by_training_code']:.3f} |")
    print(f"\nThe two ways differ by at most {BOUND} of mean Dice: {'holds' if holds else 'falls short'}")
    return 0 if holds else 1


def _cell(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "none"
    interval = estimate["mean_interval"]
    return f"{estimate['mean']:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
