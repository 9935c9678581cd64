"""What a person may choose at an import, and how an import is refused."""

from dataclasses import dataclass
from pathlib import Path

from node.domain.errors import SetupError

UNSUPPORTED = "What this software cannot do as nnU-Net does, it does not do at all."
NEEDS_EXTRA = (
    'Install the extra: pip install "delineate[convert]" (with --extra-index-url https://download.pytorch.org/whl/cpu '
    "for a torch without CUDA). It is needed for the import alone, which may be done on another machine."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What an import takes from a person rather than from the files."""

    # Day of the import, ISO 8601.
    made_on: str
    # Of the package; None makes one of the data set's.
    name: str | None = None
    title: str | None = None
    originator: str | None = None
    licence: str | None = None
    intended_use: str | None = None
    # DICOM Modality; None: CT where the channel is.
    modality: str | None = None
    # Directions in which column, row and slice index of the training images grew, or "native"; None where the reader
    # itself turned them.
    orientation: str | None = None
    # Empty: every fold that is there.
    folds: tuple[str, ...] = ()
    checkpoint: str = "checkpoint_final.pth"
    step: float = 0.5
    mirroring: bool = True
    # Build the network as this trainer of nnU-Net does, whatever the checkpoint names.
    as_trainer: str | None = None
    # What nnU-Net does after the network; None looks for it in the results folder.
    postprocessing: Path | None = None
    with_postprocessing: bool = True
    # Load a checkpoint that holds more than plain values, and so may run code of whoever wrote it.
    trust_checkpoint: bool = False


def refused(reason: str, remedy: str) -> SetupError:
    """Make the error of an import that cannot be."""
    return SetupError(f"{reason}.", remedy)
