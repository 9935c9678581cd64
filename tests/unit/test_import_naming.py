"""Labels of data sets become known structures beyond doubt, or keep names of their own; a side is never guessed."""

import numpy as np
import pytest

from node.adapters.model_store import ModelStore
from node.convert.naming import known_name, named_structures, own_name
from node.convert.orientation import letters
from node.domain.errors import SetupError
from node.domain.tg263 import side_of

KNOWN = ModelStore([]).structures


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Kidney_L", "Kidney_L"),
        ("left kidney", "Kidney_L"),
        ("kidney_right", "Kidney_R"),
        ("adrenal_gland_left", "Glnd_Adrenal_L"),
        ("OpticNerve_R", "OpticNrv_R"),
        ("lung_middle_lobe_right", "Lung_RML"),
        ("vertebrae_T9", "VB_T09"),
        ("vertebrae_L5", "VB_L5"),
        ("rib_left_1", "Rib01_L"),
        ("bowel small", "Bowel_Small"),
        ("Brain Stem", "Brainstem"),
        ("urinary_bladder", "Bladder"),
    ],
)
def test_the_same_words_name_a_known_structure(label: str, name: str) -> None:
    assert known_name(label, KNOWN) == name


@pytest.mark.parametrize("label", ["kidney", "lung_middle_lobe_left", "lung_upper_lobe", "kidney_cyst_left", "tumor"])
def test_what_is_not_beyond_doubt_is_not_named(label: str) -> None:
    assert known_name(label, KNOWN) is None


def test_no_spelling_of_a_known_name_leads_to_the_other_side() -> None:
    swapped = {"L": "R", "R": "L"}
    for name in KNOWN:
        for spelling in (name, name.replace("_L", " left").replace("_R", " right"), name.lower()):
            found = known_name(spelling, KNOWN)

            assert found is None or side_of(found) != swapped.get(side_of(spelling), "none")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("gluteus_maximus_left", "GluteusMaximus_L"),
        ("kidney_cyst_right", "Kidney_Cyst_R"),
        ("Läsion, groß", "Lasion_Grox"),
        ("???", "Structure"),
    ],
)
def test_an_own_name_is_legal_and_has_its_side_at_the_end(label: str, name: str) -> None:
    assert own_name(label, set()) == name


def test_names_cut_to_the_same_letters_are_told_apart() -> None:
    labels = {f"extraordinarily long name {number}": (number,) for number in range(1, 30)}

    names = [one.name for one in named_structures(labels, KNOWN)]

    assert len({name.casefold() for name in names}) == 29
    assert max(map(len, names)) <= 16


def test_two_labels_of_one_known_name_both_keep_their_own() -> None:
    first, second = named_structures({"urinary_bladder": (1,), "bladder": (2,)}, KNOWN)

    assert (first.definition is not None, second.definition is not None) == (True, True)
    assert "Bladder" not in (first.name, second.name)
    assert first.hint == second.hint == "Bladder"


def test_what_nobody_told_is_an_anatomical_structure_with_its_side_and_a_colour_of_its_own() -> None:
    (one,) = named_structures({"iliopsoas_left": (7,)}, KNOWN)

    assert one.definition is not None
    assert one.definition.modifier is not None
    assert (one.definition.type.meaning, one.definition.modifier.meaning) == ("Anatomical Structure", "Left")
    assert one.definition.interpreted_type == ""
    assert one.definition.colour_rgb not in {row.colour_rgb for row in KNOWN.values()}


def test_directions_of_an_image_are_read_in_the_order_column_row_slice() -> None:
    # dcm2niix: rows run to the front. In LPS, y grows to the back. A tilt of some degrees changes nothing.
    assert letters(np.diag([1.0, -1.0, 1.0])) == "LAS"
    assert letters(np.array([[0.0, -0.98, 0.2], [0.0, -0.2, -0.98], [1.0, 0.0, 0.0]])) == "SRA"
    with pytest.raises(SetupError, match="so obliquely"):
        letters(np.array([[1.0, 0.9, 0.0], [0.0, 0.1, 0.0], [0.0, 0.4, 1.0]]))
