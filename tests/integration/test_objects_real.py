"""Results on real series, with real anatomy where somebody's contours or masks came along."""

import gzip
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.dicom.rtstruct import rtstruct
from node.dicom.segmentation import segmentation
from node.dicom.verify_rtstruct import verify_rtstruct
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.contours import build_structures, rasterise
from node.domain.grid import Grid
from node.domain.structures import Contour, StructureDefinition
from node.domain.volume import LabelMap
from tests.builders import ball_and_box, definition, manifest_of, provenance, save_series, written
from tests.nifti import read_nifti
from tests.peer_readers import Mask, dcmrtstruct2nii, plastimatch, read_mha
from tests.real_data import unpacked

pytestmark = [pytest.mark.real_data, pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*")]

NeedsProgram = Callable[..., None]

DEFINITIONS = [definition("Body", 1, 2, 3, interpreted_type="EXTERNAL"), definition("Rind", 1), definition("Box", 3)]


def largest_ct(folder: Path) -> list[Dataset]:
    """Read the headers and pixels of the CT series with the most images."""
    series: dict[str, list[Dataset]] = defaultdict(list)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            dataset = dcmread(path)
        except InvalidDicomError:
            continue
        if dataset.get("Modality") == "CT" and "ImagePositionPatient" in dataset:
            series[dataset.SeriesInstanceUID].append(dataset)
    return max(series.values(), key=len)


def errors_of_dciodvfy(path: Path) -> list[str]:
    result = subprocess.run(["dciodvfy", path], capture_output=True, timeout=120, check=False)
    said = (result.stdout + result.stderr).decode("utf-8", "replace")
    return [line for line in said.splitlines() if line.startswith("Error")]


# The first holds UUIDs for dates and sex, the second comes from a tilted gantry.
@pytest.mark.peers
@pytest.mark.parametrize("archive", ["onkodicom-thorax-rt", "gantry-tilt-philips"])
def test_results_on_headers_from_the_field_are_clean(archive: str, tmp_path: Path, needs_program: NeedsProgram) -> None:
    needs_program("dciodvfy")
    source = largest_ct(unpacked(archive))
    manifest = manifest_of(source)
    label_map = ball_and_box(manifest.grid)

    structure_set = build_structures(label_map, DEFINITIONS)
    objects = {
        "rtstruct": written(rtstruct(structure_set, manifest, source, provenance())),
        "seg": written(segmentation(label_map, DEFINITIONS, manifest, source, provenance())),
    }

    verify_rtstruct(objects["rtstruct"], label_map, DEFINITIONS, manifest)
    verify_segmentation(objects["seg"], label_map, DEFINITIONS, manifest)
    for name, content in objects.items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(content)
        assert errors_of_dciodvfy(path) == []
        assert dcmread(path).PatientName == source[0].PatientName


def test_real_organs_go_through_contours_and_back_without_loss() -> None:
    folder = unpacked("onkodicom-thorax-rt")
    source = largest_ct(folder)
    manifest = manifest_of(source)
    label_map, definitions = drawn_by_a_person(folder, LabelMap(labels=empty(manifest.grid.shape), grid=manifest.grid))

    structure_set = build_structures(label_map, definitions)
    result = written(rtstruct(structure_set, manifest, source, provenance()))

    assert len(structure_set.structures) >= 3
    verify_rtstruct(result, label_map, definitions, manifest)


@pytest.mark.peers
def test_the_18_masks_of_a_thorax_go_through_writer_and_readers_without_loss(
    tmp_path: Path, needs_program: NeedsProgram, readers: Path
) -> None:
    needs_program("plastimatch")
    folder = unpacked("onkodicom-thorax-rt")
    source = largest_ct(folder)
    manifest = manifest_of(source)
    masks = {named(path): read_nrrd(path) for path in sorted(folder.rglob("*.nrrd"))}
    label_map, definitions = overlapping(masks, onto=manifest.grid)
    save_series(source, tmp_path / "ct")
    path = tmp_path / "rtstruct.dcm"

    path.write_bytes(written(rtstruct(build_structures(label_map, definitions), manifest, source, provenance())))
    segments = written(segmentation(label_map, definitions, manifest, source, provenance()))

    assert len(masks) == 18
    verify_rtstruct(path.read_bytes(), label_map, definitions, manifest)
    verify_segmentation(segments, label_map, definitions, manifest)
    for name, reader in {"plastimatch": plastimatch, "dcmrtstruct2nii": dcmrtstruct2nii(readers)}.items():
        (tmp_path / name).mkdir()
        found = reader(path, tmp_path / "ct", tmp_path / name)
        changed = {one: np.count_nonzero((read_mha(found[one])[0] > 0) != mask) for one, mask in masks.items()}
        assert changed == dict.fromkeys(masks, 0), name


def test_the_104_masks_of_a_chest_go_through_the_writers_without_loss() -> None:
    source, labels, definitions = chest()
    # One slice is missing, so the node declines the series; what is drawn on the others must be right all the same.
    manifest = manifest_of(source)
    label_map = LabelMap(labels=labels, grid=manifest.grid)

    structure_set = build_structures(label_map, definitions)
    drawn = [structure.definition for structure in structure_set.structures]
    contours = written(rtstruct(structure_set, manifest, source, provenance()))
    segments = written(segmentation(label_map, drawn, manifest, source, provenance()))

    assert (len(drawn), len(structure_set.omitted)) == (34, 70)
    verify_rtstruct(contours, label_map, definitions, manifest)
    verify_segmentation(segments, label_map, definitions, manifest)


@pytest.mark.peers
@pytest.mark.timeout(900)
def test_readers_find_every_voxel_of_the_masks_of_a_chest(
    tmp_path: Path, needs_program: NeedsProgram, readers: Path
) -> None:
    needs_program("plastimatch")
    source, labels, definitions = chest()
    # The slice that is missing lies above the lowest: readers know regular stacks alone, so that one stays behind.
    source, labels = sorted(source, key=lambda one: float(one.ImagePositionPatient[2]))[1:], labels[1:]
    manifest = manifest_of(source)
    label_map = LabelMap(labels=labels, grid=manifest.grid)
    present = {one.name: labels == one.label_values[0] for one in definitions if (labels == one.label_values[0]).any()}
    save_series(source, tmp_path / "ct")
    path = tmp_path / "rtstruct.dcm"

    path.write_bytes(written(rtstruct(build_structures(label_map, definitions), manifest, source, provenance())))

    assert len(present) == 34
    for name, reader in {"plastimatch": plastimatch, "dcmrtstruct2nii": dcmrtstruct2nii(readers)}.items():
        (tmp_path / name).mkdir()
        found = reader(path, tmp_path / "ct", tmp_path / name)
        changed = {one: np.count_nonzero((read_mha(found[one])[0] > 0) != mask) for one, mask in present.items()}
        assert changed == dict.fromkeys(present, 0), name


def chest() -> tuple[list[Dataset], NDArray[np.uint8], list[StructureDefinition]]:
    """Give the images of a chest, its labels and their names, those without a voxel too."""
    folder = unpacked("gstt-aide-ct-rtstruct")
    source = largest_ct(folder)
    labels = np.zeros(manifest_of(source).grid.shape, dtype=np.uint8)
    definitions = []
    for value, path in enumerate(sorted(folder.rglob("nii_seg/*.nii.gz")), start=1):
        mask = read_nifti(path)[0] > 0
        assert not labels[mask].any()
        labels[mask] = value
        # The builder's are all left; the check takes offence at a right one.
        definitions.append(replace(definition(named(path), value), modifier=None))
    assert len(definitions) == 104
    return source, labels, definitions


def named(path: Path) -> str:
    """Give a name that no reader changes when it makes a file name of it."""
    return re.sub(r"\W", "_", path.name.partition(".nii")[0].removesuffix(".nrrd"))


def read_nrrd(path: Path) -> Mask:
    """Read a mask of bytes, ``[slice, row, column]``; the header names the sizes of column, row and slice."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode("ascii").splitlines() if ": " in line)
    assert (fields["type"], fields["encoding"]) == ("unsigned char", "gzip")
    shape = [int(size) for size in fields["sizes"].split()][::-1]
    return np.frombuffer(gzip.decompress(body), dtype=np.uint8).reshape(shape) > 0


def overlapping(masks: Mapping[str, Mask], *, onto: Grid) -> tuple[LabelMap, list[StructureDefinition]]:
    """Give each combination of masks that occurs a label value, and each mask those of the combinations it is in."""
    combination: NDArray[np.uint32] = np.zeros(onto.shape, dtype=np.uint32)
    for bit, mask in enumerate(masks.values()):
        combination |= mask.astype(np.uint32) << bit
    occurring = np.flatnonzero(np.bincount(combination.ravel()))
    value_of = np.zeros(occurring[-1] + 1, dtype=np.uint8)
    value_of[occurring] = np.arange(len(occurring))
    definitions = [
        definition(name, *(value for value, one in enumerate(occurring.tolist()) if one >> bit & 1))
        for bit, name in enumerate(masks)
    ]
    return LabelMap(labels=value_of[combination], grid=onto), definitions


def empty(shape: tuple[int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.zeros(shape, dtype=np.uint8)


def drawn_by_a_person(folder: Path, onto: LabelMap) -> tuple[LabelMap, list[StructureDefinition]]:
    """Fill the contours of the RT Structure Set in the folder, each ROI as one label value; later ROIs lie on top."""
    plans = (dcmread(path) for path in folder.rglob("*") if path.suffix == ".dcm")
    drawn = next(plan for plan in plans if plan.Modality == "RTSTRUCT")
    slices = {plane.sop_instance_uid: index for index, plane in enumerate(onto.grid.planes)}
    labels = onto.labels.copy()
    definitions = []
    for value, region in enumerate(drawn.ROIContourSequence, start=1):
        contours = [
            Contour(
                slice_index=slices[item.ContourImageSequence[0].ReferencedSOPInstanceUID],
                points_lps_mm=np.array(item.ContourData, dtype=np.float64).reshape(-1, 3),
            )
            for item in region.get("ContourSequence", [])
            if "ContourImageSequence" in item
        ]
        labels[rasterise(contours, onto.grid)] = value
        definitions.append(definition(f"ROI {value}", value))
    return LabelMap(labels=labels, grid=onto.grid), definitions
