"""From a volume to a label map on the same grid: orient, resample, predict, bring back, tidy, judge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from node.domain.errors import InputError, SetupError
from node.domain.structures import Omitted, StructureDefinition
from node.domain.volume import LabelMap, Probabilities, Volume
from node.inference.engine import labels_by_windows, slice_axis_of
from node.inference.network_tables import InputSpecification, WindowedInput
from node.inference.package import Gate, ModelPackage
from node.inference.postprocess import mask_of, postprocess
from node.inference.predictor import Predictor, Progress, WindowRuntime
from node.inference.probabilities import labels_and_probabilities
from node.inference.transforms import Labels, Passage, labels_on_source, network_input, passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """What a model found in a volume."""

    # May hold voxels of omitted structures too: a gate judges a structure and leaves its voxels.
    label_map: LabelMap
    # The package's structures less the omitted: those to contour.
    structures: tuple[StructureDefinition, ...]
    omitted: tuple[Omitted, ...]
    # What a reviewer should know, one sentence each.
    notes: tuple[str, ...]
    # Of a model whose scores are logits (``[output] activation``); None of any other, and of one that is unsure of too
    # much, which is noted.
    probabilities: Probabilities | None


def segment(
    volume: Volume,
    package: ModelPackage,
    predictor: Predictor | WindowRuntime,
    progress: Progress,
    further: Sequence[Volume] = (),
) -> Segmented:
    """Segment a volume.

    Parameters
    ----------
    predictor
        What was opened for this package: a window's runtime where its input has a window.
    further
        Of a model that takes several images of one place, those after the first, on the grid of the first.

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
        labels, probabilities = labels_by_windows([volume, *further], wanted, package.output, predictor, progress)
        slice_axis = slice_axis_of(volume, wanted)
    else:
        if isinstance(predictor, WindowRuntime):
            raise TypeError(f"{package.name} has no window; its predictor has one")
        if further:
            raise InputError(f"The model {package.name} takes one image, not {1 + len(further)}.")
        way = passage(volume.grid, wanted)
        progress("resample", 0, 1)
        scores = _scores(network_input(volume, wanted, way), package, wanted, predictor, progress)
        labels, probabilities = _labelled(scores, way, package, progress)
        del scores
        slice_axis = way.axes[0]
    progress("tidy", 0, 1)
    label_map = postprocess(LabelMap(labels=labels, grid=volume.grid), package.post, slice_axis=slice_axis)
    omitted = tuple(_omissions(package, label_map, volume))
    missing = {each.name for each in omitted}
    structures = tuple(each for each in package.structures if each.name not in missing)
    notes = [
        f"{structure.name} reaches the edge of the image: it may be cut off there."
        for structure in structures
        if _reaches_edge(label_map, structure)
    ]
    if probabilities is None and package.output.activation == "softmax":
        notes.append("The model is unsure of too much for its probabilities to be kept: contours follow its labels.")
    progress("tidy", 1, 1)
    return Segmented(
        label_map=label_map,
        structures=structures,
        omitted=omitted,
        notes=tuple(notes),
        probabilities=probabilities,
    )


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
        raise SetupError(
            f"The network of {package.name} answered with a value that is no finite number.",
            "Run the model in float32; if it already is, the model package is faulty.",
        )
    return np.asarray(answer[0])


def _omissions(package: ModelPackage, label_map: LabelMap, volume: Volume) -> Iterator[Omitted]:
    for structure in package.structures:
        gates = [gate for gate in package.gates if gate.structure == structure.name]
        reason = _reason(structure, gates, label_map, volume)
        if reason:
            yield Omitted(name=structure.name, reason=reason)


def _reason(structure: StructureDefinition, gates: list[Gate], label_map: LabelMap, volume: Volume) -> str | None:
    """Say why a structure is not believed; None where it is."""
    inside = mask_of(label_map.labels, structure.label_values)
    count = int(np.count_nonzero(inside))
    if not count:
        return f"The model found no voxel of {structure.name}."
    cm3 = count * volume.grid.voxel_volume_mm3 / 1000
    for gate in gates:
        if gate.at_least_cm3 is not None and cm3 < gate.at_least_cm3:
            return f"Only {cm3:.1f} cm³ found, below {gate.at_least_cm3:g} cm³. {gate.because}"
        if gate.at_most_cm3 is not None and cm3 > gate.at_most_cm3:
            return f"{cm3:.1f} cm³ found, above {gate.at_most_cm3:g} cm³. {gate.because}"
        if gate.mean_value_between is not None:
            lower, upper = gate.mean_value_between
            mean = float(volume.voxels[inside].mean(dtype=np.float64))
            if not lower <= mean <= upper:
                return f"Its mean value is {mean:.0f}, outside {lower:g} to {upper:g}. {gate.because}"
    return None


def _reaches_edge(label_map: LabelMap, structure: StructureDefinition) -> bool:
    """Tell whether voxels lie in the outermost rows or columns; the first and last slice cut every long organ."""
    labels = label_map.labels
    edges = labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]
    return any(bool(mask_of(edge, structure.label_values).any()) for edge in edges)
