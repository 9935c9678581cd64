"""From a volume to a label map on the same grid: find the region, run the parts, merge, tidy, judge."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from node.domain.errors import InputError, NotFiniteError
from node.domain.structures import Omitted, StructureDefinition
from node.domain.volume import Box, LabelMap, Probabilities, Volume
from node.inference.network import labels_of_network
from node.inference.package import Gate, ModelPackage
from node.inference.parts import CropModel, Part
from node.inference.postprocess import mask_of, postprocess
from node.inference.predictor import (
    HalfFirst,
    Opened,
    OpenedNetwork,
    Predictor,
    Predictors,
    Progress,
    WindowRuntime,
    networks_of,
)
from node.inference.region import ProbabilitiesWithin, region_of
from node.inference.transforms import Labels, background, oriented_axes

# A package's network with what runs it.
_Opened = tuple[ModelPackage, Predictor | WindowRuntime]


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
    # Of a model of one part whose scores are logits (``[output] activation``); None of any other, and of one that is
    # unsure of too much, which is noted.
    probabilities: Probabilities | None
    # Where the network ran that found this.
    computed_by: str


def segment(
    volume: Volume, package: ModelPackage, predictor: Opened, progress: Progress, further: Sequence[Volume] = ()
) -> Segmented:
    """Segment a volume.

    Parts run one after the other, and of each no more stays than its labels.

    Parameters
    ----------
    predictor
        What was opened for this package. What float16 does not hold is done again in float32, and noted.
    further
        Of a model that takes several images of one place, those after the first, on the grid of the first.

    Raises
    ------
    InputError
        The volume is a single plane, the model takes another number of images, or its crop model finds nothing.
    ResourceError
        The memory does not suffice.
    SetupError
        A network's answer has another shape than the manifest says, holds a value that is no number, or holds
        probabilities where the manifest says logits.
    """
    opened, volumes = networks_of(predictor), [volume, *further]
    if not any(isinstance(each, HalfFirst) for each in opened):
        return _segmented(volumes, package, [_exact(each) for each in opened], progress)
    with contextlib.suppress(NotFiniteError):
        return _segmented(volumes, package, [_half(each) for each in opened], progress)
    again = _segmented(volumes, package, [_exact(each) for each in opened], progress)
    note = "In float16 a score was no finite number: the network ran again, in float32."
    return replace(again, notes=(*again.notes, note))


def _half(opened: OpenedNetwork) -> Predictor | WindowRuntime:
    return opened.half if isinstance(opened, HalfFirst) else opened


def _exact(opened: OpenedNetwork) -> Predictor | WindowRuntime:
    return opened.exact() if isinstance(opened, HalfFirst) else opened


def _segmented(
    volumes: Sequence[Volume],
    package: ModelPackage,
    predictors: Sequence[Predictor | WindowRuntime],
    progress: Progress,
) -> Segmented:
    volume = volumes[0]
    networks = list(zip(package.networks, predictors, strict=True))
    region = None
    if package.crop_model is not None:
        region = _region(volumes, package.crop_model, networks.pop(0), progress)
    labels, probabilities = _labels(volumes, region, package, networks, progress)
    progress("tidy", 0, 1)
    slice_axis = oriented_axes(volume.grid, package.parts[0].input.orientation)[0]
    label_map = postprocess(LabelMap(labels=labels, grid=volume.grid), package.post, slice_axis=slice_axis)
    omitted = tuple(_omissions(package, label_map, volume))
    missing = {each.name for each in omitted}
    structures = tuple(each for each in package.structures if each.name not in missing)
    notes = list(_notes(structures, label_map, region))
    if probabilities is None and package.parts[0].output.activation == "softmax":
        notes.append("The model is unsure of too much for its probabilities to be kept: contours follow its labels.")
    progress("tidy", 1, 1)
    return Segmented(
        label_map=label_map,
        structures=structures,
        omitted=omitted,
        notes=tuple(notes),
        probabilities=probabilities,
        computed_by=Predictors(tuple(predictors)).computed_by,
    )


def _labels(
    volumes: Sequence[Volume], region: Box | None, package: ModelPackage, networks: list[_Opened], progress: Progress
) -> tuple[Labels, Probabilities | None]:
    """Give what the parts say of the volume, or of a region of it: beyond that all is background."""
    if region is None:
        return _merged(volumes, package, networks, progress)
    found, probabilities = _merged([volume.within(region) for volume in volumes], package, networks, progress)
    shape = volumes[0].grid.shape
    labels = np.zeros(shape, dtype=found.dtype)
    labels[region] = found
    return labels, None if probabilities is None else ProbabilitiesWithin(probabilities, region, shape)


def _region(volumes: Sequence[Volume], crop_model: CropModel, coarse: _Opened, progress: Progress) -> Box:
    def step(doing: str, done: int, of: int) -> None:
        if doing == "predict":
            progress("crop", done, of)

    labels, _ = labels_of_network(volumes, *coarse, step)
    box = region_of(labels, volumes[0].grid, crop_model)
    if box is None:
        sought = ", ".join(crop_model.structures)
        raise InputError(
            f"{coarse[0].name} found nothing of {sought}: there is no region to contour in.",
            "Send a series that shows it, or route this one to another model.",
        )
    return box


def _merged(
    volumes: Sequence[Volume], package: ModelPackage, networks: list[_Opened], progress: Progress
) -> tuple[Labels, Probabilities | None]:
    """Run the parts in their order: what a later one finds overrides."""
    if not package.parts[0].name:
        return labels_of_network(volumes, *networks[0], progress)
    merged = background(volumes[0].grid.shape, max(package.label_values))
    for number, (part, opened) in enumerate(zip(package.parts, networks, strict=True)):
        labels, _ = labels_of_network(volumes, *opened, _one_of(number, len(package.parts), progress))
        renamed = _table(part, merged.dtype)[labels]
        np.copyto(merged, renamed, where=renamed != 0)
    return merged, None


def _table(part: Part, kind: np.dtype[np.uint8] | np.dtype[np.uint16]) -> Labels:
    """Give the package's label at each label of the part."""
    values = part.output.label_values
    table = np.zeros(values[-1] + 1, dtype=kind)
    table[list(values)] = part.labels
    return table


def _one_of(number: int, parts: int, progress: Progress) -> Progress:
    """Count the steps of all parts, each taken to have as many as this one."""

    def step(doing: str, done: int, of: int) -> None:
        progress(doing, number * of + done, parts * of)

    return step


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


def _notes(structures: tuple[StructureDefinition, ...], label_map: LabelMap, region: Box | None) -> Iterator[str]:
    labels = label_map.labels
    # The first and last slice of a series cut every long organ: they say nothing.
    edges = labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]
    cuts = () if region is None else tuple(_cuts(labels, region))
    for structure in structures:
        if _is_in(edges, structure):
            yield f"{structure.name} reaches the edge of the image: it may be cut off there."
        if _is_in(cuts, structure):
            yield f"{structure.name} reaches the edge of the region that was looked at: it may be cut off there."


def _cuts(labels: Labels, region: Box) -> Iterator[Labels]:
    """Give the outermost planes of a region on the sides where the image goes on."""
    within = labels[region]
    for axis, (side, size) in enumerate(zip(region, labels.shape, strict=True)):
        along = np.moveaxis(within, axis, 0)
        if side.start > 0:
            yield along[0]
        if side.stop < size:
            yield along[-1]


def _is_in(planes: Sequence[Labels], structure: StructureDefinition) -> bool:
    return any(bool(mask_of(plane, structure.label_values).any()) for plane in planes)
