"""Results on real series, with real anatomy where a planning system's contours came along."""

import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.dicom.rtstruct import rtstruct
from node.dicom.segmentation import segmentation
from node.dicom.verify_rtstruct import verify_rtstruct
from node.dicom.verify_segmentation import verify_segmentation
from node.domain.contours import build_structures, rasterise
from node.domain.structures import Contour, StructureDefinition
from node.domain.volume import LabelMap
from tests.builders import ball_and_box, definition, manifest_of, provenance, written
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
