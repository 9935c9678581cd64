"""The training itself: steps, looks at the validation cases, and a state on disk from which it goes on."""

import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from node.adapters.durable import sync_folder
from node.domain.errors import SetupError
from node.training.loss import masked_loss
from node.training.patches import Patch, PatchMaker
from node.training.plan import Plan, architecture
from node.training.prepared import Prepared
from node.training.progress import History, Look, read_history, write_history
from node.training.whole import labels_of

STATE, HISTORY = "state.pth", "history.json"
# Patches of the validation cases overlap by a quarter: a look shall cost less than what it looks at.
_STEP = 0.75
# Longer steps than this in weight space are the work of one odd patch.
_CLIP = 12.0


class Watcher(Protocol):
    """Whom a training tells how far it is."""

    def stepped(self, step: int, loss: float) -> None:
        """A step is done."""

    def looked(self, look: Look) -> None:
        """The validation cases were looked at."""


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains one network; a folder of its own keeps its state."""

    plan: Plan
    training: Sequence[Prepared]
    validation: Sequence[Prepared]
    folder: Path
    device: torch.device
    # Asked after every step: save and stop?
    stop: Callable[[], bool]

    def run(self, watcher: Watcher) -> "Trained | None":
        """Train until the validation no longer improves; None where it was stopped before, to go on another time.

        Raises
        ------
        SetupError
            The folder holds the state of a training with another plan, or the loss is no longer a number.
        """
        work = _Work(self)
        while not work.history.is_over(work.step):
            watcher.stepped(work.step, work.learn())
            is_due = work.step % self.plan.recipe.check_every == 0 or work.step == self.plan.recipe.steps
            if is_due or work.history.is_over(work.step):
                look = work.look()
                # Whatever becomes of the telling.
                work.save()
                watcher.looked(look)
            if self.stop():
                work.save()
                return None
        return Trained(network=work.average.module, history=work.history)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gives."""

    network: torch.nn.Module
    history: History


