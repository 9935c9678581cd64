"""From voxels and a loaded model to finished DICOM objects: the whole of contouring, as one pure function."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from node import DISCLAIMER
from node.dicom.wording import taken_together
from node.domain.errors import InputError
from node.domain.forms import Forms, Offer
from node.domain.routing import OutputKind
from node.domain.structures import Provenance, StructureSet
from node.domain.volume import LabelMap, Volume
from node.inference.package import ModelPackage
from node.inference.predictor import Opened, Progress
from node.inference.segment import Segmented, segment
from node.results import Drawn, Origin, Phase, ResultObject, Results, write_results

# The phase in which the network runs: no other needs its device.
INFERENCE = "inference"


@dataclass(frozen=True, kw_only=True)
class Contoured:
    """The result of one job."""

    objects: tuple[ResultObject, ...]
    # Destination -> SOP Instance UIDs that go together, the best set first.
    offers: Mapping[str, tuple[Offer, ...]]
    structure_set: StructureSet
    label_map: LabelMap
    # What a person wants to know of it, as JSON values.
    report: Mapping[str, Any]

    @property
    def fault(self) -> str:
        """Give the first fault among the objects; empty where all hold."""
        return next((one.fault for one in self.objects if one.fault), "")


def contour_series(
    volume: Volume,
    *,
    origin: Origin,
    package: ModelPackage,
    predictor: Opened,
    outputs: Collection[OutputKind],
    forms: Forms,
    progress: Progress,
    phase: Phase,
    further: Sequence[Volume] = (),
) -> Contoured:
    """Contour one series with one model.

    Parameters
    ----------
    volume
        Voxels on the grid of the origin's manifest.
    forms
        Destination -> in what form it wants the result; at least one.
    further
        Of a model that takes several images, those after the first, on the same grid, in the order of the channels
        that the origin's provenance names.

    Raises
    ------
    InputError
        The model is not for this modality or for other images, or finds none of its structures.
    """
    _refuse_other_images(package, origin)
    phase(INFERENCE)
    segmented = segment(volume, package, predictor, progress, further)
    # Only now is it known: what was opened first may have been given up for another precision.
    origin = replace(origin, provenance=replace(origin.provenance, computed_by=segmented.computed_by))
    drawn = _drawn(segmented, package)
    if not drawn.found:
        said = "; ".join(f"{one.name}: {one.reason}" for one in drawn.reasons)
        raise InputError(f"The model {package.name} found none of its structures ({said}).")
    results = write_results(drawn, origin, outputs, forms, phase)
    return Contoured(
        objects=results.objects,
        offers=results.offers,
        structure_set=results.structure_set,
        label_map=drawn.label_map,
        report=_report(results, segmented.notes, origin.provenance),
    )


def _refuse_other_images(package: ModelPackage, origin: Origin) -> None:
    channels = origin.provenance.channels
    for modality in (origin.manifest.modality, *(one.modality for one in channels)):
        if modality not in package.modalities:
            raise InputError(
                f"The model {package.name} is for {', '.join(package.modalities)}; the series is {modality}.",
                "Send this modality on another route.",
            )
    given = tuple(one.channel for one in channels)
    if given != package.image_names and (given or len(package.image_names) > 1):
        raise InputError(
            f"The model {package.name} takes {', '.join(package.image_names)}, not {', '.join(given) or 'one image'}.",
            "Correct the channels of the route, and send the series again.",
        )


def _drawn(segmented: Segmented, package: ModelPackage) -> Drawn:
    found = segmented.structures
    return Drawn(
        label_map=segmented.label_map,
        found=found,
        omitted=tuple(one for one in package.structures if one not in found),
        reasons=segmented.omitted,
        probabilities=segmented.probabilities,
    )


def _report(results: Results, notes: Sequence[str], provenance: Provenance) -> dict[str, Any]:
    return {
        "structures": [
            {
                "name": structure.definition.name,
                "volume_cm3": round(structure.volume_cm3, 3),
                "contours": len(structure.contours),
            }
            for structure in results.structure_set.structures
        ],
        "omitted": [{"name": one.name, "reason": one.reason} for one in results.structure_set.omitted],
        "renamed": [
            {"profile": profile, "structure": one.structure, "name": one.name, "reason": one.reason}
            for profile, names in results.renamed.items()
            for one in names
        ],
        "channels": [asdict(one) for one in provenance.channels],
        "notes": [*filter(None, [taken_together(provenance)]), *notes, *results.notes],
        "model": provenance.model_name,
        "model_version": provenance.model_version,
        "model_digest": provenance.model_digest,
        "computed_by": provenance.computed_by,
        "software_version": provenance.software_version,
        "run_number": provenance.run_number,
        "notice": DISCLAIMER,
    }
