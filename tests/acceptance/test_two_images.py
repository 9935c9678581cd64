"""A model that takes two images of one place, through the whole node and offline."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from node.adapters.storage_scu import store
from tests import two_images
from tests.acceptance.running import RunningNode, run_delineate
from tests.builders import save_series
from tests.fakes import RT_STRUCTURE_SET, FakeDestination, free_port
from tests.integration.test_contour_images import middles
from tests.two_images import LEFT_MM, NAME, RIGHT_MM

ROUTE = f"""
[[routes]]
name = "kidneys"
when = {{ Modality = "MR" }}
models = ["{NAME}"]
destinations = ["tps"]
"""
CHANNELS = """
[[routes.channels]]
name = "T1"
when = { SeriesDescription = "*t1*" }
[[routes.channels]]
name = "T2"
when = { SeriesDescription = "*t2*" }
"""
RULES = ("--channel", "T1:SeriesDescription=*t1*", "--channel", "T2:SeriesDescription=*t2*")


def node_with(folder: Path, port: int, route: str = ROUTE + CHANNELS) -> RunningNode:
    two_images.install(folder / "models")
    node = RunningNode(folder, destination_port=port, more=route)
    text = node.config_path.read_text().replace("[node]", f'[node]\nmodel_dirs = ["{folder}/models"]')
    node.config_path.write_text(text)
    return node


def send(node: RunningNode, folder: Path, channel: str) -> str:
    """Send a series; gives its UID."""
    datasets = two_images.series(channel)
    receipts = store(node.address, save_series(datasets, folder / channel), calling_ae_title="MR1")
    assert {one.outcome for one in receipts} == {"stored"}
    return str(datasets[0].SeriesInstanceUID)


def assert_right(tps: FakeDestination, first_uid: str) -> None:
    """Look at what was delivered: once, on the first series, each kidney on its side."""
    (structures,) = [one for one in tps.received if one.SOPClassUID == RT_STRUCTURE_SET]
    reference = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert [one.SeriesInstanceUID for one in reference.RTReferencedSeriesSequence] == [first_uid]
    found = middles(structures)
    np.testing.assert_allclose(found["Kidney_L"], LEFT_MM, atol=0.05)
    np.testing.assert_allclose(found["Kidney_R"], RIGHT_MM, atol=0.05)


@pytest.mark.parametrize("order", [("T1", "T2"), ("T2", "T1")])
def test_two_series_in_either_order_become_one_result_with_the_sides_right(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    with FakeDestination() as tps, node_with(tmp_path, tps.address.port) as node:
        sent = {order[0]: send(node, tmp_path, order[0])}
        waiting = node.wait_until(lambda status: status["series"] and status["series"][0]["state"] == "waiting")
        told = run_delineate("status", "--config", str(node.config_path)).stdout
        sent[order[1]] = send(node, tmp_path, order[1])
        status = node.wait_until_delivered()

        assert waiting["jobs"] == []
        assert f"waits for {order[1]} of route 'kidneys'" in told
        assert {row["state"] for row in status["series"]} == {"complete"}
        (job,) = status["jobs"]
        assert [(one["channel"], one["series_uid"]) for one in job["channels"]] == [
            ("T1", sent["T1"]),
            ("T2", sent["T2"]),
        ]
        told = run_delineate("status", "--config", str(node.config_path)).stdout
        assert f"note: Made of T1 of this series and T2 of series {sent['T2']}." in told
        assert f"T2 of route 'kidneys', together with T1 (series {sent['T1']})" in told
    assert_right(tps, sent["T1"])


def test_everything_killed_while_a_series_waits_and_again_when_the_other_came_makes_one_result(tmp_path: Path) -> None:
    with FakeDestination() as tps:
        node = node_with(tmp_path, tps.address.port)
        with node:
            first_uid = send(node, tmp_path, "T1")
            node.wait_until(lambda status: status["series"] and status["series"][0]["state"] == "waiting")
            node.kill()
            node.start()
            send(node, tmp_path, "T2")
            node.kill()
            node.start()
            node.wait_until(lambda status: status["jobs"])
            node.kill()
            node.start()
            status = node.wait_until_delivered()

    assert len(status["jobs"]) == 1
    assert_right(tps, first_uid)


def test_series_on_two_grids_are_declined_with_the_figures_and_nothing_is_delivered(tmp_path: Path) -> None:
    with FakeDestination() as tps, node_with(tmp_path, tps.address.port) as node:
        send(node, tmp_path, "T1")
        wider = two_images.series("T2", spacing_mm=(3.0, 2.0, 1.6))
        store(node.address, save_series(wider, tmp_path / "wider"), calling_ae_title="MR1")
        status = node.wait_until(lambda status: [one["state"] for one in status["series"]] == ["declined"] * 2)

    # 39 columns further along, by 0.1 mm each.
    assert (
        "voxels lie up to 3.90 mm apart, spacing 3 × 2 × 1.6 instead of 3 × 2 × 1.5 mm" in status["series"][0]["reason"]
    )
    assert status["jobs"] == []
    assert tps.received == []


def test_a_route_that_does_not_tell_the_images_apart_is_refused_with_what_to_write(tmp_path: Path) -> None:
    node = node_with(tmp_path, free_port(), route=ROUTE)

    checked = run_delineate("check", "--config", str(node.config_path), "--json")
    served = run_delineate("serve", "--config", str(node.config_path))

    (fault,) = [one for one in json.loads(checked.stdout) if one["subject"] == "channels of route kidneys"]
    assert not fault["holds"]
    assert "takes 2 images of one place (T1, T2); route 'kidneys' does not say which series is which" in fault["said"]
    assert 'name = "T1" and name = "T2"' in fault["what_to_do"]
    assert served.returncode == 2
    assert "[[routes.channels]]" in served.stderr


def test_route_says_which_image_a_series_is(tmp_path: Path) -> None:
    node = node_with(tmp_path, free_port())
    save_series(two_images.series("T2"), tmp_path / "T2")

    done = run_delineate("route", "--config", str(node.config_path), str(tmp_path / "T2"))

    assert done.returncode == 0
    assert "taken by kidneys as T2" in done.stdout


def contour(folder: Path, *arguments: str) -> tuple[int, list[dict[str, object]], str]:
    """Contour what lies in the folder's ``in``; gives the exit status, what became of the series, and the errors."""
    two_images.install(folder / "models")
    models = ("--model", NAME, "--model-dir", str(folder / "models"))
    done = run_delineate("contour", str(folder / "in"), str(folder / "out"), "--json", *models, *arguments)
    return done.returncode, json.loads(done.stdout)["series"] if done.stdout else [], done.stderr


