"""What is sent: one series of CT images with regular geometry, every pixel plane another."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from tests.builders import ct_series, grid
from tests.wire import CT_IMAGE_STORAGE, store_message

CONTEXT_ID = 1
# All of one width, so that an encoded message can be given another UID in place.
_FIRST_UID = 10**37


@dataclass(frozen=True, slots=True)
class Instance:
    """One image: its UID, and its data set in Explicit VR Little Endian."""

    sop_instance_uid: str
    data_set: bytes

    def renamed(self, number: int) -> "Instance":
        """Give the same image as another instance."""
        uid = instance_uid(number)
        return replace(
            self,
            sop_instance_uid=uid,
            data_set=self.data_set.replace(self.sop_instance_uid.encode(), uid.encode(), 1),
        )

    def message(self, maximum_length: int) -> bytes:
        """Encode the C-STORE that sends it, in PDUs that the acceptor takes."""
        return store_message(CONTEXT_ID, CT_IMAGE_STORAGE, self.sop_instance_uid, self.data_set, maximum_length)


def instance_uid(number: int) -> str:
    """Give the SOP Instance UID with this number."""
    return f"2.25.{_FIRST_UID + number}"


def make_series(count: int, *, side: int) -> Sequence[Instance]:
    """Make a series of ``count`` images of ``side`` × ``side`` pixels of 16 bits."""
    stack = grid(slices=count, rows=side, columns=side, spacing_mm=(1.5, 0.9, 0.9), series=f"bench {count} {side}")
    random = np.random.default_rng(side)
    middle, radius = side / 2, side * 0.4
    rows, columns = np.ogrid[:side, :side]
    body = (rows - middle) ** 2 + (columns - middle) ** 2 < radius**2
    made = []
    for number, plane in enumerate(stack.planes):
        one = replace(stack, planes=(plane,))
        noise = random.integers(-60, 60, size=(side, side), dtype=np.int16)
        voxels = (np.where(body, np.int16(40), np.int16(-900)) + noise)[np.newaxis]
        (dataset,) = ct_series(one, voxels=voxels, series=f"bench {count} {side}")
        dataset.InstanceNumber = number + 1
        dataset.SOPInstanceUID = UID(instance_uid(number))
        made.append(Instance(instance_uid(number), encoded(dataset)))
    return made


def encoded(dataset: Dataset) -> bytes:
    """Encode a data set in Explicit VR Little Endian, without File Meta Information."""
    buffer = io.BytesIO()
    stream = DicomIO(buffer)
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, dataset)
    return buffer.getvalue()
