"""A golden test's file holds two arrays and nothing else, and the same arrays make the same bytes."""

import io
from typing import Any

import numpy as np
import pytest

from node.domain.errors import SetupError
from node.inference.golden import Golden, golden_file, golden_scan, refuse_other_labels
from node.inference.package import ModelPackage, parse_manifest
from tests.unit.test_package import MANIFEST

GOLDEN = Golden(file="golden.npz", sha256="0" * 64, spacing_mm=(3.0, 1.5, 1.25))
VALUES = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
LABELS = (VALUES[0] % 3).astype(np.uint8)

PROVENANCE = f"""
[provenance]
source = "results folder of nnU-Net"
made_by = "Delineate 1, torch 2"
made_on = "2026-11-20"
[[provenance.files]]
file = "fold_0/checkpoint_final.pth"
sha256 = "{"1e" * 32}"

[[parity]]
compared_with = "nnunetv2 2.8.1"
computed_by = "CPUExecutionProvider, float32"
voxels = 862540
differing_voxels = 0

[golden]
file = "golden.npz"
sha256 = "{"2f" * 32}"
spacing_mm = [3, 1.5, 1.25]
"""


def saved(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def package(text: str) -> ModelPackage:
    return parse_manifest(MANIFEST + text)


def test_the_scan_lies_in_the_patient_as_its_spacing_says() -> None:
    scan = golden_scan(golden_file(VALUES, LABELS), GOLDEN)

    first, second = scan.volumes
    np.testing.assert_array_equal(first.voxels, VALUES[0])
    np.testing.assert_array_equal(second.voxels, VALUES[1])
    np.testing.assert_array_equal(scan.labels, LABELS)
    assert first.voxels.dtype == np.float32
    # Slice 2, row 3, column 4: x 4 · 1.25 to the left, y 3 · 1.5 to the back, z 2 · 3 to the head.
    assert first.grid.points_lps_mm(2, [3], [4]).tolist() == [[5.0, 4.5, 6.0]]


def test_the_same_arrays_make_the_same_bytes() -> None:
    assert golden_file(VALUES, LABELS) == golden_file(VALUES.copy(), LABELS.copy())


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "is no golden test"),
        (b"PK\x03\x04", "is no golden test"),
        (saved(values=VALUES), "must hold `values` and `labels` and nothing else"),
        (saved(values=VALUES, labels=LABELS, patient=LABELS), "must hold `values` and `labels` and nothing else"),
        (saved(values=np.array([{}], dtype=object), labels=LABELS), "is no golden test"),
        (saved(values=VALUES[0], labels=LABELS), r"it holds int16 \[3, 4, 5\]"),
        (saved(values=VALUES, labels=LABELS[1:]), r"uint8 \[2, 4, 5\]"),
        (saved(values=VALUES.astype(np.float64), labels=LABELS), "it holds float64"),
        (saved(values=VALUES, labels=LABELS.astype(np.int64)), "and int64"),
        (saved(values=VALUES, labels=np.zeros_like(LABELS)), "some of them not 0"),
    ],
)
def test_another_file_is_refused(file: bytes, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        golden_scan(file, GOLDEN)


def test_of_many_labels_that_differ_five_are_named() -> None:
    labels = np.arange(20, dtype=np.uint8).reshape(1, 4, 5)
    scan = golden_scan(golden_file(VALUES[:, :1], labels), GOLDEN)

    with pytest.raises(SetupError, match=r"19 of 20 voxels .* label 0 20 and 1; .*; label 4 0 and 1; and 15 labels"):
        refuse_other_labels(np.zeros_like(labels), scan, GOLDEN)


def test_a_manifest_tells_of_origin_parity_and_golden_test() -> None:
    told = package(PROVENANCE)

    assert told.provenance is not None
    assert told.provenance.made_on == "2026-11-20"
    assert [each.file for each in told.provenance.files] == ["fold_0/checkpoint_final.pth"]
    assert [(each.voxels, each.differing_voxels) for each in told.parity] == [(862540, 0)]
    assert told.golden == Golden(file="golden.npz", sha256="2f" * 32, spacing_mm=(3.0, 1.5, 1.25), differing_voxels=0)


def test_a_manifest_need_not_tell_of_them() -> None:
    told = package("")

    assert (told.provenance, told.golden, told.parity) == (None, None, ())


@pytest.mark.parametrize(
    ("text", "instead", "reason"),
    [
        ('made_on = "2026-11-20"', 'made_on = "yesterday"', "made_on is 'yesterday'; allowed: a day"),
        ("differing_voxels = 0", "differing_voxels = 862541", "differing_voxels must be between 0 and voxels"),
        ('file = "golden.npz"', 'file = "../golden.npz"', "file is '../golden.npz'; allowed: a plain file name"),
        ("spacing_mm = [3, 1.5, 1.25]", "spacing_mm = [3, 0, 1.25]", r"\[golden\]: spacing_mm must be above 0"),
        ("spacing_mm = [3, ", "differing_voxels = -1\nspacing_mm = [3, ", "differing_voxels must be 0 or more"),
        ("[golden]", "[golden]\nvolume = 1", "volume is unknown"),
    ],
)
def test_what_a_manifest_tells_wrongly_is_refused(text: str, instead: str, reason: str) -> None:
    assert text in PROVENANCE

    with pytest.raises(SetupError, match=reason):
        package(PROVENANCE.replace(text, instead))
