"""Through the whole node: several volumes in one series, and an archive that says how many instances there are."""

import json
from pathlib import Path
from typing import Any

from pydicom import Dataset

from node.adapters.storage_scu import store
from node.domain.jobs import short_id
from tests.acceptance.running import RunningNode, run_delineate
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import RT_STRUCTURE_SET, FakeDestination, free_port
from tests.integration.test_query_scu import FakeArchive, answer


def of_phase(number: int, slices: int = 8) -> list[Dataset]:
    """Build one temporal position of a series that has several."""
    datasets = phantom(f"phase {number}", slices=slices)
    series_uid = phantom("phases", slices=1)[0].SeriesInstanceUID
    for index, dataset in enumerate(datasets):
        dataset.SeriesInstanceUID = series_uid
        dataset.TemporalPositionIdentifier = number
        # Another image at the same place: the same one would be a repetition.
        dataset.PixelData = bytes([number]) + dataset.PixelData[1:]
        dataset.InstanceNumber = (number - 1) * slices + index + 1
    return datasets


def test_each_phase_of_a_series_is_delivered_and_a_later_one_alone(tmp_path: Path) -> None:
    files = save_series([*of_phase(1), *of_phase(2)], tmp_path / "ct")
    later = save_series(of_phase(3), tmp_path / "later")

    with FakeDestination() as tps, RunningNode(tmp_path, destination_port=tps.address.port) as node:
        store(node.address, files, calling_ae_title="CT1")
        first = node.wait_until_delivered(2)
        store(node.address, later, calling_ae_title="CT1")
        status = node.wait_until_delivered(3)
        people = run_delineate("status", "--config", str(node.config_path)).stdout

    assert len(first["jobs"]) == 2
    assert len(status["jobs"]) == 3
    (series,) = status["series"]
    assert [said.partition(" (")[0] for said in series["evidence"][:3]] == [f"volume {n} of 3" for n in (1, 2, 3)]
    assert sum(one.SOPClassUID == RT_STRUCTURE_SET for one in tps.received) == 3
    said = [f"volume {job['fingerprint'][:8]}, job {short_id(job['job'])}: contoured" for job in status["jobs"]]
    assert all(one in people for one in said)
    images = [images_of(one) for one in tps.received if one.SOPClassUID == RT_STRUCTURE_SET]
    assert [len(one) for one in images] == [8, 8, 8]
    assert len(set.union(*images)) == 24


def test_each_phase_is_contoured_offline_into_files_of_its_own(tmp_path: Path) -> None:
    save_series([*of_phase(1), *of_phase(2)], tmp_path / "ct")

    done = run_delineate("contour", str(tmp_path / "ct"), str(tmp_path / "out"), "--outputs", "rtstruct", "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    series = json.loads(done.stdout)["series"]
    assert [one["contoured"] for one in series] == [True, True]
    assert [path.stem.rsplit("-", 1)[1] for path in sorted((tmp_path / "out").iterdir())] == ["volume1", "volume2"]


def test_the_number_of_an_archive_spares_a_new_sender_the_quiet_period(tmp_path: Path) -> None:
    datasets = phantom("archive", slices=8)
    files = save_series(datasets, tmp_path / "ct")
    uid = str(datasets[0].SeriesInstanceUID)
    found = answer(SeriesInstanceUID=uid, NumberOfSeriesRelatedInstances=8)

    with FakeArchive({"SERIES": [(0xFF00, found)]}) as pacs:
        node = RunningNode(tmp_path, destination_port=free_port(), quiet_period_s=600.0)
        told = node.config_path.read_text().replace('new_senders = "settle"', 'new_senders = "wait"')
        archive = [
            'calling_ae_titles = "CT*"',
            'ae_title = "PACS"',
            'host = "127.0.0.1"',
            f"port = {pacs.address.port}",
        ]
        node.config_path.write_text("\n".join([told, "[[archives]]", *archive]))
        with node:
            store(node.address, files, calling_ae_title="CT1")
            status = node.wait_until(lambda now: now["series"] and now["series"][0]["state"] == "complete")
        checked = run_delineate("check", "--json", "--config", str(node.config_path))

    assert "8 of 8 instances, says the archive PACS" in status["series"][0]["evidence"]
    finding = next(one for one in json.loads(checked.stdout) if one["subject"] == "archive PACS")
    assert finding["holds"], finding
    assert {str(one.SeriesInstanceUID) for one in pacs.asked} == {uid, "2.25.1"}


def images_of(rtstruct: Any) -> set[str]:
    (study,) = rtstruct.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    return {str(one.ReferencedSOPInstanceUID) for one in series.ContourImageSequence}
