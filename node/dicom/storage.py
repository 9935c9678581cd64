"""What is taken: storage SOP classes and transfer syntaxes."""

import pydicom.uid
from pydicom.uid import UID

# What can be contoured: SOP Class UID -> name.
IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image Storage",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET Image Storage",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET Image Storage",
}

# A SOP class of supplement 243, which pydicom's dictionary does not know yet.
_NEWER = {"LabelMapSegmentationStorage": UID("1.2.840.10008.5.1.4.1.1.66.7")}
# Ends in the same word and is no composite object: DICOMDIR.
_NO_OBJECT = UID("1.2.840.10008.1.3.10")

# Keyword -> SOP Class UID of everything that is stored anywhere, retired classes included.
STORAGE_KEYWORDS = {
    keyword: str(uid)
    for keyword, uid in {**vars(pydicom.uid), **_NEWER}.items()
    if isinstance(uid, UID) and keyword.endswith("Storage") and uid != _NO_OBJECT
}

# SOP Class UID -> name of what we take: everything. Scanners send dose reports, screen shots and structure sets in the
# same study: rejected in its context, one object makes many senders give up the whole study, and they alone would know;
# taken, it is declined in `status` with the reason.
STORAGE_CLASSES = {uid: IMAGE_CLASSES.get(uid, keyword) for keyword, uid in STORAGE_KEYWORDS.items()}

# What pydicom decodes with the decoders we install, best first: of several offered in one presentation context we take
# the first of these. Uncompressed before lossless before lossy, so that no sender is made to lose anything.
TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian (retired)",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.5": "RLE Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14, SV 1)",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless, Non-Hierarchical (Process 14)",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 (Lossless Only)",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 (Lossless Only)",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 with RPCL Options (Lossless Only)",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Lossy (Near-Lossless)",
    "1.2.840.10008.1.2.4.51": "JPEG Extended (Process 2 & 4)",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline (Process 1)",
}
