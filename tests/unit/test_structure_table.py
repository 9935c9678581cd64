"""What conf/structures.toml says holds: codes are the standard's, sides are right, names and colours differ."""

import tomllib
from itertools import combinations
from math import dist
from typing import cast, get_args

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from node.adapters.model_store import ModelStore
from node.domain.errors import SetupError
from node.domain.structures import Code, InterpretedType, StructureDefinition
from node.domain.tg263 import faults_of, side_of
from node.inference.package import parse_manifest
from node.inference.structure_table import parse_structures
from node.resources import shipped
from tests.unit.test_package import MANIFEST

TEXT = (shipped("conf") / "structures.toml").read_text(encoding="utf-8")
TABLE = parse_structures(TEXT)

# As pydicom has them: scheme, keyword, code value; its meaning and the context groups (CID) that hold it.
CONCEPTS = cast(dict[str, dict[str, dict[str, tuple[str, list[int]]]]], concepts)

LEFT = Code(value="7771000", scheme="SCT", meaning="Left")
RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")
BOTH = Code(value="51440002", scheme="SCT", meaning="Bilateral")

# Not among the standard's: their check digits alone are tested.
FROM_SNOMED_CT = {
    Code(value="80169004", scheme="SCT", meaning="Cochlear structure"),
    Code(value="52737000", scheme="SCT", meaning="Structure of bulb of penis"),
}

ASKED_FOR = """
Body External Bone Brain Brainstem SpinalCord SpinalCanal Parotid_L Parotid_R Glnd_Submand_L Glnd_Submand_R
Bone_Mandible Larynx Esophagus Eye_L Eye_R Lens_L Lens_R OpticNrv_L OpticNrv_R OpticChiasm Cochlea_L Cochlea_R
Glnd_Thyroid Cavity_Oral Lips Pharynx Trachea Pituitary Hippocampus_L Hippocampus_R Lung_L Lung_R Lungs Heart A_Aorta
Liver Spleen Kidney_L Kidney_R Stomach Pancreas Bowel_Small Bowel_Large Gallbladder Duodenum Bladder Rectum Prostate
SeminalVes Femur_Head_L Femur_Head_R PenileBulb Bone_Pelvic VB_C1 VB_T12 VB_L5 Rib01_L Rib12_R
"""


def codes() -> set[Code]:
    return {code for one in TABLE.values() for code in (one.category, one.type, one.modifier) if code is not None}


def meanings(code: Code) -> set[str]:
    """Give the meanings that pydicom's copy of the standard's context groups has for a code."""
    return {found[code.value][0] for found in CONCEPTS[code.scheme].values() if code.value in found}


def verhoeff(digits: str) -> int:
    """Give 0 for a SNOMED CT identifier whose check digit is right."""
    check = 0
    for position, digit in enumerate(reversed(digits)):
        turned = int(digit)
        for _ in range(position % 8):
            turned = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[turned]
        check = _product(check, turned)
    return check


def _product(a: int, b: int) -> int:
    """Multiply in the dihedral group of the pentagon: 0 to 4 turn it, 5 to 9 turn it over."""
    turn = (a + b) % 5 if a < 5 else (a - b) % 5
    return turn + 5 * ((a < 5) != (b < 5))


def test_it_has_the_structures_that_are_drawn_most() -> None:
    assert set(ASKED_FOR.split()) <= set(TABLE)


def test_every_code_and_its_meaning_is_the_standards() -> None:
    strange = {code for code in codes() if code.meaning not in meanings(code)}

    assert strange == FROM_SNOMED_CT


def test_the_codes_from_elsewhere_are_used_nowhere_else_and_have_right_check_digits() -> None:
    users = {name for name, one in TABLE.items() if one.type in FROM_SNOMED_CT}

    assert users == {"Cochlea_L", "Cochlea_R", "PenileBulb"}
    assert not any(meanings(code) for code in FROM_SNOMED_CT)
    assert [verhoeff(code.value) for code in FROM_SNOMED_CT | {LEFT, RIGHT}] == [0, 0, 0, 0]
    assert verhoeff("80169040") != 0


