"""Bad input, each with a clear reason in ``status`` and in the log, and nothing lost."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from node.adapters.storage_scu import store
from tests.acceptance.running import RunningNode, run, run_delineate
from tests.acceptance.test_kill import phantom
from tests.acceptance.test_peers import require
from tests.builders import save_series
from tests.fakes import FakeDestination, free_port
from tests.real_data import unpacked


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """Give one node for all: each test sends a series of its own, and the others stay unharmed."""
    running = RunningNode(tmp_path_factory.mktemp("bad-input"), destination_port=free_port())
    running.start()
    yield running
    running.stop()


def declined_reason(node: RunningNode, series_uid: str, instances: int) -> str:
    """Send nothing more and wait for the verdict; the images must all be in the inbox."""

    def declined(status: dict[str, Any]) -> bool:
        rows = [row for row in status["series"] if row["series_uid"] == series_uid]
        return bool(rows) and rows[0]["state"] == "declined"

    status = node.wait_until(declined)
    row = next(row for row in status["series"] if row["series_uid"] == series_uid)
    assert row["reason"] in node.log.replace("\\'", "'"), node.log
    assert len(list((node.folder / "var/inbox" / series_uid).glob("*.dcm"))) == instances
    reason: str = row["reason"]
    return reason


def series_in(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".txt", ".csv", ".gz"):
            try:
                dataset = dcmread(path, stop_before_pixels=True)
            except Exception:
                continue
            if dataset.get("SeriesInstanceUID"):
                found.setdefault(str(dataset.SeriesInstanceUID), []).append(path)
    return found


@pytest.mark.real_data
def test_a_scout_alone(node: RunningNode) -> None:
    folder = next(unpacked("gantry-tilt-philips").rglob("philips-scout"))
    ((series_uid, paths),) = series_in(folder).items()

    store(node.address, paths, calling_ae_title="CT1")

    assert "localizer" in declined_reason(node, series_uid, 1)


@pytest.mark.real_data
def test_two_slices(node: RunningNode) -> None:
    series_uid, paths = next(iter(series_in(unpacked("pelvis-ct-fragments")).items()))

    store(node.address, paths, calling_ae_title="CT1")

    assert "only 2 image planes" in declined_reason(node, series_uid, 2)


@pytest.mark.real_data
def test_one_slice_missing(node: RunningNode) -> None:
    series = series_in(unpacked("gstt-aide-ct-rtstruct"))
    series_uid, paths = next((uid, paths) for uid, paths in series.items() if len(paths) > 1)

    store(node.address, paths, calling_ae_title="CT1")

    reason = declined_reason(node, series_uid, 20)
    assert "slice missing" in reason
    assert "1.600 mm" in reason


@pytest.mark.peers
@pytest.mark.real_data
def test_secondary_captures_in_the_study(node: RunningNode) -> None:
    require("storescu")
    folder = next(unpacked("gantry-tilt-philips").rglob("philips-exam-summary-sc"))
    ((series_uid, paths),) = series_in(folder).items()

    done = run(["storescu", "-aec", "DELINEATE", "127.0.0.1", str(node.port), *paths])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Secondary Capture" in declined_reason(node, series_uid, 5)


@pytest.mark.real_data
def test_slices_with_empty_uids_are_refused_with_the_reason_and_kept(node: RunningNode) -> None:
    paths = [path for path in unpacked("totalseg-example").rglob("CT.1.3.12*") if path.is_file()]
    assert len(paths) == 20
    before = len(list((node.folder / "var/inbox/rejected").glob("*.reason.txt")))

    receipts = store(node.address, paths, calling_ae_title="PET_CT")

    assert {receipt.status for receipt in receipts} == {0xC000}
    kept = list((node.folder / "var/inbox/rejected").glob("*.reason.txt"))
    assert len(kept) - before == 20
    assert all("UID" in path.read_text() for path in kept[-20:])
    events = [event for event in node.status()["events"] if event["subject"] == "PET_CT"]
    assert any("0xC000" in event["text"] and "UID" in event["text"] for event in events)
    assert "UID" in node.log


def test_a_truncated_file_is_refused_with_figures_and_kept(node: RunningNode, tmp_path: Path) -> None:
    (path,) = save_series(phantom("truncated", slices=1), tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])

    (receipt,) = store(node.address, [path], calling_ae_title="TRUNCATED")

    assert receipt.status == 0xC000
    assert receipt.error_comment.startswith("Data set ends inside (7FE0,0010): ")
    events = [event for event in node.status()["events"] if event["subject"] == "TRUNCATED"]
    assert len(events) == 1


def test_a_series_is_not_contoured_without_an_instance_that_was_refused(node: RunningNode, tmp_path: Path) -> None:
    files = save_series(phantom("truncated-end", slices=8), tmp_path)
    files[-1].write_bytes(files[-1].read_bytes()[:-1000])
    series_uid = str(dcmread(files[0]).SeriesInstanceUID)

    receipts = store(node.address, files, calling_ae_title="TRUNCATED_END")

    assert [receipt.status for receipt in receipts] == [0x0000] * 7 + [0xC000]
    assert "1 instance was refused" in declined_reason(node, series_uid, 7)


def test_nothing_declined_was_turned_into_a_job(node: RunningNode) -> None:
    assert node.status()["jobs"] == []


@pytest.mark.parametrize("as_json", [False, True])
def test_a_text_file_given_to_contour(tmp_path: Path, as_json: bool) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear colleague")

    done = run_delineate("contour", str(text), str(tmp_path / "out"), *(["--json"] if as_json else []))

    assert done.returncode == 1
    assert "not a DICOM file" in done.stdout
    assert "Traceback" not in done.stderr
    if as_json:
        assert json.loads(done.stdout)["unusable"] == [[str(text), "not a DICOM file"]]


def test_a_wrong_configuration_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[node]\nprot = 11112\n[[routes]]\nname = "a"\nmodels = ["x"]\ndestinations = ["tps"]\n')

    done = run_delineate("serve", "--config", str(path))

    assert done.returncode == 2
    assert "did you mean 'port'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_route_to_a_model_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    node = RunningNode(tmp_path, destination_port=free_port(), model="body-bone")

    done = run_delineate("serve", "--config", str(node.config_path))

    assert done.returncode == 2
    assert "body-bone" in done.stderr


def test_a_port_in_use_stops_the_start_and_says_what_to_do(tmp_path: Path) -> None:
    with FakeDestination() as other:
        node = RunningNode(tmp_path, destination_port=free_port())
        text = node.config_path.read_text().replace(f"port = {node.port}", f"port = {other.address.port}", 1)
        node.config_path.write_text(text)

        done = run_delineate("serve", "--config", str(node.config_path))

    assert done.returncode == 2
    assert str(other.address.port) in done.stderr
    assert "node.port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_node_on_the_same_data_is_refused(node: RunningNode) -> None:
    done = run_delineate("serve", "--config", str(node.config_path))

    assert done.returncode == 2
    assert "already running" in done.stderr


def test_a_destination_that_is_down_gets_its_results_once_it_is_up(tmp_path: Path) -> None:
    files = save_series(phantom("down"), tmp_path / "ct")
    tps = FakeDestination()
    with RunningNode(tmp_path, destination_port=tps.address.port) as node:
        store(node.address, files, calling_ae_title="CT1")
        status = node.wait_until(lambda now: now["deliveries"] and now["deliveries"][0]["attempt"] >= 3)
        assert status["deliveries"][0]["state"] == "waiting"
        assert "connection refused" in status["deliveries"][0]["reason"]
        assert "connection refused" in node.log
        with tps:
            node.wait_until_delivered()
            time.sleep(0.5)
    assert len(tps.received) == 2


def test_a_file_damaged_on_disk_declines_the_job_with_the_instance(tmp_path: Path) -> None:
    files = save_series(phantom("damaged"), tmp_path / "ct")
    node = RunningNode(tmp_path, destination_port=free_port(), settle_s=4.0)
    with node:
        store(node.address, files, calling_ae_title="CT1")
        damaged = sorted((tmp_path / "var/inbox").glob("2.25*/*.dcm"))[3]
        damaged.write_bytes(damaged.read_bytes()[:-5000])
        status = node.wait_until(
            lambda now: (
                (now["jobs"] and now["jobs"][0]["state"] in ("declined", "failed"))
                or (now["series"] and now["series"][0]["state"] == "declined")
            )
        )
    reasons = [row["reason"] for row in (*status["series"], *status["jobs"])]
    assert any("Pixel Data" in reason or "cut off" in reason for reason in reasons), reasons


def test_an_unwritable_data_folder_is_explained(tmp_path: Path) -> None:
    node = RunningNode(tmp_path, destination_port=free_port())
    (tmp_path / "var").write_text("a file where the folder should be")

    done = run_delineate("serve", "--config", str(node.config_path))

    assert done.returncode == 2
    assert "var" in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(tmp_path, ignore_errors=True)
