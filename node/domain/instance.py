"""One received SOP instance, as far as deciding needs to know it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from node.domain.grid import Plane


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenation:
    """Of which concatenation a multi-frame instance is a part (PS3.3 C.7.6.16.2.2.4)."""

    uid: str
    # From 1.
    number: int
    # None where the sender does not say: type 3.
    total: int | None


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
    # Instance Number; never used for order, but a hole in a series' numbers says that more may come.
    instance_number: int | None
    # For each plane, what may tell volumes of one series apart (`SPLITTING_KEYS`): keyword to value as text.
    plane_keys: tuple[Mapping[str, str], ...] = ()
    # Images in Acquisition (0020,1002) and Number of Series Related Instances (0020,1209), where the sender says them.
    images_in_acquisition: int | None = None
    series_related_instances: int | None = None
    # Where the instance is one of several that hold the frames of one (PS3.3 C.7.6.16.2.2.4).
    concatenation: Concatenation | None = None
    # DICOM keywords (and CallingAETitle, CalledAETitle) with their values as text, for routing.
    attributes: Mapping[str, str] = field(default_factory=dict)
    # When the file was durable, seconds since the epoch.
    received_at: float
    # The file's name within its series folder in the inbox.
    file_name: str

    @property
    def is_multi_frame(self) -> bool:
        """Tell whether its planes are frames."""
        return bool(self.planes) and self.planes[0].frame_number is not None

    @property
    def acquisition_number(self) -> str:
        """Give Acquisition Number (0020,0012) of its first plane; empty where unknown."""
        return self.plane_keys[0].get("AcquisitionNumber", "") if self.plane_keys else ""