def build_network(plan: Plan) -> torch.nn.Module:
    """Build the network of a plan by nnU-Net's own classes, with its scores at every stage of the decoder."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: PLC0415 - slow to import

    said = architecture(plan)
    network: torch.nn.Module = get_network_from_plans(
        said["network_class_name"],
        said["arch_kwargs"],
        said["_kw_requires_import"],
        len(plan.channels),
        len(plan.organs) + 1,
        deep_supervision=True,
    )
    return network


def dice_of(found: NDArray[np.uint8], wanted: NDArray[np.uint8], value: int) -> float:
    """Give the Dice of one label; 1 where neither has it."""
    one, other = found == value, wanted == value
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


class _Work:
    """What changes while a network is trained."""

    def __init__(self, trainer: Trainer) -> None:
        recipe = trainer.plan.recipe
        self._trainer = trainer
        self._patches = PatchMaker(trainer.training, trainer.plan)
        torch.manual_seed(recipe.seed)
        # Channels last is what convolutions on a CPU, and half precision on a GPU, are fastest with.
        self._network = build_network(trainer.plan).to(trainer.device, memory_format=torch.channels_last_3d)
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.average = AveragedModel(self._network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
        self.history = History()
        self.step = 0
        self._losses: list[float] = []
        self._trained_s = 0.0
        self._since = time.monotonic()
        trainer.folder.mkdir(parents=True, exist_ok=True)
        if (trainer.folder / STATE).exists():
            self._resume()

    def learn(self) -> float:
        """Do one step; gives its loss."""
        recipe, device = self._trainer.plan.recipe, self._trainer.device
        for group in self._optimiser.param_groups:
            group["lr"] = self.history.learning_rate(self.step, recipe)
        first = self.step * recipe.batch
        batch = [self._patches.patch(first + number) for number in range(recipe.batch)]
        # bfloat16 where the device has units for it; sums stay in float32.
        with torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device)):
            stages = self._network(_stacked(batch, "image", device).contiguous(memory_format=torch.channels_last_3d))
        loss = _staged_loss(stages, _stacked(batch, "shares", device), _stacked(batch, "known", device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _CLIP)
        self._optimiser.step()
        self._optimiser.zero_grad()
        # The first steps are not worth remembering.
        if self.step >= recipe.warm_up_steps:
            self.average.update_parameters(self._network)
        else:
            self.average.module.load_state_dict(self._network.state_dict())
        self.step += 1
        self._losses.append(float(loss.detach()))
        if not np.isfinite(self._losses[-1]):
            raise SetupError(f"The loss of step {self.step} is no finite number.", "Lower learning_rate in the recipe.")
        return self._losses[-1]

    def look(self) -> Look:
        """Look at the validation cases with the averaged weights."""
        network = self.average.module.eval()
        network.decoder.deep_supervision = False
        dice = validated(network, self._trainer.validation, self._trainer.plan)
        network.decoder.deep_supervision = True
        network.train()
        look = Look(
            step=self.step,
            loss=float(np.mean(self._losses)),
            learning_rate=self.history.learning_rate(self.step, self._trainer.plan.recipe),
            dice=dice,
            trained_s=self._seconds(),
        )
        self._losses = []
        self.history.add(look, self._trainer.plan.recipe)
        return look

    def save(self) -> None:
        """Keep everything from which a later session goes on; whole or not at all.

        The state is the last to take its place: of a history that is newer, `_resume` takes what was known then.
        """
        state = {
            "plan": _comparable(self._trainer.plan),
            "step": self.step,
            "trained_s": self._seconds(),
            "losses": self._losses,
            "network": self._network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        path = self._trainer.folder / STATE
        # Into a file of ours: torch's own tells a full disk as a fault of its own.
        with path.with_suffix(".new").open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        write_history(self.history, self._trainer.folder / HISTORY)
        path.with_suffix(".new").replace(path)
        sync_folder(self._trainer.folder)

    def _resume(self) -> None:
        folder = self._trainer.folder
        state = _read_state(folder / STATE, self._trainer.device)
        if state["plan"] != _comparable(self._trainer.plan):
            raise SetupError(
                f"{folder} holds a training with another recipe, or of another training set.",
                "Name another folder, or remove this one to begin anew.",
            )
        self.history = read_history(folder / HISTORY).until(state["step"])
        self.step, self._trained_s, self._losses = state["step"], state["trained_s"], state["losses"]
        self._network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])

    def _seconds(self) -> float:
        return self._trained_s + time.monotonic() - self._since


def validated(network: torch.nn.Module, cases: Sequence[Prepared], plan: Plan) -> dict[str, float | None]:
    """Give the mean Dice of each organ over the cases in which it was contoured; None where it was in none."""
    found: dict[str, list[float]] = {organ: [] for organ in plan.organs}
    for prepared in cases:
        labels = labels_of(network, prepared, plan, step=_STEP)
        for value, organ in enumerate(plan.organs, start=1):
            if organ in prepared.case.contoured:
                found[organ].append(dice_of(labels, prepared.labels, value))
    return {organ: float(np.mean(each)) if each else None for organ, each in found.items()}


def _read_state(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    # What torch, zip and pickle say of a file that is none of theirs.
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise SetupError(
            f"{path} is damaged ({type(error).__name__}).",
            "Bring it back from a backup, or remove the folder of the training to begin anew.",
        ) from error
    return state


def _staged_loss(stages: Sequence[torch.Tensor], shares: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Weigh the scores of each stage, from full resolution down, half as much as those before."""
    total, weights = shares.new_zeros(()), 0.0
    for number, scores in enumerate(stages):
        smaller = shares if number == 0 else functional.adaptive_avg_pool3d(shares, scores.shape[2:])
        total = total + masked_loss(scores, smaller, known) / 2**number
        weights += 1 / 2**number
    return total / weights


def _stacked(batch: Sequence[Patch], name: str, device: torch.device) -> torch.Tensor:
    return torch.stack([getattr(patch, name) for patch in batch]).to(device)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())


def _comparable(plan: Plan) -> dict[str, Any]:
    """Give what must be the same for a training to go on: all but where it may stop."""
    said = asdict(plan)
    for name in ("steps", "patience", "decay", "check_every"):
        del said["recipe"][name]
    return said
