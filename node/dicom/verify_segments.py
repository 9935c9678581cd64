"""Hold what a written Segmentation says of each segment against its structure (PS3.3 C.8.20.4)."""

import struct
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from node.dicom.strict_reading import Item, tag_of
from node.dicom.verification import expect
from node.dicom.verify_codes import codes_meant, codes_of
from node.domain.masks import BACKGROUND
from node.domain.routing import SegmentationEncoding
from node.domain.structures import StructureDefinition

# Name and structure of each Segment Number.
Segments = Mapping[int, tuple[str, StructureDefinition]]

# What a label map calls voxels of no segment.
_BACKGROUND_CODE = ("125040", "DCM", "Background")

# sRGB (IEC 61966-2-1) to XYZ, white D65 as in sRGB itself: a profile connection space would have D50, a little off.
_XYZ_OF_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# So far apart may colours be, in CIELab: nobody sees it.
_SAME_COLOUR = 1.0


def verify_segments(header: Item, segments: Segments) -> None:
    """Check code, algorithm type and colour of each segment.

    Raises
    ------
    VerificationError
        Something differs; the reason names it.
    """
    for item in header.items("SegmentSequence"):
        number = item.number("SegmentNumber")
        shown = segments[number][0] if number != BACKGROUND else "The background"
        expect(item.text("SegmentAlgorithmType") == "AUTOMATIC", f"{shown} is not said to be AUTOMATIC.")
        expect(not item.has("SegmentDescription"), f"{shown} has a description, which none is given.")
        said = codes_of(
            item.item("SegmentedPropertyCategoryCodeSequence"), item.item("SegmentedPropertyTypeCodeSequence")
        )
        if number == BACKGROUND:
            expect(said == [_BACKGROUND_CODE] * 2, "The background carries the code of something else.")
            continue
        definition = segments[number][1]
        expect(said == codes_meant(definition), f"{shown} has another code than its structure.")
        expect(_is_colour(item, definition.colour_rgb), f"{shown} has another colour than its structure.")


def verify_overlap(header: Item, definitions: Collection[StructureDefinition], encoding: SegmentationEncoding) -> None:
    """Check that Segments Overlap (PS3.3 C.8.20.2) says of the segments what is so.

    Raises
    ------
    VerificationError
        It says something else. Of probabilities of several structures it cannot be known.
    """
    values = [value for definition in definitions for value in set(definition.label_values)]
    wanted = "YES" if len(set(values)) < len(values) else "NO"
    if encoding == "fractional" and len(definitions) > 1:
        wanted = "UNDEFINED"
    expect(header.text("SegmentsOverlap") == wanted, f"Segments Overlap is not {wanted}.")


def _is_colour(item: Item, colour_rgb: tuple[int, int, int]) -> bool:
    """Tell whether Recommended Display CIELab Value (PS3.3 C.10.7.1.1) is the colour."""
    if not item.has("RecommendedDisplayCIELabValue"):
        return False
    scaled = np.array(struct.unpack("<3H", item.values[tag_of("RecommendedDisplayCIELabValue")])) / 0xFFFF
    lab = scaled * (100, 255, 255) - (0, 128, 128)
    return bool(np.linalg.norm(lab - _lab(colour_rgb)) < _SAME_COLOUR)


def _lab(colour_rgb: tuple[int, int, int]) -> NDArray[np.float64]:
    share = np.array(colour_rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = _XYZ_OF_RGB @ linear / _XYZ_OF_RGB.sum(axis=1)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
