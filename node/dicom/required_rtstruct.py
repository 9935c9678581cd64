"""What an RT Structure Set must hold: type 1 and 2 attributes of PS3.3 A.19.3, as data.

Some of type 3 are asked for as if they were of type 1, because our results always have them: readers find the images by
them.
"""

from node.dicom.required_attributes import OF_EVERY_RESULT, REFERENCE, Required, code_in

_REFERENCED_FRAME = ("ReferencedFrameOfReferenceSequence",)
_REFERENCED_STUDY = (*_REFERENCED_FRAME, "RTReferencedStudySequence")
_REFERENCED_SERIES = (*_REFERENCED_STUDY, "RTReferencedSeriesSequence")
_OBSERVATION = ("RTROIObservationsSequence",)
_IDENTIFICATION = (*_OBSERVATION, "RTROIIdentificationCodeSequence")

REQUIRED = (
    *OF_EVERY_RESULT,
    Required(
        module="RT Series",
        clause="C.8.8.1",
        type_1=("Modality", "SeriesInstanceUID"),
        type_2=("SeriesNumber", "OperatorsName"),
    ),
    Required(module="General Equipment", clause="C.7.5.1", type_2=("Manufacturer",)),
    Required(
        module="Structure Set",
        clause="C.8.8.5",
        # The references are type 3.
        type_1=("StructureSetLabel", "StructureSetROISequence", *_REFERENCED_FRAME),
        type_2=("StructureSetDate", "StructureSetTime"),
    ),
    Required(
        module="Structure Set",
        clause="C.8.8.5",
        within=_REFERENCED_FRAME,
        type_1=("FrameOfReferenceUID", "RTReferencedStudySequence"),
    ),
    Required(
        module="Structure Set",
        clause="C.8.8.5",
        within=_REFERENCED_STUDY,
        type_1=(*REFERENCE, "RTReferencedSeriesSequence"),
    ),
    Required(
        module="Structure Set",
        clause="C.8.8.5",
        within=_REFERENCED_SERIES,
        type_1=("SeriesInstanceUID", "ContourImageSequence"),
    ),
    Required(
        module="Image SOP Instance Reference Macro",
        clause="table 10-3",
        within=(*_REFERENCED_SERIES, "ContourImageSequence"),
        type_1=REFERENCE,
    ),
    Required(
        module="Structure Set",
        clause="C.8.8.5",
        within=("StructureSetROISequence",),
        # Name and algorithm are type 2; a ROI without them is of no use.
        type_1=("ROINumber", "ReferencedFrameOfReferenceUID", "ROIName", "ROIGenerationAlgorithm"),
    ),
    Required(
        module="SOP Instance Reference Macro",
        clause="table 10-11",
        within=("StructureSetROISequence", "DefinitionSourceSequence"),
        type_1=(*REFERENCE, "ReferencedSegmentNumber"),
    ),
    Required(
        module="SOP Instance Reference Macro",
        clause="table 10-11",
        within=("PredecessorStructureSetSequence",),
        type_1=REFERENCE,
    ),
    Required(module="ROI Contour", clause="C.8.8.6", type_1=("ROIContourSequence",)),
    Required(
        module="ROI Contour",
        clause="C.8.8.6",
        within=("ROIContourSequence",),
        # The colour is type 3.
        type_1=("ReferencedROINumber", "ROIDisplayColor"),
    ),
    Required(module="RT ROI Observations", clause="C.8.8.8", type_1=_OBSERVATION),
    Required(
        module="RT ROI Observations",
        clause="C.8.8.8",
        within=_OBSERVATION,
        # The codes are type 3.
        type_1=(
            "ObservationNumber",
            "ReferencedROINumber",
            "SegmentedPropertyCategoryCodeSequence",
            "RTROIIdentificationCodeSequence",
        ),
        type_2=("RTROIInterpretedType", "ROIInterpreter"),
    ),
    code_in((*_OBSERVATION, "SegmentedPropertyCategoryCodeSequence")),
    code_in(_IDENTIFICATION),
    code_in((*_IDENTIFICATION, "SegmentedPropertyTypeModifierCodeSequence")),
    Required(module="Approval", clause="C.8.8.16", type_1=("ApprovalStatus",)),
)
