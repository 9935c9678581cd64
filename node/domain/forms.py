"""In which forms a result is made: what each destination wants, and what is offered to it."""

from collections.abc import Mapping
from dataclasses import dataclass

from node.domain.errors import SetupError
from node.domain.profiles import Profile
from node.domain.routing import SegmentationEncoding

# SOP Instance UIDs that are sent together; of several offers the first that the destination takes whole.
Offer = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a destination wants: names and contours by its profile, and how a Segmentation holds its segments."""

    profile: Profile
    # A label map is offered first, BINARY to those who do not take it.
    segmentation: SegmentationEncoding = "binary"


# Destination -> what it wants.
Forms = Mapping[str, Form]


def refuse_namesakes(forms: Forms) -> None:
    """Raise SetupError if two profiles share a name, by which results are told apart: one would stand for both."""
    profiles: dict[str, Profile] = {}
    for form in forms.values():
        profile = profiles.setdefault(form.profile.name, form.profile)
        if profile != form.profile:
            raise SetupError(f"Two different profiles are called {profile.name!r}.", "Rename the file of one of them.")


def encodings(
    wanted: SegmentationEncoding, hindrances: Mapping[SegmentationEncoding, str]
) -> tuple[SegmentationEncoding, ...]:
    """Give the encodings to offer, the best first.

    Parameters
    ----------
    hindrances
        Why an encoding cannot hold this result, where it cannot.
    """
    if wanted == "binary" or hindrances.get(wanted):
        return ("binary",)
    # Receivers know FRACTIONAL by the same SOP class as BINARY, so there is nothing to negotiate.
    return (wanted, "binary") if wanted == "labelmap" else (wanted,)
