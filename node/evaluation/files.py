"""From files of references and results to pairs on one grid each; what cannot be compared is told, never guessed.

The grid is, the first that there is: that of the images (--images); that of the reference's own voxels; of a reference
of contours, that of the result's voxels; one of the planes that both are drawn on, with pixels as fine as asked for.
Rows, columns and planes are added until it holds both. A result of voxels at other places is refused, or, where that is
asked for, each voxel of the grid takes what the nearest of the result says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from node.domain.errors import InputError
from node.domain.grid import Grid
from node.evaluation.contents import Content, Contours, opened
from node.evaluation.grids import are_same_points, covering, grid_of_contours
from node.evaluation.images import Images
from node.evaluation.matching import are_of_different_images
from node.evaluation.naming import OrganNames
from node.evaluation.pairs import Pair
from node.evaluation.report import Unmatched
from node.evaluation.sources import Source

# Pixels of a grid that is made of contours; finer than those of planning CT.
SPACING_MM = 1.0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How files become pairs."""

    names: OrganNames
    images: Images | None = None
    spacing_mm: float = SPACING_MM
    # Take the nearest voxel where a result's lie elsewhere than the reference's.
    resample: bool = False
    # Only these; empty: all.
    organs: tuple[str, ...] = ()


def pairs_of(matches: Sequence[tuple[Source, Source]], rules: Rules, failed: list[Unmatched]) -> Iterator[Pair]:
    """Give one pair after the other; those that cannot be compared are added to ``failed``.

    A single one that cannot be compared raises InputError.
    """
    patients: dict[str, str] = {}
    for reference, result in matches:
        patient = patients.setdefault(reference.patient, f"p{len(patients) + 1:03d}")
        try:
            yield pair_of(reference, result, patient, rules)
        except InputError as error:
            if len(matches) == 1:
                raise
            failed.append(Unmatched(what="pair", name=reference.name, reason=error.reason))


def pair_of(reference: Source, result: Source, patient: str, rules: Rules) -> Pair:
    """Bring a reference and its result onto one grid.

    Raises
    ------
    InputError
        They are of different images, lie at different places, or have no grid.
    """
    if are_of_different_images(reference, result):
        raise InputError(
            f"{reference.name} and {result.name} are not of the same images: no Frame of Reference is common.",
            "Give a reference and a result of one series.",
        )
    ours, theirs = opened(reference, is_reference=True), opened(result, is_reference=False)
    grid, notes = _grid(reference, ours, theirs, rules)
    notes += _resampled(theirs, grid, "result", rules.resample)
    notes += _resampled(ours, grid, "reference", rules.resample)
    one, other = rules.names.both(reference.regions, result.regions)
    surely = reference.contoured
    kept = {each: region for each, region in one.regions.items() if surely is None or region.name in surely}
    not_contoured = {each: "not contoured in the reference" for each in one.regions if each not in kept}
    every = [*one.regions, *other.regions, *one.left_out, *other.left_out]
    unwanted = {each for each in every if rules.organs and each not in rules.organs}
    left_out = {
        **{organ: f"in the result {reason}" for organ, reason in other.left_out.items()},
        **{organ: f"in the reference {reason}" for organ, reason in one.left_out.items()},
        **not_contoured,
    }
    return Pair(
        case=reference.name,
        patient=patient,
        grid=grid,
        reference={each: partial(ours.mask, region, grid) for each, region in kept.items() if each not in unwanted},
        result={
            each: partial(theirs.mask, region, grid) for each, region in other.regions.items() if each not in unwanted
        },
        left_out={organ: reason for organ, reason in left_out.items() if organ not in unwanted},
        notes=tuple(notes),
        surely_contoured=frozenset(kept if surely is not None else ()),
    )


def _grid(reference: Source, ours: Content, theirs: Content, rules: Rules) -> tuple[Grid, list[str]]:
    if rules.images is not None and reference.facts is not None:
        grid, how = rules.images.grid_of(reference.facts), "of the images"
    elif ours.grid is not None:
        grid, how = ours.grid, "of the reference"
    elif theirs.grid is not None:
        grid, how = theirs.grid, "of the result"
    else:
        return _grid_of_planes(ours, theirs, rules.spacing_mm)
    wide = covering(covering(grid, ours.extent_lps_mm), theirs.extent_lps_mm)
    added = f", grown from {_size(grid)} to hold both" if wide is not grid else ""
    return wide, [f"grid {how}: {_size(wide)} voxels of {_millimetres(wide)} mm{added}"]


def _grid_of_planes(ours: Content, theirs: Content, spacing_mm: float) -> tuple[Grid, list[str]]:
    contents = [each for each in (ours, theirs) if isinstance(each, Contours)]
    contours = [
        contour
        for content in contents
        for region in content.drawn.values()
        if not isinstance(region, InputError)
        for contour in region.contours
    ]
    grid = grid_of_contours(contours, spacing_mm)
    how = f"grid of the planes that both are drawn on, with pixels of {spacing_mm:g} mm (no --images)"
    return grid, [f"{how}: {_size(grid)} voxels of {_millimetres(grid)} mm"]


def _resampled(content: Content, grid: Grid, whose: str, resample: bool) -> list[str]:
    """Refuse voxels at other places, or say that they were resampled."""
    if content.grid is None or are_same_points(content.grid, grid):
        return []
    places = f"The voxels of the {whose} ({_millimetres(content.grid)} mm) lie at other places than those it is held"
    if not resample:
        raise InputError(
            f"{places} against ({_millimetres(grid)} mm).",
            "Give both on one grid; or --resample, to take the nearest voxel, which can be off by half of one.",
        )
    return [f"{whose} resampled from voxels of {_millimetres(content.grid)} mm: each voxel takes the nearest one's"]


def _size(grid: Grid) -> str:
    return " × ".join(map(str, grid.shape))


def _millimetres(grid: Grid) -> str:
    return " × ".join(f"{each:.4g}" for each in grid.spacing_mm)
