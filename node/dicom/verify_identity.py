"""Read whose result a written object says it is, and hold it against the images it was drawn on."""

import io
from collections.abc import Sequence

from pydicom import Dataset, dcmread

from node.dicom.identity import TYPE_2, valid_element
from node.dicom.verification import expect, malformed_is_an_error

# A result in a wrong patient's folder is worse than none.
IDENTITY = (*TYPE_2, "SpecificCharacterSet", "IssuerOfPatientID", "StudyInstanceUID")


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
            meant = {_text(header, keyword) for header in source}
            expect(_text(result, keyword) in meant, f"{keyword} is not that of the images.")


def _text(dataset: Dataset, keyword: str) -> str:
    """Give a value as text; none where it is absent, empty or breaks its VR."""
    element = valid_element(dataset, keyword)
    return "" if element is None else str(element.value)
