"""One network's labels of a volume, on the volume's grid."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError, NotFiniteError, SetupError
from node.domain.volume import Probabilities, Volume
from node.inference.engine import labels_by_windows
from node.inference.network_tables import InputSpecification, WindowedInput
from node.inference.package import ModelPackage
from node.inference.predictor import Predictor, Progress, WindowRuntime
from node.inference.probabilities import labels_and_probabilities
from node.inference.transforms import Labels, Passage, labels_on_source, network_input, passage


def labels_of_network(
    volumes: Sequence[Volume], package: ModelPackage, predictor: Predictor | WindowRuntime, progress: Progress
) -> tuple[Labels, Probabilities | None]:
    """Give the labels of a package of one network, as the network numbers them.

    Parameters
    ----------
    volumes
        The images of one place that it takes, on one grid.
    predictor
        What was opened for this network: a window's runtime where its input has a window.

    Raises
    ------
    InputError
        The volume is a single plane, or the model takes another number of images.
    ResourceError
        The memory does not suffice.
    SetupError
        The network's answer has another shape than the manifest says, holds a value that is no number, or holds
        probabilities where the manifest says logits.
    """
    wanted = package.input
    if isinstance(wanted, WindowedInput):
        if not isinstance(predictor, WindowRuntime):
            raise TypeError(f"{package.name} has a window; its predictor has none")
        return labels_by_windows(volumes, wanted, package.output, predictor, progress)
    if isinstance(predictor, WindowRuntime):
        raise TypeError(f"{package.name} has no window; its predictor has one")
    if len(volumes) != 1:
        raise InputError(f"The model {package.name} takes one image, not {len(volumes)}.")
    (volume,) = volumes
    way = passage(volume.grid, wanted)
    progress("resample", 0, 1)
    scores = _scores(network_input(volume, wanted, way), package, wanted, predictor, progress)
    return _labelled(scores, way, package, progress)


def _scores(
    values: NDArray[np.float32],
    package: ModelPackage,
    wanted: InputSpecification,
    predictor: Predictor,
    progress: Progress,
) -> NDArray[np.float32]:
    """Run the network over all slices; gives ``(classes, slice, row, column)``."""
    slices = values.shape[0]
    at_once = min(wanted.slices_at_once or slices, slices)
    scores = np.empty((package.output.classes, *values.shape), dtype=np.float32)
    for start in range(0, slices, at_once):
        progress("predict", start, slices)
        # The last run ends with the last slice and repeats some: every run has one shape, which an accelerator
        # plans for once.
        start_here = min(start, slices - at_once)
        part = slice(start_here, start_here + at_once)
        scores[:, part] = _predicted(values[part], package, predictor)
    progress("predict", slices, slices)
    return scores


def _labelled(
    scores: NDArray[np.float32], way: Passage, package: ModelPackage, progress: Progress
) -> tuple[Labels, Probabilities | None]:
    def step(done: int, of: int) -> None:
        progress("label", done, of)

    match package.output.activation:
        case "none":
            return labels_on_source(scores, way, step), None
        case "softmax":
            _refuse_probabilities(scores, package)
            return labels_and_probabilities(scores, way, step)
        case "regions":
            raise TypeError(f"{package.name} has regions and no window, which no manifest says")
        case _:
            assert_never(package.output.activation)


def _refuse_probabilities(scores: NDArray[np.float32], package: ModelPackage) -> None:
    """Raise SetupError where the scores went through softmax already: another would leave the model sure of nothing.

    One slice tells: no logits are all at or above 0 and sum to 1 throughout it.
    """
    middle = scores[:, scores.shape[1] // 2]
    if middle.min() >= 0 and np.abs(middle.sum(axis=0) - 1).max() < 1e-3:
        raise SetupError(
            f"The network of {package.name} answers with probabilities; its manifest says that softmax is to follow.",
            "Export the graph without its last softmax, or leave activation out of the manifest.",
        )


def _predicted(part: NDArray[np.float32], package: ModelPackage, predictor: Predictor) -> NDArray[np.float32]:
    answer = predictor.predict(part[None, None])
    expected = (1, package.output.classes, *part.shape)
    if answer.shape != expected:
        raise SetupError(
            f"The network of {package.name} answered in shape {answer.shape}, not {expected}.",
            "Correct the model package: its graph and its manifest contradict each other.",
        )
    if not np.isfinite(answer).all():
        raise NotFiniteError(
            f"The network of {package.name} answered with a value that is no finite number.",
            "Run the model in float32; if it already is, the model package is faulty.",
        )
    return np.asarray(answer[0])
