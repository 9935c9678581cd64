"""Results folders of random weights, what nnU-Net answers for them, and packages made of them.

Runs in the place that `tests.parity.environment` makes, from the root of the checkout::

    python -m tests.parity.importing OUT --cases regions,mr_masked --tasks total_fast

Beside what `tests.parity.reference` and `tests.parity.whole_body` write, ``OUT/models/<case>/`` are packages, and so
are ``OUT/models/ts-<number>/``; ``OUT/<task>.npz`` holds image, labels and affine of a task of TotalSegmentator.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing,
    remove_all_but_largest_component_from_segmentation,
)

from node.convert.nnunet import import_nnunet
from node.convert.package_folder import Imported
from node.convert.refusals import ImportOptions
from node.convert.totalsegmentator import import_totalsegmentator
from node.domain.errors import SetupError
from node.inference.predictor import no_progress
from tests.parity import reference, whole_body
from tests.parity.cases import Case, case

# What nnUNetv2_find_best_configuration leaves for a case: every foreground label taken together, and then one alone; a
# region, and then a label. It leaves labels as numbers of NumPy.
POSTPROCESSING: dict[str, list[Any]] = {
    "ct_two_folds": [list(np.unique([1, 2, 3, 4])), 2],
    "regions": [(1, 2, 3), 3],
}


def main() -> None:
    """Write what the command line names; ``OUT/imported.json`` tells what each import told."""
    parser = argparse.ArgumentParser(description="Make packages of networks of random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", default="")
    parser.add_argument("--tasks", default="")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    names = [*filter(None, arguments.cases.split(","))]
    told: dict[str, Any] = {name: _of_case(case(name), out) for name in names}
    if names:
        told["refused"] = _refused(out / "results" / f"Dataset900_{names[0]}", out)
    if tasks := [*filter(None, arguments.tasks.split(","))]:
        told |= _of_tasks(tasks, out)
    (out / "imported.json").write_text(json.dumps(told))


def _of_case(one: Case, out: Path) -> dict[str, Any]:
    reference.reference(one, out)
    results = out / "results" / f"Dataset900_{one.name}"
    if one.name in POSTPROCESSING:
        _write_postprocessing(one, results, out)
    options = ImportOptions(
        made_on="2026-11-21",
        name=one.name.replace("_", "-"),
        orientation="native",
        modality="CT",
        step=one.tile_step_size,
    )
    return _told(import_nnunet(results, out / "models", options, no_progress))


def _write_postprocessing(one: Case, results: Path, out: Path) -> None:
    kwargs = [{"labels_or_regions": each} for each in POSTPROCESSING[one.name]]
    functions = [remove_all_but_largest_component_from_segmentation] * len(kwargs)
    (folder,) = results.iterdir()
    found = folder / f"crossval_results_folds_{'_'.join(map(str, range(one.folds)))}"
    found.mkdir()
    save_pickle((functions, kwargs), str(found / "postprocessing.pkl"))
    with np.load(out / f"{one.name}.npz") as answer:
        np.save(out / f"{one.name}_tidied.npy", apply_postprocessing(answer["labels"], functions, kwargs))


def _refused(results: Path, out: Path) -> dict[str, str]:
    """Import a folder with checkpoints that are wrong in one way each; gives what was said."""
    (path,) = results.glob("*/fold_0/checkpoint_final.pth")
    sound = torch.load(path, weights_only=False)
    weights = sound["network_weights"]
    first, value = next(iter(weights.items()))
    wrong = {
        "program": {**sound, "logging": Path("a class of Python's, which is no plain value")},
        "no number": {**sound, "network_weights": {**weights, first: torch.full_like(value, torch.nan)}},
        "shape": {**sound, "network_weights": {**weights, first: value[:1]}},
        "trainer": {**sound, "trainer_name": "nnUNetTrainerOfMine"},
        "network of its own": {**sound, "trainer_name": "nnUNetTrainerBN"},
        "other": {"state_dict": weights},
    }
    return {name: _why(path, content, out) for name, content in wrong.items()}


def _why(path: Path, content: dict[str, Any], out: Path) -> str:
    torch.save(content, path.with_name("wrong.pth"))
    options = ImportOptions(
        made_on="2026-11-21", name="wrong", orientation="LPS", modality="CT", checkpoint="wrong.pth"
    )
    try:
        import_nnunet(path.parents[1], out / "models", options, no_progress)
    except SetupError as error:
        return error.reason
    return "nothing"


def _of_tasks(tasks: list[str], out: Path) -> dict[str, Any]:
    whole_body.prepare(out)
    for task in tasks:
        whole_body.reference(task, out)
        image, labels = (nibabel.load(out / task / f"{name}.nii.gz") for name in ("image", "labels"))
        np.savez(
            out / f"{task}.npz",
            image=np.asarray(image.dataobj),
            labels=np.asarray(labels.dataobj),
            affine=image.affine,
            **{path.name.split(".")[0]: nibabel.load(path).get_fdata() for path in (out / task / "parts").iterdir()},
        )
    options = ImportOptions(made_on="2026-11-21", name="ts-297" if tasks == ["total_fast"] else "ts")
    weights = out / "weights"
    if "liver_segments" in tasks:
        # Named alone: the network that finds its region lies beside it.
        (segments,) = weights.glob(f"Dataset{whole_body.LIVER_SEGMENTS}_*")
        of_region = import_totalsegmentator(segments, out / "models", replace(options, name="segments"), no_progress)
        return {each.folder.name: _told(each) for each in of_region}
    made = import_totalsegmentator(weights, out / "models", options, no_progress)
    return {each.folder.name: _told(each) for each in made}


def _told(imported: Imported) -> dict[str, Any]:
    return {"remarks": imported.remarks, **asdict(imported.comparison)}


if __name__ == "__main__":
    main()
