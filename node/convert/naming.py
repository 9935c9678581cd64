"""From the names of a data set's labels to structures: names of AAPM TG-263, codes and colours.

A label is one of conf/structures.toml if its words are the same, in whatever order and spelling of the side, or if the
table below says so. The side is never guessed: "kidney" is neither Kidney_L nor Kidney_R. What is in no table keeps a
name made of its own words, the code "anatomical structure", and no interpreted type; a person is told.
"""

import colorsys
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from node.domain.structures import Code, StructureDefinition
from node.domain.tg263 import LENGTH, nearest, place_of_side, side_of
from node.inference.structure_table import KnownStructure

# Says no more than that it is part of a body, PS3.16 CID 7150.
UNTOLD = Code(scheme="SCT", value="91723000", meaning="Anatomical Structure")
_SIDES = {
    "L": Code(scheme="SCT", value="7771000", meaning="Left"),
    "R": Code(scheme="SCT", value="24028007", meaning="Right"),
}

# Words of a label without its side, to the known name without its side. Only what means the very same.
_MEANINGS = {
    "adrenalgland": "Glnd_Adrenal",
    "aorta": "A_Aorta",
    "brachiocephalictrunk": "A_Brachiocephls",
    "brachiocephalicvein": "V_Brachioceph",
    "clavicula": "Clavicle",
    "commoncarotidartery": "A_Carotid",
    "femoralhead": "Femur_Head",
    "gallbladder": "Gallbladder",
    "iliacartery": "A_Iliac",
    "iliacvein": "V_Iliac",
    "iliacvena": "V_Iliac",
    "inferiorvenacava": "V_Venacava_I",
    "largebowel": "Bowel_Large",
    "mandible": "Bone_Mandible",
    "oesophagus": "Esophagus",
    "opticchiasm": "OpticChiasm",
    "opticnerve": "OpticNrv",
    "oralcavity": "Cavity_Oral",
    "parotidgland": "Parotid",
    "portalvein": "V_Portal",
    "pulmonaryartery": "A_Pulmonary",
    "pulmonaryvein": "V_Pulmonary",
    "seminalvesicles": "SeminalVes",
    "smallbowel": "Bowel_Small",
    "smallintestine": "Bowel_Small",
    "subclavianartery": "A_Subclavian",
    "submandibulargland": "Glnd_Submand",
    "superiorvenacava": "V_Venacava_S",
    "thyroid": "Glnd_Thyroid",
    "thyroidgland": "Glnd_Thyroid",
    "urinarybladder": "Bladder",
}
# The same with a side that the known name holds otherwise than at its end.
_SIDED_MEANINGS = {
    ("lungupperlobe", "L"): "Lung_LUL",
    ("lunglowerlobe", "L"): "Lung_LLL",
    ("lungupperlobe", "R"): "Lung_RUL",
    ("lungmiddlelobe", "R"): "Lung_RML",
    ("lunglowerlobe", "R"): "Lung_RLL",
}
_VERTEBRA = re.compile(r"(?:vertebra|vertebrae|vb)([ctl])0?(\d{1,2})")
_RIB = re.compile(r"rib0?(\d{1,2})")
_FOREIGN = re.compile(r"[^A-Za-z0-9]+")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStructure:
    """A structure of a package to be, and what a person should look at."""

    # As the data set calls it.
    label: str
    name: str
    label_values: tuple[int, ...]
    # All that the manifest must say; None where conf/structures.toml knows the name.
    definition: StructureDefinition | None
    # What is spelt most alike among the known of the same side; no more than a hint.
    hint: str | None


def named_structures(
    labels: Mapping[str, tuple[int, ...]], known: Mapping[str, KnownStructure]
) -> tuple[NamedStructure, ...]:
    """Give each label its structure. Two labels of one known name both keep names of their own."""
    found = {label: known_name(label, known) for label in labels}
    times = Counter(name for name in found.values() if name is not None)
    taken = {name.casefold() for name, often in times.items() if often == 1}
    colours = _colours({row.colour_rgb for row in known.values()})
    structures = []
    for label, values in labels.items():
        name = found[label]
        if name is not None and times[name] == 1:
            structures.append(NamedStructure(label=label, name=name, label_values=values, definition=None, hint=None))
            continue
        own = own_name(label, taken | {each.casefold() for each in known})
        taken.add(own.casefold())
        structures.append(
            NamedStructure(
                label=label,
                name=own,
                label_values=values,
                definition=_untold(own, values, next(colours)),
                hint=name or nearest(_plain(label), known),
            )
        )
    return tuple(structures)


