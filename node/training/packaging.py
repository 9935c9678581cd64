"""From a results folder of ours to a model package that says what it was trained with and what it cannot do."""

from dataclasses import dataclass, replace
from pathlib import Path

from node.adapters.model_store import ModelStore
from node.convert.naming import named_structures
from node.convert.nnunet import described, read_source
from node.convert.package_folder import Imported, make_package
from node.convert.refusals import ImportOptions
from node.convert.sources import Ingredients
from node.inference.package import Gate, KeepLargest
from node.inference.predictor import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the training tells of itself."""

    # How the organs may look; a structure beyond is left out, with the reason.
    gates: tuple[Gate, ...]
    # Organs of which the largest piece alone is kept.
    in_one_piece: tuple[str, ...]
    limits: str
    # Markdown for the model card.
    report: str


def make_trained_package(results: Path, into: Path, options: ImportOptions, told: Told, progress: Progress) -> Imported:
    """Make a package below ``into``. Of organs in one piece the largest is kept.

    Raises
    ------
    SetupError
        As `node.convert.nnunet.import_nnunet`.
    """
    source = read_source(results, options, progress)
    labels = source.trained.labels
    ingredients = Ingredients(
        name=source.trained.dataset_name,
        title=source.trained.dataset_name,
        described=f"`delineate train`: {described(source)}",
        parts=(source,),
        rules=tuple(KeepLargest(labels=tuple(labels[organ])) for organ in told.in_one_piece),
        limits=told.limits,
        report=told.report,
    )
    # Structures may be called otherwise than their organs in the training set.
    names = {each.label: each.name for each in named_structures(ingredients.labels, ModelStore([]).structures)}
    gates = tuple(replace(gate, structure=names[gate.structure]) for gate in told.gates)
    return make_package(replace(ingredients, gates=gates), into, options, progress)
