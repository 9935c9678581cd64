"""From voxels and a loaded model to finished DICOM objects: the whole of contouring, as one pure function."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import pydicom
from pydicom import Dataset

from node import DISCLAIMER
from node.dicom.rtstruct import SegmentReference, rtstruct
from node.dicom.segmentation import segmentation
from node.dicom.verify_rtstruct import verify_rtstruct
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.contours import build_structures
from node.domain.errors import InputError, VerificationError
from node.domain.routing import OutputKind
from node.domain.series import SeriesManifest
from node.domain.structures import Provenance, StructureDefinition, StructureSet
from node.domain.volume import LabelMap, Volume
from node.inference.package import ModelPackage
from node.inference.predictor import Predictor, Progress
from node.inference.segment import segment

# Told the name of each phase as it begins.
Phase = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContouredObject:
    """One finished object, as the bytes of its Part 10 file, read back and checked against the label map."""

    kind: OutputKind
    sop_instance_uid: str
    written: bytes
    # What the check found; empty where it holds. An object with a fault must never leave.
    fault: str


@dataclass(frozen=True, kw_only=True)
class Contoured:
    """The result of one job."""

    objects: tuple[ContouredObject, ...]
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
    manifest: SeriesManifest,
    source: Sequence[Dataset],
    package: ModelPackage,
    predictor: Predictor,
    outputs: Collection[OutputKind],
    provenance: Provenance,
    progress: Progress,
    phase: Phase,
) -> Contoured:
    """Contour one series with one model.

    Parameters
    ----------
    volume
        Voxels on the manifest's grid.
    source
        The headers of the manifest's instances, in any order.

    Raises
    ------
    InputError
        The model is not for this modality, or finds none of its structures.
    """
    if manifest.modality not in package.modalities:
        raise InputError(
            f"The model {package.name} is for {', '.join(package.modalities)}; the series is {manifest.modality}.",
            "Send this modality on another route.",
        )
    phase("inference")
    segmented = segment(volume, package, predictor, progress)
    phase("contours")
    found = build_structures(segmented.label_map, segmented.structures)
    structure_set = StructureSet(structures=found.structures, omitted=(*segmented.omitted, *found.omitted))
    if not structure_set.structures:
        said = "; ".join(f"{one.name}: {one.reason}" for one in structure_set.omitted)
        raise InputError(f"The model {package.name} found none of its structures ({said}).")
    objects = _objects(structure_set, segmented.label_map, manifest, source, provenance, outputs, phase)
    return Contoured(
        objects=objects,
        structure_set=structure_set,
        label_map=segmented.label_map,
        report=_report(structure_set, segmented.notes, provenance),
    )


def _objects(
    structure_set: StructureSet,
    label_map: LabelMap,
    manifest: SeriesManifest,
    source: Sequence[Dataset],
    provenance: Provenance,
    outputs: Collection[OutputKind],
    phase: Phase,
) -> tuple[ContouredObject, ...]:
    definitions = [structure.definition for structure in structure_set.structures]
    checked = partial(_checked, label_map=label_map, definitions=definitions, manifest=manifest)
    objects = []
    reference: SegmentReference | None = None
    if "seg" in outputs:
        phase("seg")
        dataset = segmentation(label_map, definitions, manifest, source, provenance)
        written = _written(dataset)
        phase("verify seg")
        reference = SegmentReference(
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            segment_numbers={definition.name: number for number, definition in enumerate(definitions, start=1)},
        )
        objects.append(checked("seg", reference.sop_instance_uid, written, verify_segmentation))
    if "rtstruct" in outputs:
        phase("rtstruct")
        dataset = rtstruct(structure_set, manifest, source, provenance, segmentation=reference)
        written = _written(dataset)
        phase("verify rtstruct")
        # First: what the planning system waits for is sent before the larger object.
        verify = partial(verify_rtstruct, segmentation_uid=reference.sop_instance_uid if reference else None)
        objects.insert(0, checked("rtstruct", str(dataset.SOPInstanceUID), written, verify))
    return tuple(objects)


def _checked(
    kind: OutputKind,
    sop_instance_uid: str,
    written: bytes,
    verify: Callable[[bytes, LabelMap, Sequence[StructureDefinition], SeriesManifest], None],
    *,
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    manifest: SeriesManifest,
) -> ContouredObject:
    try:
        verify(written, label_map, definitions, manifest)
    except VerificationError as error:
        fault = error.reason
    else:
        fault = ""
    return ContouredObject(kind=kind, sop_instance_uid=sop_instance_uid, written=written, fault=fault)


def _written(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _report(structure_set: StructureSet, notes: Sequence[str], provenance: Provenance) -> dict[str, Any]:
    return {
        "structures": [
            {
                "name": structure.definition.name,
                "volume_cm3": round(structure.volume_cm3, 3),
                "contours": len(structure.contours),
            }
            for structure in structure_set.structures
        ],
        "omitted": [{"name": one.name, "reason": one.reason} for one in structure_set.omitted],
        "notes": list(notes),
        "model": provenance.model_name,
        "model_version": provenance.model_version,
        "model_digest": provenance.model_digest,
        "computed_by": provenance.computed_by,
        "software_version": provenance.software_version,
        "run_number": provenance.run_number,
        "notice": DISCLAIMER,
    }
