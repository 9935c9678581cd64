"""Patches that a network learns from: drawn around organs, turned, scaled, mirrored and disturbed, all from a seed.

One interpolation leads from the case's own voxels to the network's grid. Labels become shares of each voxel, between 0
and 1, so that an edge between two voxels stays where it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from node.dataset.names import NO_TABLE
from node.domain.tg263 import place_of_side, side_of
from node.inference.normalisation import Scale
from node.training.plan import Plan, normalised, scales_of
from node.training.prepared import Prepared

# Part of the patches that are drawn around a voxel of an organ; the others around any voxel of the patient.
_AROUND_ORGANS = 0.8
# Below this, in units of the normalised image above its smallest value, there is air.
_AIR = 0.3


_OTHER = {"L": "R", "R": "L"}


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What one step learns from."""

    # (channel, slice, row, column), normalised.
    image: torch.Tensor
    # (class, slice, row, column): the share of each voxel that belongs to a class, 0 the background. Sums to 1 within
    # the image and to 0 beyond it.
    shares: torch.Tensor
    # (class,): whether the class was contoured here; the background always.
    known: torch.Tensor


class PatchMaker:
    """Makes the patch of each step."""

    def __init__(self, cases: Sequence[Prepared], plan: Plan) -> None:
        self._cases = cases
        self._plan = plan
        self._twins, self._alone = twins(plan.organs), alone(plan.organs)
        # Of each case that was met, by its place.
        self._scales: dict[int, tuple[Scale, ...]] = {}

    def patch(self, step: int) -> Patch:
        """Make the patch of a step; the same step gives the same patch."""
        rng = np.random.default_rng((self._plan.recipe.seed, step))
        # Every case once in each round, in an order of its own.
        round_, place = divmod(step, len(self._cases))
        order = np.random.default_rng((self._plan.recipe.seed, 1 << 32, round_)).permutation(len(self._cases))
        number = int(order[place])
        prepared = self._cases[number]
        if number not in self._scales:
            self._scales[number] = scales_of(prepared.image, self._plan)
        mirrored = rng.random() < self._plan.recipe.augmentation.mirrored
        centre = self._centre(prepared, rng)
        image, shares = self._sampled(prepared, self._scales[number], centre, rng, mirrored)
        known = torch.tensor([True, *(organ in prepared.case.contoured for organ in self._plan.organs)])
        if mirrored:
            shares, known = self._exchanged(shares, known)
        return Patch(image=disturbed(image, self._plan, rng), shares=shares, known=known)

    def _exchanged(self, shares: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Let sided organs change places with their twins.

        Where the network has one side only, what stands on the other now is no example of it, nor is the place where
        it would be: nothing is learned of it from this patch.
        """
        shares, known = shares[self._twins], known[self._twins]
        shares[0] += shares[self._alone].sum(dim=0)
        shares[self._alone] = 0
        known[self._alone] = False
        return shares, known

    def _centre(self, prepared: Prepared, rng: np.random.Generator) -> NDArray[np.float64]:
        """Choose the voxel index at the centre of a patch."""
        present = [
            value
            for value, organ in enumerate(self._plan.organs, start=1)
            if organ in prepared.case.contoured and (prepared.labels == value).any()
        ]
        if present and rng.random() < _AROUND_ORGANS:
            candidates = np.argwhere(prepared.labels == rng.choice(present))
        else:
            coarse = np.asarray(prepared.image[0, ::2, ::2, ::2])
            # The patient is brighter than the mean of patient and air.
            candidates = np.argwhere(coarse > coarse.mean()) * 2
        if not len(candidates):
            candidates = np.array([np.array(prepared.labels.shape) // 2])
        chosen = candidates[rng.integers(len(candidates))].astype(np.float64)
        side_mm = np.array(self._plan.recipe.patch) * self._plan.spacing_mm
        reach = self._plan.recipe.augmentation.translation
        return np.asarray(chosen + rng.uniform(-reach, reach, 3) * side_mm / prepared.spacing_mm)

    def _sampled(
        self,
        prepared: Prepared,
        scales: Sequence[Scale],
        centre: NDArray[np.float64],
        rng: np.random.Generator,
        mirrored: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        plan = self._plan
        # From the patch's voxels, counted from its centre, to the case's.
        turn = _turn(plan, rng, mirrored) * np.array(plan.spacing_mm) / np.array(prepared.spacing_mm)[:, np.newaxis]
        half = (np.array(plan.recipe.patch) - 1) / 2
        reach = np.abs(turn) @ half
        start = np.maximum(np.floor(centre - reach).astype(int) - 1, 0)
        stop = np.minimum(np.ceil(centre + reach).astype(int) + 2, prepared.labels.shape)
        stop = np.maximum(stop, start + 2)
        start = np.maximum(np.minimum(start, np.array(prepared.labels.shape) - 2), 0)
        box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        image = torch.from_numpy(normalised(np.asarray(prepared.image[(slice(None), *box)]), scales))
        labels = torch.from_numpy(np.asarray(prepared.labels[box]).astype(np.int64))
        shares = functional.one_hot(labels, len(plan.organs) + 1).permute(3, 0, 1, 2).float()
        grid = _grid(turn, centre - start, tuple(labels.shape), plan.recipe.patch)
        taken = functional.grid_sample(torch.cat([image, shares])[None], grid, align_corners=True)[0]
        return taken[: len(plan.channels)], taken[len(plan.channels) :]


def twins(organs: Sequence[str]) -> list[int]:
    """Give, for each class (0 the background), the class it becomes when left and right change places."""
    told = [_sided(name) for name in organs]
    known = {each: value for value, each in enumerate(told, start=1)}
    return [
        0,
        *(
            known.get((_OTHER[side], rest), value) if side else value
            for value, (side, rest) in enumerate(told, start=1)
        ),
    ]


def alone(organs: Sequence[str]) -> list[int]:
    """Give the classes of one side, in whatever language, whose twin is none of the organs."""
    found = twins(organs)
    return [value for value, name in enumerate(organs, start=1) if found[value] == value and NO_TABLE.side(name)]


def _sided(name: str) -> tuple[str, str]:
    """Give the side that a name states, however it spells it, and the name without it."""
    place = place_of_side(name)
    if place is None:
        return "", name
    return side_of(name), f"{name[: place.start]}|{name[place.stop :]}"


def _turn(plan: Plan, rng: np.random.Generator, mirrored: bool) -> NDArray[np.float64]:
    """Give a matrix from millimetres of the patch to millimetres of the case, (slice, row, column)."""
    how = plan.recipe.augmentation
    about = np.radians(rng.uniform(-1, 1, 3) * (how.rotation_degrees, how.tilt_degrees, how.tilt_degrees))
    turn = np.eye(3)
    for axis, angle in enumerate(about):
        one, other = (each for each in range(3) if each != axis)
        step = np.eye(3)
        step[one, one] = step[other, other] = math.cos(angle)
        step[one, other], step[other, one] = -math.sin(angle), math.sin(angle)
        turn = turn @ step
    whole = (1 + how.scaling) ** rng.uniform(-1, 1)
    factors = whole * (1 + how.stretching) ** rng.uniform(-1, 1, 3)
    if mirrored:
        factors[2] = -factors[2]
    return np.asarray(turn * factors)


def _grid(
    turn: NDArray[np.float64], centre: NDArray[np.float64], shape: tuple[int, ...], patch: tuple[int, int, int]
) -> torch.Tensor:
    """Give the places of a patch's voxels as ``grid_sample`` wants them: -1 to 1, column first."""
    axes = [torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in patch]
    matrix = torch.from_numpy(turn.astype(np.float32))
    # Each axis of the patch adds its part; broadcasting spares the list of all points.
    parts = [axis[:, None] * matrix[:, number] for number, axis in enumerate(axes)]
    points = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :]
    points = points + torch.from_numpy(centre.astype(np.float32))
    ends = torch.tensor([max(side - 1, 1) for side in shape], dtype=torch.float32)
    return (points * (2 / ends) - 1).flip(-1)[None]


