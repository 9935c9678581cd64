"""The shipped model: what its file says is what its script makes, and it behaves on scans drawn to mislead it."""

import hashlib
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import open_predictor
from node.domain.grid import Grid
from node.domain.structures import Code
from node.domain.volume import Volume
from node.inference.golden import golden_scan
from node.inference.package import LoadedPackage
from node.inference.predictor import Opened, no_progress
from node.inference.segment import Segmented, segment
from tests.builders import Orientation, grid

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "models" / "body-bones"
BODY, BONE = (1, 2, 3, 4, 5), (2, 3, 4, 5)

# 12 slices of 4 mm, 120 × 160 pixels of 2 × 1.5 mm: 240 × 240 mm.
STACK = grid(slices=12, rows=120, columns=160, spacing_mm=(4.0, 2.0, 1.5))


@cache
def loaded() -> LoadedPackage:
    return ModelStore([ROOT / "models"]).load("body-bones")


@cache
def predictor() -> Opened:
    return open_predictor(loaded(), "cpu", threads=2)


def found_in(voxels: NDArray[np.float32], stack: Grid = STACK) -> Segmented:
    return segment(Volume(voxels=voxels, grid=stack), loaded().package, predictor(), no_progress)


def mask(found: Segmented, values: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.isin(found.label_map.labels, values)


def air(stack: Grid = STACK) -> NDArray[np.float32]:
    """Give air with the noise of a scan."""
    noise = np.random.default_rng(3).normal(0.0, 12.0, stack.shape)
    return np.asarray(noise - 990.0, dtype=np.float32)


def disc(x_mm: float, y_mm: float, radius_mm: float) -> NDArray[np.bool_]:
    """Give a disc about a point of the default plane, in millimetres from its corner; shape (rows, columns)."""
    rows, columns = np.ogrid[:120, :160]
    return np.asarray((rows * 2.0 - y_mm) ** 2 + (columns * 1.5 - x_mm) ** 2 <= radius_mm**2)


def patient() -> NDArray[np.float32]:
    """Draw a trunk of 70 mm radius with two lungs and a spine whose cortex encloses marrow."""
    voxels = air()
    voxels[:, disc(120, 100, 70)] += 1030.0
    voxels[:, disc(90, 90, 22) | disc(152, 90, 22)] -= 880.0
    voxels[:, disc(120, 140, 16)] += 500.0
    voxels[:, disc(120, 140, 11)] -= 470.0
    return voxels


def test_the_graph_is_what_its_script_makes() -> None:
    build = runpy.run_path(str(ROOT / "scripts" / "build-body-bones"))["build"]

    made = build()

    assert made == build()
    assert hashlib.sha256(made).hexdigest() == loaded().package.graphs[0].sha256


def test_the_golden_test_is_what_its_script_makes_and_holds_both_structures() -> None:
    make = runpy.run_path(str(ROOT / "scripts" / "build-body-bones"))
    golden = loaded().package.golden

    made = make["golden"](make["build"]())

    assert golden is not None
    assert made == (MODEL / golden.file).read_bytes()
    assert hashlib.sha256(made).hexdigest() == golden.sha256
    assert set(np.unique(golden_scan(made, golden).labels)) >= {1, 4, 5}


def test_its_codes_are_those_of_the_dictionary() -> None:
    known = {code.value: code for code in (codes.DCM.ExternalBodyModel, codes.DCM.PatientAnatomyModel)}
    known |= {code.value: code for code in (codes.SCT.Tissue, codes.SCT.BoneTissue)}

    for structure in loaded().package.structures:
        for code in (structure.category, structure.type):
            entry = known[code.value]
            assert code == Code(value=entry.value, scheme=entry.scheme_designator, meaning=entry.meaning)


def test_it_says_what_it_is_and_is_not() -> None:
    package = loaded().package
    card = (MODEL / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert package.modalities == ("CT",)
    assert "Not for planning" in package.intended_use
    assert [(each.name, each.interpreted_type) for each in package.structures] == [
        ("Body", "EXTERNAL"),
        ("Bone", "ORGAN"),
    ]
    assert card.startswith(f"# {package.name} {package.version}\n")
    assert "Not trained, not validated, not for planning" in card


def test_the_body_holds_its_lungs_and_its_bone_its_marrow() -> None:
    found = found_in(patient())

    body, bone = disc(120, 100, 70), disc(120, 140, 16)
    assert found.omitted == ()
    assert mask(found, BODY).sum() == pytest.approx(12 * body.sum(), rel=0.01)
    assert mask(found, BODY)[:, disc(120, 100, 68)].all()
    assert not mask(found, BODY)[:, ~disc(120, 100, 72)].any()
    assert mask(found, BONE).sum() == pytest.approx(12 * bone.sum(), rel=0.1)
    assert mask(found, BONE)[:, disc(120, 140, 14)].all()


def test_a_couch_that_touches_the_skin_is_not_body() -> None:
    voxels = patient()
    # A shell of 4 mm under the back from edge to edge, foam of -850 HU below it, and a second shell.
    voxels[:, 85:87] = -50.0
    voxels[:, 87:105] = -850.0
    voxels[:, 105:107] = -50.0

    body = mask(found_in(voxels), BODY)

    beside = ~disc(120, 100, 90)
    assert not body[:, beside].any()
    assert not body[:, 88:].any()
    assert body.sum() == pytest.approx(12 * disc(120, 100, 70).sum(), rel=0.02)


def test_an_empty_scan_omits_both_with_the_reason() -> None:
    found = found_in(air())

    assert found.structures == ()
    assert [(each.name, each.reason) for each in found.omitted] == [
        ("Body", "The model found no voxel of Body."),
        ("Bone", "The model found no voxel of Bone."),
    ]


def test_a_crumb_is_no_patient() -> None:
    voxels = air()
    # 12 slices · 4 mm · π · 7² mm² are 7.4 cm³.
    voxels[:, disc(100, 100, 7)] = 40.0

    found = found_in(voxels)

    assert [each.name for each in found.omitted] == ["Body", "Bone"]
    assert "below 10 cm³" in found.omitted[0].reason


def test_a_body_that_the_image_cuts_off_is_filled_and_noted() -> None:
    voxels = air()
    voxels[:, :, :-40] = patient()[:, :, 40:]

    found = found_in(voxels)

    # 60 mm further to the right: 10 mm of the body lie beyond the edge.
    body = disc(60, 100, 70)
    assert mask(found, BODY).sum() == pytest.approx(12 * body.sum(), rel=0.015)
    assert mask(found, BODY)[:, disc(30, 90, 20)].all()
    assert found.notes == ("Body reaches the edge of the image: it may be cut off there.",)


def test_both_legs_are_body() -> None:
    voxels = air()
    voxels[:, disc(60, 100, 45)] = 40.0
    voxels[:, disc(170, 100, 38)] = 40.0

    body = mask(found_in(voxels), BODY)

    assert body[:, disc(60, 100, 43)].all()
    assert body[:, disc(170, 100, 36)].all()


def test_soft_tissue_above_the_lower_threshold_is_no_bone_without_bone_in_it() -> None:
    voxels = patient()
    # An organ with contrast medium.
    voxels[:, disc(120, 75, 10)] = 210.0

    assert not mask(found_in(voxels), BONE)[:, disc(120, 75, 14)].any()


def test_two_bones_close_to_each_other_stay_two() -> None:
    voxels = air()
    voxels[:, disc(120, 100, 70)] = 40.0
    voxels[:, disc(105, 100, 10)] = 700.0
    voxels[:, disc(132, 100, 10)] = 700.0

    bone = mask(found_in(voxels), BONE)

    # The gap is 7 mm wide at its narrowest.
    assert not bone[:, 40:60, 79].any()


@pytest.mark.parametrize("orientation", ["axial", "prone", "feet_first", "decubitus_left"])
def test_the_result_is_the_same_however_the_patient_lies(orientation: Orientation) -> None:
    stack = grid(slices=12, rows=120, columns=160, spacing_mm=(4.0, 2.0, 1.5), orientation=orientation)
    voxels = patient()

    found = found_in(voxels, stack)

    assert mask(found, BODY).sum() == pytest.approx(12 * disc(120, 100, 70).sum(), rel=0.01)
    assert mask(found, BONE)[:, disc(120, 140, 14)].all()


def test_sagittal_slices_are_contoured_too() -> None:
    # The same patient in planes from right to left: rows downwards, columns to the back.
    voxels = np.ascontiguousarray(patient()[::-1].transpose(2, 0, 1)[::-1])
    stack = grid(slices=160, rows=12, columns=120, spacing_mm=(1.5, 4.0, 2.0), orientation="sagittal")

    found = found_in(voxels, stack)

    axial = mask(found, BODY)[::-1].transpose(1, 2, 0)[::-1]
    assert axial[:, disc(120, 100, 68)].mean() > 0.99
    assert not axial[:, ~disc(120, 100, 72)].any()
