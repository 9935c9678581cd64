"""Reading checkpoints of nnU-Net; only here, and in `node.convert.postprocessing`, is a pickle opened.

``torch.load(weights_only=True)`` builds tensors and plain values and refuses all else. Checkpoints of nnU-Net hold
NumPy numbers beside these, in the log of their training, which are plain values too and are allowed by name.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from node.convert.refusals import refused

# Number types of NumPy: what a scalar's pickle names, besides the function that makes the scalar. That function was
# in numpy.core before NumPy 2.
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One fold's checkpoint."""

    fold: str
    file: str
    sha256: str
    weights: Mapping[str, torch.Tensor]
    trainer: str
    configuration: str
    # Axes of the network that mirroring is allowed along.
    mirroring_axes: tuple[int, ...]
    # Whether it was loaded as code that is trusted, not as values.
    trusted: bool


def read_checkpoint(path: Path, fold: str, trust: bool) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    SetupError
        It cannot be read, holds more than plain values and is not trusted, or is none of nnU-Net's.
    """
    content, trusted = _content(path, trust)
    try:
        weights, arguments = content["network_weights"], content["init_args"]
        return Checkpoint(
            fold=fold,
            file=f"{path.parent.name}/{path.name}",
            sha256=_sha256(path),
            weights={name.removeprefix("module."): _tensor(value) for name, value in weights.items()},
            trainer=str(content["trainer_name"]),
            configuration=str(arguments["configuration"]),
            mirroring_axes=tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ()),
            trusted=trusted,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise refused(f"{path} is no checkpoint of nnU-Net v2: {error!r}", "Name another by --checkpoint.") from error


def _content(path: Path, trust: bool) -> tuple[Any, bool]:
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True), False
    except pickle.UnpicklingError as error:
        if not trust:
            said = next(iter(str(error).splitlines()), "")
            raise refused(
                f"{path} holds more than weights and plain values, so that loading it would run code of whoever wrote "
                f"it ({said[:200]})",
                "If you trained it yourself or trust its author like a program, give --trust-checkpoint.",
            ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise refused(f"{path} cannot be read: {error}", "Copy the checkpoint again from training.") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False), True
    except Exception as error:  # whatever its code raises
        raise refused(f"{path} cannot be read: {error!r}", "Copy the checkpoint again from training.") from error


def _tensor(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError("a weight is no tensor")
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
