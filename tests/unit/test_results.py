"""Every form that a destination wants: what is made, what is offered, what goes together."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, config, dcmread

from node.domain.contours import build_structures
from node.domain.errors import SetupError, VerificationError
from node.domain.forms import Form, refuse_namesakes
from node.domain.profiles import Profile
from node.domain.routing import OutputKind, SegmentationEncoding
from node.domain.structures import Omitted, StructureDefinition, StructureSet
from node.domain.volume import LabelMap
from node.results import Drawn, Origin, Results, write_results
from tests.builders import ball_and_box, ct_series, definition, grid, manifest_of, provenance

SEGMENTATION, LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
GENERIC = Profile(name="generic", title="", mark_cut=False)
SHORT = Profile(name="short", title="", name_length=16, mark_cut=False)
APART = (definition("Ball", 1, 2), definition("Box", 3))
NOWHERE = definition("Nowhere", 9)


def results(
    forms: dict[str, Form],
    *,
    found: tuple[StructureDefinition, ...] = APART,
    omitted: tuple[StructureDefinition, ...] = (NOWHERE,),
    outputs: tuple[OutputKind, ...] = ("rtstruct", "seg"),
    changed: Callable[[Dataset], None] = lambda _: None,
) -> Results:
    source = ct_series(grid())
    for header in source:
        changed(header)
    manifest = manifest_of(source)
    drawn = Drawn(
        label_map=ball_and_box(manifest.grid),
        found=found,
        omitted=omitted,
        reasons=(Omitted(name="Nowhere", reason="The model found no voxel of it."),),
        probabilities=None,
    )
    origin = Origin(manifest=manifest, source=source, provenance=provenance())
    return write_results(drawn, origin, outputs, forms, lambda _: None)


def wants(profile: Profile = GENERIC, segmentation: SegmentationEncoding = "binary") -> Form:
    return Form(profile=profile, segmentation=segmentation)


def read(made: Results, sop_instance_uid: str) -> Dataset:
    (one,) = (each for each in made.objects if each.sop_instance_uid == sop_instance_uid)
    assert one.fault == ""
    return dcmread(BytesIO(one.written))


def segmentation_of(structures: Dataset) -> set[str]:
    """Give the instances that the regions were drawn around."""
    return {str(roi.DefinitionSourceSequence[0].ReferencedSOPInstanceUID) for roi in structures.StructureSetROISequence}


def test_destinations_that_want_the_same_share_the_objects() -> None:
    made = results({"tps": wants(), "archive": wants()})

    assert len(made.objects) == 2
    assert made.offers["tps"] == made.offers["archive"]
    assert [one.kind for one in made.objects] == ["rtstruct", "seg"]


def test_two_profiles_of_one_name_are_refused_for_one_would_stand_for_both() -> None:
    refuse_namesakes({"tps": wants(GENERIC), "archive": wants(replace(GENERIC), "labelmap"), "old": wants(SHORT)})

    with pytest.raises(SetupError, match="Two different profiles are called 'generic'"):
        refuse_namesakes({"tps": wants(GENERIC), "old": wants(replace(SHORT, name="generic"))})


def test_a_label_map_is_offered_first_and_each_structure_set_names_the_segmentation_beside_it() -> None:
    made = results({"tps": wants(segmentation="labelmap")})

    best, other = made.offers["tps"]
    assert [read(made, uid).SOPClassUID for _, uid in (best, other)] == [LABEL_MAP_SEGMENTATION, SEGMENTATION]
    for structures, segments in (best, other):
        assert segmentation_of(read(made, structures)) == {segments}
    assert len({uid for offer in (best, other) for uid in offer}) == 4


def test_structures_that_share_voxels_go_as_binary_and_that_is_said() -> None:
    made = results({"tps": wants(segmentation="labelmap")}, found=(definition("All", 1, 2, 3), *APART))

    ((_, segments),) = made.offers["tps"]
    assert read(made, segments).SegmentationType == "BINARY"
    assert made.notes == (
        "The Segmentation is BINARY, not LABELMAP: All and Ball share voxels, which a label map cannot say.",
    )


def test_without_probabilities_there_are_no_fractions_and_that_is_said() -> None:
    made = results({"tps": wants(segmentation="fractional")})

    ((_, segments),) = made.offers["tps"]
    assert read(made, segments).SegmentationType == "BINARY"
    assert made.notes == ("The Segmentation is BINARY, not FRACTIONAL: The model gives no probabilities.",)


def test_each_profile_gets_its_own_names_and_every_change_is_told() -> None:
    long = definition("A name far beyond sixteen", 1, 2)

    made = results({"tps": wants(SHORT), "archive": wants()}, found=(long, APART[1]))

    names = {
        name: [str(roi.ROIName) for roi in read(made, made.offers[name][0][0]).StructureSetROISequence]
        for name in ("tps", "archive")
    }
    assert names["archive"] == ["A name far beyond sixteen", "Box"]
    assert len(names["tps"][0]) <= 16
    assert names["tps"][1] == "Box"
    assert [(one.structure, one.name) for one in made.renamed["short"]] == [(long.name, names["tps"][0])]
    assert made.renamed["short"][0].reason
    assert "generic" not in made.renamed
    assert made.offers["tps"][0][1] == made.offers["archive"][0][1]


def test_holes_go_as_each_profile_has_them() -> None:
    xor = Profile(name="xor", title="", holes="xor", mark_cut=False)
    rind = (definition("Rind", 1),)

    made = results({"tps": wants(xor), "archive": wants()}, found=rind)

    kinds = {
        name: {
            str(contour.ContourGeometricType)
            for contour in read(made, made.offers[name][0][0]).ROIContourSequence[0].ContourSequence
        }
        for name in ("tps", "archive")
    }
    assert kinds == {"tps": {"CLOSEDPLANAR_XOR"}, "archive": {"CLOSED_PLANAR"}}


@pytest.mark.parametrize(
    ("empty", "names", "told"),
    [("omit", ["Ball", "Box"], "Omitted: Nowhere"), ("list", ["Ball", "Box", "Nowhere"], "Without contours: Nowhere")],
)
def test_a_structure_without_a_voxel_is_left_out_or_listed_and_always_told(
    empty: str, names: list[str], told: str
) -> None:
    profile = Profile(name="own", title="", empty_structures=empty, mark_cut=False)  # type: ignore[arg-type]

    made = results({"tps": wants(profile)})

    structures = read(made, made.offers["tps"][0][0])
    assert [str(roi.ROIName) for roi in structures.StructureSetROISequence] == names
    assert told in structures.StructureSetDescription
    assert [one.name for one in made.structure_set.omitted] == ["Nowhere"]


def test_an_organ_that_the_scan_cuts_is_marked_and_that_is_told() -> None:
    marking = Profile(name="marking", title="")
    source = ct_series(grid())
    manifest = manifest_of(source)
    labels = ball_and_box(manifest.grid).labels.copy()
    labels[0] = labels[-1] = 0
    labels[0, 5:9, 5:9] = 3

    drawn = Drawn(
        label_map=LabelMap(labels=labels, grid=manifest.grid), found=APART, omitted=(), reasons=(), probabilities=None
    )
    origin = Origin(manifest=manifest, source=source, provenance=provenance())
    outputs: tuple[OutputKind, ...] = ("rtstruct",)

    made = write_results(drawn, origin, outputs, {"tps": wants(marking)}, lambda _: None)

    names = [str(roi.ROIName) for roi in read(made, made.offers["tps"][0][0]).StructureSetROISequence]
    assert "Box~" in names
    assert [one.structure for one in made.renamed["marking"]] == ["Box"]


def test_only_what_the_route_asks_for_is_made() -> None:
    structures = results({"tps": wants()}, outputs=("rtstruct",))
    segments = results({"tps": wants(segmentation="labelmap")}, outputs=("seg",))

    assert [one.kind for one in structures.objects] == ["rtstruct"]
    assert "DefinitionSourceSequence" not in read(structures, structures.offers["tps"][0][0]).StructureSetROISequence[0]
    assert [[read(segments, uid).SOPClassUID for uid in offer] for offer in segments.offers["tps"]] == [
        [LABEL_MAP_SEGMENTATION],
        [SEGMENTATION],
    ]


def test_a_fault_is_kept_with_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_fault(*_: object) -> None:
        raise VerificationError("Box differs from the label map in 7 voxels.")

    monkeypatch.setattr("node.results.verify_segmentation", find_fault)

    made = results({"tps": wants()})

    assert [(one.kind, one.fault != "") for one in made.objects] == [("rtstruct", False), ("seg", True)]


def test_an_identifier_that_results_cannot_hold_is_told_without_telling_it() -> None:
    def too_long(header: Dataset) -> None:
        with config.disable_value_validation():
            header.PatientID = "P" * 65

    made = results({"tps": wants()}, changed=too_long)

    assert read(made, made.offers["tps"][0][0]).PatientID == ""
    assert made.notes == ("Patient ID of the images breaks its VR and is left empty in the results.",)


def test_images_compressed_with_loss_are_told() -> None:
    def lossy(header: Dataset) -> None:
        header.LossyImageCompression, header.LossyImageCompressionRatio = "01", "12"

    made = results({"tps": wants()}, changed=lossy)

    assert made.notes == ("The images were compressed with loss.",)


def test_images_with_sequences_of_undefined_length_have_results_too() -> None:
    def unmeasured(header: Dataset) -> None:
        facility, issuer, other = Dataset(), Dataset(), Dataset()
        facility.CodeValue, facility.CodingSchemeDesignator, facility.CodeMeaning = "1", "99X", "Elsewhere"
        issuer.AssigningFacilitySequence = [facility]
        other.PatientID, other.IssuerOfPatientIDQualifiersSequence = "P-2", [issuer]
        header.OtherPatientIDsSequence = [other]
        header["OtherPatientIDsSequence"].is_undefined_length = True
        other["IssuerOfPatientIDQualifiersSequence"].is_undefined_length = True
        for item in (facility, issuer, other):
            item.is_undefined_length_sequence_item = True

    made = results({"tps": wants()}, changed=unmeasured)

    for uid in made.offers["tps"][0]:
        issuers = read(made, uid).OtherPatientIDsSequence[0].IssuerOfPatientIDQualifiersSequence
        assert issuers[0].AssigningFacilitySequence[0].CodeMeaning == "Elsewhere"


def test_a_structure_that_is_not_believed_is_listed_without_contours_though_it_has_voxels() -> None:
    listed = replace(GENERIC, empty_structures="list")

    made = results({"tps": wants(listed)}, found=APART[:1], omitted=APART[1:])

    structures = read(made, made.offers["tps"][0][0])
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == ["Ball", "Box"]
    assert "ContourSequence" not in structures.ROIContourSequence[1]


def test_a_structure_that_is_lost_while_drawing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_one(*arguments: Any) -> StructureSet:
        whole = build_structures(*arguments)
        return replace(whole, structures=whole.structures[:1])

    monkeypatch.setattr("node.results.build_structures", lose_one)

    made = results({"tps": wants()}, outputs=("rtstruct",))

    assert [one.fault for one in made.objects] == ["Box has voxels and was given no name."]
