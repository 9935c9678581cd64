"""What a training may be told; each value has a default that trains a head-and-neck network on two cores."""

import math
import tomllib
from dataclasses import astuple, dataclass, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from node.domain.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How much every patch is changed before the network sees it. Half-widths of uniform distributions."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    # About the patient's long axis, and about the other two.
    rotation_degrees: float = 15.0
    tilt_degrees: float = 10.0
    # Factors between 1/(1+x) and 1+x: of the whole, and of each axis beside it.
    scaling: float = 0.2
    stretching: float = 0.06
    # Patches are this part of their side off the voxel they are drawn around.
    translation: float = 0.25
    # Left becomes right in this part of the patches, and every sided organ its twin.
    mirrored: float = 0.5
    # In units of the normalised image: noise, shift, contrast (a factor as above).
    noise: float = 0.2
    shift: float = 0.1
    contrast: float = 0.15
    # Part of the patches that are blurred, by up to this many millimetres (sigma).
    blurred: float = 0.3
    blur_mm: float = 3.0
    # Part of the patches that get a couch or a mask drawn into the air beside the patient.
    with_supports: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides a training besides its data."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    # (slice, row, column); None takes the median of the training cases.
    spacing_mm: tuple[float, float, float] | None = None
    # Scanner values beyond these are cut off; None takes the percentiles 0.5 and 99.5 of all organs together, as
    # nnU-Net does. A narrower window shows soft tissue in more contrast.
    window: tuple[float, float] | None = None
    # Voxels that the network sees at once, multiples of 2 to the number of its stages less one.
    patch: tuple[int, int, int] = (80, 80, 80)
    # Channels of each stage; the number of entries is the number of stages.
    features: tuple[int, ...] = (16, 32, 64, 128, 192)
    encoder_convolutions: tuple[int, ...] = (1, 2, 2, 2, 2)
    decoder_convolutions: tuple[int, ...] = (2, 2, 2, 1)
    batch: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warm_up_steps: int = 200
    # At most so many steps at the full learning rate; then it falls to zero over a part of the steps done.
    steps: int = 20_000
    decay: float = 0.3
    # Steps from one look at the validation cases to the next, and looks without a better one that end the training.
    check_every: int = 500
    patience: int = 8
    # Of the running average of the weights, which is what is validated and kept.
    average: float = 0.998
    seed: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)


def read_recipe(path: Path | None) -> Recipe:
    """Read a recipe's TOML; what it leaves out has its default.

    Raises
    ------
    SetupError
        The file cannot be read, or has a key or a value that no recipe has.
    """
    if path is None:
        return Recipe()
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        recipe = TypeAdapter(Recipe).validate_python(said)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}", "See the keys in ARCHITECTURE.md.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(each) for each in first["loc"])
        raise SetupError(f"{path}: {key}: {first['msg']}.", "See the keys in ARCHITECTURE.md.") from error
    return _checked(recipe, path)


def _checked(recipe: Recipe, path: Path) -> Recipe:
    stages = len(recipe.features)
    if stages < 2:
        raise SetupError(f"{path}: features has {stages} entries.", "Give 2 or more, one for each stage.")
    if len(recipe.encoder_convolutions) != stages or len(recipe.decoder_convolutions) != stages - 1:
        raise SetupError(
            f"{path}: {stages} features have {len(recipe.encoder_convolutions)} encoder_convolutions and "
            f"{len(recipe.decoder_convolutions)} decoder_convolutions.",
            f"Give {stages} and {stages - 1}.",
        )
    multiple = 2 ** (stages - 1)
    if any(side % multiple or side <= 0 for side in recipe.patch):
        raise SetupError(f"{path}: patch {recipe.patch} is no multiple of {multiple}.", "Choose other sides.")
    if all(side == multiple for side in recipe.patch):
        raise SetupError(
            f"{path}: of patch {recipe.patch} the last of {stages} stages sees one voxel.", "Choose a larger one."
        )
    _check_numbers(recipe, path)
    return recipe


def _check_numbers(recipe: Recipe, path: Path) -> None:
    """Refuse what would stop, or spoil, a training after hours."""
    how = recipe.augmentation
    convolutions = (*recipe.encoder_convolutions, *recipe.decoder_convolutions)
    window = recipe.window or (0.0, 1.0)
    rules = {
        "batch, steps, check_every and patience are 1 or more": min(
            recipe.batch, recipe.steps, recipe.check_every, recipe.patience
        )
        >= 1,
        "features and convolutions are 1 or more": min(*recipe.features, *convolutions) >= 1,
        "spacing_mm is more than 0": all(0 < each < math.inf for each in recipe.spacing_mm or ()),
        "window is a lower and a higher value": -math.inf < window[0] < window[1] < math.inf,
        "learning_rate is more than 0": 0 < recipe.learning_rate < math.inf,
        "weight_decay is 0 or more": 0 <= recipe.weight_decay < math.inf,
        "decay and average are 0 or more, and less than 1": 0 <= recipe.decay < 1 and 0 <= recipe.average < 1,
        "warm_up_steps and seed are 0 or more": min(recipe.warm_up_steps, recipe.seed) >= 0,
        "augmentation is 0 or more": all(0 <= each < math.inf for each in astuple(how)),
        "augmentation.mirrored, blurred and with_supports are parts of 1": max(
            how.mirrored, how.blurred, how.with_supports
        )
        <= 1,
    }
    for rule, holds in rules.items():
        if not holds:
            raise SetupError(f"{path}: {rule}.", "Mend it; see ARCHITECTURE.md and node/training/recipe.py.")
