"""Translation between DICOM datasets and the values of the domain."""

from pydicom import config

# pydicom warns of a value that is not of its VR and prints the value: a birth date written in words would stand in
# the log. What a result depends on is checked where it is read, so nothing is lost by its silence.
config.settings.reading_validation_mode = config.IGNORE
