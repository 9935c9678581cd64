"""Senders as they are found in hospitals: DCMTK with its many options, Orthanc, and those that do what nobody expects.

One node is at work for all; each test sends a series of its own and looks at what the node kept and made of it.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from tests.acceptance.running import RunningNode, run, run_delineate
from tests.acceptance.test_kill import phantom
from tests.acceptance.test_peers import orthanc, require
from tests.builders import save_series, uid
from tests.fakes import free_port
from tests.integration.test_series_real import ct_in
from tests.raw_sender import EXPLICIT, IMPLICIT, VERIFICATION, Instance, RawAssociation, data_set_of, knock
from tests.real_data import unpacked

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("senders")
    with RunningNode(folder, destination_port=free_port(), settle_s=0.5, quiet_period_s=2.0) as running:
        yield running


def series(name: str, slices: int = 5) -> list[Dataset]:
    """Build a series of its own study."""
    datasets = phantom(name, slices=slices)
    for dataset in datasets:
        dataset.StudyInstanceUID = uid(name, "study")
    return datasets


def kept(node: RunningNode, name: str) -> dict[str, list[Path]]:
    """Give the files that the inbox has of a series, by SOP Instance UID."""
    found: dict[str, list[Path]] = {}
    for path in sorted((node.folder / "var/inbox" / uid(name, "series")).glob("*.dcm")):
        found.setdefault(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID), []).append(path)
    return found


def assert_kept_once_each(node: RunningNode, name: str, datasets: list[Dataset]) -> None:
    """Check that every instance is there once, with the pixels that were sent."""
    files = kept(node, name)
    assert files.keys() == {str(dataset.SOPInstanceUID) for dataset in datasets}
    assert {len(paths) for paths in files.values()} == {1}
    for dataset in datasets:
        stored = dcmread(files[str(dataset.SOPInstanceUID)][0])
        assert np.array_equal(stored.pixel_array, dataset.pixel_array)
        assert str(stored.PatientName) == str(dataset.PatientName)


def settled(node: RunningNode, series_uid: str) -> dict[str, Any]:
    """Wait until the series is judged; gives its row of the status."""

    def judged(status: dict[str, Any]) -> list[dict[str, Any]]:
        rows = [row for row in status["series"] if row["series_uid"] == series_uid]
        return [row for row in rows if row["state"] != "receiving"]

    return judged(node.wait_until(judged, within_s=30))[0]


def call(node: RunningNode, *command: str | Path, paths: list[Path]) -> str:
    """Run a sender of DCMTK; gives what it said."""
    done = run([*command, "-aet", "CT_SCANNER", "-aec", "DELINEATE", "127.0.0.1", str(node.port), *paths])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# DCMTK ---------------------------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize(
    ("options", "syntax"),
    [
        ([], EXPLICIT),
        (["--required"], EXPLICIT),
        (["--propose-little"], EXPLICIT),
        (["--propose-implicit"], IMPLICIT),
        (["--propose-big"], EXPLICIT),
        (["--propose-deflated"], DEFLATED),
        (["--propose-lossless"], EXPLICIT),
        (["--combine", "--propose-lossless"], EXPLICIT),
        (["--combine", "--propose-rle"], EXPLICIT),
        (["--max-send-pdu", "4096"], EXPLICIT),
        (["--max-pdu", "131072", "--max-send-pdu", "131072"], EXPLICIT),
        (["--user", "operator", "--password", "secret"], EXPLICIT),
        (["--no-halt", "--timeout", "5", "--dimse-timeout", "5"], EXPLICIT),
    ],
    ids=lambda value: " ".join(value) or "default" if isinstance(value, list) else "",
)
def test_storescu_sends_with_every_proposal(node: RunningNode, tmp_path: Path, options: list[str], syntax: str) -> None:
    require("storescu")
    name = f"storescu {' '.join(options)}"
    datasets = series(name)

    call(node, "storescu", *options, paths=save_series(datasets, tmp_path))

    assert_kept_once_each(node, name, datasets)
    stored = [path for paths in kept(node, name).values() for path in paths]
    assert {str(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID) for path in stored} == {syntax}


@pytest.mark.peers
def test_storescu_repeats_everything_three_times_and_each_is_kept_once(node: RunningNode, tmp_path: Path) -> None:
    require("storescu")
    datasets = series("repeat")

    call(node, "storescu", "--repeat", "3", paths=save_series(datasets, tmp_path))

    assert_kept_once_each(node, "repeat", datasets)
    assert settled(node, uid("repeat", "series"))["instances"] == len(datasets)


@pytest.mark.peers
def test_storescu_that_aborts_in_the_end_has_sent_a_whole_series(node: RunningNode, tmp_path: Path) -> None:
    require("storescu")
    datasets = series("aborts")

    call(node, "storescu", "--abort", paths=save_series(datasets, tmp_path))

    assert_kept_once_each(node, "aborts", datasets)
    assert settled(node, uid("aborts", "series"))["state"] == "complete"


@pytest.mark.peers
@pytest.mark.parametrize("command", [("storescu", "+sd", "+r"), ("dcmsend", "+sd", "+r"), ("dcmsend", "+ma", "+sd")])
def test_a_folder_with_other_files_among_the_images_is_sent_whole(
    node: RunningNode, tmp_path: Path, command: tuple[str, ...]
) -> None:
    require(command[0])
    name = f"folder {' '.join(command)}"
    datasets = series(name)
    save_series(datasets, tmp_path / "study")
    (tmp_path / "study" / "export.log").write_text("sent by hand")

    call(node, *command, "--no-halt", paths=[tmp_path / "study"])

    assert_kept_once_each(node, name, datasets)


@pytest.mark.peers
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("option", "source", "syntax"),
    [
        ("--decompress-never", JPEG_LOSSLESS, JPEG_LOSSLESS),
        ("--decompress-never", RLE, RLE),
        # It offers both, and we prefer what is not compressed.
        ("--decompress-lossless", JPEG_LS, EXPLICIT),
        ("--decompress-lossy", JPEG_LOSSLESS, EXPLICIT),
    ],
)
def test_dcmsend_sends_compressed_images_as_they_are_or_decompressed_as_it_is_told(
    node: RunningNode, tmp_path: Path, option: str, source: str, syntax: str
) -> None:
    require("dcmsend")
    name = f"{option} {source}"
    (path,) = ct_in("*").parent.glob(f"*_{source}.dcm")
    plain = dcmread(ct_in("LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1"))
    dataset = dcmread(path)
    dataset.SOPInstanceUID = uid(name, "instance")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesInstanceUID = uid(name, "series")
    dataset.save_as(tmp_path / "image.dcm", enforce_file_format=True)

    call(node, "dcmsend", option, paths=[tmp_path / "image.dcm"])

    ((stored,),) = kept(node, name).values()
    assert dcmread(stored).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(dcmread(stored).pixel_array, plain.pixel_array)


@pytest.mark.peers
@pytest.mark.parametrize(
    "options", [[], ["--repeat", "20"], ["--propose-ts", "4"], ["--propose-pc", "128"], ["--abort"], ["-pdu", "4096"]]
)
def test_echoscu_is_answered_whatever_it_proposes(node: RunningNode, options: list[str]) -> None:
    require("echoscu")

    call(node, "echoscu", *options, paths=[])


@pytest.mark.peers
@pytest.mark.real_data
def test_a_study_of_a_tilted_phantom_its_scout_and_captures_is_told_apart(node: RunningNode) -> None:
    require("dcmsend")
    folder = unpacked("gantry-tilt-philips") / "gantry-tilt-ct"

    call(node, "dcmsend", "+sd", "+r", "--no-halt", paths=[folder])

    rows = {name: settled(node, series_in(folder / name)) for name in ("philips-phantom-tilt-18.5", "philips-scout")}
    phantom_row, scout = rows.values()
    captures = settled(node, series_in(folder / "philips-exam-summary-sc"))
    assert (phantom_row["state"], phantom_row["instances"]) == ("complete", 54)
    assert "gantry tilt" in " ".join(phantom_row["evidence"])
    assert (scout["state"], scout["reason"]) == ("declined", "only localizer images (1)")
    assert (captures["state"], captures["instances"]) == ("declined", 5)
    assert "Secondary Capture" in captures["reason"]


def series_in(folder: Path) -> str:
    """Give the series of the images in a folder."""
    headers = (dcmread(path, stop_before_pixels=True, force=True) for path in sorted(folder.iterdir()))
    return next(str(header.SeriesInstanceUID) for header in headers if "SeriesInstanceUID" in header)


@pytest.mark.peers
@pytest.mark.real_data
def test_four_studies_under_one_patient_id_stay_four_series(node: RunningNode) -> None:
    require("storescu")
    folder = unpacked("pelvis-ct-fragments") / "pelvis-ct-fragments"
    paths = sorted(folder.glob("*.dcm"))
    by_series = {str(dcmread(path, stop_before_pixels=True).SeriesInstanceUID) for path in paths}

    call(node, "storescu", "--no-halt", paths=paths)

    rows = [settled(node, series_uid) for series_uid in by_series]
    assert [row["reason"] for row in rows] == ["only 2 image planes; a volume needs 3"] * 4


# Orthanc -------------------------------------------------------------------------------------------------------------


@contextmanager
def orthanc_that_knows(node: RunningNode, folder: Path) -> Iterator[Callable[[str, bytes], Any]]:
    """Run Orthanc with the node as a modality; gives a function that posts to it."""
    modality = {"DicomModalities": {"node": ["DELINEATE", "127.0.0.1", node.port]}, "DicomScuTimeout": 20}
    with orthanc(folder, modality) as (_, http):

        def post(address: str, body: bytes) -> Any:
            return json.loads(http(address, body) or b"null")

        yield post


@pytest.mark.peers
def test_orthanc_echoes_and_sends_several_series_at_a_time(node: RunningNode, tmp_path: Path) -> None:
    require("Orthanc")
    names = ["orthanc 1", "orthanc 2", "orthanc 3"]
    built = {name: series(name, slices=8) for name in names}
    with orthanc_that_knows(node, tmp_path) as post:
        post("/modalities/node/echo", b"{}")
        uploaded = {
            name: [post("/instances", path.read_bytes())["ID"] for path in save_series(datasets, tmp_path / name)]
            for name, datasets in built.items()
        }
        answers: list[Any] = []

        def store(name: str) -> None:
            wanted = {"Resources": uploaded[name], "Synchronous": True}
            answers.append(post("/modalities/node/store", json.dumps(wanted).encode()))

        threads = [threading.Thread(target=store, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [answer["FailedInstancesCount"] for answer in answers] == [0, 0, 0]
    for name, datasets in built.items():
        assert_kept_once_each(node, name, datasets)
        assert settled(node, uid(name, "series"))["state"] == "complete"


# Mixed studies -------------------------------------------------------------------------------------------------------

# Objects that stand beside images in a study: where a sample is, and what the status calls it. All of them are among
# the classes that storescu proposes unasked; Segmentation Storage is not.
BESIDE_IMAGES = {
    ("vendor-rtstruct-eclipse", "*_RS.dcm", "1.2.840.10008.5.1.4.1.1.481.3"): "RT Structure Set Storage",
    ("transfer-syntax-samples", "rtdose.dcm", "1.2.840.10008.5.1.4.1.1.481.2"): "RT Dose Storage",
    ("transfer-syntax-samples", "rtplan.dcm", "1.2.840.10008.5.1.4.1.1.481.5"): "RT Plan Storage",
    ("transfer-syntax-samples", "sr.dcm", "1.2.840.10008.5.1.4.1.1.88.33"): "Comprehensive SR Storage",
}


def mixed_study(folder: Path, name: str) -> list[Dataset]:
    """Write images among a structure set, a plan, a dose and a report; gives the images."""
    datasets = series(name)
    save_series(datasets, folder)
    for (archive, pattern, sop_class), _ in BESIDE_IMAGES.items():
        found = (dcmread(path) for path in sorted(unpacked(archive).rglob(pattern)))
        other = next(one for one in found if one.SOPClassUID == sop_class)
        other.SOPInstanceUID = uid(name, sop_class, "instance")
        other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
        other.SeriesInstanceUID = uid(name, sop_class)
        other.StudyInstanceUID = uid(name, "study")
        # Some before the images, some after them, in the order of the names.
        other.save_as(folder / f"{sop_class.rpartition('.')[2]}.dcm", enforce_file_format=True)
    return datasets


def assert_images_are_complete_and_the_rest_is_declined(node: RunningNode, name: str, datasets: list[Dataset]) -> None:
    assert_kept_once_each(node, name, datasets)
    assert settled(node, uid(name, "series"))["state"] == "complete"
    for (_, _, sop_class), called in BESIDE_IMAGES.items():
        row = settled(node, uid(name, sop_class))
        assert row["state"] == "declined"
        assert called in row["reason"]


@pytest.mark.peers
@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", [("storescu", "+sd"), ("storescu", "+sd", "--required"), ("dcmsend", "+sd")])
def test_all_images_of_a_mixed_study_arrive_and_the_rest_is_declined_with_the_reason(
    node: RunningNode, tmp_path: Path, command: tuple[str, ...]
) -> None:
    require(command[0])
    name = f"mixed {' '.join(command)}"
    datasets = mixed_study(tmp_path, name)

    said = call(node, *command, "--verbose", paths=[tmp_path])

    assert "No presentation context" not in said
    assert_images_are_complete_and_the_rest_is_declined(node, name, datasets)
    told = run_delineate("status", "--config", str(node.config_path)).stdout
    assert all(called in told for called in BESIDE_IMAGES.values())


@pytest.mark.peers
@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore")
def test_orthanc_sends_a_mixed_study_without_a_failure(node: RunningNode, tmp_path: Path) -> None:
    require("Orthanc")
    datasets = mixed_study(tmp_path / "study", "mixed orthanc")
    with orthanc_that_knows(node, tmp_path) as post:
        uploaded = [post("/instances", path.read_bytes())["ID"] for path in sorted((tmp_path / "study").iterdir())]
        answer = post("/modalities/node/store", json.dumps({"Resources": uploaded, "Synchronous": True}).encode())

    assert answer["FailedInstancesCount"] == 0
    assert_images_are_complete_and_the_rest_is_declined(node, "mixed orthanc", datasets)


# What nobody expects -------------------------------------------------------------------------------------------------


def instances(datasets: list[Dataset], folder: Path) -> list[Instance]:
    return [Instance.read(path) for path in save_series(datasets, folder)]


def test_the_same_instance_with_other_content_is_kept_beside_the_first_and_the_series_is_declined(
    node: RunningNode, tmp_path: Path
) -> None:
    datasets = series("twice")
    first = instances(datasets, tmp_path)
    other = dcmread(tmp_path / f"{datasets[2].SOPInstanceUID}.dcm")
    other.PixelData = other.PixelData[:-2] + b"\x07\x00"
    changed = instances([other], tmp_path / "changed")[0]

    with RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])]) as association:
        answers = [association.store(one).status for one in (*first, changed, first[0])]

    assert answers == [0x0000] * 7
    files = kept(node, "twice")
    assert [len(files[one.sop_instance_uid]) for one in first] == [1, 1, 2, 1, 1]
    row = settled(node, uid("twice", "series"))
    assert row["state"] == "declined"
    assert "different" in row["reason"]


@pytest.mark.parametrize("called", ["SOMEBODY_ELSE", "delineate"])
def test_another_called_ae_title_is_served_unless_the_node_is_told_otherwise(node: RunningNode, called: str) -> None:
    with RawAssociation(node.address, [(VERIFICATION, [IMPLICIT])], called=called) as association:
        assert association.echo().status == 0x0000


def test_a_name_that_is_not_ascii_without_a_character_set_is_kept_as_it_is(node: RunningNode, tmp_path: Path) -> None:
    datasets = series("umlaut")
    for dataset in datasets:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Jörg"
    sent = instances(datasets, tmp_path)
    # (0008,0005) Specific Character Set, 18 bytes with its head, is cut out: what remains is ISO 8859-1 unsaid.
    bare = []
    for one in sent:
        start = one.data_set.index(b"\x08\x00\x05\x00CS")
        data_set = one.data_set[:start] + one.data_set[start + 18 :]
        assert b"ISO_IR" not in data_set
        bare.append(Instance(**{**_fields(one), "data_set": data_set}))

    with RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])]) as association:
        assert {association.store(one).status for one in bare} == {0x0000}

    assert settled(node, uid("umlaut", "series"))["state"] == "complete"
    status = node.wait_until(lambda status: rows_with_outputs(status, uid("umlaut", "series")))
    (outputs,) = rows_with_outputs(status, uid("umlaut", "series"))
    for output in outputs:
        assert "Müller^Jörg".encode("latin-1") in (node.folder / "var" / output["path"]).read_bytes()


def _fields(instance: Instance) -> dict[str, Any]:
    names = ("sop_class_uid", "sop_instance_uid", "transfer_syntax_uid", "data_set")
    return {name: getattr(instance, name) for name in names}


def rows_with_outputs(status: dict[str, Any], series_uid: str) -> list[Any]:
    return [row["outputs"] for row in status["jobs"] if row["series_uid"] == series_uid and row["outputs"]]


def test_a_series_is_contoured_while_its_association_stays_open(node: RunningNode, tmp_path: Path) -> None:
    sent = instances(series("kept open"), tmp_path)

    with RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])]) as association:
        assert {association.store(one).status for one in sent} == {0x0000}
        row = settled(node, uid("kept open", "series"))
        assert row["state"] == "complete"
        # And the association is as good as before.
        assert association.store(sent[0]).status == 0x0000


def test_two_series_that_come_in_turn_with_an_association_for_each_image_are_two_whole_series(
    node: RunningNode, tmp_path: Path
) -> None:
    names = ["in turn 1", "in turn 2"]
    built = {name: series(name) for name in names}
    in_turn = zip(*(instances(built[name], tmp_path / name) for name in names), strict=True)

    for one in (instance for pair in in_turn for instance in pair):
        with RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])]) as association:
            assert association.store(one).status == 0x0000

    for name in names:
        row = settled(node, uid(name, "series"))
        assert (row["state"], row["instances"]) == ("complete", 5)


def test_hundreds_of_health_checks_that_reset_their_connection_harm_nobody(node: RunningNode, tmp_path: Path) -> None:
    sent = instances(series("beside health checks", slices=20), tmp_path)
    stop = threading.Event()
    checks = 0

    def check_health() -> None:
        nonlocal checks
        while not stop.is_set() or checks < 300:
            knock(node.address)
            time.sleep(0.005)
            checks += 1

    checker = threading.Thread(target=check_health)
    checker.start()
    with RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])]) as association:
        statuses = set()
        for one in sent:
            statuses.add(association.store(one).status)
            time.sleep(0.02)
    stop.set()
    checker.join()

    assert statuses == {0x0000}
    assert settled(node, uid("beside health checks", "series"))["state"] == "complete"
    with RawAssociation(node.address, [(VERIFICATION, [IMPLICIT])]) as association:
        assert association.echo().status == 0x0000


def test_an_association_that_vanishes_in_the_middle_of_an_image_leaves_the_rest_whole(
    node: RunningNode, tmp_path: Path
) -> None:
    sent = instances(series("vanishes"), tmp_path)
    association = RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])])
    assert {association.store(one).status for one in sent[:3]} == {0x0000}
    association.send_half(sent[3])
    association.vanish()

    with RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])]) as again:
        assert {again.store(one).status for one in sent} == {0x0000}

    assert [len(paths) for paths in kept(node, "vanishes").values()] == [1] * 5
    assert settled(node, uid("vanishes", "series"))["state"] == "complete"


def test_group_lengths_are_kept_and_not_believed(node: RunningNode, tmp_path: Path) -> None:
    sent = instances(series("group lengths"), tmp_path)
    # (0008,0000), retired, which says that the group ends here.
    lying = [Instance(**{**_fields(one), "data_set": b"\x08\0\0\0UL\4\0\0\0\0\0" + one.data_set}) for one in sent]

    with RawAssociation(node.address, [(CT_IMAGE, [EXPLICIT])]) as association:
        assert {association.store(one).status for one in lying} == {0x0000}

    stored = {data_set_of(path) for paths in kept(node, "group lengths").values() for path in paths}
    assert stored == {one.data_set for one in lying}
    assert settled(node, uid("group lengths", "series"))["state"] == "complete"
