"""The command line: it teaches, it is a good citizen in scripts, and it never shows a traceback."""

import json
import shutil
from pathlib import Path

import pytest
from pydicom import dcmread

from node.adapters.storage_scu import store
from node.domain.jobs import DELIVERY_STATES, JOB_STATES, SERIES_STATES
from tests.acceptance.running import RunningNode, run_delineate
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import FakeDestination, free_port


@pytest.mark.parametrize("command", ["demo", "contour", "serve", "check", "status", "route"])
def test_every_command_teaches_by_example(command: str) -> None:
    done = run_delineate(command, "--help")

    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"delineate {command}" in done.stdout


def test_contour_writes_both_objects_and_a_second_run_makes_the_same_instances(tmp_path: Path) -> None:
    save_series(phantom("offline", slices=12), tmp_path / "ct")

    first = run_delineate("contour", str(tmp_path / "ct"), str(tmp_path / "one"), "--json")
    second = run_delineate("contour", str(tmp_path / "ct"), str(tmp_path / "two"), "--json")

    assert first.returncode == second.returncode == 0, first.stderr
    (series,) = json.loads(first.stdout)["series"]
    assert series["contoured"]
    assert {one["name"] for one in series["report"]["structures"]} == {"Body", "Bone"}
    uids = [
        sorted(str(dcmread(path).SOPInstanceUID) for path in (tmp_path / folder).iterdir()) for folder in ("one", "two")
    ]
    assert len(uids[0]) == 2
    assert uids[0] == uids[1]


def test_contour_takes_a_zip(tmp_path: Path) -> None:
    save_series(phantom("zipped", slices=12), tmp_path / "ct")
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "ct")

    done = run_delineate("contour", archive, str(tmp_path / "out"), "--outputs", "rtstruct")

    assert done.returncode == 0, done.stderr
    assert "Body" in done.stdout
    assert [path.name.split("-")[0] for path in (tmp_path / "out").iterdir()] == ["rtstruct"]


def test_contour_declines_a_series_of_which_a_file_is_damaged(tmp_path: Path) -> None:
    files = save_series(phantom("damaged-end", slices=12), tmp_path / "ct")
    files[-1].write_bytes(files[-1].read_bytes()[:-2000])

    done = run_delineate("contour", str(tmp_path / "ct"), str(tmp_path / "out"), "--json")

    assert done.returncode == 1
    (series,) = json.loads(done.stdout)["series"]
    assert not series["contoured"]
    assert "1 more of its files cannot be used" in series["reason"]
    assert list((tmp_path / "out").iterdir()) == []


def test_contour_says_what_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    nowhere = run_delineate("contour", str(tmp_path / "none"), str(tmp_path / "out"))
    alone = run_delineate("contour", str(tmp_path))
    unknown = run_delineate("contour", str(tmp_path), str(tmp_path / "out"), "--model", "nobody")
    no_gpu = run_delineate("contour", str(tmp_path), str(tmp_path / "out"), "--device", "cuda")

    assert (nowhere.returncode, alone.returncode, unknown.returncode) == (2, 2, 2)
    assert "does not exist" in nowhere.stderr
    assert "OUTPUT" in alone.stderr
    assert "nobody" in unknown.stderr
    assert "body-bones" in unknown.stderr
    assert no_gpu.returncode in (1, 2)
    assert not any("Traceback" in done.stderr for done in (nowhere, alone, unknown, no_gpu))


def test_check_names_what_fails_and_what_to_do(tmp_path: Path) -> None:
    node = RunningNode(tmp_path, destination_port=free_port())

    down = run_delineate("check", "--config", str(node.config_path), "--json")
    with FakeDestination(port=free_port()) as tps:
        text = node.config_path.read_text()
        (tmp_path / "up.toml").write_text(
            text.replace(text.split("[[destinations]]")[1].split("port = ")[1].split("\n")[0], str(tps.address.port))
        )
        up = run_delineate("check", "--config", str(tmp_path / "up.toml"))

    assert down.returncode == 1
    (failed,) = [finding for finding in json.loads(down.stdout) if not finding["holds"]]
    assert failed["subject"] == "destination tps"
    assert "connection refused" in failed["said"]
    assert failed["what_to_do"]
    assert up.returncode == 0, up.stdout
    assert "answers C-ECHO" in up.stdout


