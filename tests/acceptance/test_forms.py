"""Two destinations of one route, each with a form of its own: DCMTK sends, two of its receivers take the results.

The model's structures share no voxel, so a label map can hold them. One receiver takes any class; the other, as DCMTK
comes, knows no Label Map Segmentation.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from node.demo.phantom import Scan, write_planning_ct
from node.resources import shipped
from tests.acceptance.running import RunningNode, run_delineate
from tests.acceptance.test_peers import errors_in, require, send_by_dcmtk
from tests.fakes import LABEL_MAP_SEGMENTATION, RT_STRUCTURE_SET, SEGMENTATION, free_port

pytestmark = pytest.mark.peers

_STRUCTURES = """
[[structures]]
name = "Body"
label_values = [1]
colour_rgb = [0, 200, 0]
category = { value = "85756007", scheme = "SCT", meaning = "Tissue" }
type = { value = "87784001", scheme = "SCT", meaning = "Soft tissue" }
interpreted_type = "ORGAN"

[[structures]]
name = "Bone+Marrow"
label_values = [2, 3, 4, 5]
colour_rgb = [241, 214, 145]
category = { value = "85756007", scheme = "SCT", meaning = "Tissue" }
type = { value = "3138006", scheme = "SCT", meaning = "Bone" }
interpreted_type = "ORGAN"

[[structures]]
name = "Implant"
label_values = [9]
colour_rgb = [9, 9, 9]
category = { value = "85756007", scheme = "SCT", meaning = "Tissue" }
type = { value = "3138006", scheme = "SCT", meaning = "Bone" }
interpreted_type = "ORGAN"

# No voxel is so small: nothing becomes 9.
[[post]]
rule = "drop_small"
labels = [2, 3, 4]
at_least_cm3 = 0.001
becomes = 9

