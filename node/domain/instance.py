"""One received SOP instance, as far as deciding needs to know it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from node.domain.grid import Plane


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedInstance:
    """The facts of one instance in the inbox. Holds no patient name or identifier.

    ``planes`` is empty where the instance holds no image plane in the patient; ``not_an_image`` then says why.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    # Type 1C in the Image Plane's module; None where missing. Never guessed.
    frame_of_reference_uid: str | None
    # Digest of the patient's identification: tells patients apart without naming them.
    patient_digest: str
    # Digest of Pixel Data as received: tells a repeated image from another one at the same place.
    pixel_digest: str
    modality: str
    image_type: tuple[str, ...]
    planes: tuple[Plane, ...]
    not_an_image: str | None
    # Instance Number; only reported, never used for order.
    instance_number: int | None
    # DICOM keywords (and CallingAETitle, CalledAETitle) with their values as text, for routing.
    attributes: Mapping[str, str] = field(default_factory=dict)
    # When the file was durable, seconds since the epoch.
    received_at: float
    # The file's name within its series folder in the inbox.
    file_name: str
