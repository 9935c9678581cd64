"""Names of structures by the rules of AAPM TG-263 (report 263, section 7.1), as far as a name alone can tell."""

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Literal

LENGTH = 16

# A side is a word of its own, whatever its case, or ends one by a capital: Kidney_L, left_kidney, KidneyLeft, KidneyL.
# The "L" of A_LAD, Lung or Läsion is none, nor is the "left" of cleft. [^\W_] is a letter of any alphabet, or a digit.
_SIDE = re.compile(
    r"(?<![^\W_])(?i:l|r|lt|rt|left|right)(?![^\W_])"
    r"|(?<=[^\W_])(?:Left|Right)(?![^\W_])|(?<=[a-z0-9])(?:Lt|Rt|[LR])(?![^\W_])"
    r"|(?<![^\W_])(?:Left|Right)(?=[A-Z])"
)
# After the side: a mark of our own making, what is taken away, or a margin.
_SIDE_WHERE_IT_BELONGS = re.compile(r"_[LR]($|[~^-]|\d*$)|(?<=PRV)_[LR]")
_FOREIGN = re.compile(r"[^A-Za-z0-9_~^+-]")
# In front of what is not for evaluation, so that it stands at the end, or the start, of a list.
_HELPER = re.compile(r"(z_?|_)(?=[A-Z])")
# A margin of up to two digits of millimetres; the side may follow.
_PRV = re.compile(r"_PRV\d{0,2}(_[LR])?(?=$|\^)|_PRV_[LR]\d{0,2}(?=$|\^)")
_TARGET = re.compile(r"(GTV|CTV|ITV|PTV|IGTV|ICTV|IDL|Boost|Eval)")
# TG-263 knows these categories by a root of its own.
_ROOTS = {
    "artery": "A",
    "vein": "V",
    "gland": "Glnd",
    "muscle": "Musc",
    "space": "Spc",
    "vertebra": "VB",
    "vertebrae": "VB",
    "lymphnode": "LN",
    "cartilage": "Cartlg",
}


def faults_of(name: str, known: Collection[str] = ()) -> list[str]:
    """Say in words what TG-263 would have otherwise.

    Parameters
    ----------
    name
        Of a structure.
    known
        Names that are right whatever the rules say. A name that is built on none of them is told with the nearest;
        without any, only the rules are looked at.

    Returns
    -------
    list
        Empty for a name that keeps the rules. That it means what it should, nobody can tell from it.
    """
    if name in known:
        return []
    return [*_faults_of_text(name), *_faults_of_categories(name), *_faults_of_marks(name), *_unknown(name, known)]


def side_of(name: str) -> Literal["L", "R", ""]:
    """Tell the side that a name states, in whatever spelling; the last one if there are several."""
    place = place_of_side(name)
    if place is None:
        return ""
    return "L" if name[place.start] in "lL" else "R"


def place_of_side(name: str) -> slice | None:
    """Find where a name states its side: the last place if there are several."""
    found = list(_SIDE.finditer(name))
    return slice(found[-1].start(), found[-1].end()) if found else None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that is spelt most alike, never one of the other side; what is meant, it cannot know."""
    wanted = _sideless(name)
    candidates = [(_likeness(wanted, _sideless(each)), each) for each in known if side_of(each) == side_of(name)]
    close = [(-likeness, each) for likeness, each in candidates if likeness >= 0.55]
    return min(close)[1] if close else None


def _sideless(name: str) -> str:
    categories = _SIDE.sub("", name).split("_")
    # TG-263 begins with the root, wherever the word for it stood: portal_vein is V_Portal.
    roots = [_ROOTS[each.lower()] for each in categories if each.lower() in _ROOTS]
    others = [each for each in categories if each.lower() not in _ROOTS]
    return re.sub(r"[^a-z0-9]", "", "".join(roots + others).lower())


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _faults_of_text(name: str) -> list[str]:
    faults = []
    if len(name) > LENGTH:
        faults.append(f"has {len(name)} characters; {LENGTH} are allowed")
    if foreign := sorted(set(_FOREIGN.findall(name))):
        listed = " ".join(repr(character) for character in foreign)
        faults.append(f"holds {listed}; allowed are letters, digits, _ ~ ^ + -")
    return faults


def _faults_of_categories(name: str) -> list[str]:
    helper = _HELPER.match(name)
    categories = name[helper.end() if helper else 0 :].split("^", maxsplit=1)[0].split("_")
    faults = [f"has {each!r}, which should begin with a capital" for each in categories if each[:1].islower()]
    if "" in categories:
        faults.append("has an underscore with nothing on one side of it")
    root = _ROOTS.get(categories[0].lower())
    if root is not None:
        faults.append(f"begins with {categories[0]!r}; TG-263 writes {root!r}")
    place = place_of_side(name)
    if place is not None and name[place] not in ("L", "R"):
        faults.append("spells its side otherwise than _L or _R")
    elif place is not None and not _SIDE_WHERE_IT_BELONGS.match(name, place.start - 1):
        faults.append("has its side elsewhere than at the end, after an underscore")
    return faults


def _faults_of_marks(name: str) -> list[str]:
    faults = []
    if "prv" in name.lower() and not _PRV.search(name):
        faults.append("has a PRV that is not written _PRV and up to two digits of millimetres")
    if name.count("~") > 1 or name.startswith("~"):
        faults.append("has ~ more than once, or before the organ")
    if re.search(r"_[LR]~", name):
        faults.append("has ~ behind its side; TG-263 writes it before, as in Lung~_L")
    if name.count("^") > 1 or name[:1] == "^" or name[-1:] == "^":
        faults.append("has ^ more than once, or nothing before or behind it")
    return faults


def _unknown(name: str, known: Collection[str]) -> list[str]:
    organ = _PRV.sub(lambda found: found[1] or "", name.split("^", maxsplit=1)[0].replace("~", ""))
    if not known or _HELPER.match(name) or _TARGET.match(organ) or {organ, organ.split("-")[0]} & set(known):
        return []
    near = nearest(organ, known)
    return ["is not in the table of structures" + (f"; spelt most alike there: {near!r}" if near else "")]
