"""Which organ a name means; above all, that left is never right."""

import pytest

from node.dataset.names import NO_TABLE, Names, read_table, refuse_unknown
from node.domain.errors import SetupError

ORGANS = ("Parotid_L", "Parotid_R", "SpinalCord", "Lungs", "Lung_L", "Heart")


@pytest.mark.parametrize(
    ("name", "organ"),
    [
        ("Parotid_L", "Parotid_L"),
        ("PAROTID L", "Parotid_L"),
        ("parotid-r", "Parotid_R"),
        ("Left Parotid", "Parotid_L"),
        ("Parotid (Rt.)", "Parotid_R"),
        ("ParotidLt", "Parotid_L"),
        ("spinal cord", "SpinalCord"),
        ("SPINALCORD", "SpinalCord"),
        ("LUNGS", "Lungs"),
        # No side, or two of them, or the other organ's.
        ("Parotid", None),
        ("parotidl", None),
        ("L Parotid R", None),
        ("Heart_L", None),
        # Parts of organs, margins and differences are other regions.
        ("Lung~_L", None),
        ("Lungs-GTV", None),
        ("Parotid_L_PRV05", None),
        ("cord", None),
    ],
)
def test_a_name_is_an_organ_by_letters_and_side(name: str, organ: str | None) -> None:
    assert Names(organs=ORGANS).organ_of(name) == organ


def test_the_clinics_table_is_asked_first_and_cannot_change_a_side() -> None:
    table = read_table(
        'Parotid_L = ["*parot*"]\nParotid_R = ["parotis re*", "Speichel R"]\nHeart = ["herz"]', "names.toml"
    )
    names = Names(organs=ORGANS, table=table)

    assert names.organ_of("HERZ") == "Heart"
    assert names.organ_of("Parotis li") == "Parotid_L"
    assert names.organ_of("parotis links") == "Parotid_L"
    # The pattern of the left one fits these three, too.
    assert names.organ_of("parotis re 2") == "Parotid_R"
    assert names.organ_of("right parotid") == "Parotid_R"
    assert names.organ_of("Parotis") is None


def test_a_table_may_bring_words_for_the_sides() -> None:
    text = 'Parotid_L = ["przyusznica lewa"]'
    with pytest.raises(SetupError, match=r"'przyusznica lewa', which states no side") as refused:
        read_table(text, "names.toml")
    assert "[sides]" in refused.value.remedy

    table = read_table(text + '\n[sides]\nleft = ["Lewa"]', "names.toml")

    assert Names(organs=ORGANS, table=table).organ_of("Przyusznica LEWA") == "Parotid_L"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('Parotid_L = ["Parotis re"]', "states the right"),
        ('Parotid_L = ["Parotis"]', "states no side"),
        ('Parotid_L = ["*parot* rechts"]', "states the right"),
        ('Heart = "herz"', "Heart must be a list"),
        ("Heart = [1]", "Heart must be a list"),
        ("[sides]\nmiddle = []", "may hold left and right"),
        ("Heart = [", "no valid TOML|not valid TOML"),
    ],
)
def test_a_wrong_table_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        read_table(text, "names.toml")


def test_a_name_that_fits_two_organs_is_neither() -> None:
    table = read_table('Heart = ["thorax*"]\nLungs = ["*organ"]', "names.toml")

    assert Names(organs=ORGANS, table=table).organ_of("thorax organ") is None


def test_an_organ_that_nobody_knows_is_refused_with_the_nearest() -> None:
    with pytest.raises(SetupError, match=r"Parotis_L .*: Parotid_L"):
        refuse_unknown(["Parotis_L"], NO_TABLE, ORGANS)
    with pytest.raises(SetupError, match="twice"):
        refuse_unknown(["Heart", "Heart"], NO_TABLE, ORGANS)
    refuse_unknown(["Tumour", "Heart"], read_table('Tumour = ["gtv*"]', "names.toml"), ORGANS)
