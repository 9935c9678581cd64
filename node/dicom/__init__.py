"""Translation between DICOM datasets and the values of the domain."""

import struct
from zlib import error as ZlibError  # noqa: N812 - an exception like the others

from pydicom import config
from pydicom.errors import BytesLengthException, InvalidDicomError

# pydicom warns of a value that is not of its VR and prints the value: a birth date written in words would stand in
# the log. What a result depends on is checked where it is read, so nothing is lost by its silence.
config.settings.reading_validation_mode = config.IGNORE

# What pydicom raises on files that are cut off or not what they say.
UNREADABLE = (
    BytesLengthException,
    InvalidDicomError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    struct.error,
    ZlibError,
)
