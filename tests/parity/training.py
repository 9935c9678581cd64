"""Train a tiny network on drawn organs and leave what nnU-Net leaves: a results folder.

Runs in the place that `tests.parity.environment` makes, from the root of the checkout::

    python -m tests.parity.training OUT          # prints the folder of the data set

The network, its plans and the checkpoint's keys are nnU-Net's; the loop is a plain one of this file.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from tests.parity import results_folder
from tests.parity.cases import Case
from tests.parity.organs import ORGANS, organs

STEPS = 60
CASE = Case(
    name="organs",
    shows="a network that has learned something",
    plan_spacing_mm=(4.0, 4.0, 4.0),
    patch_size=(24, 24, 32),
    labels={"background": 0, **{name: value for value, name in enumerate(ORGANS, start=1)}},
    shape=(44, 32, 40),
)


def main() -> None:
    """Write the results folder, trained, below the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Train a tiny network on drawn organs.")
    parser.add_argument("out", type=Path)
    folder = results_folder.write_case(CASE, parser.parse_args().out)
    path = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    losses = train(checkpoint)
    # As nnU-Net's own logs have it, numbers of NumPy.
    checkpoint["logging"] = {"my_fantastic_logging": {"train_losses": [np.float32(each) for each in losses]}}
    checkpoint["_best_ema"] = np.float64(0.9)
    torch.save(checkpoint, path)
    print(folder.parent)


def train(checkpoint: dict[str, Any]) -> list[float]:
    """Train the weights of a checkpoint; gives the loss of each step."""
    torch.manual_seed(7)
    network = _network(checkpoint)
    image, labels = (torch.from_numpy(each) for each in _example())
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    weights, losses = torch.tensor([0.3, 1.0, 1.0]), []
    for _ in range(STEPS):
        at = [
            int(torch.randint(0, size - patch + 1, (1,)))
            for size, patch in zip(CASE.shape, CASE.patch_size, strict=True)
        ]
        part = tuple(slice(start, start + patch) for start, patch in zip(at, CASE.patch_size, strict=True))
        loss = torch.nn.functional.cross_entropy(network(image[part][None, None]), labels[part][None], weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    checkpoint["network_weights"] = network.state_dict()
    checkpoint["optimizer_state"] = optimiser.state_dict()
    return losses


def _network(checkpoint: dict[str, Any]) -> torch.nn.Module:
    configuration = PlansManager(results_folder.plans(CASE)).get_configuration(results_folder.CONFIGURATION)
    network: torch.nn.Module = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        len(CASE.channels),
        len(CASE.labels),
        deep_supervision=False,
    )
    network.load_state_dict(checkpoint["network_weights"])
    return network.train()


def _example() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw the organs at the plan's spacing, normalised as CT is; axes run to head, back and left."""
    z, y, x = (
        ((np.arange(size) - (size - 1) / 2) * spacing).reshape([-1 if axis == own else 1 for axis in range(3)])
        for own, (size, spacing) in enumerate(zip(CASE.shape, CASE.plan_spacing_mm, strict=True))
    )
    values, labels = organs(x, y, z)
    known = results_folder.CT_INTENSITIES
    clipped = values.clip(known["percentile_00_5"], known["percentile_99_5"])
    return ((clipped - known["mean"]) / known["std"]).astype(np.float32), labels.astype(np.int64)


if __name__ == "__main__":
    main()
