"""What a training has come to: its curve, and whether to go on, to cool down or to stop."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from node.adapters.durable import write_durably
from node.domain.errors import SetupError
from node.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the validation cases."""

    step: int
    # Mean of the training loss since the look before.
    loss: float
    learning_rate: float
    # Mean over the validation cases in which an organ was contoured; None where it was in none.
    dice: Mapping[str, float | None]
    # Seconds of training so far, over all sessions.
    trained_s: float

    @property
    def mean_dice(self) -> float:
        """Give the mean over the organs that are known."""
        found = [each for each in self.dice.values() if each is not None]
        return sum(found) / len(found) if found else 0.0


@dataclass(slots=True, kw_only=True)
class History:
    """All looks, and when the learning rate began to fall."""

    looks: list[Look] = field(default_factory=list)
    # Step from which the learning rate falls, and the last step; None while it is still full.
    falls_from: int | None = None
    ends_at: int | None = None

    def add(self, look: Look, recipe: Recipe) -> None:
        """Take a look in; begins the fall of the learning rate once the validation no longer improves."""
        self.looks.append(look)
        if self.falls_from is None and (look.step >= recipe.steps or self._idle(recipe.patience)):
            self.begin_fall(look.step, recipe)

    def begin_fall(self, step: int, recipe: Recipe) -> None:
        """Let the learning rate fall from here on."""
        self.falls_from = step
        self.ends_at = step + max(1, round(step * recipe.decay / (1 - recipe.decay)))

    def learning_rate(self, step: int, recipe: Recipe) -> float:
        """Give the learning rate of a step: a rise, a plain, and a fall to zero."""
        rate = recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warm_up_steps, 1))
        if self.falls_from is None or self.ends_at is None:
            return rate
        return rate * max(0.0, (self.ends_at - step) / (self.ends_at - self.falls_from))

    def is_over(self, step: int) -> bool:
        """Tell whether a step is beyond the last."""
        return self.ends_at is not None and step >= self.ends_at

    def until(self, step: int) -> "History":
        """Give what was known at a step: the state that goes with it may be older than the file of the history."""
        has_begun = self.falls_from is not None and self.falls_from <= step
        return History(
            looks=[each for each in self.looks if each.step <= step],
            falls_from=self.falls_from if has_begun else None,
            ends_at=self.ends_at if has_begun else None,
        )

    def _idle(self, patience: int) -> bool:
        means = [each.mean_dice for each in self.looks]
        return len(means) > patience and max(means[-patience:]) <= max(means[:-patience])


def write_history(history: History, path: Path) -> None:
    """Write the history as JSON; after a power cut it is there whole, or as it was before."""
    write_durably(path, (json.dumps(asdict(history), indent=1) + "\n").encode())


def read_history(path: Path) -> History:
    """Read it back.

    Raises
    ------
    SetupError
        It is not there, or damaged.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        looks = [Look(**each) for each in said["looks"]]
        return History(looks=looks, falls_from=said["falls_from"], ends_at=said["ends_at"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(
            f"{path} is missing or damaged ({type(error).__name__}): nobody knows how far the training was.",
            "Bring it back from a backup, or remove the folder of the training to begin anew.",
        ) from error
