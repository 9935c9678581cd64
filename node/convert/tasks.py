"""What TotalSegmentator 2.18 does with the data sets of its tasks, by their numbers: which go together, and where.

Nothing here needs nnU-Net or torch.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.convert.refusals import UNSUPPORTED, refused
from node.convert.results_folder import model_folder

# Tasks of several networks, in the order of merging.
_OF_PARTS = {
    "total": (291, 292, 293, 294, 295),
    "total_v3": (831, 832, 833, 834, 835),
    "total_mr": (850, 851),
    "headneck_muscles": (778, 779),
}
# Tasks of the whole body take fewer patches.
_WHOLE_BODY = {*range(291, 296), 297, 298, *range(831, 838), *range(850, 854)}
# All folds; every other task takes the first.
_ALL_FOLDS = {315, 514, 615, 713, 716}
# Left to nnU-Net's own resampling.
_NOT_RESAMPLED = {8, 150, 258, 260, 315}

_LUNGS = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)
_NECK = ("clavicula_left", "clavicula_right", "vertebrae_C1", "vertebrae_C5", "vertebrae_T1", "vertebrae_T4")
# Networks for the whole body at 6 mm and 3 mm, and at 3 mm for MR.
_COARSE, _ROBUST, _COARSE_MR = 298, 297, 852
# Data set: which network finds the region, and around what.
_REGIONS: dict[int, tuple[int, tuple[str, ...]]] = {
    8: (_COARSE, ("liver",)),
    115: (_COARSE, ("skull",)),
    117: (_ROBUST, _LUNGS),
    150: (_COARSE, ("brain",)),
    258: (_COARSE, _LUNGS),
    260: (_COARSE, ("femur_left", "femur_right", "hip_left", "hip_right")),
    315: (_COARSE, _LUNGS),
    351: (_COARSE, ("skull",)),
    409: (_COARSE, ("brain",)),
    507: (_COARSE, ("heart",)),
    509: (_COARSE, ("heart",)),
    552: (_COARSE, ("brain",)),
    570: (_COARSE, ("liver",)),
    576: (_COARSE_MR, ("liver",)),
    589: (_COARSE_MR, ("liver",)),
    591: (_ROBUST, ("liver",)),
    775: (_COARSE, ("skull",)),
    776: (_COARSE, _NECK),
    777: (_COARSE, ("skull",)),
    778: (_COARSE, _NECK),
    779: (_COARSE, _NECK),
    789: (_COARSE, ("kidney_left", "kidney_right", "liver", "spleen", "colon")),
    913: (_COARSE, _LUNGS),
    920: (_COARSE, ("heart",)),
}
# Whatever its table of tasks says: where it takes the network for the whole body, this is the margin.
MARGIN_MM = 20.0
# What cannot be done as it is done there.
_BEYOND = {
    113: "takes its region from another task, which has a region itself",
    301: "removes what lies outside of other organs",
    952: "takes its region from a task whose labels are tidied",
}
_TIDIED = {
    299: "keeps the largest piece of the trunk and pieces of the limbs from 50 cm³ on",
    300: "keeps the largest piece of the trunk and pieces of the limbs from 50 cm³ on",
    304: "removes auxiliary labels",
    803: "tidies vertebrae",
    855: "removes auxiliary labels",
}

_PART = re.compile(r"part\d+(?:_[A-Za-z]+)?")


@dataclass(frozen=True, slots=True)
class Task:
    """What becomes one package."""

    # Empty for a task of one network, which is called as its data set is.
    name: str
    # Those that hold plans.json, in the order of merging.
    folders: tuple[Path, ...]
    # Numbers of data sets of it that are not there.
    missing: tuple[int, ...] = ()
    # The network that finds the region in which the others work, and around what; None: the whole volume.
    region: tuple[Path, tuple[str, ...]] | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say what a person should know, one sentence each."""
        numbers = ", ".join(map(str, self.missing))
        missing = f"Of the task {self.name} the data sets {numbers} are not there: their structures are missing."
        tidied = [
            f"After the network TotalSegmentator {_TIDIED[number]}; this package does not."
            for number in map(number_of, self.folders)
            if number in _TIDIED
        ]
        return (*([missing] if self.missing else []), *tidied)


def tasks_in(folders: Sequence[Path]) -> tuple[Task, ...]:
    """Sort folders of data sets into tasks; one that comes alone stays alone.

    Raises
    ------
    SetupError
        One is no folder of weights, or the network that finds its region is not beside it.
    """
    return tuple(_tasks([model_folder(each) for each in folders]))


def number_of(folder: Path) -> int:
    """Give the number of the data set whose plans.json is in the folder; 0 where it has none."""
    return int("".join(filter(str.isdecimal, folder.parent.name.split("_", maxsplit=1)[0])) or 0)


def part_of(folder: Path) -> str:
    """Give what tells a part from the others: "part1_organs" of Dataset291_TotalSegmentator_part1_organs_1559subj."""
    found = _PART.search(folder.parent.name)
    return found[0].lower() if found else f"part-{number_of(folder)}"


def step_of(folder: Path) -> float:
    """Give by how much patches are apart, in parts of their side."""
    return 0.8 if number_of(folder) in _WHOLE_BODY else 0.5


def takes_all_folds(folder: Path) -> bool:
    """Tell whether the mean of all folds counts, and not the first fold alone."""
    return number_of(folder) in _ALL_FOLDS


def is_resampled(folder: Path) -> bool:
    """Tell whether TotalSegmentator resamples itself, before nnU-Net and after it."""
    return number_of(folder) not in _NOT_RESAMPLED


def _tasks(folders: Sequence[Path]) -> Iterator[Task]:
    taken: list[Path] = []
    for name, numbers in _OF_PARTS.items():
        there = tuple(each for number in numbers for each in folders if number_of(each) == number)
        if there and len(folders) > 1:
            missing = sorted({*numbers} - {number_of(each) for each in there})
            yield Task(name, there, tuple(missing), _region(there[0]))
            taken += there
    yield from (Task("", (each,), (), _region(each)) for each in folders if each not in taken)


def _region(folder: Path) -> tuple[Path, tuple[str, ...]] | None:
    number, dataset = number_of(folder), folder.parent.name
    if number in _BEYOND:
        raise refused(f"{dataset} {_BEYOND[number]}", UNSUPPORTED)
    if number not in _REGIONS:
        return None
    coarse, around = _REGIONS[number]
    found = sorted(folder.parent.parent.glob(f"Dataset{coarse}_*"))
    if len(found) != 1:
        raise refused(
            f"{dataset} works in a region that Dataset{coarse} finds, and there are {len(found)} of these beside it",
            f"Let TotalSegmentator download it, or copy the folder Dataset{coarse}_... beside it.",
        )
    return model_folder(found[0]), around
