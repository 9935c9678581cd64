"""One SOP Instance UID with several contents: a corrected header, or another image."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from node.domain.evidence import RemovedImages
from node.domain.instance import ReceivedInstance
from node.domain.series import Complete, CompletionPolicy, SeriesFacts, SeriesManifest, Stalled, Verdict, assess
from node.domain.versions import identity_of
from tests.series import LAST, facts, image, stack

AT_ONCE = CompletionPolicy(quiet_period_s=0)
TEN = stack()


def corrected(instances: Sequence[ReceivedInstance], **changes: str) -> tuple[ReceivedInstance, ...]:
    """Give the same images, sent later under another header."""
    return tuple(
        replace(one, received_at=LAST + 9.0, file_name=f"later-{one.file_name}", **changes)  # type: ignore[arg-type]
        for one in instances
    )


def judged(instances: Sequence[ReceivedInstance], **known: object) -> Verdict:
    return assess(replace(facts(instances), **known), LAST + 10.0, AT_ONCE)  # type: ignore[arg-type]


def completed(instances: Sequence[ReceivedInstance], **known: object) -> Complete:
    verdict = judged(instances, **known)
    assert isinstance(verdict, Complete), verdict
    return verdict


def manifest(instances: Sequence[ReceivedInstance], **known: object) -> SeriesManifest:
    return completed(instances, **known).manifests[0]


def stalled(instances: Sequence[ReceivedInstance], **known: object) -> str:
    verdict = judged(instances, **known)
    assert isinstance(verdict, Stalled), verdict
    return verdict.reason


@pytest.mark.parametrize("sent", [lambda one, other: (*one, *other), lambda one, other: (*other, *one)])
def test_of_a_header_sent_again_corrected_the_later_counts_and_the_evidence_says_so(sent) -> None:  # type: ignore[no-untyped-def]
    later = corrected(TEN, patient_digest="the right patient")

    verdict = completed(sent(TEN, later))

    assert set(verdict.manifests[0].files.values()) == {one.file_name for one in later}
    said = "10 instances were sent again with the same pixels and another header: the version received last counts"
    assert said in verdict.evidence


def test_a_corrected_patient_makes_another_fingerprint_once_the_series_was_contoured_as_the_former() -> None:
    later = corrected(TEN, patient_digest="the right patient")
    first = manifest(TEN)

    second = manifest((*TEN, *later), first_identity=first.identity)

    assert second.fingerprint != first.fingerprint
    assert second.identity != first.identity


def test_the_corrected_series_keeps_its_fingerprint_whether_the_former_images_are_still_here_or_not() -> None:
    later = corrected(TEN, patient_digest="the right patient")
    first = manifest(TEN).identity

    together, alone = (manifest(sent, first_identity=first).fingerprint for sent in ((*TEN, *later), later))

    assert together == alone


def test_the_former_sent_again_is_the_former() -> None:
    first = manifest(TEN)

    assert manifest(TEN, first_identity=first.identity).fingerprint == first.fingerprint


def test_a_header_that_changes_neither_patient_nor_study_keeps_the_fingerprint() -> None:
    first = manifest(TEN)
    later = corrected(TEN, modality="CT", frame_of_reference_uid="1.2.5")
    described = tuple(replace(one, attributes={**one.attributes, "SeriesDescription": "CT"}) for one in later)

    again = manifest((*TEN, *described), first_identity=first.identity)

    assert again.fingerprint == first.fingerprint
    assert again.attributes["SeriesDescription"] == "CT"


def test_a_series_half_corrected_is_of_two_patients_until_the_rest_comes() -> None:
    later = corrected(TEN[:5], patient_digest="the right patient")

    assert stalled((*TEN, *later)) == "instances of 2 patients in one series"


def test_a_corrected_study_is_a_correction_too() -> None:
    first = manifest(TEN)

    second = manifest((*TEN, *corrected(TEN, study_instance_uid="1.9")), first_identity=first.identity)

    assert second.study_instance_uid == "1.9"
    assert second.fingerprint != first.fingerprint


def moved(one: ReceivedInstance) -> ReceivedInstance:
    (plane,) = one.planes
    return replace(one, planes=(replace(plane, position_lps_mm=(0.0, 0.0, 500.0)),), file_name="moved.dcm")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (replace(TEN[3], pixel_digest="other", file_name="other.dcm"), "stands for different images"),
        (moved(TEN[3]), "stands for one image at different places"),
        (
            replace(TEN[3], frame_of_reference_uid="1.9", file_name="other.dcm"),
            "stands for one image at different places",
        ),
    ],
)
def test_another_image_under_a_uid_that_is_taken_is_contoured_with_neither(
    other: ReceivedInstance, reason: str
) -> None:
    assert stalled((*TEN, other)) == f"SOP Instance UID {TEN[3].sop_instance_uid} {reason}"
    assert stalled((other, *TEN)) == f"SOP Instance UID {TEN[3].sop_instance_uid} {reason}"


def test_no_key_ever_splits_two_images_of_one_uid_into_two_volumes() -> None:
    keyed = [
        tuple(
            replace(one, plane_keys=({"AcquisitionNumber": number},), file_name=f"{number}-{one.file_name}")
            for one in TEN
        )
        for number in ("1", "2")
    ]
    others = tuple(replace(one, pixel_digest=f"other {one.pixel_digest}") for one in keyed[1])

    assert stalled((*keyed[0], *others)).endswith("stands for different images, and so do 9 more")


def test_the_same_again_is_no_correction() -> None:
    again = corrected(TEN)

    assert completed((*TEN, *again)).evidence == completed(again).evidence


REMOVED = RemovedImages(on="2026-03-01", sop_instance_uids=frozenset(one.sop_instance_uid for one in TEN))


@pytest.mark.parametrize(
    ("late", "missing"),
    [((image("99", (-31.5, -22.25, 120.0)),), 10), (stack(4, name="9"), 10), (TEN[:6], 4)],
)
def test_slices_that_come_after_their_series_was_removed_are_not_contoured_without_it(
    late: Sequence[ReceivedInstance], missing: int
) -> None:
    assert stalled(late, removed=REMOVED) == (
        f"{missing} of the images that were here before were removed on 2026-03-01; they did not come again: "
        "send the whole series"
    )


def test_a_series_sent_again_whole_after_its_removal_is_the_same_series() -> None:
    assert manifest(TEN, removed=REMOVED).fingerprint == manifest(TEN).fingerprint


def test_a_late_slice_with_the_whole_series_after_its_removal_is_a_larger_one() -> None:
    late = image("99", (-31.5, -22.25, 120.0))

    assert manifest((*TEN, late), removed=REMOVED).grid.shape[0] == 11


def test_the_identity_tells_nobody() -> None:
    found = SeriesFacts(series_instance_uid="1", instances=TEN, associations=()).instances

    assert len(identity_of(found)) == 8
    assert identity_of(found) == identity_of(found[::-1])
