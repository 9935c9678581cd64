"""Delineate: a DICOM network node that contours by itself. Research use; not a medical device."""

__version__ = "0.1.0"

DISCLAIMER = "Research use; not a medical device. Every contour needs review by a clinician."
