"""ROI Names that a receiver takes, and why they are not the structures' own."""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from node.domain.profiles import REPLACEMENT, Profile, RoiName
from node.domain.structures import StructureDefinition
from node.domain.tg263 import place_of_side, side_of
from node.domain.volume import LabelMap

PARTIAL = "~"

_SEPARATORS = "_-. "
# What an empty name becomes; one without a letter or a digit tells nobody anything either.
_NAMELESS = "Structure"


def roi_names(
    definitions: Sequence[StructureDefinition], profile: Profile, cut: Collection[str] = ()
) -> tuple[RoiName, ...]:
    """Name structures as a receiver takes them, in the same order.

    Names differ also where case is ignored. The side stays at the end of a name whatever else is cut away, so left and
    right never become alike. A structure whose own name will do keeps it, before another's altered name takes it.

    Parameters
    ----------
    definitions
        Structures of one structure set.
    cut
        Names of structures that the end of the scan cuts. TG-263 puts ``~`` behind the organ, before its side
        (``Lung~_L``), so that nobody takes the part for the whole.
    """
    wanted = [_Wanted.of(definition, profile, definition.name in cut) for definition in definitions]
    owners: dict[str, int] = {}
    for index, one in enumerate(wanted):
        if not one.reasons:
            owners.setdefault(one.name().lower(), index)
    names = []
    for index, (definition, one) in enumerate(zip(definitions, wanted, strict=True)):
        name, reasons = one.name(), one.reasons
        if owners.setdefault(name.lower(), index) != index:
            name = next(each for number in count(2) if (each := one.name(number)).lower() not in owners)
            owners[name.lower()] = index
            reasons = (*reasons, "another structure has that name")
        names.append(RoiName(structure=definition.name, name=name, reason="; ".join(reasons)))
    return tuple(names)


def cut_by_the_scan(label_map: LabelMap, definitions: Sequence[StructureDefinition]) -> frozenset[str]:
    """Name the structures with voxels in the first or the last plane of the stack."""
    ends = np.union1d(label_map.labels[0], label_map.labels[-1])
    present = {int(value) for value in ends}
    return frozenset(one.name for one in definitions if present & set(one.label_values))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A name in the receiver's alphabet, in parts that shortening treats differently."""

    organ: str
    # "~" or nothing.
    mark: str
    # The side and what follows it, or nothing.
    ending: str
    limit: int
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, definition: StructureDefinition, profile: Profile, is_cut: bool) -> "_Wanted":
        """Take a name apart, and say what must change."""
        reasons = []
        spelt = _spelt(definition.name, profile)
        if spelt != definition.name:
            reasons.append("the receiver's names lack some of its characters")
        mark = PARTIAL if is_cut and _may_be_marked(definition, profile) else ""
        if mark:
            reasons.append("the end of the scan cuts it")
        if len(spelt) + len(mark) > profile.name_length:
            reasons.append(f"the receiver's names have at most {profile.name_length} characters")
        organ, ending = _parted(spelt)
        return cls(organ=organ, mark=mark, ending=ending, limit=profile.name_length, reasons=tuple(reasons))

    def name(self, number: int | None = None) -> str:
        """Put the parts together within the limit; the number tells it from a name of the same parts."""
        inserted = self.mark if number is None else f"{REPLACEMENT}{number}{self.mark}"
        room = self.limit - len(inserted)
        # Half is enough for every side.
        ending = self.ending[: max(self.limit // 2, room - len(self.organ))]
        return _shortened(self.organ, room - len(ending)) + inserted + ending


def _spelt(name: str, profile: Profile) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    letters = [character for character in plain if not unicodedata.combining(character)]
    spelt = "".join(each if _is_allowed(each, profile) else REPLACEMENT for each in letters).strip()
    return spelt if any(each.isalnum() for each in spelt) else _NAMELESS


def _is_allowed(character: str, profile: Profile) -> bool:
    return character.isascii() and (character.isalnum() or character in profile.name_characters)


def _may_be_marked(definition: StructureDefinition, profile: Profile) -> bool:
    usual = definition.always_cut or definition.interpreted_type == "EXTERNAL"
    possible = profile.mark_cut and PARTIAL in profile.name_characters
    return possible and not usual and PARTIAL not in definition.name


def _parted(name: str) -> tuple[str, str]:
    """Part a name before the side at its end, or before what TG-263 lets follow a "^"."""
    place = place_of_side(name)
    if place is None or name[place.stop : place.stop + 1] not in ("", "^"):
        start = name.find("^") if "^" in name else len(name)
    else:
        start = len(name[: place.start].rstrip(_SEPARATORS))
    return name[:start], name[start:]


def _shortened(organ: str, room: int) -> str:
    """Cut a name off; a side in it that would be lost ends it as a letter."""
    if len(organ) <= room:
        return organ
    place = place_of_side(organ)
    if place is None or place.stop <= room:
        return organ[:room].rstrip(_SEPARATORS) or organ[:room]
    side = f"{REPLACEMENT}{side_of(organ)}"
    return organ[: min(place.start, room - len(side))].rstrip(_SEPARATORS) + side
