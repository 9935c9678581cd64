"""What a training leaves: a results folder as nnU-Net v2 leaves one, which the importer, and nnU-Net itself, read."""

import json
from pathlib import Path

import torch

from node.training.plan import CONFIGURATION, PLANS, TRAINER, Plan, dataset_json, plans_json
from node.training.progress import History, write_history

CHECKPOINT = "checkpoint_final.pth"


def write_results_folder(
    network: torch.nn.Module, plan: Plan, history: History, training_cases: int, folder: Path
) -> Path:
    """Write the trained network; gives the folder that `delineate model import nnunet` takes.

    Weights are rounded to float16, which every later number is measured with: the package then holds them exactly in
    half the bytes.
    """
    results = folder / plan.name / f"{TRAINER}__{PLANS}__{CONFIGURATION}"
    fold = results / "fold_0"
    fold.mkdir(parents=True, exist_ok=True)
    for name, content in (("plans.json", plans_json(plan)), ("dataset.json", dataset_json(plan, training_cases))):
        (results / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    checkpoint = {
        "network_weights": half_rounded(network),
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": len(history.looks),
        "init_args": {"configuration": CONFIGURATION, "fold": 0},
        "trainer_name": TRAINER,
        # Left and right would change places, and nnU-Net knows no twins.
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, fold / CHECKPOINT)
    write_history(history, fold / "history.json")
    return results


def half_rounded(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Give the weights, each rounded to a number that float16 holds, in float32."""
    return {
        name: value.detach().cpu().to(torch.float16).to(torch.float32) if value.is_floating_point() else value.cpu()
        for name, value in network.state_dict().items()
    }
