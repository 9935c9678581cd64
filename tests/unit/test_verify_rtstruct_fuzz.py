"""Damaged RT Structure Sets: each is caught, or says what the sound one says. None hangs, none crashes the check."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from node.domain.errors import VerificationError
from node.domain.masks import members
from tests.rtstruct_case import DEFINITIONS, case, filled, points_of

# What no check can know: it stands in no manifest and no definition.
FREE = {
    "SpecificCharacterSet", "InstanceCreationDate", "InstanceCreationTime", "StudyDate", "SeriesDate", "StudyTime",
    "SeriesTime", "AccessionNumber", "Manufacturer", "ReferringPhysicianName", "SeriesDescription", "OperatorsName",
    "ManufacturerModelName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "SoftwareVersions",
    "SeriesInstanceUID", "StudyID", "SeriesNumber", "InstanceNumber", "StructureSetLabel", "StructureSetName",
    "StructureSetDescription", "StructureSetDate", "StructureSetTime", "PositionReferenceIndicator", "ROIDescription",
    "ROIVolume", "ROIGenerationDescription", "ROIObservationLabel", "CodeMeaning", "ObservationNumber", "ContourNumber",
    "ContourData", "NumberOfContourPoints", "ROIInterpreter", "DefinitionSourceSequence", "ReferencedSegmentNumber",
}  # fmt: skip


def told(dataset: Dataset, within: str = "") -> Iterator[tuple[str, str]]:
    """Give every value that a check can know, with where it stands."""
    for element in dataset:
        if element.keyword in FREE:
            continue
        if element.VR == "SQ":
            for index, item in enumerate(element.value):
                yield from told(item, f"{within}{element.keyword}[{index}].")
        else:
            yield within + element.keyword, str(element.value)


def assert_caught_or_equal(faulty: bytes) -> None:
    try:
        case().verify(faulty)
    except VerificationError:
        return
    dataset, sound = dcmread(io.BytesIO(faulty)), dcmread(io.BytesIO(case().written))
    assert set(told(sound)) <= set(told(dataset))
    for region, structure in zip(dataset.ROIContourSequence[:3], DEFINITIONS[:3], strict=True):
        inside = np.logical_xor.reduce([filled(one, points_of(one)) for one in region.ContourSequence])
        assert np.array_equal(inside, members(case().label_map.labels, structure.label_values))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_that_changed_are_caught_or_change_nothing_that_counts(data: st.DataObject) -> None:
    faulty = bytearray(case().written)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(faulty) - 1) | st.integers(128, 600))
        faulty[index] = data.draw(st.integers(0, 255))

    assert_caught_or_equal(bytes(faulty))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_that_are_lost_or_doubled_are_caught(data: st.DataObject) -> None:
    sound = case().written
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(sound))] * 2)))
    times = data.draw(st.sampled_from([0, 2]))

    assert_caught_or_equal(sound[:first] + sound[first:last] * times + sound[last:])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_a_file_that_is_cut_is_caught(missing: int) -> None:
    sound = case().written

    with pytest.raises(VerificationError):
        case().verify(sound[: max(0, len(sound) - 1 - missing)])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_anything_else_is_caught(content: bytes) -> None:
    for faulty in (content, case().written[:400] + content):
        with pytest.raises(VerificationError):
            case().verify(faulty)
