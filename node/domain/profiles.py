"""What a destination can take in a structure set: limits of names and contours, as data in ``conf/profiles/``."""

from dataclasses import dataclass
from typing import Literal

from node.domain.structures import Drawing, HoleEncoding

# The length that TG-263 makes its names for; in less, a side, "~" and a number leave no room for the organ.
SHORTEST_NAME = 16
# Stands for what a receiver's alphabet lacks; every alphabet holds it.
REPLACEMENT = "_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one kind of receiver takes; one file ``conf/profiles/<name>.toml``."""

    name: str
    # Which systems it is for, and whether anybody tried.
    title: str
    # Longest ROI Name, from SHORTEST_NAME on; the VR allows 64.
    name_length: int = 64
    # Characters that a ROI Name may hold besides letters and digits of ASCII; REPLACEMENT is among them.
    name_characters: str = "_-+^~ .()/"
    # Add "~" to the name of an organ that the end of the scan cuts (TG-263).
    mark_cut: bool = True
    # Longest Structure Set Label; the VR allows 16.
    label_length: int = 16
    holes: HoleEncoding = "keyhole"
    # Decimals of coordinates in mm; None: as many as the grid asks for.
    decimals: int | None = None
    minimum_points: int = 3
    # What becomes of a structure without a voxel: left out, or listed as a ROI without contours.
    empty_structures: Literal["omit", "list"] = "omit"

    @property
    def drawing(self) -> Drawing:
        """Give how its contours are drawn."""
        return Drawing(holes=self.holes, decimals=self.decimals, minimum_points=self.minimum_points)


def is_profile_path(name_or_path: str) -> bool:
    """Tell whether a configured profile is the path of an operator's own file, and no shipped one's name."""
    return name_or_path.endswith(".toml") or "/" in name_or_path


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiName:
    """What a structure is called at a receiver."""

    # As the model package calls it.
    structure: str
    # ROI Name (3006,0026).
    name: str
    # Why it is not the structure's own, without a full stop; empty where it is.
    reason: str = ""
