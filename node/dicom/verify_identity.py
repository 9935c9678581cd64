"""Read what a written object says of its origin, and hold it against the images it was drawn on."""

import io
from collections.abc import Sequence

import numpy as np
from pydicom import Dataset, dcmread

from node.dicom.headers import slice_thickness_mm
from node.dicom.identity import TYPE_2, TYPE_3, valid_element
from node.dicom.strict_reading import Reader, explicit_elements, items, tag_of
from node.dicom.verification import expect, malformed_is_an_error
from node.domain.grid import Grid

# A result in a wrong patient's folder is worse than none. What sequences say more is not looked at.
IDENTITY = (
    *TYPE_2,
    *(keyword for keyword in TYPE_3 if not keyword.endswith("Sequence")),
    "SpecificCharacterSet",
    "StudyInstanceUID",
)

ACQUISITION = ("LossyImageCompression", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def verify_identity(written: bytes, source: Sequence[Dataset]) -> None:
    """Check that an object is of the patient and study of its images, attribute by attribute.

    Of PS3.3 C.7.1.1 and C.7.2.1 each value is that of one of the images, or empty where theirs is empty or breaks its
    VR.

    Raises
    ------
    VerificationError
        Something differs; the reason names the attribute, not its value.
    """
    with malformed_is_an_error():
        result = dcmread(io.BytesIO(written), stop_before_pixels=True, specific_tags=list(IDENTITY))
        for keyword in IDENTITY:
            meant = {_meant(header, keyword) for header in source}
            expect(_text(result, keyword) in meant, f"{keyword} is not that of the images.")


def verify_acquisition(written: bytes, source: Sequence[Dataset], grid: Grid) -> None:
    """Check what a Segmentation says of how its images were made.

    It is marked where one of them was compressed with loss, and only there (PS3.3 C.7.6.1.1.5); its Slice Thickness is
    one of theirs, or the distance of the slices where they state none.

    Raises
    ------
    VerificationError
        Something differs; the reason names it.
    """
    with malformed_is_an_error():
        result = dcmread(io.BytesIO(written), stop_before_pixels=True, specific_tags=list(ACQUISITION))
        lossy = "01" if any(header.get("LossyImageCompression") == "01" for header in source) else "00"
        expect(result.LossyImageCompression == lossy, "Lossy Image Compression is not that of the images.")
        headers = {str(header.SOPInstanceUID): header for header in source}
        stated_mm = [slice_thickness_mm(headers[plane.sop_instance_uid], plane) for plane in grid.planes]
        for thickness_mm in _thicknesses_mm(result):
            known_mm = {one or grid.slice_spacing_mm or thickness_mm for one in stated_mm}
            expect(
                bool(np.isclose(thickness_mm, list(known_mm), rtol=1e-6).any()),
                "Slice Thickness is not that of the images.",
            )


def _thicknesses_mm(result: Dataset) -> set[float]:
    """Give each Slice Thickness that is said, of all frames at once or of each."""
    shared = result.SharedFunctionalGroupsSequence[0]
    if "PixelMeasuresSequence" in shared:
        return {float(shared.PixelMeasuresSequence[0].SliceThickness)}
    # Thousands of frames say one of a few things: each is read once, from its bytes.
    frames = result.get_item("PerFrameFunctionalGroupsSequence").value
    told = {
        frames[start:stop]
        for bounds in items(frames, 0, len(frames))
        for tag, start, stop in explicit_elements(frames, *bounds)
        if tag == tag_of("PixelMeasuresSequence")
    }
    read = (Reader(one, explicit_elements).item(*bounds) for one in told for bounds in items(one, 0, len(one)))
    return {thickness_mm for measures in read for thickness_mm in measures.decimals("SliceThickness")}


def _meant(header: Dataset, keyword: str) -> str:
    """Give what a result must say: nothing where a value breaks its VR. A character set is called what it is there."""
    sound = keyword == "SpecificCharacterSet" or valid_element(header, keyword) is not None
    return _text(header, keyword) if sound else ""


def _text(dataset: Dataset, keyword: str) -> str:
    """Give a value as text; none where it is absent or empty."""
    value = dataset.get(keyword)
    return "" if value is None else str(value)
