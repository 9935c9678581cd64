"""What results say in words, within the limits of each VR (PS3.5 6.2).

Our own words are plain ASCII: every Specific Character Set that a source may bring can hold them, and planning systems
that compare names byte by byte agree.
"""

import unicodedata
from collections.abc import Sequence

from node.domain.profiles import RoiName
from node.domain.structures import Omitted, Provenance

MANUFACTURER = "Delineate"

# Longest values of the text VRs that we write (PS3.5 table 6.2-1).
SH, LO, ST = 16, 64, 1024

# The part of node.DISCLAIMER that an LO holds.
NOTICE = "Research use; not a medical device"

# node.DISCLAIMER in as many characters as a series list shows.
SHORT_DISCLAIMER = "research use"


def plain(text: str) -> str:
    """Give the text as ASCII on one line; a backslash would part values."""
    ascii_only = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    line = " ".join(ascii_only.replace("\\", "/").split())
    return "".join(character for character in line if character.isprintable())


def fitted(text: str, limit: int) -> str:
    """Give the text as ASCII on one line within the limit, cut with ``~``."""
    line = plain(text)
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "~"


def unique_names(names: Sequence[str]) -> list[str]:
    """Give ROI names within LO, different from each other also where case is ignored, in the same order."""
    taken: set[str] = set()
    result = []
    for name in names:
        unique = wanted = fitted(name, LO) or "Structure"
        count = 2
        while unique.lower() in taken:
            ending = f"_{count}"
            unique = wanted[: LO - len(ending)] + ending
            count += 1
        taken.add(unique.lower())
        result.append(unique)
    return result


def model_and_version(provenance: Provenance, limit: int = LO) -> str:
    """Name the model package, as configuration and status do, and its version, which survives a cut."""
    version = fitted(provenance.model_version, 24)
    return f"{fitted(provenance.model_name, limit - len(version) - 1)} {version}"


def series_description(provenance: Provenance) -> str:
    """Name model, version and the disclaimer for a list of series."""
    ending = f" ({SHORT_DISCLAIMER})"
    return model_and_version(provenance, LO - len(ending)) + ending


def structure_set_label(provenance: Provenance, limit: int = SH) -> str:
    """Name the model and the run within a receiver's limit, at most 16 characters, which SH allows."""
    ending = f" r{provenance.run_number}"
    return fitted(provenance.model_name, limit - len(ending)) + ending


def description(
    provenance: Provenance,
    omitted: Sequence[Omitted],
    disclaimer: str,
    renamed: Sequence[RoiName] = (),
    listed: bool = False,
) -> str:
    """Say what the result is worth, how it came about, what is not in it and what has another name, within ST.

    The omitted are in the structure set without contours where they are ``listed``.

    What does not fit is counted: nothing is left out in silence.
    """
    head = plain(
        f"{disclaimer} Drawn by {provenance.model_title} {provenance.model_version} ({provenance.model_name}), "
        f"run {provenance.run_number}, Delineate {provenance.software_version}, {provenance.computed_by}. "
        f"{taken_together(provenance)}"
    )
    left_out = [f"{one.name} ({one.reason.rstrip('.')})" for one in omitted]
    other = [f"{one.structure} to {one.name} ({one.reason.rstrip('.')})" for one in renamed]
    for told in range(len(left_out) + len(other), -1, -1):
        more = len(left_out) + len(other) - told
        sentences = [
            *_list("Without contours" if listed else "Omitted", left_out[:told]),
            *_list("Renamed", other[: max(0, told - len(left_out))]),
            *([f"and {more} more; see the node's status."] if more else []),
        ]
        ending = plain(" ".join(sentences))
        if len(head) + 1 + len(ending) <= ST:
            break
    return f"{fitted(head, ST - 1 - len(ending))} {ending}".rstrip()


def taken_together(provenance: Provenance) -> str:
    """Say which further series a model took that takes several images; empty of one that takes one."""
    if not provenance.channels:
        return ""
    own, *others = provenance.channels
    further = " and ".join(f"{one.channel} of series {one.series_instance_uid}" for one in others)
    return f"Made of {own.channel} of this series and {further}."


def _list(word: str, entries: Sequence[str]) -> list[str]:
    return [f"{word}: {'; '.join(entries)}."] if entries else []


def software_versions(provenance: Provenance) -> list[str]:
    """Give the versions of Delineate and of the model package, with the start of the package's digest."""
    digest = f" {provenance.model_digest[:12]}"
    package = f"{provenance.model_name} {provenance.model_version}"
    return [fitted(f"Delineate {provenance.software_version}", LO), fitted(package, LO - len(digest)) + digest]