def known_name(label: str, known: Mapping[str, KnownStructure]) -> str | None:
    """Find the known structure that a label names; None where none is named beyond doubt."""
    if label in known:
        return label
    root, side = _root(label), _side(label)
    meant = _SIDED_MEANINGS.get((root, side))
    if meant is not None:
        return meant if meant in known else None
    meant = _MEANINGS.get(root) or _numbered(root)
    same = {f"{meant}_{side}", meant} if meant else {each for each in known if _same_words(each, label)}
    fitting = [each for each in same if each in known and side_of(each) == side]
    return fitting[0] if len(fitting) == 1 else None


def own_name(label: str, taken: set[str]) -> str:
    """Make a name of at most 16 legal characters of a label's own words, its side at its end as TG-263 has it."""
    side = _side(label)
    ending = f"_{side}" if side else ""
    words = [word[:1].upper() + word[1:] for word in _sideless(label)] or ["Structure"]
    room = LENGTH - len(ending)
    name = "_".join(words)
    if len(name) > room:
        name = "".join(words)
    # The longest word gives way.
    while len(name) > room:
        longest = max(range(len(words)), key=lambda index: len(words[index]))
        words[longest] = words[longest][:-1]
        name = "".join(words)
    if f"{name}{ending}".casefold() not in taken:
        return f"{name}{ending}"
    numbered = (f"{name[: room - len(str(number))]}{number}{ending}" for number in count(2))
    return next(each for each in numbered if each.casefold() not in taken)


def _untold(name: str, values: tuple[int, ...], colour: tuple[int, int, int]) -> StructureDefinition:
    return StructureDefinition(
        name=name,
        label_values=values,
        colour_rgb=colour,
        category=UNTOLD,
        type=UNTOLD,
        modifier=_SIDES.get(side_of(name)),
        # PS3.3 C.8.8.8: may be empty; it could be a target, an implant or an organ.
        interpreted_type="",
    )


def _side(label: str) -> str:
    return side_of(_plain(label))


def _plain(label: str) -> str:
    """Letters without their marks; a letter of another alphabet stays a letter, lest "Läsion" had a left side."""
    parts = "".join(each for each in unicodedata.normalize("NFKD", label) if not unicodedata.combining(each))
    return "".join(each if each.isascii() else "x" if each.isalpha() else "_" for each in parts)


def _sideless(label: str) -> list[str]:
    label = _plain(label)
    place = place_of_side(label)
    rest = label if place is None else f"{label[: place.start]}_{label[place.stop :]}"
    return [word for word in _FOREIGN.split(_CAPITAL.sub("_", rest)) if word]


def _root(label: str) -> str:
    return "".join(_sideless(label)).casefold()


def _same_words(one: str, other: str) -> bool:
    """Whatever their order, or however they are joined."""
    words, others = ([word.casefold() for word in _sideless(each)] for each in (one, other))
    return sorted(words) == sorted(others) or "".join(words) == "".join(others)


def _numbered(root: str) -> str | None:
    if vertebra := _VERTEBRA.fullmatch(root):
        region, number = vertebra[1].upper(), int(vertebra[2])
        return f"VB_{region}{number:02}" if region == "T" else f"VB_{region}{number}"
    if rib := _RIB.fullmatch(root):
        return f"Rib{int(rib[1]):02}"
    return None


def _colours(used: set[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Hues a golden angle apart, so that neighbours differ, none that the table uses."""
    for number in count():
        red, green, blue = colorsys.hsv_to_rgb(number * 0.61803398875 % 1, 0.55 + 0.4 * (number % 2), 0.9)
        colour = (round(red * 255), round(green * 255), round(blue * 255))
        if colour not in used:
            yield colour
