"""What a network is punished for: cross-entropy and Dice, of what was contoured only.

An organ that nobody contoured in a case may be anywhere in it. There its score counts as background's: the network may
call such a voxel either, and learns nothing of the difference (the marginal loss of Shi et al., Medical Image Analysis
70, 2021, 101979). Dice is asked of contoured organs alone.
"""

import torch
from torch.nn import functional

# Organs are a hundredth of a patch: without a weight of their own it takes thousands of steps until one is found.
_ORGAN = 10.0
# Voxels that keep the Dice of a tiny organ from jumping.
_SMOOTH = 1.0


def masked_loss(scores: torch.Tensor, shares: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Give the loss of a batch; a voxel of an organ weighs ten times one of the background.

    Parameters
    ----------
    scores
        (batch, class, slice, row, column), before softmax.
    shares
        The same shape: the share of each voxel that belongs to a class; all zero where there is no image.
    known
        (batch, class): whether a class was contoured; class 0, the background, always is.
    """
    logs = _marginal(functional.log_softmax(scores.float(), dim=1), known)
    inside = shares.sum(dim=1)
    weight = 1 + (_ORGAN - 1) * shares[:, 1:].sum(dim=1)
    entropy = -(shares * logs * known[:, :, None, None, None]).sum(dim=1)
    mean = (entropy * weight).sum() / (inside * weight).sum().clamp(min=1)
    return mean + _dice_loss(logs.exp(), inside, shares, known)


def _marginal(logs: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Add to the background's probability those of the classes that are not known."""
    unknown = ~known
    if not bool(unknown.any()):
        return logs
    together = unknown.clone()
    together[:, 0] = True
    background = logs.masked_fill(~together[:, :, None, None, None], -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, logs[:, 1:]], dim=1)


def _dice_loss(
    probabilities: torch.Tensor, inside: torch.Tensor, shares: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    places = (2, 3, 4)
    both = (probabilities * shares).sum(places)
    either = (probabilities * inside[:, None]).sum(places) + shares.sum(places)
    dice = (2 * both + _SMOOTH) / (either + _SMOOTH)
    asked = known & (shares.sum(places) > _SMOOTH)
    asked[:, 0] = False
    return 1 - dice[asked].mean() if bool(asked.any()) else dice.sum() * 0
