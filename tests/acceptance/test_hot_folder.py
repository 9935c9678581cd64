"""What is dropped into the hot folder comes out in the results folder, whatever is killed meanwhile."""

import time
import zipfile
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.acceptance.running import RunningNode, run_delineate
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import free_port
from tests.real_data import unpacked


def node_with_folders(tmp_path: Path) -> RunningNode:
    node = RunningNode(tmp_path, destination_port=free_port())
    node.use_folders()
    return node


def zipped(files: list[Path], archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in files:
            opened.write(path, f"Doe^Jane/{path.name}")
    return archive


def lying_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def wait_until_empty(folder: Path, node: RunningNode) -> None:
    until = time.monotonic() + 60
    while lying_in(folder):
        assert time.monotonic() < until, node.log
        time.sleep(0.1)


@pytest.mark.real_data
def test_a_zip_with_a_planning_ct_becomes_contours_in_the_results_folder(tmp_path: Path) -> None:
    paths = sorted(unpacked("onkodicom-thorax-rt").rglob("*.dcm"))
    images = [path for path in paths if dcmread(path, stop_before_pixels=True).Modality == "CT"]
    archive = zipped(images, tmp_path / "Doe^Jane.zip")
    with node_with_folders(tmp_path) as node:
        archive.rename(node.hot_folder / archive.name)

        status = node.wait_until_delivered()

        wait_until_empty(node.hot_folder, node)
    (series,) = status["series"]
    assert (series["state"], series["instances"], series["calling_ae_titles"]) == ("complete", 105, ["HOT_FOLDER"])
    assert "every association that sent to it was released" in series["evidence"]
    results = {path.name.split(".")[0]: dcmread(path) for path in node.results.iterdir()}
    assert {kind: dataset.Modality for kind, dataset in results.items()} == {"RTSTRUCT": "RTSTRUCT", "SEG": "SEG"}
    assert "Doe" not in node.log