def disturbed(image: torch.Tensor, plan: Plan, rng: np.random.Generator) -> torch.Tensor:
    """Change the values of a patch as another scanner, another dose and another couch would."""
    how = plan.recipe.augmentation
    if rng.random() < how.with_supports:
        image = _with_support(image, rng)
    if rng.random() < how.blurred:
        image = _blurred(image, rng.uniform(0, how.blur_mm), plan.spacing_mm)
    factor = (1 + how.contrast) ** rng.uniform(-1, 1)
    image = image * factor + rng.uniform(-how.shift, how.shift)
    noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return image + noise * rng.uniform(0, how.noise)


def _blurred(image: torch.Tensor, sigma_mm: float, spacing_mm: Sequence[float]) -> torch.Tensor:
    for axis, step_mm in enumerate(spacing_mm):
        sigma = sigma_mm / step_mm
        if sigma < 0.2:
            continue
        places = torch.arange(-3, 4, dtype=torch.float32)
        weights = torch.exp(-0.5 * (places / sigma) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = len(weights)
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = 3
        padded = functional.pad(image[:, None], pad, mode="replicate")
        image = functional.conv3d(padded, (weights / weights.sum()).reshape(shape))[:, 0]
    return image


def _with_support(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Draw a flat or bent sheet of some density behind or around the patient, where there is air."""
    _, slices, rows, columns = image.shape
    low, high = float(image.min()), float(image.max())
    row = torch.arange(rows, dtype=torch.float32)[:, None]
    column = torch.arange(columns, dtype=torch.float32)[None, :]
    bend = rng.uniform(-0.01, 0.01)
    sheet = row - rng.uniform(0.4, 1.0) * rows + bend * (column - rng.uniform(0.3, 0.7) * columns) ** 2
    inside = (sheet.abs() < rng.uniform(0.5, 3.0)).expand(slices, rows, columns)
    value = low + (high - low) * rng.uniform(0.1, 0.9)
    air = image[0] < low + _AIR
    changed = image.clone()
    changed[:, inside & air] = value
    return changed
