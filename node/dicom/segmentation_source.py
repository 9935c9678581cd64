"""Clean headers of source images for highdicom, with plane numbers that become instances and frames afterwards.

Made from the manifest instead of copied: headers from the field lack attributes that highdicom reads without asking,
and hold values that break their VR.
"""

from collections.abc import Mapping

from pydicom import Dataset
from pydicom.uid import CTImageStorage

from node.dicom.headers import slice_thickness_mm
from node.dicom.identity import TYPE_2, valid_element
from node.domain.grid import Plane
from node.domain.series import SeriesManifest


def source_headers(manifest: SeriesManifest, headers: Mapping[str, Dataset]) -> list[Dataset]:
    """Give a clean single-frame header of one pixel for each plane, in order; ``plane_index`` tells which is which."""
    sources = [
        _source(plane, number, headers[plane.sop_instance_uid], manifest)
        for number, plane in enumerate(manifest.grid.planes, start=1)
    ]
    # A mask drawn on lossy images, be it only some of them, stays marked (PS3.3 C.8.20.2).
    lossy = next((header for header in headers.values() if header.get("LossyImageCompression") == "01"), Dataset())
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if (element := valid_element(lossy, keyword)) is not None:
            for source in sources:
                source.add(element)
    return sources


def plane_index(reference: Dataset) -> int:
    """Give which plane of the grid a reference to one of ``source_headers`` means."""
    return int(str(reference.ReferencedSOPInstanceUID).rpartition(".")[2]) - 1


def _source(plane: Plane, number: int, header: Dataset, manifest: SeriesManifest) -> Dataset:
    source = Dataset()
    # Identity comes last, from ``inherit``: highdicom would tell names that it finds odd to the log.
    for keyword in TYPE_2:
        setattr(source, keyword, None)
    source.PatientName = "Placeholder^"
    source.StudyInstanceUID = manifest.study_instance_uid
    source.SOPClassUID = header.SOPClassUID if plane.frame_number is None else CTImageStorage
    source.SOPInstanceUID = _placeholder(number)
    source.SeriesInstanceUID = manifest.series_instance_uid
    source.FrameOfReferenceUID = manifest.frame_of_reference_uid
    source.Modality = manifest.modality
    source.Rows = source.Columns = 1
    first = manifest.grid.planes[0]
    source.ImagePositionPatient = [decimal_string(value) for value in plane.position_lps_mm]
    source.ImageOrientationPatient = [decimal_string(value) for value in first.orientation]
    source.PixelSpacing = [decimal_string(value) for value in first.pixel_spacing_mm]
    thickness_mm = slice_thickness_mm(header, plane) or manifest.grid.slice_spacing_mm or 1.0
    source.SliceThickness = decimal_string(thickness_mm)
    return source


def _placeholder(number: int) -> str:
    """Give the UID that stands for a plane until its instance and frame are put there."""
    return f"2.25.0.{number}"  # no real UID: its second last component is 0 below the UUID root


def decimal_string(value: float) -> str:
    """Give a DS with as many figures as its 16 characters hold."""
    for digits in range(15, 7, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{value:.7g}"
