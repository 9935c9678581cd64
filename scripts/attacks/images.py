"""What honest sender and attackers send: small CT images, encoded once."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset

from tests.builders import Identity, ct_series, grid
from tests.wire import CT_IMAGE_STORAGE, EXPLICIT_LITTLE, VERIFICATION, Context

# All of one width, so that an encoded data set can be given another UID in place.
_FIRST_UID = 10**37


@dataclass(frozen=True, slots=True)
class CT:
    """One CT image: its UID, and its data set in Explicit VR Little Endian."""

    sop_instance_uid: str
    data_set: bytes

    def renamed(self, number: int) -> "CT":
        """Give the same image as another instance."""
        uid = f"2.25.{_FIRST_UID + number}"
        return replace(
            self, sop_instance_uid=uid, data_set=self.data_set.replace(self.sop_instance_uid.encode(), uid.encode(), 1)
        )


def ct_image(side: int, *, patient_name: str) -> CT:
    """Make an image of ``side`` × ``side`` pixels of 16 bits; its series is named after the patient."""
    stack = grid(slices=1, rows=side, columns=side, spacing_mm=(1.5, 0.9, 0.9), series=patient_name)
    (dataset,) = ct_series(stack, identity=Identity(patient_name=patient_name), series=patient_name)
    dataset.SOPInstanceUID = f"2.25.{_FIRST_UID}"
    encoded = io.BytesIO()
    stream = DicomIO(encoded)
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, dataset)
    return CT(str(dataset.SOPInstanceUID), encoded.getvalue())


def ct_contexts() -> Sequence[Context]:
    """Give the contexts that everybody proposes: CT in 1, Verification in 3."""
    return [
        Context(1, CT_IMAGE_STORAGE, (EXPLICIT_LITTLE,)),
        Context(3, VERIFICATION, (EXPLICIT_LITTLE,)),
    ]
