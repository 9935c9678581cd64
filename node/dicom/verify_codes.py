"""The codes that a written object gives a structure, and those it is to give: the same for every kind of object."""

from node.dicom.strict_reading import Item
from node.dicom.wording import LO, fitted
from node.domain.structures import Code, StructureDefinition

# Value, scheme, meaning: people read the meaning, programs the rest.
Coded = tuple[str, str, str]


def codes_of(category: Item, kind: Item) -> list[Coded]:
    """Give category, type and modifiers, as written.

    Parameters
    ----------
    category, kind
        The items of Segmented Property Category Code Sequence, and of the sequence of the type.
    """
    modifiers = kind.items("SegmentedPropertyTypeModifierCodeSequence")
    return [_coded(item) for item in (category, kind, *modifiers)]


def codes_meant(definition: StructureDefinition) -> list[Coded]:
    """Give category, type and modifier as they are to be written."""
    meant: list[Code] = [definition.category, definition.type, *filter(None, [definition.modifier])]
    return [(code.value, code.scheme, fitted(code.meaning, LO)) for code in meant]


def _coded(item: Item) -> Coded:
    value = item.text("CodeValue" if item.has("CodeValue") else "LongCodeValue")
    return value, item.text("CodingSchemeDesignator"), item.text("CodeMeaning")
