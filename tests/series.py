"""Series in all shapes, as `assess` sees them: CT slices, scouts, captures, multi-frame objects, associations."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from node.domain.grid import Vector
from node.domain.instance import ReceivedInstance
from node.domain.series import AssociationFact, Ending, SeriesFacts
from tests.builders import plane

# When the last instance of all that is built here was received.
LAST = 1000.0

Instances = tuple[ReceivedInstance, ...]


def image(name: str, position_lps_mm: Vector, **changes: Any) -> ReceivedInstance:
    """Build a CT image of one plane; changes to `orientation`, `rows`, `columns`, `spacing` go to the plane."""
    geometry = {
        "orientation": changes.pop("orientation", "axial"),
        "rows": changes.pop("rows", 24),
        "columns": changes.pop("columns", 40),
        "pixel_spacing_mm": changes.pop("spacing", (1.5, 0.8)),
    }
    uid = f"1.2.{name}"
    whole = ReceivedInstance(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        series_instance_uid="1.2.3",
        study_instance_uid="1.2.4",
        frame_of_reference_uid="1.2.5",
        patient_digest="patient",
        pixel_digest=f"pixels of {name}",
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        planes=(plane(sop_instance_uid=uid, position_lps_mm=position_lps_mm, **geometry),),
        not_an_image=None,
        instance_number=None,
        attributes={"Modality": "CT", "SliceThickness": "2"},
        received_at=LAST,
        file_name=f"{uid}.dcm",
    )
    return replace(whole, **changes)


def stack(count: int = 10, *, gap_mm: float = 2.0, name: str = "", **changes: Any) -> Instances:
    """Build axial images at z = 100, 102, …; names do not follow the positions."""
    order = list(range(count))
    random.Random(7).shuffle(order)
    return tuple(
        image(f"{name}{order[index]}", (-31.5, -22.25, 100.0 + index * gap_mm), **changes) for index in range(count)
    )


def without(instances: Instances, *indices: int) -> Instances:
    return tuple(one for index, one in enumerate(instances) if index not in indices)


def localizer(name: str = "999") -> ReceivedInstance:
    return image(name, (0.0, -124.8, 916.5), orientation="coronal", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))


def capture(name: str = "998") -> ReceivedInstance:
    return replace(image(name, (0.0, 0.0, 0.0)), planes=(), not_an_image="Secondary Capture")


def multi_frame(name: str, count: int, first_z: float = 100.0) -> ReceivedInstance:
    whole = image(name, (0.0, 0.0, 0.0))
    planes = (
        replace(whole.planes[0], frame_number=index + 1, position_lps_mm=(0.0, 0.0, first_z + 2.0 * index))
        for index in range(count)
    )
    return replace(whole, planes=tuple(planes))


def associations(*endings: Ending) -> tuple[AssociationFact, ...]:
    return tuple(
        AssociationFact(
            association_id=str(index),
            calling_ae_title="CT1",
            ending=ending,
            opened_at=900.0,
            ended_at=None if ending == "open" else 1000.5,
        )
        for index, ending in enumerate(endings)
    )


def ended(ending: Ending, ended_at: float) -> AssociationFact:
    return replace(associations(ending)[0], association_id=f"{ending} {ended_at}", ended_at=ended_at)


def facts(instances: Sequence[ReceivedInstance], *endings: Ending) -> SeriesFacts:
    return SeriesFacts(series_instance_uid="1.2.3", instances=tuple(instances), associations=associations(*endings))
