"""What lies in a hot folder, and what of it is ready to be taken. Pure: the clock and the files come as values.

A drop is ready when nothing in it changed for a while, by our own clock: a file server's may be wrong. Whether somebody
still holds a file open or locked is asked of the system afterwards, once for each drop that is ready.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

# Of ours, in the hot folder itself.
TAKING, REJECTED = ".taking", "rejected"

# What desktops leave in folders and zips: no images, no texts, made anew wherever a person looks.
LITTER = (".DS_Store", "._*", "__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory")
# Names under which programs write what they rename when it is whole.
UNFINISHED = (".*", "~*", "*~", "*.part", "*.partial", "*.filepart", "*.tmp", "*.temp", "*.crdownload", "*.download")


# A file without content is most often one that somebody is about to write.
EMPTY_SETTLES_AFTER_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, link or other thing that is no folder, as it lay there at one look."""

    # Below the hot folder.
    parts: tuple[str, ...]
    size: int
    modified_ns: int
    inode: int


# What lies under each name of the hot folder itself; empty for a folder without files.
Lying = Mapping[str, frozenset[Entry]]
# The names in the hot folder that are taken together.
Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """What is remembered of a drop between two looks."""

    entries: frozenset[Entry]
    unchanged_since: float
    # Why it is not ready although nothing changes; empty where there is no reason.
    held_up_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found."""

    # Whole ones: a folder, or a medium with its DICOMDIR. Nobody adds to them, which is evidence.
    ready_wholes: tuple[Names, ...]
    # Files that lie in the hot folder itself: more may come.
    ready_files: tuple[Names, ...]
    settling: Mapping[Names, Settling]
    # None: nothing there is waited for.
    look_again_at: float | None


def look(lying: Lying, before: Mapping[Names, Settling], now: float, *, stable_s: float) -> Look:
    """Decide what is ready, from what lies there now and what is remembered of the look before.

    Parameters
    ----------
    now
        Seconds on a clock that is never set.
    stable_s
        How long nothing may have changed.
    """
    settling = {
        names: _settling(names, frozenset().union(*(lying[name] for name in names)), before.get(names), now)
        for names in _units(lying)
    }
    ready = [
        names
        for names, one in settling.items()
        if not one.held_up_by and now - one.unchanged_since >= _settles_after_s(one, stable_s)
    ]
    again = [_look_again_at(one, now, stable_s) for one in settling.values()]
    return Look(
        ready_wholes=tuple(names for names in ready if not _is_file(names, lying)),
        ready_files=tuple(names for names in ready if _is_file(names, lying)),
        settling=settling,
        look_again_at=min(again, default=None),
    )


def is_litter(parts: tuple[str, ...]) -> bool:
    """Tell whether a path is, or lies in, what desktops leave behind."""
    return any(fnmatch(part.lower(), pattern.lower()) for part in parts for pattern in LITTER)


def is_dicomdir(name: str) -> bool:
    """Tell whether a file is called like the directory of a medium (PS3.10 8.6); copies may be ``dicomdir;1``."""
    return name.partition(";")[0].rstrip(".").upper() == "DICOMDIR"


def _look_again_at(one: Settling, now: float, stable_s: float) -> float:
    unchanged_s = now - one.unchanged_since
    # What is held up, or ready and not to be had, may be so for long: asked ever more rarely.
    settles_after_s = _settles_after_s(one, stable_s)
    return (
        one.unchanged_since + settles_after_s if unchanged_s < settles_after_s else now + max(stable_s, unchanged_s / 2)
    )


def _settles_after_s(one: Settling, stable_s: float) -> float:
    empty = any(entry.size == 0 and not is_litter(entry.parts) for entry in one.entries)
    return max(stable_s, EMPTY_SETTLES_AFTER_S) if empty else stable_s


def _units(lying: Lying) -> list[Names]:
    """Group names that are taken together: a DICOMDIR makes one medium of all that lies beside it."""
    names = sorted(name for name, entries in lying.items() if entries and not _is_left_alone(name))
    directories = [name for name in names if is_dicomdir(name)]
    if not directories:
        return [(name,) for name in names]
    # Last: until it is moved, what lies beside it is one medium also for the next look.
    return [(*(name for name in names if name not in directories), *directories)]


def _is_left_alone(name: str) -> bool:
    return name == REJECTED or is_litter((name,)) or _is_unfinished(name)


def _is_unfinished(name: str) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in UNFINISHED)


def _is_file(names: Names, lying: Lying) -> bool:
    return len(names) == 1 and not is_dicomdir(names[0]) and all(len(one.parts) == 1 for one in lying[names[0]])


def _settling(names: Names, entries: frozenset[Entry], earlier: Settling | None, now: float) -> Settling:
    unfinished = sum(any(_is_unfinished(part) for part in one.parts) and not is_litter(one.parts) for one in entries)
    return Settling(
        entries=entries,
        unchanged_since=earlier.unchanged_since if earlier is not None and earlier.entries == entries else now,
        held_up_by=f"{unfinished} file(s) in it have names of unfinished ones" if unfinished else "",
    )
