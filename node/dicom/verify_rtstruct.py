"""Read a written RT Structure Set back, as a receiver would, and hold it against the label map.

Shares no code with the writer except the rule of which pixels a polygon holds.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from node.dicom.contour_reading import WrittenContours, read_contours
from node.dicom.required_attributes import verify_required
from node.dicom.required_rtstruct import REQUIRED
from node.dicom.strict_reading import Item, Reader, implicit_elements, items, read_file_meta, tag_of
from node.dicom.verification import ANOTHER_GRID, OFF_PLANE_MM, Images, expect, malformed_is_an_error, verify_own_uids
from node.dicom.verify_codes import codes_meant, codes_of
from node.dicom.wording import SH, fitted, plain, unique_names
from node.domain.errors import VerificationError
from node.domain.grid import Grid
from node.domain.profiles import RoiName
from node.domain.row_changes import Places, RowChanges, held
from node.domain.scanlines import Points, crossings, odd
from node.domain.series import SeriesManifest
from node.domain.structures import StructureDefinition
from node.domain.volume import LabelMap

RT_STRUCTURE_SET_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

# Which side a name means, as TG-263 writes it and as people do; and the codes (SNOMED CT, and its older identifiers)
# that must not contradict it.
SIDE_OF_WORD = {"l": "left", "left": "left", "r": "right", "right": "right"}
SIDE_OF_CODE = {"7771000": "left", "G-A101": "left", "24028007": "right", "G-A100": "right"}

# (SOP Class UID, SOP Instance UID)
Reference = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Listed:
    """A structure that must be in the result, and where its filling changes; nowhere if it must have no contour."""

    definition: StructureDefinition
    changes: Places


def verify_rtstruct(
    written: bytes,
    label_map: LabelMap,
    definitions: Sequence[StructureDefinition],
    manifest: SeriesManifest,
    names: Sequence[RoiName] | None = None,
    segmentation_uid: str | None = None,
    predecessor_uid: str | None = None,
    segment_numbers: Mapping[str, int] | None = None,
    segmentation_class_uid: str | None = None,
) -> None:
    """Check that an RT Structure Set, read anew, says what the label map says.

    It is whole (A.19.3), every value obeys its VR, and it belongs to the manifest's study and frame of reference. It
    names all images of the manifest and no other object. Each contour is a closed polygon of at least 3 points on the
    plane of the image that it names and within the image. Each ROI has the code, type and colour of its structure, and
    holds exactly its voxels.

    Parameters
    ----------
    names
        What the structures are called, in the order of the definitions. A structure without voxels is a ROI without
        contours if it has a name here, else it is not in the result. By default every structure with voxels has its own
        name, made unique.
    segmentation_uid
        SOP Instance UID of the Segmentation that ROIs may refer to; none by default.
    predecessor_uid
        SOP Instance UID of the RT Structure Set that this one takes the place of.
    segment_numbers
        Segment Number by the structure's own name: just these structures name their segment, each once. By default it
        is not asked which segment a ROI names.
    segmentation_class_uid
        SOP Class UID of the Segmentation; by default one of the classes of Segmentations, the same in all ROIs.

    Raises
    ------
    VerificationError
        Something differs; the reason names it.
    """
    with malformed_is_an_error():
        expect(label_map.grid.planes == manifest.grid.planes, ANOTHER_GRID)
        data_set = _data_set(written)
        _verify_set(data_set, manifest)
        _verify_references(data_set, manifest, segmentation_uid, predecessor_uid)
        listed = _listed(RowChanges(label_map), definitions, names)
        _verify_regions(data_set, listed)
        _verify_segments(data_set, listed, segment_numbers, segmentation_class_uid)
        _verify_contours(written, data_set, listed, manifest)
        _verify_words(data_set, listed, manifest.grid)


def _data_set(written: bytes) -> Item:
    """Read all but the contours, and hold File Meta Information (PS3.10 7.1) against it."""
    meta, start = read_file_meta(written)
    expect(
        meta.text("TransferSyntaxUID") == IMPLICIT_VR_LITTLE_ENDIAN, "The result is not in Implicit VR Little Endian."
    )
    data_set = Reader(written, implicit_elements, leave=(tag_of("ContourSequence"),)).item(start, len(written))
    verify_required(data_set, REQUIRED)
    expect(data_set.text("SOPClassUID") == RT_STRUCTURE_SET_STORAGE, "The result is no RT Structure Set.")
    named = meta.text("MediaStorageSOPClassUID"), meta.text("MediaStorageSOPInstanceUID")
    expect(
        named == (data_set.text("SOPClassUID"), data_set.text("SOPInstanceUID")),
        "File Meta Information names another object.",
    )
    return data_set


def _verify_set(data_set: Item, manifest: SeriesManifest) -> None:
    expect(data_set.text("Modality") == "RTSTRUCT", "Modality is not RTSTRUCT.")
    expect(data_set.text("ApprovalStatus") == "UNAPPROVED", "The result is not UNAPPROVED.")
    expect(data_set.text("StudyInstanceUID") == manifest.study_instance_uid, "The result is in another study.")
    for keyword in ("ReviewDate", "ReviewTime", "ReviewerName"):
        expect(not data_set.has(keyword), f"{keyword} does not belong to a result.")
    verify_own_uids([data_set.text(keyword) for keyword in ("SOPInstanceUID", "SeriesInstanceUID")], manifest)


def _verify_references(
    data_set: Item, manifest: SeriesManifest, segmentation_uid: str | None, predecessor_uid: str | None
) -> None:
    frame_of_reference = data_set.item("ReferencedFrameOfReferenceSequence")
    uids = {data_set.text("FrameOfReferenceUID"), frame_of_reference.text("FrameOfReferenceUID")}
    uids.update(region.text("ReferencedFrameOfReferenceUID") for region in data_set.items("StructureSetROISequence"))
    expect(uids == {manifest.frame_of_reference_uid}, "The result is in another frame of reference.")
    study = frame_of_reference.item("RTReferencedStudySequence")
    series = study.item("RTReferencedSeriesSequence")
    expect(
        study.text("ReferencedSOPInstanceUID") == manifest.study_instance_uid
        and series.text("SeriesInstanceUID") == manifest.series_instance_uid,
        "The result refers to another study or series.",
    )
    frames: dict[str, list[int]] = {plane.sop_instance_uid: [] for plane in manifest.grid.planes}
    for plane in manifest.grid.planes:
        frames[plane.sop_instance_uid] += [] if plane.frame_number is None else [plane.frame_number]
    named = [
        (one.text("ReferencedSOPInstanceUID"), sorted(one.numbers("ReferencedFrameNumber")))
        for one in series.items("ContourImageSequence")
    ]
    wanted = [(uid, sorted(numbers)) for uid, numbers in frames.items()]
    expect(sorted(named) == sorted(wanted), "The referenced images are not those of the series.")
    studies = ("ReferencedFrameOfReferenceSequence", "RTReferencedStudySequence")
    allowed: dict[tuple[str, ...], set[Reference]] = {
        studies: {(DETACHED_STUDY_MANAGEMENT, manifest.study_instance_uid)},
        (*studies, "RTReferencedSeriesSequence", "ContourImageSequence"): {
            (manifest.sop_class_uid, uid) for uid in frames
        },
        ("StructureSetROISequence", "DefinitionSourceSequence"): {
            (sop_class, segmentation_uid) for sop_class in SEGMENTATION_STORAGE if segmentation_uid is not None
        },
        ("PredecessorStructureSetSequence",): {
            (RT_STRUCTURE_SET_STORAGE, uid) for uid in (predecessor_uid,) if uid is not None
        },
    }
    for path, item in data_set.all_items():
        if item.has("ReferencedSOPInstanceUID") or item.has("ReferencedSOPClassUID"):
            reference = item.text("ReferencedSOPClassUID"), item.text("ReferencedSOPInstanceUID")
            expect(reference in allowed.get(path, ()), f"{path[-1]} refers to an object that is not of this result.")
    expect(
        predecessor_uid is None or len(data_set.items("PredecessorStructureSetSequence")) == 1,
        "The result does not name its predecessor.",
    )


def _listed(
    changes: RowChanges, definitions: Sequence[StructureDefinition], names: Sequence[RoiName] | None
) -> dict[str, _Listed]:
    """Give the structures that must be in the result by the name of their ROI."""
    found = [_Listed(definition, changes.of(definition)) for definition in definitions]
    if names is None:
        found = [one for one in found if len(one.changes)]
        return dict(zip(unique_names([one.definition.name for one in found]), found, strict=True))
    left = list(names)
    listed: dict[str, _Listed] = {}
    for one in found:
        named = bool(left) and left[0].structure == one.definition.name
        expect(named or not len(one.changes), f"{one.definition.name} has voxels and was given no name.")
        if named:
            listed[left.pop(0).name] = one
    expect(not left and len(listed) == len(names), "The names given are not those of the structures, each once.")
    return listed


def _verify_regions(data_set: Item, listed: Mapping[str, _Listed]) -> None:
    """Hold what is said of each ROI against its structure."""
    regions = data_set.items("StructureSetROISequence")
    names = [region.text("ROIName") for region in regions]
    expect(
        Counter(names) == Counter(listed.keys()),
        "The ROIs are not those of the structures that are to be in the result.",
    )
    # Planning systems take names for the same that differ in case alone.
    expect(len({name.lower() for name in names}) == len(names), "Two ROIs have one name, but for upper and lower case.")
    numbers = [region.number("ROINumber") for region in regions]
    contoured = [item.number("ReferencedROINumber") for item in data_set.items("ROIContourSequence")]
    observations = {item.number("ReferencedROINumber"): item for item in data_set.items("RTROIObservationsSequence")}
    observed = [item.number("ObservationNumber") for item in data_set.items("RTROIObservationsSequence")]
    expect(
        len(set(numbers)) == len(numbers) == len(observed) == len(set(observed))
        and sorted(numbers) == sorted(contoured) == sorted(observations),
        "Regions, contours and observations do not go together.",
    )
    colours = {item.number("ReferencedROINumber"): item for item in data_set.items("ROIContourSequence")}
    for name, number, region in zip(names, numbers, regions, strict=True):
        definition = listed[name].definition
        _verify_side(name, observations[number], definition)
        expect(region.text("ROIGenerationAlgorithm") == "AUTOMATIC", f"{name} is not said to be AUTOMATIC.")
        colour = tuple(colours[number].numbers("ROIDisplayColor"))
        expect(colour == definition.colour_rgb, f"{name} has another colour than its structure.")
        _verify_observation(name, observations[number], definition)


def _verify_side(name: str, observation: Item, definition: StructureDefinition) -> None:
    """Raise VerificationError if names or code of a structure mean different sides, whoever is right."""
    kind = observation.item("RTROIIdentificationCodeSequence")
    _, _, *modifiers = codes_of(observation.item("SegmentedPropertyCategoryCodeSequence"), kind)
    coded = {SIDE_OF_CODE.get(value, "") for value, _, _ in modifiers}
    named = {_side(name), _side(definition.name)} - {""}
    expect(len(named) < 2, f"{name} is the name of the other side's structure.")
    expect(len(named | coded - {""}) < 2, f"{name} carries the code of the other side.")


def _verify_observation(name: str, observation: Item, definition: StructureDefinition) -> None:
    expect(
        observation.text("RTROIInterpretedType") == definition.interpreted_type,
        f"{name} has another interpreted type than its structure.",
    )
    said = codes_of(
        observation.item("SegmentedPropertyCategoryCodeSequence"), observation.item("RTROIIdentificationCodeSequence")
    )
    expect(said == codes_meant(definition), f"{name} has another code than its structure.")


def _verify_words(data_set: Item, listed: Mapping[str, _Listed], grid: Grid) -> None:
    """Hold what people read of each ROI besides its name against its structure: label, description, volume."""
    observations = {item.number("ReferencedROINumber"): item for item in data_set.items("RTROIObservationsSequence")}
    for region in data_set.items("StructureSetROISequence"):
        name, observation = region.text("ROIName"), observations[region.number("ROINumber")]
        one = listed[name]
        label = observation.text("ROIObservationLabel") if observation.has("ROIObservationLabel") else ""
        expect(label in ("", fitted(name, SH)), f"{name} has the observation label of something else.")
        # Of a ROI with another name than its structure it tells that of the structure.
        description = region.text("ROIDescription") if region.has("ROIDescription") else ""
        told = not description or description.startswith(f"{plain(one.definition.name)}:")
        expect(told, f"{name} has the description of something else.")
        volume_cm3 = held(one.changes) * grid.voxel_volume_mm3 / 1000
        said_cm3 = region.decimals("ROIVolume") if region.has("ROIVolume") else [volume_cm3]
        expect(np.allclose(said_cm3, [volume_cm3], rtol=1e-5, atol=0), f"{name} has another volume than its voxels.")


def _verify_segments(
    data_set: Item,
    listed: Mapping[str, _Listed],
    segment_numbers: Mapping[str, int] | None,
    segmentation_class_uid: str | None,
) -> None:
    """Hold the segment that each ROI names (Definition Source Sequence) against that of its structure."""
    classes = {segmentation_class_uid} - {None}
    for region in data_set.items("StructureSetROISequence"):
        name = region.text("ROIName")
        sources = region.items("DefinitionSourceSequence")
        classes.update(source.text("ReferencedSOPClassUID") for source in sources)
        named = [source.number("ReferencedSegmentNumber") for source in sources]
        if segment_numbers is None:
            expect(len(named) < 2, f"{name} names several segments.")
            continue
        number = segment_numbers.get(listed[name].definition.name)
        expect(named == ([] if number is None else [number]), f"{name} does not name its own segment.")
    expect(len(classes) < 2, "ROIs name a Segmentation of another class.")


def _side(name: str) -> str:
    """Give the side that a name means; empty where it names none or both."""
    sides = {SIDE_OF_WORD.get(word, "") for word in re.split(r"[^a-z0-9]+", name.lower())} - {""}
    return sides.pop() if len(sides) == 1 else ""


def _verify_contours(written: bytes, data_set: Item, listed: Mapping[str, _Listed], manifest: SeriesManifest) -> None:
    names = {region.number("ROINumber"): region.text("ROIName") for region in data_set.items("StructureSetROISequence")}
    images = _Images(manifest)
    for item in data_set.items("ROIContourSequence"):
        name = names[item.number("ReferencedROINumber")]
        bounds = item.left.get(tag_of("ContourSequence"))
        contours = read_contours(written, *bounds, images.plane_of, name) if bounds else None
        _verify_content(name, contours, listed[name].changes, images)


def _verify_content(name: str, contours: WrittenContours | None, wanted: Places, images: "_Images") -> None:
    """Raise VerificationError unless the filling changes an odd number of times where it is to, and nowhere else."""
    crossed = images.crossings(contours, name) if contours is not None else NO_CROSSING
    changes = odd(crossed.places)
    if not np.array_equal(changes, wanted):
        differ = odd(np.concatenate([changes, wanted]))
        raise VerificationError(f"{name} differs from the label map in {held(differ)} of {held(wanted)} voxels.")
    if contours is not None:
        _verify_each(name, contours, crossed, wanted)


def _verify_each(name: str, contours: WrittenContours, crossed: "_Crossings", wanted: Places) -> None:
    """Raise VerificationError if a contour holds no pixel, or contours overlap otherwise than their type says."""
    of_each = np.sort(crossed.places_of_each)
    pixels = np.bincount(
        of_each[::2] // crossed.size, weights=of_each[1::2] - of_each[::2], minlength=len(contours.counts)
    )
    expect(pixels.min() > 0, f"{name} has a contour that holds no pixel.")
    overlap = pixels.sum() != held(wanted)
    if contours.geometric_type == "CLOSED_PLANAR":
        expect(not overlap, f"{name} has contours that overlap without excluding.")
        return
    expect(overlap, f"{name} has contours that are to exclude, of which none does.")
    # Every border is that of one contour: where two change the filling at one place, neither shows.
    expect(len(odd(of_each)) == len(wanted), f"{name} has contours that cancel each other.")


@dataclass(frozen=True, slots=True)
class _Crossings:
    """Where contours cross the rows of pixels."""

    # On the planes, and as if each contour had a plane of its own.
    places: Places
    places_of_each: Places
    # Places of a plane.
    size: int


NO_CROSSING = _Crossings(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp), 1)


class _Images:
    """The images of the manifest, as contours refer to them."""

    def __init__(self, manifest: SeriesManifest) -> None:
        planes = manifest.grid.planes
        self._grid: Grid = manifest.grid
        self._sop_class_uid = manifest.sop_class_uid
        self._images = Images(manifest.grid)
        self._known: dict[bytes, int] = {}
        self._positions = np.array([plane.position_lps_mm for plane in planes])
        # From millimetres away from the first pixel to (row, column), least squares: rounded direction cosines are not
        # quite orthogonal. PS3.3 C.7.6.2.1.1 the other way round.
        steps = [
            (
                np.multiply(plane.orientation[3:], plane.pixel_spacing_mm[0]),
                np.multiply(plane.orientation[:3], plane.pixel_spacing_mm[1]),
            )
            for plane in planes
        ]
        normals = np.cross([plane.orientation[:3] for plane in planes], [plane.orientation[3:] for plane in planes])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        # What row, column and millimetres off the plane grow by along x, y, z: shape (3, 3, planes).
        ways = np.concatenate([np.linalg.pinv(np.array(steps)), normals[:, :, np.newaxis]], axis=2).transpose(2, 1, 0)
        self._ways = ways[:, :, :1] if (ways == ways[:, :, :1]).all() else ways

    def plane_of(self, image_sequence: bytes) -> int:
        """Give which plane a Contour Image Sequence means; contours of a plane have the same."""
        index = self._known.get(image_sequence)
        if index is None:
            index = self._known[image_sequence] = self._read(image_sequence)
        return index

    def _read(self, image_sequence: bytes) -> int:
        bounds = items(image_sequence, 0, len(image_sequence))
        expect(len(bounds) == 1, "A contour names several images.")
        reference = Reader(image_sequence, implicit_elements).item(*bounds[0])
        frames: list[int | None] = [*reference.numbers("ReferencedFrameNumber")] or [None]
        expect(
            reference.text("ReferencedSOPClassUID") == self._sop_class_uid and len(frames) == 1,
            "A contour names an image of another class, or several frames.",
        )
        return self._images.index_of(reference.text("ReferencedSOPInstanceUID"), frames[0], "A contour")

    def crossings(self, contours: WrittenContours, name: str) -> _Crossings:
        """Give where contours cross the rows of pixels of their images.

        Raises
        ------
        VerificationError
            A point is off its plane or outside the image.
        """
        crossed = crossings(self._pixels(contours, name), contours.counts)
        _, rows, columns = self._grid.shape
        on_plane = crossed.row * (columns + 1) + crossed.column
        size = rows * (columns + 1)
        return _Crossings(contours.planes[crossed.polygon] * size + on_plane, crossed.polygon * size + on_plane, size)

    def _pixels(self, contours: WrittenContours, name: str) -> Points:
        """Give (row, column) of the points."""
        plane_of_point = np.repeat(contours.planes, contours.counts)
        x, y, z = (contours.points_lps_mm - self._positions[plane_of_point]).T
        ways = self._ways if self._ways.shape[2] == 1 else self._ways[:, :, plane_of_point]
        # Not as a product of matrices: that may round equal points differently, and the two sides of a keyhole's
        # channel must cross the same pixels.
        row, column, off_plane_mm = (x * along[0] + y * along[1] + z * along[2] for along in ways)
        farthest_mm = np.abs(off_plane_mm).max()
        expect(farthest_mm <= OFF_PLANE_MM, f"{name} has a contour {farthest_mm:.3f} mm off the image that it names.")
        # A single voxel on the border keeps its area by reaching 0.71 pixels beyond its centre. What lies a whole pixel
        # beyond the outermost centres would hold pixels that there are not.
        _, rows, columns = self._grid.shape
        inside = row.min() > -1 and row.max() < rows and column.min() > -1 and column.max() < columns
        expect(bool(inside), f"{name} has a point outside the image that it names.")
        return np.stack([row, column], axis=1)