def test_categories_are_of_the_standards_list() -> None:
    # CID 7150, and CID 9580 for radiotherapy, by pydicom's keywords.
    listed = {
        value
        for cid in (7150, 9580)
        for scheme, keywords in cid_concepts[cid].items()
        for keyword in keywords
        for value in CONCEPTS[scheme][keyword]
    }

    assert {one.category.value for one in TABLE.values()} <= listed


def test_interpreted_types_are_the_standards_and_only_outlines_are_external() -> None:
    assert {one.interpreted_type for one in TABLE.values()} <= set(get_args(InterpretedType)) - {""}
    assert {name for name, one in TABLE.items() if one.interpreted_type == "EXTERNAL"} == {"Body", "External"}


def test_left_and_right_are_one_structure_on_two_sides_and_never_swapped() -> None:
    lefts = {name for name in TABLE if name.endswith("_L")}
    rights = {name for name in TABLE if name.endswith("_R")}

    assert {name[:-2] for name in lefts} == {name[:-2] for name in rights}
    for name in lefts:
        left, right = TABLE[name], TABLE[f"{name[:-2]}_R"]
        assert (left.modifier, right.modifier) == (LEFT, RIGHT)
        assert (left.type, left.category, left.always_cut) == (right.type, right.category, right.always_cut)


def test_no_other_name_has_a_side_but_lobes_and_pairs() -> None:
    others = {name: one.modifier for name, one in TABLE.items() if not side_of(name) and one.modifier is not None}

    assert {name for name, side in others.items() if side == LEFT} == {"Lung_LUL", "Lung_LLL"}
    assert {name for name, side in others.items() if side == RIGHT} == {"Lung_RUL", "Lung_RML", "Lung_RLL"}
    assert {name for name, side in others.items() if side == BOTH} == {
        "Breasts", "Eyes", "Femurs", "Glnd_Submands", "Hippocampi", "Kidneys", "Lungs", "Parotids",
    }  # fmt: skip


def test_types_name_no_side_themselves_but_the_lobe_that_only_the_right_lung_has() -> None:
    sided = {name for name, one in TABLE.items() if one.modifier and side_of(one.type.meaning)}

    assert sided == {"Lung_RML"}


def test_names_keep_the_rules_of_tg_263_and_differ_where_case_is_ignored() -> None:
    assert {name: faults_of(name) for name in TABLE if faults_of(name)} == {}
    assert len({name.lower() for name in TABLE}) == len(TABLE)
    assert max(map(len, TABLE)) <= 16


def test_colours_can_be_told_apart() -> None:
    seen = {name: _lab(one.colour_rgb) for name, one in TABLE.items()}
    nearest, *_ = sorted((dist(seen[one], seen[other]), one, other) for one, other in combinations(seen, 2))

    # Differences from about 2.3 on are noticed side by side; four times as much is told apart on a screen.
    assert nearest[0] >= 9.2, nearest


def test_sides_of_one_structure_differ_plainly_in_colour() -> None:
    for name in (name for name in TABLE if name.endswith("_L")):
        left, right = TABLE[name], TABLE[f"{name[:-2]}_R"]
        assert dist(_lab(left.colour_rgb), _lab(right.colour_rgb)) >= 20, name


