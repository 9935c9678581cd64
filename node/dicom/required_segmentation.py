"""What a Segmentation must hold: type 1 and 2 attributes of PS3.3 A.51, and those of type 1C whose condition holds.

Modules that are mandatory for what we write.
"""

from collections.abc import Mapping, Sequence

from node.dicom.required_attributes import CODE, OF_EVERY_RESULT, REFERENCE, Required, code_in
from node.domain.routing import SegmentationEncoding

_SEGMENT = ("SegmentSequence",)
_REFERENCED_SERIES = ("ReferencedSeriesSequence",)
_DERIVATION = ("DerivationImageSequence",)
_SOURCE = (*_DERIVATION, "SourceImageSequence")
# Of the codes that we choose; a model may bring a long one.
_SHORT_CODE = ("CodeValue", *CODE)

OBJECT: Sequence[Required] = (
    *OF_EVERY_RESULT,
    Required(module="Segmentation Series", clause="C.8.20.1", type_1=("Modality", "SeriesInstanceUID", "SeriesNumber")),
    Required(
        module="Enhanced General Equipment",
        clause="C.7.5.2",
        type_1=("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
    ),
    Required(
        module="Image Pixel",
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
        module="Multi-frame Functional Groups",
        clause="C.7.6.16",
        type_1=(
            "InstanceNumber",
            "ContentDate",
            "ContentTime",
            "NumberOfFrames",
            "SharedFunctionalGroupsSequence",
            "PerFrameFunctionalGroupsSequence",
        ),
    ),
    Required(
        module="Multi-frame Dimension",
        clause="C.7.6.17",
        type_1=("DimensionOrganizationSequence", "DimensionIndexSequence"),
    ),
    Required(
        module="Multi-frame Dimension",
        clause="C.7.6.17",
        within=("DimensionOrganizationSequence",),
        type_1=("DimensionOrganizationUID",),
    ),
    Required(
        module="Multi-frame Dimension",
        clause="C.7.6.17",
        within=("DimensionIndexSequence",),
        type_1=("DimensionOrganizationUID", "DimensionIndexPointer", "FunctionalGroupPointer"),
    ),
    Required(
        module="Segmentation Image",
        clause="C.8.20.2",
        type_1=("ImageType", "SegmentationType", "ContentLabel", "LossyImageCompression", "SegmentSequence"),
        type_2=("ContentDescription",),
    ),
    Required(
        module="Segment Description",
        clause="C.8.20.4",
        within=_SEGMENT,
        type_1=(
            "SegmentNumber",
            "SegmentLabel",
            "SegmentAlgorithmType",
            "SegmentAlgorithmName",
            "SegmentedPropertyCategoryCodeSequence",
            "SegmentedPropertyTypeCodeSequence",
        ),
    ),
    code_in((*_SEGMENT, "SegmentedPropertyCategoryCodeSequence")),
    code_in((*_SEGMENT, "SegmentedPropertyTypeCodeSequence")),
    Required(module="Common Instance Reference", clause="C.12.2", type_1=_REFERENCED_SERIES),
    Required(
        module="Common Instance Reference",
        clause="C.12.2",
        within=_REFERENCED_SERIES,
        type_1=("SeriesInstanceUID", "ReferencedInstanceSequence"),
    ),
    Required(
        module="SOP Instance Reference Macro",
        clause="table 10-11",
        within=(*_REFERENCED_SERIES, "ReferencedInstanceSequence"),
        type_1=REFERENCE,
    ),
)

OBJECT_OF_ENCODING: Mapping[SegmentationEncoding, Sequence[Required]] = {
    "binary": (),
    "fractional": (
        Required(
            module="Segmentation Image",
            clause="C.8.20.2",
            type_1=("SegmentationFractionalType", "MaximumFractionalValue"),
        ),
    ),
    "labelmap": (Required(module="Segmentation Image", clause="C.8.20.2", type_1=("PixelPaddingValue",)),),
}

# Functional groups of all frames at once, or of each.
PLANE: Sequence[Required] = (
    Required(
        module="Multi-frame Functional Groups",
        clause="C.7.6.16.2",
        type_1=("PixelMeasuresSequence", "PlaneOrientationSequence"),
    ),
    Required(
        module="Pixel Measures",
        clause="C.7.6.16.2.1",
        within=("PixelMeasuresSequence",),
        type_1=("PixelSpacing", "SliceThickness"),
    ),
    Required(
        module="Plane Orientation",
        clause="C.7.6.16.2.4",
        within=("PlaneOrientationSequence",),
        type_1=("ImageOrientationPatient",),
    ),
)

# Functional groups of each frame.
FRAME: Sequence[Required] = (
    Required(module="Derivation Image", clause="C.7.6.16.2.6", type_1=_DERIVATION),
    Required(
        module="Derivation Image",
        clause="C.7.6.16.2.6",
        within=_DERIVATION,
        type_1=("DerivationCodeSequence", "SourceImageSequence"),
    ),
    Required(
        module="Derivation Image",
        clause="C.7.6.16.2.6",
        within=_SOURCE,
        type_1=(*REFERENCE, "PurposeOfReferenceCodeSequence"),
    ),
    code_in((*_DERIVATION, "DerivationCodeSequence"), _SHORT_CODE),
    code_in((*_SOURCE, "PurposeOfReferenceCodeSequence"), _SHORT_CODE),
    Required(module="Plane Position", clause="C.7.6.16.2.3", type_1=("PlanePositionSequence",)),
    Required(
        module="Plane Position",
        clause="C.7.6.16.2.3",
        within=("PlanePositionSequence",),
        type_1=("ImagePositionPatient",),
    ),
    Required(module="Frame Content", clause="C.7.6.16.2.2", type_1=("FrameContentSequence",)),
    Required(
        module="Frame Content",
        clause="C.7.6.16.2.2",
        within=("FrameContentSequence",),
        type_1=("DimensionIndexValues",),
    ),
)