"""

_ARCHIVE = """
[[destinations]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {port}
profile = "{folder}/ours.toml"
segmentation = "labelmap"
"""

_OURS = """
title = "An archive that takes everything"
mark_cut = false
holes = "xor"
minimum_points = 5
empty_structures = "list"
"""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What one receiver got."""

    structures: Dataset
    segments: Dataset
    paths: tuple[Path, ...]

    @property
    def roi_names(self) -> list[str]:
        """Give the names of its regions, in their order."""
        return [str(roi.ROIName) for roi in self.structures.StructureSetROISequence]

    @property
    def segmentation_of_its_regions(self) -> set[str]:
        """Give the instances that its regions were drawn around."""
        rois = self.structures.StructureSetROISequence
        sources = [source for roi in rois for source in roi.get("DefinitionSourceSequence", [])]
        return {str(source.ReferencedSOPInstanceUID) for source in sources}

    @property
    def geometric_types(self) -> set[str]:
        """Give the types of all contours."""
        regions = self.structures.ROIContourSequence
        return {str(one.ContourGeometricType) for region in regions for one in region.get("ContourSequence", [])}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one series with two destinations."""

    tps: Delivered
    archive: Delivered
    status: dict[str, Any]
    # What `delineate check` and `delineate status` print, and what the node logs.
    checked: str
    printed: str
    log: str


def install_model(models: Path) -> None:
    """Put body-bones there as "layers", whose structures share no voxel, one of them in no scan."""
    package = models / "layers"
    shutil.copytree(shipped("models") / "body-bones", package)
    manifest = package / "model.toml"
    text = manifest.read_text(encoding="utf-8").replace('name = "body-bones"', 'name = "layers"')
    structures = re.compile(r"\[\[structures\]\].*?(?=\[\[post\]\])", re.DOTALL)
    manifest.write_text(structures.sub(lambda _: _STRUCTURES, text, count=1), encoding="utf-8")


@contextmanager
def storescp(folder: Path, port: int, *options: str) -> Iterator[None]:
    folder.mkdir()
    command = ["storescp", "--output-directory", str(folder), *options, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def delivered(folder: Path) -> Delivered:
    by_class = {str(dataset.SOPClassUID): dataset for dataset in map(dcmread, folder.iterdir())}
    assert len(by_class) == len(list(folder.iterdir())) == 2
    structures = by_class.pop(RT_STRUCTURE_SET)
    (segments,) = by_class.values()
    return Delivered(structures=structures, segments=segments, paths=tuple(folder.iterdir()))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    for program in ("storescu", "storescp"):
        require(program)
    folder = tmp_path_factory.mktemp("forms")
    install_model(folder / "models")
    (folder / "ours.toml").write_text(_OURS, encoding="utf-8")
    files = write_planning_ct(folder / "ct", Scan(slices=16, rows=112, columns=128, pixel_spacing_mm=(3.2, 3.5))).files
    tps, archive = free_port(), free_port()
    more = _ARCHIVE.format(port=archive, folder=folder)
    node = RunningNode(folder, destination_port=tps, model="layers", more=more)
    text = node.config_path.read_text(encoding="utf-8")
    text = text.replace('device = "cpu"', f'device = "cpu"\nmodel_dirs = ["{folder}/models"]')
    text = text.replace(f"port = {tps}\n", f'port = {tps}\nprofile = "strict16"\nsegmentation = "labelmap"\n')
    node.config_path.write_text(text.replace('["tps"]', '["tps", "archive"]'), encoding="utf-8")
    with ExitStack() as peers:
        peers.enter_context(storescp(folder / "tps", tps))
        peers.enter_context(storescp(folder / "archive", archive, "--promiscuous"))
        checked = run_delineate("check", "--config", str(node.config_path)).stdout
        with node:
            send_by_dcmtk(node, list(files))
            status = node.wait_until_delivered(2, within_s=120)
        printed = run_delineate("status", "--config", str(node.config_path)).stdout
    return Outcome(
        tps=delivered(folder / "tps"),
        archive=delivered(folder / "archive"),
        status=status,
        checked=checked,
        printed=printed,
        log=node.log,
    )


def test_each_receiver_gets_the_segmentation_that_it_takes(outcome: Outcome) -> None:
    assert outcome.archive.segments.SOPClassUID == LABEL_MAP_SEGMENTATION
    assert outcome.tps.segments.SOPClassUID == SEGMENTATION
    assert outcome.tps.segments.SegmentationType == "BINARY"


def test_each_structure_set_names_the_segmentation_that_came_with_it(outcome: Outcome) -> None:
    for one in (outcome.tps, outcome.archive):
        assert one.segmentation_of_its_regions == {str(one.segments.SOPInstanceUID)}


def test_both_hold_the_same_voxels(outcome: Outcome) -> None:
    labels = outcome.archive.segments
    of_label = {
        number: sum(int((frame == number).sum()) for frame in labels.pixel_array)
        for number in (int(one.SegmentNumber) for one in labels.SegmentSequence)
        if number
    }
    of_segment = dict.fromkeys(of_label, 0)
    frames = outcome.tps.segments.PerFrameFunctionalGroupsSequence
    for group, frame in zip(frames, outcome.tps.segments.pixel_array, strict=True):
        of_segment[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)] += int(frame.sum())

    assert of_segment == of_label
    assert min(of_label.values()) > 100


def test_names_holes_and_structures_without_a_voxel_go_as_each_profile_has_them(outcome: Outcome) -> None:
    assert outcome.tps.roi_names == ["Body~", "Bone_Marrow~"]
    assert outcome.archive.roi_names == ["Body", "Bone+Marrow", "Implant"]
    assert outcome.tps.geometric_types == {"CLOSED_PLANAR"}
    assert "CLOSEDPLANAR_XOR" in outcome.archive.geometric_types


def test_status_says_what_was_not_taken_and_what_was_sent_instead(outcome: Outcome) -> None:
    said = {row["destination"]: row["reason"] for row in outcome.status["deliveries"]}

    assert said == {"tps": "it takes no labelmap Segmentation, binary was sent", "archive": ""}
    tps = "to tps: delivered; it takes no labelmap Segmentation, binary was sent; "
    assert f"{tps}RTSTRUCT (strict16) stored (0x0000); SEG (binary) stored (0x0000)" in outcome.printed
    archive = "to archive: delivered; RTSTRUCT (ours) stored (0x0000); SEG (labelmap) stored (0x0000)"
    assert archive in outcome.printed


def test_every_rename_and_omission_is_told_with_its_reason(outcome: Outcome) -> None:
    reason = "the receiver's names lack some of its characters; the end of the scan cuts it"
    description = str(outcome.tps.structures.StructureSetDescription)

    assert f"Bone+Marrow is called Bone_Marrow~ for strict16: {reason}" in outcome.printed
    assert "no Implant: " in outcome.printed
    assert re.search(rf"renamed .*name=Bone_Marrow~ profile=strict16 reason=['\"]{re.escape(reason)}", outcome.log)
    assert re.search(r"omitted .*name=Implant", outcome.log)
    assert f"Bone+Marrow to Bone_Marrow~ ({reason})" in description
    assert "Omitted: Implant" in description
    assert str(outcome.tps.structures.StructureSetROISequence[1].ROIDescription) == f"Bone+Marrow: {reason}"
    assert "Renamed" not in str(outcome.archive.structures.StructureSetDescription)


def test_check_names_the_profiles(outcome: Outcome) -> None:
    assert "ours.toml: An archive that takes everything" in outcome.checked
    assert "profile strict16: " in outcome.checked


def test_dciodvfy_finds_no_error_in_what_the_planning_system_got(outcome: Outcome) -> None:
    require("dciodvfy")

    for path in outcome.tps.paths:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert errors_in(done.stderr + done.stdout) == []