def test_contour_finds_which_series_is_which_and_contours_once(tmp_path: Path) -> None:
    first, other = two_images.series("T1"), two_images.series("T2")
    save_series(other, tmp_path / "in" / "a")
    save_series(first, tmp_path / "in" / "b")

    status, (series,), _ = contour(tmp_path, *RULES)

    assert status == 0
    assert series["contoured"]
    assert series["series_uid"] == first[0].SeriesInstanceUID
    (structures,) = [dcmread(path) for path in (tmp_path / "out").glob("rtstruct-*.dcm")]
    np.testing.assert_allclose(middles(structures)["Kidney_L"], LEFT_MM, atol=0.05)
    np.testing.assert_allclose(middles(structures)["Kidney_R"], RIGHT_MM, atol=0.05)


def test_contour_says_which_image_no_series_is(tmp_path: Path) -> None:
    save_series(two_images.series("T1"), tmp_path / "in")

    status, (series,), _ = contour(tmp_path, *RULES)

    assert status == 1
    assert series["reason"] == f"The model {NAME} takes T1 and T2; no series fits T2"
    assert list((tmp_path / "out").iterdir()) == []


def test_contour_asks_which_series_is_which(tmp_path: Path) -> None:
    save_series(two_images.series("T1"), tmp_path / "in")

    status, _, said = contour(tmp_path)
    wrong, _, near = contour(tmp_path / "again", "--channel", "T1:SeriesDescripton=*t1*")

    assert status == wrong == 2
    assert f"The model {NAME} takes T1 and T2; which series is which?" in said
    assert "--channel 'T1:SeriesDescription=*t1*' --channel 'T2:SeriesDescription=*t2*'" in said
    assert "unknown keyword SeriesDescripton; do you mean SeriesDescription?" in near
