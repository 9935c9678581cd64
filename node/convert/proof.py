"""A package against the program that it was made from, on a drawn volume: whether it says the same, and what."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.adapters.onnx_session import open_predictor
from node.convert.drawn import Drawn, as_series, draw, from_series, in_series, spacing_in_series
from node.convert.networks import build
from node.convert.parity import UNSURE, Answer, Comparison, answer_of_nnunet, compared
from node.convert.postprocessing import Postprocessing
from node.convert.refusals import refused
from node.convert.sources import Ingredients, Source
from node.domain.errors import InputError
from node.domain.volume import LabelMap, Volume
from node.inference.engine import labels_by_windows
from node.inference.golden import axial_grid
from node.inference.package import LoadedPackage
from node.inference.postprocess import postprocess
from node.inference.predictor import Opened, OpenedNetwork, Progress, WindowRuntime, networks_of, no_progress
from node.inference.resampling import Extent
from node.inference.segment import segment
from node.inference.transforms import Labels, background


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found on a drawn volume; arrays in the axes of a series."""

    # Of all networks together; the values found are the package's labels.
    comparison: Comparison
    computed_by: str
    # Scanner values, ``[channel, slice, row, column]``, and what the package is to say of them; None where the region
    # in which it works is not in the volume.
    values: NDArray[np.int16]
    labels: Labels | None
    spacing_mm: Extent
    # So many voxels may get another label where sums are rounded otherwise.
    unsure_voxels: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """One network and nnU-Net's own, asked of one volume."""

    answer: Answer
    comparison: Comparison


def prove(ingredients: Ingredients, loaded: LoadedPackage, progress: Progress) -> Proof:
    """Ask nnU-Net and the package's networks for labels of a drawn volume, and compare.

    Raises
    ------
    SetupError
        A voxel differs that is no tie, or the rules that follow the network do otherwise than nnU-Net.
    """
    opened = open_predictor(loaded, device="cpu")
    first = ingredients.parts[0].trained.input
    drawing = draw(first)
    asked = list(_all_asked(ingredients, opened, drawing, progress))
    of_parts = [each.answer for each in asked[-len(ingredients.parts) :]]
    volumes = as_series(drawing, first.orientation)
    if ingredients.region is None:
        merged = _merged(ingredients, [answer.labels for answer in of_parts])
        labels: Labels | None = in_series(_tidied(ingredients, merged), first.orientation)
    else:
        labels = _found_in_region(volumes, loaded, opened)
    return Proof(
        comparison=_together(ingredients, [each.comparison for each in asked]),
        computed_by=opened.computed_by,
        values=np.stack([volume.voxels for volume in volumes]).astype(np.int16),
        labels=labels,
        spacing_mm=spacing_in_series(drawing, first.orientation),
        unsure_voxels=int((np.min([answer.margin for answer in of_parts], axis=0) <= UNSURE).sum()),
    )


def _all_asked(ingredients: Ingredients, opened: Opened, drawing: Drawn, progress: Progress) -> Iterator[_Asked]:
    predictors = networks_of(opened)
    for number, (source, predictor) in enumerate(zip(ingredients.networks, predictors, strict=True)):
        progress("compare", number, len(predictors))
        # A coarse network looks at a volume of its own spacing, since nnU-Net would resample otherwise than it wants.
        own = draw(source.trained.input) if ingredients.region is not None and number == 0 else drawing
        yield _asked(source, predictor, own)


def _found_in_region(volumes: Sequence[Volume], loaded: LoadedPackage, opened: Opened) -> Labels | None:
    """Run the package itself: nnU-Net knows no region. None where the region is not in the volume."""
    try:
        return segment(volumes[0], loaded.package, opened, no_progress, volumes[1:]).label_map.labels
    except InputError:  # noise need not hold what the region is around
        return None


def _asked(source: Source, predictor: OpenedNetwork, drawing: Drawn) -> _Asked:
    if not isinstance(predictor, WindowRuntime):
        raise TypeError(f"{source.trained.dataset_name} has a window; its predictor has none")
    trained = source.trained
    answer = answer_of_nnunet(trained, build(trained), source.checkpoints, drawing)
    volumes = as_series(drawing, trained.input.orientation)
    labels, _ = labels_by_windows(volumes, trained.input, trained.output, predictor, no_progress)
    return _Asked(answer, compared(answer, from_series(labels, trained.input.orientation)))


def _merged(ingredients: Ingredients, labels: Sequence[Labels]) -> Labels:
    """Merge what nnU-Net says, label by label, so that the merge of the engine is tried too."""
    if len(labels) == 1:
        return labels[0]
    highest = max(value for table in ingredients.tables for value in table.values())
    merged = background(labels[0].shape, highest)
    for table, each in zip(ingredients.tables, labels, strict=True):
        for own, value in table.items():
            merged[each == own] = value
    return merged


def _tidied(ingredients: Ingredients, labels: Labels) -> Labels:
    """Do what nnU-Net does after the network, by its own functions, and then what it knows nothing of.

    The package's rules must do the same as nnU-Net's functions.
    """
    grid = axial_grid((labels.shape[0], labels.shape[1], labels.shape[2]), (1.0, 1.0, 1.0))
    post: Postprocessing | None = ingredients.postprocessing
    if post is not None:
        tidied = post.applied(labels)
        rules = post.rules(ingredients.parts[0].trained.output.label_values)
        differ = int((postprocess(LabelMap(labels=labels, grid=grid), rules).labels != tidied).sum())
        if differ:
            raise refused(
                f"In {differ} of {labels.size} voxels of a drawn volume the rules of {post.file} do otherwise here",
                "No package was made. Report it, with the file.",
            )
        labels = tidied
    return postprocess(LabelMap(labels=labels, grid=grid), ingredients.rules).labels


def _together(ingredients: Ingredients, comparisons: Sequence[Comparison]) -> Comparison:
    found: Counter[int] = Counter()
    for table, each in zip(ingredients.tables, comparisons[-len(ingredients.parts) :], strict=True):
        found.update({table.get(value, 0): count for value, count in each.found.items()})
    return Comparison(
        voxels=sum(each.voxels for each in comparisons),
        differ=sum(each.differ for each in comparisons),
        ties_that_differ=sum(each.ties_that_differ for each in comparisons),
        differ_f16=sum(each.differ_f16 for each in comparisons),
        found=dict(sorted(found.items())),
    )
