"""Whether the engine says of a volume what nnU-Net says."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from node.convert.checkpoints import Checkpoint
from node.convert.drawn import Drawn
from node.convert.networks import managers, silent
from node.convert.refusals import refused
from node.convert.results_folder import TrainedNetwork
from node.inference.transforms import Labels

# Of the scores' standard deviation. Two orders of summing in float32 lie 2e-5 apart at most (measured for 18 plans): a
# voxel whose best two classes lie closer than a few of these has no one label.
TIE = 1e-4
# TF32 keeps 11 bits of a factor: an accelerator may give such a voxel another label, and be sound.
UNSURE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What nnU-Net answers, axes of the image."""

    # By accumulators of float32, and by those of float16 that nnU-Net has.
    labels: Labels
    labels_f16: Labels
    # How far the best two scores, or with regions a score and 0, lie apart, in standard deviations of the scores;
    # infinite where no network looked.
    margin: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How the engine's labels compare with nnU-Net's."""

    voxels: int
    # Voxels that differ, other than ties; a package with any is not made.
    differ: int
    # Ties that fell otherwise.
    ties_that_differ: int
    # Against nnU-Net as it is, with accumulators of float16: its own rounding.
    differ_f16: int
    # Voxels of each label value found.
    found: dict[int, int]


def answer_of_nnunet(
    trained: TrainedNetwork, network: torch.nn.Module, checkpoints: Sequence[Checkpoint], drawing: Drawn
) -> Answer:
    """Ask nnU-Net's own predictor, on the CPU; window, folds and mirroring as the package has them."""
    with silent():
        import nnunetv2.inference.predict_from_raw_data as nnunet  # noqa: PLC0415

        window = trained.input.window
        predictor = nnunet.nnUNetPredictor(
            tile_step_size=window.step,
            use_mirroring=bool(window.mirror_axes),
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
        plans, configuration = managers(trained)
        weights = [dict(each.weights) for each in checkpoints]
        predictor.manual_initialization(
            network, plans, configuration, weights, dict(trained.dataset), checkpoints[0].trainer,
            window.mirror_axes or None,
        )  # fmt: skip
        labels_f16 = _predicted(predictor, drawing)
        margins: list[NDArray[np.float32]] = []
        with _wide_accumulators(nnunet), _margins_noted(predictor, margins):
            labels = _predicted(predictor, drawing)
    return Answer(labels=labels, labels_f16=labels_f16, margin=_in_image(margins[0], trained, drawing))


def compared(answer: Answer, labels: Labels) -> Comparison:
    """Compare the engine's labels of the same volume, in the same axes.

    Raises
    ------
    SetupError
        A voxel differs that is no tie.
    """
    differ, tied = labels != answer.labels, answer.margin <= TIE
    values, counts = np.unique(labels, return_counts=True)
    parity = Comparison(
        voxels=int(labels.size),
        differ=int((differ & ~tied).sum()),
        ties_that_differ=int((differ & tied).sum()),
        differ_f16=int((labels != answer.labels_f16).sum()),
        found={int(value): int(number) for value, number in zip(values, counts, strict=True)},
    )
    if parity.differ:
        raise refused(
            f"In {parity.differ} of {parity.voxels} voxels of a drawn volume this software says otherwise than nnU-Net",
            "No package was made. Report it, with the plans.json.",
        )
    return parity


def _predicted(predictor: Any, drawing: Drawn) -> Labels:
    labels: Labels = predictor.predict_single_npy_array(drawing.images.copy(), {"spacing": list(drawing.spacing_mm)})
    return labels


class _TorchWithWideHalf:
    """Torch, except that ``torch.half`` is float32: the predictor names it for its two accumulators alone."""

    half = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def _wide_accumulators(nnunet: Any) -> Iterator[None]:
    """Float16 sums lose 13 of 24 bits: near ties fall to either side, by the order of patches."""
    nnunet.torch = _TorchWithWideHalf()
    try:
        yield
    finally:
        nnunet.torch = torch


@contextlib.contextmanager
def _margins_noted(predictor: Any, margins: list[NDArray[np.float32]]) -> Iterator[None]:
    """Look at the scores at full size, without changing them."""
    manager = predictor.label_manager
    convert = manager.convert_logits_to_segmentation

    def noted(scores: Any) -> Any:
        margins.append(_margin(np.asarray(scores), manager.has_regions))
        return convert(scores)

    manager.convert_logits_to_segmentation = noted
    try:
        yield
    finally:
        del manager.convert_logits_to_segmentation


def _margin(scores: NDArray[np.float32], has_regions: bool) -> NDArray[np.float32]:
    if has_regions:
        margin = np.abs(scores).min(axis=0)
    else:
        second, best = np.partition(scores, -2, axis=0)[-2:]
        margin = best - second
    return np.asarray(margin / scores.std(), dtype=np.float32)


def _in_image(margin: NDArray[np.float32], trained: TrainedNetwork, drawing: Drawn) -> NDArray[np.float32]:
    """Put what stands for the transposed and cropped volume where it belongs in the image."""
    order = trained.input.axis_order
    inside = (drawing.images != 0).any(axis=0).transpose(order)
    box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(inside))
    placed = np.full(inside.shape, np.inf, dtype=np.float32)
    placed[box] = margin
    return placed.transpose(np.argsort(order))
