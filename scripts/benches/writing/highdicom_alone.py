"""Write one Segmentation as highdicom's documentation does: python -m writing.highdicom_alone KIND SCENE FILE.

KIND is labelmap (RLE) or binary (native, as RLE has no bits).
"""

import logging
import sys
from pathlib import Path

import highdicom
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from node.domain.structures import StructureDefinition
from writing.measured import Meter
from writing.scene import Scene


def described(number: int, definition: StructureDefinition) -> SegmentDescription:
    """Describe one segment."""
    return SegmentDescription(
        segment_number=number,
        segment_label=definition.name,
        segmented_property_category=_concept(definition.category.value, definition.category.meaning),
        segmented_property_type=_concept(definition.type.value, definition.type.meaning),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="Phantom", family=highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"), version="1"
        ),
    )


def _concept(value: str, meaning: str) -> highdicom.sr.CodedConcept:
    return highdicom.sr.CodedConcept(value, "SCT", meaning)


def main(kind: str, scene: Scene, path: Path) -> None:
    """From the label map in memory to a Segmentation on disk; nothing is checked."""
    label_map, definitions, headers = scene.label_map, scene.definitions, scene.headers()
    meter = Meter()
    dataset = Segmentation(
        source_images=headers,
        pixel_array=label_map.labels,
        segmentation_type=kind.upper(),
        segment_descriptions=[described(number, one) for number, one in enumerate(definitions, start=1)],
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="highdicom",
        manufacturer_model_name="highdicom",
        software_versions=highdicom.__version__,
        device_serial_number="1",
        transfer_syntax_uid=RLELossless if kind == "labelmap" else ExplicitVRLittleEndian,
    )
    dataset.save_as(path)
    meter.end("object")
    meter.tell()


if __name__ == "__main__":
    logging.disable()
    main(sys.argv[1], Scene(Path(sys.argv[2])), Path(sys.argv[3]))