def _lab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """Convert sRGB to CIE L*a*b* under D65, in which distances follow what is seen."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb))
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def test_what_no_scan_of_one_region_holds_whole_is_listed_here_in_full() -> None:
    cut = {name.removesuffix("_L").removesuffix("_R") for name, one in TABLE.items() if one.always_cut}

    assert cut == {
        "Bone", "BoneMarrow", "Musc", "Skin", "SpinalCanal", "SpinalCord",
        "Femur", "Femurs", "Fibula", "Humerus", "Radius",
        "A_Aorta", "A_Carotid", "A_Iliac_Ext", "A_Subclavian", "A_Vertebral", "V_Iliac_Ext", "V_Jugular_Int",
        "V_Subclavian", "V_Venacava_I",
    }  # fmt: skip


def test_the_model_that_comes_along_says_of_its_structures_what_the_table_says() -> None:
    package = ModelStore([shipped("models")]).load("body-bones").package

    for one in package.structures:
        row = TABLE[one.name]
        assert (one.category, one.type, one.modifier) == (row.category, row.type, row.modifier)
        assert (one.colour_rgb, one.interpreted_type) == (row.colour_rgb, row.interpreted_type)


# How a manifest uses it.

SHORT = '[[structures]]\nname = "Kidney_L"\nlabel_values = [7]\n'


def structures(text: str) -> tuple[StructureDefinition, ...]:
    head, tail = MANIFEST.split("[[structures]]", 1)[0], MANIFEST[MANIFEST.index("[[post]]") :]
    tail = tail[: tail.index("[[gates]]")]
    return parse_manifest(head + text + tail, known=TABLE).structures


def test_a_structure_that_is_only_named_is_described_by_the_table() -> None:
    (kidney,) = structures(SHORT)

    assert kidney == StructureDefinition(
        name="Kidney_L",
        label_values=(7,),
        colour_rgb=TABLE["Kidney_L"].colour_rgb,
        category=Code(value="91723000", scheme="SCT", meaning="Anatomical Structure"),
        type=Code(value="64033007", scheme="SCT", meaning="Kidney"),
        modifier=LEFT,
        interpreted_type="ORGAN",
        always_cut=False,
    )


def test_what_the_manifest_says_itself_wins() -> None:
    (kidney,) = structures(SHORT + 'colour_rgb = [1, 2, 3]\ninterpreted_type = "AVOIDANCE"\nalways_cut = true\n')

    assert (kidney.colour_rgb, kidney.interpreted_type, kidney.always_cut) == ((1, 2, 3), "AVOIDANCE", True)
    assert kidney.modifier == LEFT


def test_a_type_of_the_manifests_own_brings_its_own_side() -> None:
    left = 'type = { value = "80248007", scheme = "SCT", meaning = "Left breast" }\n'

    (breast,) = structures('[[structures]]\nname = "Breast_L"\nlabel_values = [7]\n' + left)

    assert (breast.type.meaning, breast.modifier) == ("Left breast", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "Kidney_Left"', r"'Kidney_Left' is not in conf/structures.toml; is 'Kidney_L' meant\?"),
        ('name = "Kindey_R"', r"is 'Kidney_R' meant\?"),
        ('name = "Qqq"', r"'Qqq' is not in conf/structures.toml\. Without it give colour_rgb, category, type, "),
        (
            'name = "Kidney_L"\nmodifier = { value = "24028007", scheme = "SCT", meaning = "Right" }',
            "'Kidney_L' has the code of the other side",
        ),
    ],
)
def test_a_structure_that_is_neither_known_nor_described_is_refused(text: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        structures(f"[[structures]]\n{text}\nlabel_values = [7]\n")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Kidney_L = { type", "Kidney_L = { typ", r"\[Kidney_L\]: typ is unknown; is 'type' meant"),
        (
            '"64033007", "Kidney"], side = "left"',
            '"64033007"], side = "left"',
            "type must be scheme, value and meaning",
        ),
        ('"Kidney"], side = "left"', '"Kidney"], side = "right"', "'Kidney_L' has the code of the other side"),
        ('"Kidney"], side = "left"', '"Kidney"]', "side is missing: the name ends in one"),
        ('"Kidney"], side = "left"', '"Kidney"], side = "lift"', r"\[sides\]: lift is missing"),
        ("Kidney_R =", "KIDNEY_L =", "holds a name twice"),
        ("Kidney_R =", "Kidney_Right_Side =", "has more than 16 characters"),
        ('interpreted_type = "ORGAN"', 'interpreted_type = "ORGANS"', "interpreted_type must be one of"),
        ("[sides]", "[sides", "is not valid TOML"),
    ],
)
def test_a_wrong_table_is_refused_with_the_place(old: str, new: str, said: str) -> None:
    assert old in TEXT

    with pytest.raises(SetupError, match=said) as raised:
        parse_structures(TEXT.replace(old, new, 1))

    assert "structures.toml" in raised.value.reason
    assert "conf/structures.toml" in raised.value.remedy


def test_the_table_names_every_key_that_it_uses() -> None:
    explained = TEXT[: TEXT.index("\n[defaults]")]
    used = {key for row in tomllib.loads(TEXT)["structures"].values() for key in row}

    assert all(f"\n# {key} " in explained for key in used)
