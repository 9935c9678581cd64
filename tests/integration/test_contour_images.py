"""One job of a model that takes two images: what is read, what comes out, and what is said of the other series."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import open_predictor
from node.domain.errors import InputError
from node.domain.jobs import JobState
from node.domain.series import manifest_to_json
from node.stages.contour import Contourer, OpenModel
from tests import two_images
from tests.builders import manifest_of
from tests.integration.test_contour_stage import JOB, World
from tests.two_images import LEFT_MM, NAME, RIGHT_MM


class TwoImages(World):
    """The ledger and the inbox of a job of T1 and T2."""

    def __init__(self, folder: Path, *channels: str) -> None:
        super().__init__()
        loaded = ModelStore([folder]).load(NAME)
        self.model = OpenModel(package=loaded.package, predictor=open_predictor(loaded, "cpu", threads=1))
        self.images = {channel: two_images.series(channel) for channel in ("T1", "T2")}
        manifests = {channel: manifest_of(datasets) for channel, datasets in self.images.items()}
        self.bodies = {(one.series_instance_uid, one.fingerprint): manifest_to_json(one) for one in manifests.values()}
        taken = [manifests[channel] for channel in channels]
        self.row |= {
            "series_uid": taken[0].series_instance_uid,
            "fingerprint": taken[0].fingerprint,
            "model": NAME,
            "channels": [
                {"channel": channel, "series_uid": one.series_instance_uid, "fingerprint": one.fingerprint}
                for channel, one in zip(channels, taken, strict=True)
            ],
        }

    def manifest(self, series_uid: str, fingerprint: str) -> dict[str, Any]:
        return self.bodies[series_uid, fingerprint]

    def contoured(self) -> "TwoImages":
        """Do the job."""
        contourer: Contourer = self.contourer(open_model=lambda _: self.model)
        contourer._loader = self.load
        contourer(JOB, 1)
        return self

    def load(self, series_uid: str, files: Mapping[str, str]) -> Callable[[str], Dataset]:
        datasets = {str(one.SOPInstanceUID): one for each in self.images.values() for one in each}
        own = {uid: one for uid, one in datasets.items() if one.SeriesInstanceUID == series_uid}
        assert set(files) == set(own)
        return own.__getitem__

    def structure_set(self) -> Dataset:
        return dcmread(BytesIO(self.written["rtstruct-generic-binary.dcm"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    two_images.install(tmp_path)
    return tmp_path


def middles(structures: Dataset) -> dict[str, NDArray[np.float64]]:
    """Give the middle of the box around the contours of each ROI, LPS mm."""
    names = {one.ROINumber: str(one.ROIName) for one in structures.StructureSetROISequence}
    found = {}
    for roi in structures.ROIContourSequence:
        points = np.concatenate([np.array(one.ContourData, float).reshape(-1, 3) for one in roi.ContourSequence])
        found[names[roi.ReferencedROINumber]] = (points.min(axis=0) + points.max(axis=0)) / 2
    return found


def test_what_two_images_say_together_is_contoured_on_its_side(folder: Path) -> None:
    world = TwoImages(folder, "T1", "T2").contoured()

    assert world.row["state"] == JobState.CONTOURED, world.row.get("reason")
    found = middles(world.structure_set())
    assert set(found) == {"Kidney_L", "Kidney_R"}
    np.testing.assert_allclose(found["Kidney_L"], LEFT_MM, atol=0.05)
    np.testing.assert_allclose(found["Kidney_R"], RIGHT_MM, atol=0.05)


def test_the_result_refers_to_the_first_series_alone_and_names_the_other(folder: Path) -> None:
    world = TwoImages(folder, "T1", "T2").contoured()

    first, other = (str(each[0].SeriesInstanceUID) for each in world.images.values())
    references = world.structure_set().ReferencedFrameOfReferenceSequence[0]
    (series,) = references.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == first
    sentence = f"Made of T1 of this series and T2 of series {other}."
    assert sentence in world.structure_set().StructureSetDescription
    segments = dcmread(BytesIO(world.written["seg-binary.dcm"]))
    assert [one.SeriesInstanceUID for one in segments.ReferencedSeriesSequence] == [first]
    report = world.row["report"]
    assert sentence in report["notes"]
    assert [(one["channel"], one["series_instance_uid"]) for one in report["channels"]] == [
        ("T1", first),
        ("T2", other),
    ]


def test_another_second_image_makes_other_objects_though_the_first_is_the_same(folder: Path) -> None:
    worlds = [TwoImages(folder, "T1", "T2") for _ in range(3)]
    (again, corrected) = worlds[1:]
    corrected.row["channels"][1]["fingerprint"] = "c" * 64
    body = {**next(each for (uid, _), each in corrected.bodies.items() if uid != corrected.row["series_uid"])}
    corrected.bodies[body["series_instance_uid"], "c" * 64] = {**body, "fingerprint": "c" * 64}

    uids = [str(world.contoured().structure_set().SOPInstanceUID) for world in worlds]

    assert uids[0] == uids[1]
    assert worlds[0].written == again.written
    assert uids[2] != uids[0]


@pytest.mark.parametrize("channels", [("T2", "T1"), ("T1",)])
def test_images_that_the_model_does_not_take_are_declined(folder: Path, channels: tuple[str, ...]) -> None:
    world = TwoImages(folder, *channels).contoured()

    assert world.row["state"] == JobState.DECLINED
    assert world.row["reason"] == f"The model {NAME} takes T1, T2, not {', '.join(channels)}."


def test_the_network_s_answer_depends_on_which_image_is_which(folder: Path) -> None:
    swapped = TwoImages(folder, "T1", "T2")
    swapped.images = {"T1": two_images.series("T2", "T1"), "T2": two_images.series("T1", "T2")}

    found = middles(swapped.contoured().structure_set())

    np.testing.assert_allclose(found["Kidney_L"], RIGHT_MM, atol=0.05)
    np.testing.assert_allclose(found["Kidney_R"], LEFT_MM, atol=0.05)


def test_the_reading_of_every_image_reaches_the_pulse(folder: Path) -> None:
    world = TwoImages(folder, "T1", "T2").contoured()

    each = [f"read {done} of {len(world.images['T1'])}" for done in range(len(world.images["T1"]))]
    assert [one for one in world.beats if one.startswith("read ")] == each * 2


def test_an_image_of_another_patient_declines_the_job(folder: Path) -> None:
    world = TwoImages(folder, "T1", "T2")
    for one in world.images["T2"]:
        one.PatientID = "another"

    world.contoured()

    assert world.row["state"] == JobState.DECLINED
    assert world.row["reason"].endswith("is of another patient.")
    assert "another" not in world.row["reason"].removesuffix("is of another patient.")


def test_a_second_image_that_cannot_be_read_declines_the_job(folder: Path) -> None:
    world = TwoImages(folder, "T1", "T2")
    lost = str(world.images["T2"][3].SOPInstanceUID)

    def load(series_uid: str, files: Mapping[str, str]) -> Callable[[str], Dataset]:
        read = TwoImages.load(world, series_uid, files)

        def one(uid: str) -> Dataset:
            if uid == lost:
                raise InputError(f"Instance {uid} is cut off.")
            return read(uid)

        return one

    world.load = load  # type: ignore[method-assign]
    world.contoured()

    assert world.row["state"] == JobState.DECLINED
    assert world.row["reason"] == f"Instance {lost} is cut off."
