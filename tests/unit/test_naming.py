"""A ROI Name is what the receiver takes; its side survives whatever must change, and every change says why."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.naming import cut_by_the_scan, roi_names
from node.domain.profiles import SHORTEST_NAME, Profile
from node.domain.structures import StructureDefinition
from node.domain.tg263 import side_of
from node.domain.volume import LabelMap
from tests.builders import definition, grid

GENERIC = Profile(name="generic", title="Any")
STRICT = Profile(name="strict16", title="Untried", name_length=16, name_characters="_~")


def names(*wanted: str, profile: Profile = STRICT, cut: tuple[str, ...] = ()) -> list[str]:
    return [one.name for one in roi_names([definition(name, 1) for name in wanted], profile, cut)]


def reason(wanted: str, profile: Profile = STRICT, cut: tuple[str, ...] = ()) -> str:
    (one,) = roi_names([definition(wanted, 1)], profile, cut)
    assert one.structure == wanted
    return one.reason


def test_a_name_that_the_receiver_takes_stays_and_has_no_reason() -> None:
    assert names("Liver", "Kidney_L") == ["Liver", "Kidney_L"]
    assert reason("Kidney_L") == ""


@pytest.mark.parametrize(
    ("own", "marked"),
    [
        ("Liver", "Liver~"),
        ("Lung_L", "Lung~_L"),
        ("Kidney_Cortex_R", "Kidney_Cortex~_R"),
        ("Lungs^Ex", "Lungs~^Ex"),
        ("Lung_R^Ex", "Lung~_R^Ex"),
        # Its own mark is enough.
        ("Lung~_L", "Lung~_L"),
        ("Lung_L~", "Lung_L~"),
    ],
)
def test_the_mark_of_a_cut_organ_stands_behind_the_organ_and_never_twice(own: str, marked: str) -> None:
    assert names(own, profile=GENERIC, cut=(own,)) == [marked]


def test_a_mark_takes_its_room_from_the_organ_not_from_the_side() -> None:
    assert names("Femur_Shaft_Up_L", cut=("Femur_Shaft_Up_L",)) == ["Femur_Shaft_U~_L"]


def test_what_every_scan_cuts_is_not_marked() -> None:
    cord = replace(definition("SpinalCord", 1), always_cut=True)
    body = definition("Body", 2, interpreted_type="EXTERNAL")

    named = roi_names([cord, body], GENERIC, cut=("SpinalCord", "Body"))

    assert [(one.name, one.reason) for one in named] == [("SpinalCord", ""), ("Body", "")]


@pytest.mark.parametrize("profile", [replace(GENERIC, mark_cut=False), replace(GENERIC, name_characters="_")])
def test_a_receiver_that_takes_no_mark_gets_none(profile: Profile) -> None:
    assert names("Liver", profile=profile, cut=("Liver",)) == ["Liver"]


@pytest.mark.parametrize(
    ("own", "shortened"),
    [
        ("Glnd_Submandibular_L", "Glnd_Submandib_L"),
        ("Glnd_Submandibular_R", "Glnd_Submandib_R"),
        ("adrenal_gland_right", "adrenal_gl_right"),
        # The side in the middle would be cut off: it ends the name.
        ("Glnd_Submandibular_L_Deep", "Glnd_Submandib_L"),
        # Here it would not.
        ("Lung_R_Upper_Lobe_Apex", "Lung_R_Upper_Lob"),
        ("Left_Submandibular_Gland", "Left_Submandibul"),
        ("SubmandibularGlandLeft", "SubmandibulaLeft"),
        # No separator is left where the organ ends.
        ("Musculus_Glut_Maximus", "Musculus_Glut_Ma"),
        ("Musculus_Gluteu_Maximus", "Musculus_Gluteu"),
    ],
)
def test_a_long_name_is_cut_and_keeps_its_side(own: str, shortened: str) -> None:
    assert names(own) == [shortened]


@pytest.mark.parametrize(
    ("own", "spelt"),
    [
        ("Lungs-GTV", "Lungs_GTV"),
        ("Größe", "Grosse"),
        ("Herz (links)", "Herz__links_"),
        ("  Liver ", "__Liver_"),
        ("肝臓", "Structure"),
        ("^^", "Structure"),
    ],
)
def test_characters_that_the_receiver_lacks_are_replaced(own: str, spelt: str) -> None:
    assert names(own) == [spelt]
    assert "lack some of its characters" in reason(own)


def test_spaces_that_a_receiver_takes_stand_at_no_edge() -> None:
    assert names(" Left kidney ", profile=GENERIC) == ["Left kidney"]


def test_names_differ_also_where_case_is_ignored_and_sides_stay_at_the_end() -> None:
    assert names("Lung_L", "lung_l", "LUNG_L", "Lung_R") == ["Lung_L", "lung_2_l", "LUNG_3_L", "Lung_R"]
    assert names("Liver", "LIVER") == ["Liver", "LIVER_2"]


def test_nobody_loses_his_own_name_to_another_that_was_altered() -> None:
    assert names("Glnd_Submandibular_L", "Glnd_Submandib_L") == ["Glnd_Submand_2_L", "Glnd_Submandib_L"]


def test_every_change_says_why() -> None:
    assert reason("Lung_L", cut=("Lung_L",)) == "the end of the scan cuts it"
    assert reason("Glnd_Submandibular_L") == "the receiver's names have at most 16 characters"
    assert reason("A+B", profile=STRICT) == "the receiver's names lack some of its characters"
    assert roi_names([definition("A", 1), definition("a", 2)], STRICT)[1].reason == "another structure has that name"


SIDES = st.sampled_from([("_L", "_R"), ("_left", "_right"), (" Left", " Right"), ("Left", "Right"), ("_L^Ex", "_R^Ex")])
ORGANS = st.text(st.sampled_from("abcxyzABC019_-~^ öß."), min_size=1, max_size=40)
PROFILES = st.builds(
    Profile,
    name=st.just("any"),
    title=st.just("Any"),
    name_length=st.integers(SHORTEST_NAME, 64),
    name_characters=st.sampled_from(["_", "_~", "_-+^~ .()/"]),
    mark_cut=st.booleans(),
)


@given(st.lists(st.text(max_size=70), max_size=12), PROFILES, st.data())
def test_any_names_come_out_within_the_receivers_limits(
    wanted: list[str], profile: Profile, data: st.DataObject
) -> None:
    cut = data.draw(st.sets(st.sampled_from(wanted))) if wanted else set()

    named = roi_names([definition(name, 1) for name in wanted], profile, cut)

    assert [one.structure for one in named] == wanted
    assert len({one.name.lower() for one in named}) == len(wanted)
    for one in named:
        assert 0 < len(one.name) <= profile.name_length
        assert one.name == one.name.strip(" ")
        assert all(each.isascii() and (each.isalnum() or each in profile.name_characters) for each in one.name)
        assert (one.reason == "") == (one.name == one.structure)


@given(st.lists(st.tuples(ORGANS.filter(lambda text: text[-1].isalnum()), SIDES), min_size=1, max_size=6), PROFILES)
def test_left_and_right_neither_become_alike_nor_change_places(
    organs: list[tuple[str, tuple[str, str]]], profile: Profile
) -> None:
    wanted = [organ + side for organ, sides in organs for side in sides]

    named = roi_names([definition(name, 1) for name in wanted], profile, wanted)

    assert [side_of(one.name) for one in named] == ["L", "R"] * len(organs)
    for left, right in zip(named[::2], named[1::2], strict=True):
        assert left.name.lower() != right.name.lower()


@given(st.lists(st.tuples(ORGANS, st.sampled_from("LR")), min_size=1, max_size=8, unique=True), PROFILES)
def test_a_side_as_tg_263_writes_it_ends_the_name_before_and_after(
    organs: list[tuple[str, str]], profile: Profile
) -> None:
    wanted = [f"{organ}_{side}" for organ, side in organs]

    named = roi_names([definition(name, 1) for name in wanted], profile, wanted)

    assert [one.name[-2:] for one in named] == [name[-2:] for name in wanted]


def test_structures_in_the_first_or_last_plane_are_cut_by_the_scan() -> None:
    stack = grid(slices=4, rows=6, columns=5)
    labels = np.zeros(stack.shape, dtype=np.uint8)
    labels[0, 5, 4] = 1
    labels[1:3] = 2
    labels[3, 0, 0] = 4
    parts: list[StructureDefinition] = [
        definition("Foot", 1),
        definition("Middle", 2),
        definition("Absent", 3),
        definition("Head", 4),
        definition("Whole", 2, 4),
    ]

    assert cut_by_the_scan(LabelMap(labels=labels, grid=stack), parts) == {"Foot", "Head", "Whole"}