def test_route_says_which_takes_a_series_and_why_others_do_not(tmp_path: Path) -> None:
    save_series(phantom("route", slices=3), tmp_path / "ct")
    node = RunningNode(tmp_path, destination_port=free_port())
    mr_first = '[[routes]]\nname = "mr"\nwhen = { Modality = "MR" }\nmodels = ["body-bones"]\ndestinations = ["tps"]\n'
    text = node.config_path.read_text()
    node.config_path.write_text(text.replace("[[routes]]", mr_first + "[[routes]]", 1))

    taken = run_delineate("route", "--config", str(node.config_path), str(tmp_path / "ct"))
    text = node.config_path.read_text()
    node.config_path.write_text(text.replace('"CT"', '"PT"'))
    declined = run_delineate("route", "--config", str(node.config_path), str(tmp_path / "ct"), "--json")

    assert taken.returncode == 0
    assert "taken by planning-ct" in taken.stdout
    assert "mr: Modality is 'CT'" in taken.stdout
    assert declined.returncode == 1
    (series,) = json.loads(declined.stdout)["series"]
    assert series["route"] is None
    assert [check["route"] for check in series["checks"]] == ["mr", "planning-ct"]


def test_route_tells_what_is_no_volume_from_what_no_route_takes(tmp_path: Path) -> None:
    save_series(phantom("no-volume", slices=2), tmp_path / "ct")
    node = RunningNode(tmp_path, destination_port=free_port())

    done = run_delineate("route", "--config", str(node.config_path), str(tmp_path / "ct"))

    assert done.returncode == 1
    assert "declined before any route: only 2 image planes" in done.stdout


def test_status_explains_every_state_and_a_node_that_never_ran(tmp_path: Path) -> None:
    states = run_delineate("status", "--states")
    node = RunningNode(tmp_path, destination_port=free_port())
    never = run_delineate("status", "--config", str(node.config_path))

    for state in (*SERIES_STATES, *JOB_STATES, *DELIVERY_STATES):
        assert str(state) in states.stdout
    assert never.returncode == 2
    assert "delineate serve" in never.stderr


def test_status_shows_a_running_node_and_one_that_was_stopped(tmp_path: Path) -> None:
    files = save_series(phantom("status", slices=12), tmp_path / "ct")

    with FakeDestination() as tps, RunningNode(tmp_path, destination_port=tps.address.port) as node:
        store(node.address, files, calling_ae_title="CT1")
        node.wait_until_delivered()
        running = run_delineate("status", "--json", "--config", str(node.config_path))
        checked = run_delineate("check", "--config", str(node.config_path))
        assert checked.returncode == 0, checked.stdout
        assert "taken by this node" in checked.stdout
        assert node.stop() == 0
    stopped = run_delineate("status", "--json", "--config", str(node.config_path))
    people = run_delineate("status", "--config", str(node.config_path))
    senders = run_delineate("status", "--senders", "--config", str(node.config_path))
    learned = run_delineate("status", "--senders", "--json", "--config", str(node.config_path))

    (sender,) = json.loads(learned.stdout)
    assert (sender["calling_ae_title"], sender["series"], sender["known"]) == ("CT1", 1, False)
    assert (sender["between_s"], sender["several_associations"], sender["after_release_s"]) == (0.0, False, 1.0)
    assert senders.stdout.startswith("CT1: 1 series seen whole, the last at ")
    assert "waited for: 1.0 s after a release, 15.0 s while an association is open; 4 s or more" in senders.stdout
    known = json.loads(stopped.stdout)
    # How much of the disk is free is nobody's doing.
    assert {**json.loads(running.stdout), "disk": known["disk"]} == known
    assert known["disk"]["minimum_free"] == 0.2e9
    assert "GB free; below 0.2 GB instances are refused" in people.stdout
    assert known["series"][0]["state"] == "complete"
    assert set(known["jobs"][0]["timings"]) >= {"queued", "read", "inference", "contours", "rtstruct", "seg", "store"}
    assert "Body" in people.stdout
    assert f"series {known['series'][0]['series_uid']}\n" in people.stdout
    assert "to tps: delivered; RTSTRUCT (generic) stored (0x0000); SEG (binary) stored (0x0000)" in people.stdout


def test_check_tries_everything_also_where_the_data_folder_is_impossible_and_leaves_no_trace(tmp_path: Path) -> None:
    node = RunningNode(tmp_path, destination_port=free_port())
    (tmp_path / "var").write_text("a file where the folder should be")

    impossible = run_delineate("check", "--config", str(node.config_path), "--json")
    (tmp_path / "var").unlink()
    before = sorted(tmp_path.iterdir())
    with FakeDestination(port=node.port):
        taken = run_delineate("check", "--config", str(node.config_path), "--json")

    failed = {finding["subject"] for finding in json.loads(impossible.stdout) if not finding["holds"]}
    assert failed == {"data folder", "destination tps"}
    assert {finding["subject"] for finding in json.loads(taken.stdout) if not finding["holds"]} == {
        "port",
        "destination tps",
    }
    assert sorted(tmp_path.iterdir()) == before
