"""One series and its structure sets: which one counts, which organs it holds, and what the label map is."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from node.dataset.archive import ArchivedStructureSet
from node.dataset.labels import LabelPainter, Overlap
from node.dataset.names import Names
from node.dataset.regions import Drawn, draw, gaps
from node.dicom.archived_segments import read_segments
from node.dicom.archived_structures import RegionName, StructureSetFacts, read_region
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.series import SeriesManifest

_TIE = "another structure set of the same date is as sound: --structure-set must say by its label which one counts"

# Reads a whole structure set.
Read = Callable[[ArchivedStructureSet], Dataset]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A volume with the organs of one structure set."""

    structure_set_uid: str
    labels: NDArray[np.uint8]
    # As drawn, cm3.
    volumes_cm3: Mapping[str, float]
    overlaps: tuple[Overlap, ...]
    # Organ -> why it counts as not contoured, though there is a region of it.
    left_out: Mapping[str, str]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What became of a volume's structure sets."""

    labelled: Labelled | None
    # SOP Instance UID of a structure set -> why it is not the one.
    declined: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What a structure set is held against."""

    manifest: SeriesManifest
    patient_id: str
    # All images of the series that are in the archive, of the volume or not.
    images: frozenset[str]
    # It is the only one of its series.
    is_only: bool


def choose(
    volume: Volume, candidates: Sequence[ArchivedStructureSet], names: Names, *, label: str | None, read: Read
) -> Choice:
    """Take the newest structure set that is sound and holds one of the organs.

    Parameters
    ----------
    label
        Only structure sets whose label is like this (``*``, ``?``) are looked at; None: all.
    """
    declined: dict[str, str] = {}
    wanted = []
    for one in candidates:
        if label is not None and not fnmatchcase(one.facts.label.casefold(), label.casefold()):
            declined[one.facts.sop_instance_uid] = "its label is another than --structure-set asks for"
        elif reason := why_not_of(one.facts, volume):
            declined[one.facts.sop_instance_uid] = reason
        else:
            wanted.append(one)
    chosen: Labelled | None = None
    newest = ""
    for one in sorted(wanted, key=lambda one: (one.facts.dated, one.facts.sop_instance_uid), reverse=True):
        uid, dated = one.facts.sop_instance_uid, one.facts.dated
        if chosen is not None and dated != newest:
            declined[uid] = "a newer structure set counts"
            continue
        try:
            found = labelled(volume.manifest, one, names, read)
        except InputError as error:
            declined[uid] = error.reason
            continue
        if chosen is not None and _are_alike(chosen, found):
            declined[uid] = "it says the same as another"
        elif chosen is not None:
            return Choice(labelled=None, declined=declined | {chosen.structure_set_uid: _TIE, uid: _TIE})
        else:
            chosen, newest = found, dated
    return Choice(labelled=chosen, declined=declined)


def _are_alike(one: Labelled, other: Labelled) -> bool:
    # As an RT Structure Set and a Segmentation that were written together.
    return one.volumes_cm3 == other.volumes_cm3 and np.array_equal(one.labels, other.labels)


def why_not_of(facts: StructureSetFacts, volume: Volume) -> str:
    """Say why a structure set is not of a volume; empty where every reference of it resolves."""
    manifest = volume.manifest
    if facts.patient_id and volume.patient_id and facts.patient_id != volume.patient_id:
        return "it is of another patient than its images"
    if manifest.frame_of_reference_uid not in facts.frames_of_reference:
        return "it does not name the Frame of Reference of its images"
    named = facts.drawn_on | facts.series.get(manifest.series_instance_uid, frozenset())
    if missing := len(named - volume.images):
        return f"{missing} of the {len(named)} images that it names are not in the archive"
    planes = {plane.sop_instance_uid for plane in manifest.grid.planes}
    if outside := len(facts.drawn_on - planes):
        return f"{outside} of the {len(facts.drawn_on)} images that it is drawn on are not of the volume"
    if not facts.drawn_on and not volume.is_only:
        return "it does not say on which of the series' volumes it is drawn"
    return ""


def organs_of(facts: StructureSetFacts, names: Names) -> Mapping[str, list[RegionName]]:
    """Give the regions that are drawn, by the organ that each one's name means."""
    found: dict[str, list[RegionName]] = {}
    for region in facts.regions:
        organ = names.organ_of(region.name)
        if organ is not None and not region.is_empty:
            found.setdefault(organ, []).append(region)
    return found


@dataclass(slots=True)
class _Account:
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)


def labelled(manifest: SeriesManifest, one: ArchivedStructureSet, names: Names, read: Read) -> Labelled:
    """Draw the organs of a structure set.

    Raises
    ------
    InputError
        It holds none of them, or none that is sound.
    """
    regions = organs_of(one.facts, names)
    if not regions:
        raise InputError("none of the organs is contoured in it")
    account = _Account()
    for organ, several in regions.items():
        if len(several) > 1:
            account.left_out[organ] = f"{len(several)} regions have a name of it: which one is meant cannot be told"
    masks = _Masks(manifest, read(one), one.facts)
    painter = _painted(regions, names.organs, masks, manifest.grid, account)
    while hidden := painter.hidden():
        account.left_out |= hidden
        painter = _painted(regions, names.organs, masks, manifest.grid, account)
    if not painter.voxels:
        (organ, reason), *_ = account.left_out.items()
        raise InputError(f"no organ of it is sound; {organ}: {reason}")
    return Labelled(
        structure_set_uid=one.facts.sop_instance_uid,
        labels=painter.labels,
        volumes_cm3={organ: count * manifest.grid.voxel_volume_mm3 / 1000 for organ, count in painter.voxels.items()},
        overlaps=tuple(painter.overlaps),
        left_out=account.left_out,
        remarks=tuple(f"{organ}: {each}" for organ in painter.voxels for each in account.remarks.get(organ, ())),
    )


def _painted(
    regions: Mapping[str, Sequence[RegionName]],
    organs: Sequence[str],
    masks: "_Masks",
    grid: Grid,
    account: _Account,
) -> LabelPainter:
    """Paint the organs that are not left out, and leave out those that cannot be drawn."""
    painter = LabelPainter(organs=organs, labels=np.zeros(grid.shape, dtype=np.uint8))
    for organ in organs:
        if organ not in regions or organ in account.left_out:
            continue
        try:
            drawn = masks.of(regions[organ][0])
            missing, span = gaps(drawn.mask)
        except InputError as error:
            account.left_out[organ] = error.reason
            continue
        without = (f"{missing} of {span} planes between its ends are without it",) if missing else ()
        account.remarks[organ] = (*drawn.remarks, *without)
        painter.paint(organ, drawn.mask)
    return painter


class _Masks:
    """The voxels of a structure set's regions, one at a time."""

    def __init__(self, manifest: SeriesManifest, dataset: Dataset, facts: StructureSetFacts) -> None:
        self._manifest, self._dataset = manifest, dataset
        self._segments = read_segments(dataset, manifest.grid) if facts.kind == "SEG" else None
        self._shared = Counter(region.number for region in facts.regions)

    def of(self, region: RegionName) -> Drawn:
        if self._shared[region.number] > 1:
            raise InputError("several regions share its number")
        if self._segments is not None:
            return Drawn(mask=self._segments.mask(region.number))
        found = read_region(self._dataset, region.number)
        return draw(found, self._manifest.grid, self._manifest.frame_of_reference_uid)
