"""How it is said which attributes an object must hold, and how that is checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from node.dicom.strict_reading import Item
from node.domain.errors import VerificationError

# SOP Instance Reference Macro (table 10-11).
REFERENCE = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
# Code Sequence Macro (table 8.8-1). Code Value is 1C: a long code has another attribute.
CODE = ("CodingSchemeDesignator", "CodeMeaning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """The required attributes of a module, or of the items of one of its sequences."""

    module: str
    # Of PS3.3.
    clause: str
    # Sequences that lead to the items from the data set; none: the data set itself.
    within: tuple[str, ...] = ()
    # There, with a value.
    type_1: tuple[str, ...] = ()
    # There.
    type_2: tuple[str, ...] = ()


def code_in(within: tuple[str, ...], type_1: tuple[str, ...] = CODE) -> Required:
    """Require a code in each item of a sequence."""
    return Required(module="Code Sequence Macro", clause="table 8.8-1", within=within, type_1=type_1)


OF_EVERY_RESULT: Sequence[Required] = (
    Required(module="SOP Common", clause="C.12.1", type_1=("SOPClassUID", "SOPInstanceUID")),
    Required(module="Patient", clause="C.7.1.1", type_2=("PatientName", "PatientID", "PatientBirthDate", "PatientSex")),
    Required(
        module="General Study",
        clause="C.7.2.1",
        type_1=("StudyInstanceUID",),
        type_2=("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    ),
    Required(
        module="Frame of Reference",
        clause="C.7.4.1",
        type_1=("FrameOfReferenceUID",),
        type_2=("PositionReferenceIndicator",),
    ),
)


def verify_required(data_set: Item, attributes: Sequence[Required]) -> None:
    """Raise VerificationError unless every required attribute is there, those of type 1 with a value."""
    for required in attributes:
        for item in _items(data_set, required.within):
            for keyword in (*required.type_1, *required.type_2):
                if not item.has(keyword):
                    raise VerificationError(f"{keyword} is missing {_asked_for_by(required)}.")
            for keyword in required.type_1:
                if item.is_empty(keyword):
                    raise VerificationError(f"{keyword} is empty {_asked_for_by(required)}.")


def _asked_for_by(required: Required) -> str:
    return f"(PS3.3 {required.clause}, {required.module})"


def _items(item: Item, within: tuple[str, ...]) -> Iterator[Item]:
    if not within:
        yield item
        return
    for inner in item.items(within[0]):
        yield from _items(inner, within[1:])
