"""Which regions of reference and result are one organ: by the clinic's table, by TG-263, or by the same spelling."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from node.dataset.names import NO_TABLE, Names, NameTable
from node.dicom.archived_structures import RegionName

# TG-263 writes it behind an organ of which the scan holds a part; reference and result are of one scan.
_PARTIAL = "~"


@dataclass(frozen=True, kw_only=True)
class Organs:
    """The regions of one file by the organ that each one is."""

    regions: Mapping[str, RegionName]
    # Organ -> why none of its regions counts.
    left_out: Mapping[str, str]


@dataclass(kw_only=True)
class OrganNames:
    """Tells organs by the names of regions."""

    # Of conf/structures.toml.
    known: Collection[str]
    table: NameTable = NO_TABLE
    _meant: dict[str, str | None] = field(default_factory=dict)

    def both(self, reference: Sequence[RegionName], result: Sequence[RegionName]) -> tuple[Organs, Organs]:
        """Name the regions of a reference and of its result: what neither table nor TG-263 knows, as the reference."""
        strange = tuple(dict.fromkeys(each.name for each in reference if self._known(each.name) is None))
        spelt = Names(organs=strange, table=self.table)
        organs = [self._known(each.name) or each.name for each in reference]
        others = [self._known(each.name) or spelt.organ_of(each.name) or each.name for each in result]
        return _sorted(reference, organs), _sorted(result, others)

    def _known(self, name: str) -> str | None:
        if name not in self._meant:
            names = Names(organs=tuple(dict.fromkeys([*self.table.spellings, *self.known])), table=self.table)
            self._meant[name] = names.organ_of(name) or names.organ_of(name.replace(_PARTIAL, ""))
        return self._meant[name]


def _sorted(regions: Sequence[RegionName], organs: Sequence[str]) -> Organs:
    """Leave out what is drawn twice under one name, and what is not drawn at all."""
    found: dict[str, list[RegionName]] = {}
    for region, organ in zip(regions, organs, strict=True):
        if not region.is_empty:
            found.setdefault(organ, []).append(region)
    return Organs(
        regions={organ: several[0] for organ, several in found.items() if len(several) == 1},
        left_out={
            organ: f"{len(several)} regions have a name of it: {', '.join(repr(each.name) for each in several)}"
            for organ, several in found.items()
            if len(several) > 1
        },
    )
