"""Whole cases through a network while it trains: overlapping patches, blended, and back to the case's own voxels.

As nnU-Net does it, and so as the node does it later, only simpler; a test compares the two.
"""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from node.training.plan import Plan, normalised, scales_of
from node.training.prepared import Prepared

# Patches of which less than this part is brighter than air show no patient: they are background.
_PATIENT = 0.01
# Of the patch's side; so that its middle counts for more than its edges.
_SIGMA = 1 / 8


def labels_of(network: torch.nn.Module, prepared: Prepared, plan: Plan, step: float = 0.5) -> NDArray[np.uint8]:
    """Give a case's labels, ``[slice, row, column]``, on its own grid.

    Parameters
    ----------
    step
        Patches are this part of their side apart.
    """
    device = next(network.parameters()).device
    voxels = np.asarray(prepared.image)
    image = torch.from_numpy(normalised(voxels, scales_of(voxels, plan)))[None]
    shape = [
        max(1, round(side * given / wanted))
        for side, given, wanted in zip(prepared.labels.shape, prepared.spacing_mm, plan.spacing_mm, strict=True)
    ]
    resampled = functional.interpolate(image, shape, mode="trilinear").to(device)
    scores = _blended(network, resampled, plan, step)
    back = functional.interpolate(scores, tuple(prepared.labels.shape), mode="trilinear")
    return np.asarray(back[0].argmax(dim=0).to(torch.uint8).cpu().numpy())


def _blended(network: torch.nn.Module, image: torch.Tensor, plan: Plan, step: float) -> torch.Tensor:
    patch, shape = plan.recipe.patch, image.shape[2:]
    missing = [max(0, wanted - given) for wanted, given in zip(patch, shape, strict=True)]
    pad = [part for each in reversed(missing) for part in (each // 2, each - each // 2)]
    padded = functional.pad(image, pad)
    weights = _weights(patch, image.device)
    scores = torch.zeros((1, len(plan.organs) + 1, *padded.shape[2:]), device=image.device)
    total = torch.zeros(padded.shape[2:], device=image.device)
    # Where no patch shows the patient.
    scores[:, 0] = torch.finfo(torch.float32).tiny
    bright = padded[0, 0] > (padded.amin() + padded.mean()) / 2
    with torch.inference_mode():
        for box in _boxes(tuple(padded.shape[2:]), patch, step):
            if float(bright[box].float().mean()) < _PATIENT:
                continue
            scores[(slice(None), slice(None), *box)] += network(padded[(slice(None), slice(None), *box)]) * weights
            total[box] += weights
    scores /= total.clamp(min=torch.finfo(torch.float32).tiny)
    inner = [slice(each // 2, each // 2 + side) for each, side in zip(missing, shape, strict=True)]
    return scores[(slice(None), slice(None), *inner)]


def _boxes(shape: tuple[int, ...], patch: tuple[int, int, int], step: float) -> Iterator[tuple[slice, slice, slice]]:
    starts = []
    for side, wanted in zip(shape, patch, strict=True):
        count = math.ceil((side - wanted) / (wanted * step)) + 1
        apart = (side - wanted) / max(count - 1, 1)
        starts.append([round(apart * number) for number in range(count)])
    for z, y, x in product(*starts):
        yield slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2])


def _weights(patch: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    weights = torch.ones(patch)
    for axis, side in enumerate(patch):
        places = (torch.arange(side) - side // 2) / (side * _SIGMA)
        shape = [1, 1, 1]
        shape[axis] = side
        weights = weights * torch.exp(-0.5 * places**2).reshape(shape)
    return weights.clamp(min=float(weights[weights > 0].min())).to(device)
