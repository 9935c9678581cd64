"""What a Segmentation must have (PS3.3 A.51): attributes of type 1 and 2, and those of type 1C whose condition holds.

Modules that are mandatory for what we write, by clause of PS3.3; sequences with what each of their items must have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from node.domain.routing import SegmentationEncoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """Attributes, by keyword."""

    # Where PS3.3 asks for them.
    clause: str
    # With a value.
    type_1: Sequence[str] = ()
    # With or without a value.
    type_2: Sequence[str] = ()
    # By sequence of type 1: what each item must have.
    items: Mapping[str, "Required"] = field(default_factory=dict)


CODE = Required(clause="8.8", type_1=("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
REFERENCE = Required(clause="10.8", type_1=("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"))

OBJECT: Sequence[Required] = (
    Required(clause="C.7.1.1", type_2=("PatientName", "PatientID", "PatientBirthDate", "PatientSex")),
    Required(
        clause="C.7.2.1",
        type_1=("StudyInstanceUID",),
        type_2=("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    ),
    Required(clause="C.8.20.1", type_1=("Modality", "SeriesInstanceUID", "SeriesNumber")),
    Required(clause="C.7.4.1", type_1=("FrameOfReferenceUID",), type_2=("PositionReferenceIndicator",)),
    Required(
        clause="C.7.5.2", type_1=("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
    ),
    Required(
        clause="C.7.6.3",
        type_1=(
            "SamplesPerPixel",
            "PhotometricInterpretation",
            "Rows",
            "Columns",
            "BitsAllocated",
            "BitsStored",
            "HighBit",
            "PixelRepresentation",
            "PixelData",
        ),
    ),
    Required(
        clause="C.7.6.16",
        type_1=("InstanceNumber", "ContentDate", "ContentTime", "NumberOfFrames", "PerFrameFunctionalGroupsSequence"),
        items={
            "SharedFunctionalGroupsSequence": Required(
                clause="C.7.6.16.2",
                items={
                    "PixelMeasuresSequence": Required(clause="C.7.6.16.2.1", type_1=("PixelSpacing", "SliceThickness")),
                    "PlaneOrientationSequence": Required(clause="C.7.6.16.2.4", type_1=("ImageOrientationPatient",)),
                },
            )
        },
    ),
    Required(
        clause="C.7.6.17",
        items={
            "DimensionOrganizationSequence": Required(clause="C.7.6.17", type_1=("DimensionOrganizationUID",)),
            "DimensionIndexSequence": Required(
                clause="C.7.6.17",
                type_1=("DimensionOrganizationUID", "DimensionIndexPointer", "FunctionalGroupPointer"),
            ),
        },
    ),
    Required(
        clause="C.8.20.2",
        type_1=("ImageType", "SegmentationType", "ContentLabel", "LossyImageCompression"),
        type_2=("ContentDescription",),
        items={
            "SegmentSequence": Required(
                clause="C.8.20.4",
                type_1=("SegmentNumber", "SegmentLabel", "SegmentAlgorithmType", "SegmentAlgorithmName"),
                items={
                    "SegmentedPropertyCategoryCodeSequence": CODE,
                    "SegmentedPropertyTypeCodeSequence": CODE,
                },
            )
        },
    ),
    Required(
        clause="C.12.2",
        items={
            "ReferencedSeriesSequence": Required(
                clause="C.12.2", type_1=("SeriesInstanceUID",), items={"ReferencedInstanceSequence": REFERENCE}
            )
        },
    ),
    Required(clause="C.12.1", type_1=("SOPClassUID", "SOPInstanceUID")),
)

OBJECT_OF_ENCODING: Mapping[SegmentationEncoding, Required] = {
    "binary": Required(clause="C.8.20.2"),
    "fractional": Required(clause="C.8.20.2", type_1=("SegmentationFractionalType", "MaximumFractionalValue")),
    "labelmap": Required(clause="C.8.20.2", type_1=("PixelPaddingValue",)),
}

# Functional groups of each frame.
DERIVATION = Required(
    clause="C.7.6.16.2.6",
    items={
        "DerivationImageSequence": Required(
            clause="C.7.6.16.2.6",
            items={
                "DerivationCodeSequence": CODE,
                "SourceImageSequence": Required(
                    clause="C.7.6.16.2.6",
                    type_1=("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
                    items={"PurposeOfReferenceCodeSequence": CODE},
                ),
            },
        )
    },
)
POSITION = Required(
    clause="C.7.6.16.2.3",
    items={"PlanePositionSequence": Required(clause="C.7.6.16.2.3", type_1=("ImagePositionPatient",))},
)
CONTENT = Required(
    clause="C.7.6.16.2.2",
    items={"FrameContentSequence": Required(clause="C.7.6.16.2.2", type_1=("DimensionIndexValues",))},
)
