"""What TG-263 would have otherwise in a name is said; no name is suggested on the other side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.tg263 import faults_of, nearest, side_of

KNOWN = (
    "Kidney_L",
    "Kidney_R",
    "Kidneys",
    "Glnd_Submand_L",
    "Glnd_Submand_R",
    "SpinalCord",
    "Lung_L",
    "VB_L1",
    "Brain",
    "V_Portal",
)


@pytest.mark.parametrize(
    "name",
    [
        "Brain", "Kidney_L", "Kidney_Cortex_L", "A_LAD", "VB_L", "VB_T01", "Lung_RUL", "LN_Ax_L1_L", "CN_VIII_R",
        "Rib08_L", "Brain~", "Lung~_L", "Lungs^Ex", "Lung_L^Ex", "Brainstem_PRV", "SpinalCord_PRV05",
        "OpticChiasm_PRV3", "Retina_PRV03_L", "OpticNrv_PRV_L03", "Kidney_L-GTV", "Lungs-PTV", "GTV",
        "PTV_5000", "zPTV", "z_Ring", "_Ring",
    ],
)  # fmt: skip
def test_names_by_the_rules_have_no_fault(name: str) -> None:
    assert faults_of(name) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Glnd_Submandibular_L", "has 20 characters; 16 are allowed"),
        ("Optic Nrv", "holds ' '; allowed are letters, digits, _ ~ ^ + -"),
        ("kidney_L", "has 'kidney', which should begin with a capital"),
        ("Kidney_cortex_L", "has 'cortex', which should begin with a capital"),
        ("Kidney__L", "has an underscore with nothing on one side of it"),
        ("Kidney_", "has an underscore with nothing on one side of it"),
        ("Gland_Thyroid", "begins with 'Gland'; TG-263 writes 'Glnd'"),
        ("Vertebra_L1", "begins with 'Vertebra'; TG-263 writes 'VB'"),
        ("Kidney_Left", "spells its side otherwise than _L or _R"),
        ("KidneyRight", "spells its side otherwise than _L or _R"),
        ("Kidney_l", "spells its side otherwise than _L or _R"),
        ("KidneyL", "has its side elsewhere than at the end, after an underscore"),
        ("L_Kidney", "has its side elsewhere than at the end, after an underscore"),
        ("Lung_L_Upper", "has its side elsewhere than at the end, after an underscore"),
        ("SpinalCordPRV5", "has a PRV that is not written _PRV and up to two digits of millimetres"),
        ("SpinalCord_PRV5mm", "has a PRV that is not written _PRV and up to two digits of millimetres"),
        ("Lung_L~", "has ~ behind its side; TG-263 writes it before, as in Lung~_L"),
        ("Lu~ng~", "has ~ more than once, or before the organ"),
        ("~Lung", "has ~ more than once, or before the organ"),
        ("Lungs^", "has ^ more than once, or nothing before or behind it"),
    ],
)
def test_what_breaks_a_rule_is_said(name: str, said: str) -> None:
    assert said in faults_of(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Kidney_Left", "Kidney_L"),
        ("right_kidney", "Kidney_R"),
        ("Kindey_R", "Kidney_R"),
        ("Spinal_Cord", "SpinalCord"),
        ("Submandibular_R", "Glnd_Submand_R"),
        ("Vertebra_L1", "VB_L1"),
        ("portal_vein", "V_Portal"),
        # There is no right lung here, and the left one is none.
        ("Lung_R", None),
        ("Qqq", None),
    ],
)
def test_the_nearest_name_is_of_the_same_side(name: str, near: str | None) -> None:
    assert nearest(name, KNOWN) == near


@given(st.sampled_from(["L", "R", "Left", "right", "Rt"]), st.text(st.sampled_from("KidneyLung_ "), max_size=12))
def test_no_name_of_the_other_side_is_ever_suggested(side: str, organ: str) -> None:
    name = f"{organ}_{side}"

    near = nearest(name, KNOWN)

    assert near is None or side_of(near) == side_of(name) == side[0].upper()


def test_a_name_built_on_none_that_is_known_is_told_with_the_nearest() -> None:
    assert faults_of("Kidny_L", KNOWN) == ["is not in the table of structures; spelt most alike there: 'Kidney_L'"]
    assert faults_of("Qqq", KNOWN) == ["is not in the table of structures"]


@pytest.mark.parametrize(
    "name",
    ["Kidney~_L", "Brain^Ex", "SpinalCord_PRV05", "Kidney_PRV03_L", "Brain-PTV", "GTV_5000", "zRing", "Kidney_L"],
)
def test_a_name_built_on_a_known_one_is_known(name: str) -> None:
    assert faults_of(name, KNOWN) == []


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("Kidney_L", "L"), ("kidney left", "L"), ("RightKidney", "R"), ("KidneyL", "L"), ("R.Lung", "R"),
        ("Lung~_R", "R"), ("A_LAD", ""), ("Liver", ""), ("Lung_RUL", ""),
        ("Palate_Cleft", ""), ("Brightness", ""), ("VB_L1", ""), ("Läsion", ""), ("Niere_L", "L"),
    ],
)  # fmt: skip
def test_a_side_is_read_in_whatever_spelling_and_where_there_is_none_none_is(name: str, side: str) -> None:
    assert side_of(name) == side
