"""From a label map to the objects of every form that a destination wants, each read back and checked."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO

import pydicom
from pydicom import Dataset
from pydicom.datadict import dictionary_description

from node.dicom.identity import left_empty
from node.dicom.rtstruct import SegmentReference, rtstruct
from node.dicom.segmentation import segmentation, why_no_labelmap
from node.dicom.verify_identity import verify_acquisition, verify_identity
from node.dicom.verify_rtstruct import verify_rtstruct
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.contours import build_structures
from node.domain.errors import VerificationError
from node.domain.forms import Form, Forms, Offer, encodings
from node.domain.naming import cut_by_the_scan, roi_names
from node.domain.profiles import Profile, RoiName
from node.domain.routing import OutputKind, SegmentationEncoding
from node.domain.series import SeriesManifest
from node.domain.structures import Drawing, Omitted, Provenance, Structure, StructureDefinition, StructureSet
from node.domain.volume import LabelMap, Probabilities

# Told the name of each phase as it begins.
Phase = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultObject:
    """One finished object, as the bytes of its Part 10 file, read back and checked against the label map."""

    kind: OutputKind
    # Of a structure set its profile, and the encoding of the segmentation that it names; of a segmentation its
    # encoding.
    form: str
    sop_class_uid: str
    sop_instance_uid: str
    written: bytes
    # What the check found; empty where it holds. An object with a fault must never leave.
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What a model found, as it is to be written."""

    label_map: LabelMap
    # Those with voxels.
    found: tuple[StructureDefinition, ...]
    # Those without, and those that are not believed.
    omitted: tuple[StructureDefinition, ...]
    reasons: tuple[Omitted, ...]
    probabilities: Probabilities | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What it was found on, and how."""

    manifest: SeriesManifest
    # The headers of the manifest's instances, in any order.
    source: Sequence[Dataset]
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class Results:
    """The objects of one job."""

    # Structure sets first: what the planning system waits for is sent before the larger object.
    objects: tuple[ResultObject, ...]
    # Destination -> SOP Instance UIDs that go together, the best set first.
    offers: Mapping[str, tuple[Offer, ...]]
    # As the first destination gets it.
    structure_set: StructureSet
    # Profile -> names that are not the model's own.
    renamed: Mapping[str, tuple[RoiName, ...]]
    # Why an object is not in the form that was asked for, one sentence each.
    notes: tuple[str, ...]


def write_results(drawn: Drawn, origin: Origin, outputs: Collection[OutputKind], forms: Forms, phase: Phase) -> Results:
    """Make every object that the forms ask for, once each.

    Raises
    ------
    VerificationError
        A structure cannot be drawn without loss.
    """
    writer = _Writer(drawn, origin, phase)
    writer.notes.extend(_what_a_reviewer_should_know(origin.source))
    offers = {destination: writer.offers(outputs, form) for destination, form in forms.items()}
    objects = sorted(writer.objects.values(), key=lambda one: one.kind)
    first = next(iter(forms.values()))
    return Results(
        objects=tuple(objects),
        offers=offers,
        structure_set=writer.structure_set(first.profile),
        renamed={profile: names for profile, names in writer.renamed.items() if names},
        notes=tuple(dict.fromkeys(writer.notes)),
    )


def _what_a_reviewer_should_know(source: Sequence[Dataset]) -> Iterator[str]:
    for keyword in sorted({keyword for header in source for keyword in left_empty(header)}):
        yield f"{dictionary_description(keyword)} of the images breaks its VR and is left empty in the results."
    if any(header.get("LossyImageCompression") == "01" for header in source):
        yield "The images were compressed with loss."


@dataclass
class _Writer:
    """Makes each object when it is first asked for."""

    drawn: Drawn
    origin: Origin
    phase: Phase
    objects: dict[tuple[OutputKind, str], ResultObject] = field(default_factory=dict)
    renamed: dict[str, tuple[RoiName, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _drawings: dict[Drawing, StructureSet] = field(default_factory=dict)

    def offers(self, outputs: Collection[OutputKind], form: Form) -> tuple[Offer, ...]:
        """Give the sets of objects for a form, the best first."""
        if "seg" not in outputs:
            return ((self._rtstruct(form.profile, None).sop_instance_uid,),)
        offers = []
        for encoding in encodings(form.segmentation, self._hindrances(form.segmentation)):
            segments = self._segmentation(encoding)
            structures = [self._rtstruct(form.profile, segments)] if "rtstruct" in outputs else []
            offers.append(tuple(one.sop_instance_uid for one in (*structures, segments)))
        return tuple(offers)

    def structure_set(self, profile: Profile) -> StructureSet:
        """Give the structures as a profile draws them, with those without voxels if it lists them."""
        drawing = profile.drawing
        if drawing not in self._drawings:
            self.phase("contours")
            self._drawings[drawing] = build_structures(
                self.drawn.label_map, self.drawn.found, drawing, self.drawn.probabilities
            )
        structures = self._drawings[drawing].structures
        if profile.empty_structures == "list":
            nothing = [Structure(definition=one, contours=(), volume_cm3=0.0) for one in self._omitted]
            structures = (*structures, *nothing)
        return StructureSet(structures=structures, omitted=self.drawn.reasons)

    @property
    def _omitted(self) -> list[StructureDefinition]:
        # Voxels of what is not believed are in the label map still, and of no structure.
        return [replace(one, label_values=()) for one in self.drawn.omitted]

    def _hindrances(self, wanted: SegmentationEncoding) -> dict[SegmentationEncoding, str]:
        hindrances: dict[SegmentationEncoding, str] = {}
        if why := why_no_labelmap(self.drawn.found):
            hindrances["labelmap"] = why
        if self.drawn.probabilities is None:
            hindrances["fractional"] = "The model gives no probabilities."
        if wanted in hindrances:
            self.notes.append(f"The Segmentation is BINARY, not {wanted.upper()}: {hindrances[wanted]}")
        return hindrances

    def _segmentation(self, encoding: SegmentationEncoding) -> ResultObject:
        key: tuple[OutputKind, str] = ("seg", encoding)
        if key not in self.objects:
            self.phase("seg")
            drawn, origin = self.drawn, self.origin
            dataset = segmentation(
                drawn.label_map,
                drawn.found,
                origin.manifest,
                origin.source,
                origin.provenance,
                encoding,
                drawn.probabilities,
            )
            written = _written(dataset)
            self.phase("verify seg")
            fault = _fault(
                lambda: verify_identity(written, origin.source),
                lambda: verify_acquisition(written, origin.source, origin.manifest.grid),
                lambda: verify_segmentation(written, drawn.label_map, drawn.found, origin.manifest, encoding),
            )
            self.objects[key] = _object("seg", encoding, dataset, written, fault)
        return self.objects[key]

    def _rtstruct(self, profile: Profile, segments: ResultObject | None) -> ResultObject:
        form = profile.name if segments is None else f"{profile.name}, {segments.form}"
        key: tuple[OutputKind, str] = ("rtstruct", form)
        if key not in self.objects:
            structure_set = self.structure_set(profile)
            names, reference = self._names(structure_set, profile), self._reference(segments)
            self.phase("rtstruct")
            origin = self.origin
            dataset = rtstruct(
                structure_set,
                origin.manifest,
                origin.source,
                origin.provenance,
                names,
                reference,
                form,
                profile.label_length,
            )
            written = _written(dataset)
            self.phase("verify rtstruct")
            fault = _fault(
                lambda: verify_identity(written, origin.source),
                lambda: verify_rtstruct(
                    written,
                    self.drawn.label_map,
                    # All that was found, not what was drawn: a structure that was lost on the way is a fault.
                    [*self.drawn.found, *self._omitted],
                    origin.manifest,
                    names,
                    segmentation_uid=reference.sop_instance_uid if reference else None,
                    segment_numbers=reference.segment_numbers if reference else None,
                    segmentation_class_uid=reference.sop_class_uid if reference else None,
                ),
            )
            self.objects[key] = _object("rtstruct", form, dataset, written, fault)
        return self.objects[key]

    def _names(self, structure_set: StructureSet, profile: Profile) -> Sequence[RoiName]:
        definitions = [structure.definition for structure in structure_set.structures]
        names = roi_names(definitions, profile, cut_by_the_scan(self.drawn.label_map, definitions))
        self.renamed[profile.name] = tuple(one for one in names if one.reason)
        return names

    def _reference(self, segments: ResultObject | None) -> SegmentReference | None:
        if segments is None:
            return None
        return SegmentReference(
            sop_class_uid=segments.sop_class_uid,
            sop_instance_uid=segments.sop_instance_uid,
            segment_numbers={one.name: number for number, one in enumerate(self.drawn.found, start=1)},
        )


def _object(kind: OutputKind, form: str, dataset: Dataset, written: bytes, fault: str) -> ResultObject:
    return ResultObject(
        kind=kind,
        form=form,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        written=written,
        fault=fault,
    )


def _fault(*checks: Callable[[], None]) -> str:
    try:
        for check in checks:
            check()
    except VerificationError as error:
        return error.reason
    return ""


def _written(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
