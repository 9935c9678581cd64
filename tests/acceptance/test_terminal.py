"""Terminals, scripts and machines as they are: other encodings, odd names, full disks, a signal in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import DataElement, config

from node import offline
from node.adapters.profile_store import load_profile
from node.commands import contour_command
from node.domain.forms import Form
from node.offline import _write_all_or_none
from tests.acceptance.test_kill import phantom
from tests.builders import save_series


def delineate(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "node", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=os.environ | environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    save_series(phantom("terminal", slices=4), folder)
    return folder


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1:strict"])
def test_an_encoding_that_lacks_a_character_hides_no_result(ct: Path, tmp_path: Path, encoding: str) -> None:
    done = delineate("contour", ct, tmp_path / "ω", PYTHONIOENCODING=encoding)

    assert done.returncode == 0, done.stderr
    assert b"wrote" in done.stdout
    assert not done.stderr


def test_names_are_printed_as_they_are_and_never_read_as_markup(ct: Path, tmp_path: Path) -> None:
    results = tmp_path / "[red] :cd: [" / "x"

    done = delineate("contour", ct, results, PYTHONIOENCODING="utf-8")

    assert done.returncode == 0, done.stderr
    assert f"wrote {results}/rtstruct-body-bones" in done.stdout.decode()


def test_a_header_is_never_read_as_markup(tmp_path: Path) -> None:
    datasets = phantom("markup", slices=4)
    for dataset in datasets:
        dataset.add(DataElement("Modality", "CS", "[/]", validation_mode=config.IGNORE))
    save_series(datasets, tmp_path / "ct")

    done = delineate("contour", tmp_path / "ct", tmp_path / "out")

    assert done.returncode == 1
    assert b"declined" in done.stdout
    assert b"[/] series" in done.stdout
    assert not done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_no_fault_of_ours(ct: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "node", "contour", "--json", str(ct), str(tmp_path / "out")]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)

    assert done.returncode != 0
    assert b"No space left on device" in done.stderr
    assert b"Internal error" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_where_the_disk_has_no_room_for_both_objects_neither_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        if len(list(tmp_path.iterdir())) > 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        _write_all_or_none({tmp_path / "rtstruct.dcm": b"1", tmp_path / "seg.dcm": b"2"})

    assert list(tmp_path.iterdir()) == []


def test_a_thousand_threads_are_refused_before_they_start(ct: Path, tmp_path: Path) -> None:
    done = delineate("contour", "--threads", "100000", ct, tmp_path / "out")

    assert done.returncode == 2
    assert b"256" in done.stderr


def test_a_series_too_large_for_the_memory_is_a_reason_and_ends_no_others(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_large(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(offline, "read_series", too_large)

    status = contour_command(
        [ct],
        tmp_path,
        models=["body-bones"],
        outputs=("rtstruct",),
        form=Form(profile=load_profile("generic")),
        device="cpu",
        threads=1,
        model_dirs=[],
        console=None,
    )

    assert status == 1
    assert "memory" in json.loads(capsys.readouterr().out)["series"][0]["reason"]


def test_told_to_stop_it_leaves_no_unpacked_patient_behind(tmp_path: Path) -> None:
    save_series(phantom("stopped", slices=40), tmp_path / "ct")
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "node", "contour", str(tmp_path / "ct"), str(tmp_path / "out")]
    process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path / "tmp")})
    while not list((tmp_path / "tmp").iterdir()):
        time.sleep(0.01)

    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 128 + signal.SIGTERM
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not list((tmp_path / "out").glob("*.part"))
    assert not list((tmp_path / "out").glob(".*"))


def test_json_is_all_that_stdout_carries(ct: Path, tmp_path: Path) -> None:
    done = delineate("contour", "--json", ct, tmp_path / "out")

    assert len(json.loads(done.stdout)["series"]) == 1
    assert not done.stderr
