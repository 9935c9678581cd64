"""What is dropped into the hot folder comes out in the results folder, whatever is killed meanwhile."""

import time
import zipfile
from pathlib import Path
from typing import Any

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


def drop_in(archives: list[Path], node: RunningNode) -> None:
    for archive in archives:
        archive.rename(node.hot_folder / archive.name)


def of_kind(kind: str, node: RunningNode) -> list[Path]:
    return sorted(node.results.glob(f"{kind}.*.dcm"))


def is_all_delivered(status: dict[str, Any], instances: int) -> bool:
    deliveries = [delivery["state"] for delivery in status["deliveries"]]
    done = [job for job in status["jobs"] if job["state"] != "superseded"]
    return [(series["state"], series["instances"]) for series in status["series"]] == [
        ("complete", instances)
    ] and deliveries.count("delivered") == len(deliveries) == len(done)


@pytest.mark.parametrize("whole_node", [False, True])
def test_what_is_killed_while_it_takes_a_drop_loses_and_doubles_nothing(tmp_path: Path, whole_node: bool) -> None:
    files = save_series(phantom("killed-drop", slices=60), tmp_path / "ct")
    node = node_with_folders(tmp_path)
    inbox = tmp_path / "var/inbox"
    with node:
        drop_in([zipped(files, tmp_path / "ct.zip")], node)
        until = time.monotonic() + 60
        while len(list(inbox.rglob("*.dcm"))) < 5:
            assert time.monotonic() < until, node.log
            time.sleep(0.001)
        if whole_node:
            node.kill()
        else:
            node.kill_role("collector")
        kept = len(list(inbox.rglob("*.dcm")))
        assert lying_in(node.hot_folder)

        if whole_node:
            node.start()
        # What came before the kill may have been contoured by itself: it was no 60 slices.
        status = node.wait_until(lambda status: is_all_delivered(status, instances=60))

        wait_until_empty(node.hot_folder, node)
    # The kill came in the middle, or nothing was tried here.
    assert 5 <= kept < 60
    assert len(list(inbox.rglob("*.dcm"))) == 60
    # A job that the whole series superseded before it was delivered leaves no objects.
    assert len(of_kind("RTSTRUCT", node)) == len(of_kind("SEG", node)) == len(status["deliveries"])
    assert lying_in(node.hot_folder) == []


def test_files_folders_and_bad_files_dropped_in_any_order_come_to_one_result(tmp_path: Path) -> None:
    files = save_series(phantom("any-order"), tmp_path / "ct")
    with node_with_folders(tmp_path) as node:
        for path in reversed(files[20:]):
            path.rename(node.hot_folder / path.name)
        (node.hot_folder / "Doe^Jane.txt").write_text("a note", encoding="utf-8")
        (tmp_path / "ct").rename(node.hot_folder / "ct")

        status = node.wait_until_delivered()

        until = time.monotonic() + 30
        while [name for name in lying_in(node.hot_folder) if not name.startswith("rejected/")]:
            assert time.monotonic() < until, node.log
            time.sleep(0.1)
    assert status["series"][0]["instances"] == 30
    assert len(status["jobs"]) == 1
    assert lying_in(node.hot_folder) == ["rejected/Doe^Jane.txt", "rejected/Doe^Jane.txt.reason.txt"]
    assert [event["text"] for event in status["events"] if event["kind"] == "hot folder"] == [
        "rejected: not a DICOM file"
    ]
    assert "Doe" not in node.log


def test_a_results_folder_that_is_gone_is_waited_for_and_told(tmp_path: Path) -> None:
    files = save_series(phantom("no-shelf"), tmp_path / "ct")
    with node_with_folders(tmp_path) as node:
        node.results.rmdir()
        drop_in([zipped(files, tmp_path / "ct.zip")], node)
        status = node.wait_until(lambda status: status["deliveries"] and status["deliveries"][0]["attempt"] > 1)
        assert "is not there" in status["deliveries"][0]["reason"]

        node.results.mkdir()
        status = node.wait_until_delivered()

    (delivery,) = status["deliveries"]
    assert [receipt["outcome"] for receipt in delivery["receipts"]] == ["stored", "stored"]
    assert len(of_kind("RTSTRUCT", node)) == len(of_kind("SEG", node)) == 1


def test_check_tries_the_hot_folder_and_the_results_folder(tmp_path: Path) -> None:
    node = node_with_folders(tmp_path)

    there = run_delineate("check", "--config", str(node.config_path))
    node.hot_folder.rmdir()
    node.results.rmdir()
    gone = run_delineate("check", "--config", str(node.config_path))

    assert f"ok   hot folder: {node.hot_folder} can be emptied" in there.stdout
    assert f"ok   destination shelf: {node.results} can be written to" in there.stdout
    assert gone.returncode == 1
    assert f"FAIL hot folder: {node.hot_folder} cannot be used: No such file or directory." in gone.stdout
    assert f"FAIL destination shelf: {node.results} cannot be used: No such file or directory." in gone.stdout


def test_a_node_whose_hot_folder_is_not_mounted_receives_all_the_same_and_says_so(tmp_path: Path) -> None:
    files = save_series(phantom("unmounted"), tmp_path / "ct")
    node = node_with_folders(tmp_path)
    node.hot_folder.rmdir()
    with node:
        status = node.wait_until(lambda status: status["events"])
        assert "it cannot be used (No such file or directory)" in status["events"][0]["text"]

        node.hot_folder.mkdir()
        drop_in([zipped(files, tmp_path / "ct.zip")], node)

        node.wait_until_delivered()
