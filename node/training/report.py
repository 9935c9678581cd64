"""What the model card says of a training: data, counts, how it went, and what the validation cases gave."""

import platform
from collections.abc import Iterator, Sequence

from node.training.plan import Plan
from node.training.prepared import Prepared
from node.training.progress import History
from node.training.ranges import OrganRange, told_cm3


def training_report(
    plan: Plan,
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    history: History,
    ranges: Sequence[OrganRange],
) -> str:
    """Give the sections of ``MODEL_CARD.md`` that a training fills, Markdown."""
    return "\n".join(_lines(plan, training, validation, history, ranges))


def _lines(
    plan: Plan,
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    history: History,
    ranges: Sequence[OrganRange],
) -> Iterator[str]:
    patients, held_back = (len({each.case.patient for each in cases}) for cases in (training, validation))
    yield from ("## Training data", "", f"Training set `{plan.name.partition('_')[2]}`, {', '.join(plan.channels)}:")
    yield f"{len(training)} images of {patients} patients to learn from, {len(validation)} of {held_back} patients,"
    yield "none of them among the former, to see when to stop."
    yield ""
    yield "| organ | contoured in (training) | contoured in (validation) | volume cm3 (smallest, median, largest) |"
    yield "|---|---|---|---|"
    by_organ = {each.organ: each for each in ranges}
    for organ in plan.organs:
        seen, checked = (sum(organ in each.case.contoured for each in cases) for cases in (training, validation))
        found = by_organ.get(organ)
        volumes = ", ".join(map(told_cm3, found.volume_cm3)) if found else "none"
        yield f"| {organ} | {seen} | {checked} | {volumes} |"
    spacings = [each.source_spacing_mm for each in training]
    for number, name in enumerate(("Slices", "Rows", "Columns")):
        given = [each[number] for each in spacings]
        yield from (f"{'' if number else chr(10)}{name} are {min(given):.2f} to {max(given):.2f} mm apart.",)
    yield from ("", "An organ that nobody contoured in a case was neither rewarded nor punished there.", "")
    yield from _training(plan, history)


def _training(plan: Plan, history: History) -> Iterator[str]:
    recipe, last = plan.recipe, history.looks[-1]
    patch = " × ".join(map(str, recipe.patch))
    spacing = " × ".join(f"{each:g}" for each in plan.spacing_mm)
    yield from ("## Training", "")
    yield f"3-D U-Net, {len(recipe.features)} stages of {', '.join(map(str, recipe.features))} channels, patches of"
    yield f"{patch} voxels of {spacing} mm (slices, rows, columns); {last.step} steps of {recipe.batch} patches in"
    yield f"{last.trained_s / 3600:.1f} h on {platform.machine()}, seed {recipe.seed}."
    yield f"The learning rate fell from step {history.falls_from} on."
    yield "Patches are turned, scaled, mirrored with their sided organs exchanged, blurred and noised. The loss is"
    yield "cross-entropy and Dice of the contoured organs."
    yield ""
    yield "| organ | Dice of the validation cases, as the training code saw it last |"
    yield "|---|---|"
    for organ, dice in last.dice.items():
        yield f"| {organ} | {'not contoured' if dice is None else f'{dice:.3f}'} |"
    yield f"| mean | {last.mean_dice:.3f} |"
